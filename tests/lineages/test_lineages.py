"""Lineages on drawn cases: tags, counts, times, what is complete, what is removed and what stays."""

from __future__ import annotations

from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bdv_io.formats import read_tracks
from bdv_io.tags import Tag
from bdv_io.tracks import Tracks
from howdah import lineages as of
from howdah.errors import DataError
from howdah.lineages import protection
from howdah.methods.elephant import status


def drawn(*, interval: float | None = 2.0) -> Tracks:
    """Two lineages in six frames.

    0 --1--2===3--5--7        2 divides at frame 2; 3 and 4 are its daughters
            ===4--6===8       6 divides at frame 4
                   ===9
    10--11                    ends at frame 1
    12 alone at frame 5
    """
    t = [0, 1, 2, 3, 3, 4, 4, 5, 5, 5, 0, 1, 5]
    links = [(0, 1), (1, 2), (2, 3), (2, 4), (3, 5), (4, 6), (5, 7), (6, 8), (6, 9), (10, 11)]
    centre = np.stack([np.zeros(13), np.arange(13) * 10.0, np.asarray(t) * 1.0], axis=1)
    label = [None] * 13
    label[0] = "P0"
    return Tracks.build(t, centre, radius=2.0, links=links, label=label, interval=interval, id=np.arange(100, 113))


def machine(tracks: Tracks) -> Tracks:
    """The same, made by a program."""
    made = tracks.relabelled([None] * tracks.n_spots)
    made = made.with_tag("Detection", Tag("unlabeled"), spots=np.arange(made.n_spots))
    return made.with_tag("Tracking", Tag("unlabeled"), links=np.arange(made.n_links))


def names(tracks: Tracks, tag_set: str, *, links: bool = False) -> list[str]:
    tags = tracks.tag_set(tag_set)
    assert tags is not None
    return [tags.tags[i].name if i >= 0 else "-" for i in (tags.links if links else tags.spots).tolist()]


def test_the_tag_names_are_those_of_elephant():
    assert (protection.DETECTION, protection.TRACKING) == (status.DETECTION, status.TRACKING)
    assert status.UNLABELLED_TAG == protection.UNLABELLED
    assert (protection.APPROVED, protection.UNLABELLED) == status.TRACKING_TAGS


def test_trees_and_cells():
    forest = of.grow(drawn())
    assert forest.root.tolist() == [0] * 10 + [10, 10, 12]
    assert forest.cell.tolist() == [0, 0, 0, 3, 4, 3, 4, 3, 8, 9, 10, 10, 12]
    assert forest.cell_end.tolist() == [2, 2, 2, 7, 6, 7, 6, 7, 8, 9, 11, 11, 12]


def test_a_link_that_runs_backward_hangs_nothing():
    tracks = Tracks.build([0, 1, 1], np.zeros((3, 3)), radius=1, links=[(0, 1), (1, 0), (1, 2), (2, 2)])
    assert of.grow(tracks).root.tolist() == [0, 0, 2]


def test_of_several_parents_the_first_link_counts():
    tracks = Tracks.build([0, 0, 1], np.zeros((3, 3)), radius=1, links=[(1, 2), (0, 2)])
    assert of.grow(tracks).root.tolist() == [0, 1, 1]


def test_progenitors_give_their_tag_to_all_descendants():
    tagged = of.tag_progenitors(drawn())
    assert names(tagged, "Progenitor") == ["1"] * 10 + ["2", "2", "unlabeled"]
    assert names(tagged, "Progenitor", links=True) == ["1"] * 9 + ["2"]


def test_a_chosen_progenitor_inside_a_lineage_keeps_its_descendants():
    tagged = of.tag_progenitors(drawn(), spots=[0, 4])
    assert names(tagged, "Progenitor") == ["1", "1", "1", "1", "2", "1", "2", "1", "2", "2", *["unlabeled"] * 3]


def test_more_progenitors_than_255_have_colours_of_their_own():
    n = 1000
    tracks = Tracks.build(np.zeros(n), np.random.default_rng(0).random((n, 3)), radius=1)
    tags = of.tag_progenitors(tracks).tag_set("Progenitor")
    assert tags is not None
    assert [tag.name for tag in tags.tags] == [*map(str, range(1, n + 1)), "unlabeled"]
    assert len({tag.colour for tag in tags.tags}) == n + 1


