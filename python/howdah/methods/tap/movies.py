"""A raw movie as TAP sees it, and its normalised frames, kept as long as memory allows."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from howdah.errors import DataError
from howdah.methods.tap.config import TapConfig
from howdah.nn.device import free_memory_mb

Array = npt.NDArray[Any]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Region = tuple[slice, slice, slice]

__all__ = ["Frames", "Movie", "dimensions_of", "voxel_of"]

SAMPLED = 2**17  # pixels of a channel, about, that percentiles are taken from
SLAB = 2**25  # voxels that are read at once to look at a frame that memory cannot keep

log = logging.getLogger("howdah")


@dataclass(frozen=True, eq=False)
class Movie:
    """A movie that is read frame by frame, or a region of a frame at a time.

    Attributes:
        name: What sentences call it.
        n_frames: Frames, missing ones counted.
        shape: Voxels (Z, Y, X) of a frame; Z = 1 in 2D.
        voxel_size: (z, y, x), world units.
        channels: Channels that the network sees.
        read: Reads a frame, or a region (z, y, x) of it, by its number: (C, Z, Y, X) of the file's type.
        missing: Frames that the file lacks.
    """

    name: str
    n_frames: int
    shape: tuple[int, int, int]
    voxel_size: tuple[float, float, float]
    channels: int
    read: Callable[[int, Region | None], Array]
    missing: frozenset[int] = frozenset()


class Frames:
    """The frames of a movie: shrunk, and from 0 to 1 between two percentiles of each frame and channel (nothing is cut off).

    What is read stays in memory, as the file has it, up to a limit. What is returned does not depend on memory.

    Args:
        movie: The movie.
        config: Settings; ``shrink``, ``percentiles`` and ``memory_mb`` count.
        memory_mb: Most that frames may take, MiB. None: that of the settings, else half of what is free.
    """

    def __init__(self, movie: Movie, config: TapConfig, *, memory_mb: float | None = None) -> None:
        self.movie, self.config = movie, config
        k = config.shrink
        z, y, x = movie.shape
        self.shape: tuple[int, int, int] = (z, -(-y // k), -(-x // k))
        self.times: list[int] = [time for time in range(movie.n_frames) if time not in movie.missing]
        self._room = int((memory_mb or config.memory_mb or free_memory_mb() / 2) * 2**20)
        self._kept: OrderedDict[int, Array] = OrderedDict()
        self._limits: dict[int, F64] = {}
        self._factors: dict[int, F32] = {}

    def limits(self, time: int) -> F64:
        """Return, for each channel (C, 2), the intensities of a frame that become 0 and 1.

        They are percentiles of pixels at even distances, of the image as it is in the file; where both are one value, the least and the
        largest of them. A blank frame has twice the same one.

        Raises:
            DataError: The frame is missing, is not what the movie says, or holds values that are no numbers.
        """
        if time not in self._limits:
            few = self._few(time)
            found = np.percentile(few, self.config.percentiles, axis=1).T
            flat = found[:, 0] >= found[:, 1]
            found[flat, 0], found[flat, 1] = few[flat].min(axis=1), few[flat].max(axis=1)
            self._limits[time] = found
        return self._limits[time]

    def is_blank(self, time: int) -> bool:
        """Return whether a channel of a frame has one value everywhere."""
        found = self.limits(time)
        return bool((found[:, 0] >= found[:, 1]).any())

    def factors(self, time: int) -> F32:
        """Return what intensities of a frame are multiplied by, and what is then added: (2, C)."""
        if time not in self._factors:
            low, high = self.limits(time).T
            scale = 1 / np.where(high > low, high - low, 1.0)
            self._factors[time] = np.stack([scale, -low * scale]).astype(np.float32)
        return self._factors[time]

    def frame(self, time: int) -> F32:
        """Return a frame (C, Z', Y', X'), normalised; the one not asked for the longest leaves memory.

        Raises:
            DataError: As for :meth:`limits`.
        """
        raw = self._kept.get(time)
        if raw is None:
            raw = self._read(time, None)
            self._keep(time, raw)
        else:
            self._kept.move_to_end(time)
        return self._normalised(time, raw)

    def region(self, time: int, region: Region) -> F32:
        """Return a region (z, y, x) of a frame, in shrunk pixels, normalised; no more of the file is read where memory has no room.

        Raises:
            DataError: As for :meth:`limits`.
        """
        return self._normalised(time, self.raw(time, region))

    def raw(self, time: int, region: Region) -> Array:
        """Return a region as :meth:`region`, but with the intensities of the file; do not write to it."""
        kept = self._kept.get(time)
        if kept is None and self._has_room(time):
            kept = self._read(time, None)
            self._kept[time] = kept
        if kept is not None:
            cut: Array = kept[:, region[0], region[1], region[2]]
            return cut
        return self._read(time, region)

    # ---- memory

    def _has_room(self, time: int) -> bool:
        """Return whether one more frame can be kept without giving up another; of a movie too long for memory, a part stays."""
        bytes_of = next((kept.nbytes for kept in self._kept.values()), 4 * self.movie.channels * prod(self.shape))
        return (len(self._kept) + 1) * bytes_of <= self._room

    def _keep(self, time: int, raw: Array) -> None:
        self._kept[time] = raw
        while len(self._kept) > 1 and len(self._kept) * raw.nbytes > self._room:
            self._kept.popitem(last=False)

    # ---- pixels

    def _normalised(self, time: int, raw: Array) -> F32:
        scale, add = self.factors(time)[..., None, None, None]
        found: F32 = np.multiply(raw, scale, dtype=np.float32)
        found += add
        return found

    def _read(self, time: int, region: Region | None) -> Array:
        """Read a frame or a region of it, shrunk: of the file's type, float32 where shrunk."""
        k, whole = self.config.shrink, self.movie.shape
        if region is None:
            wanted = None
        else:
            y, x = (slice(s.start * k, min(s.stop * k, n)) for s, n in zip(region[1:], whole[1:], strict=True))
            wanted = (region[0], y, x)
        return shrunk(self._checked(time, wanted), k)

    def _checked(self, time: int, region: Region | None) -> Array:
        movie = self.movie
        if time in movie.missing or not 0 <= time < movie.n_frames:
            raise DataError(
                f"Frame {time} of {movie.name} is not there: the movie has {movie.n_frames} frames, and {len(movie.missing)} are missing."
            )
        raw = np.asarray(movie.read(time, region))
        expected = movie.shape if region is None else tuple(s.stop - s.start for s in region)
        if raw.shape != (movie.channels, *expected):
            raise DataError(
                f"Frame {time} of {movie.name} has the shape {raw.shape} (channels, z, y, x), but {(movie.channels, *expected)} was "
                "expected. All frames of a movie must be of one size."
            )
        if raw.dtype.kind not in "buif":
            raise DataError(f"Frame {time} of {movie.name} has values of type {raw.dtype}; numbers are needed.")
        if raw.dtype.kind == "f" and not np.isfinite(raw).all():
            raise DataError(
                f"Frame {time} of {movie.name} holds values that are no numbers (NaN or infinite). "
                "Replace them in the image, by 0 for example."
            )
        return raw

    def _few(self, time: int) -> Array:
        """Return the pixels (C, n) that tell the percentiles of a frame."""
        steps = _steps(self.movie.shape)
        if self.config.shrink == 1 and (time in self._kept or self._has_room(time)):
            raw = self.raw(time, whole_of(self.shape))
            return _thinned(raw, steps)
        z, y, x = self.movie.shape
        depth = max(SLAB // (y * x) // steps[0], 1) * steps[0]
        rows = max(SLAB // (depth * x) // steps[1], 1) * steps[1]
        pieces = [
            _thinned(self._checked(time, (slice(a, min(a + depth, z)), slice(b, min(b + rows, y)), slice(0, x))), steps)
            for a in range(0, z, depth)
            for b in range(0, y, rows)
        ]
        return np.concatenate(pieces, axis=1)


def dimensions_of(config: TapConfig, movies: Sequence[Movie]) -> int:
    """Return whether the network sees planes (2) or volumes (3): as the settings say, else volumes where movies have planes.

    Raises:
        DataError: Some movies have planes and others none, and nothing is said, or volumes are asked for of a flat movie.
    """
    flat = [movie.name for movie in movies if movie.shape[0] == 1]
    if config.dimensions == 2 or len(flat) == len(movies):
        if config.dimensions == 3:
            raise DataError(f"dimensions is 3, but {flat[0]} has one plane only. Leave dimensions out, or set it to 2.")
        return 2
    if flat:
        raise DataError(
            f"Some movies have several planes, but {flat[0]} has one. Set dimensions = 2 to learn from planes of all of them, or leave "
            "the flat ones out."
        )
    return 3


def voxel_of(movie: Movie, config: TapConfig) -> tuple[float, float, float]:
    """Return the size (z, y, x) of a voxel after shrinking, world units."""
    z, y, x = movie.voxel_size
    return z, y * config.shrink, x * config.shrink


def shrunk(raw: Array, k: int) -> Array:
    """Return the means of k by k pixels of (C, Z, Y, X), float32; the last row and column may be means of fewer. k = 1: as it is."""
    if k == 1:
        return raw
    found: Array = raw
    for axis in (2, 3):
        first = np.arange(0, raw.shape[axis], k)
        sums = np.add.reduceat(found, first, axis=axis, dtype=np.float32)
        counts = np.diff(first, append=raw.shape[axis]).astype(np.float32)
        found = sums / (counts[:, None] if axis == 2 else counts)
    return found


def whole_of(shape: Sequence[int]) -> Region:
    """Return the region that is all of a frame."""
    z, y, x = (slice(0, n) for n in shape)
    return z, y, x


def _steps(shape: Sequence[int]) -> tuple[int, int, int]:
    """Return every which pixel along (z, y, x) is looked at: all axes alike, and no axis away."""
    axes = max(sum(n > 1 for n in shape), 1)
    k = max(int((prod(shape) / SAMPLED) ** (1 / axes)), 1)
    z, y, x = (min(k, max(n // 4, 1)) for n in shape)
    return z, y, x


def _thinned(raw: Array, steps: tuple[int, int, int]) -> Array:
    return raw[:, :: steps[0], :: steps[1], :: steps[2]].reshape(len(raw), -1)
