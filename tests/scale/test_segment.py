"""Cells found in blocks of frames are those of the plain verbs, whatever the order of the blocks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pipeline import perfect, seeing
from scale.one_by_one import run_blocks
from typer.testing import CliRunner

from bdv_io.formats import open_image, read_tracks, write_image, write_tracks
from bdv_io.image import ArrayImage
from bdv_io.masks import spots_of_frames
from bdv_io.tracks import Tracks
from howdah.cli import app
from howdah.errors import ConfigError, DataError
from howdah.methods.efficientcellseg import predict as cells
from howdah.methods.embedtrack import predict as tracked
from howdah.pipeline import Job, efficientcellseg, embedtrack, finish
from howdah.pipeline.efficientcellseg import segment_efficientcellseg
from howdah.pipeline.embedtrack import track_embedtrack
from howdah.scale.config import ScaleConfig
from howdah.scale.segment import Segmentation, plan_segment, scale_segment

HERE = ScaleConfig(workers=0)


@pytest.fixture(autouse=True)
def seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """No real networks."""
    monkeypatch.setattr(cells, "Network", seeing.SeeingNetwork)
    monkeypatch.setattr(efficientcellseg, "read_weights_of", lambda method, path: seeing.weights())
    monkeypatch.setattr(tracked, "Network", perfect.PerfectNetwork)
    monkeypatch.setattr(embedtrack, "read_weights_of", lambda method, path: perfect.perfect_weights())


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return perfect.movie(tmp_path_factory.mktemp("movie"))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"")
    return file


@pytest.fixture
def project(movie: Path, tmp_path: Path) -> Path:
    """A cell that a person drew, beside the one that the network sees."""
    hers = np.roll(np.where(perfect.labels(1) == 1, 1, 0), 2, axis=2)
    image = open_image(movie)
    found = spots_of_frames([(1, hers, image.affine(1))])
    mine = Tracks.build(
        found.t, found.centre, covariance=found.covariance, outlines=found.outlines, label=["hers"], space_unit="µm"
    )
    write_tracks(tmp_path / "mine.xml", mine, image=image)
    return tmp_path / "mine.xml"


def both(job: Job, folder: Path, name: str, how: Segmentation, **config) -> tuple[Path, Path, dict, dict]:
    """Run the plain verb and the blocks, backwards where they may be; return where the results are, and what was said."""
    for kind in ("plain", "blocks"):
        (folder / kind).mkdir(exist_ok=True)
    plain, blocks = folder / "plain" / name, folder / "blocks" / name
    if how.method == "embedtrack":
        said = finish(track_embedtrack(job, plain, settings=how.settings, weights=how.weights))
    else:
        said = finish(segment_efficientcellseg(job, plain, settings=how.settings, weights=how.weights, link=how.link))
    plan = plan_segment(job, blocks, how, config=HERE.but(**config))
    json.dumps([plan.shared, [block.arguments for block in plan.blocks]])
    return plain, blocks, said, run_blocks(plan, reversed(range(len(plan.blocks))))


def same_files(first: Path, second: Path) -> None:
    """Compare a file, or all files of a folder, byte for byte."""
    if first.is_dir():
        names = sorted(str(f.relative_to(first)) for f in first.rglob("*") if f.is_file())
        assert names == sorted(str(f.relative_to(second)) for f in second.rglob("*") if f.is_file())
        assert names
    else:
        names = [""]
    for name in names:
        one, other = (first / name, second / name) if name else (first, second)
        assert one.read_bytes() == other.read_bytes(), name


@pytest.mark.parametrize("name", ["a.tif", "01_RES", "a.csv", "a.ome.zarr"])
@pytest.mark.parametrize("window", [1, 3])
def test_cells_of_efficientcellseg(movie: Path, weights: Path, tmp_path: Path, name: str, window: int) -> None:
    how = Segmentation("efficientcellseg", weights, {"linking": {"max_distance": 8.0}}, link=True)
    plain, blocks, said, found = both(Job(movie), tmp_path, name, how, window=window)
    if name.endswith(".csv"):
        plain, blocks = (path.with_name("a-spots.csv") for path in (plain, blocks))
    same_files(plain, blocks)
    assert {**said, "out": ""} == {**found, "out": ""}
    assert found["cells"] == sum(map(len, perfect.CELLS.values()))


@pytest.mark.parametrize("window", [1, 2, 3])
@pytest.mark.parametrize("links", ["votes", "linking"])
def test_tracks_of_embedtrack(movie: Path, weights: Path, tmp_path: Path, window: int, links: str) -> None:
    how = Segmentation("embedtrack", weights, {"embedtrack": {"links": links}})
    plain, blocks, said, found = both(Job(movie), tmp_path, "01_RES", how, window=window)
    same_files(plain, blocks)
    assert {**said, "out": ""} == {**found, "out": ""}
    assert found["divisions"] == 1


@pytest.mark.parametrize("method", ["efficientcellseg", "embedtrack"])
def test_what_a_person_drew_stays(project: Path, weights: Path, tmp_path: Path, method) -> None:
    plain, blocks, *_ = both(Job(project), tmp_path, "out.xml", Segmentation(method, weights), window=1)
    first, second = read_tracks(plain), read_tracks(blocks)
    for column in ("id", "t", "centre", "covariance", "quality", "links"):
        np.testing.assert_array_equal(getattr(first, column), getattr(second, column))
    np.testing.assert_array_equal(first.outlines.vertices, second.outlines.vertices)
    assert (second.label == "hers").sum() == 1
    assert not second.tagged("Detection", "unlabeled")[second.label == "hers"].any()
    again = plan_segment(Job(blocks), tmp_path / "again.xml", Segmentation(method, weights), config=HERE)
    assert run_blocks(again)[f"{'cells' if method == 'efficientcellseg' else 'spots'}"] == first.n_spots
    assert (~read_tracks(tmp_path / "again.xml").tagged("Detection", "unlabeled")).sum() == 1


@pytest.mark.parametrize("method", ["efficientcellseg", "embedtrack"])
def test_frames_in_the_middle(movie: Path, weights: Path, tmp_path: Path, method) -> None:
    how = Segmentation(method, weights)
    plain, blocks, *_ = both(Job(movie, frames="1-2"), tmp_path, "a.tif", how, window=1)
    same_files(plain, blocks)


def test_a_missing_frame_is_left_out(weights: Path, tmp_path: Path) -> None:
    class Gap(ArrayImage):
        def is_missing(self, frame: int, setup: int = 0) -> bool:
            return frame == 2

    source = tmp_path / "gap.xml"
    write_image(source, Gap([perfect.frame(t) for t in range(4)], unit="µm"))
    for method in ("efficientcellseg", "embedtrack"):
        how = Segmentation(method, weights)
        plain, blocks, _, found = both(Job(source), tmp_path, f"{method}.mastodon", how, window=4)
        np.testing.assert_array_equal(read_tracks(plain).centre, read_tracks(blocks).centre)
        assert 2 not in read_tracks(blocks).t
        assert found["out"] == str(blocks)


def test_a_stopped_segmentation_goes_on(movie: Path, weights: Path, tmp_path: Path) -> None:
    how, target = Segmentation("embedtrack", weights), tmp_path / "a.tif"
    finish(track_embedtrack(Job(movie), tmp_path / "plain.tif", settings={}, weights=weights))
    steps = scale_segment(Job(movie), target, how, config=HERE.but(window=1))
    for step in steps:
        if step.stage == "blocks" and step.done == 2:
            break
    steps.close()
    assert not target.exists()
    facts = finish(scale_segment(Job(movie), target, how, config=HERE.but(window=1)))
    assert (facts["blocks"]["done_before"], facts["blocks"]["done_now"]) == (2, 2)
    same_files(tmp_path / "plain.tif", target)
    record = json.loads((tmp_path / "a.tif.howdah.json").read_text())
    assert record["task"] == "scale-embedtrack"
    assert record["settings_used"]["links"] == "linking"


def test_from_the_command_line(movie: Path, weights: Path, tmp_path: Path) -> None:
    target = tmp_path / "a.tif"
    words = ["scale", "segment", str(movie), "--method", "efficientcellseg", "-w", str(weights), "-o", str(target)]
    done = CliRunner().invoke(app, [*words, "--also", str(tmp_path / "01_RES"), "--link", "--workers", "0", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.splitlines()[-1])["tracks"] > 0
    assert (tmp_path / "01_RES" / "res_track.txt").exists()
    refused = CliRunner().invoke(app, [*words, "--block", "1,20,20", "--workers", "0", "--json"])
    assert refused.exit_code != 0


def test_single_images_get_a_label_image_each(weights: Path, tmp_path: Path) -> None:
    images, *_ = seeing.stills(tmp_path)
    plain, blocks, *_ = both(Job(images), tmp_path, "cells", Segmentation("efficientcellseg", weights))
    same_files(plain, blocks)
    how = Segmentation("efficientcellseg", weights, link=True)
    with pytest.raises(ConfigError, match="single images, not a movie"):
        plan_segment(Job(images), tmp_path / "linked", how, config=HERE)


@pytest.mark.parametrize("memory", [None, 0.1])
def test_volumes_at_once_and_plane_by_plane(weights: Path, tmp_path: Path, memory: float | None) -> None:
    movie = perfect.movie(tmp_path, depth=5)
    how = Segmentation("efficientcellseg", weights, {"efficientcellseg": {"memory_mb": memory}})
    plain, blocks, *_ = both(Job(movie), tmp_path, "volumes.ome.zarr", how)
    same_files(plain, blocks)


def test_what_is_wrong_is_said_before_the_work(movie: Path, weights: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no method 'cellpose' that outlines cells; known are"):
        plan_segment(Job(movie), tmp_path / "a.tif", Segmentation("cellpose", weights), config=HERE)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="it is an input"):
        plan_segment(Job(movie), movie, Segmentation("embedtrack", weights), config=HERE)
    with pytest.raises((ConfigError, DataError), match="Frame 9"):
        plan_segment(Job(movie, frames="9"), tmp_path / "a.tif", Segmentation("embedtrack", weights), config=HERE)
