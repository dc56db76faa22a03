"""A frame as a network sees it: intensity 0..1 between two percentiles; training and prediction alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from howdah.errors import DataError

F32 = npt.NDArray[np.float32]

__all__ = ["between", "limits", "limits_of_planes", "normalised"]

FEW = 2**16  # values of a type that are counted rather than sorted


def normalised(frame: npt.NDArray[Any], percentiles: tuple[float, float], *, time: int | None = None) -> F32:
    """Bring a frame to 0..1 between two of its percentiles, clipped.

    Where the two percentiles are one value (few bright pixels on an even background), its minimum and maximum take their place; a
    frame of one value becomes 0.

    Args:
        frame: Any shape, any real type, finite.
        percentiles: What becomes 0 and what becomes 1, 0..100.
        time: Number of the frame, for the sentence of an error.

    Returns:
        float32 of the same shape.

    Raises:
        DataError: The frame is empty, complex, or holds NaN or infinite values.
    """
    return between(frame, *limits(frame, percentiles, time=time))


def limits(
    frame: npt.NDArray[Any], percentiles: tuple[float, float], *, time: int | None = None
) -> tuple[float, float]:
    """Return what becomes 0 and what becomes 1; see :func:`normalised`."""
    name = "the frame" if time is None else f"frame {time}"
    if frame.size == 0 or frame.dtype.kind not in "buif":
        raise DataError(
            f"Normalising {name} failed: it has shape {frame.shape} and type {frame.dtype}; numbers are needed, at least one."
        )
    low, high = _percentiles(frame, percentiles)
    if not (np.isfinite(low) and np.isfinite(high) and _finite(frame)):
        raise DataError(
            f"Normalising {name} failed: it holds values that are no numbers (NaN or infinite). "
            "Replace them in the image, by 0 for example."
        )
    if low == high:
        low, high = float(frame.min()), float(frame.max())
    return low, high


def between(frame: npt.NDArray[Any], low: float, high: float) -> F32:
    """Bring numbers to 0..1 between two of them, clipped; float32 of the same shape, 0 where the two are one."""
    if low == high:
        return np.zeros(frame.shape, dtype=np.float32)
    wide = frame.astype(np.float32) if _short(frame) else frame.astype(np.float64)  # large integers: first subtract
    wide -= wide.dtype.type(low)
    wide /= wide.dtype.type(high - low)
    return np.clip(wide, 0, 1, out=wide).astype(np.float32, copy=False)


def limits_of_planes(
    read_plane: Callable[[int], npt.NDArray[Any]],
    planes: int,
    percentiles: tuple[float, float],
    *,
    time: int | None = None,
) -> tuple[float, float]:
    """Return what becomes 0 and what becomes 1 in a volume of which one plane at a time is in memory; see :func:`limits`.

    8 and 16 bit without sign are counted in one pass, and the result is that of :func:`limits`. Other types are counted in four
    passes, in ever finer steps; the result is off by a billionth of the range, or by the distance of a value to the next.

    Args:
        read_plane: Reads a plane (Y, X) by its number.
        planes: How many, at least one.
        percentiles: 0..100.
        time: Number of the frame, for the sentence of an error.
    """
    first = read_plane(0)
    if first.dtype == np.bool_ or (first.dtype.kind == "u" and first.dtype.itemsize <= 2):
        counts = np.zeros(FEW, dtype=np.int64)
        for z in range(planes):
            counts += np.bincount(_numbers(read_plane(z)).reshape(-1), minlength=FEW)
        present = np.flatnonzero(counts)
        low, high = _of_counts(counts, percentiles)
        return (low, high) if low != high else (float(present[0]), float(present[-1]))
    ends = np.array([limits(read_plane(z), (0.0, 100.0), time=time) for z in range(planes)])
    least, most = float(ends[:, 0].min()), float(ends[:, 1].max())
    low, high = (_refined(read_plane, planes, p / 100, (least, most)) for p in percentiles)
    return (low, high) if low != high else (least, most)


def _refined(
    read_plane: Callable[[int], npt.NDArray[Any]], planes: int, share: float, within: tuple[float, float]
) -> float:
    """Find the value below which a share of a volume lies, in two passes of 65536 steps."""
    low, high = within
    for _ in range(2):
        if not low < high:
            break
        counts = np.zeros(FEW + 1, dtype=np.int64)  # of values below; then of each step
        for z in range(planes):
            step = np.floor((read_plane(z).reshape(-1).astype(np.float64) - low) * (FEW / (high - low)))
            counts += np.bincount(np.clip(step, -1, FEW - 1).astype(np.int64) + 1, minlength=FEW + 1)
        upto = np.cumsum(counts)
        chosen = max(int(np.flatnonzero(upto > share * (upto[-1] - 1))[0]) - 1, 0)
        width = (high - low) / FEW
        low, high = low + chosen * width, low + (chosen + 1) * width
    return low


def _of_counts(counts: npt.NDArray[np.int64], percentiles: tuple[float, float]) -> tuple[float, float]:
    """Percentiles of numbers 0, 1, ... that occur so often, linear between values."""
    upto = np.cumsum(counts)
    place = np.asarray(percentiles) / 100 * (upto[-1] - 1)
    below = np.searchsorted(upto, np.floor(place), side="right")
    above = np.searchsorted(upto, np.ceil(place), side="right")
    low, high = below + (above - below) * (place - np.floor(place))
    return float(low), float(high)


def _percentiles(frame: npt.NDArray[Any], percentiles: tuple[float, float]) -> tuple[float, float]:
    """Percentiles, linear between values, as numpy's; of small integers from their counts, which is ten times as fast."""
    frame = _numbers(frame)
    if frame.dtype.kind != "u" or np.iinfo(frame.dtype).max >= FEW:
        if frame.dtype.kind == "f" and not _finite(frame):
            return float("nan"), float("nan")
        low, high = np.percentile(frame, percentiles)
        return float(low), float(high)
    return _of_counts(np.bincount(frame.reshape(-1)), percentiles)


def _numbers(frame: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an image of one bit as 0 and 1, others as they are."""
    return frame.view(np.uint8) if frame.dtype == np.bool_ else frame


def _finite(frame: npt.NDArray[Any]) -> bool:
    return frame.dtype.kind != "f" or bool(np.isfinite(frame.min()) and np.isfinite(frame.max()))


def _short(frame: npt.NDArray[Any]) -> bool:
    """Whether float32 holds the values as they are."""
    return frame.dtype.itemsize <= 2 or frame.dtype == np.float32
