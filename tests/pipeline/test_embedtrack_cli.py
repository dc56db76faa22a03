"""`howdah embedtrack` as a user meets it: training that is real but tiny, tracking with it, and weights for another method."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pipeline import perfect
from typer.testing import CliRunner, Result

from bdv_io import Tracks
from bdv_io.formats import open_image, read_tracks, write_tracks
from bdv_io.image import ArrayImage
from bdv_io.label_image import tracks_of_labels
from howdah.cli import app
from howdah.errors import WeightsError
from howdah.methods.elephant.network import shapes as elephant_shapes
from howdah.methods.embedtrack.config import EmbedTrackConfig
from howdah.methods.embedtrack.network import BranchedERFNet
from howdah.nn.checkpoint import Weights, save_weights
from howdah.pipeline import Job, finish, track
from howdah.pipeline.embedtrack import track_embedtrack
from howdah.pipeline.embedtrack_weights import settings_of

QUICK = ["--n-epochs", "1", "--n-crops", "2", "--batch-size", "1", "--crop-size", "32,32", "--device", "cpu"]
LOOSE = ["--foreground-threshold", "0", "--min-size", "1"]


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
    done = howdah("embedtrack", "train", outlined, "--weights", target, *QUICK, "--json")
    said = json.loads(done.stdout)
    assert (said["weights"], said["truth"], said["cells"]) == (str(target), "project", 4)
    return target


def test_options_are_the_fields_of_the_settings() -> None:
    for verb in ("train", "track"):
        shown = howdah("embedtrack", verb, "--help").output
        for name in EmbedTrackConfig.model_fields:
            assert f"--{name.replace('_', '-')}" in shown


def test_a_training_leaves_a_record(weights: Path) -> None:
    record = json.loads(weights.with_name("w.safetensors.howdah.json").read_text())
    assert record["task"] == "embedtrack-train"
    assert record["annotation"] == "sparse"
    assert record["network"]["n_dims"] == 2


def test_trained_weights_track_and_a_persons_cells_stay(outlined: Path, weights: Path, tmp_path: Path) -> None:
    out, labels = tmp_path / "out.xml", tmp_path / "01_RES"
    done = howdah(
        "embedtrack",
        "track",
        outlined,
        "--weights",
        weights,
        "--out",
        out,
        "--also",
        labels,
        *LOOSE,
        "--test-time",
        "none",
        "--json",
    )
    said = json.loads(done.stdout)
    assert (said["out"], said["also"]) == (str(out), [str(labels)])
    before, after = read_tracks(outlined), read_tracks(out)
    assert after.n_spots == said["spots"] >= before.n_spots
    hers = np.flatnonzero(~after.tagged("Detection", "unlabeled"))
    np.testing.assert_array_equal(after.centre[hers], before.centre)
    assert after.tracks()[0] == said["tracks"]
    assert read_tracks(labels).n_spots == after.n_spots


def test_without_weights_the_outlines_are_learned_first(outlined: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.mastodon"
    said = json.loads(howdah("embedtrack", "track", outlined, "-o", out, *QUICK, *LOOSE, "--json").stdout)
    assert said["weights"] == str(tmp_path / "o-weights.safetensors")
    assert Path(said["weights"]).is_file()


def test_one_sentence_for_each_kind_of_bad_input(outlined: Path, weights: Path, tmp_path: Path) -> None:
    movie = outlined.with_name("movie.tif")
    for arguments, sentence in (
        (["train", movie, "-w", tmp_path / "w.safetensors"], "is a movie without outlines"),
        (["track", movie, "-w", tmp_path / "no.safetensors", "-o", tmp_path / "o.xml"], "there is no file"),
        (["track", movie, "-w", weights, "-o", tmp_path / "o.doc"], "no annotation format ends in"),
        (["track", movie, "-w", weights, "-o", tmp_path / "o.xml", "--links", "best"], "Setting 'links'"),
        (["track", movie, "-w", weights, "-o", tmp_path / "o.xml", "--compat", "bug"], "Setting 'compat.0'"),
    ):
        assert sentence in json.loads(howdah("embedtrack", *arguments, "--json", code=2).stdout)["error"]


def test_weights_of_the_other_method_are_told_apart(outlined: Path, weights: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="They are EmbedTrack's: howdah embedtrack track"):
        finish(track(Job(outlined), tmp_path / "o.mastodon", settings={}, weights=weights))
    with pytest.raises(WeightsError, match="They are EmbedTrack's: howdah embedtrack track"):
        finish(track(Job(outlined), tmp_path / "o.mastodon", settings={}, weights=published(tmp_path)))
    other = tmp_path / "elephant.safetensors"
    state = {key: torch.zeros(shape) for key, shape in elephant_shapes().items()}
    save_weights(other, Weights((state,), {"method": "elephant-detection"}))
    with pytest.raises(WeightsError, match="They are ELEPHANT's: howdah track"):
        finish(track_embedtrack(Job(outlined), tmp_path / "o.xml", settings={}, weights=other))


def published(folder: Path) -> Path:
    """A checkpoint as the authors' training writes it, with random numbers."""
    state = {f"module.{key}": value for key, value in BranchedERFNet().state_dict().items()}
    torch.save({"epoch": 3, "best_iou": 0.5, "model_state_dict": state}, folder / "best_iou_model.pth")
    said = {"grid_dict": {"grid_y": 512, "grid_x": 512}, "train_dict": {"min_mask_size": 218}}
    (folder / "config.json").write_text(json.dumps(said))
    return folder / "best_iou_model.pth"


def test_the_settings_of_published_weights_are_beside_them(outlined: Path, tmp_path: Path) -> None:
    file = published(tmp_path)
    bare = Weights((), {"method": "embedtrack"})
    found = settings_of(bare, file, {"seed_threshold": 0.2})
    assert (found.grid_size, found.min_size, found.seed_threshold) == (512, 109, 0.2)
    howdah(
        "embedtrack", "track", outlined.with_name("movie.tif"), "-w", file, "-o", tmp_path / "p.xml", "--frames", "0-1"
    )
    assert json.loads((tmp_path / "p.xml.howdah.json").read_text())["settings_used"]["grid_size"] == 512


def test_the_settings_for_published_weights_in_the_documentation(outlined: Path, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "embedtrack.md").read_text(encoding="utf-8")
    (tmp_path / "published.toml").write_text(page.split("```toml\n")[1].split("```")[0])
    movie, out = outlined.with_name("movie.tif"), tmp_path / "p.xml"
    more = ["--config", tmp_path / "published.toml", "--frames", "0-1"]
    howdah("embedtrack", "track", movie, "-w", published(tmp_path), "-o", out, *more)
    used = json.loads((tmp_path / "p.xml.howdah.json").read_text())["settings_used"]
    faults = {"crop_percentiles", "smooth_multipliers", "rejected_proposals", "background_ignored"}
    assert set(used["compat"]) == faults
    assert (used["min_votes"], used["grid_size"], used["tile_size"]) == (5, 512, [256, 256])


def test_training_from_published_weights_takes_their_grid_and_its_own_sizes(tmp_path: Path) -> None:
    found = settings_of(Weights((), {"method": "embedtrack"}), published(tmp_path), {"min_size": None})
    assert (found.grid_size, found.min_size) == (512, None)
