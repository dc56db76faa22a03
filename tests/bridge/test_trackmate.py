"""A live TrackMate, in a real Fiji; the checks are in trackmate_in_fiji.py."""

import json
from pathlib import Path

import numpy as np
import pytest
from bridge.in_java import run_python

from bdv_io.outlines import Outlines
from bdv_io.tags import Feature, Tag
from bdv_io.tracks import Tracks
from howdah.bridge.trackmate import model_of
from howdah.bridge.trackmate_changes import Changes
from howdah.errors import BridgeError

HERE = Path(__file__).resolve().parent
CHECKS = [
    "there_and_back",
    "what_java_sees",
    "nothing_at_all",
    "changes_come_as_one_event",
    "a_spot_changes_its_frame",
    "tags_keep_their_names_whatever_their_order",
    "two_callers_do_not_get_in_each_others_way",
    "other_units_and_odd_ids_are_refused",
    "a_session_is_shown_saved_and_loaded",
    "a_session_that_a_person_opened_is_found",
    "a_person_corrects_real_outlines",
    "images_that_do_not_fit_are_refused",
    "a_file_that_is_no_trackmate_file",
    "a_file_without_its_image",
    "no_window_is_left",
]


@pytest.fixture(scope="module")
def in_fiji(real_fiji, virtual_display, tmp_path_factory):
    home, folder = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("work")
    ended = run_python(
        [str(HERE / "trackmate_in_fiji.py"), str(real_fiji), str(folder)],
        home,
        before=(virtual_display, "-a"),
        timeout=500,
        JAVA_TOOL_OPTIONS=f"-Duser.home={home} -Djava.util.prefs.userRoot={home}",
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return json.loads(ended.stdout.strip().splitlines()[-1])


@pytest.mark.fiji
@pytest.mark.parametrize("check", CHECKS)
def test_in_fiji(in_fiji, check):
    assert not in_fiji[check], in_fiji[check]


@pytest.mark.fiji
def test_every_check_is_named_here(in_fiji):
    assert sorted(in_fiji) == sorted(CHECKS)


def test_without_java_there_is_a_sentence():
    with pytest.raises(BridgeError, match="No Java runs in this process"):
        model_of(Tracks.empty())


# ---- what differs: no Java needed ------------------------------------------------------------------------------------


def three():
    return Tracks.build([0, 1, 2], [[0, 1, 1], [0, 2, 2], [0, 3, 3]], radius=1.0, links=[[0, 1], [1, 2]], id=[5, 6, 7])


def counts(old, new):
    return {name: n for name, n in Changes.between(old, new).counts.items() if n}


def test_the_same_annotation_in_another_order_is_no_change():
    assert not Changes.between(three(), three().select([2, 0, 1]))


def test_spots_are_known_by_their_ids():
    new = three().select([1, 2]).concatenate(Tracks.build([3], [[0, 4, 4]], radius=1.0, id=[9])).with_links([[1, 2]])
    assert counts(three(), new) == {"removed": 1, "added": 1, "links_removed": 1, "links_added": 1}


def test_an_edge_has_no_direction():
    turned = three().select_links([0]).with_links([[2, 1]])
    assert counts(three(), turned) == {}


def test_a_tag_on_a_link_is_a_change_of_the_link():
    assert counts(three(), three().with_tag("S", Tag("x"), links=[1])) == {"links_changed": 1}


def test_a_feature_that_the_new_annotation_lacks_stays():
    known = three().with_feature(Feature("A", "", np.array([1.0, 2.0, 3.0])))
    assert counts(known, three()) == {}
    assert counts(three(), known) == {"changed": 3}
    assert counts(known, known.with_feature(Feature("A", "", np.array([1.0, 5.0, np.nan])))) == {"changed": 1}


def test_a_feature_is_found_under_the_name_that_xml_allows():
    old = three().with_feature(Feature("CTC_track", "", np.array([1, 2, 3])))
    assert counts(old, three().with_feature(Feature("CTC track", "", np.array([1, 2, 3])))) == {}


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_of_several_rings_the_largest_counts(shift):
    square = np.array([[0.0, 0.0], [0.0, 4.0], [4.0, 4.0], [4.0, 0.0]])

    def shaped(*rings):
        tracks = three()
        return Tracks.build(
            tracks.t,
            tracks.centre,
            radius=1.0,
            links=tracks.links,
            id=tracks.id,
            outlines=Outlines.of_polygons([1] * len(rings), rings, 0.0),
        )

    found = counts(shaped(square), shaped(square + shift, square / 4 + 1))
    assert found == ({"changed": 1} if shift else {})
    assert counts(shaped(square), three()) == {"changed": 1}
