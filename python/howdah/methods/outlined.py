"""The table of the cells of a label image: number, size and box of each, for images with any numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

I64 = npt.NDArray[np.int64]

__all__ = ["Outlined", "outlined"]


@dataclass(frozen=True, eq=False)
class Outlined:
    """The N cells of a label image (*S) with D axes, in the order of their numbers.

    Attributes:
        rows: (*S) 1..N, 0 = no cell: the image with numbers without gaps.
        number: (N,) of each cell in the image. size: (N,) pixels.
        low, high: (N, D) first pixel of the box around it, and the one after its last.
    """

    rows: I64
    number: I64
    size: I64
    low: I64
    high: I64

    def __len__(self) -> int:
        return len(self.number)


def outlined(labels: npt.NDArray[Any]) -> Outlined:
    """Measure the cells of a label image (*S) of integers from 0, 0 = no cell."""
    values, place = np.unique(labels, return_inverse=True)
    rows = (place.reshape(labels.shape) + (1 if values[0] else 0)).astype(np.int64, copy=False)
    number = values[values > 0].astype(np.int64)
    boxes = [box for box in ndimage.find_objects(rows) if box is not None]
    low = [[axis.start for axis in box] for box in boxes]
    high = [[axis.stop for axis in box] for box in boxes]
    return Outlined(
        rows,
        number,
        np.bincount(rows.ravel(), minlength=len(number) + 1)[1:].astype(np.int64),
        np.array(low, dtype=np.int64).reshape(-1, labels.ndim),
        np.array(high, dtype=np.int64).reshape(-1, labels.ndim),
    )
