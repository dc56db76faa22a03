"""What the Cell Tracking Challenge asks of a frame's cells: the field of interest. Track numbers and holes are the format's affair."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Bool = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.integer[Any]]

__all__ = ["inside_field"]


def inside_field(labels: Labels, border: int) -> Bool:
    """Return which cells lie in the field of interest: (N,), at least one pixel is ``border`` pixels or more from the edge.

    Args:
        labels: (*S) labels 1..N of a frame. In 3D the edges in z do not count, as in the challenge.
        border: The challenge's number for the data set, 0, 25 or 50 pixels.
    """
    inner = labels[..., border : max(labels.shape[-2] - border, 0), border : max(labels.shape[-1] - border, 0)]
    return np.bincount(inner.reshape(-1), minlength=int(labels.max(initial=0)) + 1)[1:] > 0
