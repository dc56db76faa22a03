"""Which mistakes a result makes, on annotations small enough to count by hand."""

from __future__ import annotations

import numpy as np
import pytest

from bdv_io import Tracks
from howdah.errors import DataError
from howdah.metrics import find_mistakes, match_spots
from howdah.metrics.mistakes import KINDS, Mistakes


def two_cells() -> Tracks:
    """A cell at x = 10 in three frames; one at x = 30 that divides after frame 1."""
    t = [0, 0, 1, 1, 2, 2, 2]
    x = np.array([10, 30, 10, 30, 10, 27, 33.0])
    links = [(0, 2), (1, 3), (2, 4), (3, 5), (3, 6)]
    return Tracks.build(t, np.stack([np.zeros(7), np.zeros(7), x], axis=1), radius=3.0, links=links)


def mistakes(result: Tracks, truth: Tracks | None = None, **more: object) -> Mistakes:
    true = truth or two_cells()
    return find_mistakes(true, result, match_spots(true, result, max_distance=2.0), **more)  # type: ignore[arg-type]


def some(found: Mistakes) -> dict[str, int]:
    return {kind: n for kind, n in found.counts().items() if n}


def test_truth_makes_no_mistake() -> None:
    found = mistakes(two_cells())
    assert len(found) == 0
    assert found.counts() == dict.fromkeys(KINDS, 0)
    assert len(mistakes(two_cells(), overlap=np.ones(7))) == 0


def test_missed_daughter() -> None:
    found = mistakes(two_cells().select(np.arange(7) != 6))
    assert some(found) == {"spot missed": 1, "link missed": 1, "division missed": 1}
    worst = found.worst(1)
    assert (KINDS[worst.kind[0]], worst.frame[0], worst.truth[0], worst.predicted[0]) == ("division missed", 1, 3, 3)
    assert worst.severity[0] == 1.0
    spot = found.of("spot missed")
    assert (spot.truth.tolist(), spot.predicted.tolist(), spot.centre.tolist()) == ([6], [-1], [[0, 0, 33]])
    assert spot.severity.tolist() == [0.4]
    assert found.of("link missed").severity.tolist() == [0.2]  # it follows from the missed spot


def test_swapped_cells() -> None:
    true = two_cells()
    swapped = true.select_links([3, 4]).with_links([(0, 3), (1, 2), (2, 4)])
    found = mistakes(swapped)
    assert some(found) == {"link false": 2, "link missed": 2}
    assert found.of("link false").severity.tolist() == [0.8, 0.8]
    assert found.of("link missed").severity.tolist() == [0.7, 0.7]
    assert found.of("link false").predicted.tolist() == [2, 3]


def test_false_spots_are_worse_in_a_long_track() -> None:
    ghost = Tracks.build([0, 1, 2], [[0, 50, 0]] * 3, radius=3.0, links=[(0, 1), (1, 2)])
    found = mistakes(two_cells().concatenate(ghost))
    assert some(found) == {"spot false": 3, "link false": 2}
    assert found.of("spot false").severity == pytest.approx([0.3 + 0.3 * 2 / 9] * 3)
    assert found.of("link false").severity.tolist() == [0.2, 0.2]
    assert len(mistakes(two_cells().concatenate(ghost), sparse=True)) == 0


def test_false_division() -> None:
    true = two_cells().select_links([0, 1, 2, 3])
    found = mistakes(two_cells(), true)
    assert some(found) == {"link false": 1, "division false": 1}
    assert found.of("division false").severity.tolist() == [0.9]


def test_poor_masks() -> None:
    overlap = np.array([1.0, 0.4, np.nan, 0.0, 0.5, 1, 1])
    found = mistakes(two_cells(), overlap=overlap).of("mask poor")
    assert found.truth.tolist() == found.predicted.tolist() == [1, 3]
    assert found.severity == pytest.approx([0.2, 0.6])
    lost = mistakes(
        two_cells().select([0, 2, 4, 5, 6]), overlap=overlap
    )  # the cell with no overlap is missed: that is all
    assert lost.of("mask poor").truth.tolist() == []
    assert lost.of("spot missed").truth.tolist() == [1, 3]
    with pytest.raises(DataError, match="one each is needed"):
        mistakes(two_cells(), overlap=[1.0])
