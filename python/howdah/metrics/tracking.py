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

__all__ = ["TrackingScore", "score_tracking"]


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
    truth: Tracks, predicted: Tracks, *, max_distance: float, frame_tolerance: int = 0, sparse: bool = False
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

    Raises:
        DataError: The units differ or the distance is not positive.
    """
    pairs = match_spots(truth, predicted, max_distance=max_distance)
    return TrackingScore(
        detection=score_detection(truth, predicted, max_distance=max_distance, sparse=sparse, matching=pairs),
        links=_score_links(truth, predicted, pairs, sparse),
        divisions=_score_divisions(truth, predicted, pairs, frame_tolerance, sparse),
        frame_tolerance=frame_tolerance,
    )


def _score_links(truth: Tracks, predicted: Tracks, pairs: Matching, sparse: bool) -> Counts:
    as_truth = pairs.truth_of[predicted.links].reshape(-1, 2)
    known = (as_truth != UNMATCHED).all(axis=1)
    right = known & np.isin(_keys(as_truth, truth.n_spots), _keys(truth.links, truth.n_spots))
    wrong = ~right
    if sparse:
        target = as_truth[:, 1]
        wrong &= (target != UNMATCHED) & (truth.n_parents()[target] > 0) if truth.n_spots else False
    found, false = int(right.sum()), int(wrong.sum())
    return Counts(found, false, truth.n_links - found, predicted.n_links - found - false)


def _score_divisions(truth: Tracks, predicted: Tracks, pairs: Matching, tolerance: int, sparse: bool) -> Counts:
    true, made = truth.divisions(), predicted.divisions()
    place = pairs.truth_of[made]  # the true spot that each predicted mother is
    by_place = {int(spot): i for i, spot in enumerate(place) if spot != UNMATCHED}
    rows, columns, costs = [], [], []
    parents, children = _neighbours(truth) if tolerance and len(made) else ({}, {})
    for i, mother in enumerate(true.tolist()):
        for spot, off in _nearby(mother, tolerance, parents, children).items():
            if spot in by_place:
                rows.append(i)
                columns.append(by_place[spot])
                costs.append(float(off))
    chosen = cheapest_pairs(
        np.array(rows, np.int64), np.array(columns, np.int64), np.array(costs), shape=(len(true), len(made))
    )
    right = np.zeros(len(made), dtype=bool)
    right[np.array(columns, np.int64)[chosen]] = True
    wrong = ~right
    if sparse:
        wrong &= (place != UNMATCHED) & (truth.n_children()[place] > 0) if truth.n_spots else False
    found, false = len(chosen), int(wrong.sum())
    return Counts(found, false, len(true) - found, len(made) - found - false)


def _keys(links: I64, n: int) -> I64:
    keys: I64 = links[:, 0] * max(n, 1) + links[:, 1]
    return keys


def _neighbours(tracks: Tracks) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """Parents and children around divisions: of every spot, as lists of rows."""
    parents: dict[int, list[int]] = {}
    children: dict[int, list[int]] = {}
    for source, target in tracks.links.tolist():
        parents.setdefault(target, []).append(source)
        children.setdefault(source, []).append(target)
    return parents, children


def _nearby(
    mother: int, tolerance: int, parents: dict[int, list[int]], children: dict[int, list[int]]
) -> dict[int, int]:
    """Spots of the same cell up to ``tolerance`` links before the division or after it, with their number of links."""
    found = {mother: 0}
    for step, stop_at_division in ((parents, True), (children, False)):
        front = [mother]
        for off in range(1, tolerance + 1):
            front = [spot for start in front for spot in step.get(start, [])]
            if stop_at_division:
                front = [spot for spot in front if len(children.get(spot, [])) < 2]
            else:
                front = [spot for spot in front if spot not in found]
            found |= {spot: off for spot in front if spot not in found}
            if not stop_at_division:
                front = [spot for spot in front if len(children.get(spot, [])) < 2]
    return found
