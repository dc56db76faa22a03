"""Metrics on cases small enough to count by hand. Frames are lines, x runs to the right, one character 1 um."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bdv_io.tracks import Tracks
from howdah.errors import DataError
from howdah.metrics import Counts, match_points, match_spots, score_detection, score_tracking


def movie(*frames: str, links="") -> Tracks:
    """Spots where there are letters; ``links`` names pairs of letters, such as ``"ab bc"``."""
    spots = [(t, x, name) for t, line in enumerate(frames) for x, name in enumerate(line) if name != "."]
    rows = {name: row for row, (_, _, name) in enumerate(spots)}
    centre = np.array([[0, 0, x] for _, x, _ in spots], dtype=float).reshape(-1, 3)
    pairs = np.array([[rows[a], rows[b]] for a, b in links.split()]).reshape(-1, 2)
    return Tracks.build([t for t, _, _ in spots], centre, radius=1.0, links=pairs)


class TestMatching:
    def test_more_pairs_before_shorter_pairs(self):
        """Truth a b, predictions 1 2::

        a.b.....
        .1......      1 is nearest to both; 2 reaches only 1's place: a-1 and b-2
        ....2...
        """
        pairs = match_points([[0.0], [2.0]], [[1.0], [4.0]], max_distance=2)
        assert dict(zip(pairs.truth.tolist(), pairs.predicted.tolist(), strict=True)) == {0: 0, 1: 1}

    def test_shortest_sum_among_equals(self):
        pairs = match_points([[0.0], [3.0]], [[2.5], [0.5]], max_distance=5)
        assert pairs.predicted_of.tolist() == [1, 0]
        assert pairs.truth_of.tolist() == [1, 0]
        assert pairs.distance.tolist() == [0.5, 0.5]

    def test_equal_points_match_at_distance_zero(self):
        assert match_points([[1.0, 2, 3]], [[1.0, 2, 3]], max_distance=1).distance.tolist() == [0]

    def test_exactly_the_distance_matches(self):
        assert len(match_points([[0.0]], [[2.0]], max_distance=2).truth) == 1
        assert len(match_points([[0.0]], [[2.1]], max_distance=2).truth) == 0

    @pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 2), (2, 0)])
    def test_nothing_to_match(self, n, m):
        pairs = match_points(np.zeros((n, 3)), np.zeros((m, 3)), max_distance=1)
        assert pairs.predicted_of.tolist() == [-1] * n
        assert pairs.truth_of.tolist() == [-1] * m

    def test_frames_do_not_mix(self):
        assert len(match_spots(movie("a"), movie(".", "a"), max_distance=1).truth) == 0

    def test_wrong_input_is_a_sentence(self):
        with pytest.raises(DataError, match="max_distance is 0"):
            match_points([[0.0]], [[0.0]], max_distance=0)
        with pytest.raises(DataError, match="3 coordinates, predicted ones 2"):
            match_points([[0.0, 0, 0]], [[0.0, 0]], max_distance=1)
        with pytest.raises(DataError, match="'truth' has shape"):
            match_points([[np.nan, 0, 0]], [[0.0, 0, 0]], max_distance=1)
        um = Tracks.build([0], [[0, 0, 0]], radius=1, space_unit="um")
        with pytest.raises(DataError, match="truth is in 'um', the prediction in 'pixel'"):
            match_spots(um, movie("a"), max_distance=1)

    @settings(deadline=None, max_examples=50)
    @given(seed=st.integers(0, 2**32 - 1))
    def test_as_good_as_a_dense_solver(self, seed):
        from scipy.optimize import linear_sum_assignment

        rng = np.random.default_rng(seed)
        a, b = rng.uniform(0, 4, (rng.integers(1, 9), 2)), rng.uniform(0, 4, (rng.integers(1, 9), 2))
        table = np.linalg.norm(a[:, None] - b[None], axis=2)
        cost = np.where(table <= 1, table, 1000.0)
        i, j = linear_sum_assignment(cost)
        good = cost[i, j] < 1000
        pairs = match_points(a, b, max_distance=1)
        assert len(pairs.truth) == good.sum()
        assert pairs.distance.sum() == pytest.approx(cost[i, j][good].sum())


class TestDetection:
    def test_one_right_one_made_up_one_missed(self):
        """Truth a b, predictions c d::

        a....b....
        .c......d.
        """
        score = score_detection(movie("a....b...."), movie(".c......d."), max_distance=2)
        assert score.spots == Counts(1, 1, 1)
        assert (score.spots.precision, score.spots.recall, score.spots.f1) == (0.5, 0.5, 0.5)
        assert score.median_error == 1
        assert score.to_dict()["f1"] == 0.5

    def test_two_on_one_cell_are_one_right_and_one_made_up(self):
        assert score_detection(movie(".a."), movie("c.d"), max_distance=2).spots == Counts(1, 1, 0)

    def test_sparse_truth_calls_nothing_false(self):
        spots = score_detection(movie("a....b...."), movie(".c......d."), max_distance=2, sparse=True).spots
        assert spots == Counts(1, 0, 1, unknown=1)
        assert spots.recall == 0.5

    def test_empty_has_no_ratio(self):
        score = score_detection(movie(), movie(), max_distance=1)
        assert math.isnan(score.spots.f1)
        assert math.isnan(score.spots.recall)
        assert math.isnan(score.median_error)

    def test_counts_add(self):
        assert Counts(1, 2, 3, 4) + Counts(1, 1, 1, 1) == Counts(2, 3, 4, 5)


DIVIDING = ("...a...", "...b...", "..c.d..", ".e...f.", "g.....h")
LINKS = "ab bc bd ce df eg fh"


class TestTracking:
    def test_the_truth_is_perfect(self):
        truth = movie(*DIVIDING, links=LINKS)
        score = score_tracking(truth, truth, max_distance=1)
        assert score.links == Counts(7, 0, 0)
        assert score.divisions == Counts(1, 0, 0)
        assert score.to_dict()["division_f1"] == 1

    def test_swapped_cells(self):
        """True: a-A, b-B; predicted: a-B, b-A::

        a...b
        A...B
        """
        truth, other = movie("a...b", "A...B", links="aA bB"), movie("a...b", "A...B", links="aB bA")
        score = score_tracking(truth, other, max_distance=1)
        assert score.detection.spots == Counts(4, 0, 0)
        assert score.links == Counts(0, 2, 2)

    def test_a_link_to_a_spot_that_is_not_there(self):
        score = score_tracking(movie("a", "b", links="ab"), movie("a", ".....b", links="ab"), max_distance=1)
        assert score.links == Counts(0, 1, 1)

    @pytest.mark.parametrize(("links", "off"), [("ac ad ab ce df eg fh", -1), ("ab bc ce cf eg fh", 1)])
    def test_a_division_early_or_late_by_one_frame(self, links, off):
        """Early: a already has two children. Late: c has both daughters of the next frame, d is lost.

        ::

            ...a...
            ...b...     division here in truth
            ..c.d..
            .e...f.
        """
        truth = movie(*DIVIDING, links=LINKS)
        made = movie(*DIVIDING, links=links)
        assert score_tracking(truth, made, max_distance=1).divisions == Counts(0, 1, 1)
        assert score_tracking(truth, made, max_distance=1, frame_tolerance=1).divisions == Counts(1, 0, 0)
        assert abs(off) == 1

    def test_two_frames_late_needs_tolerance_two(self):
        truth = movie(*DIVIDING, links=LINKS)
        made = movie(*DIVIDING, links="ab bc ce eg eh")
        assert score_tracking(truth, made, max_distance=1, frame_tolerance=1).divisions.true_positives == 0
        assert score_tracking(truth, made, max_distance=1, frame_tolerance=2).divisions == Counts(1, 0, 0)

    def test_one_prediction_is_not_two_true_divisions(self):
        """Two divisions in a row; one is found::

        ...a....
        ..b.c...
        .de.f...
        """
        truth = movie("...a....", "..b.c...", ".de.f...", links="ab ac bd be cf")
        made = movie("...a....", "..b.c...", ".de.f...", links="ab bd be cf")
        assert score_tracking(truth, made, max_distance=0.4, frame_tolerance=3).divisions == Counts(1, 0, 1)

    def test_a_false_division(self):
        truth, made = movie("a..", "A.B", links="aA"), movie("a..", "A.B", links="aA aB")
        score = score_tracking(truth, made, max_distance=0.5)
        assert score.divisions == Counts(0, 1, 0)
        assert score.links == Counts(1, 1, 0)

    def test_sparse_truth_calls_false_only_what_contradicts(self):
        """True and sparse: a-A alone. Predicted: b-A contradicts; c-C is unknown::

        a.b...c
        A.....C
        """
        truth = movie("a", "A", links="aA")
        made = movie("a.b...c", "A.....C", links="bA cC")
        score = score_tracking(truth, made, max_distance=0.5, sparse=True)
        assert score.links == Counts(0, 1, 1, unknown=1)
        assert score.detection.spots == Counts(2, 0, 0, unknown=3)

    def test_sparse_truth_and_divisions(self):
        truth = movie("a.....", "A.....", links="aA")
        beside = movie("a...c.", "A.B.CD", links="aA aB cC cD")
        score = score_tracking(truth, beside, max_distance=0.5, sparse=True)
        assert score.divisions == Counts(0, 1, 0, unknown=1)

    @pytest.mark.parametrize("sparse", [False, True])
    def test_nothing_against_something(self, sparse):
        something = movie(*DIVIDING, links=LINKS)
        assert score_tracking(something, movie(), max_distance=1, sparse=sparse).links == Counts(0, 0, 7)
        made_up = score_tracking(movie(), something, max_distance=1, sparse=sparse)
        assert made_up.links == (Counts(0, 0, 0, 7) if sparse else Counts(0, 7, 0))
        assert made_up.divisions == (Counts(0, 0, 0, 1) if sparse else Counts(0, 1, 0))


def test_too_many_pairs_are_refused_before_they_fill_memory() -> None:
    points = np.random.default_rng(0).random((5000, 3))
    with pytest.raises(DataError, match=r"lie 25,000,000 pairs .* Take a smaller distance"):
        match_points(points, points, max_distance=10.0)