def test_tagging_again_replaces_what_was_worked_out_but_not_what_a_person_named():
    again = of.tag_progenitors(of.tag_progenitors(drawn()), spots=[12])
    assert names(again, "Progenitor").count("1") == 1
    clones = of.tag_progenitors(of.tag_progenitors(drawn(), tag_set="Clones"), spots=[12], tag_set="Clones")
    assert names(clones, "Clones").count("unlabeled") == 12
    theirs = drawn().with_tag("Progenitor", Tag("neuroblast"), spots=[0])
    with pytest.raises(DataError, match=r"'Progenitor' exists and has other tags \(neuroblast\)"):
        of.tag_progenitors(theirs)


def test_no_progenitor_is_said():
    with pytest.raises(DataError, match="no track begins at frame 3; the first spots are at frame 0"):
        of.tag_progenitors(drawn(), frame=3)


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (0, 5, ["Proliferator", "Invisible", "Invisible"]),
        (0, 1, ["Non-proliferator", "Non-proliferator", "Invisible"]),
        (3, 3, ["Non-proliferator", "Invisible", "Invisible"]),
        (2, 2, ["Proliferator", "Invisible", "Invisible"]),
    ],
)
def test_proliferators_divide_in_the_range(first, last, expected):
    tagged = names(of.tag_proliferators(drawn(), first=first, last=last), "Proliferator")
    assert [tagged[0], tagged[10], tagged[12]] == expected
    assert len(set(tagged[:10])) == 1


def test_a_range_that_runs_backward_is_refused():
    with pytest.raises(DataError, match="frames 4 to 2 are no range"):
        of.tag_proliferators(drawn(), first=4, last=2)


def test_dividing_cells():
    tagged = names(of.tag_dividing(drawn()), "Division")
    assert [i for i, name in enumerate(tagged) if name == "Dividing"] == [2, 6]
    assert [i for i, name in enumerate(tagged) if name == "Divided"] == [3, 4, 8, 9]
    assert [i for i, name in enumerate(tagged) if name == "Invisible"] == [7, 11, 12]
    wider = names(of.tag_dividing(drawn(), around=1), "Division")
    assert [i for i, name in enumerate(wider) if name == "Dividing"] == [1, 2, 4, 6]
    assert [i for i, name in enumerate(wider) if name == "Divided"] == [3, 5, 8, 9]


def test_divisions_are_counted():
    tracks = drawn()
    assert of.divisions_per_frame(tracks)["divisions"].tolist() == [0, 0, 1, 0, 1, 0]
    table = of.divisions_per_track(tracks)
    assert table["root"].tolist() == [100, 110, 112]
    assert (table["spots"].tolist(), table["divisions"].tolist(), table["ends"].tolist()) == (
        [10, 2, 1],
        [2, 0, 0],
        [3, 1, 1],
    )
    assert table["last_frame"].tolist() == [5, 1, 5]
    assert of.divisions_per_progenitor(tracks)["divisions"].tolist() == [2, 0]
    assert of.divisions_per_progenitor(tracks, [0, 4])["divisions"].tolist() == [1, 1]


def test_only_approved_divisions_can_be_counted():
    tracks = drawn()
    assert of.divisions_per_frame(tracks, approved_only=True)["divisions"].sum() == 0
    by_spot = tracks.with_tag("Tracking", Tag("Approved"), spots=[2])
    by_links = tracks.with_tag("Tracking", Tag("Approved"), links=[7, 8])
    assert np.flatnonzero(of.divisions_per_frame(by_spot, approved_only=True)["divisions"]).tolist() == [2]
    assert np.flatnonzero(of.divisions_per_frame(by_links, approved_only=True)["divisions"]).tolist() == [4]


def test_cell_cycles_run_from_division_to_division():
    table = of.cell_cycles(drawn())
    assert table["cell"].tolist() == [104]
    assert (table["mother"].tolist(), table["frames"].tolist(), table["time"].tolist()) == ([102], [2], [4.0])
    every = of.cell_cycles(drawn(interval=None), complete_only=False)
    assert every["cell"].tolist() == [100, 103, 104, 108, 109, 110, 112]
    assert every["end"].tolist() == [
        "division",
        "last frame",
        "division",
        "last frame",
        "last frame",
        "lost",
        "last frame",
    ]
    assert every["mother"].tolist() == [-1, 102, 102, 106, 106, -1, -1]
    assert np.isnan(every["time"]).all()


