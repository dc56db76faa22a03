"""What the network says of a frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]

__all__ = ["Maps"]


@dataclass(frozen=True, eq=False)
class Maps:
    """The prediction for a frame, in its own pixels.

    Attributes:
        cell: (Z, Y, X) float32, probability 0..1 that a voxel belongs to a cell.
        centre: (Z, Y, X) float32, 0..1, high near centres of cells; None where they were not learned.
    """

    cell: F32
    centre: F32 | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(Z, Y, X)."""
        return self.cell.shape
