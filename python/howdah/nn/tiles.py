"""Overlapping tiles whose blending weights sum to exactly one in every voxel, for any size.

Along an axis the seam between two neighbouring tiles is a ramp from 1 to 0 in the middle half of their overlap; a tile
weighs its right ramp minus its left one, so the weights telescope to 1. Ramps are rounded to 256ths: products over three axes are
then multiples of 2^-24, which float32 adds without any rounding. The outer quarters of an overlap get no weight, because
a convolution near the edge of a tile sees padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from howdah.errors import ConfigError

F32 = npt.NDArray[np.float32]

__all__ = ["Tile", "blend", "count", "overlap_of", "plan", "size_for_memory"]

STEPS = 256


@dataclass(frozen=True)
class Tile:
    """One tile.

    Attributes:
        region: Slices of the whole that the tile covers.
        weights: One (n,) float32 array an axis; their outer product is the weight of each voxel.
    """

    region: tuple[slice, ...]
    weights: tuple[F32, ...]


def overlap_of(tile: int, multiple: int = 1) -> int:
    """Return how far neighbouring tiles of this length overlap: the multiple nearest to a quarter of a tile, at least one.

    A tile of a single multiple cannot overlap with less than all of itself; :func:`plan` enlarges it to two.
    """
    return max(multiple, (tile // 4 + multiple // 2) // multiple * multiple)


def plan(
    shape: Sequence[int],
    tile: Sequence[int],
    *,
    overlap: Sequence[int] | None = None,
    multiple: Sequence[int] | None = None,
) -> list[Tile]:
    """Lay tiles over an array, no more than needed.

    Args:
        shape: Size of the whole, any number of axes.
        tile: Size of a tile; axes on which it is larger than the whole get one tile of the size of the whole.
        overlap: Least overlap of neighbours, at most half a tile. None: as of :func:`overlap_of`, and tiles are at
            least two multiples long, so that they do overlap.
        multiple: Tiles start at multiples of this, so that pooling cuts them like the whole; ``shape`` and ``tile`` are
            multiples too, ``overlap`` is rounded up to one.

    Raises:
        ConfigError: An overlap is negative or more than half a tile, or a size is no multiple.
    """
    units = [1] * len(shape) if multiple is None else list(multiple)
    if overlap is None:
        tile = [max(n, 2 * m) for n, m in zip(tile, units, strict=True)]
        wanted = [overlap_of(n, m) for n, m in zip(tile, units, strict=True)]
    else:
        wanted = list(overlap)
    if any(o < 0 or 2 * o > n for o, n in zip(wanted, tile, strict=True)):
        raise ConfigError(f"Tiles of {tuple(tile)} cannot overlap by {tuple(wanted)}: it must be 0 to half a tile.")
    if any(n % m or min(t, n) % m for n, t, m in zip(shape, tile, units, strict=True)):
        raise ConfigError(
            f"Tiles of {tuple(tile)} over {tuple(shape)} cannot start at multiples of {tuple(units)} only."
        )
    axes = [_axis(*four) for four in zip(shape, tile, wanted, units, strict=True)]
    tiles = [Tile((), ())]
    for axis in axes:
        tiles = [Tile((*t.region, where), (*t.weights, weight)) for t in tiles for where, weight in axis]
    return tiles


def count(size: int, tile: int, *, multiple: int = 1) -> int:
    """Return how many tiles :func:`plan` lays along an axis, with the usual overlap."""
    tile = min(max(tile, 2 * multiple), size)
    return 1 if size == tile else _count(size, tile, min(overlap_of(tile, multiple), tile - multiple))


def _count(size: int, tile: int, overlap: int) -> int:
    return -(-(size - overlap) // (tile - overlap))


def _axis(size: int, tile: int, overlap: int, unit: int) -> list[tuple[slice, F32]]:
    tile = min(tile, size)
    overlap = min(-(-overlap // unit) * unit, tile - unit)
    n = 1 if size == tile else _count(size, tile, overlap)
    starts = [round(i * (size - tile) / unit / max(n - 1, 1)) * unit for i in range(n)]
    place = np.arange(size)
    before = np.zeros(size, dtype=np.float32)  # weight of all tiles up to the last one, in every place
    covered = []
    for i, start in enumerate(starts):
        upto = np.ones(size, dtype=np.float32)
        if i + 1 < n:
            shared = start + tile - starts[i + 1]
            seam = starts[i + 1] + shared / 2 - 0.5
            ramp = (seam - place) / max(shared / 2, 1e-6) + 0.5
            upto = (np.rint(np.clip(ramp, 0, 1) * STEPS) / STEPS).astype(np.float32)
            upto = np.maximum(upto, before)  # tiles so dense that two seams cross
        covered.append((slice(start, start + tile), (upto - before)[start : start + tile]))
        before = upto
    return covered


def blend(tiles: Sequence[Tile], compute: Callable[[tuple[slice, ...]], F32], *, shape: Sequence[int]) -> Iterator[F32]:
    """Compute tile after tile and add them up; yields the growing whole after each tile, complete after the last.

    Args:
        tiles: From :func:`plan`.
        compute: Takes a region, returns (C, ...) float32 over it.
        shape: Size of the whole, with the channels first: (C, ...).
    """
    whole = np.zeros(tuple(shape), dtype=np.float32)
    for tile in tiles:
        part = compute(tile.region)
        weight = tile.weights[0]
        for axis in tile.weights[1:]:
            weight = weight[..., None] * axis
        whole[(slice(None), *tile.region)] += part * weight
        yield whole


def size_for_memory(
    shape: Sequence[int], *, multiple: Sequence[int], bytes_per_voxel: float, memory_mb: float
) -> tuple[int, ...]:
    """Choose a tile size: the whole if it fits into the memory, else its longest axes are halved until it does.

    Args:
        shape: Size of the whole.
        multiple: What tile sizes are multiples of (rounded up).
        bytes_per_voxel: What computing one voxel of a tile takes.
        memory_mb: What tiles may take, MiB.

    Raises:
        ConfigError: Not even the smallest sensible tile (four multiples along each axis) fits.
    """
    rounded = [-(-n // m) * m for n, m in zip(shape, multiple, strict=True)]
    least = [min(n, 4 * m) for n, m in zip(rounded, multiple, strict=True)]
    pieces = [1] * len(rounded)
    size = list(rounded)
    while float(np.prod(size)) * bytes_per_voxel > memory_mb * 2**20:
        room = [n if n > low else 0 for n, low in zip(size, least, strict=True)]
        if not any(room):
            raise ConfigError(
                f"A memory of {memory_mb:g} MiB is too little: the smallest tile of {tuple(size)} voxels takes "
                f"{float(np.prod(size)) * bytes_per_voxel / 2**20:.0f} MiB. Allow more memory."
            )
        axis = int(np.argmax([n / m for n, m in zip(room, multiple, strict=True)]))
        pieces[axis] += 1
        size[axis] = max(_length(rounded[axis], pieces[axis], multiple[axis]), least[axis])
    return tuple(size)


def _length(whole: int, pieces: int, multiple: int) -> int:
    """Return the shortest tile of which so many, overlapping, cover the whole."""
    lengths = range(2 * multiple, whole, multiple)
    return next((n for n in lengths if pieces * n - (pieces - 1) * overlap_of(n, multiple) >= whole), whole)
