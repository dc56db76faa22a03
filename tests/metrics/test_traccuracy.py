"""The same numbers as traccuracy, which takes seconds to import: all that needs it is here."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from metrics.forests import own, random_covers
from metrics.shifted import counts, dividing

from bdv_io import Tracks
from howdah.metrics import match_spots
from howdah.metrics.challenge_library import by_traccuracy


@pytest.fixture(scope="module")
def traccuracy() -> Any:
    """The library; imported when the first test runs, not when tests are collected."""
    return pytest.importorskip("traccuracy")


def test_graphs(traccuracy: Any) -> None:
    for seed in range(6):
        seen = random_covers(seed)
        theirs, mine = by_traccuracy(seen), own(seen)
        assert mine["LNK"] == pytest.approx(theirs["LNK"], abs=1e-12)
        if seen.number.max() <= 2:  # of three cells under one mask it counts one split
            assert mine["DET"] == pytest.approx(theirs["DET"], abs=1e-12)
            assert mine["TRA"] == pytest.approx(theirs["TRA"], abs=1e-12)


def test_divisions(traccuracy: Any) -> None:
    networkx = pytest.importorskip("networkx")
    from traccuracy.matchers import Matched
    from traccuracy.metrics import DivisionMetrics

    def graph(tracks: Tracks) -> object:
        made = networkx.DiGraph()
        made.add_nodes_from((row, {"t": int(t), "segmentation_id": 1}) for row, t in enumerate(tracks.t))
        made.add_edges_from(tracks.links.tolist())
        return traccuracy.TrackingGraph(made, location_keys=("t",))

    cases = [(dividing(a), dividing(b)) for a, b in ((3, 3), (3, 4), (4, 3), (2, 4), (5, 2))]
    cases += [(dividing(3), dividing(3, swapped=True)), (dividing(3), dividing(4, lost=(12,)))]
    for truth, found in cases:
        pairs = match_spots(truth, found, max_distance=2.0)
        mapping = list(zip(pairs.truth.tolist(), pairs.predicted.tolist(), strict=True))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            matched = Matched(graph(truth), graph(found), mapping, {"name": "test"})
            theirs = DivisionMetrics(max_frame_buffer=2).compute(matched).results
        for tolerance in range(3):
            one = theirs[f"Frame Buffer {tolerance}"]
            assert counts(truth, found, tolerance)[0] == one["True Positive Divisions"], (tolerance, one)
