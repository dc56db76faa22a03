"""Difference and merge: what one, or both, of two people did to an annotation is found and kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bdv_io.difference import REVIEW, difference, match_spots, review
from bdv_io.errors import ValidationError
from bdv_io.merge import CONFLICT, merged
from bdv_io.outlines import Outlines
from bdv_io.tags import Feature, Tag
from bdv_io.tracks import Tracks


def base() -> Tracks:
    """Two chains of three spots, ten apart, labelled, the first spot tagged."""
    t = [0, 1, 2, 0, 1, 2]
    centre = [[5, 5, 5], [5, 5, 6], [5, 5, 7], [5, 25, 5], [5, 25, 6], [5, 25, 7]]
    tracks = Tracks.build(
        t, np.array(centre, float), radius=2.0, links=[[0, 1], [1, 2], [3, 4], [4, 5]], label=list("abcdef")
    )
    return tracks.with_tag("Fate", Tag("skin"), spots=[0]).with_tag_set("Fate", [Tag("gut")])


def moved(tracks: Tracks, row: int, by: float) -> Tracks:
    centre = tracks.centre.copy()
    centre[row] += by
    return replace(tracks, centre=centre)


def relabelled(tracks: Tracks, row: int, text: str | None) -> Tracks:
    labels = tracks.label.copy()
    labels[row] = text
    return tracks.relabelled(labels)


def without(tracks: Tracks, row: int) -> Tracks:
    return tracks.select(np.delete(np.arange(tracks.n_spots), row))


def where(tracks: Tracks, label: str) -> int:
    return tracks.label.tolist().index(label)


def test_equal_annotations_do_not_differ_in_any_order() -> None:
    first = base()
    second = first.select([5, 3, 1, 0, 2, 4]).renumbered(100)
    found = difference(first, second)
    assert not found
    assert set(found.counts.values()) == {0}
    np.testing.assert_array_equal(first.label[found.pairs[:, 0]], second.label[found.pairs[:, 1]])


def test_every_kind_of_difference_is_found() -> None:
    first = base()
    second = moved(without(relabelled(first, 1, "new"), 5), 3, 0.5)
    second = second.with_tag("Fate", Tag("gut"), spots=[0]).with_tag("Done", Tag("yes"), links=[0])
    second = second.concatenate(Tracks.build([2], [[50, 50, 50]], radius=1.0)).with_links([[4, 5]])
    found = difference(first, second)
    assert found.counts == {
        "spots_added": 1,
        "spots_removed": 1,
        "spots_moved": 1,
        "spots_reshaped": 0,
        "spots_relabelled": 1,
        "spots_retagged": 1,
        "links_added": 1,
        "links_removed": 1,
        "links_retagged": 1,
    }
    assert found.notes == ("Tag set 'Done' is new.",)
    np.testing.assert_allclose(found.distance[found.moved], 0.5 * np.sqrt(3))
    shown = review(first, second, found)
    assert shown.n_spots == 7
    assert shown.label[shown.tagged(REVIEW, "removed")].tolist() == ["f"]
    assert shown.label[shown.tagged(REVIEW, "moved")].tolist() == ["d"]
    assert sorted(shown.label[shown.tagged(REVIEW, "changed")].tolist()) == ["a", "new"]
    assert shown.tagged(REVIEW, "added").sum() == 1
    shown.validate()


def test_spots_at_one_place_are_paired_one_by_one() -> None:
    twins = Tracks.build([0, 0, 0], np.zeros((3, 3)), radius=1.0)
    assert len(match_spots(twins, twins)) == 3
    assert difference(twins, without(twins, 1)).counts["spots_removed"] == 1


def test_other_units_cannot_be_compared() -> None:
    with pytest.raises(ValidationError, match="one measures in 'pixel', the other in 'µm'"):
        difference(base(), replace(base(), space_unit="µm"))
    with pytest.raises(ValidationError, match="Merging two annotations failed"):
        merged(base(), replace(base(), space_unit="µm"))


def test_merging_without_a_common_version_is_the_union() -> None:
    first, second = without(base(), 5), without(base(), 0)
    both = merged(first, second)
    assert sorted(both.label.tolist()) == list("abcdef")
    assert both.n_links == 4
    assert both.tag_set(CONFLICT) is None
    assert not difference(both, base())


def test_contradictions_are_tagged_and_the_first_wins() -> None:
    first, second = relabelled(base(), 1, "mine"), moved(relabelled(base(), 1, "yours"), 2, 0.5)
    second = second.with_tag("Fate", Tag("gut"), spots=[0])
    both = merged(first, second)
    assert both.n_spots == 6
    assert both.label[1] == "mine"
    np.testing.assert_array_equal(both.centre, first.centre)
    for row, kind in ((0, "tag"), (1, "label"), (2, "place")):
        assert both.tagged(CONFLICT, kind)[row], kind


def test_three_ways_take_what_one_changed() -> None:
    origin = base()
    first = moved(without(origin, 5), 0, 0.5)
    second = relabelled(moved(origin, 3, 0.25), 1, "new").with_tag("Fate", Tag("gut"), spots=[4])
    second = second.select_links(np.array([True, False, True, True]))
    both = merged(first, second, base=origin)
    assert both.tag_set(CONFLICT) is None
    assert sorted(both.label.tolist()) == sorted(["a", "new", "c", "d", "e"])  # f was removed by the first
    np.testing.assert_allclose(both.centre[where(both, "a")], first.centre[0])
    np.testing.assert_allclose(both.centre[where(both, "d")], second.centre[3])
    assert both.tagged("Fate", "gut")[where(both, "e")]
    ends = {tuple(both.label[link].tolist()) for link in both.links}
    assert ends == {("a", "new"), ("d", "e")}  # the link to c was removed by the second


def test_three_ways_tag_what_both_changed_and_keep_what_one_changed_and_one_removed() -> None:
    origin = base()
    first, second = moved(without(origin, 5), 0, 0.5), moved(moved(origin, 0, -0.5), 5, 0.5)
    both = merged(first, second, base=origin)
    assert both.tagged(CONFLICT, "place")[where(both, "a")]
    assert both.tagged(CONFLICT, "removed by one")[where(both, "f")]
    np.testing.assert_allclose(both.centre[where(both, "a")], first.centre[0])


def test_a_tag_and_a_label_that_one_took_away_stay_away() -> None:
    origin = base()
    tags = origin.tag_set("Fate")
    assert tags is not None
    second = relabelled(origin, 2, None).with_tags(replace(tags, spots=np.full(6, -1)))
    both = merged(origin, second, base=origin)
    assert both.label[2] in (None, "")
    assert not both.tagged("Fate", "skin").any()


def test_features_and_outlines_of_both_are_kept() -> None:
    ring = np.array([[0, 0], [0, 1], [1, 1.0]])
    first = replace(base(), outlines=Outlines.of_polygons([0], [ring], 5.0))
    first = first.with_feature(Feature("volume", "", np.arange(6.0), defined=np.array([True] * 3 + [False] * 3)))
    second = replace(base(), outlines=Outlines.of_polygons([0, 4], [ring + 9, ring + 9], 5.0))
    second = second.with_feature(Feature("volume", "", np.arange(6.0) + 10)).with_feature(Feature("x", "", np.ones(6)))
    both = merged(first, second)
    assert both.outlines.spot.tolist() == [0, 4]
    np.testing.assert_array_equal(both.outlines.ring(0), ring)
    volume = both.feature("volume")
    assert volume is not None
    assert volume.values.tolist() == [0, 1, 2, 13, 14, 15]
    assert both.feature("x") is not None
    both.validate()


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30)), max_size=12, unique=True), st.integers(0, 2**32 - 1))
def test_merging_with_itself_or_its_parts_changes_nothing(spots, seed) -> None:
    random = np.random.default_rng(seed)
    t = np.array([s[0] for s in spots], np.int32)
    centre = np.array([[0, 0, s[1] * 10.0] for s in spots]).reshape(-1, 3)
    tracks = Tracks.build(t, centre, radius=1.0)
    pairs = [(i, j) for i in range(len(t)) for j in range(len(t)) if t[i] < t[j] and random.random() < 0.3]
    tracks = tracks.with_links(np.array(pairs).reshape(-1, 2))
    half = tracks.select(random.random(len(t)) < 0.5)
    for whole in (
        merged(tracks, tracks),
        merged(tracks, half),
        merged(half, tracks),
        merged(tracks, tracks, base=half),
    ):
        assert not difference(tracks, whole)
    assert not difference(half, merged(half, tracks, base=tracks))
