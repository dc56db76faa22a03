"""What has to happen in Mastodon: a plan, carried out on columns, gives the annotation that was meant."""

from dataclasses import replace

import numpy as np
import pytest
from bridge.mastodon_child import first_difference
from hypothesis import given, settings
from hypothesis import strategies as st

from bdv_io.difference import match_spots
from bdv_io.mastodon.model_file import write_model
from bdv_io.mastodon.project import tracks_of_entries
from bdv_io.mastodon.project_file import ProjectFile
from bdv_io.mastodon.tag_file import write_tags
from bdv_io.tags import Feature, Tag
from bdv_io.tracks import Tracks
from howdah.bridge.mastodon import open_project
from howdah.bridge.mastodon_plan import NEW, Reading, changed_meanwhile, pairs_by_id, plan_of, rows_of
from howdah.errors import BridgeError

SPOT = "TrackMate Spot features"


def chain(n=6):
    """Return a track of n spots whose ids are 10, 11, ..."""
    tracks = Tracks.build(
        t=np.arange(n),
        centre=np.arange(3 * n).reshape(n, 3),
        radius=2.0,
        links=np.stack([np.arange(n - 1), np.arange(1, n)], axis=1),
        label=[f"s{i}" for i in range(n)],
    )
    return replace(tracks, id=np.arange(10, 10 + n))


def reading(tracks):
    return Reading(tracks, tracks.id)


def plan(before, after):
    return plan_of(reading(before), after, pairs_by_id(before, after))


def did(made):
    return {name: count for name, count in made.counts.items() if count}


def test_nothing_to_do():
    made = plan(chain(), chain())
    assert not made
    assert not made.edits
    assert len(made.touched) == 0


def test_spots_are_added_and_removed():
    before = chain()
    after = before.select([0, 1, 2, 4, 5]).concatenate(chain(2).renumbered(90))
    made = plan(before, after)
    assert did(made) == {"spots_added": 2, "spots_removed": 1, "links_added": 1}
    assert made.removed.tolist() == [13]
    assert made.ids.tolist() == [10, 11, 12, 14, 15, NEW, NEW]
    assert made.links_added.tolist() == [3]  # links of the removed spot go with it


def test_a_spot_in_another_frame_is_removed_and_added():
    before = chain()
    after = replace(before, t=np.array([0, 1, 2, 3, 4, 7], np.int32))
    assert did(plan(before, after)) == {"spots_added": 1, "spots_removed": 1, "links_added": 1}


def test_places_shapes_and_labels():
    before = chain()
    centre, covariance, label = before.centre.copy(), before.covariance.copy(), before.label.copy()
    centre[1] += 1
    centre[4] *= 1 + 1e-12  # rounding
    covariance[2] *= 2
    label[3] = None
    made = plan(before, replace(before, centre=centre, covariance=covariance, label=label))
    assert (made.moved.tolist(), made.reshaped.tolist(), made.relabelled.tolist()) == ([1], [2], [3])
    assert made.touched.tolist() == [11, 12, 13]


def test_links():
    before = chain()
    after = before.select_links([0, 1, 3, 4]).with_links([[2, 4]])
    made = plan(before, after)
    assert made.links_removed.tolist() == [[12, 13]]
    assert after.links[made.links_added].tolist() == [[2, 4]]


def test_tags_are_known_by_name():
    before = chain().with_tag("State", Tag("a"), spots=[0, 1], links=[0]).with_tag("State", Tag("b"), spots=[2])
    swapped = before.tag_set("State")
    position = np.array([1, 0, -1], np.int32)
    after = before.with_tags(
        replace(swapped, tags=swapped.tags[::-1], spots=position[swapped.spots], links=position[swapped.links])
    )
    made = plan(before, after)
    assert made.new_tag_sets
    assert not made.retagged
    again = after.with_tag("State", Tag("c"), spots=[1], links=[0])
    made = plan(after, again)
    assert {name: rows.tolist() for name, rows in made.retagged.items()} == {"State": [1]}
    assert {name: rows.tolist() for name, rows in made.links_retagged.items()} == {"State": [0]}


def test_features_are_known_by_the_names_that_mastodon_stores():
    before = chain().with_feature(Feature(SPOT, "Howdah score", np.arange(6.0)))
    same = chain().with_feature(Feature("Howdah", "score", np.arange(6.0)))
    assert not plan(before, same)
    other = chain().with_feature(Feature("Howdah", "score", np.arange(6.0) + 1))
    assert plan(before, other).features == (SPOT,)
    assert plan(before, chain()).features_removed == (SPOT,)
    computed = chain().with_feature(Feature("Link displacement", "", np.arange(5.0), target="link"))
    assert not plan(chain(), computed)


def test_stored_features_are_written_again_where_mastodon_forgets_them():
    before = chain().with_feature(Feature(SPOT, "score", np.arange(6.0)))
    after = replace(before, centre=before.centre + 1)
    assert plan(before, after).features == (SPOT,)


