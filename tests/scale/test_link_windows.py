"""Linking in windows gives what linking the whole movie gives, wherever the seams are."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from linking.drawn import movie, pairs
from scale.link_movies import assert_same, counts, embryo, in_windows, plain, savings

from bdv_io.formats import read_tracks
from bdv_io.tracks import Tracks
from howdah.errors import ScaleError
from howdah.linking import LinkingConfig, programme, windows
from howdah.linking.limits import limits_of
from howdah.linking.programme import NONE, Choices, best_choices, settle
from howdah.scale.link import blocks_of, windows_of
from howdah.scale.link_spots import read_spots, spots_file, write_spots

REAL = {
    "tgmm": "tgmm-3d/tgmm-mini.mastodon",
    "Pm07": "mastodon-projects/astec/Pm07.mastodon",
    "mamut": "mamut-xml/test-mamut.xml",
}


@settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1),
    solver=st.sampled_from(["pairwise", "nearest", "global"]),
    gap=st.sampled_from([1, 2, 3, 5]),
    window=st.integers(1, 9),
    reach=st.sampled_from([None, 3.0]),
    fill=st.booleans(),
)
def test_any_window_gives_the_same_bits(tmp_path_factory, seed, solver, gap, window, reach, fill):
    tracks = embryo(seed, cells=8, frames=8)
    config = LinkingConfig(solver=solver, frame_gap=gap, max_distance=reach, interpolate=fill)
    if solver == "global":
        config = config.but(border_distance=3.0, disappearance_cost=0.2)
    whole = plain(tracks, config)
    got = in_windows(tracks, config, window, tmp_path_factory.mktemp("w"))
    if solver == "global":
        assert savings(got, config, tracks) == pytest.approx(savings(whole, config, tracks), abs=1e-6)
        if not np.array_equal(got.links, whole.links):
            return  # another solution that is as good
    assert_same(whole, got)


@pytest.mark.parametrize("gap", [1, 3])
def test_only_some_frames_are_linked(tmp_path, gap):
    tracks = embryo(5)
    config = LinkingConfig(frame_gap=gap)
    frames = [1, 2, 3, 7, 8, 11]
    assert_same(plain(tracks, config, frames), in_windows(tracks, config, 2, tmp_path, frames))


@pytest.mark.parametrize("solver", ["pairwise", "nearest", "global"])
def test_linking_again_drops_what_a_machine_did_before(tmp_path, solver):
    config = LinkingConfig(solver=solver, frame_gap=3)
    once = plain(embryo(6), config)
    again = plain(once, config)
    assert_same(again, in_windows(once, config, 3, tmp_path))


@pytest.mark.parametrize("frames", [(), ("a",), (".", "a", ".", "."), ("a", ".", ".", ".", ".", "A")])
def test_movies_with_hardly_anything(tmp_path, frames):
    tracks = movie(*frames)
    assert_same(plain(tracks, LinkingConfig()), in_windows(tracks, LinkingConfig(), 1, tmp_path))


def test_no_spot_is_invented_at_a_seam(tmp_path):
    # a track through three windows, lost in the middle of a seam: one spot is put there, not two
    lost = movie("a", ".b", "..c", "....", "....D", ".....E")
    config = LinkingConfig(max_distance=2, frame_gap=3)
    for window in (1, 2, 5):
        got = in_windows(lost, config, window, tmp_path / str(window))
        assert (got.n_spots, got.n_links, got.tracks()[0]) == (6, 5, 1)
        assert {"ab", "bc", "DE"} <= pairs(got)


@pytest.mark.parametrize("solver", ["pairwise", "global"])
def test_where_windows_overlap_they_agree(tmp_path, solver):
    tracks = embryo(8, frames=16)
    config = LinkingConfig(solver=solver, frame_gap=3, interpolate=False)
    found = [in_windows(tracks, config, window, tmp_path / str(window)) for window in (4, 7, 11)]
    assert len(set(map(counts, found))) == 1
    for one, other in itertools.pairwise(found):
        np.testing.assert_array_equal(one.links, other.links)


@pytest.mark.real
@pytest.mark.parametrize("name", list(REAL))
@pytest.mark.parametrize("solver", ["pairwise", "nearest", "global"])
def test_real_lineages(real_data, tmp_path, name, solver):
    tracks = read_tracks(real_data / REAL[name])
    rng = np.random.default_rng(1)
    late = tracks.t <= tracks.t.min() + 20
    tracks = tracks.select(late & (rng.random(tracks.n_spots) > 0.1)).select_links([])
    config = LinkingConfig(solver=solver, frame_gap=3)
    whole, got = plain(tracks, config), in_windows(tracks, config, 7, tmp_path)
    assert counts(whole) == counts(got)
    assert_same(whole, got)


class TestPieces:
    def test_windows_hold_every_frame_once(self):
        times, sizes = np.array([3, 4, 6, 7, 20]), np.array([150_000, 60_000, 1, 1, 300_000])
        assert windows_of(times, sizes, 4) == [(3, 7), (7, 11), (11, 15), (15, 19), (19, 21)]
        assert windows_of(times, sizes, None) == [(3, 4), (4, 20), (20, 21)]
        assert windows_of(times[:0], sizes[:0], None) == []

    def test_blocks_need_what_comes_before_them(self):
        times = np.arange(30)
        for solver, gap in itertools.product(("pairwise", "global"), (1, 4)):
            config = LinkingConfig(solver=solver, frame_gap=gap)
            blocks, last = blocks_of(windows_of(times, times + 1, 5), times, times + 1, config)
            seen = set()
            for block in blocks:
                assert set(block.needs) <= seen
                seen.add(block.key)
            assert set(last) <= seen
            assert len(last) == 6
            assert len(seen) == len(blocks)

    def test_what_hangs_on_the_unknown_stays_open(self):
        # p0 - c0 is sure; c1 may go to p1 or to p2, of which nothing is known
        choices = Choices(np.array([0, 1, 2]), np.array([0, 1, 1]), np.full(3, NONE), np.array([5.0, 2.0, 3.0]))
        taken, still = settle(choices, np.array([True, True, False]), 2)
        assert taken.tolist() == [True, False, False]
        assert still.tolist() == [False, True, True]
        assert best_choices(choices, 2, 3).tolist() == [True, False, True]

    def test_large_parts_are_begun_and_nearly_as_good(self, monkeypatch, tmp_path):
        tracks = embryo(9, cells=15, frames=16, box=12.0)
        config = LinkingConfig(solver="global", frame_gap=3, interpolate=False, max_distance=5.0)
        whole = savings(plain(tracks, config), config, tracks)
        monkeypatch.setattr(programme, "PART", 300)
        monkeypatch.setattr(windows, "CARRIED", 500)
        got = in_windows(tracks, config, 4, tmp_path)
        assert (got.n_parents() <= 1).all()
        assert got.n_children().max() <= 2
        assert 0.97 * whole < savings(got, config, tracks) <= whole + 1e-6

    def test_a_damaged_file_of_spots_is_a_sentence(self, tmp_path):
        tracks, config, path = embryo(1), LinkingConfig(), spots_file(tmp_path / "x.mastodon")
        digest, order = write_spots(path, tracks, config, np.ones(tracks.n_spots, dtype=bool), shapes=True)
        assert sorted(order) == list(range(tracks.n_spots))
        spots = read_spots(path, digest)
        job, place = spots.window(3, 6, config, limits_of(tracks, config))
        rows = order[place]
        assert rows.tolist() == np.flatnonzero((tracks.t >= 3) & (tracks.t < 6)).tolist()
        np.testing.assert_array_equal(job.tracks.covariance, tracks.covariance[rows])
        with pytest.raises(ScaleError, match="is not the file of spots of this run"):
            read_spots(path, "0" * 64)
        data = bytearray(path.read_bytes())
        data[len(data) // 4] ^= 1
        path.write_bytes(bytes(data))
        with pytest.raises(ScaleError, match=r"The spots of frame \d+ in .* are not those that were written there"):
            read_spots(path, digest).window(0, 14, config, limits_of(tracks, config))
        path.unlink()
        with pytest.raises(ScaleError, match="cannot be read"):
            read_spots(path, digest)

    def test_a_link_backwards_in_time_disturbs_nobody(self, tmp_path):
        tracks = embryo(2, known=0.0)
        odd = Tracks.build(
            tracks.t, tracks.centre, radius=2.0, links=[[int(tracks.t.argmax()), int(tracks.t.argmin())]]
        )
        assert_same(plain(odd, LinkingConfig()), in_windows(odd, LinkingConfig(), 3, tmp_path))
