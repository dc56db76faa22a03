"""The quick way through a TrackMate file reads what the XML parser reads, or stands aside."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from bdv_io.errors import FormatError
from bdv_io.image import ArrayImage
from bdv_io.tags import Feature, Tag
from bdv_io.trackmate import read_trackmate, scan, write_mamut, write_trackmate
from bdv_io.trackmate.document import _quickly
from bdv_io.tracks import Tracks

SPOT = '<Spot ID="{}" name="{}" POSITION_X="1" POSITION_Y="2" POSITION_Z="3" FRAME="{}" RADIUS="1" VISIBILITY="1" {}/>'


def document(spots, edges="", extra="") -> str:
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><TrackMate version="8.1.6" made="here"><Model spatialunits="um" timeunits="s" '
        f'odd="1"><AllSpots nspots="1">\n<SpotsInFrame frame="0">{spots}</SpotsInFrame>\n</AllSpots>\n<AllTracks>{edges}</AllTracks>'
        f"<FilteredTracks /><Own><a>b</a></Own></Model>{extra}</TrackMate>"
    )


def both(path, monkeypatch) -> tuple[Tracks, Tracks]:
    quick = read_trackmate(path)
    with monkeypatch.context() as patch:
        patch.setattr(scan, "regions", irregular)
        return quick, read_trackmate(path)


def irregular(data):
    raise scan.Irregular


def equal(a: Tracks, b: Tracks) -> None:
    for name in ("t", "centre", "covariance", "quality", "id", "links"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    assert a.label.tolist() == b.label.tolist()
    assert [f.key for f in a.features] == [f.key for f in b.features]
    for mine, theirs in zip(a.features, b.features, strict=True):
        np.testing.assert_array_equal(mine.values, theirs.values)
        assert (mine.defined is None) == (theirs.defined is None)
    for name in ("spot", "z", "start", "vertices"):
        np.testing.assert_array_equal(getattr(a.outlines, name), getattr(b.outlines, name))
    assert dict(a.carried.entries) == dict(b.carried.entries)
    for mine, theirs in ((a.carried.spots, b.carried.spots), (a.carried.links, b.carried.links)):
        assert {k: v.tolist() for k, v in mine.items()} == {k: v.tolist() for k, v in theirs.items()}


@pytest.mark.real
def test_real_files_are_read_alike_both_ways(real_data, monkeypatch):
    files = [
        p
        for folder in ("faketracks", "mamut-xml", "written-by-java")
        for p in sorted((real_data / folder).rglob("*.xml"))
    ]
    seen = 0
    for path in files:
        if b"<TrackMate" in path.read_bytes()[:3000]:
            _quickly(path)
            equal(*both(path, monkeypatch))
            seen += 1
    assert seen == 11


@pytest.mark.parametrize(
    "spots",
    [
        SPOT.format(1, "a", 0, ""),
        SPOT.format(1, "a &amp; &lt;b&gt; &#233; &#x1F600;", 0, "") + "\n\t" + SPOT.format(2, "µ > 5", 0, 'A="1" '),
        SPOT.format(1, "tab\there", 0, "").replace("/>", "></Spot>"),
        SPOT.format(1, "'", 0, 'TEXT="some &amp; text" ') + SPOT.format(2, "", 0, 'TEXT="3" '),
        SPOT.format(1, "x", 0, "").replace('ID="1"', "ID='1'"),
        "<!-- a comment -->" + SPOT.format(1, "x", 0, ""),
        SPOT.format(1, "x", 0, "").replace("<Spot ", "<Spot\n"),
        "",
        "</SpotsInFrame><SpotsInFrame frame='2'>" + SPOT.format(3, "<![CDATA[", 2, "").replace("<!", "!"),
    ],
)
def test_odd_spots_are_read_alike_both_ways(tmp_path, monkeypatch, spots):
    (tmp_path / "a.xml").write_text(document(spots), encoding="utf-8")
    equal(*both(tmp_path / "a.xml", monkeypatch))


@pytest.mark.parametrize(
    "spots",
    [
        SPOT.format(1, "a < b", 0, ""),
        SPOT.format(1, "a & b", 0, ""),
        SPOT.format(1, "&nothing;", 0, ""),
        SPOT.format(1, "&#0;", 0, ""),
        SPOT.format(1, "a\x01b", 0, ""),
        SPOT.format(1, "a", 0, 'A="1" A="2" '),
        SPOT.format(1, "a", 0, "")[:-2] + ">",
        SPOT.format(1, "a", 0, "") + "</SpotsInFrame>",
        SPOT.format(1, "a", 0, "") + "<SpotsInFrame>",
        SPOT.format(1, "a", 0, "A=1 "),
        SPOT.format(1, "a", 0, "") + SPOT.format(2, "b", 1, '" '),
    ],
)
def test_what_is_no_xml_is_refused(tmp_path, spots):
    (tmp_path / "a.xml").write_text(document(spots), encoding="utf-8")
    with pytest.raises(FormatError, match="not well-formed"):
        read_trackmate(tmp_path / "a.xml")


def test_lists_inside_a_comment_are_no_lists(tmp_path):
    text = document(SPOT.format(1, "a", 0, ""))
    (tmp_path / "a.xml").write_text(
        text.replace("<AllSpots", "<!-- <AllSpots").replace("<FilteredTracks />", "--><AllTracks/>")
    )
    assert read_trackmate(tmp_path / "a.xml").n_spots == 0


def test_tracks_of_edges(tmp_path, monkeypatch):
    spots = "".join(SPOT.format(i, i, i % 3, "") for i in range(9))
    edge = '<Edge SPOT_SOURCE_ID="{}" SPOT_TARGET_ID="{}" NOTE="{}" />'
    edges = (
        '<Track name="a" TRACK_ID="4">'
        + edge.format(0, 1, "x")
        + edge.format(1, 2, "2")
        + '</Track><Track TRACK_ID="9" />'
    )
    edges += '<Track TRACK_ID="2" name="&quot;b&quot;">' + edge.format(4, 3, "y") + "</Track>"
    (tmp_path / "a.xml").write_text(document(spots, edges))
    monkeypatch.setattr(scan, "BLOCK", 10)
    quick, slow = both(tmp_path / "a.xml", monkeypatch)
    equal(quick, slow)
    assert quick.carried.spots["track_id"].tolist() == [4, 4, 4, 2, 2, -1, -1, -1, -1]
    assert quick.carried.links["@NOTE"].tolist() == ["x", "2", "y"]


def test_nothing_unknown_is_lost(tmp_path):
    extra = '<Howl loud="1"><x>1</x></Howl><Settings mine="1"><Strange k="v" /></Settings><Howl /><GUIState state="a" more="b" />'
    spots = SPOT.format(1, "a", 0, 'WORD="some text" N="3" ') + SPOT.format(2, "b", 1, "")
    edges = '<Track TRACK_ID="4" name="t" MY="7.5" SAID="so"><Edge SPOT_SOURCE_ID="1" SPOT_TARGET_ID="2" W="text" /></Track>'
    (tmp_path / "a.xml").write_text(document(spots, edges, extra))
    write_trackmate(tmp_path / "b.xml", read_trackmate(tmp_path / "a.xml"))
    root = etree.parse(tmp_path / "b.xml").getroot()
    assert root.get("made") == "here"
    assert root.find("Model").get("odd") == "1"
    assert root.findtext("Model/Own/a") == "b"
    assert root.findtext("Howl/x") == "1"
    assert len(root.findall("Howl")) == 2
    assert root.find("Settings/Strange").get("k") == "v"
    assert root.find("GUIState").get("more") == "b"
    assert root.find(".//Spot").get("WORD") == "some text"
    assert root.find(".//Edge").get("W") == "text"
    assert (root.find(".//Track").get("MY"), root.find(".//Track").get("SAID")) == ("7.5", "so")
    equal_again = read_trackmate(tmp_path / "b.xml")
    write_trackmate(tmp_path / "c.xml", equal_again)
    assert (tmp_path / "c.xml").read_bytes() == (tmp_path / "b.xml").read_bytes()


def test_the_interval_is_kept_without_an_image(tmp_path):
    write_trackmate(tmp_path / "a.xml", Tracks.build([0, 3], np.zeros((2, 3)), radius=1, time_unit="min", interval=2.5))
    assert read_trackmate(tmp_path / "a.xml").interval == 2.5
    write_trackmate(tmp_path / "a.xml", Tracks.build([0, 3], np.zeros((2, 3)), radius=1, time_unit="min"))
    assert read_trackmate(tmp_path / "a.xml").interval is None


class TestMamut:
    def test_what_mamut_and_mastodon_ask_for(self, tmp_path):
        image = ArrayImage(np.zeros((4, 2, 3, 5, 7), np.uint16), voxel_size=(2, 0.5, 0.25), interval=(2.0, "s"))
        image.path = tmp_path / "movie.xml"
        tracks = Tracks.build([0, 1], np.zeros((2, 3)), radius=1, links=[[0, 1]], label=["a", None], interval=2.0)
        write_mamut(tmp_path / "m-mamut.xml", tracks, image=image)
        root = etree.parse(tmp_path / "m-mamut.xml").getroot()
        assert [child.tag for child in root][1:] == ["Model", "Settings", "GUIState"]
        data = root.find("Settings/ImageData").attrib
        assert (data["filename"], data["folder"], data["width"], data["nframes"]) == ("movie.xml", ".", "7", "4")
        for name in (
            "InitialSpotFilter",
            "SpotFilterCollection",
            "TrackFilterCollection",
            "AnalyzerCollection/SpotAnalyzers",
        ):
            assert root.find(f"Settings/{name}") is not None
        assert root.findall("Model/FeatureDeclarations/*/Feature")
        assert len(root.findall("GUIState/SetupAssignments/ConverterSetups/ConverterSetup")) == 2
        needed = {"VISIBILITY", "POSITION_X", "POSITION_Y", "POSITION_Z", "RADIUS", "FRAME", "ID", "name"}
        assert all(needed <= set(spot.attrib) for spot in root.iter("Spot"))
        again = read_trackmate(tmp_path / "m-mamut.xml")
        assert again.interval == 2.0
        assert again.links.tolist() == [[0, 1]]
        assert again.attributes["image"].endswith("movie.xml")

    def test_the_wrong_kind_of_image_is_said(self, tmp_path, caplog):
        write_mamut(tmp_path / "a.xml", Tracks.empty(), image=ArrayImage(np.zeros((1, 1, 2, 2))))
        assert "BigDataViewer XML" in caplog.text
        caplog.clear()
        write_mamut(tmp_path / "a.xml", Tracks.empty())
        assert "no image was given" in caplog.text

    @pytest.mark.real
    @pytest.mark.parametrize(
        "name",
        ["mamut-xml/test-mamut.xml", "faketracks/mamutproject/FakeTracks.xml", "written-by-java/synth_mamut.xml"],
    )
    def test_real_files_come_back(self, real_data, name, tmp_path):
        tracks = read_trackmate(real_data / name)
        write_mamut(tmp_path / "a.xml", tracks)
        again = read_trackmate(tmp_path / "a.xml")
        a, b = tracks.select(np.argsort(tracks.id)), again.select(np.argsort(again.id))
        np.testing.assert_array_equal(a.centre, b.centre)
        assert a.label.tolist() == b.label.tolist()
        assert sorted(map(tuple, a.links)) == sorted(map(tuple, b.links))
        assert (b"SetupAssignments" in again.carried.entries.get("GUIState", b"")) == (
            b"SetupAssignments" in tracks.carried.entries["GUIState"]
        )


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), names=st.lists(st.none() | st.text(max_size=5), max_size=8))
def test_any_annotation_is_read_alike_both_ways(tmp_path, monkeypatch, seed, names):
    rng = np.random.default_rng(seed)
    n = len(names)
    values = rng.choice([1.5, np.nan, np.inf, -np.inf, 1e-300], n)
    features = (Feature("A", "", values, defined=rng.random(n) < 0.6), Feature("B", "", values))
    tracks = Tracks.build(
        np.sort(rng.integers(0, 4, n)), rng.normal(size=(n, 3)), radius=1, label=names, features=features
    )
    pairs = np.array([[a, b] for a in range(n) for b in range(n) if tracks.t[a] < tracks.t[b]]).reshape(-1, 2)
    tracks = tracks.with_links(pairs[rng.random(len(pairs)) < 0.3]).with_tag("s", Tag("t"), spots=rng.random(n) < 0.5)
    write_trackmate(tmp_path / "a.xml", tracks)
    _quickly(tmp_path / "a.xml")
    equal(*both(tmp_path / "a.xml", monkeypatch))
