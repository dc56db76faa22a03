"""CLAHE on raw integers as OpenCV has it: only for weights of the published code (``compat = colouring``).

Its clip limit is relative to the number of integers that the type has, so that the same plane in 8 and in 16 bit gives two results.
:mod:`howdah.nn.clahe` has not that fault. Written from the documented behaviour; compared with OpenCV 5.0, pixel for pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[Any]
F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]

__all__ = ["clahe_of_integers"]


def clahe_of_integers(plane: Plane, tiles: int, clip: float) -> Plane:
    """Return a plane (Y, X) of uint8 or uint16 with equalised contrast, in the same type.

    Args:
        plane: Of any size; it is reflected to whole tiles.
        tiles: Along each axis.
        clip: No integer of a tile counts more than so many times the mean of all integers of the type, one pixel at least.
    """
    there = np.bincount(plane.reshape(-1), minlength=int(np.iinfo(plane.dtype).max) + 1) > 0
    values = np.flatnonzero(there)  # tables over integers that occur: 16 bit has 65536, a plane a few thousand
    level = (np.cumsum(there) - 1)[plane]
    grid = _Grid.of(plane.shape[0], plane.shape[1], tiles)
    table = _table(level, values, grid, clip, len(there))
    flat, n = table.reshape(-1), len(values)
    (y0, y1, v), (x0, x1, u) = grid.along(0), grid.along(1)
    one = np.float32(1)
    left, right = level + x0 * n, level + x1 * n
    down = [(y * (tiles * n))[:, np.newaxis] for y in (y0, y1)]
    first, second = (flat.take(left + d) * (one - u) + flat.take(right + d) * u for d in down)
    v = v[:, np.newaxis]
    found: Plane = np.rint(first * (one - v) + second * v).astype(plane.dtype)
    return found


@dataclass(frozen=True)
class _Grid:
    """Tiles of a plane that is reflected at its end where it does not hold whole tiles."""

    shape: tuple[int, int]
    tiles: int
    tile: tuple[int, int]

    @classmethod
    def of(cls, y: int, x: int, tiles: int) -> _Grid:
        """Return the grid; where one axis does not fit, the other grows, too, even if it fits (as in OpenCV)."""
        fits = y % tiles == 0 and x % tiles == 0
        height, width = (n if fits else n + tiles - n % tiles for n in (y, x))
        return cls((y, x), tiles, (height // tiles, width // tiles))

    def along(self, axis: int) -> tuple[I64, I64, F32]:
        """Return, for each pixel of an axis, the tiles around it and the share of the second."""
        place = np.arange(self.shape[axis], dtype=np.float32) * (np.float32(1) / np.float32(self.tile[axis]))
        place -= np.float32(0.5)
        before = np.floor(place).astype(np.int64)
        share = place - before.astype(np.float32)
        return np.maximum(before, 0), np.minimum(before + 1, self.tiles - 1), share


def _table(level: I64, values: I64, grid: _Grid, clip: float, bins: int) -> F32:
    """What each integer that occurs becomes in each tile: (tiles * tiles, len(values)) float32."""
    (y, x), (height, width), tiles, n = level.shape, grid.tile, grid.tiles, len(values)
    whole = np.pad(level, ((0, height * tiles - y), (0, width * tiles - x)), mode="reflect")
    area = height * width
    most = max(int(clip * area / bins), 1)
    found = np.empty((tiles, tiles, n), dtype=np.float32)
    start = (np.arange(tiles) * n)[:, np.newaxis]
    for row, strip in enumerate(whole.reshape(tiles, height, tiles, width)):
        number = strip.transpose(1, 0, 2).reshape(tiles, -1) + start
        histogram = np.bincount(number.reshape(-1), minlength=tiles * n).reshape(tiles, n)
        found[row] = _sums(np.minimum(histogram, most), values, area, bins)
    found *= np.float32(bins - 1) / np.float32(area)
    np.rint(found, out=found)
    return np.minimum(found, np.float32(bins - 1)).reshape(tiles * tiles, n)


def _sums(kept: I64, values: I64, area: int, bins: int) -> I64:
    """Sum clipped histograms (tiles, values) up to each value; what was cut off is dealt out to all integers of the type.

    Each gets the same; what does not go round is dealt to every ``step``-th integer from 0 on.
    """
    cut = (area - kept.sum(axis=1, keepdims=True)).astype(np.int64)
    each, rest = np.divmod(cut, bins)
    step = np.maximum(bins // np.maximum(rest, 1), 1)
    upto = values[np.newaxis]
    dealt = np.minimum(upto // step + 1, rest)
    found: I64 = np.cumsum(kept, axis=1) + (upto + 1) * each + dealt
    return found
