"""``scale link`` and ``scale track`` from files to files: the results of ``link`` and ``track``, also after a stop."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scale.link_movies import assert_same
from typer.testing import CliRunner

from bdv_io import Tracks
from bdv_io.bdv import write_bdv
from bdv_io.formats import open_image, read_tracks, write_tracks
from bdv_io.tags import Tag
from howdah import pipeline
from howdah.cli import app
from howdah.errors import ConfigError, ScaleError
from howdah.methods.elephant.flow.network import FlowNet
from howdah.methods.elephant.network import UNet
from howdah.nn.checkpoint import Weights, save_weights
from howdah.pipeline import Job
from howdah.progress import finish
from howdah.scale import link_blocks
from howdah.scale.config import ScaleConfig
from howdah.scale.link import scale_link
from howdah.scale.link_track import scale_track

WINDOWS = ScaleConfig(workers=0, window=2, retries=0)
QUICK = {"device": "cpu", "precision": "float32"}
FRAMES = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small movie, a project with its spots (one lost, one rejected), and weights that nobody trained."""
    folder = tmp_path_factory.mktemp("movie")
    rng = np.random.default_rng(0)
    grid = np.stack(np.mgrid[:6, :24, :24], axis=-1)
    place, t, centre, pixels = rng.uniform(5, 19, (5, 3)) * [0.25, 1, 1], [], [], np.full((FRAMES, 6, 24, 24), 100.0)
    for frame in range(FRAMES):
        place = place + rng.normal(scale=0.7, size=place.shape) * [0.3, 1, 1]
        for one in place:
            pixels[frame] += 400 * np.exp(-((grid - one) ** 2).sum(-1) / 8)
        here = place[1:] if frame == 3 else place
        t.append(np.full(len(here), frame))
        centre.append(here)
    write_bdv(folder / "movie.xml", pixels[:, None].astype(np.uint16), voxel_size=(1, 1, 1), unit="pixel")
    tracks = Tracks.build(np.concatenate(t), np.concatenate(centre), radius=2.5, links=[[0, 5], [5, 10]])
    tracks = tracks.with_tag("Tracking", Tag("Approved"), links=[0]).with_tag("Detection", Tag("FP"), spots=[7])
    write_tracks(folder / "spots.mastodon", tracks, image=open_image(folder / "movie.xml"))
    with torch.random.fork_rng():
        torch.manual_seed(3)
        save_weights(folder / "unet.safetensors", Weights((UNet().state_dict(),), {"method": "elephant-detection"}))
        header = {"method": "elephant-flow", "resolved": {"max_displacement": [4, 8, 8]}}
        save_weights(folder / "flow.safetensors", Weights((FlowNet().state_dict(),), header))
    return folder


@pytest.mark.parametrize(
    ("solver", "gap", "flow"),
    [("pairwise", 1, False), ("global", 3, True), ("nearest", 3, False)],
)
def test_the_file_and_its_record_are_those_of_link(folder, tmp_path, solver, gap, flow):
    settings = {"linking": {"solver": solver, "frame_gap": gap, "max_distance": 6.0}, "flow": QUICK}
    by = folder / "flow.safetensors" if flow else None
    one, other = tmp_path / "one.mastodon", tmp_path / "other.mastodon"
    whole = finish(pipeline.link(Job(folder / "spots.mastodon"), one, settings=settings, flow=by))
    parts = finish(scale_link(Job(folder / "spots.mastodon"), other, settings=settings, flow=by, config=WINDOWS))
    assert_same(read_tracks(one), read_tracks(other))
    counted = ("spots", "links", "tracks", "divisions")
    assert [whole[name] for name in counted] == [parts[name] for name in counted]
    record = json.loads((tmp_path / "other.mastodon.howdah.json").read_text())
    assert record["settings"]["linking"]["solver"] == solver
    assert record["blocks"]["all"] == record["blocks"]["done_now"] == parts["blocks"]["all"]
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".blocks", ".spots")]


def test_it_may_take_the_place_of_the_project(folder, tmp_path):
    target = tmp_path / "spots.mastodon"
    target.write_bytes((folder / "spots.mastodon").read_bytes())
    job = Job(target, image=folder / "movie.xml")
    finish(scale_link(job, target, settings={"linking": {"max_distance": 6.0}}, config=WINDOWS))
    finish(
        pipeline.link(
            Job(folder / "spots.mastodon"), tmp_path / "one.mastodon", settings={"linking": {"max_distance": 6.0}}
        )
    )
    assert_same(read_tracks(tmp_path / "one.mastodon"), read_tracks(target))