def test_statistics_per_frame():
    table = of.statistics_per_frame(drawn())
    assert table["spots"].tolist() == [2, 2, 1, 2, 2, 4]
    assert table["tracks"].tolist() == [2, 2, 1, 1, 1, 2]
    assert table["starts"].tolist() == [2, 0, 0, 0, 0, 1]
    assert table["ends"].tolist() == [0, 1, 0, 0, 0, 4]
    assert table["links"].tolist() == [0, 2, 1, 2, 2, 3]


def test_a_lineage_is_complete_if_no_branch_ends_early():
    tracks = drawn()
    assert of.complete_roots(tracks).tolist() == [0]
    assert of.complete_roots(tracks, last=1).tolist() == [0, 10]
    assert of.complete_roots(tracks, ends=np.arange(13) == 11).tolist() == [0, 10]
    assert of.complete_roots(machine(tracks), confirmed=True).tolist() == []
    assert of.complete_roots(tracks, confirmed=True).tolist() == [0]
    marked, n, other = of.mark_completed(tracks, [0])
    assert (names(marked, "Status")[0], n, other) == ("Completed", 1, 0)


def test_a_status_that_a_person_gave_stays():
    marked, n, other = of.mark_completed(drawn().with_tag("Status", Tag("doubtful"), spots=[0]), [0])
    assert (names(marked, "Status")[0], n, other) == ("doubtful", 0, 1)


def test_a_gap_makes_a_lineage_incomplete_unless_allowed():
    tracks = Tracks.build([0, 2], np.zeros((2, 3)), radius=1, links=[(0, 1)])
    assert of.complete_roots(tracks).tolist() == []
    assert of.complete_roots(tracks, without_gaps=False).tolist() == [0]


def test_open_places_come_with_the_largest_lineage_first():
    tracks = drawn().select([0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12])  # 8 and 9 are gone: 6 ends at frame 4
    table = of.open_places(tracks)
    assert table["what"].tolist() == ["ends early", "ends early", "starts late"]
    assert table["spot"].tolist() == [106, 111, 112]
    assert table["lineage_spots"].tolist() == [8, 2, 1]


def test_all_kinds_of_open_places():
    t = [0, 2, 0, 1, 1, 1, 1]
    links = [(0, 1), (2, 1), (2, 3), (2, 4), (2, 5), (6, 6)]
    table = of.open_places(Tracks.build(t, np.zeros((7, 3)), radius=1, links=links))
    kinds = sorted(zip(table["what"].tolist(), table["spot"].tolist(), strict=True))
    assert ("several parents", 1) in kinds
    assert ("more than two children", 2) in kinds
    assert ("does not run forward", 6) in kinds
    assert ("skips frames", 1) in kinds
    assert ("starts late", 6) in kinds


def test_short_tracks_of_a_program_are_removed_and_those_of_a_person_kept():
    done = of.remove_short_tracks(machine(drawn()), min_links=2)
    assert (done.spots, done.links, done.kept_spots) == (3, 1, 0)
    theirs = of.remove_short_tracks(drawn(), min_links=2)
    assert (theirs.spots, theirs.kept_spots) == (0, 3)
    assert of.remove_short_tracks(drawn(), min_links=2, also_by_person=True).spots == 3
    approved = machine(drawn()).with_tag("Tracking", Tag("Approved"), spots=[11])
    assert of.remove_short_tracks(approved, min_links=2).kept_spots == 2  # the whole track, 10 too


@pytest.mark.parametrize("what", ["approved", "label", "tag", "link"])
def test_what_a_person_touched_is_protected(what):
    tracks = machine(drawn())
    if what == "approved":
        tracks = tracks.with_tag("Tracking", Tag("Approved"), spots=[12])
    elif what == "label":
        tracks = tracks.relabelled([None] * 12 + ["mine"])
    elif what == "tag":
        tracks = tracks.with_tag("Review", Tag("nice"), spots=[12])
    else:
        tracks = tracks.with_links([(6, 12)])
    assert of.protected(tracks).spots[12]
    assert not of.protected(tracks).spots[11]


def test_what_was_worked_out_protects_nothing():
    tracks = of.tag_dividing(of.tag_progenitors(of.tag_proliferators(machine(drawn()))))
    assert not of.protected(tracks).spots.any()


