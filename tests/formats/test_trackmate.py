"""TrackMate XML: what TrackMate itself read from the same files, round trips, and damaged files."""

from __future__ import annotations

import gzip
import json
import logging
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from bdv_io.errors import FormatError, MissingDataError, ValidationError, WriteError
from bdv_io.image import ArrayImage
from bdv_io.tags import Feature, Tag
from bdv_io.trackmate import is_trackmate, read_trackmate, write_trackmate
from bdv_io.tracks import Tracks

REAL = {
    "faketracks/trackmate-7.0.5/FakeTracks.xml": "faketracks_trackmate-7.0.5_FakeTracks.xml",
    "faketracks/trackmate-8.0.0-roi/FakeTracks.xml": "faketracks_trackmate-8.0.0-roi_FakeTracks.xml",
    "faketracks/trackmate-6.0.3/trackmate_tracks_with_merging.xml": "faketracks_trackmate-6.0.3_trackmate_tracks_with_merging.xml",
    "faketracks/trackmate-6.0.3/trackmate_tracks_with_gap_closing.xml": "faketracks_trackmate-6.0.3_trackmate_tracks_with_gap_closing.xml",
    "faketracks/mamutproject/FakeTracks.xml": "faketracks_mamutproject_FakeTracks.xml",
    "mamut-xml/test-mamut.xml": "mamut-xml_test-mamut.xml",
    "written-by-java/synth_mamut.xml": "written-by-java_synth_mamut.xml",
    "written-by-java/trackmate/labels.xml": "written-by-java_trackmate_labels.xml",
    "written-by-java/trackmate/synth_3d_log.xml": "written-by-java_trackmate_synth_3d_log.xml",
}

MINIMAL = """<?xml version="1.0" encoding="UTF-8"?>
<TrackMate version="8.1.6"><Model spatialunits="um" timeunits="s">
<FeatureDeclarations><SpotFeatures>
<Feature feature="AREA" name="Area" shortname="A" dimension="AREA" isint="false" />
<Feature feature="COUNT" name="Count" shortname="N" dimension="NONE" isint="true" />
</SpotFeatures><EdgeFeatures /><TrackFeatures /></FeatureDeclarations>
<AllSpots nspots="3">
<SpotsInFrame frame="0"><Spot ID="7" name="ID7" POSITION_X="1.0" POSITION_Y="2.0" POSITION_Z="3.0" FRAME="0"
 RADIUS="2.0" QUALITY="NaN" VISIBILITY="1" AREA="Infinity" COUNT="3" /></SpotsInFrame>
<SpotsInFrame frame="1">
<Spot ID="9" name="nine" POSITION_X="1.5" POSITION_Y="2.0" POSITION_Z="3.0" FRAME="1.0" RADIUS="2.0" QUALITY="5"
 VISIBILITY="1" ROI_N_POINTS="3">0 0 1 0 1 1</Spot>
<Spot ID="8" POSITION_X="9" POSITION_Y="9" POSITION_Z="9" FRAME="1" RADIUS="1" VISIBILITY="0" />
</SpotsInFrame></AllSpots>
<AllTracks><Track name="first" TRACK_ID="4"><Edge SPOT_SOURCE_ID="9" SPOT_TARGET_ID="7" LINK_COST="2.5" /></Track></AllTracks>
<FilteredTracks><TrackID TRACK_ID="4" /></FilteredTracks>
</Model></TrackMate>
"""


