"""A task for each file of a folder: goes on after a failure, and does not do again what is done."""

from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from howdah.cli import app
from howdah.errors import ConfigError
from howdah.pipeline import convert, finish
from howdah.service import process
from howdah.service.batch import Batch, batch
from howdah.service.batch_items import items_of
from howdah.service.preparing import told
from howdah.service.table import TASKS

HERE = Path(__file__).parent


@pytest.fixture
def movies(tmp_path: Path) -> Path:
    """A folder with two movies, a damaged one, and things that are none."""
    folder = tmp_path / "movies"
    folder.mkdir()
    for name in ("b.tif", "a.tif"):
        tifffile.imwrite(folder / name, np.ones((2, 8, 8), np.uint8), imagej=True, metadata={"axes": "TYX"})
    (folder / "damaged.tif").write_bytes(b"no movie")
    (folder / "notes.txt").write_text("mind the gap")
    (folder / ".hidden.tif").write_bytes(b"x")
    (folder / "a.tif~1~").write_bytes(b"x")
    return folder


def run(folder: Path, out: Path, **told: Any) -> dict[str, Any]:
    what = Batch.of({"task": "convert", "inputs": [folder], "out": out, "ending": ".ome.zarr", **told})
    return finish(batch(what, TASKS))


def test_a_failure_ends_only_its_input_and_what_is_done_is_not_done_again(movies: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    result = run(movies, out)
    assert (result["inputs"], result["done"], result["skipped"], result["failed"]) == (3, 2, 0, 1)
    ((failure),) = result["failures"]
    assert failure["input"] == str(movies / "damaged.tif")
    assert "none of the known formats" in failure["error"]
    with (out / "batch.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(Path(row["input"]).name, row["state"]) for row in rows] == [
        ("a.tif", "done"),
        ("b.tif", "done"),
        ("damaged.tif", "failed"),
    ]
    assert (rows[0]["frames"], Path(rows[0]["out"]).name) == ("2", "a.ome.zarr")
    summary = (out / "batch.txt").read_text()
    assert summary.startswith("convert: 3 inputs, 2 done, 0 done before, 1 failed, 0 not begun.")
    assert "damaged.tif" in summary
    # again: what failed is mended, and a result is gone
    tifffile.imwrite(movies / "damaged.tif", np.ones((1, 8, 8), np.uint8), imagej=True, metadata={"axes": "TYX"})
    (out / "b.ome.zarr").rename(tmp_path / "elsewhere")
    assert run(movies, out) == {**result, "done": 2, "skipped": 1, "failed": 0, "failures": []}
    assert run(movies, out) == {**result, "done": 0, "skipped": 3, "failed": 0, "failures": []}


def test_what_has_changed_is_done_again(movies: Path, tmp_path: Path) -> None:
    def key(**parameters: Any) -> str:
        return items_of(TASKS["convert"], [movies / "a.tif"], tmp_path, parameters=parameters, ending=".ome.zarr")[
            0
        ].key

    before = key()
    assert key() == before
    assert key(compression=2) != before
    os.utime(movies / "a.tif", (1, 1))
    assert key() != before


def test_a_name_typed_otherwise_is_the_same_file(movies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def item(path: Path, out: Path) -> Any:
        return items_of(TASKS["convert"], [path], out, parameters={}, ending=".ome.zarr")[0]

    monkeypatch.chdir(tmp_path)
    near, far = item(Path("movies/a.tif"), Path("out")), item(movies / "a.tif", tmp_path / "out")
    assert (near.source, near.key) == (far.source, far.key)


def test_the_settings_of_a_batch_reach_its_task() -> None:
    told_so = {"task": "track", "inputs": ["x.mastodon"], "settings": {"elephant": {"n_epochs": 7}}}
    assert told(TASKS["batch"], told_so).settings["elephant"] == {"n_epochs": 7}
    with pytest.raises(ConfigError, match="n_epoch"):
        told(TASKS["batch"], {**told_so, "settings": {"elephant": {"n_epoch": 7}}})


def test_inputs(movies: Path, tmp_path: Path) -> None:
    def names(*inputs: Path, **more: Any) -> list[str]:
        told = {"parameters": {}, "ending": ".ome.zarr", **more}
        return [item.name for item in items_of(TASKS["convert"], inputs, tmp_path / "out", **told)]

    assert names(movies) == ["a", "b", "damaged"]
    assert names(movies, pattern="a*.tif") == ["a"]
    assert names(movies / "b.tif", movies / "b.tif") == ["b"]
    other = tmp_path / "other"
    other.mkdir()
    (other / "b.tif").write_bytes((movies / "b.tif").read_bytes())
    assert names(movies / "b.tif", other) == ["b_tif", "b_tif-2"]
    assert names(movies, whole=True) == ["movies"]
    with pytest.raises(ConfigError, match="There is nothing to do"):
        names(movies, pattern="*.czi")
    with pytest.raises(ConfigError, match="How shall the results of 'convert' end"):
        names(movies, ending=None)
    with pytest.raises(ConfigError, match="'doctor' reads no file"):
        items_of(TASKS["doctor"], [movies], tmp_path, parameters={})


def test_words_of_the_input_are_filled_in(movies: Path, tmp_path: Path) -> None:
    told = {"truth": "{folder}/{stem}_GT", "axes": "TYX"}
    item = items_of(TASKS["evaluate"], [movies / "a.tif"], tmp_path, parameters=told, ending=".csv")[0]
    assert dict(item.told) == {
        "truth": f"{movies}/a_GT",
        "axes": "TYX",
        "result": str(movies / "a.tif"),
        "out": str(tmp_path / "a.csv"),
    }


def test_pixels_beside_a_header_are_no_input_of_their_own(tmp_path: Path) -> None:
    source = tmp_path / "in" / "a.tif"
    source.parent.mkdir()
    tifffile.imwrite(source, np.ones((2, 8, 8), np.uint8), imagej=True, metadata={"axes": "TYX"})
    (tmp_path / "bdv").mkdir()
    finish(convert(source, tmp_path / "bdv" / "a.xml"))
    found = items_of(TASKS["convert"], [tmp_path / "bdv"], tmp_path / "x", parameters={}, ending=".tif")
    assert [item.source.name for item in found] == ["a.xml"]


def test_what_is_wrong_for_all_is_said_before_any_work(movies: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no setting 'compresion'.*Did you mean 'compression'"):
        run(movies, tmp_path / "out", parameters={"compresion": 2})
    (tmp_path / "out" / "batch.json").write_text("{")
    with pytest.raises(ConfigError, match=r"cannot be read .*--again"):
        run(movies, tmp_path / "out")


def test_a_dead_worker_ends_only_its_input(
    misbehaving: None, movies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "COMMAND", [sys.executable, str(HERE / "extra_tasks.py")])
    result = run(movies, tmp_path / "out", task="full.die", ending=None)
    assert (result["done"], result["failed"]) == (2, 1)
    assert "SIGKILL" in result["failures"][0]["error"]
    assert "a.tif" in result["failures"][0]["input"]


def test_the_command_line_says_what_failed_by_its_exit_code(movies: Path, tmp_path: Path) -> None:
    command = ["batch", "convert", str(movies), "-o", str(tmp_path / "out"), "--ending", ".ome.zarr", "--json"]
    found = CliRunner().invoke(app, command)
    assert found.exit_code == 2
    assert '"failed": 1' in found.stdout
    assert CliRunner().invoke(app, [*command, "--set", "compression"]).exit_code == 2


def test_a_stopped_batch_goes_on(movies: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    what = Batch.of({"task": "convert", "inputs": [movies], "out": out, "ending": ".ome.zarr"})
    steps = batch(what, TASKS)
    for step in steps:
        if step.stage == "batch" and step.done == 1:
            break
    steps.close()
    assert "1 done" in (out / "batch.txt").read_text()
    assert "2 not begun" in (out / "batch.txt").read_text()
    rows = json.loads((out / "batch.json").read_text())["rows"]
    assert [row["state"] for row in rows] == ["done", "waiting", "waiting"]
