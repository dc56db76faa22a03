"""Which parts of a picture the network sees one by one: overlapping tiles, or the windows of the paper (section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from howdah.methods.efficientcellseg.config import STRIDE, EfficientCellSegConfig
from howdah.nn import tiles

__all__ = ["grid_of", "parts"]

MOST_SQUEEZED = 2.5  # the paper's windows are squeezed 0.8 (A549-SIM), 1.3 (MDA231) and 2.2 times (TRIC)


def grid_of(shape: Sequence[int], config: EfficientCellSegConfig) -> tuple[int, int]:
    """Return how many windows a picture (Y, X) is cut into along y and x.

    Automatic: squeezed, as few as keep a window under 2.5 input sizes, which gives the paper's one for A549-SIM and MDA231 and
    its 2 x 3 for TRIC; else as many as keep a window within the input size.
    """
    if config.grid is not None:
        return config.grid
    most = config.input_size * (MOST_SQUEEZED if config.fit_frame else 1)
    y, x = (max(int(np.ceil(n / most)), 1) for n in shape)
    return y, x


def parts(shape: Sequence[int], config: EfficientCellSegConfig, *, tile: int) -> list[tiles.Tile]:
    """Return the parts of a picture (Y, X), with the weights that blend what the network says of them.

    ``plain_grid``: windows without overlap, all of one size, rounded down; what is left at the far edges gets no weight, so it stays 0,
    as in the published code. ``fit_frame``: the same windows, but enlarged so that they overlap and reach the edges. Else: tiles whose
    starts are multiples of 16.

    Args:
        shape: Of the picture; without ``fit_frame`` and ``plain_grid`` multiples of 16.
        config: Settings.
        tile: Edge of a tile; a multiple of 16.
    """
    if "plain_grid" in config.compat:
        return _plain(shape, grid_of(shape, config))
    if config.fit_frame:
        sizes = [_length(n, many, config.overlap) for n, many in zip(shape, grid_of(shape, config), strict=True)]
        return tiles.plan(shape, sizes, overlap=[int(n * config.overlap) for n in sizes])
    sizes = [_thrifty(n, tile, config.overlap) for n in shape]
    return tiles.plan(shape, sizes, overlap=[int(n * config.overlap) for n in sizes], multiple=(STRIDE, STRIDE))


def _thrifty(size: int, most: int, overlap: float) -> int:
    """Length of tiles, three quarters of the asked at least, that cover all with the least work; 1024 by 320 instead of 384."""
    if size <= most:
        return size
    least = max(-(-most * 3 // 4 // STRIDE) * STRIDE, 2 * STRIDE)

    def work(edge: int) -> tuple[int, int]:
        shared = min(-(-int(edge * overlap) // STRIDE) * STRIDE, edge - STRIDE)
        return -(-(size - shared) // (edge - shared)) * edge, -edge

    return min(range(least, most + 1, STRIDE), key=work)


def _length(size: int, many: int, overlap: float) -> int:
    """Length of so many windows that overlap by a share of themselves and cover all."""
    return min(int(np.ceil(size / (many - (many - 1) * overlap))), size)


def _plain(shape: Sequence[int], grid: Sequence[int]) -> list[tiles.Tile]:
    edges = [max(n // many, 1) for n, many in zip(shape, grid, strict=True)]
    starts = [range(0, n - edge + 1, edge) for n, edge in zip(shape, edges, strict=True)]
    ones = tuple(np.ones(edge, dtype=np.float32) for edge in edges)
    return [
        tiles.Tile((slice(y, y + edges[0]), slice(x, x + edges[1])), ones)
        for y in starts[0][: grid[0]]
        for x in starts[1][: grid[1]]
    ]