def test_remove_by_tag():
    tracks = (
        machine(drawn()).with_tag("Review", Tag("wrong"), spots=[10, 11]).with_tag("Detection", Tag("fp"), spots=[12])
    )
    assert of.remove_by_tag(tracks, "Review", "wrong").spots == 2  # the tag by which she chose does not protect
    judged = of.remove_by_tag(tracks, "Detection", "fp")
    assert (judged.spots, judged.kept_spots) == (0, 1)
    assert of.remove_by_tag(tracks, "Detection", "fp", also_by_person=True).spots == 1
    links = of.remove_by_tag(tracks, "Tracking", "unlabeled", links=True)
    assert (links.spots, links.links) == (0, 10)
    with pytest.raises(DataError, match=r"no tag 'rigth'. Its tags are: wrong"):
        of.remove_by_tag(tracks, "Review", "rigth")
    with pytest.raises(DataError, match=r"no tag set 'Reviews'. Tag sets are: 'Detection', 'Tracking', 'Review'"):
        of.remove_by_tag(tracks, "Reviews", "wrong")


def test_remove_a_range():
    tracks = machine(drawn())
    assert of.remove_range(tracks, first=5).spots == 4
    assert of.remove_range(tracks, last=0).tracks.t.min() == 1
    assert of.remove_range(tracks, box=((0, 95, 0), (0, 125, 9))).spots == 3
    assert of.remove_range(tracks, first=5, box=((0, 95, 0), (0, 125, 9))).spots == 1
    assert of.remove_range(drawn(), first=5).kept_spots == 4
    for wrong, sentence in (
        ({}, "would be all"),
        ({"first": 3, "last": 2}, "backward"),
        ({"box": ((0, 0, 1), (0, 0, 0))}, "no box"),
    ):
        with pytest.raises(DataError, match=sentence):
            of.remove_range(tracks, **wrong)


def test_links_that_cannot_be_are_removed():
    tracks = Tracks.build([0, 1, 1], np.zeros((3, 3)), radius=1, links=[(0, 0), (1, 2), (0, 1), (1, 0)])
    assert (of.remove_bad_links(tracks).links, of.remove_bad_links(tracks).kept_links) == (0, 3)
    assert of.remove_bad_links(tracks, also_by_person=True).tracks.links.tolist() == [[0, 1]]
    assert of.remove_bad_links(machine(tracks)).links == 3


def test_a_tag_is_mapped():
    mapped, n = of.map_tag(machine(drawn()), ("Detection", "unlabeled"), ("Detection", "tp"))
    assert (set(names(mapped, "Detection")), n) == ({"tp"}, 13)
    linked, n = of.map_tag(machine(drawn()), ("Tracking", "unlabeled"), ("Tracking", "Approved"), links=True)
    assert (set(names(linked, "Tracking", links=True)), n) == ({"Approved"}, 10)
    assert set(names(linked, "Tracking")) == {"-"}


def test_a_lineage_is_approved():
    done, spots, links = of.approve(machine(drawn()), [4], as_marks=True)
    assert (spots, links) == (10, 9)
    assert names(done, "Detection") == ["tp"] * 10 + ["unlabeled"] * 3
    below, spots, links = of.approve(machine(drawn()), [4], whole=False)
    assert (spots, links) == (4, 3)
    assert np.flatnonzero(of.protected(below).spots).tolist() == [4, 6, 8, 9]


@pytest.mark.parametrize("name", [100, "100", "id:100", "P0", "label:P0", "0,0,0.4,0", " 0 , 1e-1,0,0 "])
def test_a_spot_is_found(name):
    assert of.find_spot(drawn(), name) == 0


def test_spots_are_found_once():
    assert of.find_spots(drawn(), ["P0", "112", 100]).tolist() == [0, 12]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("99", "no spot with the id 99; the nearest are 100, 101"),
        ("P1", "no spot with the label 'P1'. Labels like it: P0"),
        ("0,0,900,0", r"no spot near .* The nearest: 110 at 0, 100, 0; 100"),
        ("9,0,0,0", "Frame 9 has no spots; the nearest frames with spots are 5, 4"),
    ],
)
def test_a_spot_that_is_not_there_is_said_with_the_nearest(name, sentence):
    with pytest.raises(DataError, match=sentence):
        of.find_spot(drawn(), name)


