"""Local contrast within limits (CLAHE; Pizer et al. 1987) of intensities 0..1, the same for every type of file."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]

__all__ = ["BINS", "local_contrast"]

BINS = 256  # of a histogram over 0..1


def local_contrast(image: F32, tiles: Sequence[int], clip: float) -> F32:
    """Equalise the contrast tile by tile; the mapping of a pixel is interpolated between those of the tiles around it.

    The range is 0..1 for every image, not that of its own values, so that an image without cells stays dark.

    Args:
        image: (*S), 0..1.
        tiles: How many along each axis; never more than pixels.
        clip: No bin of a tile's histogram counts more than so many times the mean of all bins (and one pixel at least); what is cut
            off is shared among all.

    Returns:
        float32 (*S), 0..1.
    """
    count = [min(k, n) for k, n in zip(tiles, image.shape, strict=True)]
    level = np.minimum((image * np.float32(BINS)).astype(np.int64), BINS - 1)
    table = _mapping(level, count, clip)
    around = [_between(n, k) for n, k in zip(image.shape, count, strict=True)]
    step = [math.prod(count[axis + 1 :]) * BINS for axis in range(image.ndim)]
    for axis, (before, _) in enumerate(around):
        level += _along(before * step[axis], axis, image.ndim)
    result = np.zeros(image.shape, dtype=np.float32)
    part = np.empty(image.shape, dtype=np.float32)
    for corner in itertools.product((0, 1), repeat=image.ndim):
        if any(c and k == 1 for c, k in zip(corner, count, strict=True)):
            continue  # one tile alone has no second one
        first = sum(s for c, s in zip(corner, step, strict=True) if c)
        np.take(table[first:], level, out=part, mode="clip")
        for axis, (c, (_, share)) in enumerate(zip(corner, around, strict=True)):
            part *= _along(share if c else 1 - share, axis, image.ndim)
        result += part
    return result


def _mapping(level: I64, count: Sequence[int], clip: float) -> F32:
    """What each level of each tile becomes: the middle of its step in the sum of the clipped histogram. (tiles * BINS) in order."""
    number: I64 = np.zeros((1,) * level.ndim, dtype=np.int64)
    for axis, (k, n) in enumerate(zip(count, level.shape, strict=True)):
        number = number * k + _along(np.arange(n) * k // n, axis, level.ndim)
    histogram = np.bincount((number * BINS + level).ravel(), minlength=math.prod(count) * BINS).reshape(-1, BINS)
    total = histogram.sum(axis=1, keepdims=True)
    cut = np.minimum(histogram, np.maximum(clip / BINS * total, 1.0))
    cut += (total - cut.sum(axis=1, keepdims=True)) / BINS
    found: F32 = ((np.cumsum(cut, axis=1) - cut / 2) / total).astype(np.float32).reshape(-1)
    return found


def _between(n: int, tiles: int) -> tuple[I64, F32]:
    """Return, for each pixel of an axis, the tile before it, and the share of the tile after that."""
    place = np.clip((np.arange(n) + 0.5) * tiles / n - 0.5, 0, tiles - 1)
    before = np.minimum(place.astype(np.int64), max(tiles - 2, 0))
    return before, (place - before).astype(np.float32)


def _along(values: npt.NDArray[Any], axis: int, ndim: int) -> npt.NDArray[Any]:
    """Give values of one axis the shape that broadcasts along it."""
    return values.reshape([-1 if a == axis else 1 for a in range(ndim)])