def written(folder, text, name="movie.xml"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def same(a: Tracks, b: Tracks) -> None:
    """The same spots, links, tags and features, whatever their order."""
    a, b = a.select(np.argsort(a.id)), b.select(np.argsort(b.id))
    for name in ("t", "centre", "quality", "id", "covariance"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    assert a.label.tolist() == b.label.tolist()
    links = [np.lexsort((tracks.links[:, 1], tracks.links[:, 0])) for tracks in (a, b)]
    a, b = a.select_links(links[0]), b.select_links(links[1])
    np.testing.assert_array_equal(a.links, b.links)
    assert [s.name for s in a.tag_sets] == [s.name for s in b.tag_sets]
    for mine, theirs in zip(a.tag_sets, b.tag_sets, strict=True):
        assert mine.tags == theirs.tags
        np.testing.assert_array_equal(mine.spots, theirs.spots)
        np.testing.assert_array_equal(mine.links, theirs.links)
    assert (a.space_unit, a.time_unit) == (b.space_unit, b.time_unit)


@pytest.mark.real
@pytest.mark.parametrize("name", REAL)
class TestWhatTrackMateReads:
    def test_spots_edges_tracks_and_units(self, real_data, name):
        expected = json.loads(gzip.decompress((real_data / "expected" / f"{REAL[name]}.json.gz").read_bytes()))
        tracks = read_trackmate(real_data / name)
        assert (tracks.space_unit, tracks.time_unit) == (expected["space_units"], expected["time_units"])
        assert tracks.n_spots == expected["n_spots_all"]
        assert tracks.n_links == expected["n_edges"]
        assert len(np.unique(tracks.tracks()[1][tracks.links])) == expected["n_tracks_all"]
        assert read_trackmate(real_data / name, visible_only=True).n_spots <= tracks.n_spots
        row = {int(i): r for r, i in enumerate(tracks.id)}
        spots = expected["spots"]
        rows = np.array([row[s["id"]] for s in spots])
        np.testing.assert_array_equal(tracks.t[rows], [s["frame"] for s in spots])
        np.testing.assert_array_equal(tracks.centre[rows], [[s["z"], s["y"], s["x"]] for s in spots])
        np.testing.assert_array_equal(np.sqrt(tracks.covariance[rows, 0, 0]), [s["radius"] for s in spots])
        np.testing.assert_array_equal(tracks.quality[rows], [s["quality"] for s in spots])
        assert [tracks.label[r] or f"ID{tracks.id[r]}" for r in rows] == [s["name"] for s in spots]
        for r, s in zip(rows, spots, strict=True):
            outline = tracks.carried.spots["roi"][r] if "roi" in tracks.carried.spots else None
            assert ("roi" in s) == (outline is not None)
            if outline is not None:
                assert [float(v) for v in outline.split()[::2]] == s["roi"]["x_rel"]
        found = {frozenset(pair) for pair in tracks.id[tracks.links].tolist()}
        assert found == {frozenset((e["source"], e["target"])) for e in expected["edges"]}
        assert (tracks.t[tracks.links[:, 0]] < tracks.t[tracks.links[:, 1]]).all()

    def test_features_of_spots_and_edges(self, real_data, name):
        expected = json.loads(gzip.decompress((real_data / "expected" / f"{REAL[name]}.json.gz").read_bytes()))
        tracks = read_trackmate(real_data / name)
        spot, edge = {s["id"]: s["features"] for s in expected["spots"]}, {}
        for e in expected["edges"]:
            edge[frozenset((e["source"], e["target"]))] = e["features"]
        for feature in tracks.features:
            known = np.ones(len(feature.values), bool) if feature.defined is None else feature.defined
            if feature.target == "spot":
                told = [spot[i].get(feature.name) for i in tracks.id.tolist()]
            else:
                told = [edge[frozenset(pair)].get(feature.name) for pair in tracks.id[tracks.links].tolist()]
            assert [value is not None for value in told] == known.tolist(), feature.name
            np.testing.assert_array_equal(
                feature.values[known], [v for v in told if v is not None], err_msg=feature.name
            )
        names = {key for key in next(iter(spot.values())) if not re.match("POSITION_[XYZ]|RADIUS|QUALITY|FRAME", key)}
        assert names <= {f.name for f in tracks.features}

    def test_writing_back_loses_nothing(self, real_data, name, tmp_path):
        tracks = read_trackmate(real_data / name)
        write_trackmate(tmp_path / "again.xml", tracks)
        again = read_trackmate(tmp_path / "again.xml")
        same(tracks, again)
        assert {f.key: f.dimension for f in tracks.features} == {f.key: f.dimension for f in again.features}
        for key in ("Settings", "GUIState", "DisplaySettings"):
            mine, theirs = (
                re.sub(rb' folder="[^"]*"', b"", t.carried.entries.get(key) or b"") for t in (tracks, again)
            )  # the file is in another folder now, so the image is
            assert mine == theirs or not mine
        image = tracks.attributes.get("image")
        if image and Path(image).exists():
            assert Path(again.attributes["image"]).samefile(image)
        a, b = (
            sorted(zip(t.id, t.carried.spots["track_id"], t.carried.spots["track_shown"], strict=True))
            for t in (tracks, again)
        )
        assert a == b

    def test_track_counts_agree_with_trackmates(self, real_data, name, tmp_path):
        expected = json.loads(gzip.decompress((real_data / "expected" / f"{REAL[name]}.json.gz").read_bytes()))
        write_trackmate(tmp_path / "again.xml", read_trackmate(real_data / name))
        root = etree.parse(tmp_path / "again.xml")
        made = {int(e.get("TRACK_ID")): e for e in root.iter("Track")}
        assert set(made) == {track["id"] for track in expected["tracks"]}
        for track in expected["tracks"]:
            assert made[track["id"]].get("name") == track["name"]
            for key in (
                "NUMBER_SPOTS",
                "NUMBER_GAPS",
                "NUMBER_SPLITS",
                "NUMBER_MERGES",
                "LONGEST_GAP",
                "TRACK_DURATION",
            ):
                if key in track["features"] and not (key == "TRACK_DURATION" and "mamut" in name):
                    assert float(made[track["id"]].get(key)) == track["features"][key], key
        assert sum(track["visible"] for track in expected["tracks"]) == len(root.findall(".//FilteredTracks/TrackID"))


class TestReading:
    def test_a_small_file(self, tmp_path):
        tracks = read_trackmate(written(tmp_path, MINIMAL))
        assert tracks.id.tolist() == [7, 9, 8]
        assert tracks.t.tolist() == [0, 1, 1]
        assert tracks.centre[0].tolist() == [3, 2, 1]
        assert tracks.label.tolist() == [None, "nine", None]
        assert tracks.links.tolist() == [[0, 1]]
        area, count, cost = (
            tracks.feature("AREA"),
            tracks.feature("COUNT"),
            tracks.feature("LINK_COST", target="link"),
        )
        assert area.values[0] == np.inf
        assert area.defined.tolist() == [True, False, False]
        assert count.values.dtype == np.int64
        assert cost.values.tolist() == [2.5]
        assert tracks.carried.spots["roi"].tolist() == [None, "0 0 1 0 1 1", None]

    def test_hidden_spots_on_request(self, tmp_path):
        assert read_trackmate(written(tmp_path, MINIMAL), visible_only=True).id.tolist() == [7, 9]
        hidden = MINIMAL.replace('<TrackID TRACK_ID="4" />', "")
        assert read_trackmate(written(tmp_path, hidden), visible_only=True).n_spots == 0

    def test_faulty_edges_are_left_out_and_said(self, tmp_path, caplog):
        extra = '<Edge SPOT_SOURCE_ID="7" SPOT_TARGET_ID="99" /><Edge SPOT_SOURCE_ID="8" SPOT_TARGET_ID="9" />'
        extra += '<Edge SPOT_SOURCE_ID="7" SPOT_TARGET_ID="9" />'
        with caplog.at_level(logging.WARNING):
            tracks = read_trackmate(written(tmp_path, MINIMAL.replace("</Track>", extra + "</Track>")))
        assert tracks.n_links == 1
        assert "1 of 4 edges name a spot that is not in the file" in caplog.text
        assert "join two spots of one frame" in caplog.text
        assert "occur more than once" in caplog.text

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ('FRAME="0"', "", "spot number 1 has no finite FRAME"),
            ('FRAME="0"', 'FRAME="0.5"', "FRAME of spot number 1 is 0.5; expected a whole number"),
            ('POSITION_X="9"', 'POSITION_X="left"', "attribute POSITION_X of spot number 3 is 'left'"),
            ('ID="8"', 'ID="9"', "1 spots share their ID"),
            ("</Model>", "", "not well-formed XML"),
            ("TrackMate", "Mastodon", "root element is 'Mastodon'"),
            ("Model", "Modell", "has no Model element"),
            ("<TrackMate version", '<!DOCTYPE a [<!ENTITY b "c">]>\n<TrackMate version', "declares a DTD"),
        ],
    )
    def test_damage_is_a_sentence(self, tmp_path, old, new, message):
        with pytest.raises(FormatError, match=message):
            read_trackmate(written(tmp_path, MINIMAL.replace(old, new)))

    def test_no_file(self, tmp_path):
        with pytest.raises(MissingDataError, match="there is no such file"):
            read_trackmate(tmp_path / "nothing.xml")

    def test_entities_from_outside_are_not_read(self, tmp_path):
        secret = written(tmp_path, "secret", "secret.txt")
        text = MINIMAL.replace("<TrackMate", f'<!DOCTYPE a SYSTEM "{secret.as_uri()}">\n<TrackMate', 1)
        with pytest.raises(FormatError, match="DTD"):
            read_trackmate(written(tmp_path, text))

    def test_is_trackmate(self, tmp_path):
        assert is_trackmate(written(tmp_path, MINIMAL))
        assert not is_trackmate(written(tmp_path, "<SpimData />"))
        assert not is_trackmate(written(tmp_path, "no xml"))
        assert not is_trackmate(tmp_path / "absent.xml")


