"""Parts of a frame, prepared for the network as the whole frame would be, where the whole is more than memory holds.

What preparing needs to know of the whole frame (its range, the medians of its slices, the range of the smoothed image) is found
first, piece by piece: :func:`levels_of`. A part is then read with as many voxels around it as the filters reach, and is bit for bit
the same part of what :func:`howdah.methods.elephant.preprocess.prepare` gives: :func:`prepared_part`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from howdah.errors import DataError
from howdah.methods.elephant import preprocess
from howdah.methods.elephant.box import Region
from howdah.methods.elephant.preprocess import Preparing
from howdah.methods.elephant.ranks import median_of, percentiles_of

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Array = npt.NDArray[Any]
Reader = Callable[[Region], Array]
"""Reads a part (three slices with start and stop) of a frame."""

__all__ = ["FINITE", "Frame", "Levels", "levels_of", "pieces_of", "prepared_part"]

PIECE = 1 << 22  # voxels that are looked at once
SOURCE = 1 << 23  # voxels of the movie that are resampled at once, what filters need around them not counted
STRIP = 1 << 20  # voxels that are resampled at once
FINITE = (
    "Detection failed: the frame holds values that are no numbers (NaN or infinite), so it cannot be normalised. "
    "Replace them in the image, by 0 for example, and detect again."
)


@dataclass(frozen=True)
class Levels:
    """What preparing needs to know of a whole frame.

    Attributes:
        low: Intensity that becomes 0. high: Intensity that becomes 1.
        shifts: What is subtracted from each slice (``slice_median``).
        least: What is added to usual differences (normalisation ``"local"``).
    """

    low: float
    high: float
    shifts: tuple[float, ...] | None = None
    least: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; floats come back from them bit for bit."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_json` gave."""
        shifts = values["shifts"]
        return cls(values["low"], values["high"], None if shifts is None else tuple(shifts), values["least"])


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame that is read by parts.

    Attributes:
        read: Reads a part of it.
        shape: Its voxels (Z, Y, X).
        affine: 4x4, voxels to world.
        config: How it is prepared.
    """

    read: Reader
    shape: tuple[int, int, int]
    affine: F64
    config: Preparing

    @property
    def how(self) -> str:
        """The normalisation."""
        return self.config.normalisation or "minmax"

    @property
    def factors(self) -> tuple[float, float, float]:
        """Voxels of the working grid per voxel."""
        return self.config.rescale or (1.0, 1.0, 1.0)

    @property
    def working(self) -> tuple[int, int, int]:
        """Voxels (Z, Y, X) of the working grid."""
        return preprocess.working_grid(self.shape, self.affine, self.factors)[0]

    @property
    def grid(self) -> F64:
        """Affine of the working grid."""
        return preprocess.working_grid(self.shape, self.affine, self.factors)[1]


def pieces_of(shape: Sequence[int], *, voxels: int = PIECE) -> Iterator[Region]:
    """Cut a frame into slabs of at most so many voxels, or into strips of single slices where a slice has more."""
    z, y, x = shape
    depth = max(voxels // (y * x), 1)
    rows = y if depth > 1 else min(max(voxels // x, 1), y)
    for first in range(0, z, depth):
        for row in range(0, y, rows):
            yield slice(first, min(first + depth, z)), slice(row, min(row + rows, y)), slice(0, x)


def cubes_of(shape: Sequence[int], *, voxels: int = PIECE) -> Iterator[Region]:
    """Cut a frame into parts of at most so many voxels, as little stretched as can be: filters need little around those."""
    size = list(shape)
    while np.prod(size, dtype=np.int64) > voxels and max(size) > 1:
        axis = int(np.argmax(size))
        size[axis] = -(-size[axis] // 2)
    axes = [
        [slice(low, min(low + n, whole)) for low in range(0, whole, n)] for whole, n in zip(shape, size, strict=True)
    ]
    yield from itertools.product(*axes)


def levels_of(frame: Frame) -> Levels:
    """Look at all of a frame, piece by piece.

    Memory: 48 bytes for each of 4 million voxels; for ``slice_median`` some 18 for each of 8 million, or of a slice.
    With ``"local"`` also what filters need around it.

    Raises:
        DataError: The frame holds values that are no finite numbers.
    """
    ranges = [(part.min(), part.max()) for part in map(frame.read, cubes_of(frame.shape))]
    low, high = (choose([pair[i] for pair in ranges]) for i, choose in enumerate((np.min, np.max)))
    if not np.isfinite(low) or not np.isfinite(high):
        raise DataError(FINITE)
    shifts = _shifts(frame) if frame.config.slice_median else None
    levels = Levels(float(low), float(high), shifts)
    if frame.how == "percentile":
        kind = _level(frame, levels, (slice(0, 1),) * 3).dtype
        bounds = percentiles_of(lambda: _leveled(frame, levels), frame.config.percentiles, _size(frame.shape), kind)
        levels = Levels(float(bounds[0]), float(bounds[1]), shifts)
    elif shifts is not None:
        ranges = [(part.min(), part.max()) for part in _leveled(frame, levels)]
        levels = Levels(float(min(pair[0] for pair in ranges)), float(max(pair[1] for pair in ranges)), shifts)
    if frame.how != "local":
        return levels
    reach = preprocess.local_reach(frame.config, frame.grid)
    bounds = percentiles_of(
        lambda: (_fine(frame, levels, reach, part) for part in cubes_of(frame.working)),
        (0, 99.9),
        _size(frame.working),
        np.dtype(np.float32),
    )
    return Levels(levels.low, levels.high, shifts, float(preprocess.least_difference(*bounds)))


def prepared_part(frame: Frame, levels: Levels, region: Region) -> F32:
    """Return a part of the prepared frame, (z, y, x) float32: that of the whole, bit for bit.

    Args:
        frame: The frame.
        levels: What :func:`levels_of` found.
        region: Voxels of the working grid.
    """
    if frame.how != "local":
        return _working(frame, levels, region)
    reach = preprocess.local_reach(frame.config, frame.grid)
    wide = _radius(preprocess.MEAN * reach, preprocess.TRUNCATE) + _radius(
        preprocess.SPREAD * reach, preprocess.TRUNCATE
    )
    around = _grown(region, wide, frame.working)
    contrast = preprocess.contrast_of(
        _fine(frame, levels, reach, around),
        reach,
        least=np.float32(levels.least or 1.0),
        mean=preprocess.MEAN,
        spread=preprocess.SPREAD,
    )
    return preprocess.shown(np.ascontiguousarray(contrast[_within(region, around)]))


def halo_of(frame: Frame) -> tuple[int, int, int]:
    """Return how far around a part of the working grid is looked, in its voxels (z, y, x)."""
    halo = np.zeros(3, dtype=int)
    if frame.how == "local":
        reach = preprocess.local_reach(frame.config, frame.grid)
        halo += sum(
            _radius(s * reach, preprocess.TRUNCATE) for s in (preprocess.SMOOTH, preprocess.MEAN, preprocess.SPREAD)
        )
    if frame.working != frame.shape:
        step, _ = preprocess.steps(frame.shape, frame.working)
        halo += np.ceil(_radius(np.maximum(step - 1, 0) / 2, 4.0) / step).astype(int) + 1
    z, y, x = halo.tolist()
    return z, y, x


def _fine(frame: Frame, levels: Levels, reach: F64, region: Region) -> F32:
    """A part of the smoothed image that local contrast looks at."""
    sigma = preprocess.SMOOTH * reach
    around = _grown(region, _radius(sigma, preprocess.TRUNCATE), frame.working)
    fine = ndimage.gaussian_filter(_working(frame, levels, around), sigma, truncate=preprocess.TRUNCATE)
    return np.ascontiguousarray(fine[_within(region, around)])


def _working(frame: Frame, levels: Levels, region: Region) -> F32:
    """A part of the normalised frame on the working grid."""
    if frame.working == frame.shape:
        return _normalised(frame, levels, region)
    found = np.empty([part.stop - part.start for part in region], dtype=np.float32)
    ratio = float(np.prod(frame.shape, dtype=np.float64) / np.prod(frame.working, dtype=np.float64))
    for piece in cubes_of(found.shape, voxels=max(int(SOURCE / ratio), 1)):
        at = tuple(
            slice(part.start + inner.start, part.start + inner.stop) for part, inner in zip(region, piece, strict=True)
        )
        found[piece] = _resampled(frame, levels, (at[0], at[1], at[2]))
    return found


def _resampled(frame: Frame, levels: Levels, region: Region) -> F32:
    """A part of the normalised frame on a working grid that is not that of the movie."""
    step, start = preprocess.steps(frame.shape, frame.working)
    places = []  # as scipy's affine_transform computes them, for the same bits
    for part, first, each in zip(region, (start / step).tolist(), step.tolist(), strict=True):
        places.append((np.arange(part.start, part.stop, dtype=np.float64) + first) * each)
    touched = tuple(
        slice(max(int(place[0]), 0), min(int(place[-1]) + 2, n)) for place, n in zip(places, frame.shape, strict=True)
    )
    wide = np.maximum(step - 1, 0) / 2
    around = _grown((touched[0], touched[1], touched[2]), _radius(wide, 4.0), frame.shape)
    image = _normalised(frame, levels, around)
    if wide.any():
        image = ndimage.gaussian_filter(image, wide, mode="nearest")
    inside = [place - part.start for place, part in zip(places, around, strict=True)]
    resampled = np.empty([len(place) for place in inside], dtype=np.float32)
    for strip in pieces_of(resampled.shape, voxels=STRIP):
        grids = np.meshgrid(*[place[part] for place, part in zip(inside, strip, strict=True)], indexing="ij")
        resampled[strip] = ndimage.map_coordinates(
            image, np.stack(grids), output=np.float32, order=1, mode="nearest", prefilter=False
        )
    return resampled


def _normalised(frame: Frame, levels: Levels, region: Region) -> F32:
    level = _level(frame, levels, region)
    return preprocess.scaled(level, levels.low, levels.high, clip=frame.how == "percentile")


def _level(frame: Frame, levels: Levels, region: Region) -> Array:
    part = frame.read(region)
    if levels.shifts is None:
        return part
    even = part.astype(np.float32)
    even -= np.array(levels.shifts[region[0]], dtype=np.float32)[:, None, None]
    return even


def _leveled(frame: Frame, levels: Levels) -> Iterator[Array]:
    return (_level(frame, levels, part) for part in cubes_of(frame.shape))


def _shifts(frame: Frame) -> tuple[float, ...]:
    """The median of each slice minus that of the frame, as :func:`preprocess.level_slices` has them."""
    _, y, x = frame.shape
    medians = []
    depth = max(SOURCE // (y * x), 1)  # files hold several slices together
    for z in range(0, frame.shape[0], depth):
        some = frame.read((slice(z, min(z + depth, frame.shape[0])), slice(0, y), slice(0, x))).astype(np.float32)
        medians.append(np.median(some, axis=(1, 2)))
    whole = median_of(
        lambda: (frame.read(part).astype(np.float32) for part in cubes_of(frame.shape)),
        _size(frame.shape),
        np.dtype(np.float32),
    )
    return tuple((np.concatenate(medians) - whole).tolist())


def _radius(sigma: F64, truncate: float) -> npt.NDArray[np.int64]:
    """How far scipy's Gaussian reaches, in voxels."""
    return (truncate * np.asarray(sigma) + 0.5).astype(np.int64)


def _grown(region: Region, edge: npt.NDArray[np.int64], shape: Sequence[int]) -> Region:
    z, y, x = (
        slice(max(part.start - int(more), 0), min(part.stop + int(more), n))
        for part, more, n in zip(region, edge, shape, strict=True)
    )
    return z, y, x


def _within(region: Region, around: Region) -> Region:
    z, y, x = (
        slice(part.start - outer.start, part.stop - outer.start) for part, outer in zip(region, around, strict=True)
    )
    return z, y, x


def _size(shape: Sequence[int]) -> int:
    return int(np.prod(shape, dtype=np.int64))
