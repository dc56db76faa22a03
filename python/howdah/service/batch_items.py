"""The inputs of a batch: what is found in folders, how each one's result is called, and what its job is told."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bdv_io import BdvIoError, MissingDataError
from bdv_io.formats import FORMATS, identify
from howdah import __version__
from howdah.errors import ConfigError, ServiceError
from howdah.service.parameters import input_of
from howdah.service.tasks import Task

__all__ = ["Item", "items_of", "stamp"]

LEFTOVERS = (
    "*~*~",
    "*.howdah.json",
    "*.log",
    ".*",
    "batch.csv",
    "batch.json",
    "batch.txt",
)  # of Howdah, and hidden files
MOST_FILES = 100_000  # of an input that is a folder


@dataclass(frozen=True)
class Item:
    """One input.

    Attributes:
        source: The file or folder.
        name: What its results are called, unlike those of every other input.
        told: The parameters of its job.
        key: Changes with the input, the parameters, the files that these name, and the version of Howdah.
    """

    source: Path
    name: str
    told: Mapping[str, Any]
    key: str


def items_of(
    task: Task,
    inputs: Sequence[Path],
    out: Path,
    *,
    parameters: Mapping[str, Any],
    ending: str | None = None,
    pattern: str | None = None,
    whole: bool = False,
) -> list[Item]:
    """Find the inputs, and say what the job of each one is told.

    Args:
        task: The task.
        inputs: Files, and folders in which files are looked for (not in folders of these; a folder that is one movie or project, such as
            an OME-Zarr or a challenge's sequence, is an input).
        out: Folder of the results; nothing in it is an input.
        parameters: The same for all; ``{name}``, ``{stem}`` and ``{folder}`` in a text stand for those of the input.
        ending: How the results end, where the task has no ending of its own or another one is wanted.
        pattern: Only files of folders with such names: ``"*.tif"``.
        whole: Folders are inputs themselves.

    Raises:
        ConfigError: The task has no input, or no ending for its result, or there is no input. MissingDataError: One is not there.
    """
    field = input_of(task.parameters)
    if field is None:
        raise ConfigError(f"'{task.name}' reads no file, so that there is nothing to do for each file of a folder.")
    whole_paths = [
        Path(os.path.abspath(path)) for path in inputs
    ]  # so that a later run from elsewhere knows them again
    found = _found(whole_paths, out, pattern, whole=whole)
    if not found:
        raise ConfigError(
            f"There is nothing to do: no movie or project was found in {', '.join(map(str, inputs))}"
            f"{f' with a name like {pattern}' if pattern else ''}."
        )
    items = []
    for source, name in zip(found, _names(found), strict=True):
        told = _filled(parameters, source)
        told[field] = [str(source)] if field == "sources" else str(source)
        target = _target(task, told, out, name, ending, source)
        items.append(Item(source, name, {**told, **target}, _key(task, told, ending)))
    return items


def _found(inputs: Sequence[Path], out: Path, pattern: str | None, *, whole: bool) -> list[Path]:
    endings = tuple(ending.lower() for known in FORMATS for ending in known.suffixes if ending.startswith("."))
    results, found = out.resolve(), []
    for given in inputs:
        if not given.exists():
            raise MissingDataError(f"There is no file or folder {given}. Check the path.")
        if not given.is_dir() or whole or given.name.lower().endswith(endings):
            found.append(given)
            continue
        for path in sorted(given.iterdir()):
            passed = path.resolve() == results or any(fnmatch.fnmatch(path.name, left) for left in LEFTOVERS)
            if not passed and (fnmatch.fnmatch(path.name, pattern) if pattern else _is_input(path, endings)):
                found.append(path)
    belonging: set[Path] = set()  # pixels of a movie whose header is there, too: an HDF5 and its XML name each other
    for path in sorted(found, key=lambda path: (path.suffix.lower() != ".xml", path)):
        if path.resolve() not in belonging:
            belonging |= {file.resolve() for file in _beside(path)} - {path.resolve()}
    return [path for path in dict.fromkeys(found) if path.resolve() not in belonging]


def _is_input(path: Path, endings: tuple[str, ...]) -> bool:
    """Whether this is a movie or a project, or is called like one: then it is damaged, and what its job says is worth knowing."""
    try:
        known = identify(path)
    except (
        BdvIoError,
        ServiceError,
    ):  # also one that names files which its job may not have: that is for its job to say
        return path.is_file() and path.name.lower().endswith(endings)
    return known.kind == "image" or path.is_file()


def _beside(path: Path) -> list[Path]:
    """Files that belong to a movie or project besides the one that is named."""
    try:
        return [Path(file) for file in identify(path).files_of(path) if Path(file) != path] if path.is_file() else []
    except (BdvIoError, ServiceError):
        return []


def _names(found: Sequence[Path]) -> list[str]:
    """Stems, with the ending where two are the same, with a number where that is not enough."""
    stems = [path.name.split(".")[0] or path.name for path in found]
    names: list[str] = []
    for path, stem in zip(found, stems, strict=True):
        name = stem if stems.count(stem) == 1 else path.name.replace(".", "_")
        number, unlike = 2, name
        while unlike in names:
            unlike, number = f"{name}-{number}", number + 1
        names.append(unlike)
    return names


def _filled(parameters: Mapping[str, Any], source: Path) -> dict[str, Any]:
    words = {"{name}": source.name, "{stem}": source.stem, "{folder}": str(source.parent)}

    def filled(value: Any) -> Any:
        if isinstance(value, str):
            for word, meaning in words.items():
                value = value.replace(word, meaning)
            return value
        if isinstance(value, list | tuple):
            return [filled(item) for item in value]
        if isinstance(value, Mapping):
            return {key: filled(item) for key, item in value.items()}
        return value

    found: dict[str, Any] = filled(dict(parameters))
    return found


def _target(
    task: Task, told: Mapping[str, Any], out: Path, name: str, ending: str | None, source: Path
) -> dict[str, str]:
    """Name the results of an input."""
    named: dict[str, str] = {}
    for field, default in task.results.items():
        if told.get(field) is None:
            if ending is None:
                made = default(source, out).name if not isinstance(default, str) else f"{source.stem}-{default}"
                rest = made.removeprefix(source.stem)
                named[field] = str(out / f"{name}{rest}")
            else:
                named[field] = str(out / f"{name}{ending}")
    wanted = task.parameters.model_fields.get("out")
    if not task.results and wanted is not None and told.get("out") is None:
        if ending is not None:
            named["out"] = str(out / f"{name}{ending}")
        elif wanted.is_required():
            raise ConfigError(f"How shall the results of '{task.name}' end? Say it: --ending .mastodon")
    return named


def _key(task: Task, told: Mapping[str, Any], ending: str | None) -> str:
    files = []
    names = {}  # as they were typed, the same file may have several
    for name, value in told.items():
        items = value if isinstance(value, list) else [value]
        for place, item in enumerate(items):
            if isinstance(item, str) and (os.path.isabs(item) or os.path.exists(item)):
                files.append(stamp(Path(item)))
                items = [*items[:place], os.path.abspath(item), *items[place + 1 :]]
        names[name] = items if isinstance(value, list) else items[0]
    said = [task.name, names, ending, files, __version__]
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()


def stamp(path: Path) -> list[Any]:
    """Return what tells whether a file, or a file of a folder or of the same movie, has changed: names, sizes, times."""
    files: list[Any] = []
    for start in [path, *_beside(path)]:
        if start.is_dir():
            inside = sorted(file for file in start.rglob("*") if file.is_file())[:MOST_FILES]
        else:
            inside = [start] if start.exists() else []
        files += [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in inside]
    return files