def test_a_stopped_run_goes_on(folder, tmp_path, monkeypatch):
    settings, target = {"linking": {"frame_gap": 3, "max_distance": 6.0}}, tmp_path / "o.mastodon"
    job, bridges = Job(folder / "spots.mastodon"), link_blocks.bridges

    def fails(call):
        raise ScaleError("The lights went out.")

    monkeypatch.setattr(link_blocks, "bridges", fails)
    with pytest.raises(ScaleError, match="The lights went out"):
        finish(scale_link(job, target, settings=settings, config=WINDOWS))
    assert not target.exists()
    monkeypatch.setattr(link_blocks, "bridges", bridges)
    with pytest.raises(ScaleError, match="belongs to another run"):
        finish(scale_link(job, target, settings={"linking": {"max_distance": 5.0}}, config=WINDOWS))
    facts = finish(scale_link(job, target, settings=settings, config=WINDOWS))
    assert facts["blocks"]["done_before"] > 0
    finish(pipeline.link(job, tmp_path / "one.mastodon", settings=settings))
    assert_same(read_tracks(tmp_path / "one.mastodon"), read_tracks(target))


TRACK = {
    "elephant": {
        **QUICK,
        "threshold": 0.4,
        "suppression_distance": 2.0,
        "nucleus_size": (2, 2, 2),
        "memory_mb": 2000.0,
    },
    "linking": {"frame_gap": 2},
    "flow": QUICK,
}


class TestTrack:
    def test_it_is_track(self, folder, tmp_path, monkeypatch):
        weights, flow = folder / "unet.safetensors", folder / "flow.safetensors"
        job, target = Job(folder / "spots.mastodon"), tmp_path / "other.mastodon"
        finish(pipeline.track(job, tmp_path / "one.mastodon", settings=TRACK, weights=weights, flow=flow))
        how = {"settings": TRACK, "weights": weights, "linked_by": (flow, None), "config": WINDOWS}
        pairs = link_blocks.pairs

        def fails(call):
            raise ScaleError("The lights went out.")

        monkeypatch.setattr(link_blocks, "pairs", fails)
        with pytest.raises(ScaleError, match="The lights went out"):
            finish(scale_track(job, target, **how))
        monkeypatch.setattr(link_blocks, "pairs", pairs)
        facts = finish(scale_track(job, target, **how))
        assert facts["blocks_found"]["done_now"] == 0
        one, other = read_tracks(tmp_path / "one.mastodon"), read_tracks(target)
        assert one.n_spots > 30
        assert_same(one, other)
        np.testing.assert_array_equal(one.quality, other.quality)
        record = json.loads((tmp_path / "other.mastodon.howdah.json").read_text())
        assert record["task"] == "scale track"
        assert {"weights", "settings_used", "blocks", "blocks_found"} <= set(record)
        assert sorted(path.name for path in tmp_path.iterdir() if path.suffix not in (".json", ".log")) == [
            "one.mastodon",
            "other.mastodon",
        ]

    def test_the_verbs(self, folder, tmp_path):
        runner, target = CliRunner(), tmp_path / "o.mastodon"
        arguments = [
            "scale",
            "link",
            str(folder / "spots.mastodon"),
            "-o",
            str(target),
            "--window",
            "3",
            "--workers",
            "0",
            "--json",
        ]
        ran = runner.invoke(app, arguments)
        assert ran.exit_code == 0, ran.output
        assert json.loads(ran.stdout.splitlines()[-1])["blocks"]["workers"] == 0
        ran = runner.invoke(app, ["scale", "track", "--help"])
        assert ran.exit_code == 0, ran.output
        ran = runner.invoke(app, ["scale", "link", str(tmp_path / "none.mastodon"), "--workers", "0"])
        assert ran.exit_code == 2, ran.output


def test_a_classifier_and_another_feature_contradict_each_other(folder, tmp_path):
    settings = {"linking": {"division_feature": "mine"}}
    with pytest.raises(ConfigError, match="at once is not possible"):
        finish(
            scale_link(Job(folder / "spots.mastodon"), tmp_path / "o.xml", settings=settings, divisions="c.safetensors")
        )
