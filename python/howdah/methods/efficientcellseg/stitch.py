"""Parts of cells in neighbouring planes become cells of a volume; planes come one by one, and only two are in memory."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]

__all__ = ["Stitcher"]


class Stitcher:
    """Gives the parts of each plane a provisional label of their own, and at last a table from them to the cells."""

    def __init__(self, *, overlap: float) -> None:
        raise NotImplementedError

    def add(self, labels: I32) -> I32:
        """Take the next plane (Y, X), labels 1..N without gaps, and return it with provisional labels, 1..M over all planes."""
        raise NotImplementedError

    def table(self) -> I32:
        """Return (M + 1,) int32: the cell 1..K of each provisional label, 0 for the background."""
        raise NotImplementedError
