"""The self-check of images: an answer that only somebody who saw every voxel can give, at the speed of the memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

__all__ = ["Seen", "answered", "seen"]

BLOCK = 1 << 18  # voxels that stay in the processor's cache between two steps
BELOW, ABOVE = np.uint8(0), np.uint8(255)

Seen = tuple[Any, Any, Any]
"""Least value, greatest value, sum: whole numbers of an image of whole numbers."""


def seen(data: npt.NDArray[Any]) -> Seen:
    """Return the least value, the greatest value and the sum of an image that is not empty.

    Args:
        data: Numbers, any axes. Whole numbers are summed in 64 bits, others as float64.
    """
    total = {"u": np.uint64, "i": np.int64, "f": np.float64}[data.dtype.kind]
    parts = [(part.min(), part.max(), part.sum(dtype=total)) for part, _ in _pairs(data, data)]
    lows, highs, sums = (np.asarray(values) for values in zip(*parts, strict=True))
    return lows.min(), highs.max(), sums.sum()


def answered(data: npt.NDArray[Any], what: Literal["inverse", "threshold"], found: Seen) -> npt.NDArray[Any]:
    """Return the image that goes back, of the same shape: max + min - value in the same type, or uint8, 255 where above the mean.

    Args:
        data: As for :func:`seen`.
        what: Which of the two.
        found: What :func:`seen` returned.
    """
    low, high, total = found
    if what == "inverse":
        answer = np.empty(data.shape, data.dtype)
        for part, into in _pairs(data, answer):
            np.subtract(high, part, out=into)
            np.add(into, low, out=into)
        return answer
    mean = float(total) / data.size
    if (
        data.dtype.kind in "ui"
    ):  # above the mean is above the whole number below it; in the image's own type that is faster
        level = data.dtype.type(int(np.floor(mean)))
    else:
        level = np.float64(mean)
    answer = np.empty(data.shape, np.uint8)
    for part, into in _pairs(data, answer):
        np.greater(part, level, out=into.view(np.bool_))
        np.negative(into, out=into)  # 1 becomes 255
    return answer


def _pairs(data: npt.NDArray[Any], other: npt.NDArray[Any]) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """Cut two arrays of one shape into parts, views of them, at the same places."""
    if not (data.flags.c_contiguous and other.flags.c_contiguous):
        yield from zip(data, other, strict=True)
        return
    flat, beside = data.reshape(-1), other.reshape(-1)
    for start in range(0, flat.size, BLOCK):
        yield flat[start : start + BLOCK], beside[start : start + BLOCK]
