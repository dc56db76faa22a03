"""`howdah tap` as a user meets it: from a raw movie to ranked events and to classes, and what it answers to mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pipeline.growing import FRAMES, movie, network, project
from typer.testing import CliRunner, Result

from bdv_io.formats import read_tracks
from howdah.cli import app
from howdah.methods.tap import VERBS, describe

pytest.importorskip("torch")
QUICK = {
    "n-epochs": 1,
    "epoch-samples": 4,
    "batch-size": 2,
    "validation-samples": 2,
    "validation": "0.6,1.0",
    "width": 2,
}
OPTIONS = [text for name, value in QUICK.items() for text in (f"--{name}", str(value))]
TINY = [*OPTIONS, "--features", "4", "--crop-size", "16", "--device", "cpu"]


def howdah(*arguments: object, code: int = 0) -> Result:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert done.exit_code == code, (done.output, done.exception)
    return done


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tap")
    project(folder, movie(folder))
    network(folder)
    return folder


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_that_the_method_names_is_there(verb: str) -> None:
    assert "Usage" in howdah("tap", verb, "--help").output
    assert f"tap {verb}" in describe()["can"]


def test_frames_of_a_sample_and_frames_to_work_on_are_two_options() -> None:
    text = howdah("tap", "train", "--help").output
    assert "--tap-frames" in text
    assert "--frames " in text


def test_from_a_raw_movie_to_a_ranked_list(place: Path) -> None:
    done = howdah("tap", "train", place / "movie.tif", *TINY, "--json")
    weights = json.loads(done.stdout)["weights"]
    assert weights == str(place / "movie-tap.safetensors")
    out = place / "list.mastodon"
    done = howdah(
        "tap", "events", place / "movie.tif", "-w", weights, "-o", out, "--also", place / "list.csv", "--top", 5
    )
    assert "best" in done.output
    assert read_tracks(out).n_spots == 5
    assert len((place / "list.csv").read_text().splitlines()) == 6


def test_from_tags_to_classes(place: Path) -> None:
    spots, weights = place / "spots.mastodon", place / "network.safetensors"
    learned = howdah("tap", "learn", spots, "-w", weights, "--tags", "state", "-o", place / "c.safetensors", "--json")
    assert [row["class"] for row in json.loads(learned.stdout)["classes"]] == ["left", "right"]
    howdah("tap", "classify", spots, "-c", place / "c.safetensors", "-o", place / "told.mastodon", "--min", "0")
    assert read_tracks(place / "told.mastodon").tag_set("TAP state") is not None
    done = howdah("tap", "features", spots, "-w", weights, "-o", place / "f.mastodon", "--json")
    assert json.loads(done.stdout)["described"] == 2 * FRAMES + 3


def test_maps_and_features_are_written_beside_the_movie(place: Path) -> None:
    howdah("tap", "map", place / "movie.tif", "-w", place / "network.safetensors", "--overlay", "--frames", "1")
    howdah("tap", "embed", place / "movie.tif", "-w", place / "network.safetensors", "--frames", "1")
    assert (place / "movie-arrow.tif").is_file()
    assert (place / "movie-features.ome.zarr").is_dir()


def test_weights_of_another_method_and_missing_ones_are_said(place: Path) -> None:
    done = howdah("tap", "map", place / "movie.tif", "-w", place / "none.safetensors", code=2)
    assert "there is no file" in done.output
    done = howdah("embedtrack", "track", place / "movie.tif", "-w", place / "network.safetensors", code=2)
    assert "They are TAP's" in done.output


def test_a_network_is_no_classifier(place: Path) -> None:
    done = howdah("tap", "classify", place / "spots.mastodon", "-c", place / "network.safetensors", code=2)
    assert "classifier" in done.output


def test_what_shall_be_learned_has_to_be_said(place: Path) -> None:
    done = howdah("tap", "learn", place / "spots.mastodon", code=2)
    assert "Say what shall be learned" in done.output
