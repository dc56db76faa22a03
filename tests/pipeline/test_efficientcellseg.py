"""EfficientCellSeg from files to files, with a network that sees what is there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pipeline import perfect, seeing

from bdv_io import Tracks, UnsupportedError, WriteError
from bdv_io.formats import open_image, read_tracks, write_tracks
from bdv_io.label_image import read_labels
from bdv_io.masks import spots_of_frames
from howdah.errors import ConfigError
from howdah.methods.efficientcellseg import predict
from howdah.nn import device
from howdah.pipeline import Job, efficientcellseg, finish
from howdah.pipeline.efficientcellseg import learned_otherwise, segment_efficientcellseg
from howdah.pipeline.truth import LabelFrames

N_CELLS = sum(map(len, perfect.CELLS.values()))


@pytest.fixture(autouse=True)
def seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "Network", seeing.SeeingNetwork)
    monkeypatch.setattr(seeing.SeeingNetwork, "by_plane", [])
    monkeypatch.setattr(seeing.SeeingNetwork, "neighbours", [])
    monkeypatch.setattr(efficientcellseg, "read_weights_of", lambda method, path: seeing.weights())


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return perfect.movie(tmp_path_factory.mktemp("movie"))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"")
    return file


def segmented(source: Path, out: Path, weights: Path, **more) -> Tracks:
    settings = more.pop("settings", {})
    job = Job(source, frames=more.pop("frames", None))
    result = finish(segment_efficientcellseg(job, out, settings=settings, weights=weights, **more))
    assert Path(result["out"]).exists()
    return read_labels(out) if out.suffix in (".tif", ".zarr") else read_tracks(out)


def painted(tracks: Tracks, movie: Path, t: int) -> np.ndarray:
    return LabelFrames(tracks, open_image(movie))(t)


def test_every_format_holds_the_same_cells(movie: Path, weights: Path, tmp_path: Path) -> None:
    names = ["a.tif", "a.ome.zarr", "a.zip", "a.xml", "01_RES", "a.mastodon", "a.geff", "a.csv"]
    first, *others = [tmp_path / name for name in names]
    result = finish(segment_efficientcellseg(Job(movie), first, settings={}, weights=weights, also=others))
    assert (result["cells"], result["links"]) == (N_CELLS, 0)
    assert result["also"] == [str(path) for path in others]
    for path in (first, *others):
        written = path.with_name("a-spots.csv") if path.suffix == ".csv" else path
        labels = path.suffix in (".tif", ".zarr")
        tracks = read_labels(path) if labels else read_tracks(written)
        assert tracks.n_spots == N_CELLS, path
        assert path.suffix in (".mastodon", ".geff", ".csv") or len(tracks.outlines) >= N_CELLS, path
    tracks = read_tracks(tmp_path / "a.xml")
    for t in range(4):
        np.testing.assert_array_equal(painted(tracks, movie, t) > 0, perfect.labels(t) > 0)
        np.testing.assert_array_equal(open_image(first).read(t) > 0, perfect.labels(t) > 0)
    assert tracks.feature("AREA").units == "µm^2"
    assert tracks.tagged("Detection", "unlabeled").all()
    record = json.loads((tmp_path / "a.tif.howdah.json").read_text())
    assert record["task"] == "efficientcellseg-segment"
    assert record["settings_used"]["split"] == "components"


def test_masks_become_ellipsoids_become_tracks(movie: Path, weights: Path, tmp_path: Path) -> None:
    settings = {"linking": {"solver": "global", "max_distance": 8.0}}
    tracks = segmented(movie, tmp_path / "o.mastodon", weights, link=True, settings=settings)
    assert tracks.n_spots == N_CELLS
    assert tracks.n_links == perfect.N_LINKS
    assert len(tracks.divisions()) == 1
    assert (np.linalg.eigvalsh(tracks.covariance) > 0).all()
    assert tracks.tagged("Tracking", "unlabeled", links=True).all()


def test_what_a_person_outlined_stays_and_predictions_give_way(movie: Path, weights: Path, tmp_path: Path) -> None:
    hers = np.where(perfect.labels(1) == 1, 1, 0)
    hers = np.roll(hers, 2, axis=2)
    image = open_image(movie)
    found = spots_of_frames([(1, hers, image.affine(1))])
    mine = Tracks.build(
        found.t, found.centre, covariance=found.covariance, outlines=found.outlines, label=["hers"], space_unit="µm"
    )
    write_tracks(tmp_path / "mine.xml", mine, image=image)
    tracks = segmented(tmp_path / "mine.xml", tmp_path / "out.xml", weights)
    row = int(np.flatnonzero(tracks.label == "hers")[0])
    np.testing.assert_array_equal(painted(tracks.select([row]), movie, 1) > 0, hers > 0)
    assert tracks.n_spots == N_CELLS
    assert not tracks.tagged("Detection", "unlabeled")[row]
    again = segmented(tmp_path / "out.xml", tmp_path / "again.xml", weights)
    assert again.n_spots == N_CELLS
    assert (~again.tagged("Detection", "unlabeled")).sum() == 1


def test_volumes_at_once_and_plane_by_plane_are_the_same(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    movie = perfect.movie(tmp_path, depth=5)
    whole = segmented(movie, tmp_path / "a.ome.zarr", weights, also=[tmp_path / "01_RES", tmp_path / "a.mastodon"])
    assert not seeing.SeeingNetwork.by_plane
    assert read_tracks(tmp_path / "01_RES").n_spots == read_tracks(tmp_path / "a.mastodon").n_spots == N_CELLS
    monkeypatch.setattr(device, "free_memory_mb", lambda: 1e-3)
    parts = segmented(movie, tmp_path / "b.tif", weights)
    assert seeing.SeeingNetwork.by_plane == [0, 1, 2, 3, 4] * 4
    np.testing.assert_allclose(np.sort(parts.centre, axis=0), np.sort(whole.centre, axis=0), atol=1e-6)
    for t in range(4):
        np.testing.assert_array_equal(open_image(tmp_path / "b.tif").read(t) > 0, perfect.labels(t, 5) > 0)


def test_colours_of_time_get_the_frames_beside(movie: Path, weights: Path, tmp_path: Path) -> None:
    segmented(movie, tmp_path / "a.tif", weights, settings={"efficientcellseg": {"colour": "time"}})
    assert seeing.SeeingNetwork.neighbours == [(False, True), (True, True), (True, True), (True, False)]


def test_frames_limit_what_is_found(movie: Path, weights: Path, tmp_path: Path) -> None:
    tracks = segmented(movie, tmp_path / "a.xml", weights, frames="1,3")
    assert sorted(np.unique(tracks.t).tolist()) == [1, 3]


def test_no_cell_says_what_to_do(movie: Path, weights: Path, tmp_path: Path, monkeypatch, caplog) -> None:
    monkeypatch.setattr(seeing.SeeingNetwork, "maps", lambda self, frame, **_: seeing.Maps(np.zeros(frame.shape, "f4")))
    assert segmented(movie, tmp_path / "a.xml", weights).n_spots == 0
    assert "howdah efficientcellseg train ... --start" in caplog.text


def test_folders_of_images_get_a_label_image_each(weights: Path, tmp_path: Path) -> None:
    images, masks, truths = seeing.stills(tmp_path)
    out = tmp_path / "cells"
    result = finish(segment_efficientcellseg(Job(images), out, settings={}, weights=weights, also=[tmp_path / "a.csv"]))
    assert result["cells"] == sum(len(np.unique(truth)) - 1 for truth in truths)
    assert sorted(file.name for file in out.iterdir()) == sorted(file.name for file in images.iterdir())
    for file, truth in zip(sorted(out.iterdir()), truths, strict=True):
        np.testing.assert_array_equal(open_image(file).read(0)[0] > 0, truth > 0)
    assert len(np.unique(read_tracks(tmp_path / "a-spots.csv").t)) == 3
    for target, more, sentence in (
        (images, {}, "it is an input"),
        (masks, {"truth": masks, "weights": None}, "it is the folder of an input"),
        (tmp_path / "a.xml", {}, "a folder of single images, not a movie. Name a folder"),
        (tmp_path / "b", {"link": True}, "Linking the cells of .* is not possible: these are single images"),
        (tmp_path / "w.safetensors" / "x", {}, "does not exist"),
    ):
        with pytest.raises((ConfigError, WriteError), match=sentence):
            finish(segment_efficientcellseg(Job(images), target, **{"settings": {}, "weights": weights, **more}))


def test_what_cannot_be_written_is_said_before_the_work(movie: Path, weights: Path, tmp_path: Path) -> None:
    for target, error, sentence in (
        ("a.doc", UnsupportedError, "no annotation format ends in"),
        (movie, ConfigError, "it is an input"),
    ):
        with pytest.raises(error, match=sentence):
            finish(segment_efficientcellseg(Job(movie), tmp_path / target, settings={}, weights=weights))
    with pytest.raises(ConfigError, match="twice"):
        finish(
            segment_efficientcellseg(
                Job(movie), tmp_path / "a.tif", settings={}, weights=weights, also=[tmp_path / "a.tif"]
            )
        )
    with pytest.raises(ConfigError, match="not both"):
        finish(segment_efficientcellseg(Job(movie), tmp_path / "a.tif", settings={}, weights=weights, truth=movie))


@pytest.mark.parametrize(
    ("learned", "given", "said"),
    [
        (1, 1, ""),
        (12, 30, ""),
        (1, 12, "trained on images of one plane, and are given volumes"),
        (12, 1, "trained on volumes"),
    ],
)
def test_weights_of_another_kind_of_image_are_told(learned: int, given: int, said: str) -> None:
    found = learned_otherwise({"cells": {"planes": learned}}, given)
    assert said in found
    assert bool(said) == bool(found)
    assert learned_otherwise({}, given) == ""  # published weights do not say
