"""Training the flow of a project and asking it, from files to files."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from bdv_io import Tracks
from bdv_io.bdv import write_bdv
from bdv_io.formats import open_image, write_tracks
from bdv_io.tags import Tag
from howdah.config import read_toml
from howdah.errors import DataError, MissingExtraError
from howdah.methods.elephant.flow.config import FlowConfig
from howdah.pipeline import Job, finish, open_source
from howdah.pipeline.flow import estimate_of, predicted_positions, train_flow

WAY = np.array([0.0, 2.0, 0.0])
BALLS = np.array([[6.0, 10, 10], [6, 20, 22]])
QUICK = {"flow": {"n_epochs": 1, "n_crops": 1, "crop_size": (12, 16, 16), "precision": "float32", "device": "cpu"}}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two balls that move in three frames, linked by a person in the first two."""
    folder = tmp_path_factory.mktemp("movie")
    grid = np.stack(np.mgrid[:12, :32, :32], axis=-1)
    frames = np.full((3, 12, 32, 32), 100.0)
    for t in range(3):
        for ball in BALLS - t * WAY:
            frames[t] += 400 * np.exp(-((grid - ball) ** 2).sum(-1) / 12)
    write_bdv(folder / "movie.xml", frames[:, None].astype(np.uint16), voxel_size=(1, 1, 1), unit="pixel")
    centre = np.concatenate([BALLS, BALLS - WAY, BALLS - 2 * WAY])
    tracks = Tracks.build(np.repeat([0, 1, 2], 2), centre, radius=3.0, links=[[0, 2], [1, 3], [2, 4], [3, 5]])
    tracks = tracks.with_tag("Tracking", Tag("unlabeled"), links=[2, 3])
    write_tracks(folder / "balls.mastodon", tracks, image=open_image(folder / "movie.xml"))
    return folder / "balls.mastodon"


@pytest.fixture(scope="module")
def weights(project: Path) -> Path:
    target = project.with_name("flow.safetensors")
    result = finish(train_flow(Job(project), target, settings=QUICK))
    assert result["links"] == 2
    assert result["weights"] == str(target)
    return target


def test_a_training_leaves_weights_and_a_record(weights: Path) -> None:
    record = json.loads(weights.with_name("flow.safetensors.howdah.json").read_text())
    assert record["task"] == "train-flow"
    assert record["resolved"]["max_displacement"] == [6, 6, 6]
    assert record["training_data"]["links"] == 2


def test_an_estimate_is_given_for_every_spot(project: Path, weights: Path) -> None:
    source = open_source(project)
    estimate = estimate_of(source, weights, {})
    tracks = source.tracks
    predicted = finish(predicted_positions(tracks, estimate, [0, 1, 2]))
    assert np.isnan(predicted[tracks.t == 0]).all()
    later = tracks.t > 0
    assert np.isfinite(predicted[later]).all()
    assert (np.abs(predicted - tracks.centre)[later] <= 6).all()
    here = tracks.t == 2
    np.testing.assert_array_equal(estimate(2, tracks.centre[here], tracks.covariance[here]), predicted[here])
    outside = tracks.centre[here] + 500
    assert np.isnan(estimate(2, outside, tracks.covariance[here])).all()
    assert np.isnan(estimate(0, outside, tracks.covariance[here])).all()


def test_frames_limit_the_links(project: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no link was made or approved by a person"):
        finish(train_flow(Job(project, frames="1-2"), tmp_path / "w.safetensors", settings=QUICK))


def test_a_movie_without_links_is_a_sentence(project: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a movie without links"):
        finish(train_flow(Job(project.with_name("movie.xml")), tmp_path / "w.safetensors", settings=QUICK))


def test_without_torch_it_says_what_to_install(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("howdah.methods.elephant.flow.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'howdah\[learn\]'"):
        finish(train_flow(Job(project), tmp_path / "w.safetensors", settings=QUICK))


def test_a_settings_file_may_hold_a_section_flow(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text("[flow]\nlearning_rates = [5e-5, 5e-6]\nmax_displacement = [10, 80, 80]\n")
    values = read_toml(file, {"flow": FlowConfig})["flow"]
    assert FlowConfig.of(values).max_displacement == (10, 80, 80)
