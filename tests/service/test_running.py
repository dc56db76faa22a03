"""Tasks in this process: with arrays and tables, progress, cancelling, and errors as sentences."""

from __future__ import annotations

import errno
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from bdv_io import MissingDataError
from bdv_io.errors import FormatError
from howdah.errors import Cancelled, ConfigError, DataError, MissingExtraError
from howdah.service.clean import load_image, load_table, plain, save_table, stored
from howdah.service.parameters import Image
from howdah.service.running import run_task, sentence_of


def test_check_gives_back_what_it_got() -> None:
    data = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
    found = run_task("check", {"image": Image(data, "ZYX", (2.0, 0.5, 0.5), "µm", 1.5)})
    facts = {name: found[name] for name in ("shape", "dtype", "axes", "sum", "voxel_size", "unit", "interval")}
    assert facts == {
        "shape": [2, 3, 4],
        "dtype": "uint16",
        "axes": "ZYX",
        "sum": 276,
        "voxel_size": [2.0, 0.5, 0.5],
        "unit": "µm",
        "interval": 1.5,
    }
    assert (found["image"].data == 23 - data).all()
    assert (found["image"].axes, found["image"].data.dtype) == ("ZYX", np.uint16)
    threshold = run_task("check", {"image": Image(data, "ZYX"), "what": "threshold"})["image"].data
    assert (threshold == np.where(data > 11.5, 255, 0)).all()


def test_the_sum_of_large_numbers_is_exact() -> None:
    assert run_task("check", {"image": Image(np.full((3,) * 2, 2**64 - 2, np.uint64) // 16, "YX")})["sum"] == 9 * (
        2**60 - 1
    )


@pytest.mark.parametrize("data", [np.zeros((0, 3)), np.zeros((2, 2), dtype="U3")])
def test_check_refuses_what_is_no_image(data: Any) -> None:
    with pytest.raises(ConfigError, match="expected numbers"):
        run_task("check", {"image": Image(data, "YX")})


def test_link_table() -> None:
    table = {"t": [0, 1, 1, 2], "z": [0] * 4, "y": [0.0, 1, 40, 2], "x": [0.0, 0, 40, 1], "radius": [3.0] * 4}
    found = run_task("link.table", {"table": table, "settings": {"linking": {"max_distance": 10}}})
    pairs = list(zip(found["table"]["source"].tolist(), found["table"]["target"].tolist(), strict=True))
    assert pairs == [(0, 1), (1, 3)]
    with pytest.raises(ConfigError, match="z is missing"):
        run_task("link.table", {"table": {"t": [0], "y": [0], "x": [0]}})
    with pytest.raises(ConfigError, match="no whole number"):
        run_task("link.table", {"table": {"t": [0.5], "z": [0], "y": [0], "x": [0]}})


def test_progress_and_cancelling_between_steps(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 8, 8), np.uint8), imagej=True, metadata={"axes": "TYX"})
    told = {"source": str(tmp_path / "a.tif"), "out": str(tmp_path / "a.ome.zarr")}
    seen: list[Any] = []
    with pytest.raises(Cancelled, match="was cancelled"):
        run_task("convert", told, show=seen.append, cancelled=lambda: len(seen) >= 2)
    assert len(seen) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) in (["a.tif"], ["a.ome.zarr.log", "a.tif"])
    with pytest.raises(Cancelled, match="was cancelled"):
        run_task("convert", told, cancelled=lambda: True)
    assert run_task("convert", told)["out"].endswith("a.ome.zarr")


def test_images_and_tables_go_through_files(tmp_path: Path) -> None:
    image = Image(np.arange(6, dtype=np.float32).reshape(2, 3)[:, ::2], "YX", (1.0, 2.0, 3.0), "µm", 2.0)
    table = {"t": np.arange(3), "name": np.array(["a", "bc", ""]), "file": np.zeros(3)}
    result = stored({"a": [image], "b": {"c": table}, "n": 1}, tmp_path)
    assert result["n"] == 1
    assert result["b"]["c"]["columns"] == [["t", "<i8"], ["name", "<U2"], ["file", "<f8"]]
    again = load_image(result["a"][0], tmp_path)
    assert (again.data == image.data).all()
    assert (again.axes, again.voxel_size, again.unit, again.interval) == ("YX", (1.0, 2.0, 3.0), "µm", 2.0)
    assert {name: column.tolist() for name, column in load_table(result["b"]["c"], tmp_path).items()} == {
        name: column.tolist() for name, column in table.items()
    }
    with pytest.raises(ConfigError, match="holds numbers and texts"):
        save_table(tmp_path / "x.npz", {"t": np.zeros(2, dtype=complex)})


def test_a_damaged_table_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="there is no file"):
        load_table(tmp_path / "nix.npz")
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(FormatError, match="Expected columns"):
        load_table(tmp_path / "bad.npz")
    np.savez(tmp_path / "odd.npz", a=np.zeros(2), b=np.zeros(3))
    with pytest.raises(FormatError, match="differ in length"):
        load_table(tmp_path / "odd.npz")
    np.savez(tmp_path / "code.npz", a=np.array([{}], dtype=object))
    with pytest.raises(FormatError, match="Reading the table"):
        load_table(tmp_path / "code.npz")  # no pickle is ever opened


def test_plain_values() -> None:
    value = {"a": np.float32(0.5), 3: np.array([1.0, math.nan]), "b": (True, np.bool_(False)), "c": {1}, "d": Path("x")}
    assert plain(value) == {"a": 0.5, "3": [1.0, None], "b": [True, False], "c": [1], "d": "x"}
    assert plain({"big": 2**70, "inf": -math.inf}) == {"big": 2**70, "inf": None}


@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        (DataError("No."), "input", "No."),
        (FormatError("Bad."), "input", "Bad."),
        (MissingExtraError("Install it."), "missing", "Install it."),
        (Cancelled("Stopped."), "cancelled", "Stopped."),
        (KeyboardInterrupt(), "cancelled", "The job was cancelled"),
        (MemoryError("array"), "input", "memory of this computer is full"),
        (RuntimeError("CUDA out of memory. Tried"), "input", "memory of the GPU is full"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/data/x"),
            "input",
            "The disk is full while writing /data/x",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/data/x"),
            "input",
            "/data/x cannot be used: Permission denied",
        ),
        (KeyError("x"), "fault", "A fault in Howdah, please report it: KeyError"),
    ],
)
def test_an_error_is_a_sentence(error: BaseException, kind: str, sentence: str) -> None:
    found = sentence_of(error)
    assert found[0] == kind
    assert sentence in found[1]
