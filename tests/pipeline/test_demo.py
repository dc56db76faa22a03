"""The embedded default, with a training too short to learn much: what it writes, and that it is honest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bdv_io.formats import open_image, read_tracks
from howdah.pipeline import demo, finish

QUICK = {"n_epochs": 3, "prior_crops": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("demo")
    finish(demo(where, seed=1, settings=QUICK))
    return where


def test_it_writes_what_it_promises(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    assert {
        "embryo.xml",
        "embryo.h5",
        "marks.mastodon",
        "weights.safetensors",
        "tracked.mastodon",
        "tracked.xml",
        "truth.mastodon",
        "scores.json",
        "picture.png",
    } <= names
    assert (folder / "picture.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_ten_nuclei_are_marked_and_none_of_them_is_changed(folder: Path) -> None:
    marks, tracked = read_tracks(folder / "marks.mastodon"), read_tracks(folder / "tracked.mastodon")
    assert marks.n_spots == 10
    assert np.array_equal(tracked.centre[:10], marks.centre)
    assert np.array_equal(tracked.covariance[:10], marks.covariance)
    new = tracked.tagged("Detection", "unlabeled")
    assert not new[:10].any()
    assert new[10:].all()


def test_the_truth_is_no_input_of_the_training_or_the_tracking(folder: Path) -> None:
    for name in ("weights.safetensors", "tracked.mastodon"):
        record = json.loads((folder / f"{name}.howdah.json").read_text())
        inputs = {Path(item["path"]).name for item in record["inputs"].values()}
        assert inputs <= {"marks.mastodon", "embryo.xml", "weights.safetensors"}


def test_the_same_seed_gives_the_same_movie_and_marks(folder: Path) -> None:
    from howdah import synthetic

    again = synthetic.embryo(seed=1)
    assert np.array_equal(open_image(folder / "embryo.xml").read(3), again.frame(3))
    assert np.array_equal(synthetic.marks(again, 10, seed=1).centre, read_tracks(folder / "marks.mastodon").centre)


def test_scores_say_what_was_measured(folder: Path) -> None:
    scores = json.loads((folder / "scores.json").read_text())
    assert {
        "detection_precision",
        "detection_recall",
        "link_f1",
        "division_f1",
        "train_s",
        "total_s",
        "marks",
    } <= scores.keys()
