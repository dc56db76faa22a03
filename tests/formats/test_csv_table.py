"""CSV tables: what is in them, and that our own come back."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest

from bdv_io.csv_table import lost_in_csv, read_csv, write_csv
from bdv_io.errors import FormatError, MissingDataError, ValidationError, WriteError
from bdv_io.outlines import Outlines
from bdv_io.tags import Feature, Tag
from bdv_io.tracks import Carried, Tracks


def example() -> Tracks:
    tracks = Tracks.build(
        [0, 1, 1, 3],
        [[1, 2, 3], [0.1, 2, 4], [1 / 3, 2, 2], [1e-300, 2, 1e9]],
        covariance=[np.eye(3) * 4, np.diag([9.0, 4, 1]), [[4, 1, 0], [1, 3, 0.5], [0, 0.5, 2]], np.eye(3) / 3],
        links=[[0, 2], [0, 1], [2, 3]],
        label=[None, 'a "b", c', "line\nbreak", "ü"],
        quality=[0.5, np.nan, np.inf, -1],
        id=[10, 7, 3, 2**60 + 1],
        space_unit="µm",
        time_unit="min",
        interval=2.5,
        features=(
            Feature("Spot intensity", "Mean ch1", np.array([1.5, np.nan, 3, 4]), units="Counts"),
            Feature("Count", "", np.array([1, 2, 0, 4]), defined=np.array([True, True, False, True])),
            Feature("Cost", "", np.array([1.0, 2, 3]), target="link"),
        ),
    )
    return tracks.with_tag("Detection", Tag("tp"), spots=[1, 3]).with_tag("Detection", Tag("fp"), spots=[0], links=[2])


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


class TestWriting:
    def test_columns_of_spots(self, tmp_path):
        spots, _ = write_csv(tmp_path / "movie", example())
        assert spots.name == "movie-spots.csv"
        first, second, third, _ = rows(spots)
        assert list(first) == [
            *("id", "label", "track", "frame", "time_min", "z_µm", "y_µm", "x_µm"),
            *("radius_µm", "radius_a_µm", "radius_b_µm", "radius_c_µm"),
            *(f"cov_{axes}_µm2" for axes in ("zz", "zy", "zx", "yy", "yx", "xx")),
            *("quality", "parents", "children", "tag: Detection"),
            *("feature: Spot intensity | Mean ch1 [Counts]", "feature: Count"),
        ]
        assert (first["id"], first["label"], first["frame"], first["children"], first["parents"]) == (
            "10",
            "",
            "0",
            "2",
            "0",
        )
        assert [float(second[f"radius_{i}_µm"]) for i in "abc"] == pytest.approx([3, 2, 1])
        assert float(first["radius_µm"]) == pytest.approx(2)
        assert second["quality"] == ""
        assert (first["tag: Detection"], third["tag: Detection"]) == ("fp", "")
        assert (second["time_min"], third["feature: Count"]) == ("2.5", "")

    def test_columns_of_links(self, tmp_path):
        _, links = write_csv(tmp_path / "movie.csv", example())
        assert links.name == "movie-links.csv"
        last = rows(links)[2]
        assert (last["source"], last["target"], last["source_frame"], last["target_frame"]) == (
            "3",
            str(2**60 + 1),
            "1",
            "3",
        )
        assert (last["tag: Detection"], last["feature: Cost"]) == ("fp", "3.0")
        assert float(last["displacement_µm"]) == pytest.approx(1e9)

    def test_into_a_folder(self, tmp_path):
        assert [p.name for p in write_csv(tmp_path, example())] == ["spots.csv", "links.csv"]

    def test_faults_are_sentences(self, tmp_path):
        with pytest.raises(WriteError, match="folder does not exist"):
            write_csv(tmp_path / "no" / "a", example())
        with pytest.raises(ValidationError, match="forward in time"):
            write_csv(tmp_path / "a", Tracks.build([0, 0], np.zeros((2, 3)), radius=1, links=[[0, 1]]))


class TestReading:
    @pytest.mark.parametrize("given", ["movie", "movie.csv", "movie-spots.csv"])
    def test_round_trip(self, tmp_path, given):
        tracks = example()
        write_csv(tmp_path / "movie", tracks)
        again = read_csv(tmp_path / given)
        for name in ("t", "centre", "covariance", "quality", "id", "links"):
            np.testing.assert_array_equal(getattr(again, name), getattr(tracks, name), err_msg=name)
        assert again.label.tolist() == tracks.label.tolist()
        assert (again.space_unit, again.time_unit, again.interval) == ("µm", "min", 2.5)
        for name in ("tp", "fp"):
            for links in (False, True):
                np.testing.assert_array_equal(
                    again.tagged("Detection", name, links=links), tracks.tagged("Detection", name, links=links)
                )
        mean = again.feature("Spot intensity", "Mean ch1")
        assert mean.units == "Counts"
        np.testing.assert_array_equal(mean.values, [1.5, np.nan, 3, 4])
        assert again.feature("Count").defined.tolist() == [True, True, False, True]
        assert again.feature("Cost", target="link").values.tolist() == [1, 2, 3]

    def test_nothing(self, tmp_path):
        write_csv(tmp_path / "a", Tracks.empty())
        assert read_csv(tmp_path / "a").n_spots == 0

    def test_many_blocks(self, tmp_path, monkeypatch):
        monkeypatch.setattr("bdv_io.csv_table.BLOCK", 3)
        tracks = Tracks.build(
            np.arange(10), np.arange(30).reshape(10, 3), radius=1, links=[[i, i + 1] for i in range(9)]
        )
        write_csv(tmp_path / "a", tracks)
        np.testing.assert_array_equal(read_csv(tmp_path / "a").centre, tracks.centre)

    def test_a_table_by_hand(self, tmp_path, caplog):
        path = tmp_path / "mine.csv"
        path.with_name("mine-spots.csv").write_text("frame,x_um,y_um,z_um,radius_um\n0,1,2,3,4\n", encoding="utf-8-sig")
        tracks = read_csv(path)
        assert tracks.centre.tolist() == [[3, 2, 1]]
        assert tracks.covariance[0, 0, 0] == 16
        assert tracks.space_unit == "um"
        assert "no table of links mine-links.csv" in caplog.text

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("frame,y_um,x_um\n", "it needs one column 'z_'"),
            ("frame,z_um,y_um,x_um\n0,1,2,3\n", "no column 'radius_um'"),
            ("frame,z_um,y_um,x_um,radius_um\n0,1,2,three,1\n", "column 'x_um' has a cell that is no number"),
            ("frame,z_um,y_um,x_um,radius_um\n0,1,2,3\n", "row 2 does not have 5 cells"),
            ("frame,z_um,y_um,x_um,radius_um\n,1,2,3,1\n", "'frame' needs a whole number"),
            ("id,frame,z_um,y_um,x_um,radius_um\n1.5,0,1,2,3,1\n", "column 'id' has a cell that is no number"),
            ("frame,frame,z_um\n", "two columns have the same name"),
            ("", "it needs one column 'z_'"),
        ],
    )
    def test_damage_is_a_sentence(self, tmp_path, text, message):
        (tmp_path / "a-spots.csv").write_text(text)
        with pytest.raises(FormatError, match=message):
            read_csv(tmp_path / "a")

    def test_a_link_to_nowhere(self, tmp_path):
        write_csv(tmp_path / "a", example())
        (tmp_path / "a-links.csv").write_text("source,target\n10,99\n")
        with pytest.raises(FormatError, match="the first joins 10 and 99"):
            read_csv(tmp_path / "a")

    def test_no_table(self, tmp_path):
        with pytest.raises(MissingDataError, match="there is no such file"):
            read_csv(tmp_path / "a")


def test_outlines_come_back(tmp_path):
    circle = np.random.default_rng(0).random((9000, 2)).tolist()  # more characters than a cell has by default
    rings = [circle, [[1, 1], [1, 2], [2, 2]], [[9, 9], [9, 8], [8, 8.1], [7, 7]]]
    outlines = Outlines.of_polygons([1, 1, 2], rings, [0, 0.5, 2])
    tracks = replace(Tracks.build([0, 1, 1], np.zeros((3, 3)), radius=1), outlines=outlines)
    assert not lost_in_csv(tracks)
    write_csv(tmp_path / "a", tracks)
    again = read_csv(tmp_path / "a").outlines
    for name in ("spot", "z", "start", "vertices"):
        np.testing.assert_array_equal(getattr(again, name), getattr(outlines, name))
    path = tmp_path / "a-spots.csv"
    path.write_text(
        path.read_text().replace("[[0.5,", "[[0.5, 1,").replace("[0.5, [[", "[0.5, [[[").replace("]]]]", "]]]")
    )
    with pytest.raises(FormatError, match="outline in row 3 is not"):
        read_csv(path)


def test_what_the_tables_cannot_hold_is_said():
    tracks = Tracks.build(
        [0],
        [[0, 0, 0]],
        radius=1,
        label=[""],
        interval=2.0,
        attributes={"image": "a"},
        features=(
            Feature("n", "", np.array([1]), "branch", dimension="NONE"),
            Feature("x", "", np.array([np.nan]), dimension="LENGTH"),
        ),
        carried=Carried("mastodon", {"gui.xml": b""}),
    ).with_tag_set("s", [Tag("t", 1)])
    said = " ".join(lost_in_csv(tracks))
    for word in (
        "Colours",
        "nothing carries",
        "quantity",
        "decimal",
        "NaN",
        "branches",
        "empty texts",
        "interval",
        "source",
        "Mastodon",
    ):
        assert word in said