def example() -> Tracks:
    tracks = Tracks.build(
        [0, 1, 1, 3],
        [[1, 2, 3], [1, 2, 4], [1, 2, 2], [1.1, 0.1, 1e-7]],
        covariance=[np.eye(3) * 4, np.diag([9.0, 4, 1]), [[4, 1, 0], [1, 3, 0.5], [0, 0.5, 2]], np.eye(3) / 3],
        links=[[0, 1], [0, 2], [2, 3]],
        label=[None, 'quote " & < \n ü', "ID1", "c"],
        quality=[np.nan, 0.5, np.inf, -1],
        id=[3, 1, 4, 15],
        space_unit="µm",
        time_unit="min",
        interval=2.5,
        features=(
            Feature("Spot intensity", "Mean ch1", np.array([1.5, np.nan, 3, 4]), dimension="INTENSITY"),
            Feature("Count", "", np.array([1, 2, 0, 4]), defined=np.array([True, True, False, True])),
            Feature("Odd", "", np.array([1.0, 2, 3]), target="link", dimension="VOLUME"),
        ),
    )
    tracks = tracks.with_tag_set("Detection", [Tag("tp", 0xFF00FFFF), Tag("fp, 2 #x", 0x80FF0000)])
    tracks = tracks.with_tag_set("Empty", [])
    return tracks.with_tag("Detection", Tag("fp, 2 #x"), spots=[1, 3], links=[2])


