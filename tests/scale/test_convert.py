"""A conversion in blocks writes the files of the plain one, byte for byte, also when it is stopped and damaged on the way."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scale.one_by_one import run_blocks
from typer.testing import CliRunner

from bdv_io.errors import BdvIoError
from bdv_io.formats import open_image, write_image, write_tracks
from bdv_io.image import ArrayImage, WriteOptions
from bdv_io.tracks import Tracks
from howdah.cli import app
from howdah.errors import ConfigError, ScaleError
from howdah.pipeline import Conversion, convert, finish
from howdah.scale.config import ScaleConfig
from howdah.scale.convert import plan_convert, scale_convert
from howdah.scale.folder import work_folder

HERE = ScaleConfig(workers=0)


def files(folder: Path) -> dict[str, bytes]:
    """All files of a store by their names."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


class Gap(ArrayImage):
    """A movie whose view (1, 0) is missing."""

    def is_missing(self, frame: int, setup: int = 0) -> bool:
        return (frame, setup) == (1, 0)


def movie(folder: Path, shape: tuple[int, ...], *, dtype: str = "uint16", kind: type[ArrayImage] = ArrayImage) -> Path:
    """Write a movie with some black parts."""
    pixels = np.random.default_rng(0).normal(300, 100, shape).clip(0).astype(dtype)
    pixels[0, ..., :30] = 0
    source = folder / "source.xml"
    write_image(source, kind(pixels, voxel_size=(2.0, 1.0, 1.0), unit="µm", interval=(30.0, "s")))
    return source


def plainly(source: Path, folder: Path, how: Conversion | None = None) -> dict[str, bytes]:
    target = folder / "plain" / "movie.ome.zarr"
    target.parent.mkdir()
    finish(convert(source, target, how))
    return files(target)


CASES = {  # shape, levels, chunks, block, whether levels follow
    "levels together": ((2, 2, 21, 40, 51), [(1, 1, 1), (1, 2, 2), (2, 4, 4)], (8, 16, 16), (16, 64, 64), False),
    "one level after the other": (
        (1, 2, 21, 40, 51),
        [(1, 1, 1), (1, 2, 2), (2, 4, 4)],
        (8, 16, 16),
        (8, 16, 16),
        True,
    ),
    "long factors": ((2, 1, 9, 40, 40), [(1, 1, 1), (4, 8, 8), (16, 16, 64)], (4, 8, 8), (4, 16, 16), True),
    "odd numbers": ((1, 1, 11, 50, 47), [(1, 1, 1), (1, 3, 3), (2, 6, 9)], (3, 7, 10), (6, 42, 47), False),
    "odd numbers, levels apart": ((1, 1, 11, 50, 47), [(1, 1, 1), (1, 3, 3), (2, 6, 9)], (3, 7, 10), (3, 21, 30), True),
    "flat, proposed": ((3, 1, 1, 300, 700), None, None, None, False),
}


@pytest.mark.parametrize("name", CASES)
def test_the_files_are_those_of_the_plain_verb(name: str, tmp_path: Path) -> None:
    shape, levels, chunks, block, follow = CASES[name]
    source = movie(tmp_path, shape, dtype="float32" if follow else "uint16")
    how = Conversion(options=WriteOptions(levels=levels, chunks=chunks))
    plan = plan_convert(source, tmp_path / "movie.ome.zarr", how, config=HERE.but(block=block))
    json.dumps([plan.shared, [block.arguments for block in plan.blocks]])
    fine = [n for n, b in enumerate(plan.blocks) if b.stage == "parts"]
    rest = [n for n, b in enumerate(plan.blocks) if b.stage != "parts"]
    assert bool(rest) == follow
    run_blocks(plan, [*reversed(fine), *reversed(rest)])
    assert files(tmp_path / "movie.ome.zarr") == plainly(source, tmp_path, how)


def test_a_missing_view_gets_no_chunks(tmp_path: Path) -> None:
    source = movie(tmp_path, (3, 2, 5, 40, 40), kind=Gap)
    facts = finish(scale_convert(source, tmp_path / "movie.ome.zarr", config=HERE))
    assert files(tmp_path / "movie.ome.zarr") == plainly(source, tmp_path)
    assert "1 missing views" in facts["not_kept"][0]
    assert facts["blocks"]["all"] == 1
    assert not work_folder(tmp_path / "movie.ome.zarr").exists()
    assert json.loads((tmp_path / "movie.ome.zarr.howdah.json").read_text())["blocks"]["done_now"] == 1


