"""The paper's rules, each alone, on tiny movies: one line a frame, x to the right, one character 1 um."""

from __future__ import annotations

import numpy as np
import pytest
from linking.drawn import movie, pairs

from bdv_io.tracks import Tracks
from howdah.linking import LinkingConfig, link_spots

RULES = LinkingConfig(solver="nearest", max_distance=5)


def at(*places: float, frame: int) -> tuple[list[int], list[list[float]]]:
    return [frame] * len(places), [[0.0, 0.0, x] for x in places]


def spots(parents: tuple[float, ...], children: tuple[float, ...]) -> Tracks:
    (t0, c0), (t1, c1) = at(*parents, frame=0), at(*children, frame=1)
    return Tracks.build(t0 + t1, c0 + c1, radius=1.0, label=[*"abcdefgh"[: len(t0)], *"ABCDEFGH"[: len(t1)]])


def test_within_the_search_distance():
    assert pairs(link_spots(spots((0.0, 20.0), (5.0, 25.5)), RULES)) == {"aA"}


def test_the_nearer_comes_first():
    assert pairs(link_spots(spots((0.0,), (0.9, 0.2)), RULES.but(max_children=1))) == {"aB"}


class TestSecondChild:
    def test_both_near(self):
        assert pairs(link_spots(spots((0.0,), (0.9, -0.9)), RULES)) == {"aA", "aB"}

    def test_one_near_one_just_not(self):
        # moves of 0.9 and 1.0: none beyond d_disp, not both below d_dist
        assert pairs(link_spots(spots((0.0,), (0.9, -1.0)), RULES)) == {"aA"}

    def test_one_moved_far(self):
        assert pairs(link_spots(spots((0.0,), (0.9, -1.1)), RULES)) == {"aA", "aB"}

    def test_thresholds_are_lengths_not_squares(self):
        two = RULES.but(distance_threshold=2.0, displacement_threshold=4.0)
        assert pairs(link_spots(spots((0.0,), (1.9, -1.9)), two)) == {"aA", "aB"}
        assert pairs(link_spots(spots((0.0,), (1.9, -3.9)), two)) == {"aA"}

    def test_the_estimated_displacement_decides_not_the_distance(self):
        tracks = spots((0.0,), (3.0, -0.5))
        home = tracks.centre.copy()
        home[1:, 2] = 0.1, -1.5  # A moved 2.9 and is close; B's estimate is 1.5 away
        assert pairs(link_spots(tracks, RULES, predicted=home)) == {"aA", "aB"}
        home[1:, 2] = 2.5, -0.5  # nobody moved more than 1, and A is further than 1
        assert pairs(link_spots(tracks, RULES, predicted=home)) == {"aB"}

    def test_an_existing_child_counts_with_its_own_distance(self):
        tracks = spots((0.0,), (0.5, -0.9)).with_links([[0, 1]])
        assert pairs(link_spots(tracks, RULES)) == {"aA", "aB"}
        near = spots((0.0,), (0.5, -1.0)).with_links([[0, 1]])
        assert pairs(link_spots(near, RULES)) == {"aA"}


class TestCompetition:
    def test_at_most_two_really(self):
        assert link_spots(spots((0.0,), (2.0, -2.0, 3.0, -3.0)), RULES).n_children().max() == 2

    def test_of_three_those_that_moved_less_stay(self):
        assert pairs(link_spots(spots((0.0,), (2.0, -2.5, 3.0)), RULES)) == {"aA", "aB"}

    def test_who_is_refused_asks_the_next(self):
        assert pairs(link_spots(spots((0.0, 4.5), (2.0, -2.0, 2.1)), RULES)) == {"aA", "aB", "bC"}

    def test_asks_no_more_than_n_max(self):
        crowd = spots((0.0, 4.5), (2.0, -2.0, 2.1))
        assert pairs(link_spots(crowd, RULES.but(max_candidates=1))) == {"aA", "aB"}

    def test_rejected_spots_do_not_count_as_asked(self):
        tracks = spots((0.0, 0.1, 3.0), (0.2,))
        only_c = [False, False, True, True]
        assert pairs(link_spots(tracks, RULES.but(max_candidates=1), candidates=only_c)) == {"cA"}

    def test_a_persons_child_is_never_pushed_out(self):
        tracks = spots((0.0,), (4.0, 0.1, 0.2)).with_links([[0, 1]])
        got = link_spots(tracks, RULES)
        assert {"aA"} < pairs(got)
        assert got.n_children().max() == 2


def test_full_parents_by_a_persons_hand():
    got = link_spots(movie("...a...", "A..C..B", links=["aA", "aB"]), RULES)
    assert pairs(got) == {"aA", "aB"}


@pytest.mark.parametrize("seed", range(5))
def test_order_of_spots_does_not_matter_in_a_crowd(seed):
    rng = np.random.default_rng(seed)
    tracks = Tracks.build(rng.integers(0, 3, 90), rng.integers(0, 5, (90, 3)), radius=1.0)
    order = rng.permutation(90)
    one, two = link_spots(tracks, RULES), link_spots(tracks.select(order), RULES)
    assert {tuple(p) for p in one.id[one.links].tolist()} == {tuple(p) for p in two.id[two.links].tolist()}
