"""Cells as the Cell Tracking Challenge sees them: a number in a frame, a table of tracks, and which result covers which true cell."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Bool = npt.NDArray[np.bool_]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = ["NOBODY", "Cells", "Cover", "Edges"]

NOBODY = -1
LABEL, BEGIN, END, PARENT = range(4)


class Edges(NamedTuple):
    """Links between cells.

    Attributes:
        source: (E,) row of the earlier cell. target: (E,) row of the later one.
        parental: (E,) whether it goes from a track to its child, not along a track.
    """

    source: I64
    target: I64
    parental: Bool


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells of a movie.

    Attributes:
        t: (N,) int64, frame of each cell.
        label: (N,) int64, number of its track, above 0; unique in a frame.
        table: (K, 4) int64, tracks: number, first frame, last frame, number of the parent (0: none).
        n_frames: Frames of the movie.
    """

    t: I64
    label: I64
    table: I64
    n_frames: int

    def __len__(self) -> int:
        """Return the number of cells."""
        return len(self.t)

    @cached_property
    def _order(self) -> tuple[I64, I64]:
        key = self._key(self.label, self.t)
        order = np.argsort(key, kind="stable")
        return order, key[order]

    @cached_property
    def _stride(self) -> int:
        return max(self.n_frames, int(self.t.max(initial=0)) + 1) + 1

    def _key(self, label: I64, t: I64) -> I64:
        return np.asarray(label * self._stride + t, dtype=np.int64)

    def rows(self, label: npt.ArrayLike, t: npt.ArrayLike) -> I64:
        """Return the row of the cell with this number in this frame, for many; -1 where there is none."""
        wanted = self._key(np.asarray(label, np.int64), np.asarray(t, np.int64))
        order, key = self._order
        if not len(key):
            return np.full(wanted.shape, NOBODY, dtype=np.int64)
        at = np.searchsorted(key, wanted).clip(max=len(key) - 1)
        return np.where(key[at] == wanted, order[at], NOBODY)

    @cached_property
    def edges(self) -> Edges:
        """Links along tracks from a frame to the next, then from parents to children."""
        order, _ = self._order
        label, t = self.label[order], self.t[order]
        along = (label[1:] == label[:-1]) & (np.diff(t) == 1)
        born = self.table[self.table[:, PARENT] > 0]
        end = self.tracks_of(born[:, PARENT], END)
        source, target = self.rows(born[:, PARENT], end), self.rows(born[:, LABEL], born[:, BEGIN])
        known = (source != NOBODY) & (target != NOBODY)
        return Edges(
            np.concatenate([order[:-1][along], source[known]]),
            np.concatenate([order[1:][along], target[known]]),
            np.concatenate([np.zeros(int(along.sum()), bool), np.ones(int(known.sum()), bool)]),
        )

    def tracks_of(self, label: I64, column: int) -> I64:
        """Return a column of the table for some numbers; -1 for those that it does not have."""
        if not len(self.table):
            return np.full(len(label), NOBODY, dtype=np.int64)
        order = np.argsort(self.table[:, LABEL], kind="stable")
        names = self.table[order, LABEL]
        at = np.searchsorted(names, label).clip(max=len(names) - 1)
        return np.where(names[at] == label, self.table[order[at], column], NOBODY)

    def dividing(self) -> I64:
        """Return the numbers of tracks with two children or more, growing."""
        parent = self.table[self.table[:, PARENT] > 0, PARENT]
        name, count = np.unique(parent, return_counts=True)
        return np.asarray(name[count > 1], dtype=np.int64)

    @cached_property
    def daughters(self) -> dict[int, I64]:
        """Rows of the table (n, 4) of the children of each dividing track, by its number."""
        order = np.argsort(self.table[:, PARENT], kind="stable")
        parent, dividing = self.table[order, PARENT], self.dividing()
        first, last = np.searchsorted(parent, dividing), np.searchsorted(parent, dividing, side="right")
        return {
            name: self.table[order[a:b]]
            for name, a, b in zip(dividing.tolist(), first.tolist(), last.tolist(), strict=True)
        }

    def undivided(self) -> Cells:
        """Return the same cells with no division: children of one parent that has several have none."""
        table = self.table.copy()
        table[np.isin(table[:, PARENT], self.dividing()), PARENT] = 0
        return Cells(self.t, self.label, table, self.n_frames)

    def problems(self, who: str = "The result") -> list[str]:
        """Return why the challenge would call this invalid, a sentence a kind with the first case; empty if it is valid."""
        if not len(self.table):
            return [f"{who} holds no track."]
        label, begin, end, parent = self.table.T
        found: list[tuple[Bool, str]] = [
            (end < begin, "track {0} ends in frame {2}, before it begins in frame {1}"),
            ((parent > 0) & ~np.isin(parent, label), "track {0} has the parent {3}, which is no track"),
            (
                (parent > 0) & (self.tracks_of(parent, END) >= begin),
                "track {0} begins in frame {1}, but its parent {3} is still there then",
            ),
        ]
        sentences = [
            f"{who} is not valid: {text.format(*self.table[np.flatnonzero(wrong)[0]].tolist())}{_more(wrong)}."
            for wrong, text in found
            if wrong.any()
        ]
        first, last = self.tracks_of(self.label, BEGIN), self.tracks_of(self.label, END)
        stray = (first == NOBODY) | (self.t < first) | (self.t > last)
        if stray.any():
            row = int(np.flatnonzero(stray)[0])
            sentences.append(
                f"{who} is not valid: frame {self.t[row]} has a cell {self.label[row]}, which the table of tracks does not have "
                f"in that frame{_more(stray)}."
            )
        expected = np.repeat(label, np.maximum(end - begin + 1, 0))
        frame = np.concatenate([np.empty(0, np.int64), *(np.arange(b, e + 1) for b, e in zip(begin, end, strict=True))])
        absent = self.rows(expected, frame) == NOBODY
        if absent.any():
            at = int(np.flatnonzero(absent)[0])
            sentences.append(
                f"{who} is not valid: track {expected[at]} is said to be in frame {frame[at]}, but no cell there has this number"
                f"{_more(absent)}."
            )
        return sentences


def _more(wrong: Bool) -> str:
    n = int(wrong.sum()) - 1
    return f" ({n} more like it)" if n else ""


@dataclass(frozen=True, eq=False)
class Cover:
    """Which result cell covers more than half of each true cell, or is its partner.

    Attributes:
        truth: The true cells.
        found: The result's.
        by: (N,) row of the result cell for each true one, -1 if there is none. A result cell may cover several.
    """

    truth: Cells
    found: Cells
    by: I64

    @cached_property
    def number(self) -> I64:
        """(M,) how many true cells each result cell covers."""
        return np.bincount(self.by[self.by != NOBODY], minlength=len(self.found))

    @cached_property
    def label(self) -> I64:
        """(N,) number of the result's track on each true cell, 0 where there is none or it covers another true cell too."""
        label = np.zeros(len(self.truth), dtype=np.int64)
        there = np.flatnonzero(self.by != NOBODY)
        alone = there[self.number[self.by[there]] == 1]
        label[alone] = self.found.label[self.by[alone]]
        return label

    @cached_property
    def truth_of(self) -> I64:
        """(M,) row of the true cell that each result cell alone covers, -1 if it covers none or several."""
        covered = np.full(len(self.found), NOBODY, dtype=np.int64)
        there = np.flatnonzero(self.by != NOBODY)
        covered[self.by[there]] = there
        covered[self.number != 1] = NOBODY
        return covered