def test_a_stopped_run_goes_on_and_mends_what_was_damaged(tmp_path: Path) -> None:
    source, target = movie(tmp_path, (2, 1, 20, 64, 64)), tmp_path / "movie.ome.zarr"
    how = Conversion(options=WriteOptions(levels=[(1, 1, 1), (2, 4, 4)], chunks=(8, 16, 16)))
    config = HERE.but(block=(8, 16, 32))
    write_image(target, ArrayImage(np.ones((1, 1, 4, 4), np.uint8)))
    before = files(target)
    steps = scale_convert(source, target, how, config=config)
    for _ in range(9):
        next(steps)
    steps.close()
    assert files(target) == before
    store = work_folder(target) / "store"
    chunks = sorted(file for file in store.rglob("*") if file.is_file())
    assert chunks
    chunks[0].write_bytes(chunks[0].read_bytes()[:5])  # half written
    chunks[-1].unlink()
    facts = finish(scale_convert(source, target, how, config=config))
    assert facts["blocks"]["done_before"] > 0
    assert files(target) == plainly(source, tmp_path, how)
    assert files(tmp_path / "movie.ome.zarr~1~") == before


def test_a_byte_that_flipped_is_found_where_it_is_asked_for(tmp_path: Path) -> None:
    source, target = movie(tmp_path, (3, 1, 4, 32, 32)), tmp_path / "movie.ome.zarr"
    steps = scale_convert(source, target, config=HERE.but(window=1), check=True)
    for step in steps:
        if step.stage == "blocks" and step.done == 3:
            break
    chunk = next(file for file in (work_folder(target) / "store" / "0" / "1").rglob("*") if file.is_file())
    content = bytearray(chunk.read_bytes())
    content[-1] ^= 1
    chunk.write_bytes(content)
    facts = finish(steps)
    assert facts["blocks"]["done_now"] == 4
    assert files(target) == plainly(source, tmp_path)


def test_a_run_that_was_stopped_after_the_store_got_its_name(tmp_path: Path) -> None:
    source, target = movie(tmp_path, (2, 1, 4, 32, 32)), tmp_path / "movie.ome.zarr"
    first = finish(scale_convert(source, target, config=HERE, keep=True))
    stored = files(target)
    assert not (work_folder(target) / "store").exists()
    again = finish(scale_convert(source, target, config=HERE))
    assert again["blocks"]["done_now"] == 0
    assert again["out"] == first["out"]
    assert files(target) == stored
    assert open_image(target).n_frames == 2


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("a.tif", "a TIFF is one file, which only one process can write. Name an OME-Zarr"),
        ("a.xml", "a BigDataViewer XML is one file"),
        ("source.xml.ome.zarr/b.ome.zarr", "does not exist"),
        ("b.ome.zarr", "there is a file of this name, and OME-Zarr is a folder"),
    ],
)
def test_what_cannot_be_written_is_said(tmp_path: Path, name: str, sentence: str) -> None:
    source = movie(tmp_path, (1, 1, 2, 8, 8))
    (tmp_path / "b.ome.zarr").write_text("")
    with pytest.raises((ConfigError, BdvIoError), match=sentence):
        plan_convert(source, tmp_path / name, config=HERE)


def test_annotations_are_refused(tmp_path: Path) -> None:
    write_tracks(tmp_path / "a.geff", Tracks.build([0], [[0.0, 0.0, 0.0]], radius=1.0))
    with pytest.raises(ConfigError, match="an annotation, which is small"):
        plan_convert(tmp_path / "a.geff", tmp_path / "b.ome.zarr", config=HERE)


def test_a_disk_that_refuses_is_said_and_the_run_can_go_on(tmp_path: Path) -> None:
    source, target = movie(tmp_path, (2, 1, 4, 32, 32)), tmp_path / "movie.ome.zarr"
    work_folder(target).mkdir()
    (work_folder(target) / "aside").write_text("a file where a folder should be")
    with pytest.raises(ScaleError, match="goes on from there"):
        finish(scale_convert(source, target, config=HERE.but(retries=0)))
    (work_folder(target) / "aside").unlink()
    finish(scale_convert(source, target, config=HERE))
    assert files(target) == plainly(source, tmp_path)


def test_from_the_command_line(tmp_path: Path) -> None:
    source, target = movie(tmp_path, (2, 1, 4, 32, 32)), tmp_path / "movie.ome.zarr"
    done = CliRunner().invoke(
        app, ["scale", "convert", str(source), str(target), "--workers", "0", "--check", "--json"]
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.splitlines()[-1])["frames"] == 2
    assert files(target) == plainly(source, tmp_path)
