"""How a frame goes through the network: as a whole or in tiles, and which part of it is looked at for a box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from howdah.methods.elephant import defaults
from howdah.methods.elephant.box import Box, Region, grown, region_of
from howdah.methods.elephant.config import ElephantConfig
from howdah.methods.elephant.preprocess import working_grid
from howdah.nn import tiles

F64 = npt.NDArray[np.float64]
Size = tuple[int, int, int]

__all__ = ["Layout", "layout_of", "least_work", "seen_for", "tile_size", "touches"]

BYTES_PER_VOXEL = 700.0  # of a forward pass at once, float32; measured in benchmarks/bench_elephant.py
LEAST = 8  # multiples: shorter edges of tiles than this are not chosen for the sake of less work
ALIKE = 1.02  # of two sizes of tiles whose work differs by less, the one of fewer tiles is chosen
MARGIN = 32  # voxels along y and x around a box; more changes little, see benchmarks/bench_box.py


@dataclass(frozen=True, eq=False)
class Layout:
    """How frames of a size go through the network.

    Attributes:
        working: Voxels (Z, Y, X) of the working grid.
        grid: 4x4, its voxels to world.
        flags: At which levels pooling leaves z alone.
        tile: Size (z, y, x) of tiles, None where the frame is not cut.
    """

    working: Size
    grid: F64
    flags: tuple[bool, ...]
    tile: Size | None

    @property
    def unit(self) -> Size:
        """What sizes of tiles are multiples of."""
        return defaults.multiples(self.flags)

    @property
    def padded(self) -> Size:
        """The working grid enlarged to multiples."""
        return _multiple(self.working, self.unit)

    def tiles(self) -> list[tiles.Tile]:
        """Return the tiles over the enlarged grid, in the order in which they are added up; one where it is not cut."""
        return tiles.plan(self.padded, self.tile or self.padded, multiple=self.unit)


def layout_of(
    shape: Sequence[int],
    affine: F64,
    config: ElephantConfig,
    *,
    memory_mb: float,
    strips_mb: float,
    stream_bytes: float,
) -> Layout:
    """Choose how a frame goes through the network.

    Args:
        shape: Its voxels (Z, Y, X).
        affine: 4x4, voxels to world.
        config: ``rescale``, ``n_keep_axials``, ``tile_size``.
        memory_mb: What the network may take; see :func:`tile_size` for this and the others.
        strips_mb: As for :func:`tile_size`.
        stream_bytes: As for :func:`tile_size`.
    """
    working, grid = working_grid(shape, affine, config.rescale or (1.0, 1.0, 1.0))
    flags = defaults.keep_axials(grid, working, n_keep=config.n_keep_axials)
    unit = defaults.multiples(flags)
    size = tile_size(
        _multiple(working, unit), unit, config, memory_mb=memory_mb, strips_mb=strips_mb, stream_bytes=stream_bytes
    )
    return Layout(working, grid, flags, size)


def tile_size(
    padded: Sequence[int],
    unit: Size,
    config: ElephantConfig,
    *,
    memory_mb: float,
    strips_mb: float,
    stream_bytes: float,
) -> Size | None:
    """Return the size of tiles for a frame, None where it goes through the network as a whole.

    Args:
        padded: Its voxels on the working grid, enlarged to multiples of ``unit``.
        unit: What the network pools.
        config: ``tile_size`` counts, where it is set.
        memory_mb: Else what the network may take.
        strips_mb: What :func:`~howdah.methods.elephant.stream.stream` takes, and
        stream_bytes: what it takes for each voxel.
    """
    if config.tile_size is not None:
        asked = _multiple(config.tile_size, unit)
        return None if all(n >= m for n, m in zip(asked, padded, strict=True)) else asked
    if np.prod(padded) * BYTES_PER_VOXEL <= memory_mb * 2**20:
        return None
    for_layers = max(memory_mb - strips_mb, memory_mb / 2)
    z, y, x = tiles.size_for_memory(padded, multiple=unit, bytes_per_voxel=stream_bytes, memory_mb=for_layers)
    return None if (z, y, x) == tuple(padded) else (z, y, x)


def least_work(padded: Sequence[int], unit: Size, usual: Size, *, most: float) -> Size:
    """Return the size of tiles with which the fewest voxels are computed: neighbours overlap by a quarter, along each axis that is cut.

    So it is better to cut few axes than to keep tiles cubic. Edges are whole, or eight multiples at least (or as short as the
    usual ones): what is computed near the edge of a tile has seen less around it.

    Args:
        padded: Voxels of the frame on the working grid, multiples of ``unit``.
        unit: What the network pools.
        usual: The size that is chosen where nobody counts, and returned where none is better.
        most: Voxels that a tile may have.
    """
    axes, now = [], 1.0
    for whole, m, length in zip(padded, unit, usual, strict=True):
        least = min(whole, max(2 * m, min(LEAST * m, length)))
        lengths = np.array([*range(least, whole, m), whole])
        counts = np.array([tiles.count(whole, int(n), multiple=m) for n in lengths])
        first = np.unique(counts, return_index=True)[1]  # the shortest of which so many are needed
        axes.append((lengths[first], counts[first]))
        now *= length * tiles.count(whole, length, multiple=m)
    grids = np.meshgrid(*[lengths for lengths, _ in axes], indexing="ij")
    size, number = (
        np.prod(np.meshgrid(*[pair[i] for pair in axes], indexing="ij"), axis=0, dtype=np.float64) for i in (0, 1)
    )
    work = np.where(size <= most, size * number, np.inf)
    if not work.min() * ALIKE < now:
        return usual
    chosen = int(np.argmin(np.where(work <= ALIKE * work.min(), number, np.inf)))
    z, y, x = (int(grid.reshape(-1)[chosen]) for grid in grids)
    return z, y, x


def seen_for(box: Box, grid: F64, working: Size, unit: Size) -> Region | None:
    """Return the voxels of the working grid that are looked at to find what is in a box; None where it lies beside."""
    region = region_of(box, grid, working)
    return (
        None
        if region is None
        else grown(region, (unit[0] if unit[0] > 1 else 4, MARGIN, MARGIN), working, multiple=unit)
    )


def touches(tile: tiles.Tile, region: Region) -> bool:
    """Tell whether a tile has any weight in a region."""
    for mine, weights, wanted in zip(tile.region, tile.weights, region, strict=True):
        low, high = max(mine.start, wanted.start) - mine.start, min(mine.stop, wanted.stop) - mine.start
        if low >= high or not weights[low:high].any():
            return False
    return True


def _multiple(size: Sequence[int], unit: Size) -> Size:
    z, y, x = (-(-n // m) * m for n, m in zip(size, unit, strict=True))
    return z, y, x
