"""`howdah efficientcellseg` as a user meets it: training that is real but tiny, cells, masks of spots, and weights of another method."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from pipeline import perfect, seeing
from typer.testing import CliRunner, Result

from bdv_io import Tracks
from bdv_io.formats import open_image, read_tracks, write_tracks
from bdv_io.image import ArrayImage
from bdv_io.label_image import read_labels, tracks_of_labels
from howdah.cli import app
from howdah.errors import WeightsError
from howdah.methods.efficientcellseg.config import EfficientCellSegConfig
from howdah.methods.elephant.network import shapes as elephant_shapes
from howdah.nn.checkpoint import Weights, save_weights
from howdah.pipeline import Job, finish, track
from howdah.pipeline.efficientcellseg import say_form
from howdah.pipeline.embedtrack import track_embedtrack
from howdah.pipeline.weights_of import read_weights_of

QUICK = ["--encoder", "lite0", "--filters", "8,8,8,8", "--pretrained", "none", "--n-epochs", "1", "--n-crops", "1"]
QUICK += ["--batch-size", "1", "--crop-size", "32", "--search", "false", "--validation-share", "0", "--device", "cpu"]
LOOSE = ["--threshold", "0.01", "--min-size", "1", "--device", "cpu"]


def howdah(*arguments: object, code: int = 0) -> Result:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert done.exit_code == code, (done.output, done.exception)
    return done


@pytest.fixture(scope="module")
def outlined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TrackMate file in which a person outlined all cells of two frames."""
    folder = tmp_path_factory.mktemp("outlined")
    movie = perfect.movie(folder)
    found = tracks_of_labels(ArrayImage([perfect.labels(t) for t in range(2)], voxel_size=(1.0, 0.5, 0.5), unit="µm"))
    tracks = Tracks.build(
        found.t, found.centre, covariance=found.covariance, outlines=found.outlines, links=found.links, space_unit="µm"
    )
    write_tracks(folder / "outlined.xml", tracks, image=open_image(movie))
    return folder / "outlined.xml"


@pytest.fixture(scope="module")
def weights(outlined: Path) -> Path:
    target = outlined.with_name("w.safetensors")
    said = json.loads(howdah("efficientcellseg", "train", outlined, "-w", target, *QUICK, "--json").stdout)
    assert (said["weights"], said["truth"], said["cells"]) == (str(target), "project", 4)
    record = json.loads(target.with_name("w.safetensors.howdah.json").read_text())
    assert (record["task"], record["annotation"]) == ("efficientcellseg-train", "sparse")
    assert record["network"]["encoder"] == "lite0"
    return target


def test_options_are_the_fields_of_the_settings() -> None:
    for verb in ("train", "segment", "masks"):
        shown = howdah("efficientcellseg", verb, "--help").output
        for name in EfficientCellSegConfig.model_fields:
            assert f"--{name.replace('_', '-')}" in shown


def test_trained_weights_segment_and_a_persons_cells_stay(outlined: Path, weights: Path, tmp_path: Path) -> None:
    out, labels = tmp_path / "out.xml", tmp_path / "l.tif"
    more = ["--also", labels, "--also", tmp_path / "01_RES", "--link", "--challenge-border", "0", "--json"]
    said = json.loads(howdah("efficientcellseg", "segment", outlined, "-w", weights, "-o", out, *LOOSE, *more).stdout)
    before, after = read_tracks(outlined), read_tracks(out)
    assert after.n_spots == said["cells"] >= before.n_spots
    hers = np.flatnonzero(~after.tagged("Detection", "unlabeled"))
    np.testing.assert_array_equal(after.centre[hers], before.centre)
    assert after.tracks()[0] == said["tracks"]
    assert read_labels(labels).n_spots == after.n_spots


def test_from_images_with_masks_to_masks_in_one_command(tmp_path: Path) -> None:
    images, masks, _ = seeing.stills(tmp_path, 2)
    arguments = ["segment", images, "--truth", masks, "-o", tmp_path / "cells", *QUICK, "--json"]
    said = json.loads(howdah("efficientcellseg", *arguments).stdout)
    assert said["weights"] == str(tmp_path / "cells-weights.safetensors")
    assert sorted(file.name for file in (tmp_path / "cells").iterdir()) == ["set02.tif", "set05.tif"]
    assert open_image(tmp_path / "cells" / "set05.tif").shape(0) == (1, 60, 64)


def test_what_the_search_found_is_printed_and_recorded(tmp_path: Path) -> None:
    images, masks, _ = seeing.stills(tmp_path, 2)
    target = tmp_path / "w.safetensors"
    arguments = ["train", images, "--truth", masks, "-w", target, *QUICK, "--search", "true"]
    said = json.loads(howdah("efficientcellseg", *arguments, "--json").stdout)
    assert {"SEG_before", "SEG_after"} <= set(said["search"])
    assert "settings" in json.loads(target.with_name("w.safetensors.howdah.json").read_text())["search"]


