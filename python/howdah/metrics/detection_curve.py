"""Precision and recall of spots, as the distance grows at which a spot is still the right one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bdv_io.tracks import Tracks
from howdah.metrics.counts import Counts
from howdah.metrics.matching import match_spots

__all__ = ["PARTS", "detection_curve"]

PARTS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)  # of the distance that is asked about


def detection_curve(
    truth: Tracks, predicted: Tracks, distances: Sequence[float], *, sparse: bool = False
) -> list[tuple[float, Counts]]:
    """Match spots anew at each distance, one to one.

    Args:
        truth: The true annotation.
        predicted: The result, in the same unit.
        distances: Largest distance of a pair, world units; each above 0.
        sparse: What has no true spot is unknown, not false.

    Returns:
        Each distance, growing, with its counts.

    Raises:
        DataError: The units differ or a distance is not positive.
    """
    curve = []
    for distance in np.unique(np.asarray(distances, dtype=np.float64)).tolist():
        right = len(match_spots(truth, predicted, max_distance=distance).truth)
        extra = predicted.n_spots - right
        counts = Counts(right, 0 if sparse else extra, truth.n_spots - right, extra if sparse else 0)
        curve.append((distance, counts))
    return curve
