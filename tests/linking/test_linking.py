"""Linking on tiny movies that can be drawn: one line a frame, x to the right, one character 1 um."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from linking.drawn import movie, pairs

from bdv_io.tags import Tag
from bdv_io.tracks import Tracks
from howdah.errors import ConfigError, DataError
from howdah.linking import LINK_QUALITY, LinkingConfig, automatic_max_distance, link_frames, link_spots

FIVE = LinkingConfig(max_distance=5)


class TestOneToOne:
    def test_each_spot_goes_to_the_nearest(self):
        assert pairs(link_spots(movie("a....b", ".A....B"), FIVE)) == {"aA", "bB"}

    def test_the_sum_is_minimal_not_the_first_served(self):
        # closest first would take bA (1 um) and leave a and B 7 um apart, too far: one link and a lost track
        got = link_spots(movie("a...b....", "...A...B."), LinkingConfig(max_distance=6, max_children=1))
        assert pairs(got) == {"aA", "bB"}

    def test_farther_than_max_distance_is_a_new_track(self):
        assert pairs(link_spots(movie("a.........", "......A..."), FIVE)) == set()

    def test_exactly_max_distance_is_linked(self):
        assert pairs(link_spots(movie("a.........", ".....A...."), FIVE)) == {"aA"}

    def test_a_spot_at_the_same_place_is_linked(self):
        assert pairs(link_spots(movie("a", "A"), FIVE)) == {"aA"}

    def test_frames_without_spots_are_not_crossed(self):
        assert pairs(link_spots(movie("a", ".", "A", "B"), FIVE)) == {"AB"}

    @pytest.mark.parametrize("frames", [(), ("a",), ("ab",), (".", "a"), ("a", ".")])
    def test_movies_too_short_for_links(self, frames):
        tracks = movie(*frames)
        assert link_spots(tracks).n_links == 0
        assert link_spots(tracks, FIVE).n_spots == tracks.n_spots

    def test_units_are_physical_not_voxels(self):
        near, far = movie("a", ".A"), movie("a", ".A")
        far = Tracks.build(far.t, far.centre * 10, radius=1.0)
        assert link_spots(near, FIVE).n_links == 1
        assert link_spots(far, FIVE).n_links == 0


class TestDivisions:
    def test_daughters_on_both_sides(self):
        assert pairs(link_spots(movie("...a...", "A.....B"), FIVE)) == {"aA", "aB"}

    def test_a_newcomer_beside_a_quiet_cell_is_a_new_track(self):
        assert pairs(link_spots(movie("a......", "A...B.."), FIVE)) == {"aA"}

    def test_daughter_taken_by_a_neighbour_is_given_back(self):
        # one to one, b takes B and leaves C without parent; as a whole, a divides into A and B, and b goes on as C
        got = link_spots(movie(".....a...b....", "..A.....B..C.."), FIVE)
        assert pairs(got) == {"aA", "aB", "bC"}

    def test_forbidden(self):
        assert link_spots(movie("...a...", "A.....B"), FIVE.but(max_children=1)).n_links == 1

    def test_three_daughters_do_not_exist(self):
        got = link_spots(movie("...a...", "A..C..B"), FIVE)
        assert got.n_children().max() <= 2

    def test_penalty_decides(self):
        frames = ("...a...", "..A...B")
        assert link_spots(movie(*frames), FIVE.but(division_penalty=0.5)).n_links == 2
        assert link_spots(movie(*frames), FIVE.but(division_penalty=1.5)).n_links == 1

    def test_division_distance_limits_daughters_only(self):
        frames = ("....a............b", "..A...B..............C")
        assert pairs(link_spots(movie(*frames), FIVE)) == {"aA", "aB", "bC"}
        assert "bC" in pairs(link_spots(movie(*frames), FIVE.but(division_distance=1.0)))
        assert len(pairs(link_spots(movie(*frames), FIVE.but(division_distance=1.0)))) == 2

    def test_division_distance_may_be_larger(self):
        frames = ("....a....", "A.......B")
        assert link_spots(movie(*frames), LinkingConfig(max_distance=3)).n_links == 0
        got = link_spots(movie(*frames), LinkingConfig(max_distance=3, division_distance=5))
        assert pairs(got) == {"aA", "aB"}

    def test_with_flow_both_daughters_may_come_from_one_side(self):
        tracks = movie("a.......", "....A.B.")
        home = np.zeros((3, 3))
        home[1:, 2] = 0.2, -0.3
        assert pairs(link_spots(tracks, FIVE, predicted=home)) == {"aA", "aB"}


class TestExistingLinks:
    def test_they_stay_even_where_they_are_long(self):
        got = link_spots(movie("a....b....", "A.....B...", links=["aB"]), FIVE)
        assert got.links[0].tolist() == [0, 3]
        assert got.n_parents().max() == 1

    def test_a_spot_with_a_parent_gets_no_other(self):
        assert pairs(link_spots(movie("ab", "A.", links=["bA"]), FIVE)) == {"bA"}

    def test_they_count_as_children(self):
        frames = ("...a...", "A.....B")
        assert pairs(link_spots(movie(*frames, links=["aA"]), FIVE.but(max_children=1))) == {"aA"}
        assert pairs(link_spots(movie(*frames, links=["aA"]), FIVE)) == {"aA", "aB"}

    def test_a_full_parent_takes_no_third(self):
        got = link_spots(movie("...a...", "A..C..B", links=["aA", "aB"]), FIVE)
        assert pairs(got) == {"aA", "aB"}

    def test_a_parent_full_by_a_persons_hand_is_not_counted_as_new_division(self):
        steps = list(link_frames(movie("...a...", "A.....B", links=["aA", "aB"]), FIVE))
        assert steps[0].values["links"] == 0
        assert steps[0].values["divisions"] == 0

    def test_tags_of_links_follow(self):
        tracks = movie("a....b", "A....B", links=["aA"]).with_tag("Tracking", Tag("Approved"), links=[0])
        got = link_spots(tracks, FIVE)
        assert got.tagged("Tracking", "Approved", links=True).tolist() == [True, False]

    def test_twice_is_once(self):
        once = link_spots(movie("...a.....b", "A.....B..C", "A.....B..C".lower().replace("a", "x")), FIVE)
        assert pairs(link_spots(once, FIVE)) == pairs(once)


class TestOptions:
    def test_frames_choose_the_targets(self):
        assert pairs(link_spots(movie("a", "A", "B"), FIVE, frames=[2, 7])) == {"AB"}

    def test_candidates_leave_others_alone(self):
        got = link_spots(movie("ab", "A."), FIVE, candidates=[False, True, True])
        assert pairs(got) == {"bA"}

    def test_predicted_positions_beat_own(self):
        tracks = movie("a....b", "A....B")
        crossed = tracks.centre[[0, 1, 1, 0]]
        assert pairs(link_spots(tracks, FIVE, predicted=crossed)) == {"aB", "bA"}

    def test_unknown_predictions_are_the_own_position(self):
        tracks = movie("a....b", "A....B")
        assert pairs(link_spots(tracks, FIVE, predicted=np.full((4, 3), np.nan))) == {"aA", "bB"}

    def test_wrong_shapes_are_sentences(self):
        with pytest.raises(DataError, match=r"predicted positions have shape \(2, 3\); expected \(1, 3\)"):
            link_spots(movie("a"), predicted=np.zeros((2, 3)))
        with pytest.raises(DataError, match=r"candidates has shape \(2,\)"):
            link_spots(movie("a"), candidates=[True, False])

    def test_progress_tells_links_and_divisions(self):
        steps = list(link_frames(movie("...a...", "A.....B", "C.....D"), FIVE))
        assert [(s.done, s.total, s.values["links"], s.values["divisions"]) for s in steps] == [
            (1, 2, 2, 0),
            (2, 2, 2, 1),
        ]
        assert steps[0].values["max_distance"] == 5

    def test_settings_are_checked(self):
        with pytest.raises(ConfigError, match="max_children"):
            LinkingConfig.of({"max_children": 3})
        with pytest.raises(ConfigError, match="although max_children = 1"):
            LinkingConfig.of({"max_children": 1, "division_distance": 3})


class TestAutomaticDistance:
    def test_median_distance_to_the_neighbour(self):
        assert automatic_max_distance(movie("a..b..c", radius=1.0)) == pytest.approx(3)

    @pytest.mark.parametrize(("radius", "expected"), [(0.5, 2.5), (2.0, 4.0)])
    def test_bounded_by_radii(self, radius, expected):
        assert automatic_max_distance(movie("a..b..c", radius=radius)) == pytest.approx(expected)

    def test_a_lone_cell_may_move_five_radii(self):
        assert automatic_max_distance(movie("a", "A", radius=2.0)) == pytest.approx(10)

    def test_nothing(self):
        assert automatic_max_distance(movie()) > 0


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(0, 40),
    frames=st.integers(1, 4),
    existing=st.booleans(),
    solver=st.sampled_from(["pairwise", "nearest", "global"]),
    gap=st.integers(1, 3),
)
def test_promises_hold_for_any_movie(seed, n, frames, existing, solver, gap):
    rng = np.random.default_rng(seed)
    tracks = Tracks.build(rng.integers(0, frames, n), rng.integers(0, 6, (n, 3)), radius=rng.uniform(0.5, 1.5, n))
    if existing and n:
        a, b = rng.integers(0, n, (2, n))
        good = tracks.t[a] < tracks.t[b]
        tracks = tracks.with_links(np.unique(np.stack([a[good], b[good]], axis=1), axis=0)).validate()
    config = LinkingConfig(solver=solver, max_distance=3, frame_gap=gap)
    linked = link_spots(tracks, config).validate()
    new = linked.links[tracks.n_links :]
    np.testing.assert_array_equal(linked.links[: tracks.n_links], tracks.links)
    np.testing.assert_array_equal(linked.centre[:n], tracks.centre)
    assert (linked.t[new[:, 1]] - linked.t[new[:, 0]] == 1).all()
    assert (linked.n_parents()[:n] <= np.maximum(tracks.n_parents(), 1)).all()
    assert (linked.n_children()[:n] <= np.maximum(tracks.n_children(), 2)).all()
    assert (linked.n_parents()[n:] == 1).all()
    assert (linked.n_children()[n:] == 1).all()
    assert (np.linalg.norm(linked.centre[new[:, 0]] - linked.centre[new[:, 1]], axis=1) <= 3 + 1e-9).all()
    quality = linked.feature(LINK_QUALITY, target="link").values[tracks.n_links :]
    assert ((quality >= 0) & (quality <= 1)).all()
    order = rng.permutation(n)
    shuffled = link_spots(tracks.select(order), config)
    assert ends(shuffled) == ends(linked)


def ends(tracks: Tracks) -> set[tuple[object, ...]]:
    """Links as frames and places, and the ids of spots that were there before."""
    return {
        (*tracks.id[[a, b]].tolist(), int(tracks.t[a]), *tracks.centre[[a, b]].round(6).ravel().tolist())
        for a, b in tracks.links
    }


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1))
def test_without_divisions_it_is_the_optimum_of_a_dense_solver(seed):
    from scipy.optimize import linear_sum_assignment

    rng = np.random.default_rng(seed)
    p, c = rng.integers(1, 9, 2)
    points = rng.uniform(0, 6, (p + c, 3))
    tracks = Tracks.build([0] * p + [1] * c, points, radius=1.0)
    linked = link_spots(tracks, LinkingConfig(max_distance=4, max_children=1, max_candidates=64))
    squared = ((points[p:, None] - points[None, :p]) ** 2).sum(axis=2)
    table = np.concatenate([np.where(squared <= 16, squared, 1e9), np.full((c, c), 16.0)], axis=1)
    best = table[linear_sum_assignment(table)].sum()
    lengths = ((points[linked.links[:, 0]] - points[linked.links[:, 1]]) ** 2).sum()
    assert lengths + 16 * (c - linked.n_links) == pytest.approx(best)


def test_without_an_answer_of_the_solver_the_best_links_come_first(monkeypatch, caplog):
    competing = movie(".....a...b....", "..A.....B..C..")
    assert pairs(link_spots(competing, FIVE)) == {"aA", "aB", "bC"}

    class Nothing:
        success, x, message = False, None, "time limit reached"

    monkeypatch.setattr("scipy.optimize.milp", lambda *_, **__: Nothing)
    linked = link_spots(competing, FIVE)
    assert linked.n_links >= 2
    assert linked.n_parents().max() == 1
    assert "time limit reached" in caplog.text


class TestWithoutMeasure:
    """Very small and very large lengths, and very many spots in one place."""

    @pytest.mark.parametrize("scale", [1e-9, 1e-6, 1e6, 1e9])
    @pytest.mark.parametrize("solver", ["pairwise", "global"])
    def test_the_unit_of_length_does_not_matter(self, solver, scale):
        rng = np.random.default_rng(0)
        place, frame = rng.uniform(0, 15, (90, 3)), np.repeat(np.arange(3), 30)
        config = LinkingConfig(solver=solver)
        expected = link_spots(Tracks.build(frame, place, radius=2.0), config)
        got = link_spots(Tracks.build(frame, place * scale, radius=2.0 * scale), config)
        assert sorted(map(tuple, got.links.tolist())) == sorted(map(tuple, expected.links.tolist()))

    @pytest.mark.parametrize("solver", ["pairwise", "nearest", "global"])
    def test_many_spots_in_one_place_do_not_fill_the_memory(self, solver):
        crowd = Tracks.build(np.repeat([0, 1], 200), np.ones((400, 3)), radius=2.0)
        assert 0 < link_spots(crowd, LinkingConfig(solver=solver)).n_links <= 200

    @pytest.mark.parametrize("solver", ["pairwise", "nearest", "global"])
    def test_beyond_all_measure_nothing_is_linked(self, solver):
        far = Tracks.build([0, 1, 1], [[1e200] * 3, [1.1e200] * 3, [1e308] * 3], radius=2.0)
        assert link_spots(far, LinkingConfig(solver=solver)).n_links == 0

    @pytest.mark.parametrize("length", [0, 1e-300, 1e300])
    @pytest.mark.parametrize("name", ["max_distance", "division_distance"])
    def test_lengths_whose_squares_are_no_numbers_are_refused(self, name, length):
        with pytest.raises(ConfigError, match=f"'{name}'.* than or equal to"):
            LinkingConfig.of({name: length})
