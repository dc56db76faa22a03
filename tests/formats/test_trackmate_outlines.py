"""ROIs of TrackMate as outlines: the numbers of the file come back, and what TrackMate cannot hold is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from bdv_io.errors import FormatError
from bdv_io.outlines import Outlines
from bdv_io.trackmate import lost_in_mamut, lost_in_trackmate, read_trackmate, write_mamut, write_trackmate
from bdv_io.tracks import Tracks

SQUARE = [[0, 0], [0, 4], [4, 4], [4, 0]]
FILE = """<TrackMate version="8.1.6"><Model spatialunits="um" timeunits="s"><AllSpots nspots="1"><SpotsInFrame frame="0">
<Spot ID="7" POSITION_X="0.1" POSITION_Y="0.2" POSITION_Z="3.0" FRAME="0" RADIUS="2.0" VISIBILITY="1" {}</Spot>
</SpotsInFrame></AllSpots><AllTracks /><FilteredTracks /></Model></TrackMate>"""


def outlined(spot, polygons, z, n=2) -> Tracks:
    tracks = Tracks.build(np.zeros(n, int), np.arange(3 * n).reshape(n, 3) / 7, radius=1)
    return replace(tracks, outlines=Outlines.of_polygons(spot, polygons, z))


def numbers(path) -> dict[str, list[float]]:
    return {s.get("ID"): [float(word) for word in (s.text or "").split()] for s in etree.parse(path).iter("Spot")}


@pytest.mark.real
@pytest.mark.parametrize(
    "name", ["faketracks/trackmate-8.0.0-roi/FakeTracks.xml", "written-by-java/trackmate/labels.xml"]
)
class TestRealFiles:
    def test_the_numbers_of_the_file_come_back(self, real_data, name, tmp_path):
        tracks = read_trackmate(real_data / name)
        assert len(tracks.outlines) == tracks.n_spots
        assert not lost_in_trackmate(tracks)
        write_trackmate(tmp_path / "a.xml", tracks)
        assert numbers(tmp_path / "a.xml") == numbers(real_data / name)

    def test_radius_is_that_of_the_area(self, real_data, name):
        tracks = read_trackmate(real_data / name)
        radius = np.sqrt(np.abs(tracks.outlines.areas()) / np.pi)
        ratio = radius / np.sqrt(tracks.covariance[:, 0, 0])
        assert (np.abs(ratio - 1) < 1e-9).sum() >= tracks.n_spots - 1  # one touches the border
        np.testing.assert_allclose(ratio, 1, atol=0.01)
        np.testing.assert_array_equal(tracks.outlines.z, tracks.centre[:, 0])

    def test_a_moved_spot_takes_its_outline_along(self, real_data, name, tmp_path):
        tracks = read_trackmate(real_data / name)
        moved = replace(tracks, centre=tracks.centre + np.array([0, 1, 2]))
        write_trackmate(tmp_path / "a.xml", moved)
        again = read_trackmate(tmp_path / "a.xml")
        order, back = np.argsort(tracks.id), np.argsort(again.id)
        a, b = tracks.select(order).outlines, again.select(back).outlines
        np.testing.assert_array_equal(a.vertices, b.vertices)

    def test_every_feature_of_every_track_is_put_back(self, real_data, name, tmp_path):
        tracks = read_trackmate(real_data / name)
        write_trackmate(tmp_path / "a.xml", tracks)
        was, now = (
            {t.get("TRACK_ID"): dict(t.attrib) for t in etree.parse(p).iter("Track")}
            for p in (real_data / name, tmp_path / "a.xml")
        )
        assert was == now
        nudged = replace(tracks, centre=tracks.centre + (np.arange(tracks.n_spots) == tracks.links[0, 0])[:, None])
        write_trackmate(tmp_path / "b.xml", nudged)
        known = [t.get("TRACK_DISPLACEMENT") is not None for t in etree.parse(tmp_path / "b.xml").iter("Track")]
        assert known.count(False) == (1 if "FakeTracks" in name else known.count(False))


class TestReading:
    def test_relative_to_the_spot(self, tmp_path):
        (tmp_path / "a.xml").write_text(FILE.format('ROI_N_POINTS="3">0 0 1 0 1 1'))
        outlines = read_trackmate(tmp_path / "a.xml").outlines
        assert outlines.z.tolist() == [3]
        assert outlines.ring(0).tolist() == [[0.2, 0.1], [0.2, 1.1], [1.2, 1.1]]

    def test_what_is_no_roi_is_kept_as_text(self, tmp_path):
        (tmp_path / "a.xml").write_text(FILE.format('ROI_N_POINTS="2">0 0 1 0'))
        tracks = read_trackmate(tmp_path / "a.xml")
        assert not len(tracks.outlines)
        write_trackmate(tmp_path / "b.xml", tracks)
        assert numbers(tmp_path / "b.xml")["7"] == [0, 0, 1, 0]

    def test_elements_of_later_versions_inside_a_spot_are_put_back(self, tmp_path):
        (tmp_path / "a.xml").write_text(FILE.format('ROI_N_POINTS="3">0 0 1 0 1 1<Mesh file="7.ply"/>'))
        with pytest.raises(FormatError, match="no number"):
            read_trackmate(tmp_path / "a.xml") and None
        (tmp_path / "a.xml").write_text(FILE.format('><Mesh file="7.ply">x</Mesh>'))
        write_trackmate(tmp_path / "b.xml", read_trackmate(tmp_path / "a.xml"))
        assert etree.parse(tmp_path / "b.xml").find(".//Spot/Mesh").attrib == {"file": "7.ply"}

    @pytest.mark.parametrize(
        ("inside", "message"),
        [
            ('ROI_N_POINTS="4">0 0 1 0 1 1', "has ROI_N_POINTS 4, but 6 numbers"),
            ('ROI_N_POINTS="3">0 0 1 0 1 b', "no number"),
            ('ROI_N_POINTS="3">0 0 1 0 1 NaN', "not a finite number"),
            ('ROI_N_POINTS="1e300">0 0 1 0 1 1', "numbers; expected|whole number"),
            ('ROI_N_POINTS="Infinity">0 0 1 0 1 1', "numbers; expected|whole number"),
        ],
    )
    def test_damage_is_a_sentence(self, tmp_path, inside, message):
        (tmp_path / "a.xml").write_text(FILE.format(inside))
        with pytest.raises(FormatError, match=message):
            read_trackmate(tmp_path / "a.xml")


class TestWriting:
    def test_the_largest_ring_is_written_and_the_others_are_said(self, tmp_path):
        hole = (np.array(SQUARE) + 2).tolist()
        tracks = outlined([0, 0, 1], [hole, np.array(SQUARE) * 3, SQUARE], [0, 0, 3 / 7])
        write_trackmate(tmp_path / "a.xml", tracks)
        again = read_trackmate(tmp_path / "a.xml")
        assert again.outlines.ring(0).tolist() == tracks.outlines.ring(1).tolist()
        assert again.outlines.ring(1).tolist() == SQUARE
        assert "1 spots have outlines of several rings" in lost_in_trackmate(tracks)[0]

    def test_another_plane_is_said(self):
        assert "lie in another plane" in lost_in_trackmate(outlined([1], [SQUARE], 9.0))[0]

    def test_the_shape_of_the_spot_is_its_own(self, tmp_path):
        write_trackmate(tmp_path / "a.xml", outlined([0], [SQUARE], 0.0))
        assert read_trackmate(tmp_path / "a.xml").covariance[0, 0, 0] == 1

    def test_short_numbers(self, tmp_path):
        tracks = Tracks.build([0], [[0, 0.5, 0.5]], radius=1)
        tracks = replace(tracks, outlines=Outlines.of_polygons([0], [[[0.7, 0.5], [0.5, 0.8], [0.6, 0.6]]], 0))
        write_trackmate(tmp_path / "a.xml", tracks)
        text = etree.parse(tmp_path / "a.xml").find(".//Spot").text
        assert text == "0.0 0.2 0.3 0.0 0.1 0.1"

    def test_mamut_has_none(self, tmp_path):
        tracks = outlined([0], [SQUARE], 0.0)
        write_mamut(tmp_path / "a.xml", tracks)
        assert not len(read_trackmate(tmp_path / "a.xml").outlines)
        assert "outlines of 1 spots are left out" in lost_in_mamut(tracks)[0]


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), step=st.sampled_from([0.5, 0.1, 0.277, 1e-3, None]))
def test_any_outline_comes_back(tmp_path, seed, step):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 6))
    centre = rng.random((n, 3)) * 1000
    spot = np.flatnonzero(rng.random(n) < 0.7)
    points = [centre[i, 1:] + rng.normal(size=(int(rng.integers(3, 9)), 2)) * 5 for i in spot]
    points = [np.round(p / step) * step if step else p for p in points]
    tracks = replace(
        Tracks.build(rng.integers(0, 3, n), centre, radius=1),
        outlines=Outlines.of_polygons(spot, points, centre[spot, 0]),
    )
    write_trackmate(tmp_path / "a.xml", tracks)
    again = read_trackmate(tmp_path / "a.xml")
    again = again.select(np.argsort(again.id))
    np.testing.assert_array_equal(again.outlines.spot, tracks.outlines.spot)
    np.testing.assert_allclose(again.outlines.vertices, tracks.outlines.vertices, rtol=0, atol=1e-12)
    write_trackmate(tmp_path / "b.xml", again)
    assert numbers(tmp_path / "b.xml") == numbers(tmp_path / "a.xml")
