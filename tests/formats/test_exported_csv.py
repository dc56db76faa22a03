"""Tables that TrackMate and Mastodon export."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

from bdv_io.errors import FormatError, MissingDataError
from bdv_io.exported_csv import is_exported_csv, read_exported_csv
from bdv_io.formats import identify, read_tracks
from bdv_io.image import Hints
from bdv_io.mastodon import read_mastodon
from bdv_io.trackmate import read_trackmate, write_trackmate

SPOTS = """LABEL,ID,TRACK_ID,QUALITY,POSITION_X,POSITION_Y,POSITION_Z,POSITION_T,FRAME,RADIUS,VISIBILITY,MANUAL_COLOR,MEAN_INTENSITY_CH1
Label,Spot ID,Track ID,Quality,X,Y,Z,T,Frame,Radius,Visibility,Color,Mean intensity ch1
Label,Spot ID,Track ID,Quality,X,Y,Z,T,Frame,R,Visibility,Spot color,Mean ch1
,,,(quality),(micron),(micron),(micron),(sec),,(micron),,,(counts)
ID7,7,4,5.5,1.5,2,3,0,0,2.5,1,,10
"a, b",8,4,NaN,1.5,2,4,2.5,1,2.5,1,,
ID9,9,,1,0,0,0,5,2,1,1,,7
"""
EDGES = """LABEL,TRACK_ID,SPOT_SOURCE_ID,SPOT_TARGET_ID,LINK_COST
Label,Track ID,Source spot ID,Target spot ID,Edge cost
Label,Track ID,Source ID,Target ID,Cost
,,,,(cost)
ID8 → ID7,4,8,7,0.25
ID8 → ID99,4,8,99,0.5
"""


def written(folder, name, text):
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


class TestTrackMate:
    def test_spots_and_edges(self, tmp_path, caplog):
        written(tmp_path, "m_edges.csv", EDGES)
        tracks = read_tracks(written(tmp_path, "m_spots.csv", SPOTS))
        assert tracks.id.tolist() == [7, 8, 9]
        assert tracks.label.tolist() == [None, "a, b", None]
        assert tracks.centre[1].tolist() == [4, 2, 1.5]
        assert tracks.covariance[0, 0, 0] == 2.5**2
        assert (tracks.space_unit, tracks.time_unit, tracks.interval) == ("micron", "sec", 2.5)
        assert tracks.links.tolist() == [[0, 1]]
        assert tracks.feature("LINK_COST", target="link").values.tolist() == [0.25]
        mean = tracks.feature("MEAN_INTENSITY_CH1")
        assert (mean.units, mean.defined.tolist()) == ("counts", [True, False, True])
        assert tracks.feature("MANUAL_COLOR") is None
        assert "1 of 2 links are left out" in caplog.text
        write_trackmate(tmp_path / "a.xml", tracks)
        assert read_trackmate(tmp_path / "a.xml").carried.spots["track_id"].tolist() == [4, 4, -1]

    def test_without_edges_it_says_so(self, tmp_path, caplog):
        assert read_tracks(written(tmp_path, "export.csv", SPOTS)).n_links == 0
        assert "spots are not linked" in caplog.text

    def test_the_only_table_of_edges_is_taken(self, tmp_path):
        written(tmp_path, "All Edges statistics.csv", EDGES)
        assert read_tracks(written(tmp_path, "export.csv", SPOTS)).n_links == 1
        written(tmp_path, "other edges.csv", EDGES)
        assert read_tracks(written(tmp_path, "export.csv", SPOTS)).n_links == 0

    def test_one_line_of_keys_needs_the_unit(self, tmp_path):
        lines = SPOTS.splitlines()
        path = written(tmp_path, "a.csv", "\n".join([lines[0], *lines[4:]]))
        with pytest.raises(FormatError, match="does not say the unit of length"):
            read_exported_csv(path)
        tracks = read_exported_csv(path, hints=Hints(unit="µm", interval=(3.0, "min")))
        assert (tracks.n_spots, tracks.space_unit, tracks.interval) == (3, "µm", 3.0)

    def test_no_spots(self, tmp_path):
        assert read_exported_csv(written(tmp_path, "a.csv", "\n".join(SPOTS.splitlines()[:4]))).n_spots == 0

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("1.5,2,3", "left,2,3", "POSITION_X' has a cell that is no number"),
            (",RADIUS,", ",ROUND,", "has no column 'RADIUS'"),
            (",0,0,2.5,1", ",0,0.5,2.5,1", "'FRAME' needs a whole number"),
            ("ID9,9", "ID9,9,9", "has 14 cells"),
            ("ID9,9", "ID9,8", "ids"),
        ],
    )
    def test_damage_is_a_sentence(self, tmp_path, old, new, message):
        with pytest.raises(FormatError, match=message):
            read_exported_csv(written(tmp_path, "a.csv", SPOTS.replace(old, new)))

    def test_other_files(self, tmp_path):
        assert not is_exported_csv(written(tmp_path, "a.csv", "a,b\n1,2"))
        assert not is_exported_csv(tmp_path / "none.csv")
        with pytest.raises(FormatError, match="names neither TrackMate's columns"):
            read_exported_csv(tmp_path / "a.csv")
        with pytest.raises(MissingDataError, match="no such file"):
            read_exported_csv(tmp_path / "none.csv")


@pytest.mark.real
class TestMastodon:
    def test_the_table_agrees_with_the_project(self, real_data, caplog):
        path = real_data / "tgmm-3d" / "tgmm-mini-spot.csv"
        assert identify(path).key == "exported-csv"
        table, project = read_tracks(path), read_mastodon(real_data / "tgmm-3d" / "tgmm-mini.mastodon")
        assert table.n_spots == project.n_spots
        assert "not linked" in caplog.text
        a, b = (np.sort(np.concatenate([t.t[:, None], t.centre], axis=1).round(3), axis=0) for t in (table, project))
        np.testing.assert_allclose(a, b, atol=2e-3)
        assert table.space_unit == "pixel"
        assert table.feature("Spot intensity mean", "Mean ch1").units == "Counts"

    def test_spots_and_links_with_tags_as_numbers(self, real_data):
        tracks = read_tracks(real_data / "written-by-java" / "export" / "synth-Spot.csv")
        said = json.loads(
            gzip.decompress((real_data / "expected" / "written-by-java_synth.mastodon.json.gz").read_bytes())
        )
        assert (tracks.n_spots, tracks.n_links) == (16, 12)
        assert tracks.space_unit == "micrometer"
        spots = {s["index"]: s for s in said["spots"]}
        for row, i in enumerate(tracks.id.tolist()):
            assert tracks.centre[row].tolist() == [spots[i]["z"], spots[i]["y"], spots[i]["x"]]
            assert tracks.t[row] == spots[i]["t"]
        assert tracks.feature("Link displacement", target="link").units == "micrometer"
        assert set(tracks.feature("Fate", "alive").values) <= {0, 1}
        assert (tracks.t[tracks.links[:, 0]] < tracks.t[tracks.links[:, 1]]).all()
