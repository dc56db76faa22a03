"""How good are detected spots: precision, recall, F1, and how far centres are off."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bdv_io.tracks import Tracks
from howdah.metrics.counts import Counts
from howdah.metrics.matching import Matching, match_spots

__all__ = ["DetectionScore", "score_detection"]


@dataclass(frozen=True)
class DetectionScore:
    """Scores of detected spots.

    Attributes:
        spots: Spots found, made up and missed.
        median_error: Median distance of matched centres in world units; NaN without a match.
        max_distance: The largest distance at which spots were matched, world units.
    """

    spots: Counts
    median_error: float
    max_distance: float

    def to_dict(self) -> dict[str, float]:
        """Return counts, ratios, error and distance by name."""
        return {**self.spots.to_dict(), "median_error": self.median_error, "max_distance": self.max_distance}


def score_detection(
    truth: Tracks,
    predicted: Tracks,
    *,
    max_distance: float,
    sparse: bool = False,
    matching: Matching | None = None,
) -> DetectionScore:
    """Compare detected spots with the truth, matched one to one within each frame.

    Args:
        truth: The true annotation; only its spots matter.
        predicted: The detected spots, in the same unit.
        max_distance: Largest distance of the centres of a pair, world units.
        sparse: The truth is not complete: a detection without a true spot is unknown, not false, so precision says
            nothing and recall is what counts.
        matching: A matching of the two, if there is one already.

    Raises:
        DataError: The units differ or the distance is not positive.
    """
    pairs = matching or match_spots(truth, predicted, max_distance=max_distance)
    right, extra = len(pairs.truth), predicted.n_spots - len(pairs.truth)
    counts = Counts(right, 0 if sparse else extra, truth.n_spots - right, extra if sparse else 0)
    error = float(np.median(pairs.distance)) if right else float("nan")
    return DetectionScore(counts, error, max_distance)
