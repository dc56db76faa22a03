"""From maps to cells: a threshold, touching cells parted by a watershed, holes filled, crumbs dropped (paper, section 3.3).

The seeds of cells are the peaks of how deep voxels lie in the foreground (``distance``, the paper for TRIC), or of the predicted
centres (``centres``, the paper for MDA231). A volume is parted as a whole, with the true distances of thick planes, or plane by
plane (``stack``), which needs two planes in memory; :mod:`.stitch` then joins the parts.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from howdah.errors import ConfigError, DataError
from howdah.methods.efficientcellseg.config import EfficientCellSegConfig
from howdah.methods.efficientcellseg.holes import fill_holes, fill_small_holes
from howdah.methods.efficientcellseg.maps import Maps
from howdah.methods.efficientcellseg.parting import Rules, part
from howdah.methods.efficientcellseg.stitch import Stitcher

Bool = npt.NDArray[np.bool_]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
Vector = tuple[float, float, float]

__all__ = [
    "DEFAULTS",
    "LENGTHS",
    "Cells",
    "Joined",
    "find_cells",
    "find_cells_by_plane",
    "in_finest",
    "kept_cells",
    "parts_of",
    "rules_of",
    "typical_size",
]

DEFAULTS: dict[str, Any] = {  # of what is automatic; lengths as shares of a cell's diameter
    "threshold": 0.5,
    "split_smoothing": 0.1,
    "split_distance": 0.5,
    "centre_threshold": 0.3,
    "stack": "volume",
}
LENGTHS = ("split_smoothing", "split_distance")
HOLE = 0.25  # holes up to this part of a diameter wide are closed before cells are parted
CRUMB = 0.05  # share of a typical cell's area, or volume, that is too small for a cell if nothing else is known


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells of one frame; row n of the table is label n + 1.

    Attributes:
        labels: (Z, Y, X) int32, 1..N without gaps; 0 background.
        quality: (N,) float64, 0..1: the mean probability of a cell's voxels; up to half of it goes where the border to another
            cell is not clear, and of the rest up to half where the cell is smaller or larger than a typical one.
    """

    labels: I32
    quality: F64

    def __len__(self) -> int:
        return len(self.quality)


@dataclass(frozen=True, eq=False)
class Joined:
    """What provisional labels of planes stand for: ``table[plane]`` is the plane with its final labels.

    Attributes:
        table: (M + 1,) int32, cell 1..N without gaps of each provisional label 1..M; 0 for background and what is too small.
        quality: (N,) float64, as of :class:`Cells`.
    """

    table: I32
    quality: F64


def find_cells(
    maps: Maps, config: EfficientCellSegConfig, *, voxel_size: Vector = (1.0, 1.0, 1.0), diameter: float
) -> Cells:
    """Find the cells of a frame.

    Args:
        maps: What the network says of the frame; its pixels need not be as long in z as in y and x.
        config: The settings from ``threshold`` to ``fill_holes``; what is automatic there takes its default here.
        voxel_size: Of (z, y, x); only ratios count, and the z of 2D does not.
        diameter: Of a typical cell, pixels of the finer one of y and x; automatic smoothing, distance and size hang on it.

    Raises:
        ConfigError: ``split`` is centres, and the network does not predict centres; the diameter is not positive.
        DataError: The maps hold values that are no numbers.
    """
    if maps.shape[0] > 1 and config.stack == "planes":
        volume = np.zeros(maps.shape, dtype=np.int32)
        planes = ((z, _plane(maps, z)) for z in range(maps.shape[0]))
        stream = find_cells_by_plane(planes, config, voxel_size=voxel_size, diameter=diameter)
        joined = _exhausted(stream, volume)
        return Cells(joined.table[volume], joined.quality)
    size = voxel_size[1:] if maps.shape[0] == 1 else voxel_size
    diameter = in_finest(diameter, size)
    rules, threshold = rules_of(maps, config, voxel_size=size, diameter=diameter)
    labels, sums = parts_of(maps, threshold, rules, config.fill_holes, diameter)
    table, quality = kept_cells(sums, rules.min_size, typical_size(size, diameter))
    return Cells(table[labels], quality)


def find_cells_by_plane(
    planes: Iterable[tuple[int, Maps]],
    config: EfficientCellSegConfig,
    *,
    voxel_size: Vector = (1.0, 1.0, 1.0),
    diameter: float,
) -> Generator[tuple[int, I32], None, Joined]:
    """Find the cells of a volume that comes plane by plane, with two planes in memory; as ``stack = "planes"`` does.

    Args:
        planes: (z, maps (1, Y, X)) in growing order of z; a plane that is left out ends the cells before it.
        config: As of :func:`find_cells`; ``stack`` does not matter.
        voxel_size: As of :func:`find_cells`.
        diameter: As of :func:`find_cells`.

    Yields:
        z and the plane (Y, X) int32 with provisional labels 1..M, which grow over the planes: to be kept, in a file for
        example, until the last plane is done.

    Returns:
        (of the generator) The table from provisional to final labels: ``table[plane]``.

    Raises:
        ConfigError: ``split`` is centres, and the network does not predict centres; the diameter is not positive.
        DataError: The maps hold values that are no numbers, planes differ in size, or do not grow.
    """
    stitcher, sums, last, n_planes = Stitcher(overlap=config.stack_overlap), [np.zeros((2, 1))], None, 0
    within = config.model_copy(update={"min_size": None})  # which is meant for whole cells
    for z, maps in planes:
        if last is not None and z <= last:
            raise DataError(
                f"Joining planes failed: plane {z} comes after plane {last}; planes must come in growing order."
            )
        if last is not None and z > last + 1:
            stitcher.skip()
        rules, threshold = rules_of(maps, within, planes=True, voxel_size=voxel_size[1:], diameter=diameter)
        labels, found = parts_of(maps, threshold, rules, config.fill_holes, diameter)
        sums.append(found[:, 1:])
        last, n_planes = z, n_planes + 1
        yield z, stitcher.add(labels[0])
    cell = stitcher.table()
    parts = np.concatenate(sums, axis=1)
    joined: F64 = np.stack([np.bincount(cell, row, minlength=int(cell.max()) + 1) for row in parts])
    size = voxel_size if n_planes > 1 else voxel_size[1:]
    diameter = in_finest(diameter, size)
    table, quality = kept_cells(joined, _least(config, size, diameter), typical_size(size, diameter))
    return Joined(table[cell], quality)


