"""A cell that divides early or late, beside another one."""

from __future__ import annotations

import numpy as np

from bdv_io import Tracks
from howdah.metrics import match_spots
from howdah.metrics.divisions import whole_divisions

N = 8


def dividing(at: int, *, lost: tuple[int, ...] = (), swapped: bool = False) -> Tracks:
    """Cell that divides after frame ``at``; before, its left half is where the mother is. A second cell stands beside it."""
    t, x, links, last = [], [], [], {}
    for frame in range(N):
        names = ["left", "other"] if frame <= at else ["left", "right", "other"]
        here = {}
        for name in names:
            here[name] = len(t)
            t.append(frame)
            x.append({"left": 0.0, "right": 10.0, "other": 50.0}[name])
            mother = name if name in last else "left"
            if swapped and name == "right" and mother == "left":
                mother = "other"
            if last:
                links.append((last[mother], here[name]))
        last = here
    made = Tracks.build(t, np.stack([np.zeros(len(t))] * 2 + [np.array(x)], axis=1), radius=2.0, links=links)
    return made.select(np.setdiff1d(np.arange(made.n_spots), lost))


def counts(truth: Tracks, found: Tracks, tolerance: int = 0) -> tuple[int, int, int]:
    pairs = match_spots(truth, found, max_distance=2.0)
    made = whole_divisions(truth, found, pairs, frame_tolerance=tolerance).counts
    return made.true_positives, made.false_positives, made.false_negatives
