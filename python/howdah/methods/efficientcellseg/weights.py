"""Weights of EfficientCellSeg: files of ours, Keras models of the published network (HDF5), and the published ONNX files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bdv_io.errors import BdvIoError
from bdv_io.keras_h5 import is_hdf5, read_keras_weights
from howdah.errors import WeightsError
from howdah.methods.efficientcellseg.config import EfficientCellSegConfig, EncoderName, Fault
from howdah.methods.efficientcellseg.encoders import ENCODERS
from howdah.methods.efficientcellseg.fast import folded
from howdah.methods.efficientcellseg.keras_names import INNERMOST, from_keras
from howdah.methods.efficientcellseg.network import EfficientCellSeg, shapes
from howdah.nn.checkpoint import State, Weights, load_weights

__all__ = ["METHOD", "network_header", "network_of", "read_weights"]

METHOD = "efficientcellseg"
ONNX = "onnx"  # the one entry of the state of an ONNX network: the file's bytes
INNER, LAST = "encoder.conv_pw.weight", "last.weight"
PUBLISHED = {  # how the published networks see a volume; their files do not say it
    "centres": "none",
    "percentiles": (0.0, 100.0),
    "enlarge": 1.0,
    "fit_frame": True,
    "colour": "context",
    "colour_area": 0.03,
}
PUBLISHED_SCALING: tuple[Fault, ...] = ("dark_input", "root_std")
FAULTS = ("dark_input", "root_std")


def read_weights(path: str | os.PathLike[str]) -> Weights:
    """Read a weights file; its header says under ``network`` what :func:`network_of` builds.

    Files of ours may hold several members. Of Keras and ONNX there is one, and the header's ``config`` holds what the published code
    does with images.

    Raises:
        WeightsError: The file is missing, damaged, of another method or network (see
            :func:`howdah.nn.checkpoint.load_weights`), or its header contradicts its numbers.
    """
    file = Path(path)
    if file.is_file() and file.suffix.lower() == ".onnx":
        content = torch.frombuffer(bytearray(file.read_bytes()), dtype=torch.uint8)
        network = {ONNX: True, "outputs": [["cell"]], "scaling": list(PUBLISHED_SCALING)}
        return _as_published({ONNX: content}, file, network)
    if file.is_file() and is_hdf5(file):
        return _of_keras(file)
    weights = load_weights(path, method=METHOD, expected=_expected)
    if all(ONNX in state for state in weights.members):
        return weights
    found = [_seen(state) for state in weights.members]
    if any(each[:2] != found[0][:2] for each in found):
        raise WeightsError(f"Loading weights from {path} failed: its members are of different networks. Train again.")
    encoder, filters, _ = found[0]
    stated = weights.header.get("network")
    network = (
        network_header(encoder, filters, [_called(each[2], path) for each in found])
        if stated is None
        else _checked(path, stated, found)
    )
    return replace(weights, header={**weights.header, "network": network})


def network_of(weights: Weights, member: int = 0, *, fold: bool = False) -> nn.Module:
    """Build the network that weights are of, with them in it, for prediction (``eval``), on the CPU.

    Args:
        weights: As :func:`read_weights` or the training gives them; the header holds ``network``.
        member: Which one, of an ensemble.
        fold: For prediction only: its normalisations become part of its convolutions.

    Returns:
        A module that turns pictures (B, 3, Y, X), float32 0..1, into logits (B, outputs, Y, X). Y and X are multiples of 16, but of an
        ONNX network what it says.
    """
    state, network = weights.members[member], weights.header["network"]
    if network.get(ONNX):
        from howdah.methods.efficientcellseg.onnx_network import OnnxNetwork

        return OnnxNetwork(state[ONNX].numpy().tobytes()).eval()
    built = EfficientCellSeg(
        network["encoder"],
        filters=network["filters"],
        outputs=len(network["outputs"][member]),
        compat=network.get("scaling", ()),
    )
    built.load_state_dict(state)
    return folded(built.eval()) if fold else built.eval()


def network_header(
    encoder: EncoderName,
    filters: tuple[int, ...],
    outputs: list[list[str]],
    *,
    scaling: tuple[str, ...] | list[str] = (),
) -> dict[str, Any]:
    """Return what the header of a weights file says of the network, under ``network``.

    Args:
        encoder: Which EfficientNet.
        filters: Of the decoder.
        outputs: Names of the channels of each member: ``cell``, ``centre``.
        scaling: Faults of the published code's input that the network was trained with; of ``compat``, others are left out.
    """
    return {
        "encoder": encoder,
        "filters": list(filters),
        "outputs": [list(each) for each in outputs],
        "scaling": [fault for fault in scaling if fault in FAULTS],
    }


def _of_keras(file: Path) -> Weights:
    try:
        read = read_keras_weights(file)
    except BdvIoError as error:
        raise WeightsError(str(error)) from error
    made = from_keras(read.arrays, layers=read.layers, source=str(file))
    wanted = shapes(made.encoder, made.filters, made.outputs)
    bad = [key for key, shape in wanted.items() if key not in made.state or tuple(made.state[key].shape) != shape]
    if bad:
        raise WeightsError(
            f"Loading weights from {file} failed: {len(bad)} entries of a network with encoder '{made.encoder}' are missing or have "
            f"another shape ({', '.join(bad[:3])}). The file belongs to another network."
        )
    broken = [key for key in wanted if not bool(torch.isfinite(made.state[key]).all())]
    if broken:
        raise WeightsError(f"Loading weights from {file} failed: '{broken[0]}' holds values that are not finite.")
    network = network_header(made.encoder, made.filters, [_called(made.outputs, file)], scaling=made.scaling)
    return _as_published({key: made.state[key] for key in wanted}, file, network)


def _as_published(state: State, file: Path, network: dict[str, Any]) -> Weights:
    compat = [*network["scaling"], "colouring", "plain_grid"]
    known: dict[str, Any] = {key: network[key] for key in ("encoder", "filters") if key in network}
    config = EfficientCellSegConfig.of({**PUBLISHED, **known, "compat": compat}, source="what is published").model_dump(
        mode="json"
    )
    header = {"method": METHOD, "source": file.name, "config": config, "resolved": {}, "network": network}
    return Weights((state,), header)


def _called(outputs: int, path: str | os.PathLike[str]) -> list[str]:
    """Names of the channels of a network whose file does not say them."""
    if outputs not in (1, 2):
        raise WeightsError(
            f"Loading weights from {path} failed: the network has {outputs} outputs; expected one or two."
        )
    return ["cell", "centre"][:outputs]


def _seen(state: Mapping[str, Any]) -> tuple[EncoderName, tuple[int, ...], int]:
    """What names and shapes say of a network: encoder, filters, channels of the result.

    Raises:
        KeyError: It is none of ours.
    """
    encoder = INNERMOST[state[INNER].shape[0]]
    deeper = encoder == "b0" and "encoder.blocks.1.2.conv_pw.weight" in state
    number = int(encoder.removeprefix("b")) + deeper
    size = f"b{number}" if any(".se." in key for key in state) else f"lite{number}"
    filters = tuple(int(state[f"decoder.{step}.0.weight"].shape[0]) for step in range(4))
    named: EncoderName = next(name for name in ENCODERS if name == size)
    return named, filters, int(state[LAST].shape[0])


def _expected(state: State) -> Mapping[str, tuple[int, ...]]:
    """Return the shapes that fit the innermost layers of a state dict; those of the paper where it is not one of ours."""
    if set(state) == {ONNX}:
        return {ONNX: tuple(state[ONNX].shape)}
    try:
        return shapes(*_seen(state))
    except (KeyError, IndexError, StopIteration):
        return shapes("b5", (64, 48, 32, 16), 1)


def _checked(
    path: str | os.PathLike[str], stated: Any, found: list[tuple[EncoderName, tuple[int, ...], int]]
) -> dict[str, Any]:
    """Return what the header says of the network, if it is what the numbers say.

    Raises:
        WeightsError: It is not.
    """
    encoder, filters, _ = found[0]
    counts = [each[2] for each in found]
    if not isinstance(stated, Mapping):
        raise WeightsError(
            f"Loading weights from {path} failed: its header is damaged ('network' is {stated!r}). Train again."
        )
    outputs, scaling = stated.get("outputs"), stated.get("scaling", [])
    named = (
        isinstance(outputs, list)
        and isinstance(scaling, list)
        and all(isinstance(each, list) and set(each) <= {"cell", "centre"} for each in outputs)
    )
    if (
        not named
        or not set(scaling) <= set(FAULTS)
        or [len(each) for each in outputs or []] != counts
        or stated.get("encoder") != encoder
        or list(stated.get("filters") or []) != list(filters)
    ):
        raise WeightsError(
            f"Loading weights from {path} failed: its header speaks of a network {dict(stated)}, but the weights are of encoder "
            f"'{encoder}' with filters {list(filters)} and {counts} outputs."
        )
    return network_header(encoder, filters, outputs or [], scaling=scaling)