def test_spots_get_masks(outlined: Path, weights: Path, tmp_path: Path) -> None:
    tracks = read_tracks(outlined)
    bare = Tracks.build(tracks.t, tracks.centre, covariance=tracks.covariance, links=tracks.links, space_unit="µm")
    write_tracks(tmp_path / "bare.mastodon", bare, image=open_image(outlined.with_name("movie.tif")))
    out = tmp_path / "m.xml"
    howdah(
        "efficientcellseg", "masks", tmp_path / "bare.mastodon", "-w", weights, "-o", out, "--device", "cpu", "--json"
    )
    found = read_tracks(out)
    assert (found.n_spots, found.n_links) == (bare.n_spots, bare.n_links)
    assert len(np.unique(found.outlines.spot)) == bare.n_spots


def test_weights_of_the_encoder_are_fetched_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = tmp_path / "w" / "tf_efficientnet_lite0-0aa007d2.pth"
    there.parent.mkdir()
    there.write_bytes(b"x")
    said = json.loads(
        howdah("efficientcellseg", "weights", "--encoder", "lite0", "--folder", there.parent, "--json").stdout
    )
    assert said["weights"] == str(there)
    refused = json.loads(howdah("efficientcellseg", "weights", "--encoder", "b9", "--json", code=2).stdout)
    assert "Setting 'encoder'" in refused["error"]
    blocked = howdah("efficientcellseg", "weights", "--folder", there / "x", "--json", code=2).stdout
    assert "Making the folder" in json.loads(blocked)["error"]


def test_weights_that_cannot_be_fetched_are_a_sentence_with_the_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(address: str, target: Path, **_: object) -> Iterator[None]:
        yield
        raise WeightsError(f"Downloading {address} failed.")

    monkeypatch.setattr("howdah.nn.download.download", unreachable)
    said = howdah("efficientcellseg", "weights", "--encoder", "b5", "--folder", tmp_path / "w", "--json", code=2)
    sentence = json.loads(said.stdout)["error"]
    assert "Downloading https://" in sentence
    assert "encoder lite0" in sentence


def test_one_sentence_for_each_kind_of_bad_input(outlined: Path, weights: Path, tmp_path: Path) -> None:
    movie = outlined.with_name("movie.tif")
    images, masks, _ = seeing.stills(tmp_path, 2)
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    for arguments, sentence in (
        (["train", movie, "-w", tmp_path / "w.safetensors"], "is a movie without outlines"),
        (["segment", movie, "-w", tmp_path / "no.safetensors", "-o", tmp_path / "o.xml"], "there is no file"),
        (["segment", movie, "-w", tmp_path / "broken.safetensors", "-o", tmp_path / "o.xml"], "broken.safetensors"),
        (["segment", movie, "-w", movie, "-o", tmp_path / "o.xml"], "PyTorch finds no weights in it"),
        (["segment", movie, "-w", weights, "-o", tmp_path / "o.xml", "--split-smoothing", "1e9"], "split_smoothing"),
        (["train", images, "--truth", masks, "-w", tmp_path / "w.safetensors", "--colour", "time"], "no frame comes"),
        (["segment", images, "-w", weights, "-o", tmp_path / "cells", "--colour", "time"], "no frame comes"),
        (["segment", movie, "-w", weights, "-o", tmp_path / "o.doc"], "no annotation format ends in"),
        (["segment", movie, "-w", weights, "-o", tmp_path / "no" / "o.tif"], "does not exist"),
        (["segment", movie, "-w", weights, "-o", tmp_path / "o.xml", "--split", "best"], "Setting 'split'"),
        (["train", movie, "--truth", tmp_path / "none.tif", "-w", tmp_path / "w.safetensors"], "no such file"),
    ):
        assert sentence in json.loads(howdah("efficientcellseg", *arguments, "--json", code=2).stdout)["error"]


def test_another_network_than_that_of_the_weights_is_said_to_do_nothing(
    weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    header = read_weights_of("efficientcellseg", weights).header
    say_form(header, weights, {"efficientcellseg": {"encoder": "lite0", "filters": header["network"]["filters"]}})
    assert not caplog.text
    say_form(header, weights, {"efficientcellseg": {"encoder": "b5"}})
    assert "a network with encoder = lite0; the setting encoder = b5 does nothing" in caplog.text


def test_weights_of_other_methods_are_told_apart(outlined: Path, weights: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="They are EfficientCellSeg's: howdah efficientcellseg segment"):
        finish(track(Job(outlined), tmp_path / "o.mastodon", settings={}, weights=weights))
    with pytest.raises(WeightsError, match="They are EfficientCellSeg's"):
        finish(track_embedtrack(Job(outlined), tmp_path / "o.xml", settings={}, weights=weights))
    other = tmp_path / "elephant.safetensors"
    state = {key: torch.zeros(shape) for key, shape in elephant_shapes().items()}
    save_weights(other, Weights((state,), {"method": "elephant-detection"}))
    said = howdah("efficientcellseg", "segment", outlined, "-w", other, "-o", tmp_path / "o.tif", "--json", code=2)
    assert "They are ELEPHANT's: howdah track" in json.loads(said.stdout)["error"]
