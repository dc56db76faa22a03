"""What the network says of one frame, as arrays: the input of clustering and linking."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]

__all__ = ["Fields"]


@dataclass(frozen=True, eq=False)
class Fields:
    """Predictions of one frame. S is (Y, X) or (Z, Y, X), D their number, axes in this order; coordinates normalised.

    Attributes:
        offset: (D, *S), from each pixel to the centre of its cell: e = p + offset; after tanh.
        bandwidth: (D, *S), s in 0..1, after the sigmoid; the multiplier of squared distances is exp(scale * s).
        seediness: (*S), 0..1, after the sigmoid.
        tracking: (D, *S) after tanh; the centre one frame earlier is p - tracking. None in the first frame.
        unit: Length of a pixel along each axis, normalised: p = index * unit.
    """

    offset: F32
    bandwidth: F32
    seediness: F32
    tracking: F32 | None
    unit: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Pixels (Y, X) or voxels (Z, Y, X)."""
        return self.seediness.shape
