"""A frame as a network sees it: intensity 0..1 between two percentiles; training and prediction alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from howdah.errors import DataError

F32 = npt.NDArray[np.float32]

__all__ = ["normalised"]

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
    if low == high:
        return np.zeros(frame.shape, dtype=np.float32)
    wide = frame.astype(np.float32) if _short(frame) else frame.astype(np.float64)  # large integers: first subtract
    wide -= wide.dtype.type(low)
    wide /= wide.dtype.type(high - low)
    return np.clip(wide, 0, 1, out=wide).astype(np.float32, copy=False)


def _percentiles(frame: npt.NDArray[Any], percentiles: tuple[float, float]) -> tuple[float, float]:
    """Percentiles, linear between values, as numpy's; of small integers from their counts, which is ten times as fast."""
    if frame.dtype.kind != "u" or np.iinfo(frame.dtype).max >= FEW:
        if frame.dtype.kind == "f" and not _finite(frame):
            return float("nan"), float("nan")
        low, high = np.percentile(frame, percentiles)
        return float(low), float(high)
    upto = np.cumsum(np.bincount(frame.reshape(-1)))
    place = np.asarray(percentiles) / 100 * (frame.size - 1)
    below = np.searchsorted(upto, np.floor(place), side="right")
    above = np.searchsorted(upto, np.ceil(place), side="right")
    low, high = below + (above - below) * (place - np.floor(place))
    return float(low), float(high)


def _finite(frame: npt.NDArray[Any]) -> bool:
    return frame.dtype.kind != "f" or bool(np.isfinite(frame.min()) and np.isfinite(frame.max()))


def _short(frame: npt.NDArray[Any]) -> bool:
    """Whether float32 holds the values as they are."""
    return frame.dtype.itemsize <= 2 or frame.dtype == np.float32
