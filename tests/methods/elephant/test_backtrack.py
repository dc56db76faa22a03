"""Following one nucleus: what it meets, what it makes, and what it never does."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bdv_io.tags import Tag
from bdv_io.tracks import Tracks, spheres
from howdah.errors import ConfigError, DataError
from howdah.methods import Spots
from howdah.methods.elephant.backtrack import BacktrackConfig, Backtracked, backtrack
from howdah.progress import finish

SPEED = np.array([0.0, 0.0, 3.0])
CONFIG = BacktrackConfig(search_distance=2.0)
FORWARD = BacktrackConfig(search_distance=5.0, direction="forward")


def at(frame):
    """Where the nucleus is: it moves 3 to the right in each frame, more than the search distance."""
    return np.array([5.0, 5.0, 5.0 + 3 * frame])


def flow(frame, centre, covariance):
    assert centre.shape == (1, 3)
    assert covariance.shape == (1, 3, 3)
    return centre - SPEED


def seen(*frames):
    """A detector that finds the nucleus in these frames, and something far away in all."""

    def detect(frame, box):
        low, high = box
        places = np.array([*([at(frame) + 0.25] if frame in frames else []), at(frame) + 40.0])
        inside = ((places >= low) & (places <= high)).all(axis=1)
        places = places[inside]
        return Spots(places, spheres(2.0, len(places)), np.full(len(places), 0.8))

    return detect


def track_of(frames, *, links=True, **columns):
    frames = list(frames)
    pairs = [(i, i + 1) for i in range(len(frames) - 1)] if links else None
    return Tracks.build(frames, [at(frame) for frame in frames], radius=2.0, links=pairs, **columns)


def followed(tracks, spot, config=CONFIG, **options) -> Backtracked:
    done = finish(backtrack(tracks, spot, config, **options))
    done.tracks.validate()
    return done


def actions(done):
    return [step.action for step in done.steps]


def test_it_is_detected_back_to_the_first_frame():
    done = followed(track_of([4]), 0, estimate=flow, detect=seen(0, 1, 2, 3))
    assert actions(done) == ["detected"] * 4
    assert done.tracks.t.tolist() == [4, 3, 2, 1, 0]
    assert done.tracks.links.tolist() == [[1, 0], [2, 1], [3, 2], [4, 3]]
    assert done.tracks.tagged("Detection", "unlabeled").tolist() == [False] + [True] * 4
    assert done.tracks.tagged("Tracking", "unlabeled", links=True).all()
    assert [step.spot for step in done.steps] == done.tracks.id[1:].tolist()
    np.testing.assert_allclose([step.quality for step in done.steps], 0.8)


def test_without_flow_it_is_looked_for_where_it_was():
    done = followed(track_of([4]), 0, detect=seen(0, 1, 2, 3))  # it moves by more than the reach
    assert actions(done) == ["stopped"]
    assert done.tracks.n_spots == 1


def test_it_links_to_spots_that_are_there_and_ends_at_a_track():
    tracks = track_of([0, 1]).concatenate(track_of([2])).concatenate(track_of([3]))
    done = followed(tracks, 3, estimate=flow)
    assert actions(done) == ["linked", "reached a track"]
    assert done.tracks.links.tolist() == [[0, 1], [2, 3], [1, 2]]
    assert done.tracks.n_spots == tracks.n_spots


def test_it_begins_where_its_track_begins():
    done = followed(track_of([2, 3, 4]), 2, estimate=flow, detect=seen(0, 1))
    assert done.tracks.t.tolist() == [2, 3, 4, 1, 0]
    assert done.tracks.links.tolist()[2:] == [[3, 0], [4, 3]]


def test_a_frame_in_which_it_is_not_seen_is_bridged():
    done = followed(track_of([4]), 0, estimate=flow, detect=seen(0, 1, 3))
    assert actions(done) == ["detected", "interpolated", "detected", "detected"]
    assert done.tracks.quality[2] == 0
    # halfway between what was expected and what was found
    np.testing.assert_allclose(done.tracks.centre[2], at(2) + 0.25)


def test_a_bridge_is_bent_to_where_it_leads():
    tracks = Tracks.build([3, 0], [[0, 0, 0], [0, 0, 3.0]], radius=2.0)
    done = followed(tracks, 0, CONFIG.but(search_distance=4.0))
    np.testing.assert_allclose(done.tracks.centre[2:, 2], [1, 2])
    assert actions(done) == ["interpolated", "interpolated", "linked"]


def test_a_bridge_to_nowhere_is_left_out():
    done = followed(track_of([4]), 0, estimate=flow, detect=seen(3))
    assert actions(done) == ["detected", "stopped"]
    assert done.steps[-1].why == "Nothing was found in the last 3 frames."
    assert done.tracks.n_spots == 2
    shorter = followed(track_of([9]), 0, CONFIG.but(max_interpolated=2), estimate=flow, detect=seen(8))
    assert shorter.steps[-1].why == "Nothing was found in 3 frames."
    assert shorter.tracks.n_spots == 2


def test_it_stops_after_so_many_frames():
    done = followed(track_of([9]), 0, CONFIG.but(max_frames=2), estimate=flow, detect=seen(*range(9)))
    assert done.tracks.t.tolist() == [9, 8, 7]


@pytest.mark.parametrize(("config", "spot", "edge"), [(CONFIG, 0, "first"), (FORWARD, 3, "last")])
def test_a_track_at_the_edge_of_the_movie_names_that_edge(config, spot, edge):
    done = followed(track_of(range(4)), spot, config)
    assert actions(done) == ["stopped"]
    assert f"the {edge} frame" in done.steps[0].why


def test_a_rejected_spot_is_not_linked_and_not_doubled():
    tracks = track_of([3, 4], links=False).with_tag("Detection", Tag("fp"), spots=[0])
    done = followed(tracks, 1, estimate=flow, detect=seen(3))
    assert actions(done) == ["stopped"]
    assert "a person said is no nucleus" in done.steps[0].why
    assert (done.tracks.n_spots, done.tracks.n_links) == (2, 0)


def test_nobody_gets_a_third_child():
    centre = [at(3), at(4) + 1, at(4) - 1, at(4)]
    tracks = Tracks.build([3, 4, 4, 4], centre, radius=2.0, links=[(0, 1), (0, 2)])
    done = followed(tracks, 3, estimate=flow, detect=seen(3))
    assert actions(done) == ["stopped"]
    assert "has two children already" in done.steps[0].why


@pytest.mark.parametrize(("away", "action"), [(2.5, "reached a track"), (3.5, "stopped")])
def test_a_neighbour_that_goes_on_is_no_mother(away, action):
    aside = np.array([0.0, away, 0.0])
    tracks = Tracks.build(
        [2, 3, 4, 4], [at(2), at(3) + aside, at(4) + aside, at(4)], radius=2.0, links=[(0, 1), (1, 2)]
    )
    wide = CONFIG.but(search_distance=5.0, max_frames=1)
    done = finish(backtrack(tracks, 3, wide, estimate=flow))
    assert actions(done) == [action]


def test_a_detected_nucleus_wins_over_a_spot_that_is_further_away():
    tracks = Tracks.build([3, 4], [at(3) + np.array([0, 3.0, 0]), at(4)], radius=2.0)
    wide = CONFIG.but(search_distance=5.0)
    assert actions(followed(tracks, 1, wide, estimate=flow, detect=seen(3)))[0] == "detected"
    assert actions(followed(tracks, 1, wide, estimate=flow, detect=seen()))[0] == "linked"
    assert actions(followed(tracks, 1, wide, estimate=flow))[0] == "linked"


def test_forward_it_is_followed_to_the_end():
    done = followed(track_of([0, 1]), 0, FORWARD, n_frames=4, detect=seen(2, 3))
    assert done.tracks.t.tolist() == [0, 1, 2, 3]
    assert done.tracks.links.tolist() == [[0, 1], [1, 2], [2, 3]]
    joined = track_of([0]).concatenate(track_of([1, 2]))
    done = followed(joined, 0, FORWARD)
    assert actions(done) == ["reached a track"]


def test_forward_a_spot_with_a_parent_is_not_taken():
    tracks = Tracks.build([0, 0, 1], [at(0), at(0) + 9, at(0)], radius=2.0, links=[(1, 2)])
    done = followed(tracks, 0, FORWARD)
    assert actions(done) == ["stopped"]
    assert "has a parent already" in done.steps[0].why


def test_what_cannot_be_followed_is_said():
    with pytest.raises(DataError, match="row 5 was given, but there are 1 spots"):
        followed(track_of([4]), 5)
    dividing = Tracks.build([0, 1, 1], np.zeros((3, 3)), radius=1, links=[(0, 1), (0, 2)])
    with pytest.raises(DataError, match="its track divides, or joins another one, at frame 0"):
        followed(dividing, 0, FORWARD)
    with pytest.raises(DataError, match="spot 0 is no nucleus, as a person said"):
        followed(track_of([4]).with_tag("Detection", Tag("tn"), spots=[0]), 0)
    with pytest.raises(ConfigError, match="max_frames"):
        BacktrackConfig.of({"max_frames": 0})


def test_a_spot_of_the_first_frame_has_nothing_before():
    done = followed(track_of([0, 1]), 1)
    assert (actions(done), done.tracks.n_spots) == (["stopped"], 2)


def test_an_estimate_that_is_not_known_leaves_it_where_it_is():
    done = followed(
        track_of([0, 1], links=False), 1, CONFIG.but(search_distance=4.0), estimate=lambda *_: np.full((1, 3), np.nan)
    )
    assert actions(done) == ["linked"]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.booleans())
def test_what_was_there_stays_and_the_graph_stays_a_forest(seed, forward):
    random = np.random.default_rng(seed)
    n = int(random.integers(2, 30))
    t = random.integers(0, 6, n)
    tracks = Tracks.build(t, random.uniform(0, 12, (n, 3)), radius=1.5)
    links = []
    for target in range(n):
        before = np.flatnonzero(t == t[target] - 1)
        if len(before) and random.random() < 0.4:
            source = int(random.choice(before))
            if sum(link[0] == source for link in links) < 2:
                links.append((source, target))
    tracks = tracks.with_links(links)
    tracks = tracks.with_tag("Detection", Tag("fp"), spots=random.random(n) < 0.1)
    spot = int(random.integers(n))

    def detect(frame, box):
        places = random.uniform(*box, (2, 3))
        return Spots(places, spheres(1.5, 2), np.ones(2))

    config = BacktrackConfig(direction="forward" if forward else "back")
    with contextlib.suppress(DataError):  # it divides, or a person rejected it
        check(tracks, followed(tracks, spot, config, detect=detect).tracks)


def check(tracks, after):
    n = tracks.n_spots
    np.testing.assert_array_equal(after.centre[:n], tracks.centre)
    np.testing.assert_array_equal(after.links[: tracks.n_links], tracks.links)
    assert after.n_parents().max(initial=0) <= 1
    assert after.n_children().max(initial=0) <= 2
    assert (np.diff(after.t[after.links[tracks.n_links :]], axis=1) == 1).all()
    new = after.links[tracks.n_links :]
    assert not np.isin(new, np.flatnonzero(tracks.tagged("Detection", "fp"))).any()
