"""Parts of cells in neighbouring planes become cells of a volume; planes come one by one, and only two are in memory.

Two parts in neighbouring planes can be of one cell if they share at least ``overlap`` of their joint area (intersection over union).
Among these pairs, parts are matched one to one such that the sum of these shares is largest. So a part continues in at most one
part of the next plane, and a false part that lies on two neighbours does not make one cell of them.

Where a cell ends, its parts shrink quickly, above all in thick planes. Such a cap, less in all than the part that it lies on,
joins it at last, if it lies on it with half of its area, and nothing else continues that part there. A cap joins one cell only.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from howdah.errors import DataError
from howdah.linking.assignment import Edges, assign

F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]

__all__ = ["Stitcher"]

LIES_ON = 0.5  # of a cap's part, on the part beside it


class _Pairs(NamedTuple):
    """Provisional labels of two planes that belong together, (K, 2), and that may: (C, 2), with the share of the smaller part."""

    sure: I64
    caps: I64
    share: F64


class Stitcher:
    """Gives the parts of each plane a provisional label of their own, and at last a table from them to the cells.

    Args:
        overlap: Least share of their joint area that two parts of a cell have in common, 0 to 1; they must touch in any case.
    """

    def __init__(self, *, overlap: float) -> None:
        self.overlap = overlap
        self.n_parts = 0
        self._before: I32 | None = None
        self._pairs: list[_Pairs] = []
        self._sizes: list[I64] = [np.zeros(1, dtype=np.int64)]

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
        n = int(labels.max(initial=0))
        self.n_parts += n
        self._sizes.append(np.bincount(labels.reshape(-1), minlength=n + 1)[1:])
        self._before = numbered
        return numbered

    def skip(self) -> None:
        """Say that planes were left out: no part before continues after."""
        self._before = None

    def table(self) -> I32:
        """Return (M + 1,) int32: the cell 1..K of each provisional label 1..M, in order of their first parts; 0 for 0."""
        none = _Pairs(np.empty((0, 2), np.int64), np.empty((0, 2), np.int64), np.empty(0))
        sure, caps, share = (np.concatenate(column) for column in zip(none, *self._pairs, strict=True))
        size = np.concatenate(self._sizes)
        chain = _components(sure, len(size))
        whole = np.bincount(chain, size)
        small = np.where(size[caps[:, 0]] <= size[caps[:, 1]], 0, 1)
        rows = np.arange(len(caps))
        cap, on = chain[caps[rows, small]], caps[rows, 1 - small]
        fits = np.flatnonzero((whole[cap] < size[on]) & (cap != chain[on]))
        fits = fits[np.argsort(-share[fits], kind="stable")]
        _, first = np.unique(cap[fits], return_index=True)  # each cap once, where it lies best
        cell = _components(np.concatenate([sure, caps[fits[first]]]), len(size))
        _, first, place = np.unique(cell, return_index=True, return_inverse=True)  # 0 is alone and comes first
        rank = np.argsort(np.argsort(first))
        table: I32 = rank[place.reshape(-1)].astype(np.int32)
        return table


def _components(pairs: I64, n: int) -> I64:
    links = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    return np.asarray(connected_components(links, directed=False)[1], dtype=np.int64)


def _matched(before: I32, after: I32, overlap: float) -> _Pairs:
    """Match the labels of two planes, each label at most once."""
    both = (before > 0) & (after > 0)
    if not both.any():
        return _Pairs(np.empty((0, 2), np.int64), np.empty((0, 2), np.int64), np.empty(0))
    first_a, first_b = int(before[before > 0].min()), int(after[after > 0].min())
    size_a, size_b = np.bincount(before[before > 0] - first_a), np.bincount(after[after > 0] - first_b)
    key = (before[both].astype(np.int64) - first_a) * len(size_b) + (after[both] - first_b)
    pair, shared = np.unique(key, return_counts=True)
    a, b = np.divmod(pair, len(size_b))
    share = shared / np.minimum(size_a[a], size_b[b])
    iou = shared / (size_a[a] + size_b[b] - shared)

    order = np.lexsort((a, b))
    order = order[iou[order] >= overlap]
    edges = Edges(b[order], a[order], 1.0 - iou[order])
    parent = assign(edges, len(size_b), len(size_a), no_parent_cost=1.0)
    child = np.flatnonzero(parent >= 0)
    sure = np.stack([parent[child] + first_a, child + first_b], axis=1)

    ends = np.ones(len(size_a), dtype=bool)
    ends[parent[child]] = False
    loose = (share >= LIES_ON) & ends[a] & (parent[b] < 0)
    return _Pairs(sure, np.stack([a[loose] + first_a, b[loose] + first_b], axis=1), share[loose])