class TestWriting:
    def test_round_trip_of_everything(self, tmp_path):
        tracks = example()
        write_trackmate(tmp_path / "a.xml", tracks)
        again = read_trackmate(tmp_path / "a.xml")
        named = tracks.relabelled([None, tracks.label[1], "ID1", "c"])
        same(named, again)
        mean = again.feature("Spot_intensity_Mean_ch1")
        assert mean.dimension == "INTENSITY"
        np.testing.assert_array_equal(mean.values[[0, 1]], [1.5, np.nan])
        count = again.feature("Count")
        assert count.values.dtype == np.int64
        assert again.feature("Odd", target="link").dimension == "NONE"
        assert again.feature("POSITION_T").values[np.argsort(again.t)].tolist() == [0, 2.5, 2.5, 7.5]

    def test_a_changed_radius_scales_the_ellipsoid(self, tmp_path):
        tracks = Tracks.build([0], [[0, 0, 0]], covariance=[np.diag([16.0, 1, 4])])
        write_trackmate(tmp_path / "a.xml", tracks)
        text = (tmp_path / "a.xml").read_text()
        (tmp_path / "a.xml").write_text(re.sub('RADIUS="[^"]*"', 'RADIUS="4.0"', text))
        np.testing.assert_allclose(read_trackmate(tmp_path / "a.xml").covariance[0], np.diag([64.0, 4, 16]))

    def test_what_trackmate_insists_on(self, tmp_path):
        write_trackmate(
            tmp_path / "a.xml", example(), image=ArrayImage(np.zeros((4, 3, 5, 7)), voxel_size=(2, 0.5, 0.25))
        )
        text = (tmp_path / "a.xml").read_text()
        root = etree.fromstring(text.encode())
        assert root.find("Model/FilteredTracks/TrackID") is not None
        for spot in root.iter("Spot"):
            assert re.fullmatch(r"\d+", spot.get("FRAME"))
            assert spot.get("VISIBILITY") == "1"
        assert not re.search(r'"(nan|-?inf)"', text)
        for name in (
            "InitialSpotFilter",
            "SpotFilterCollection",
            "TrackFilterCollection",
            "ImageData",
            "BasicSettings",
        ):
            assert root.find(f"Settings/{name}") is not None
        data = root.find("Settings/ImageData").attrib
        assert (data["width"], data["height"], data["nslices"], data["nframes"]) == ("7", "5", "3", "4")
        assert (data["pixelwidth"], data["pixelheight"], data["voxeldepth"]) == ("0.25", "0.5", "2.0")
        declared = {f.get("feature") for f in root.find("Model/FeatureDeclarations/SpotFeatures")}
        assert {key for spot in root.iter("Spot") for key in spot.attrib} - {"ID", "name"} <= declared
        assert not root.findall(".//Track[@NUMBER_SPOTS='1']")

    def test_image_beside_or_elsewhere(self, tmp_path):
        image = ArrayImage(np.zeros((1, 1, 2, 2)))
        image.path = tmp_path / "movie.tif"
        write_trackmate(tmp_path / "a.xml", example(), image=image)
        assert 'filename="movie.tif" folder=""' in (tmp_path / "a.xml").read_text()
        (tmp_path / "other").mkdir()
        write_trackmate(tmp_path / "other" / "a.xml", example(), image=image)
        assert f'folder="{tmp_path.resolve().as_posix()}/"' in (tmp_path / "other" / "a.xml").read_text()
        image.path.touch()
        assert read_trackmate(tmp_path / "other" / "a.xml").attributes == {"image": str(tmp_path / "movie.tif")}

    def test_outlines_follow_a_selection(self, tmp_path):
        tracks = read_trackmate(written(tmp_path, MINIMAL)).select([1, 2])
        grown = tracks.concatenate(Tracks.build([2], [[0, 0, 0]], radius=1, id=[70], space_unit="um"))
        write_trackmate(tmp_path / "b.xml", grown)
        again = read_trackmate(tmp_path / "b.xml")
        assert again.carried.spots["roi"].tolist() == ["0 0 1 0 1 1", None, None]
        assert again.feature("VISIBILITY").values.tolist() == [1, 0, 1]

    def test_tracks_that_were_split_get_numbers_of_their_own(self, tmp_path):
        tracks = Tracks.build([0, 1, 2, 3], np.zeros((4, 3)), radius=1, links=[[0, 1], [1, 2], [2, 3]])
        write_trackmate(tmp_path / "a.xml", tracks)
        cut = read_trackmate(tmp_path / "a.xml").select_links([0, 2])
        write_trackmate(tmp_path / "b.xml", cut)
        assert read_trackmate(tmp_path / "b.xml").carried.spots["track_id"].tolist() == [0, 0, 1, 1]

    def test_nothing_to_write(self, tmp_path):
        write_trackmate(tmp_path / "a.xml", Tracks.empty())
        assert read_trackmate(tmp_path / "a.xml").n_spots == 0

    def test_ids_too_large_for_java_are_renumbered(self, tmp_path, caplog):
        write_trackmate(tmp_path / "a.xml", Tracks.build([0], [[0, 0, 0]], radius=1, id=[2**40]))
        assert read_trackmate(tmp_path / "a.xml").id.tolist() == [0]
        assert "do not fit" in caplog.text

    def test_the_old_file_stays_when_writing_fails(self, tmp_path):
        path = written(tmp_path, "old")
        broken = Tracks.build([1, 0], np.zeros((2, 3)), radius=1, links=[[0, 1]])
        with pytest.raises(ValidationError, match="forward in time"):
            write_trackmate(path, broken)
        with pytest.raises(WriteError, match="folder does not exist"):
            write_trackmate(tmp_path / "none" / "a.xml", example())
        assert path.read_text() == "old"


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1),
    text=st.text(max_size=8),
    tag=st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1),
)
def test_any_annotation_comes_back(tmp_path, seed, text, tag):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 12))
    half = rng.normal(size=(n, 3, 3))
    tracks = Tracks.build(
        rng.integers(0, 4, n),
        rng.normal(size=(n, 3)) * 10.0 ** rng.integers(-9, 9),
        covariance=half @ half.transpose(0, 2, 1) + np.eye(3),
        quality=rng.normal(size=n),
        id=rng.permutation(50)[:n],
    )
    covariance = (tracks.covariance + tracks.covariance.transpose(0, 2, 1)) / 2
    tracks = Tracks.build(tracks.t, tracks.centre, covariance=covariance, quality=tracks.quality, id=tracks.id)
    pairs = np.array([[a, b] for a in range(n) for b in range(n) if tracks.t[a] < tracks.t[b]]).reshape(-1, 2)
    tracks = tracks.with_links(pairs[rng.random(len(pairs)) < 0.2])
    tracks = tracks.with_tag("set", Tag(tag, int(rng.integers(0, 2**32))), spots=rng.random(n) < 0.5)
    write_trackmate(tmp_path / "a.xml", tracks.relabelled([text] * n))
    again = read_trackmate(tmp_path / "a.xml")
    clean = re.sub("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)
    same(tracks.relabelled([clean] * n), again)


class TestTheImage:
    def test_settings_are_always_there_and_name_the_image(self, tmp_path):
        """Mastodon refuses a file without settings, and TrackMate looks for the image in the folder, else beside the file."""
        tracks = Tracks.build([0], [[0, 1, 2]], radius=1.0)
        write_trackmate(tmp_path / "a.xml", tracks)
        assert etree.parse(tmp_path / "a.xml").find("Settings/SpotFilterCollection") is not None
        (tmp_path / "movie.tif").touch()
        named = replace(tracks, attributes={"image": str(tmp_path / "movie.tif")})
        (tmp_path / "sub").mkdir()
        for target, folder in ((tmp_path / "a.xml", ""), (tmp_path / "sub" / "b.xml", f"{tmp_path.as_posix()}/")):
            write_trackmate(target, named)
            data = etree.parse(target).find("Settings/ImageData")
            assert (data.get("filename"), data.get("folder")) == ("movie.tif", folder)
            again = read_trackmate(target)
            assert Path(again.attributes["image"]) == tmp_path / "movie.tif"
        write_trackmate(tmp_path / "c.xml", again)
        assert Path(read_trackmate(tmp_path / "c.xml").attributes["image"]) == tmp_path / "movie.tif"

    def test_a_relative_folder_is_relative_to_the_file(self, tmp_path):
        (tmp_path / "images").mkdir()
        (tmp_path / "images" / "movie.tif").touch()
        text = '<Settings><ImageData filename="movie.tif" folder="images/" /></Settings></TrackMate>'
        path = written(tmp_path, MINIMAL.replace("</TrackMate>", text))
        assert Path(read_trackmate(path).attributes["image"]) == tmp_path / "images" / "movie.tif"

    def test_features_have_units_and_what_is_only_declared_stays(self, tmp_path):
        only = '<Feature feature="SHAPE_INDEX" name="Shape index" shortname="SI" dimension="NONE" isint="false" /></SpotFeatures>'
        path = written(tmp_path, MINIMAL.replace("</SpotFeatures>", only))
        tracks = read_trackmate(path)
        assert {f.name: f.units for f in tracks.features}["AREA"] == "um^2"
        write_trackmate(tmp_path / "again.xml", tracks)
        assert '"SHAPE_INDEX"' in (tmp_path / "again.xml").read_text()
