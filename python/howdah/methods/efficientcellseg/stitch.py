"""Parts of cells in neighbouring planes become cells of a volume; planes come one by one, and only two are in memory.

Two parts in neighbouring planes can be of one cell if they share at least ``overlap`` of their joint area (intersection over union).
Among these pairs, parts are matched one to one such that the sum of these shares is largest. So a part continues in at most one part of the
next plane, and a false part that lies on two neighbours does not make one cell of them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from howdah.errors import DataError
from howdah.linking.assignment import Edges, assign

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]

__all__ = ["Stitcher"]


class Stitcher:
    """Gives the parts of each plane a provisional label of their own, and at last a table from them to the cells.

    Args:
        overlap: Least share of their joint area that two parts of a cell have in common, 0 to 1; they must touch in any case.
    """

    def __init__(self, *, overlap: float) -> None:
        self.overlap = overlap
        self.n_parts = 0
        self._before: I32 | None = None
        self._pairs: list[I64] = []

    def add(self, labels: I32) -> I32:
        """Take the next plane and return it with provisional labels, which grow over the planes.

        Args:
            labels: (Y, X) int32, parts 1..N without gaps; 0 background.

        Raises:
            DataError: The plane has another size than the one before.
        """
        if self._before is not None and self._before.shape != labels.shape:
            raise DataError(
                f"Joining planes failed: a plane of {labels.shape[0]} x {labels.shape[1]} pixels follows one of "
                f"{self._before.shape[0]} x {self._before.shape[1]}; all planes of a volume must be equal."
            )
        numbered: I32 = np.where(labels > 0, labels + np.int32(self.n_parts), np.int32(0)).astype(np.int32)
        if self._before is not None:
            self._pairs.append(_matched(self._before, numbered, self.overlap))
        self.n_parts += int(labels.max(initial=0))
        self._before = numbered
        return numbered

    def skip(self) -> None:
        """Say that planes were left out: no part before continues after."""
        self._before = None

    def table(self) -> I32:
        """Return (M + 1,) int32: the cell 1..K of each provisional label 1..M, in order of their first parts; 0 for 0."""
        pairs = np.concatenate([np.empty((0, 2), np.int64), *self._pairs])
        n = self.n_parts + 1
        links = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
        _, cell = connected_components(links, directed=False)
        _, first, place = np.unique(cell, return_index=True, return_inverse=True)  # 0 is alone and comes first
        rank = np.argsort(np.argsort(first))
        table: I32 = rank[place.reshape(-1)].astype(np.int32)
        return table


def _matched(before: I32, after: I32, overlap: float) -> I64:
    """Return (K, 2) pairs of labels of two planes, each label at most once."""
    none = np.empty((0, 2), dtype=np.int64)
    low_a, low_b = (int(plane.max(initial=0)) for plane in (before, after))
    both = (before > 0) & (after > 0)
    if not both.any():
        return none
    a, b = before[both].astype(np.int64), after[both].astype(np.int64)
    first_a, first_b = int(before[before > 0].min()), int(after[after > 0].min())
    size_a = np.bincount(before[before > 0] - first_a)
    size_b = np.bincount(after[after > 0] - first_b)
    key, shared = np.unique((a - first_a) * (low_b - first_b + 1) + (b - first_b), return_counts=True)
    row_a, row_b = np.divmod(key, low_b - first_b + 1)
    of_a, of_b = size_a[row_a], size_b[row_b]
    good = shared >= overlap * (of_a + of_b - shared)
    row_a, row_b, shared, of_a, of_b = (column[good] for column in (row_a, row_b, shared, of_a, of_b))
    if not len(row_a):
        return none
    iou = shared / (of_a + of_b - shared)
    order = np.lexsort((row_a, row_b))
    edges = Edges(row_b[order], row_a[order], 1.0 - iou[order])
    parent = assign(edges, low_b - first_b + 1, low_a - first_a + 1, no_parent_cost=1.0)
    child = np.flatnonzero(parent >= 0)
    return np.stack([parent[child] + first_a, child + first_b], axis=1)
