"""Weights of the published network as Keras names them, under our names.

Keras calls the layers of block j of stage i ``block3a_expand_conv`` and so on; the published code puts ``en_`` before those of the encoder
and calls the decoder's ``de_conv2d_00`` (step, first or second), ``de_batchnorm00``, ``de_conv2d_last``. Kernels are (Y, X, in, out),
depthwise ones (Y, X, in, 1).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from howdah.errors import WeightsError
from howdah.methods.efficientcellseg.config import EncoderName, Fault
from howdah.methods.efficientcellseg.encoders import ENCODERS
from howdah.nn.checkpoint import State

__all__ = ["Converted", "from_keras"]

F32 = npt.NDArray[np.float32]
Arrays = Mapping[tuple[str, str], F32]

INNERMOST: dict[int, EncoderName] = {672: "b0", 720: "b2", 816: "b3", 960: "b4", 1056: "b5", 1200: "b6", 1344: "b7"}
BLOCK = re.compile(r"block([1-7])([a-z])_(\w+)")
DECODER = re.compile(r"de_(conv2d|batchnorm)_?([0-3])([01])")
OPENING = {"expand_conv": "conv_pw", "expand_bn": "bn1", "dwconv": "conv_dw", "bn": "bn2"}
REST = {"project_conv": "conv_pwl", "project_bn": "bn3", "se_reduce": "se.conv_reduce", "se_expand": "se.conv_expand"}
FIRST_STAGE = {"dwconv": "conv_dw", "bn": "bn1", "project_conv": "conv_pw", "project_bn": "bn2"}  # it expands nothing
NORMALISATION = {
    "gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var",
    "0": "weight", "1": "bias", "2": "running_mean", "3": "running_var",
}  # fmt: skip
CONVOLUTION = {"kernel": "weight", "depthwise_kernel": "weight", "bias": "bias", "0": "weight", "1": "bias"}
CLOSE = 1e-3


class Converted(NamedTuple):
    """A network of Keras in our terms.

    Attributes:
        state: For :class:`howdah.methods.efficientcellseg.network.EfficientCellSeg`.
        encoder: Which EfficientNet. filters: Of the decoder. outputs: Channels of the result.
        scaling: What it does otherwise than ours with its input: ``dark_input`` (always), ``root_std``.
    """

    state: State
    encoder: EncoderName
    filters: tuple[int, ...]
    outputs: int
    scaling: tuple[Fault, ...]


def from_keras(arrays: Arrays, *, layers: Sequence[str] = (), source: str = "a Keras model") -> Converted:
    """Turn arrays of the published network into our state dict. Their shapes are checked by who loads them.

    Args:
        arrays: By layer and array (see :mod:`bdv_io.keras_h5`).
        layers: Names of all layers, if known: a second rescaling tells that the standard deviations are right.
        source: Where they come from, for errors.

    Raises:
        WeightsError: Layers of the published network are missing, or the input is normalised in an unknown way.
    """
    state: State = {}
    for (layer, array), values in arrays.items():
        name = _ours(layer.removeprefix("en_"))
        entry = (NORMALISATION if name and _is_norm(layer) else CONVOLUTION).get(array)
        if name and entry:
            state[f"{name}.{entry}"] = torch.from_numpy(_turned(np.ascontiguousarray(values), layer))
            if entry == "running_mean":
                state[f"{name}.num_batches_tracked"] = torch.zeros((), dtype=torch.long)
    needed = ["encoder.conv_stem", "encoder.conv_pw", "last", *(f"decoder.{step}.0" for step in range(4))]
    missing = [name for name in needed if f"{name}.weight" not in state]
    if missing:
        raise WeightsError(
            f"Converting {source} failed: it has no layers for {', '.join(missing)}. Expected are those of the published network "
            "(en_stem_conv, en_block1a_dwconv ... de_conv2d_00 ... de_conv2d_last)."
        )
    inner = state["encoder.conv_pw.weight"].shape[0]
    if inner not in INNERMOST:
        raise WeightsError(
            f"Converting {source} failed: the innermost map has {inner} channels, as no EfficientNet B0 to B7 has."
        )
    encoder = INNERMOST[inner]
    if encoder == "b0" and "encoder.blocks.1.2.conv_pw.weight" in state:
        encoder = "b1"  # as wide, but deeper
    filters = tuple(state[f"decoder.{step}.0.weight"].shape[0] for step in range(4))
    return Converted(state, encoder, filters, state["last.weight"].shape[0], _scaling(arrays, layers, source))


def _is_norm(layer: str) -> bool:
    return layer.endswith("bn") or "batchnorm" in layer


def _ours(layer: str) -> str | None:
    """Return our name of a layer, None for those that are no part of the network or hold nothing that is learned."""
    fixed = {"stem_conv": "encoder.conv_stem", "stem_bn": "encoder.bn1", "de_conv2d_last": "last"}
    fixed |= {"block6a_expand_conv": "encoder.conv_pw", "block6a_expand_bn": "encoder.bn2"}
    if layer in fixed:
        return fixed[layer]
    if found := DECODER.fullmatch(layer):
        kind, step, second = found.groups()
        return f"decoder.{step}.{3 * int(second) + (kind == 'batchnorm')}"
    if (found := BLOCK.fullmatch(layer)) and int(found[1]) < 6:
        stage, place, part = int(found[1]) - 1, ord(found[2]) - ord("a"), found[3]
        names = {**OPENING, **REST, **(FIRST_STAGE if stage == 0 else {})}
        return f"encoder.blocks.{stage}.{place}.{names[part]}" if part in names else None
    return None


def _turned(values: F32, layer: str) -> F32:
    """Bring a kernel into the order (out, in, Y, X), of a depthwise one (in, 1, Y, X)."""
    if values.ndim != 4:
        return values.copy()
    return np.ascontiguousarray(values.transpose((2, 3, 0, 1) if layer.endswith("dwconv") else (3, 2, 0, 1)))


def _scaling(arrays: Arrays, layers: Sequence[str], source: str) -> tuple[Fault, ...]:
    """Tell from the numbers of the input's normalisation what the network does with its input (sheet: the published one divides twice
    by 255, and by the root of the standard deviations)."""
    found = {array: values for (layer, array), values in arrays.items() if layer.removeprefix("en_") == "normalization"}
    mean, variance = found.get("mean", found.get("0")), found.get("variance", found.get("1"))
    if mean is None or variance is None:
        return ("dark_input", "root_std")  # the file leaves out what is not learned: as published
    facts = ENCODERS["b5"]
    again = sum("rescaling" in layer for layer in layers) > 1
    if np.allclose(mean.ravel(), facts.mean, atol=CLOSE):
        if np.allclose(variance.ravel(), facts.std, atol=CLOSE):
            return ("dark_input",) if again else ("dark_input", "root_std")
        if np.allclose(variance.ravel(), np.square(facts.std), atol=CLOSE):
            return ("dark_input",)
    raise WeightsError(
        f"Converting {source} failed: its input is normalised with the means {mean.ravel()} and variances {variance.ravel()}; expected "
        f"are ImageNet's, {facts.mean}, and the squares {np.square(facts.std)}, or as published {facts.std}."
    )
