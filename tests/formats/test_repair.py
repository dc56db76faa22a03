"""Mending: each kind of contradiction is found, mended and said; what is sound is not touched."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bdv_io.errors import FormatError
from bdv_io.formats import read_tracks, write_tracks
from bdv_io.outlines import Outlines
from bdv_io.repair import mended
from bdv_io.tags import Feature, Tag, TagSet
from bdv_io.tracks import Tracks
from howdah.pipeline import Conversion, convert, finish


def chain(**changes) -> Tracks:
    """Four spots in a row, linked, all sound."""
    sound = Tracks.build([0, 1, 2, 3], np.arange(12).reshape(4, 3), radius=2.0, links=[[0, 1], [1, 2], [2, 3]])
    return replace(sound, **changes)


def test_what_is_sound_stays() -> None:
    tracks = chain()
    same, said = mended(tracks)
    assert said == ()
    np.testing.assert_array_equal(same.links, tracks.links)
    np.testing.assert_array_equal(same.centre, tracks.centre)


@pytest.mark.parametrize(
    ("links", "expected", "sentence"),
    [
        ([[0, 1], [1, 9]], [[0, 1]], "1 link to spots that do not exist was left out"),
        ([[1, 0], [1, 2]], [[0, 1], [1, 2]], "1 link that ran backward in time was turned around"),
        ([[0, 1], [1, 1]], [[0, 1]], "1 link within one frame was left out"),
        ([[0, 1], [1, 0], [0, 1]], [[0, 1]], "2 links that occurred again were left out"),
    ],
)
def test_links(links, expected, sentence) -> None:
    tracks, said = mended(chain(links=np.array(links)))
    assert tracks.links.tolist() == expected
    assert sentence in " ".join(said)


def test_a_spot_without_centre_goes_between_its_neighbours_or_away() -> None:
    centre = chain().centre.copy()
    centre[1], centre[3] = np.nan, np.inf
    tracks, said = mended(chain(centre=centre))
    assert tracks.n_spots == 3
    np.testing.assert_allclose(tracks.centre[1], (centre[0] + centre[2]) / 2)
    assert any("put between" in text for text in said)
    assert any("1 spot without a centre was left out" in text for text in said)


def test_ellipsoids_ids_frames_and_interval() -> None:
    covariance = chain().covariance.copy()
    covariance[2] = -np.eye(3)
    ids, t = np.array([5, 5, 6, 7]), np.array([0, 1, 2, -1], np.int32)
    tracks, said = mended(chain(covariance=covariance, id=ids, t=t, interval=-1.0))
    assert tracks.n_spots == 3
    assert len(set(tracks.id.tolist())) == 3
    np.testing.assert_allclose(tracks.covariance[2], 4 * np.eye(3))
    assert tracks.interval is None
    assert len(said) == 5  # the link to the spot in frame -1 ran backward, too


def test_tags_features_and_outlines() -> None:
    tags = TagSet("a", (Tag("x"),), np.array([0, 4, -1, -7]), np.array([0, 0, 0]))
    short = Feature("f", "", np.zeros(2))
    twins = (Feature("g", "", np.zeros(4)), Feature("g", "", np.ones(4)))
    ring = np.array([[0, 0], [0, 1], [1, np.nan], [0, 0], [0, 1], [1, 1]], float)
    outlines = Outlines(np.array([0, 9]), np.zeros(2), np.array([0, 3, 6]), ring)
    tracks, said = mended(chain(tag_sets=(tags, tags), features=(short, *twins), outlines=outlines))
    assert [tags.name for tags in tracks.tag_sets] == ["a", "a 2"]
    assert tracks.tag_sets[0].spots.tolist() == [0, -1, -1, -1]
    assert [f.key for f in tracks.features] == [("spot", "g", ""), ("spot", "g", "2")]
    assert len(tracks.outlines) == 0
    assert len(said) == 6


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_whatever_comes_the_result_is_sound(data) -> None:
    n = data.draw(st.integers(0, 5))
    numbers = st.sampled_from([0.0, 1.0, -3.0, np.nan, np.inf, 1e300])
    centre = np.array(data.draw(st.lists(st.tuples(numbers, numbers, numbers), min_size=n, max_size=n))).reshape(n, 3)
    covariance = np.array(data.draw(st.lists(numbers, min_size=9 * n, max_size=9 * n))).reshape(n, 3, 3)
    t = data.draw(st.lists(st.integers(-2, 4), min_size=n, max_size=n))
    links = data.draw(st.lists(st.tuples(st.integers(-1, 6), st.integers(-1, 6)), max_size=6))
    ids = data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    broken = Tracks.build(t, centre, covariance=covariance, links=np.array(links).reshape(-1, 2), id=ids)
    tracks, _ = mended(broken)
    assert tracks.problems() == []


BROKEN_XML = """<?xml version="1.0" encoding="UTF-8"?>
<TrackMate version="8.1.6"><Model spatialunits="um" timeunits="s"><AllSpots nspots="5">
<SpotsInFrame frame="0">
<Spot ID="1" name="a" POSITION_X="1.0" POSITION_Y="2.0" POSITION_Z="0" FRAME="0" RADIUS="2.0" VISIBILITY="1" />
<Spot ID="1" name="twin" POSITION_X="9.0" POSITION_Y="2.0" POSITION_Z="0" FRAME="0" RADIUS="2.0" VISIBILITY="1" />
</SpotsInFrame>
<SpotsInFrame frame="1">
<Spot ID="2" name="nowhere" POSITION_X="NaN" POSITION_Y="2.0" POSITION_Z="0" FRAME="1" RADIUS="2.0" VISIBILITY="1" />
<Spot ID="4" name="never" POSITION_X="5" POSITION_Y="2.0" POSITION_Z="0" RADIUS="2.0" VISIBILITY="1" />
</SpotsInFrame>
<SpotsInFrame frame="2">
<Spot ID="3" name="c" POSITION_X="3.0" POSITION_Y="4.0" POSITION_Z="0" FRAME="2" RADIUS="-1" VISIBILITY="1" />
</SpotsInFrame></AllSpots><AllTracks><Track name="t" TRACK_ID="0">
<Edge SPOT_SOURCE_ID="1" SPOT_TARGET_ID="2" /><Edge SPOT_SOURCE_ID="3" SPOT_TARGET_ID="2" /><Edge SPOT_SOURCE_ID="3" SPOT_TARGET_ID="77" />
</Track></AllTracks><FilteredTracks><TrackID TRACK_ID="0" /></FilteredTracks></Model></TrackMate>
"""


def test_a_broken_trackmate_file_is_refused_with_the_way_out_and_mended_when_asked(tmp_path) -> None:
    path = tmp_path / "a.xml"
    path.write_text(BROKEN_XML)
    with pytest.raises(FormatError, match=r"share their ID. `howdah convert --repair`"):
        read_tracks(path)
    tracks, said = mended(read_tracks(path, lenient=True))
    assert tracks.label.tolist() == ["a", "twin", "nowhere", "c"]
    np.testing.assert_allclose(tracks.centre[2], [0, 3, 2])
    assert sorted(tracks.links.tolist()) == [[0, 2], [2, 3]]
    assert any("got a new one" in text for text in said)
    assert any("in negative frames" in text for text in said)


@pytest.mark.parametrize("name", ["a-spots.csv", "a-spots.parquet"])
def test_tables_whose_links_lead_nowhere(tmp_path, name) -> None:
    write_tracks(tmp_path / name, chain())
    fewer = chain().select([0, 1, 2])
    (tmp_path / "b").mkdir()
    write_tracks(tmp_path / "b" / name, fewer)
    (tmp_path / "b" / name).replace(tmp_path / name)
    with pytest.raises(FormatError, match="--repair"):
        read_tracks(tmp_path / name)
    tracks, said = mended(read_tracks(tmp_path / name, lenient=True))
    assert tracks.links.tolist() == [[0, 1], [1, 2]]
    assert said == ("1 link to spots that do not exist was left out.",)


def test_the_command_line_lists_what_it_mended(tmp_path, capsys) -> None:
    (tmp_path / "a.xml").write_text(BROKEN_XML)
    result = finish(convert(tmp_path / "a.xml", tmp_path / "a.mastodon", Conversion(repair=True)))
    assert len(result["repaired"]) >= 3
    assert read_tracks(tmp_path / "a.mastodon").n_spots == 4
