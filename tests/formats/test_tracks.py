"""The annotation model on named tiny cases and on random ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bdv_io import Feature, Tag, Tracks, ValidationError
from bdv_io.formats import format_named
from bdv_io.tracks import Carried


@pytest.fixture
def division() -> Tracks:
    """A nucleus that divides, and one that stays.

    t=0   0     4
          |     |
    t=1   1     5
         / \\
    t=2 2   3
    """
    centre = np.arange(18.0).reshape(6, 3)
    links = [[0, 1], [1, 2], [1, 3], [4, 5]]
    return Tracks.build([0, 1, 2, 2, 0, 1], centre, radius=2.0, links=links, label=["root", None, "a", "b", None, None])


def test_tracks_are_connected_components(division: Tracks) -> None:
    count, track = division.tracks()
    assert count == 2
    assert track.tolist() == [0, 0, 0, 0, 1, 1]


def test_divisions_have_two_children(division: Tracks) -> None:
    assert division.divisions().tolist() == [1]
    assert division.n_parents().tolist() == [0, 1, 1, 1, 0, 1]


def test_an_empty_annotation_has_no_tracks() -> None:
    empty = Tracks.empty().validate()
    assert empty.tracks()[0] == 0
    assert empty.divisions().size == 0
    assert empty.n_frames == 0
    assert empty.select(np.zeros(0, dtype=bool)).n_spots == 0
    assert empty.concatenate(empty).n_spots == 0


def test_a_sphere_has_its_squared_radius_on_the_diagonal(division: Tracks) -> None:
    assert np.array_equal(division.covariance[0], 4.0 * np.eye(3))


def test_selecting_keeps_links_whose_ends_stay(division: Tracks) -> None:
    tagged = division.with_tag("Fate", Tag("daughter"), spots=[2, 3], links=[1])
    valued = tagged.with_feature(Feature("cost", "", np.arange(4.0), target="link"))
    chosen = valued.select([3, 1, 2])
    assert chosen.links.tolist() == [[1, 2], [1, 0]]
    assert chosen.id.tolist() == [3, 1, 2]
    assert chosen.tagged("Fate", "daughter").tolist() == [True, False, True]
    assert chosen.tagged("Fate", "daughter", links=True).tolist() == [True, False]
    feature = chosen.feature("cost", target="link")
    assert feature is not None
    assert feature.values.tolist() == [1.0, 2.0]
    assert chosen.label.tolist() == ["b", None, "a"]


def test_concatenating_joins_tag_sets_by_name_and_counts_ids_on(division: Tracks) -> None:
    first = division.with_tag("Detection", Tag("fn"), spots=[0])
    second = division.with_tag("Detection", Tag("unlabeled"), spots=[1]).with_tag("Detection", Tag("fn"), spots=[2])
    both = first.concatenate(second).validate()
    assert both.n_spots == 12
    assert both.n_links == 8
    assert both.tracks()[0] == 4
    assert np.flatnonzero(both.tagged("Detection", "fn")).tolist() == [0, 8]
    assert np.flatnonzero(both.tagged("Detection", "unlabeled")).tolist() == [7]
    assert len(set(both.id.tolist())) == 12


def test_a_feature_that_one_side_lacks_is_undefined_there(division: Tracks) -> None:
    rich = division.with_feature(Feature("Quality", "", np.arange(6.0)))
    for both, defined in (
        (rich.concatenate(division), [True] * 6 + [False] * 6),
        (division.concatenate(rich), [False] * 6 + [True] * 6),
    ):
        feature = both.validate().feature("Quality")
        assert feature is not None
        assert feature.defined is not None
        assert feature.defined.tolist() == defined


def test_joining_different_units_is_refused(division: Tracks) -> None:
    other = Tracks.build([0], [[0, 0, 0]], radius=1.0, space_unit="mm")
    with pytest.raises(ValidationError, match="one measures in 'pixel', the other in 'mm'"):
        division.concatenate(other)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"links": [[0, 9]]}, r"1 link \(row 0\) has ends that are no spots"),
        ({"links": [[1, 0]]}, "source that is not earlier"),
        ({"links": [[0, 1], [0, 1]]}, "1 links occur more than once, the first joins spots 0 and 1"),
        ({"t": [0, -1]}, r"1 spot \(row 1\) has negative frames"),
        ({"centre": [[0, 0, np.nan], [0, 0, 0]]}, "centres that are not finite"),
        ({"radius": None, "covariance": [np.diag([1, 1, 0]), np.eye(3)]}, "no ellipsoids"),
        ({"id": [3, 3]}, "ids occur more than once, the first is 3"),
        ({"interval": 0.0}, "frame interval"),
        ({"features": (Feature("f", "", np.zeros(3)),)}, "Feature 'f' has shape"),
    ],
)
def test_what_is_wrong_is_said(change: dict[str, object], sentence: str) -> None:
    good = {"t": [0, 1], "centre": np.zeros((2, 3)), "radius": 1.0}
    Tracks.build(**good).validate()  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match=sentence):
        Tracks.build(**{**good, **change}).validate()  # type: ignore[arg-type]


def test_columns_of_the_wrong_shape_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"column 'centre' has shape \(2, 2\); expected 2 x 3"):
        Tracks.build([0, 1], np.zeros((2, 2)), radius=1)
    with pytest.raises(ValidationError, match="either covariance"):
        Tracks.build([0, 1], np.zeros((2, 3)))
    with pytest.raises(ValidationError, match="whole numbers"):
        Tracks.build([0.5, 1], np.zeros((2, 3)), radius=1)


def test_tagging_again_replaces_the_tag_of_the_set(division: Tracks) -> None:
    once = division.with_tag("Detection", Tag("fn"), spots=[0])
    twice = once.with_tag("Detection", Tag("tp"), spots=[0])
    assert not twice.tagged("Detection", "fn").any()
    assert twice.tagged("Detection", "tp").tolist() == [True] + [False] * 5
    assert once.tagged("Detection", "fn")[0], "the former object is unchanged"


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 40), st.integers(0, 2**32 - 1))
def test_selecting_everything_in_another_order_changes_nothing_but_the_order(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, 5, n))
    pairs = np.array([(a, b) for a in range(n) for b in range(n) if t[a] < t[b] and rng.random() < 0.1], dtype=np.int64)
    tracks = Tracks.build(t, rng.normal(size=(n, 3)), radius=1.0, links=pairs.reshape(-1, 2)).validate()
    order = rng.permutation(n)
    shuffled = tracks.select(order).validate()
    back = shuffled.select(np.argsort(order)).validate()
    assert np.array_equal(back.centre, tracks.centre)
    assert set(map(tuple, back.links.tolist())) == set(map(tuple, tracks.links.tolist()))
    assert shuffled.tracks()[0] == tracks.tracks()[0]


def test_frames_beyond_their_type_are_refused():
    with pytest.raises(ValidationError, match="column 't' runs from 0 to 1099511627776, beyond int32"):
        Tracks.build([0, 2**40], np.zeros((2, 3)), radius=1)
    with pytest.raises(ValidationError, match="to inf, beyond int32"):
        Tracks.build([0, np.inf], np.zeros((2, 3)), radius=1)


def test_what_only_one_program_knows_is_said_in_its_words() -> None:
    assert "log, settings" in Carried("trackmate", {"Log": b"x"}).alone
    assert "windows, bookmarks" in Carried("mastodon", {"gui.xml": b"x"}).alone
    assert Carried("ctc", {"grid.json": b"x"}).alone == Carried("trackmate").alone == ""
    tracks = replace(Tracks.empty(), carried=Carried("trackmate", {"Log": b"x"}))
    for key in ("mastodon", "csv"):
        assert tracks.carried.alone in format_named(key).losses(tracks)
    assert tracks.carried.alone not in format_named("trackmate").losses(tracks)
