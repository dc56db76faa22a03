"""Published weights, which say nothing of the nuclei they were trained on, through the jobs of a project."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bdv_io import Tracks
from bdv_io.bdv import write_bdv
from bdv_io.formats import open_image, read_tracks, write_tracks
from howdah.methods import Spots
from howdah.methods.elephant.defaults import spot_limits
from howdah.methods.elephant.network import UNet
from howdah.methods.elephant.predict import Detector
from howdah.pipeline import Job, finish
from howdah.pipeline.detection import detector_of, predict

PLACES = np.array([[4.0, 8, 8], [4, 20, 20]])
SHAPES = np.tile(np.diag([4.0, 9, 9]), (2, 1, 1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A movie of one frame, a project with one of its two nuclei marked, and published weights."""
    folder = tmp_path_factory.mktemp("published")
    frame = np.zeros((1, 1, 8, 32, 32), np.uint16)
    frame[..., 4, 8:20, 8:20] = 100
    write_bdv(folder / "movie.xml", frame, voxel_size=(1, 1, 1), unit="pixel")
    marks = Tracks.build([0], PLACES[:1], covariance=SHAPES[:1])
    write_tracks(folder / "marks.mastodon", marks, image=open_image(folder / "movie.xml"))
    torch.save(UNet().state_dict(), folder / "weights.pth")
    return folder


def test_limits_that_weights_do_not_know_come_from_the_marks(folder: Path) -> None:
    marks = read_tracks(folder / "marks.mastodon")
    config = detector_of(folder / "weights.pth", {"elephant": {"r_min": 0.5}}, marks=marks).config
    expected = spot_limits(marks.covariance)
    assert config.r_min == 0.5
    assert (config.r_max, config.suppression_distance) == (expected["r_max"], expected["suppression_distance"])
    assert detector_of(folder / "weights.pth", {}).config.suppression_distance is None


@pytest.mark.parametrize(("source", "n"), [("marks.mastodon", 2), ("movie.xml", 2)])
def test_no_nucleus_is_found_twice(
    folder: Path, source: str, n: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    near = np.concatenate([PLACES + np.array([0.3, 0, 0]), PLACES[1:]])  # one is seen twice
    spots = Spots(near, np.concatenate([SHAPES, SHAPES[1:] / 2]), np.full(3, 0.9))
    monkeypatch.setattr(Detector, "predict_spots", lambda self, frame, affine, box=None: spots)
    out = tmp_path / "out.mastodon"
    result = finish(predict(Job(folder / source), out, weights=folder / "weights.pth", settings={}))
    assert result["spots"] == n
