"""Precision and recall of spots, as the distance grows at which a spot is still the right one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bdv_io.tracks import Tracks
from howdah.errors import DataError
from howdah.metrics.counts import Counts
from howdah.metrics.matching import cheapest_pairs, check_units, near_pairs, rows_by_frame

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
    chosen = np.unique(np.asarray(distances, dtype=np.float64))
    check_units(truth, predicted)
    if not len(chosen) or not chosen[0] > 0 or not np.isfinite(chosen).all():
        raise DataError(f"A curve of distances needs distances above 0; found {list(distances)}.")
    right = np.zeros(len(chosen), dtype=np.int64)
    mine, theirs = rows_by_frame(truth), rows_by_frame(predicted)
    for frame in mine.keys() & theirs.keys():  # the pairs that are near enough are looked up once for all distances
        a, b = truth.centre[mine[frame]], predicted.centre[theirs[frame]]
        rows, columns, far = near_pairs(a, b, float(chosen[-1]))
        for place, distance in enumerate(chosen.tolist()):
            kept = np.flatnonzero(far <= distance)
            right[place] += len(cheapest_pairs(rows[kept], columns[kept], far[kept], shape=(len(a), len(b))))
    extra = predicted.n_spots - right
    return [
        (distance, Counts(n, 0 if sparse else more, truth.n_spots - n, more if sparse else 0))
        for distance, n, more in zip(chosen.tolist(), right.tolist(), extra.tolist(), strict=True)
    ]
