"""Weights of TAP: files of ours, and the ``model_state.pt`` that the published code writes.

A file of ours holds the entries of :class:`~howdah.methods.tap.network.Tap` under their published names. What learned a task on top of
the network (kind ``"classifier"`` or ``"events"``) keeps its own entries beside them, each with ``head.`` before its name.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from howdah.errors import WeightsError
from howdah.methods.tap.config import TapConfig
from howdah.methods.tap.network import DEPTH, Tap, form_of, shapes
from howdah.nn.checkpoint import State, Weights, load_weights

__all__ = ["HEAD", "METHOD", "head_of", "network_of", "network_part", "read_task", "read_weights"]

METHOD = "tap"
HEAD = "head."  # before the names of a task's own entries
MADE_BY = {"classifier": "learn", "events": "learn-events"}  # verb of the command line, by the kind of file
FIRST = "backbone.l_conv.0.conv_block.0.weight"
MOST_FRAMES = 8  # as TapConfig.frames
WHOLE = b"TimeArrowNet"  # the class that a pickled network of the published code names
PUBLISHED = {
    "percentiles": (1.0, 99.8),
    "shrink": 1,
    "frames": 2,
}  # what its code does with images; its files do not say it


def read_weights(path: str | os.PathLike[str]) -> Weights:
    """Read the network of a weights file; its header says under ``network`` what :func:`network_of` builds.

    Of a file with a task's head, the head is left out; :func:`read_task` reads it as well. Of a published file, the header says under
    ``config`` and ``resolved`` how its code normalises images; the distance between frames is not known.

    Raises:
        WeightsError: The file is missing, damaged, of another method or network (see
            :func:`howdah.nn.checkpoint.load_weights`), a whole pickled network, or its header contradicts its numbers.
    """
    return network_part(_read(path))


def read_task(path: str | os.PathLike[str], *, kind: str) -> Weights:
    """Read a weights file with the head of a task: as :func:`read_weights`, but the members hold the entries of the head, too.

    Args:
        path: The file.
        kind: What the header must say under ``kind``: ``"classifier"`` or ``"events"``.

    Raises:
        WeightsError: As for :func:`read_weights`; or the file is of another kind.
    """
    weights = _read(path)
    found = weights.header.get("kind", "network")
    if found != kind or not all(head_of(state) for state in weights.members):
        raise WeightsError(
            f"Loading weights from {path} failed: the file is of kind '{found}'; expected '{kind}'. Choose a file that "
            f"`howdah tap {MADE_BY.get(kind, 'train')}` wrote."
        )
    return weights


def network_part(weights: Weights) -> Weights:
    """Return weights without the head of a task; the header stays."""
    members = tuple(
        {key: value for key, value in state.items() if not key.startswith(HEAD)} for state in weights.members
    )
    return replace(weights, members=members)


def head_of(state: Mapping[str, Any]) -> State:
    """Return the entries of a task's head, without ``head.`` before their names; empty where there are none."""
    return {key.removeprefix(HEAD): value for key, value in state.items() if key.startswith(HEAD)}


def network_of(weights: Weights, member: int = 0) -> Tap:
    """Build the network that weights are of, with them in it, for prediction (``eval``), on the CPU.

    Args:
        weights: As :func:`read_weights`, :func:`read_task` or the training gives them; the header holds ``network``.
        member: Which one, of an ensemble.
    """
    network = Tap(**weights.header["network"])
    network.load_state_dict(network_part(weights).members[member])
    return network.eval()


def _read(path: str | os.PathLike[str]) -> Weights:
    if _is_whole(Path(path)):
        raise WeightsError(
            f"Loading weights from {path} failed: it is a whole pickled network, which may run any program when it is read. Choose "
            "the file model_state.pt, which the published code writes beside it."
        )
    weights = load_weights(path, method=METHOD, expected=_expected)
    stated = weights.header.get("network")
    found = [form_of(state) for state in weights.members]
    if any(form != found[0] for form in found):
        raise WeightsError(f"Loading weights from {path} failed: its members are of different networks. Train again.")
    if stated is not None:
        return replace(weights, header={**weights.header, "network": _checked(path, stated, found[0])})
    if "sha256" in weights.header or len(found[0]["pools"][0]) == 3:
        raise WeightsError(
            f"Loading weights from {path} failed: its header does not say how the network was made ('network' is missing). Train again."
        )
    return replace(weights, header={**weights.header, **_as_published(found[0])})


def _as_published(form: Mapping[str, Any]) -> dict[str, Any]:
    """What the header of a published file would say."""
    config: dict[str, Any] = {
        **PUBLISHED,
        "dimensions": 2,
        "features": form["features"],
        "width": form["width"],
        "head": form["head"],
    }
    if form["channels"] > 1:
        config["channels"] = tuple(range(form["channels"]))
    known = TapConfig.of(config, source="what is published").model_dump(mode="json", exclude_unset=True)
    return {"kind": "network", "config": {}, "resolved": known, "network": dict(form)}


def _expected(state: State) -> Mapping[str, tuple[int, ...]]:
    """Return the shapes that fit the first layers of a state dict; those of the paper where it is not one of ours."""
    heads = {key: tuple(value.shape) for key, value in state.items() if key.startswith(HEAD)}
    try:
        fits = state[FIRST].ndim in (4, 5)
        return {**shapes(form_of(state) if fits else {}), **heads}
    except (KeyError, IndexError):
        return {**shapes({}), **heads}


def _checked(path: str | os.PathLike[str], stated: Any, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the header says of the network, if it is what the numbers say.

    Raises:
        WeightsError: It is not.
    """
    form = dict(stated) if isinstance(stated, Mapping) else {}
    frames = form.get("frames")
    sees = isinstance(frames, int) and (
        2 <= frames <= MOST_FRAMES if found["head"] == "equivariant" else frames == found["frames"]
    )
    follows = all(form.get(name) == found[name] for name in ("channels", "width", "features", "head"))
    if not sees or not follows or set(form) != set(found) or not _are_pools(form["pools"], len(found["pools"][0])):
        raise WeightsError(
            f"Loading weights from {path} failed: its header speaks of a network {stated}, but the weights are of {dict(found)}."
        )
    return form


def _are_pools(pools: object, dimensions: int) -> bool:
    """Tell whether this says what each pooling halves."""
    return (
        isinstance(pools, list)
        and len(pools) == DEPTH
        and all(
            isinstance(pool, list) and len(pool) == dimensions and all(factor in (1, 2) for factor in pool)
            for pool in pools
        )
    )


def _is_whole(file: Path) -> bool:
    """Tell whether a file is a network that the published code pickled whole; nothing in it is run."""
    if not file.is_file() or not zipfile.is_zipfile(file):
        return False
    try:
        with zipfile.ZipFile(file) as opened:
            pickles = [name for name in opened.namelist() if name.endswith("data.pkl")]
            return any(WHOLE in opened.read(name) for name in pickles)
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError):
        return False