def _plane(maps: Maps, z: int) -> Maps:
    return Maps(maps.cell[z : z + 1], None if maps.centre is None else maps.centre[z : z + 1])


def _exhausted(stream: Generator[tuple[int, I32], None, Joined], volume: I32) -> Joined:
    while True:
        try:
            z, labels = next(stream)
        except StopIteration as end:
            joined: Joined = end.value
            return joined
        volume[z] = labels


def in_finest(diameter: float, voxel_size: tuple[float, ...]) -> float:
    """Return a diameter, given in pixels of the finer one of y and x, in pixels of the finest of all axes."""
    return diameter * min(voxel_size[-2:]) / min(voxel_size)


def rules_of(
    maps: Maps | None,
    config: EfficientCellSegConfig,
    *,
    voxel_size: tuple[float, ...],
    diameter: float,
    planes: bool = False,
) -> tuple[Rules, float]:
    """Settle what is automatic, for the axes that ``voxel_size`` names."""
    if not diameter > 0:
        raise ConfigError(f"Finding cells failed: the diameter of a cell is {diameter}; it must be positive.")
    split = config.split or ("distance" if maps is None or maps.centre is None else "centres")
    if split == "centres" and maps is not None and maps.centre is None:
        raise ConfigError(
            "Finding cells failed: split is centres, but this network does not predict centres. Set split = distance, or train "
            "with centres = joint."
        )
    finest = min(voxel_size)
    settled = {
        name: value if getattr(config, name) is None else getattr(config, name) for name, value in DEFAULTS.items()
    }
    for name in LENGTHS:
        if getattr(config, name) is None:
            settled[name] *= diameter
    rules = Rules(
        split=split,
        smoothing=settled["split_smoothing"],
        distance=settled["split_distance"],
        centre_threshold=settled["centre_threshold"],
        min_size=_least(config, voxel_size, diameter),
        sampling=tuple(size / finest for size in voxel_size),
        planes=planes,
    )
    return rules, settled["threshold"]


def _least(config: EfficientCellSegConfig, voxel_size: tuple[float, ...], diameter: float) -> int:
    """Return how many voxels a cell has at least."""
    if config.min_size is not None:
        return config.min_size
    return int(CRUMB * typical_size(voxel_size, diameter))


def typical_size(voxel_size: tuple[float, ...], diameter: float) -> float:
    """Return how many voxels a disc or ball of this diameter has; the diameter in pixels of the finest axis."""
    content = np.pi / 4 * diameter**2 if len(voxel_size) == 2 else np.pi / 6 * diameter**3
    return float(content * min(voxel_size) ** len(voxel_size) / np.prod(voxel_size))


def parts_of(maps: Maps, threshold: float, rules: Rules, fill: bool, diameter: float) -> tuple[I32, F64]:
    """Part the cells of maps.

    Returns:
        (Z, Y, X) labels 1..N, and (2, N + 1) sums over the voxels of each: of 1, and of probability times clearness.
    """
    if not np.isfinite(maps.cell.sum()) or (maps.centre is not None and not np.isfinite(maps.centre.sum())):
        raise DataError(
            "Finding cells failed: the prediction is not a number for some pixels; check the weights, or set precision = float32."
        )
    mask = maps.cell > np.float32(threshold)
    if fill:
        mask = fill_small_holes(mask, np.pi / 4 * (HOLE * diameter) ** 2)
    flat = len(rules.sampling) == 2
    centre = maps.centre[0] if flat and maps.centre is not None else maps.centre
    parted, clear = part(mask[0] if flat else mask, centre, rules)
    labels = parted[None] if flat else parted
    if fill:
        labels = fill_holes(labels)
    n = len(clear) + 1
    inside = np.flatnonzero(labels)
    owner = labels.reshape(-1)[inside]
    size = np.bincount(owner, minlength=n).astype(np.float64)
    probability = np.bincount(owner, maps.cell.reshape(-1)[inside], minlength=n)
    return labels, np.stack([size, probability * np.concatenate([[0.0], 0.5 + 0.5 * clear])])


def kept_cells(sums: F64, least: int, typical: float) -> tuple[I32, F64]:
    """Return the new number of each cell, 0 for those that are too small, and the quality of the others."""
    size, total = sums
    stays = size >= max(least, 1)
    stays[0] = False
    table = (np.cumsum(stays) * stays).astype(np.int32)
    size, total = size[stays], total[stays]
    fits = np.minimum(size / typical, typical / size)
    return table, np.clip(total / size * (0.5 + 0.5 * fits), 0.0, 1.0)
