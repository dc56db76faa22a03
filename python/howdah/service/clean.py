"""What leaves a task, as plain values: JSON without NaN, arrays and tables as files where a pipe cannot carry them."""

from __future__ import annotations

import dataclasses
import enum
import math
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bdv_io.errors import FormatError, MissingDataError, WriteError
from bdv_io.formats import open_image
from bdv_io.image import ImageSeries
from howdah.errors import ConfigError
from howdah.service.arrays import mapped_upload
from howdah.service.parameters import Image, Table

__all__ = ["is_table", "load_image", "load_table", "plain", "save_table", "stored"]

IN_SECONDS = {"s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "ms": 1e-3, "min": 60.0, "h": 3600.0}


def plain(value: Any) -> Any:
    """Return a value as JSON knows it: numpy scalars as numbers, NaN and infinity as None, paths as text, tuples as lists.

    :class:`Image` and tables (mappings of numpy columns) stay what they are; so do whole numbers of any size.
    """
    if value is None or isinstance(value, bool | str):
        return value.value if isinstance(value, enum.Enum) else value
    if isinstance(value, Image) or is_table(value):
        return value
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(key): plain(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return str(value)


def is_table(value: Any) -> bool:
    """Whether a value is a table: a mapping of names to numpy columns of one length."""
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(column, np.ndarray) and column.ndim == 1 for column in value.values())
        and len({len(column) for column in value.values()}) == 1
    )


def stored(value: Any, folder: Path) -> Any:
    """Return a plain value in which each image and table is a file in ``folder``.

    An image becomes ``{"array": "NAME.npy", "axes": ..., "voxel_size": ..., "unit": ..., "interval": ..., "shape": [...],
    "dtype": "<u2"}``, a table ``{"table": "NAME.npz", "rows": N, "columns": [["t", "<i4"], ...]}``; names are relative to ``folder``.

    Raises:
        WriteError: The folder cannot be written, for example because the disk is full.
    """
    return _stored(value, folder, _names())


def _names() -> Iterator[str]:
    number = 0
    while True:
        number += 1
        yield f"result-{number}"


def _stored(value: Any, folder: Path, names: Iterator[str]) -> Any:
    if isinstance(value, Image):
        data = np.asarray(value.data)
        data = data if data.dtype.byteorder in "=|<" else data.astype(data.dtype.newbyteorder("<"))
        name = f"{next(names)}.npy"
        with _telling(folder / name):
            np.save(folder / name, data, allow_pickle=False)
        facts = {"axes": value.axes, "voxel_size": value.voxel_size, "unit": value.unit, "interval": value.interval}
        return {"array": name, **plain(facts), "shape": list(data.shape), "dtype": data.dtype.str}
    if is_table(value):
        name = f"{next(names)}.npz"
        save_table(folder / name, value)
        columns = [[key, column.dtype.str] for key, column in value.items()]
        return {"table": name, "rows": len(next(iter(value.values()))), "columns": columns}
    if isinstance(value, Mapping):
        return {key: _stored(item, folder, names) for key, item in value.items()}
    if isinstance(value, list):
        return [_stored(item, folder, names) for item in value]
    return value


class _telling:  # noqa: N801  reads as a phrase: with _telling(path)
    """Turn a failure of the disk into a sentence."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def __exit__(self, kind: object, error: BaseException | None, at: object) -> None:
        if isinstance(error, OSError):
            self.path.unlink(missing_ok=True)
            raise WriteError(
                f"Writing {self.path} failed: {error.strerror or error}. Is there space left on that disk?"
            ) from error


def save_table(path: Path, table: Table) -> None:
    """Write columns to a .npz file, in their order.

    Raises:
        ConfigError: A column holds neither numbers nor texts. WriteError: The disk refused.
    """
    columns = {}
    for name, column in table.items():
        values = np.asarray(column)
        if values.dtype.kind == "O":
            values = values.astype(np.str_)
        if values.dtype.kind not in "biufU":
            raise ConfigError(f"Column '{name}' has the type {values.dtype}; a table holds numbers and texts.")
        columns[f"column-{name}"] = values  # savez has parameters of its own; names may be anything
    with _telling(path):
        np.savez(path, allow_pickle=False, **columns)


def load_table(value: Table | Path | Mapping[str, Any], folder: Path | None = None) -> Table:
    """Return the table of a parameter (mapping of columns, or the path of a .npz file), or of a stored result.

    Args:
        value: A mapping of columns, a path, or ``{"table": NAME, ...}`` of a stored result.
        folder: Where the files of a stored result are.

    Raises:
        MissingDataError: There is no such file. FormatError: It holds no table.
    """
    if isinstance(value, Mapping):
        name = value.get("table")
        if not isinstance(name, str) or folder is None:
            return {name: np.asarray(column) for name, column in value.items()}
        path = folder / Path(name).name
    else:
        path = value
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            table = {name.removeprefix("column-"): file[name] for name in file.files}
    except FileNotFoundError:
        raise MissingDataError(f"Reading a table failed: there is no file {path}.") from None
    except (OSError, ValueError, EOFError, AttributeError, TypeError, KeyError, zipfile.BadZipFile) as error:
        raise FormatError(f"Reading the table {path} failed: {error}. Expected columns in a .npz file.") from None
    if not is_table(table):
        raise FormatError(f"Reading the table {path} failed: its columns differ in length, or there is none.")
    return table


def load_image(value: Image | Path | Mapping[str, Any], folder: Path | None = None) -> Image:
    """Return the image of a parameter (:class:`Image`, or the path of a movie), or of a stored result.

    A movie becomes one array with the axes TCZYX; it must fit into the memory. What a client sent as an array keeps its axes and
    is mapped from the disk.

    Args:
        value: An image, a path, or ``{"array": NAME, ...}`` of a stored result (a memory map then).
        folder: Where the files of a stored result are.

    Raises:
        BdvIoError: There is no such file, or it is damaged.
    """
    if isinstance(value, Image):
        return value
    if isinstance(value, Mapping):
        if folder is None:
            raise ConfigError("The image of a stored result was asked for without its folder.")
        data = np.load(folder / Path(value["array"]).name, mmap_mode="r", allow_pickle=False)
        size = value["voxel_size"]
        return Image(data, value["axes"], None if size is None else tuple(size), value["unit"], value["interval"])
    sent = mapped_upload(Path(value))
    if sent is not None:
        return sent
    movie = open_image(value)
    try:
        return _whole(movie)
    finally:
        movie.close()


def _whole(movie: ImageSeries) -> Image:
    first = movie.setups[0]
    data = np.zeros((movie.n_frames, len(movie.setups), *movie.shape(0, 0)), dtype=first.dtype)
    for t in range(movie.n_frames):
        for c in range(len(movie.setups)):
            if not movie.is_missing(t, c):
                data[t, c] = movie.read(t, c)
    every = movie.interval
    seconds = None if every is None or every[1] not in IN_SECONDS else every[0] * IN_SECONDS[every[1]]
    return Image(data, "TCZYX", first.voxel_size, first.unit, seconds)
