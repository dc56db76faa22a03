"""Calibration against a person's judgement: who is matched, what is written, what cannot be."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from bdv_io import ArrayImage, Tracks
from bdv_io.formats import open_image, write_image, write_tracks
from howdah.cli import app
from howdah.errors import DataError
from howdah.methods import Spots
from howdah.methods.elephant.calibration import DEFAULT, Calibration, features
from howdah.methods.elephant.status import DETECTION, DETECTION_TAGS
from howdah.nn.checkpoint import Weights, read_tensors, save_weights
from howdah.pipeline import Job, calibrate, finish
from howdah.pipeline.calibrate import verdicts

TAGS = {tag.name: tag for tag in DETECTION_TAGS}


def tagged(t: list[int], centre: np.ndarray, names: list[str]) -> Tracks:
    tracks = Tracks.build(t, centre, radius=2.0)
    for name in set(names):
        tracks = tracks.with_tag(DETECTION, TAGS[name], spots=np.array([n == name for n in names]))
    return tracks


def test_who_is_judged_and_how() -> None:
    centre = np.array([[0.0, 0, 0], [0, 0, 20], [0, 0, 40], [0, 0, 60], [0, 0, 1.5], [0, 0, 61]])
    judged = tagged([0] * 4, np.array([[0.0, 0, 0.1], [0, 0, 21], [0, 0, 59], [0, 0, 60.8]]), ["tp", "fp", "fn", "tn"])
    rows, right = verdicts(centre, np.tile(np.eye(3) * 4, (6, 1, 1)), judged)
    # 0 accepted, 1 rejected, 2 unknown, 3 accepted although beside a rejection, 4 a double, 5 rejected
    assert dict(zip(rows.tolist(), right.tolist(), strict=True)) == {0: True, 1: False, 3: True, 4: False, 5: False}


def test_the_order_of_spots_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    centre, covariance = rng.uniform(0, 30, (40, 3)), np.tile(np.eye(3) * 16, (40, 1, 1))
    names = rng.choice(["tp", "fp"], 20).tolist()
    places = rng.uniform(0, 30, (20, 3))
    rows, right = verdicts(centre, covariance, tagged([0] * 20, places, names))
    turned = verdicts(centre[::-1], covariance, tagged([0] * 20, places[::-1], names[::-1]))
    assert (39 - turned[0][::-1]).tolist() == rows.tolist()
    assert turned[1][::-1].tolist() == right.tolist()


@pytest.mark.parametrize("n", [0, 3])
def test_nothing_judged_or_nothing_found(n: int) -> None:
    rows, right = verdicts(
        np.zeros((n, 3)), np.tile(np.eye(3), (n, 1, 1)), tagged([0] * (3 - n), np.ones((3 - n, 3)), ["tp"] * (3 - n))
    )
    assert len(rows) == len(right) == 0


class Stub:
    """Finds everything, and is surest of what is wrong."""

    def __init__(self, centre: np.ndarray, sure: np.ndarray, weights: Weights) -> None:
        self.centre, self.sure, self.weights, self.calibration = centre, sure, weights, DEFAULT
        self.place, self.config = SimpleNamespace(sentence="Nowhere."), SimpleNamespace(temporal_mean=0)

    def predict_seen(self, frame: np.ndarray, affine: np.ndarray) -> tuple[Spots, np.ndarray]:
        n = len(self.centre)
        size = np.ones(n)
        return Spots(self.centre, np.tile(np.eye(3), (n, 1, 1)), self.sure), features(
            self.sure, self.sure, size, usual=1.0
        )


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    image = ArrayImage(np.zeros((2, 8, 32, 32), np.uint16))
    write_image(tmp_path / "movie.xml", image)
    centre = np.stack([np.full(20, 4.0), np.arange(20) % 5 * 6 + 3.0, np.arange(20) // 5 * 6 + 3.0], axis=1)
    names = ["tp" if i % 2 else "fp" for i in range(20)]
    judged = tagged([0] * 20 + [1] * 20, np.concatenate([centre, centre]), names + ["unlabeled"] * 20)
    write_tracks(tmp_path / "judged.mastodon", judged, image=open_image(tmp_path / "movie.xml"))
    weights = Weights(({"w": torch.ones(3)},), {"method": "elephant-detection", "metrics": {"loss": 1.0}})
    save_weights(tmp_path / "w.safetensors", weights)
    stub = Stub(centre, np.where(np.arange(20) % 2, 0.6, 0.95), weights)
    monkeypatch.setattr(
        importlib.import_module("howdah.pipeline.calibrate"), "detector_of", lambda file, settings, **_: stub
    )
    return tmp_path / "judged.mastodon"


def test_the_weights_learn_what_their_quality_is_worth(project: Path) -> None:
    weights = project.with_name("w.safetensors")
    job = Job(project, image=project.with_name("movie.xml"))
    result = finish(calibrate(job, weights))
    assert (result["right"], result["wrong"]) == (10, 10)
    assert result["brier_after"] < result["brier_before"]
    tensors, header = read_tensors(weights)
    assert tensors["w"].tolist() == [1, 1, 1]
    assert header["metrics"] == {"loss": 1.0}
    kept = Calibration.from_header(header)
    assert kept is not None
    assert kept.n == 20
    assert project.with_name("w.safetensors~1~").exists()
    curves = json.loads(Path(result["table"]).read_text())
    assert curves["after"]["n"] == 20
    assert Path(result["picture"]).stat().st_size > 5000


def test_weights_may_go_elsewhere(project: Path) -> None:
    weights, out = project.with_name("w.safetensors"), project.with_name("other.safetensors")
    before = weights.read_bytes()
    finish(calibrate(Job(project, image=project.with_name("movie.xml")), weights, out=out))
    assert weights.read_bytes() == before
    assert "calibration" in read_tensors(out)[1]


def test_too_little_judgement_is_a_sentence_and_writes_nothing(project: Path) -> None:
    weights = project.with_name("w.safetensors")
    before = sorted(path.name for path in project.parent.iterdir())
    with pytest.raises(DataError, match=r"0 were accepted and 0 rejected .* tag nuclei 'tp'"):
        finish(calibrate(Job(project, image=project.with_name("movie.xml"), frames="1"), weights))
    assert sorted(path.name for path in project.parent.iterdir()) == before


def test_the_command(project: Path) -> None:
    weights, movie = project.with_name("w.safetensors"), project.with_name("movie.xml")
    done = CliRunner().invoke(
        app, ["calibrate", str(project), "-w", str(weights), "--image", str(movie), "--json"], catch_exceptions=False
    )
    assert done.exit_code == 0
    assert json.loads(done.stdout)["right"] == 10
