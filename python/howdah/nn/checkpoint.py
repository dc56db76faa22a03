"""Weights files: safetensors with a JSON header, written atomically; the authors' published files are read too.

A file of ours holds one network or an ensemble, and says in its header which method and settings made it, from which data,
with which result, and the SHA-256 of the numbers. Nothing in it is executed on reading. Published files are
PyTorch's own (``.pth``): one state dict, a list of them (an ensemble), or a dict with one under ``model_state_dict`` beside what
its training noted; only plain data are accepted in them.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from bdv_io.safe_write import replacing
from howdah import __version__
from howdah.errors import WeightsError

Tensor = torch.Tensor
State = dict[str, Tensor]

__all__ = ["State", "Weights", "load_weights", "read_state", "read_tensors", "save_weights", "write_tensors"]

HEADER = "howdah"
SCALARS: list[Any] = [  # training loops note numbers of numpy's, under the name of its version 1 or 2
    *(
        (type(np.float64(0)).__reduce__(np.float64(0))[0], f"numpy.{core}.multiarray.scalar")
        for core in ("core", "_core")
    ),
    np.dtype,
    np.dtypes.Float64DType,
    np.dtypes.Float32DType,
]
NESTED = "model_state_dict"  # where published files that hold more than the network keep the network


@dataclass(frozen=True)
class Weights:
    """Trained weights: one state dict, or several (an ensemble, whose outputs are averaged), and what is known of them.

    Attributes:
        members: State dicts on the CPU.
        header: ``method``, ``config``, ``version``, ``data``, ``metrics``, and what else the method notes; JSON values.
    """

    members: tuple[State, ...]
    header: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Fingerprint of the numbers: names, shapes, types and bytes of all tensors."""
        return _digest(_flat(self.members))


def save_weights(path: str | os.PathLike[str], weights: Weights) -> None:
    """Write a weights file; the one that stood there stays as ``name~1~``.

    Raises:
        WriteError, BusyError: See :func:`bdv_io.safe_write.replacing`.
    """
    write_tensors(path, _flat(weights.members), {"version": __version__, **weights.header})


def load_weights(
    path: str | os.PathLike[str],
    *,
    method: str,
    expected: Mapping[str, tuple[int, ...]] | Callable[[State], Mapping[str, tuple[int, ...]]],
    adapt: Callable[[Mapping[str, Tensor]], State] = dict,
) -> Weights:
    """Read a weights file, ours or the authors'.

    Args:
        path: The file.
        method: The method that wants them.
        expected: Shape of each entry of its state dict; or what tells it from the state dict of the file, where the
            network follows from its weights.
        adapt: Turns a published state dict into the expected form, before it is checked.

    Raises:
        WeightsError: The file is missing, damaged, made by another method, or does not fit the network.
    """
    file = Path(path)
    if not file.is_file():
        raise WeightsError(f"Loading weights failed: there is no file {file}.")
    if _is_safetensors(file):
        tensors, header = read_tensors(file)
        if header.get("method") != method:
            raise WeightsError(
                f"Loading weights from {file} for '{method}' failed: they were made by '{header.get('method')}'. "
                "Choose a file of the same method."
            )
        weights = Weights(_members(tensors), header)
    else:
        states, noted = _published(file)
        weights = Weights(states, {"method": method, "source": file.name, **noted})
    members = []
    for state in weights.members:
        plain = adapt({key.removeprefix("module."): value for key, value in state.items()})
        _check(file, plain, expected(plain) if callable(expected) else expected, method=method)
        members.append({k: v.to(torch.float32) if v.is_floating_point() else v for k, v in plain.items()})
    return replace(weights, members=tuple(members))


