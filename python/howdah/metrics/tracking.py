"""How good are links and divisions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bdv_io.tracks import Tracks
from howdah.metrics.counts import Counts
from howdah.metrics.detection import DetectionScore, score_detection
from howdah.metrics.matching import UNMATCHED, Matching, cheapest_pairs, match_spots

I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

__all__ = ["TrackingScore", "Verdicts", "division_verdicts", "link_verdicts", "score_tracking"]


@dataclass(frozen=True, eq=False)
class Verdicts:
    """Which things of a result are right, and which of the truth were found.

    Attributes:
        right: (M,) of the result: it is in the truth.
        false: (M,) of the result: it is wrong. What is neither is unknown, for the truth is sparse.
        found: (K,) of the truth: the result has it.
    """

    right: Bool
    false: Bool
    found: Bool

    @property
    def counts(self) -> Counts:
        """How many."""
        right, false = int(self.right.sum()), int(self.false.sum())
        return Counts(right, false, len(self.found) - int(self.found.sum()), len(self.right) - right - false)


@dataclass(frozen=True)
class TrackingScore:
    """Scores of a tracking.

    Attributes:
        detection: Scores of the spots.
        links: Links found, made up and missed. A link is found if both its ends are matched and joined.
        divisions: Divisions found, made up and missed.
        frame_tolerance: Frames by which a division may be early or late.
    """

    detection: DetectionScore
    links: Counts
    divisions: Counts
    frame_tolerance: int

    def to_dict(self) -> dict[str, float]:
        """Return all numbers by name: ``spot_precision``, ``link_recall``, ``division_f1`` and so on."""
        table: dict[str, float] = {}
        for part, numbers in (("spot", self.detection), ("link", self.links), ("division", self.divisions)):
            table |= {f"{part}_{name}": value for name, value in numbers.to_dict().items()}
        return {**table, "frame_tolerance": self.frame_tolerance}


def score_tracking(
    truth: Tracks,
    predicted: Tracks,
    *,
    max_distance: float,
    frame_tolerance: int = 0,
    sparse: bool = False,
    matching: Matching | None = None,
) -> TrackingScore:
    """Compare the spots, links and divisions of two annotations.

    Args:
        truth: The true annotation.
        predicted: The tracking to be judged, in the same unit.
        max_distance: Largest distance of the centres of matched spots, world units.
        frame_tolerance: Number of frames by which a predicted division may come before or after the true one, along
            the same cell (mother or daughters).
        sparse: The truth is not complete. Then a predicted link is false only if it contradicts: its target is a true
            spot that has another parent. A predicted division is false only at a true spot that has a child. All else
            that the truth does not have is unknown.
        matching: A matching of the two, if there is one already.

    Raises:
        DataError: The units differ or the distance is not positive.
    """
    pairs = match_spots(truth, predicted, max_distance=max_distance) if matching is None else matching
    return TrackingScore(
        detection=score_detection(truth, predicted, max_distance=max_distance, sparse=sparse, matching=pairs),
        links=link_verdicts(truth, predicted, pairs, sparse=sparse).counts,
        divisions=division_verdicts(truth, predicted, pairs, frame_tolerance=frame_tolerance, sparse=sparse).counts,
        frame_tolerance=frame_tolerance,
    )


def link_verdicts(truth: Tracks, predicted: Tracks, pairs: Matching, *, sparse: bool = False) -> Verdicts:
    """Judge each link; one is right if both its ends are matched, and their partners are linked.

    Args:
        truth: The true annotation.
        predicted: The result.
        pairs: How their spots were matched.
        sparse: Only a link whose target is a true spot with another parent is false.
    """
    as_truth = pairs.truth_of[predicted.links].reshape(-1, 2)
    known = (as_truth != UNMATCHED).all(axis=1)
    made, true = _keys(as_truth, truth.n_spots), _keys(truth.links, truth.n_spots)
    right = known & _member(made, true)
    false = ~right
    if sparse:
        target = as_truth[:, 1]
        false &= (target != UNMATCHED) & (truth.n_parents()[target] > 0) if truth.n_spots else False
    return Verdicts(right, false, _member(true, made[right]))


def division_verdicts(
    truth: Tracks, predicted: Tracks, pairs: Matching, *, frame_tolerance: int = 0, sparse: bool = False
) -> Verdicts:
    """Judge each division, in the order of :meth:`Tracks.divisions`; one is right if its mother is a true one, or the same cell
    at most ``frame_tolerance`` frames earlier or later.

    Args:
        truth: The true annotation.
        predicted: The result.
        pairs: How their spots were matched.
        frame_tolerance: Steps along the cell that a division may be early or late.
        sparse: Only a division at a true spot that has a child is false.
    """
    true, made = truth.divisions(), predicted.divisions()
    place = pairs.truth_of[made]  # the true spot that each predicted mother is
    at = np.full(truth.n_spots, UNMATCHED, dtype=np.int64)
    at[place[place != UNMATCHED]] = np.flatnonzero(place != UNMATCHED)
    graph = _Graph(truth) if frame_tolerance and len(made) else None
    rows, columns, costs = [], [], []
    for i, mother in enumerate(true.tolist()):
        near = {mother: 0} if graph is None else graph.near(mother, frame_tolerance)
        for spot, off in near.items():
            if at[spot] != UNMATCHED:
                rows.append(i)
                columns.append(int(at[spot]))
                costs.append(float(off))
    pair = cheapest_pairs(
        np.array(rows, np.int64), np.array(columns, np.int64), np.array(costs), shape=(len(true), len(made))
    )
    right, found = np.zeros(len(made), dtype=bool), np.zeros(len(true), dtype=bool)
    right[np.array(columns, np.int64)[pair]] = True
    found[np.array(rows, np.int64)[pair]] = True
    false = ~right
    if sparse:
        false &= (place != UNMATCHED) & (truth.n_children()[place] > 0) if truth.n_spots else False
    return Verdicts(right, false, found)


def _keys(links: I64, n: int) -> I64:
    keys: I64 = links[:, 0] * max(n, 1) + links[:, 1]
    return keys


def _member(values: I64, known: I64) -> Bool:
    """(N,) whether values are known; by sorting, which is several times faster here than np.isin."""
    if not len(known):
        return np.zeros(len(values), dtype=bool)
    order = np.sort(known)
    return np.asarray(order[np.searchsorted(order, values).clip(max=len(order) - 1)] == values, dtype=bool)


class _Graph:
    """Who is linked to whom, as columns that are searched."""

    def __init__(self, tracks: Tracks) -> None:
        self._forward = _Steps(tracks.links[:, 0], tracks.links[:, 1], tracks.n_spots)
        self._backward = _Steps(tracks.links[:, 1], tracks.links[:, 0], tracks.n_spots)

    def near(self, mother: int, tolerance: int) -> dict[int, int]:
        """Spots of the same cell up to ``tolerance`` links before its division or after it, with their number of links."""
        found = {mother: 0}
        for steps, back in ((self._backward, True), (self._forward, False)):
            front = [mother]
            for off in range(1, tolerance + 1):
                front = [spot for start in front for spot in steps.of(start)]
                if back:
                    front = [spot for spot in front if len(self._forward.of(spot)) < 2]
                else:
                    front = [spot for spot in front if spot not in found]
                found |= {spot: off for spot in front if spot not in found}
                if not back:
                    front = [spot for spot in front if len(self._forward.of(spot)) < 2]
        return found


class _Steps:
    """The neighbours of each spot in one direction."""

    def __init__(self, source: I64, target: I64, n: int) -> None:
        order = np.argsort(source, kind="stable")
        self._target = target[order]
        self._first = np.searchsorted(source[order], np.arange(n + 1))

    def of(self, spot: int) -> list[int]:
        """Rows of the neighbours of a spot."""
        return list(self._target[self._first[spot] : self._first[spot + 1]].tolist())