def test_a_label_of_several_spots_is_refused():
    with pytest.raises(DataError, match=r"2 spots have the label 'a': 0 \(frame 0\), 1 \(frame 0\)"):
        of.find_spot(Tracks.build([0, 0], np.zeros((2, 3)), radius=1, label=["a", "a"]), "a")


def test_colours_are_distinct_and_a_longer_list_begins_like_a_shorter_one():
    colours = of.distinct_colours(5000)
    assert len(set(colours)) == 5000
    assert colours[:40] == of.distinct_colours(40)
    assert all(0xFF000000 <= colour <= 0xFFFFFFFF for colour in colours)


def test_an_empty_annotation_is_no_trouble():
    none = Tracks.empty()
    assert of.divisions_per_frame(none)["divisions"].tolist() == []
    for table in (
        of.divisions_per_track(none),
        of.cell_cycles(none),
        of.statistics_per_frame(none),
        of.open_places(none),
    ):
        assert all(len(column) == 0 for column in table.values())
    assert of.remove_short_tracks(none, min_links=3).spots == 0
    assert of.complete_roots(none).tolist() == []


@st.composite
def forests(draw: st.DrawFn) -> Tracks:
    """Random forests with divisions, gaps and merges."""
    n = draw(st.integers(1, 30))
    t = np.array(draw(st.lists(st.integers(0, 5), min_size=n, max_size=n)))
    pairs = draw(st.sets(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=40))
    links = [(a, b) for a, b in sorted(pairs) if t[a] < t[b]]
    if not draw(st.booleans()):
        links = list({b: (a, b) for a, b in links}.values())  # no merges
    return Tracks.build(t, np.zeros((n, 3)), radius=1, links=links)


@settings(deadline=None, max_examples=60)
@given(forests())
def test_trees_are_those_of_networkx(tracks):
    graph = nx.DiGraph()
    graph.add_nodes_from(range(tracks.n_spots))
    forest = of.grow(tracks)
    graph.add_edges_from((int(parent), row) for row, parent in enumerate(forest.parent) if parent != row)
    for row in range(tracks.n_spots):
        ancestors = nx.ancestors(graph, row) | {row}
        assert forest.root[row] == min(ancestors, key=lambda spot: (tracks.t[spot], spot))
    assert of.divisions_per_frame(tracks)["divisions"].sum() == (tracks.n_children() > 1).sum()
    assert of.statistics_per_frame(tracks)["spots"].sum() == tracks.n_spots
    assert of.divisions_per_track(tracks)["spots"].sum() == tracks.n_spots


@settings(deadline=None, max_examples=40)
@given(forests(), st.integers(0, 5), st.data())
def test_nothing_of_a_person_is_ever_removed(tracks, limit, data):
    mine = data.draw(st.lists(st.integers(0, tracks.n_spots - 1), max_size=5))
    tagged = machine(tracks).with_tag("Tracking", Tag("Approved"), spots=mine)
    kept = tagged.id[of.protected(tagged).spots]
    for done in (
        of.remove_short_tracks(tagged, min_links=limit),
        of.remove_range(tagged, first=limit),
        of.remove_by_tag(tagged, "Detection", "unlabeled"),
    ):
        assert np.isin(kept, done.tracks.id).all()
        assert not done.tracks.problems()


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "divisions", "roots", "cycles", "complete"),
    [
        ("mastodon-projects/astec/Pm07.mastodon", 174, 43, 132, 43),
        ("mastodon-projects/lineages/lineage_clustering.mastodon", 23, 8, 16, 8),
        ("tgmm-3d/tgmm-mini.mastodon", 53, 106, 23, 61),
    ],
)
def test_real_lineages(real_data: Path, name, divisions, roots, cycles, complete):
    tracks = read_tracks(real_data / name)
    assert of.divisions_per_frame(tracks)["divisions"].sum() == divisions
    assert len(of.divisions_per_track(tracks)["root"]) == roots
    assert len(of.cell_cycles(tracks)["cell"]) == cycles
    assert len(of.complete_roots(tracks)) == complete
    assert len(of.tag_progenitors(tracks).tag_set("Progenitor").tags) == (tracks.t == tracks.t.min()).sum() + 1  # type: ignore[union-attr]
