"""Frames as text, fingerprints, records, lineage pictures: the small pieces of the pipeline."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from bdv_io import ArrayImage, Tracks
from bdv_io.formats import read_tracks, write_image, write_tracks
from bdv_io.tags import Tag
from howdah.errors import Cancelled, ConfigError, DataError
from howdah.linking import LinkingConfig
from howdah.pipeline.picture import draw_result, lineage_layout
from howdah.pipeline.record import fingerprint, recorded
from howdah.pipeline.sources import Source, as_shown, check_inside, open_source, parse_frames
from howdah.pipeline.tracking import linked_anew
from howdah.progress import Progress, Steps, finish


@pytest.mark.parametrize(
    ("text", "frames"), [(None, [0, 1, 2, 3, 4]), ("2", [2]), ("0-2,4", [0, 1, 2, 4]), ("3, 1", [1, 3]), ("4-4", [4])]
)
def test_frames_as_text(text: str | None, frames: list[int]) -> None:
    assert parse_frames(text, 5) == frames


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "1--2", "9", "2-1", "0-9999999999999", "9" * 5000])
def test_bad_frames_are_a_sentence(text: str) -> None:
    with pytest.raises(ConfigError, match=r"no list of frames|has frames 0 to 4|runs backwards"):
        parse_frames(text, 5)


def test_spots_outside_of_the_image_are_named() -> None:
    image = ArrayImage(np.zeros((2, 4, 8, 8), np.uint8), voxel_size=(2.0, 1.0, 1.0))
    tracks = Tracks.build([0, 1, 0, 5], [[6.0, 0, 0], [0, 7.4, 0], [9.0, 0, 0], [0, 0, 0]], radius=1)
    source = Source(image, tracks, ())
    check_inside(tracks, source, [0, 1])
    with pytest.raises(DataError, match="Spot 2 at frame 0"):
        check_inside(tracks, source, [0, 2])
    with pytest.raises(DataError, match="Spot 3 is at frame 5, but"):
        check_inside(tracks, source, [3])


def test_a_fingerprint_changes_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"one")
    before = fingerprint(file)
    file.write_bytes(b"two")
    assert before["sha256"] != fingerprint(file)["sha256"]
    assert before["bytes"] == 3


def test_a_record_and_a_log_lie_beside_the_result(tmp_path: Path) -> None:
    with recorded(tmp_path / "r.mastodon", "link", inputs={}, settings={"linking": {"a": 1}}) as record:
        logging.getLogger("howdah").warning("something to know")
        record.facts["links"] = 3
    facts = json.loads((tmp_path / "r.mastodon.howdah.json").read_text())
    assert facts["links"] == 3
    assert facts["settings"] == {"linking": {"a": 1}}
    assert facts["versions"]["numpy"] == np.__version__
    assert "something to know" in (tmp_path / "r.mastodon.log").read_text()


def test_bad_input_leaves_nothing_behind_and_a_cancelled_run_its_log(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="bad"), recorded(tmp_path / "r", "link", inputs={}, settings={}):
        raise DataError("bad")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Cancelled, match="stop"), recorded(tmp_path / "r", "link", inputs={}, settings={}):
        raise Cancelled("stop")
    assert [path.name for path in tmp_path.iterdir()] == ["r.log"]


def test_long_work_ends_with_its_result_and_is_closed_on_an_interrupt() -> None:
    closed = []

    def work() -> Steps[str]:
        try:
            for i in range(3):
                yield Progress("count", i, 3)
        finally:
            closed.append(True)
        return "done"

    seen: list[int] = []
    assert finish(work(), lambda step: seen.append(step.done)) == "done"
    assert seen == [0, 1, 2]

    def interrupt(step: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finish(work(), interrupt)
    assert len(closed) == 2


def test_a_parent_stands_above_the_middle_of_its_children() -> None:
    """0 - 1 < 2, 3 and 4 - 5, two trees side by side."""
    tracks = Tracks.build([0, 1, 2, 2, 0, 1], np.zeros((6, 3)), radius=1, links=[[0, 1], [1, 2], [1, 3], [4, 5]])
    assert lineage_layout(tracks, np.arange(6)).tolist() == [0.5, 0.5, 0.0, 1.0, 2.0, 2.0]


@pytest.mark.parametrize("n", [0, 1, 7])
def test_a_picture_of_little_or_nothing(tmp_path: Path, n: int) -> None:
    image = ArrayImage(np.zeros((2, 4, 16, 16), np.uint16))
    tracks = Tracks.build(np.zeros(n), np.ones((n, 3)) * 2, radius=2)
    draw_result(tmp_path / "p.png", image, tracks)
    assert (tmp_path / "p.png").stat().st_size > 1000


def test_frames_are_averaged_with_their_neighbours(tmp_path):
    frames = [np.full((2, 8, 8), value, dtype=np.uint16) for value in (0, 10, 20, 60)]
    write_image(tmp_path / "movie.xml", ArrayImage(frames, voxel_size=(1, 1, 1), unit="µm"))
    source = open_source(tmp_path / "movie.xml")
    assert [float(source.reader(1)(t).mean()) for t in range(4)] == [10, 10, 30, 30]
    assert float(source.reader(9)(2).mean()) == 22.5
    assert source.reader()(3).dtype == np.uint16


def test_spots_that_bridged_a_gap_go_with_the_links_that_they_bridged():
    centre = [[0.0, 0, float(t)] for t in range(4)]
    whole = Tracks.build(range(4), centre, radius=2.0).with_tag("Detection", Tag("unlabeled", 0), spots=np.arange(4))
    torn = whole.select([0, 1, 3])
    config = LinkingConfig(frame_gap=2, max_distance=3)
    once = finish(linked_anew(torn, config, [0, 1, 2, 3]))
    assert once.n_spots == 4
    assert once.tagged("Interpolated", "bridge").sum() == 1
    again = finish(linked_anew(once, config, [0, 1, 2, 3]))
    assert (again.n_spots, again.n_links) == (4, 3)
    without = finish(linked_anew(once, config.but(frame_gap=1), [0, 1, 2, 3]))
    assert (without.n_spots, without.n_links) == (3, 1)


def test_numbers_of_spots_are_those_that_mastodon_shows(tmp_path):
    tracks = Tracks.build([0, 0, 1], [[0.0, 0, 0], [0, 0, 9], [0, 0, 1]], radius=2.0, id=[7, 3, 40])
    write_tracks(tmp_path / "a.mastodon", tracks)
    write_tracks(tmp_path / "a.geff", tracks)
    assert as_shown(tmp_path / "a.mastodon", read_tracks(tmp_path / "a.mastodon")).id.tolist() == [0, 1, 2]
    assert as_shown(tmp_path / "a.geff", read_tracks(tmp_path / "a.geff")).id.tolist() == [7, 3, 40]
