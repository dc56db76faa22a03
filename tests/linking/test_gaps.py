"""Closing gaps, on tiny movies: one line a frame, x to the right, one character 1 um."""

from __future__ import annotations

import numpy as np
import pytest
from linking.drawn import movie, pairs

from bdv_io.tracks import Tracks
from howdah.errors import DataError
from howdah.linking import LINK_QUALITY, LinkingConfig, link_frames, link_spots

SOLVERS = ("pairwise", "nearest", "global")


@pytest.fixture(params=SOLVERS)
def three(request) -> LinkingConfig:
    return LinkingConfig(solver=request.param, max_distance=5, frame_gap=3)


def chain(tracks: Tracks) -> list[tuple[int, float]]:
    """Frame and x along the only track."""
    order = np.argsort(tracks.t)
    return [(int(tracks.t[row]), float(tracks.centre[row, 2])) for row in order]


def test_a_lost_spot_is_put_in_between(three):
    got = link_spots(movie("a", ".", "..A"), three).validate()
    assert got.n_spots == 3
    assert got.links.tolist() == [[0, 2], [2, 1]]
    assert chain(got) == [(0, 0), (1, 1), (2, 2)]
    assert np.isnan(got.quality[2])
    assert got.id[2] == 2


def test_two_lost_frames_and_not_three(three):
    assert chain(link_spots(movie("a", ".", ".", "...A"), three)) == [(0, 0), (1, 1), (2, 2), (3, 3)]
    assert link_spots(movie("a", ".", ".", ".", "..A"), three).n_links == 0


def test_off_by_default():
    assert link_spots(movie("a", ".", "A"), LinkingConfig(max_distance=5)).n_links == 0


def test_without_interpolation_one_link_goes_over_the_gap(three):
    got = link_spots(movie("a", ".", "A"), three.but(interpolate=False))
    assert got.n_spots == 2
    assert pairs(got) == {"aA"}


def test_size_goes_over_evenly(three):
    tracks = movie("a", ".", "A", radius=[1.0, 2.0])
    np.testing.assert_allclose(link_spots(tracks, three).covariance[2], np.eye(3) * 2.5)


def test_the_estimate_leads_back_frame_by_frame(three):
    asked = []

    def estimate(frame, centre, covariance):
        asked.append((frame, len(centre), covariance.shape))
        return centre - [0, 0, 4.0]

    tracks = movie("a", ".", "........A")
    assert pairs(link_spots(tracks, three)) == set()
    assert chain(link_spots(tracks, three, estimate=estimate)) == [(0, 0), (1, 4), (2, 8)]
    assert asked == [(2, 1, (1, 3, 3)), (1, 1, (1, 3, 3))]


def test_what_the_estimate_misses_is_spread_evenly(three):
    got = link_spots(movie("..a", ".", "........A"), three, estimate=lambda _, centre, __: centre - [0, 0, 4.0])
    assert chain(got) == [(0, 2), (1, 5), (2, 8)]


def test_where_the_estimate_knows_nothing_spots_stay(three):
    got = link_spots(movie("a", ".", "..A"), three, estimate=lambda _, centre, __: np.full(centre.shape, np.nan))
    assert chain(got) == [(0, 0), (1, 1), (2, 2)]


def test_an_estimate_of_the_wrong_shape_is_a_sentence(three):
    with pytest.raises(DataError, match=r"estimate for frame 1 has shape \(1,\); expected \(1, 3\)"):
        link_spots(movie("a", "A"), three, estimate=lambda *_: np.zeros(1))


def test_only_a_free_spot_takes_a_track_up(three):
    got = link_spots(movie("a......", "A......", "A.C....".replace("A", "B")), three)
    assert {"aA", "AB"} <= pairs(got)
    assert got.n_spots == 4


def test_no_spot_is_put_where_a_person_rejected_one(three):
    tracks = movie("a", ".x", "..A")
    assert link_spots(tracks, three, candidates=tracks.label != "x").n_links == 0
    away = movie("a", ".....x", "..A")
    assert link_spots(away, three, candidates=away.label != "x").n_spots == 4


def test_a_person_s_link_over_the_gap_stays(three):
    got = link_spots(movie("a", ".", "A", links=["aA"]), three)
    assert got.n_spots == 2
    assert pairs(got) == {"aA"}


def test_chosen_frames_only(three):
    tracks = movie("a", ".", "A", ".", "B")
    assert pairs(link_spots(tracks, three.but(interpolate=False), frames=[4])) == {"AB"}


def test_every_new_link_has_a_quality(three):
    got = link_spots(movie("a..........b", "...........B", "A..........C", links=["bB"]), three)
    quality = got.feature(LINK_QUALITY, target="link")
    assert quality.defined.tolist() == [False, True, True, True]
    assert np.isnan(quality.values[0])
    assert ((quality.values[1:] > 0) & (quality.values[1:] <= 1)).all()


def test_progress_of_all_at_once():
    steps = list(link_frames(movie("a", ".", "A"), LinkingConfig(solver="global", max_distance=5, frame_gap=2)))
    assert [step.done for step in steps] == list(range(1, len(steps) + 1))
    assert steps[-1].total == len(steps)
    assert steps[-1].values["gaps"] == 1


class TestCosts:
    def test_a_gap_costs(self):
        far = movie("a", ".", "....A")
        config = LinkingConfig(solver="global", max_distance=5, frame_gap=2)
        assert link_spots(far, config).n_links == 2
        assert link_spots(far, config.but(gap_cost=0.5)).n_links == 0
        assert link_spots(far, config.but(gap_cost=0.5, disappearance_cost=0.5)).n_links == 2

    def test_appearance_decides_between_division_and_new_track(self):
        tracks = movie("...a...", "..A...B")
        config = LinkingConfig(solver="global", max_distance=5, division_penalty=1.2)
        assert link_spots(tracks, config).n_links == 1
        assert link_spots(tracks, config.but(appearance_cost=2.0)).n_links == 2

    def test_tracks_begin_more_easily_near_the_border(self):
        # a spot 4 um from the end of a track: its own beginning costs 0.8, at the border half of that
        tracks = movie(
            "l...........a........................r", "L...............A....................R", links=["lL", "rR"]
        )
        config = LinkingConfig(solver="global", max_distance=5, appearance_cost=0.8)
        assert "aA" in pairs(link_spots(tracks, config))
        assert "aA" in pairs(link_spots(tracks, config.but(border_distance=10.0)))
        assert "aA" not in pairs(link_spots(tracks, config.but(border_distance=17.0)))


def test_no_spot_is_put_where_no_image_can_be(three):
    def estimate(frame, centre, covariance):
        return centre + np.array([0.0, -3.0 if frame == 2 else 3.0, 0.0])  # out of the image, and back

    got = link_spots(movie("a", ".", "A"), three, estimate=estimate)
    assert got.n_spots == 3
    np.testing.assert_array_equal(got.centre[:, 1], 0)