def write_tensors(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors and a JSON header as one safetensors file, atomically, read back before it counts."""
    tensors = {key: value.detach().to("cpu").contiguous() for key, value in tensors.items()}
    digest = _digest(tensors)
    text = json.dumps({**header, "sha256": digest}, sort_keys=True)

    def verify(written: Path) -> None:
        read_tensors(written)

    with replacing(path, verify=verify) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode  # as any new file here; safetensors would let nobody else read it
        save_file(dict(tensors), temporary, metadata={HEADER: text})
        temporary.chmod(mode)


def read_tensors(path: str | os.PathLike[str]) -> tuple[State, dict[str, Any]]:
    """Read what :func:`write_tensors` wrote.

    Raises:
        WeightsError: The file is damaged or was not written by Howdah.
    """
    try:
        with safe_open(path, framework="pt") as opened:
            header = json.loads((opened.metadata() or {}).get(HEADER, "{}"))
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118  it is no dict
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(
            f"Reading {path} failed: it is damaged or no safetensors file ({error}). Copy it again."
        ) from None
    if not isinstance(header, dict) or "sha256" not in header:
        raise WeightsError(f"Reading {path} failed: it has no header of Howdah; it was written by another program.")
    if not isinstance(header.get("resolved", {}), dict):
        raise WeightsError(f"Reading {path} failed: its header is damaged ('resolved' holds no settings). Train again.")
    if header["sha256"] != _digest(tensors):
        raise WeightsError(f"Reading {path} failed: its numbers do not fit its fingerprint; the file is damaged.")
    return tensors, header


def read_state(path: str | os.PathLike[str]) -> State:
    """Read the state dict of one network that another program wrote: safetensors, or PyTorch's own with plain tensors only.

    Returns:
        Its tensors on the CPU; a ``module.`` before all names is taken away.

    Raises:
        WeightsError: The file is missing or damaged, or holds anything else.
    """
    file = Path(path)
    if not file.is_file():
        raise WeightsError(f"Reading weights failed: there is no file {file}.")
    if _is_safetensors(file):
        try:
            state = load_file(file)
        except (SafetensorError, OSError, ValueError) as error:
            raise WeightsError(
                f"Reading {file} failed: it is damaged or no safetensors file ({error}). Copy it again."
            ) from None
    else:
        states, _ = _published(file)
        if len(states) != 1:
            raise WeightsError(f"Reading {file} failed: it holds {len(states)} networks; expected one.")
        state = states[0]
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def _is_safetensors(file: Path) -> bool:
    """Tell by content: safetensors starts with the length of a JSON object, in 8 bytes."""
    with file.open("rb") as opened:
        start = opened.read(9)
    return file.suffix == ".safetensors" or (len(start) == 9 and start[8:] == b"{")


def _published(file: Path) -> tuple[tuple[State, ...], dict[str, Any]]:
    """Return the state dicts of a published file, and under ``noted`` the plain numbers and texts beside a nested one."""
    try:
        with torch.serialization.safe_globals(SCALARS):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, pickle.UnpicklingError):  # PyTorch's sentence advises to run what is in the file
            reason = "PyTorch finds no weights in it"
        raise WeightsError(
            f"Loading weights from {file} failed: it is damaged, or holds more than plain tensors ({reason})."
        ) from None
    noted: dict[str, Any] = {}
    if isinstance(content, Mapping) and NESTED in content:
        plain = {str(k): v for k, v in content.items() if isinstance(v, bool | int | float | str)}
        plain = {k: float(v) if isinstance(v, float) else v for k, v in plain.items()}  # also of float64
        noted, content = {"noted": plain} if plain else {}, content[NESTED]
    states = content if isinstance(content, list | tuple) else [content]
    if not states or not all(_is_state(state) for state in states):
        raise WeightsError(
            f"Loading weights from {file} failed: it holds neither a state dict nor a list of them, and none under "
            f"'{NESTED}'. Save the state dict of the network alone."
        )
    return tuple(dict(state) for state in states), noted


def _is_state(content: object) -> bool:
    return isinstance(content, Mapping) and all(isinstance(v, Tensor) for v in content.values())


def _check(file: Path, state: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], *, method: str) -> None:
    missing = [key for key in expected if key not in state]
    extra = [key for key in state if key not in expected]
    if missing or extra:
        raise WeightsError(
            f"Loading weights from {file} for '{method}' failed: {len(missing)} entries are missing ({_few(missing)}) and "
            f"{len(extra)} are not known ({_few(extra)}). The file belongs to another network."
        )
    for key, shape in expected.items():
        if tuple(state[key].shape) != shape:
            raise WeightsError(
                f"Loading weights from {file} for '{method}' failed: '{key}' has shape {tuple(state[key].shape)}; "
                f"expected {shape}. The file belongs to another network."
            )
        if not bool(torch.isfinite(state[key]).all()):
            raise WeightsError(
                f"Loading weights from {file} failed: '{key}' holds values that are not finite. The training that wrote it broke down."
            )


def _few(keys: Sequence[str]) -> str:
    return (", ".join(keys[:3]) + (" ..." if len(keys) > 3 else "")) if keys else "none"


def _flat(members: Sequence[Mapping[str, Tensor]]) -> State:
    if len(members) == 1:
        return dict(members[0])
    return {f"{i}/{key}": value for i, state in enumerate(members) for key, value in state.items()}


def _members(tensors: State) -> tuple[State, ...]:
    if not any("/" in key for key in tensors):
        return (tensors,)
    members: dict[str, State] = {}
    for key, value in tensors.items():
        number, _, name = key.partition("/")
        members.setdefault(number, {})[name] = value
    return tuple(members[number] for number in sorted(members, key=lambda text: (len(text), text)))


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key in sorted(tensors):
        value = tensors[key].detach().to("cpu").contiguous()
        digest.update(f"{key} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
