"""Classes and events that TAP learns from the tags and links of a project, and what it says of spots."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pipeline.growing import FRAMES, PLACES, SIZE, TINY, movie, network, project

from bdv_io.formats import open_image, read_tracks, write_image, write_tracks
from bdv_io.image import ArrayImage
from bdv_io.tags import Tag
from howdah.errors import ConfigError, DataError
from howdah.pipeline import Job, finish
from howdah.pipeline.tap_classify import classify_tap
from howdah.pipeline.tap_dense import EventLesson, learn_events_tap, segment_events_tap
from howdah.pipeline.tap_learn import Lesson, learn_tap

pytest.importorskip("torch")
SETTINGS = {"tap": TINY, "tap_head": {"n_steps": 2, "batch_size": 2, "patch": 16, "width": 2, "min_size": 1}}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tap")
    project(folder, movie(folder))
    weights = network(folder)
    lesson = Lesson(tags="state")
    finish(
        learn_tap(
            [Job(folder / "spots.mastodon")], folder / "c.safetensors", lesson=lesson, settings={}, weights=weights
        )
    )
    return folder


def test_learning_tags_reports_each_class_and_draws_the_curve(place: Path, tmp_path: Path) -> None:
    jobs, weights = [Job(place / "spots.mastodon")] * 2, place / "network.safetensors"
    lesson = Lesson(tags="state", compare=("scratch",))
    result = finish(learn_tap(jobs, tmp_path / "c.safetensors", lesson=lesson, settings=SETTINGS, weights=weights))
    assert [(row["class"], row["learned"]) for row in result["classes"]] == [
        ("left", "frozen"),
        ("right", "frozen"),
        ("left", "scratch"),
        ("right", "scratch"),
    ]
    assert result["classes"][0]["labels"] == 2 * (FRAMES - 1)
    assert (tmp_path / "c-curves.png").is_file()
    record = json.loads((tmp_path / "c.safetensors.howdah.json").read_text())
    assert record["task"]["tag_set"] == "state"
    assert set(record["inputs"]) == {"project 1", "image 1", "project 2", "image 2", "weights"}


def test_divisions_that_a_program_linked_teach_nothing(place: Path, tmp_path: Path) -> None:
    tracks = read_tracks(place / "spots.mastodon")
    by_machine = tracks.with_tag("Tracking", Tag("unlabeled"), links=np.arange(tracks.n_links))
    write_tracks(tmp_path / "m.mastodon", by_machine, image=open_image(place / "movie.tif"))
    with pytest.raises(DataError, match=r"all 1 divisions of .* were linked by a program"):
        finish(
            learn_tap(
                [Job(tmp_path / "m.mastodon")], tmp_path / "c.safetensors", lesson=Lesson(divisions=True), settings={}
            )
        )


def test_lessons_that_say_nothing_or_too_much_are_refused() -> None:
    with pytest.raises(ConfigError, match="Say what shall be learned"):
        Lesson()
    with pytest.raises(ConfigError, match="--untagged goes with --tags"):
        Lesson(divisions=True, untagged="other")
    with pytest.raises(ConfigError, match="mode"):
        Lesson(divisions=True, compare=("sketch",))
    with pytest.raises(ConfigError, match="Which tag is the event"):
        EventLesson(tags="state")


def test_spots_that_cannot_teach_are_told_apart_from_none(place: Path, tmp_path: Path) -> None:
    tracks, image = read_tracks(place / "spots.mastodon"), open_image(place / "movie.tif")
    write_tracks(tmp_path / "late.mastodon", replace(tracks, t=tracks.t + 50), image=image)
    write_tracks(tmp_path / "loose.mastodon", tracks.select_links(np.zeros(tracks.n_links, bool)), image=image)
    for name, lesson, sentence in (
        ("late", Lesson(tags="state"), "none of its 15 spots is in the frames that are looked at"),
        ("loose", Lesson(divisions=True), "no spots of .* are linked"),
    ):
        jobs, weights = [Job(tmp_path / f"{name}.mastodon")], place / "network.safetensors"
        with pytest.raises(DataError, match=sentence):
            finish(learn_tap(jobs, tmp_path / "c.safetensors", lesson=lesson, settings={}, weights=weights))


def test_events_are_judged_where_nearly_all_frames_have_some(place: Path, tmp_path: Path) -> None:
    labels = np.ones((FRAMES, 1, *SIZE), dtype=np.uint8)
    labels[0] = 0
    write_image(tmp_path / "truth.tif", ArrayImage(labels))
    result = finish(
        learn_events_tap(
            Job(place / "movie.tif"),
            tmp_path / "e.safetensors",
            lesson=EventLesson(truth=tmp_path / "truth.tif"),
            settings=SETTINGS,
            weights=place / "network.safetensors",
        )
    )
    assert result["judged"][0]["learned"] == "frozen"


def test_an_unknown_tag_set_is_answered_with_those_that_are_there(place: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such tag set\. Tag sets are: 'state'"):
        finish(
            learn_tap(
                [Job(place / "spots.mastodon")], tmp_path / "c.safetensors", lesson=Lesson(tags="age"), settings={}
            )
        )


@pytest.mark.parametrize("name", ["out.mastodon", "out.xml"])
def test_classes_are_told_beside_the_tags_of_a_person(place: Path, tmp_path: Path, name: str) -> None:
    source, classifier, out = place / "spots.mastodon", place / "c.safetensors", tmp_path / name
    result = finish(classify_tap(Job(source), classifier, out, settings={}, least=0.0))
    before, after = read_tracks(source), read_tracks(out)
    order = np.argsort(after.id)
    state, told = (after.tag_set(one) for one in ("state", "TAP state"))
    assert np.array_equal(state.spots[order], before.tag_set("state").spots)
    assert result["tagged"] == {tag.name: int((told.spots == k).sum()) for k, tag in enumerate(told.tags)}
    assert sum(result["tagged"].values()) == result["told"] == before.n_spots - 3  # the last frame has no later one
    hers = np.flatnonzero(told.spots >= 0)[0]
    column = told.spots.copy()
    column[hers] = 1 - column[hers]
    write_tracks(out, after.with_tags(replace(told, spots=column)), image=open_image(place / "movie.tif"))
    finish(classify_tap(Job(out), classifier, tmp_path / f"again-{name}", settings={}, least=0.0))
    again = read_tracks(tmp_path / f"again-{name}")
    assert np.array_equal(again.tag_set("TAP state").spots, column)


def test_a_least_probability_is_one(place: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lies between 0 and 1"):
        finish(
            classify_tap(
                Job(place / "spots.mastodon"), place / "c.safetensors", tmp_path / "o.xml", settings={}, least=2.0
            )
        )


def test_events_are_learned_from_label_images_and_marked(place: Path, tmp_path: Path) -> None:
    labels = np.zeros((FRAMES, 1, *SIZE), dtype=np.uint8)
    for t in range(1, FRAMES - 1):
        (row, column), _ = PLACES
        labels[t, 0, row - 3 : row + 3, column - 3 : column + 3] = 1
    write_image(tmp_path / "truth.tif", ArrayImage(labels))
    job, head = Job(place / "movie.tif"), tmp_path / "e.safetensors"
    lesson = EventLesson(truth=tmp_path / "truth.tif")
    weights = place / "network.safetensors"
    result = finish(learn_events_tap(job, head, lesson=lesson, settings=SETTINGS, weights=weights))
    assert result["annotated_frames"] == FRAMES
    out, chance = tmp_path / "events.tif", tmp_path / "chance.tif"
    settings = {"tap_head": {"threshold": 0.0, "min_size": 1}}
    found = finish(segment_events_tap(job, head, out, settings=settings, also=[tmp_path / "e.xml"], map_to=chance))
    assert found["events"] == FRAMES - 1  # all pixels of a frame
    assert read_tracks(tmp_path / "e.xml").tagged("TAP", "event").all()
    probability = open_image(chance)
    assert 0 < probability.read(1).max() <= 1
    assert not probability.read(FRAMES - 1).any()


def test_events_are_learned_from_tagged_spots(place: Path, tmp_path: Path) -> None:
    job = Job(place / "spots.mastodon")
    lesson = EventLesson(tags="state", event="left")
    weights = place / "network.safetensors"
    result = finish(
        learn_events_tap(job, tmp_path / "e.safetensors", lesson=lesson, settings=SETTINGS, weights=weights)
    )
    assert result["annotated_frames"] == FRAMES


def test_labels_of_another_movie_are_refused(place: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "truth.tif", ArrayImage(np.ones((2, 1, *SIZE), dtype=np.uint8)))
    lesson = EventLesson(truth=tmp_path / "truth.tif")
    with pytest.raises(DataError, match=r"have 2 frame\(s\), but .* has 6"):
        finish(learn_events_tap(Job(place / "movie.tif"), tmp_path / "e.safetensors", lesson=lesson, settings=SETTINGS))
