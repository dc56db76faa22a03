"""Errors as tags and features: what is tagged how, that nothing else changes, and that the next evaluation undoes it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bdv_io import Tracks
from bdv_io.formats import read_tracks, write_tracks
from bdv_io.tags import UNTAGGED, Feature, Tag
from howdah.errors import DataError
from howdah.metrics import match_spots
from howdah.metrics.mistakes import find_mistakes
from howdah.pipeline.error_tags import TAG_SET, tagged, without_evaluation

#                  a0 -> a1 -> a2 -> a3,a4 (divides)    b0 -> b1 -> b2       c0 -> c1
TRUE_PLACES = [(0, 0), (1, 0), (2, 0), (3, -4), (3, 4), (0, 50), (1, 50), (2, 50), (0, 90), (1, 90)]
TRUE_LINKS = [(0, 1), (1, 2), (2, 3), (2, 4), (5, 6), (6, 7), (8, 9)]


def truth() -> Tracks:
    return Tracks.build(
        [t for t, _ in TRUE_PLACES], [(0, 0, x) for _, x in TRUE_PLACES], radius=2.0, links=TRUE_LINKS, space_unit="µm"
    )


def result() -> Tracks:
    """The truth, moved by 0.5; without c1, without the link to the second daughter; b goes on to a spot that is made up."""
    places = [(t, x + 0.5) for t, x in TRUE_PLACES[:9]] + [(2, 200)]
    links = [(0, 1), (1, 2), (2, 3), (5, 6), (6, 9)]
    made = Tracks.build(
        [t for t, _ in places],
        [(0, 0, x) for _, x in places],
        radius=2.0,
        links=links,
        space_unit="µm",
        label=["one", *[None] * 9],
        quality=np.linspace(0.1, 1, 10),
    )
    made = made.with_tag("Mine", Tag("good", 0xFF112233), spots=[0, 3], links=[1])
    return made.with_feature(Feature("Brightness", "", np.arange(10.0)))


def judged(found: Tracks, *, sparse: bool = False, **options: object) -> Tracks:
    true = truth()
    pairs = match_spots(true, found, max_distance=2.0)
    mistakes = find_mistakes(true, found, pairs, sparse=sparse, overlap=options.get("overlap"))  # type: ignore[arg-type]
    return tagged(found, true, mistakes, pairs, **options)  # type: ignore[arg-type]


def tags_of(tracks: Tracks, *, links: bool = False) -> list[str]:
    tags = tracks.tag_set(TAG_SET)
    assert tags is not None
    return ["" if i == UNTAGGED else tags.tags[i].name for i in (tags.links if links else tags.spots).tolist()]


def same(first: Tracks, second: Tracks) -> None:
    for name in ("t", "centre", "covariance", "id", "links", "quality"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)
    assert first.label.tolist() == second.label.tolist()
    assert [tags.name for tags in first.tag_sets] == [tags.name for tags in second.tag_sets]
    for mine, theirs in zip(first.tag_sets, second.tag_sets, strict=True):
        assert mine.tags == theirs.tags
        np.testing.assert_array_equal(mine.spots, theirs.spots)
        np.testing.assert_array_equal(mine.links, theirs.links)
    assert {f.key for f in first.features} == {f.key for f in second.features}
    for mine in first.features:
        theirs = second.feature(mine.name, mine.projection, mine.target)
        assert theirs is not None
        np.testing.assert_array_equal(mine.values, theirs.values)


def test_every_error_has_its_tag() -> None:
    found = judged(result())
    assert tags_of(found) == [
        *("right", "right", "missed division", "right", "missed link"),
        *("right", "missed link", "missed link", "missed link", "false spot"),
        "missed spot",
    ]
    assert tags_of(found, links=True) == ["right", "right", "right", "right", "false link"]


def test_missed_spots_are_added_and_never_linked() -> None:
    found = judged(result())
    assert found.n_spots == 11
    np.testing.assert_array_equal(found.links, result().links)
    np.testing.assert_allclose(found.centre[10], (0, 0, 90))
    assert found.t[10] == 1


def test_numbers_say_how_bad_and_how_far() -> None:
    found = judged(result(), overlap=np.linspace(0.1, 1, 10))
    severity, distance, iou = (found.feature(name) for name in ("EVAL_SEVERITY", "EVAL_DISTANCE", "EVAL_IOU"))
    links = found.feature("EVAL_SEVERITY", target="link")
    assert severity is not None
    assert distance is not None
    assert iou is not None
    assert links is not None
    assert severity.values[2] == 1.0
    assert links.values[0] == 0
    assert links.values[4] > 0
    assert distance.units == "µm"
    np.testing.assert_allclose(distance.values[:9], 0.5)
    assert distance.defined is not None
    assert distance.defined.tolist() == [True] * 9 + [False] * 2
    np.testing.assert_allclose(iou.values[:9], np.linspace(0.1, 1, 10)[:9])
    assert Counter(tags_of(found))["poor mask"] == 3  # the fourth's mother is a missed division, which is worse


def test_nothing_else_changes() -> None:
    before = result()
    found = judged(before)
    kept = found.select(np.arange(before.n_spots))
    kept = replace(
        kept,
        tag_sets=tuple(tags for tags in kept.tag_sets if tags.name != TAG_SET),
        features=tuple(feature for feature in kept.features if not feature.name.startswith("EVAL")),
    )
    same(kept, before)


@pytest.mark.parametrize("manual_colours", [False, True])
def test_the_next_evaluation_takes_it_away(manual_colours: bool) -> None:
    before = result()
    found = judged(before, manual_colours=manual_colours)
    same(without_evaluation(found), before)
    same(judged(without_evaluation(found), manual_colours=manual_colours), found)
    assert without_evaluation(before) is before


def test_an_added_spot_that_was_linked_stays() -> None:
    found = judged(result()).with_links([(8, 10)])
    left = without_evaluation(found)
    assert left.n_spots == 11
    assert left.n_links == 6
    assert left.tag_set(TAG_SET) is None


def test_colours_of_a_hand_stay() -> None:
    hers = np.zeros(10, dtype=bool)
    hers[[0, 9]] = True
    before = result().with_feature(Feature("MANUAL_SPOT_COLOR", "", np.where(hers, -1, 0), defined=hers))
    found = judged(before, manual_colours=True)
    colour = found.feature("MANUAL_SPOT_COLOR")
    edges = found.feature("MANUAL_EDGE_COLOR", target="link")
    assert colour is not None
    assert colour.defined is not None
    assert edges is not None
    assert edges.values.tolist() == [0, 0, 0, 0, np.uint32(0xFFE69F00).view(np.int32)]
    assert colour.values[[0, 9]].tolist() == [-1, -1]
    assert colour.values[10] == np.uint32(0xFF56B4E9).view(np.int32)
    assert colour.defined.tolist() == [True, False, True, False, True, False, True, True, True, True, True]
    same(without_evaluation(found), before)


def test_a_tag_set_of_this_name_with_other_tags_is_hers() -> None:
    before = result().with_tag(TAG_SET, Tag("to discuss"), spots=[1])
    found = judged(before)
    assert [tags.name for tags in found.tag_sets] == ["Mine", "Evaluation", "Evaluation (Howdah)"]
    assert found.tagged(TAG_SET, "to discuss").tolist() == [False, True, *[False] * 9]
    same(without_evaluation(found), before)
    same(judged(without_evaluation(found)), found)


def test_where_a_sparse_truth_is_silent_nothing_is_tagged() -> None:
    found = judged(result(), sparse=True)
    assert tags_of(found)[9] == ""
    assert tags_of(found, links=True)[4] == ""


def test_an_empty_result_gets_all_that_it_missed() -> None:
    found = judged(result().select([]))
    assert tags_of(found) == ["missed spot"] * 10
    assert found.n_links == 0


def test_rows_must_fit() -> None:
    true, found = truth(), result()
    pairs = match_spots(true, found, max_distance=2.0)
    mistakes = find_mistakes(true, found, pairs)
    with pytest.raises(DataError, match=r"were matched with 10 true ones, but there are 9"):
        tagged(found.select(np.arange(9)), true, mistakes, pairs)
    fewer = found.select_links([0, 1])
    with pytest.raises(DataError, match=r"'link false' is in row 4 of the result, which has 2 rows"):
        tagged(fewer, true, mistakes, pairs)


@pytest.mark.parametrize("name", ["tagged.mastodon", "tagged.xml"])
def test_files_keep_it(tmp_path: Path, name: str) -> None:
    found = judged(result(), manual_colours=name.endswith(".xml"))
    write_tracks(tmp_path / name, found)
    back = read_tracks(tmp_path / name)
    assert Counter(tags_of(back)) == Counter(tags_of(found))
    assert Counter(tags_of(back, links=True)) == Counter(tags_of(found, links=True))
    assert back.feature("EVAL_SEVERITY") is not None
    left = without_evaluation(back)
    assert (left.n_spots, left.n_links) == (10, 5)
    assert not [f.name for f in left.features if f.name.startswith(("EVAL", "MANUAL"))]


@pytest.mark.real
def test_a_real_project_keeps_all_it_had(real_data: Path, tmp_path: Path) -> None:
    true = read_tracks(real_data / "tgmm-3d" / "tgmm-mini.mastodon")
    found = read_tracks(real_data / "tgmm-3d" / "tgmm-mini.mastodon").select_links(np.arange(true.n_links) % 9 > 0)
    pairs = match_spots(true, found, max_distance=2.0)
    grown = tagged(found, true, find_mistakes(true, found, pairs), pairs)
    write_tracks(tmp_path / "tagged.mastodon", grown)
    back = read_tracks(tmp_path / "tagged.mastodon")
    assert Counter(tags_of(back)) == Counter(tags_of(grown))
    same(without_evaluation(back), found)
    assert back.carried.entries.keys() >= found.carried.entries.keys()