def test_what_the_user_did_meanwhile():
    before = chain().with_tag("State", Tag("a"), spots=[0])
    after = before.select([0, 1, 2, 3, 4])  # removes 15
    made = plan(before, after)
    moved = replace(before, centre=before.centre + (np.arange(6) == 2)[:, None])
    assert changed_meanwhile(made, reading(before), moved).tolist() == []
    last = replace(before, centre=before.centre + (np.arange(6) == 5)[:, None])
    assert changed_meanwhile(made, reading(before), last).tolist() == [15]
    linked = before.concatenate(chain(1).renumbered(50)).with_links(
        [[5, 6]]
    )  # a new daughter of the spot that is to go
    assert changed_meanwhile(made, reading(before), linked).tolist() == [15]
    gone = before.select([0, 1, 2, 3, 4])
    assert changed_meanwhile(made, reading(before), gone).tolist() == [15]
    tagged = before.with_tag("State", Tag("b"), spots=[5])
    assert changed_meanwhile(made, reading(before), tagged).tolist() == [15]


def test_rows_of():
    assert rows_of(np.array([5, 7, 1]), np.array([7, 1, 9])).tolist() == [-1, 0, 1]
    assert rows_of(np.array([5]), np.array([], np.int64)).tolist() == [-1]


def carried_out(made, before, after):
    """Do with columns what the loops do in Java: the state of Mastodon after the plan, sorted by id."""
    spots = {
        int(i): [before.t[r], *before.centre[r], *before.covariance[r].ravel(), before.label[r]]
        for r, i in enumerate(before.id)
    }
    links = {tuple(ends) for ends in before.id[before.links].tolist()}
    links -= {tuple(ends) for ends in made.links_removed.tolist()}
    for number in made.removed.tolist():
        del spots[number]
        links = {ends for ends in links if number not in ends}
    ids = made.ids.copy()
    ids[made.added] = np.arange(len(made.added)) + 10**6
    for row in made.added:
        spots[int(ids[row])] = [after.t[row], *after.centre[row], *after.covariance[row].ravel(), after.label[row]]
    for row in made.moved:
        spots[int(ids[row])][1:4] = after.centre[row]
    for row in made.reshaped:
        spots[int(ids[row])][4:13] = after.covariance[row].ravel()
    for row in made.relabelled:
        spots[int(ids[row])][13] = after.label[row]
    links |= {tuple(ends) for ends in ids[after.links[made.links_added]].tolist()}
    return ids, spots, links


@st.composite
def changes(draw):
    """An annotation and what somebody made of it."""
    n = draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    before = chain(n)
    after = before.select(np.flatnonzero(rng.random(n) < 0.7))
    after = after.select(rng.permutation(after.n_spots))
    m = after.n_spots
    moved = rng.random(m) < 0.3
    label = after.label.copy()
    label[rng.random(m) < 0.2] = "new"
    after = replace(
        after,
        centre=after.centre + moved[:, None],
        covariance=after.covariance * np.where(rng.random(m) < 0.3, 2.0, 1.0)[:, None, None],
        label=label,
        t=np.where(rng.random(m) < 0.1, after.t + 100, after.t).astype(np.int32),
    )
    after = after.concatenate(chain(draw(st.integers(0, 4))).renumbered(1000))
    kept = after.select_links(rng.random(after.n_links) < 0.8)
    return before, kept


@given(changes())
@settings(max_examples=60, deadline=None)
def test_a_plan_leads_to_what_was_meant(change):
    before, after = change
    made = plan(before, after)
    ids, spots, links = carried_out(made, before, after)
    assert sorted(spots) == sorted(ids.tolist())
    for row, number in enumerate(ids.tolist()):
        meant = [after.t[row], *after.centre[row], *after.covariance[row].ravel(), after.label[row]]
        assert spots[number] == meant
    assert links == {tuple(ends) for ends in ids[after.links].tolist()}


def test_without_ids_spots_at_the_same_place_are_the_same():
    before = chain()
    elsewhere = before.select([5, 4, 3, 2, 1, 0]).renumbered(0)
    assert not plan_of(reading(before), elsewhere, match_spots(before, elsewhere))


def test_entries_are_read_wherever_they_come_from(tmp_path):
    tracks = chain().with_tag("State", Tag("a"), spots=[0])
    entries = {
        "project.xml": ProjectFile().to_bytes(),
        "model.raw": write_model(tracks),
        "tags.raw": write_tags(tracks),
    }
    assert first_difference(tracks, tracks_of_entries(entries, tmp_path / "memory")) == ""


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda tracks: replace(tracks, centre=tracks.centre + 1), "places"),
        (lambda tracks: replace(tracks, quality=np.ones(6)), "quality"),
        (lambda tracks: tracks.relabelled([None] * 6), "labels"),
        (lambda tracks: tracks.with_tag("x", Tag("y")), "tag sets"),
        (lambda tracks: tracks.with_feature(Feature("f", "", np.ones(6))), "features"),
        (lambda tracks: tracks.select_links([0]), "links"),
    ],
)
def test_a_file_that_differs_is_told(change, named):
    assert first_difference(chain(), change(chain())) == named


def test_what_is_no_project_is_refused_before_java_is_asked(tmp_path):
    with pytest.raises(BridgeError, match="there is no such file"):
        open_project(None, tmp_path / "none.mastodon")
    (tmp_path / "text.mastodon").write_text("text")
    with pytest.raises(BridgeError, match="it is no Mastodon project"):
        open_project(None, tmp_path / "text.mastodon")
