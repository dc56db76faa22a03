"""Divisions that are right as a whole: mother and daughters, early or late by some frames; the rules of traccuracy.

A division is found if its mother is, and both daughters are linked to her. Within a tolerance a division may be shifted: the
earlier mother must be matched to the ancestor of the later one in her own frame, and each of her daughters must lead, before the
next division, to a cell whose partner descends from that ancestor.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bdv_io.tracks import Tracks
from howdah.metrics.matching import UNMATCHED, Matching, cheapest_pairs
from howdah.metrics.tracking import Verdicts

I64 = npt.NDArray[np.int64]

__all__ = ["whole_divisions"]


def whole_divisions(
    truth: Tracks, predicted: Tracks, pairs: Matching, *, frame_tolerance: int = 0, sparse: bool = False
) -> Verdicts:
    """Judge each division, in the order of :meth:`Tracks.divisions`.

    Args:
        truth: The true annotation.
        predicted: The result.
        pairs: How their spots were matched.
        frame_tolerance: Frames that a division may be early or late.
        sparse: Only a division at a true spot that has a child is false.
    """
    true, made = truth.divisions(), predicted.divisions()
    mine, theirs = _Side(truth, pairs.predicted_of), _Side(predicted, pairs.truth_of)
    mothers = {int(mother): place for place, mother in enumerate(made.tolist())}
    found: list[tuple[int, int, int]] = []
    late = {} if not frame_tolerance else _late(mine, theirs, made.tolist(), frame_tolerance)
    for place, mother in enumerate(true.tolist()):
        partner = int(mine.partner[mother])
        if partner in mothers and _same(mine, theirs, mother, partner):
            found.append((place, mothers[partner], 0))
        for steps, ancestor in enumerate(mine.ancestors(mother, frame_tolerance), start=1):
            early = int(mine.partner[ancestor])
            if early in mothers and _leads(theirs, mine, early, ancestor):
                found.append((place, mothers[early], steps))
        for row, steps, ancestor in late.get(mother, ()):
            if _leads(mine, theirs, mother, ancestor):
                found.append((place, row, steps))
    rows, columns, cost = (
        (np.array(column, np.int64) for column in zip(*found, strict=True)) if found else [np.empty(0, np.int64)] * 3
    )
    chosen = cheapest_pairs(rows, columns, cost.astype(np.float64), shape=(len(true), len(made)))
    right, seen = np.zeros(len(made), dtype=bool), np.zeros(len(true), dtype=bool)
    right[columns[chosen]], seen[rows[chosen]] = True, True
    false = ~right
    if sparse:
        place_of = pairs.truth_of[made]
        false &= (place_of != UNMATCHED) & (truth.n_children()[place_of] > 0) if truth.n_spots else False
    return Verdicts(right, false, seen)


class _Side:
    """Links of an annotation to be walked along, and the partner of each spot in the other one."""

    def __init__(self, tracks: Tracks, partner: I64) -> None:
        self.partner = partner
        self.t = tracks.t
        self._parent = np.full(tracks.n_spots, UNMATCHED, dtype=np.int64)
        self._parent[tracks.links[::-1, 1]] = tracks.links[::-1, 0]
        order = np.argsort(tracks.links[:, 0], kind="stable")
        self._target = tracks.links[order, 1]
        self._first = np.searchsorted(tracks.links[order, 0], np.arange(tracks.n_spots + 1))

    def children(self, spot: int) -> list[int]:
        """Rows of the children."""
        return list(self._target[self._first[spot] : self._first[spot + 1]].tolist())

    def ancestors(self, spot: int, n: int) -> list[int]:
        """The parent, her parent, and so on, ``n`` at most."""
        found: list[int] = []
        while len(found) < n and (spot := int(self._parent[spot])) != UNMATCHED:
            found.append(spot)
        return found

    def descends(self, spot: int, ancestor: int) -> bool:
        """Whether a spot is the ancestor or comes from it."""
        while spot != ancestor and spot != UNMATCHED and self.t[spot] > self.t[ancestor]:
            spot = int(self._parent[spot])
        return spot == ancestor


def _late(mine: _Side, theirs: _Side, made: list[int], tolerance: int) -> dict[int, list[tuple[int, int, int]]]:
    """Of each true spot the divisions of the result whose ancestor is its partner: their place, the steps, the ancestor."""
    found: dict[int, list[tuple[int, int, int]]] = {}
    for place, mother in enumerate(made):
        for steps, ancestor in enumerate(theirs.ancestors(mother, tolerance), start=1):
            if (spot := int(theirs.partner[ancestor])) != UNMATCHED:
                found.setdefault(spot, []).append((place, steps, ancestor))
    return found


def _same(mine: _Side, theirs: _Side, mother: int, partner: int) -> bool:
    """Whether every true daughter is a daughter in the result."""
    children = theirs.children(partner)
    return all(int(mine.partner[child]) in children for child in mine.children(mother))


def _leads(early: _Side, late: _Side, mother: int, ancestor: int) -> bool:
    """Whether each daughter of the early mother leads to a cell whose partner descends from the late one's ancestor."""
    for daughter in early.children(mother):
        line, found = [daughter], False
        while len(line) == 1 and not found:
            partner = int(early.partner[line[0]])
            found = partner != UNMATCHED and late.descends(partner, ancestor)
            line = early.children(line[0])
        if not found:
            return False
    return True
