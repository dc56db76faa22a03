"""What makes two runs the same run: task, inputs, weights, settings, version, and how the work is cut into blocks.

Only blocks of the same run are used when it is resumed. Where something differs, :func:`differences` says what. Where files lie does not
matter, only what is in them: a folder with movie, weights and a stopped run can be moved, and the run goes on.

A file is known by its size and its hash; a large one by its size, the time it was changed, and the hash of its first and last 4 MiB; a
folder by names, sizes and times of its first 10,000 files: what is changed in later ones of a larger store is not noticed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bdv_io import ImageSeries
from howdah import __version__
from howdah.pipeline.record import fingerprint
from howdah.scale.plan import Block, Json, Plan

__all__ = ["differences", "identity_of", "name_of", "with_pixels"]

MOST_FILES = 10_000
ANYHOW = ("scale",)
"""Sections of the settings that the result does not depend on."""


def identity_of(plan: Plan) -> dict[str, Json]:
    """Return what a plan's blocks depend on, as JSON can say it."""
    said = {
        "task": plan.task,
        "howdah": __version__,
        "settings": {name: value for name, value in plan.settings.items() if name not in ANYHOW},
        "shared": _unplaced(plan.shared, _places(plan)),
        "inputs": {name: _seen(Path(path)) for name, path in plan.inputs.items()},
        "blocks": len(plan.blocks),
        "plan": digest_of(plan.blocks),
    }
    identity: dict[str, Json] = json.loads(json.dumps(said, default=str))
    return identity


def with_pixels(inputs: Mapping[str, Path], image: ImageSeries) -> dict[str, Path]:
    """Return inputs, and as ``pixels`` the file that holds a movie's pixels where it is another one (the HDF5 of an XML)."""
    pixels = getattr(image, "pixel_path", None)
    return {**inputs, **({"pixels": pixels} if isinstance(pixels, Path) and pixels not in inputs.values() else {})}


def name_of(identity: Mapping[str, Json]) -> str:
    """Return a short name of a run: 32 hexadecimal digits."""
    text = json.dumps(identity, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def digest_of(blocks: Iterable[Block]) -> str:
    """Return a hash of what blocks do: keys, functions, arguments and needs."""
    digest = hashlib.blake2b(digest_size=16)
    encode = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
    for block in blocks:
        digest.update(encode([block.key, block.does, dict(block.arguments), block.needs]).encode())
    return digest.hexdigest()


def differences(before: Mapping[str, Json], now: Mapping[str, Json]) -> list[str]:
    """Return what differs between two identities, as parts of a sentence: ``threshold was 0.5, now 0.4``."""
    old, new = dict(_leaves(before)), dict(_leaves(now))
    found: list[str] = []
    for path in [*new, *(path for path in old if path not in new)]:
        if old.get(path) == new.get(path) or path[0] in ("plan", "blocks"):
            continue
        if path[0] == "inputs":
            said = f"{path[1]} is another file, or was changed" if len(path) > 1 else "the inputs are others"
        else:
            said = f"{path[-1]} was {_text(old, path)}, now {_text(new, path)}"
        if said not in found:
            found.append(said)
    if not found:
        found = [f"the work is cut differently ({before.get('blocks')} blocks before, {now.get('blocks')} now)"]
    return found


def _places(plan: Plan) -> dict[str, str]:
    """Return a word for each spelling of the place of an input or of the target."""
    named = {**{name: Path(path) for name, path in plan.inputs.items()}, "target": plan.target}
    return {
        os.fspath(place): f"<{name}>" for name, path in named.items() for place in (path.absolute(), path.resolve())
    }


def _unplaced(value: Json, places: Mapping[str, str]) -> Json:
    """Return what all blocks are told, with words where it says the places of files."""
    if isinstance(value, Mapping):
        return {name: _unplaced(inner, places) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_unplaced(inner, places) for inner in value]
    return places.get(os.fspath(value), value) if isinstance(value, str | Path) else value


def _leaves(value: Json, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Json]]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _leaves(inner, (*path, str(name)))
    else:
        yield path, value


def _text(values: Mapping[tuple[str, ...], Json], path: Sequence[str]) -> str:
    if tuple(path) not in values:
        return "not set"
    text = json.dumps(values[tuple(path)])
    return text if len(text) <= 60 else f"{text[:40]} ... {text[-15:]}"


def _seen(path: Path) -> dict[str, Any]:
    """Return what identifies a file (size and hash, and time of change where the hash is not of all of it) or a folder."""
    if path.is_dir():
        return {"files": _folder(path)}
    facts = fingerprint(path)
    del facts["path"]
    if "sha256" in facts:
        facts.pop("changed", None)
    return facts


def _folder(folder: Path) -> str:
    """Return a hash of names, sizes and times of change of the first files of a folder (an image of many chunks)."""
    digest, count = hashlib.blake2b(digest_size=16), 0
    for root, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            state = os.stat(os.path.join(root, name))
            relative = os.path.relpath(os.path.join(root, name), folder)
            digest.update(f"{relative}\0{state.st_size}\0{state.st_mtime_ns}\0".encode("utf-8", "surrogateescape"))
            count += 1
            if count >= MOST_FILES:
                return digest.hexdigest()
    return digest.hexdigest()
