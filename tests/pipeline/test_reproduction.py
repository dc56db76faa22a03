"""The paper's tables, on challenge folders that are small enough for a test."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile

from bdv_io import MissingDataError
from bdv_io.formats import open_image, read_tracks, write_image, write_tracks
from bdv_io.image import ArrayImage
from howdah import synthetic
from howdah.errors import ConfigError
from howdah.pipeline import finish, reproduce
from howdah.pipeline.reproduction import known_reproductions
from howdah.pipeline.sections import SECTIONS

QUICK = {
    "elephant": {"n_epochs": 1, "n_crops": 1, "crop_size": [8, 16, 16], "prior_training": False, "device": "cpu"},
    "flow": {"n_epochs": 2, "n_crops": 1, "crop_size": [8, 16, 16], "max_displacement": [2, 8, 8], "device": "cpu"},
}


def small(seed: int) -> synthetic.SyntheticMovie:
    return synthetic.embryo(seed=seed, shape=(10, 56, 56), n_frames=3, n_nuclei=6, n_divisions=0)


def challenge(folder, name: str, seed: int) -> None:
    """Write a sequence, its truth and its silver truth, as the challenge does."""
    movie = small(seed)
    size = movie.settings.voxel_size
    frames = [movie.frame(t) for t in range(movie.n_frames)]
    images = ArrayImage(frames, voxel_size=size, unit="µm")
    (folder / name).mkdir()
    for t, frame in enumerate(frames):
        tifffile.imwrite(folder / name / f"t{t:03d}.tif", frame)
    write_tracks(folder / f"{name}_GT", movie.truth, image=images)


def test_settings_of_the_paper_are_settings_of_ours():
    for one in known_reproductions("elephant").values():
        for section, values in one.settings.items():
            SECTIONS[section].of(values, source=one.name)
        assert one.facts["kind"] in ("challenge", "linking")


def test_links_with_and_without_flow(tmp_path):
    data = tmp_path / "data" / "PH"
    data.mkdir(parents=True)
    movie = small(0)
    frames = [movie.frame(t) for t in range(movie.n_frames)]
    write_image(data / "movie.xml", ArrayImage(frames, voxel_size=movie.settings.voxel_size, unit="µm"))
    write_tracks(data / "truth.mastodon", movie.truth, image=open_image(data / "movie.xml"))
    report = finish(reproduce("elephant", tmp_path / "data", tmp_path / "out", settings=QUICK))
    ours = report["PH"]["ours"]
    assert ours["links"] == movie.truth.n_links
    assert {"false_links_with", "false_links_without", "missed_links_with", "missed_links_without"} <= set(ours)
    assert report["PH"]["paper"]["false_links_without"] == 2093
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["PH"]["ours"] == ours


def test_a_miniature_challenge(tmp_path):
    pytest.importorskip("ctc_metrics", reason="needs py-ctcmetrics")
    data = tmp_path / "Fluo-N3DH-CE"
    data.mkdir()
    challenge(data, "01", 0)
    challenge(data, "02", 1)
    steps = reproduce("elephant", data, tmp_path / "out", dataset="Fluo-N3DH-CE", settings=QUICK)
    report = finish(steps)["Fluo-N3DH-CE"]
    assert set(report["ours"]) == {"01 -> 02", "02 -> 01"}
    for scores in report["ours"].values():
        assert all(0 <= value <= 1 for value in scores.values())
        assert {"DET", "TRA"} <= set(scores)
    assert (tmp_path / "out" / "Fluo-N3DH-CE" / "learned-01" / "02_RES" / "res_track.txt").is_file()
    taught = read_tracks(tmp_path / "out" / "Fluo-N3DH-CE" / "learned-01" / "teaching.mastodon")
    assert taught.n_spots == small(0).truth.n_spots
    assert np.isfinite(taught.centre).all()


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(MissingDataError, match="holds no folder Fluo-N3DH-CE or PH"):
        finish(reproduce("elephant", tmp_path, tmp_path / "out"))
    with pytest.raises(ConfigError, match="Known are: Fluo-N3DH-CE, PH"):
        finish(reproduce("elephant", tmp_path, tmp_path / "out", dataset="CE"))
    with pytest.raises(ConfigError, match="Nothing of 'tap'"):
        finish(reproduce("tap", tmp_path, tmp_path / "out"))
