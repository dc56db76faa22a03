"""Lineage trees as columns: who descends from whom, found for all spots at once.

A spot's ancestor is looked up by pointer jumping: each spot points to its parent, then to its grandparent, then four
generations up ..., so a movie of 1000 frames takes ten passes over the column and no walk along any track.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from bdv_io.tracks import Tracks

I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

__all__ = ["Forest", "grow"]


@dataclass(frozen=True, eq=False)
class Forest:
    """The trees of an annotation. A link that does not run forward in time is left out; of several parents the first link's
    counts, so that every spot is in one tree.

    Attributes:
        t: (N,) int32, frame of each spot.
        parent: (N,) int64, row of the parent; of a root its own row.
        n_children: (N,) int64, links to later frames; two and more are a division.
    """

    t: npt.NDArray[np.int32]
    parent: I64
    n_children: I64

    @cached_property
    def is_root(self) -> Bool:
        """(N,) whether a spot has no parent."""
        mask: Bool = self.parent == np.arange(len(self.parent))
        return mask

    @property
    def divides(self) -> Bool:
        """(N,) whether a spot is the last one of a mother."""
        mask: Bool = self.n_children > 1
        return mask

    @property
    def is_leaf(self) -> Bool:
        """(N,) whether a spot has no child."""
        mask: Bool = self.n_children == 0
        return mask

    @cached_property
    def root(self) -> I64:
        """(N,) row of the root of each spot's tree."""
        return _top(self.parent)

    def roots_of(self, frame: int | None = None) -> I64:
        """Rows of the roots of a frame; None is the first frame that has spots."""
        first = (int(self.t.min()) if len(self.t) else 0) if frame is None else frame
        return np.flatnonzero(self.is_root & (self.t == first))

    def founder(self, rows: npt.ArrayLike) -> I64:
        """(N,) row of the nearest ancestor (or the spot itself) among ``rows``, or -1 if it has none there."""
        chosen = np.zeros(len(self.parent), dtype=bool)
        chosen[np.asarray(rows, dtype=np.intp)] = True
        above = _top(np.where(chosen, np.arange(len(self.parent)), self.parent))
        return np.where(chosen[above], above, -1)

    @cached_property
    def cell(self) -> I64:
        """(N,) row of the first spot of each spot's cell: a cell begins at a root or as a daughter, and ends as a mother."""
        begins = self.is_root | self.divides[self.parent]
        return _top(np.where(begins, np.arange(len(self.parent)), self.parent))

    @cached_property
    def cell_end(self) -> I64:
        """(N,) row of the last spot of each spot's cell."""
        goes_on = np.zeros(len(self.parent), dtype=bool)
        follower = np.flatnonzero(self.cell != np.arange(len(self.cell)))
        goes_on[self.parent[follower]] = True
        last = np.flatnonzero(~goes_on)
        end = np.full(len(self.parent), -1, dtype=np.int64)
        end[self.cell[last]] = last
        return end[self.cell]

    def sizes(self) -> I64:
        """(N,) number of spots of each tree, at the row of its root; 0 elsewhere."""
        return np.bincount(self.root, minlength=len(self.parent))


def grow(tracks: Tracks) -> Forest:
    """Return the trees of an annotation."""
    source, target = tracks.links.T
    forward = tracks.t[target] > tracks.t[source]
    source, target = source[forward], target[forward]
    parent = np.arange(tracks.n_spots, dtype=np.int64)
    parent[target[::-1]] = source[::-1]  # of several parents the first is written last
    return Forest(tracks.t, parent, np.bincount(source, minlength=tracks.n_spots).astype(np.int64))


def _top(pointer: I64) -> I64:
    """Follow pointers until they point to themselves; they run backward in time, so they do."""
    while True:
        further = pointer[pointer]
        if np.array_equal(further, pointer):
            return pointer
        pointer = further
