"""Lineage work on files: what is written, what is said, what is refused; in this process, through the command line."""

from __future__ import annotations

import csv
import importlib.util
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from typer.testing import CliRunner

from bdv_io.bdv import write_bdv
from bdv_io.ctc import read_ctc
from bdv_io.formats import open_image, read_tracks, write_tracks
from bdv_io.tags import Tag
from bdv_io.tracks import Tracks
from howdah.cli import app
from howdah.pipeline import lineage_tables

runner = CliRunner()
WITH_PROPOSALS = importlib.util.find_spec("howdah.linking.proposals") is not None


def howdah(*arguments: object) -> Any:
    """Run a command that must work; return what it says as JSON."""
    done = runner.invoke(app, [*map(str, arguments), "--json"])
    assert done.exit_code == 0, (done.output, done.exception)
    return json.loads(done.stdout)


def refused(*arguments: object) -> str:
    done = runner.invoke(app, list(map(str, arguments)))
    assert done.exit_code == 2, (done.output, done.exception)
    return " ".join(done.stderr.split())


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A movie of five frames; one lineage of a program that divides at frame 1, one mark of a person, one short track."""
    frames = [np.zeros((4, 30, 30), dtype=np.uint16) for _ in range(5)]
    write_bdv(tmp_path / "movie.xml", frames, voxel_size=(1.0, 1.0, 1.0), unit="µm")
    t = [0, 1, 2, 2, 3, 3, 4, 4, 0, 2, 3]
    x = [10, 10, 8, 12, 7, 13, 6, 14, 24, 24, 24]
    links = [(0, 1), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7), (9, 10)]
    centre = [[2, 10, value] for value in x]
    tracks = Tracks.build(t, centre, radius=1.5, links=links, space_unit="µm")
    machine = [row for row in range(11) if row != 8]
    tracks = tracks.with_tag("Detection", Tag("unlabeled"), spots=machine)
    tracks = tracks.with_tag("Tracking", Tag("unlabeled"), links=np.arange(8))
    write_tracks(tmp_path / "cells.mastodon", tracks, image=open_image(tmp_path / "movie.xml"))
    return tmp_path / "cells.mastodon"


def test_progenitors_are_written_with_a_record(project):
    said = howdah("lineage", "progenitors", project)
    result = project.with_name("cells-progenitors.mastodon")
    assert said == {
        "out": str(result),
        "progenitors": 2,
        "descendants": 9,
        "tag_set": "Progenitor",
        "spots": 11,
        "links": 8,
    }
    written = read_tracks(result)
    assert written.tagged("Progenitor", "1").sum() == 8
    assert Path(written.attributes["image"]).name == "movie.xml"
    assert json.loads((project.parent / f"{result.name}.howdah.json").read_text())["task"] == "lineage progenitors"


def test_a_progenitor_may_be_chosen_and_the_source_may_be_the_target(project):
    assert (
        howdah("lineage", "progenitors", project, "--spot", "2,2,10,8", "--spot", 3, "-o", project)["descendants"] == 6
    )
    assert read_tracks(project).tag_set("Progenitor") is not None
    assert project.with_name("cells.mastodon~1~").exists()


def test_dividing_and_proliferating_cells_are_tagged(project):
    assert howdah("lineage", "dividing", project)["Divided"] == 2
    said = howdah("lineage", "proliferators", project, "--frames", "0-1")
    assert (said["Proliferator"], said["Non-proliferator"], said["Invisible"]) == (1, 0, 2)
    assert howdah("lineage", "proliferators", project, "--frames", "2-")["last_frame"] == 4


def test_tags_are_mapped(project):
    said = howdah("lineage", "map-tag", project, "Detection=unlabeled", "Detection=tp")
    assert said["tagged"] == 10
    assert read_tracks(said["out"]).tagged("Detection", "tp").sum() == 10
    assert "'Detection=' names no tag" in refused("lineage", "map-tag", project, "Detection=", "a=b")
    assert "no tag 'Unlabelled'. Its tags are: unlabeled" in refused(
        "lineage", "map-tag", project, "Detection=Unlabelled", "a=b"
    )


def test_an_approved_lineage_is_not_removed(project):
    said = howdah("lineage", "approve", project, "--spot", 10, "-o", project)
    assert (said["approved_spots"], said["approved_links"]) == (2, 1)
    said = howdah("lineage", "short", project, "--min-links", 3)
    assert (said["removed_spots"], said["removed_links"]) == (0, 0)
    assert said["kept"].startswith("3 spots stay because a person made or approved them")
    assert howdah("lineage", "short", project, "--min-links", 3, "--also-mine")["removed_spots"] == 3


def test_spots_are_removed_by_tag_and_by_place(project):
    assert howdah("lineage", "remove", project, "--tag", "Detection=unlabeled")["removed_spots"] == 10
    assert howdah("lineage", "remove", project, "--tag", "Tracking=unlabeled", "--links")["removed_links"] == 8
    assert howdah("lineage", "remove", project, "--frames", "3-", "--box", "0,0,20:9,30,30")["removed_spots"] == 1
    said = howdah("lineage", "remove", project, "--frames", "-0")
    assert (said["removed_spots"], said["kept"].split()[0]) == (1, "1")
    assert howdah("lineage", "bad-links", project)["removed_links"] == 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ((), "Say what shall be removed"),
        (("--links", "--frames", "1"), "Say what shall be removed"),
        (("--frames", "a-b"), "'a-b' is no range of frames"),
        (("--frames", "-"), "'-' is no range of frames"),
        (("--frames", "4-2"), "frames 4 to 2 run backward"),
        (("--box", "1,2:3"), "'1,2:3' is no box"),
        (("--tag", "Reviewed=yes"), "There is no tag set 'Reviewed'. Tag sets are: 'Detection', 'Tracking'"),
    ],
)
def test_what_makes_no_sense_is_refused(project, options, sentence):
    assert sentence in refused("lineage", "remove", project, *options)
    assert not project.with_name("cells-removed.mastodon").exists()


def test_completed_lineages_are_marked_and_exported(project):
    said = howdah("lineage", "complete", project, "-o", project)
    assert (said["complete"], said["newly_marked"], said["lineages"], said["last_frame"]) == (1, 1, 3, 4)
    out = project.with_name("01_RES")
    said = howdah("lineage", "export-ctc", project, out, "--completed")
    assert (said["spots"], said["tracks"]) == (8, 3)
    back = read_ctc(out)
    assert (back.n_spots, len(back.divisions())) == (8, 1)
    with Path(said["id_map"]).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["spot"] for row in rows] == [str(i) for i in range(8)]
    assert rows[2]["parent_track"] == rows[3]["parent_track"] == rows[0]["track"]
    whole = howdah("lineage", "export-ctc", project, project.with_name("02_RES"))
    assert whole["spots"] == 11


def test_nothing_complete_is_said(project):
    assert "no spot is tagged Status = Completed" in refused(
        "lineage", "export-ctc", project, project.with_name("01_RES"), "--completed"
    )
    assert not project.with_name("01_RES").exists()
    assert not project.with_name("01_RES-id_map.csv").exists()


def test_the_movie_says_where_lineages_end(project):
    tracks = read_tracks(project)
    shorter = project.with_name("shorter.mastodon")
    write_tracks(shorter, tracks.select(tracks.t < 4), image=open_image(project.with_name("movie.xml")))
    assert howdah("lineage", "complete", shorter)["complete"] == 0
    assert {row["what"] for row in howdah("lineage", "open", shorter)["places"]} == {"ends early", "starts late"}


def test_cells_that_die_may_end_early(project):
    tracks = read_tracks(project).with_tag("Fate", Tag("dies"), spots=[8])
    write_tracks(project, tracks, image=open_image(project.with_name("movie.xml")))
    places = howdah("lineage", "open", project, "--may-end", "Fate=dies")["places"]
    assert [(row["what"], row["spot"]) for row in places] == [("starts late", 9), ("ends early", 10)]


@pytest.mark.parametrize(("by", "n", "options"), [("frame", 5, ()), ("track", 3, ()), ("progenitor", 1, ("--spot", 0))])
def test_divisions_are_counted(project, by, n, options):
    said = howdah("lineage", "divisions", project, "--by", by, *options)
    assert said["counted_by"] == by
    assert len(said["divisions"]) == n
    assert sum(row["divisions"] for row in said["divisions"]) == said["n_divisions"] == 1
    assert "counted by frame, track, progenitor; 'cell' was given" in refused(
        "lineage", "divisions", project, "--by", "cell"
    )


def test_tables_are_files(project):
    out = project.with_name("cells.csv")
    said = howdah("lineage", "cycles", project, "--all", "-o", out)
    assert (said["out"], said["complete_cycles"]) == (str(out), 0)
    with out.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["end"] for row in rows] == ["division", "last frame", "last frame", "lost", "lost"]
    assert [(row["frames"], row["time"]) for row in rows] == [("1", ""), ("3", ""), ("3", ""), ("0", ""), ("1", "")]
    listed = project.with_name("cells.json")
    howdah("lineage", "stats", project, "-o", listed)
    assert [row["spots"] for row in json.loads(listed.read_text())] == [2, 1, 3, 3, 2]
    assert "must end in .csv or .json" in refused("lineage", "stats", project, "-o", project.with_name("a.txt"))
    assert "it is the input" in refused("lineage", "stats", project, "-o", project)


def test_what_is_not_known_is_an_empty_cell(tmp_path):
    lineage_tables.write_table(tmp_path / "a.csv", {"time": np.array([1.0, np.nan]), "n": np.array([1, 2])})
    assert (tmp_path / "a.csv").read_text() == "time,n\n1.0,1\n,2\n"


def test_a_spot_that_is_not_there_is_said(project):
    assert "no spot with the id 99; the nearest are 10, 9" in refused("lineage", "approve", project, "--spot", 99)


def test_the_input_is_not_overwritten_by_another_format(project):
    refused("lineage", "progenitors", project, "-o", project.with_name("movie.xml"))
    assert open_image(project.with_name("movie.xml")).n_frames == 5


def test_a_picture_is_drawn(project):
    said = howdah("lineage", "draw", project)
    assert Path(said["out"]).read_bytes().startswith(b"\x89PNG")
    assert "there is no tag set 'Fate'" in refused("lineage", "draw", project, "--tag-set", "Fate")


class Found(NamedTuple):
    """Proposals as linking gives them."""

    spot: Any
    frame: Any
    kinds: Any
    candidate: Any
    position: Any
    at: Any
    score: Any


def test_proposals_lead_to_spots_and_links_only_where_they_may_be(project):
    tracks = read_tracks(project)
    rows = [
        (8, "gap", 9, 0.9),
        (9, "start", 8, 0.5),
        (0, "low quality link", 8, 0.4),
        (7, "end", -1, 0.3),
        (1, "possible division", 9, 0.2),
    ]
    spots = np.array([row[0] for row in rows])
    found = Found(
        spots,
        tracks.t[spots],
        [row[1] for row in rows],
        np.array([row[2] for row in rows]),
        tracks.centre[spots],
        tracks.t[spots],
        np.array([row[3] for row in rows]),
    )
    table = lineage_tables.proposals_table(tracks, found)
    assert table["candidate"].tolist() == ["9", "8", "8", "", "9"]
    marked, added = lineage_tables.marked_for_review(tracks, found, add_links=True)
    tags = marked.tag_set("Proposal")
    assert tags is not None
    assert [tags.tags[tags.spots[row]].name for row in (8, 9, 7)] == ["gap", "start", "end"]
    assert added == 1  # 9 has a parent then
    assert marked.links[-1].tolist() == [8, 9]
    assert marked.tagged("Tracking", "unlabeled", links=True)[-1]


@pytest.mark.skipif(not WITH_PROPOSALS, reason="needs howdah.linking.proposals")
def test_proposals_are_written(project):
    said = howdah("lineage", "propose", project, "--add-links", "--max-distance", 3)
    assert said["proposals"] > 0
    assert read_tracks(said["out"]).tag_set("Proposal") is not None
    with Path(said["table"]).open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == said["proposals"]


def test_a_spot_is_followed_back(project):
    said = howdah("backtrack", project, "--spot", "2,2,10,24", "--search-distance", 4)
    assert [row["what"] for row in said["steps"]] == ["interpolated", "linked"]
    after = read_tracks(said["out"])
    assert (after.n_spots, after.n_links) == (12, 10)
    assert after.tagged("Detection", "unlabeled")[-1]
    forward = howdah("backtrack", project, "--spot", 10, "--direction", "forward", "--max-interpolated", 0)
    assert forward["steps"][-1]["why"] == "Nothing was found."
    assert "no spot near" in refused("backtrack", project, "--spot", "0,2,10,200")
