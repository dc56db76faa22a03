"""Proposals on tiny movies that can be drawn: one line a frame, x to the right, one character 1 um."""

from __future__ import annotations

import numpy as np
import pytest
from linking.drawn import movie

from bdv_io.tags import Feature
from bdv_io.tracks import Tracks
from howdah.errors import DataError
from howdah.linking import KINDS, LINK_QUALITY, LinkingConfig, find_proposals

FIVE = LinkingConfig(max_distance=5)


def told(tracks: Tracks, **options) -> list[str]:
    found = find_proposals(tracks, FIVE, **options)
    names = [*tracks.label, None]
    return [
        f"{kind}: {names[spot]} {names[other] or '-'}"
        for spot, kind, other in zip(found.spot, found.kinds, found.candidate, strict=True)
    ]


def test_nothing_to_do():
    assert told(movie("a....b", "A....B", links=["aA", "bB"])) == []
    assert told(movie()) == []


def test_an_end_with_a_candidate_comes_once():
    assert told(movie("a", ".A")) == ["end: a A"]


def test_ends_and_starts_without_a_candidate():
    tracks = movie("a...................b", "....................B", "A...................C", links=["bB", "BC"])
    assert told(tracks) == ["gap: a A"]
    lost = movie("a............b", ".............B", "......A......C", links=["bB", "BC"])
    assert sorted(told(lost)) == ["end: a -", "start: A -"]


def test_the_expected_place_follows_the_estimate():
    tracks = movie("....................b", "...a................B", "....................C", links=["bB", "BC"])
    home = tracks.centre.copy()
    home[tracks.label == "a", 2] -= 2
    found = find_proposals(tracks, FIVE, predicted=home)
    where = {kind: (place[2], at) for kind, place, at in zip(found.kinds, found.position, found.at, strict=True)}
    assert where == {"start": (1, 0), "end": (5, 2)}


def test_a_possible_division_names_mother_and_daughter():
    assert told(movie("...a...", ".A...B.", links=["aA"])) == ["possible division: a B", "start: B -"]


def test_settled_ends_are_left_alone():
    tracks = movie("a.........b", "..........B", "..........C", links=["bB", "BC"])
    assert told(tracks) == ["end: a -"]
    assert told(tracks, settled=tracks.label == "a") == []


def test_rejected_spots_are_neither_asked_nor_offered():
    assert told(movie("a", ".A"), candidates=[True, False]) == []


def test_doubtful_links_with_the_other_parent():
    tracks = movie("a.b", "A.B", links=["aA", "bB"]).with_feature(
        Feature(LINK_QUALITY, "", np.array([0.3, np.nan]), target="link")
    )
    found = find_proposals(tracks, FIVE)
    assert told(tracks) == ["low quality link: A b"]
    assert found.score.tolist() == [0.7]


def test_the_likeliest_come_first_and_a_limit_cuts():
    tracks = movie("a.........b....", ".A............B")
    assert told(tracks) == ["end: a A", "end: b B"]
    assert told(tracks, limit=1) == ["end: a A"]


def test_columns_fit():
    found = find_proposals(movie("a...b", ".A...", "....B"), FIVE)
    n = len(found.spot)
    assert {len(column) for column in found} == {n}
    assert found.position.shape == (n, 3)
    assert ((found.score >= 0) & (found.score <= 1)).all()
    assert set(found.kinds) <= set(KINDS)


def test_order_of_spots_does_not_matter():
    rng = np.random.default_rng(3)
    tracks = Tracks.build(rng.integers(0, 5, 60), rng.uniform(0, 10, (60, 3)), radius=1.0)
    order = rng.permutation(60)
    one, two = find_proposals(tracks, FIVE), find_proposals(tracks.select(order), FIVE)
    np.testing.assert_array_equal(tracks.id[one.spot], tracks.id[order][two.spot])
    np.testing.assert_allclose(one.score, two.score)


def test_wrong_shapes_are_sentences():
    with pytest.raises(DataError, match=r"settled has shape \(2,\); expected \(1,\)"):
        find_proposals(movie("a"), settled=[True, False])
