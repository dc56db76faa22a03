"""From maps to cells: a threshold, touching cells parted by a watershed, holes filled, crumbs dropped (paper, section 3.3)."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from howdah.methods.efficientcellseg.config import EfficientCellSegConfig
from howdah.methods.efficientcellseg.maps import Maps

F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]

__all__ = ["Cells", "Joined", "find_cells", "find_cells_by_plane"]


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells of one frame; row n of the table is label n + 1.

    Attributes:
        labels: (Z, Y, X) int32, 1..N without gaps; 0 background.
        quality: (N,) float64, 0..1: the mean probability of a cell's voxels, times how clearly it is parted from others.
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
    maps: Maps, config: EfficientCellSegConfig, *, voxel_size: tuple[float, float, float] = (1.0, 1.0, 1.0), diameter: float
) -> Cells:
    """Find the cells of a frame.

    Args:
        maps: What the network says of the frame.
        config: The settings from ``threshold`` to ``fill_holes``; what is automatic there takes its default here.
        voxel_size: Of (z, y, x); only ratios count, and the z of 2D does not.
        diameter: Of a typical cell, pixels of the finest axis; automatic smoothing and distance hang on it.

    Raises:
        ConfigError: ``split`` is centres, and the network does not predict centres.
        DataError: The maps hold values that are no numbers.
    """
    raise NotImplementedError


def find_cells_by_plane(
    planes: Iterable[tuple[int, Maps]],
    config: EfficientCellSegConfig,
    *,
    voxel_size: tuple[float, float, float] = (1.0, 1.0, 1.0),
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
        ConfigError: ``split`` is centres, and the network does not predict centres.
        DataError: The maps hold values that are no numbers, or planes differ in size.
    """
    raise NotImplementedError
    yield
