"""Weights of EmbedTrack: files of ours, and the checkpoints that the authors published.

A published checkpoint is a dict of PyTorch with the network under ``model_state_dict``, each key with ``module.`` before it,
beside ``epoch``, ``best_iou`` and the state of the optimiser. Its networks are 2D.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from howdah.errors import WeightsError
from howdah.methods.embedtrack.network import BranchedERFNet, published, shapes
from howdah.nn.checkpoint import State, Weights, load_weights

__all__ = ["METHOD", "network_header", "network_of", "read_weights"]

METHOD = "embedtrack"
FIRST, LAST = "encoder.initial_block.conv.weight", "decoders.0.output_conv.weight"


def read_weights(path: str | os.PathLike[str]) -> Weights:
    """Read a weights file, ours or the authors'; its header says under ``network`` what :func:`network_of` builds.

    Raises:
        WeightsError: The file is missing, damaged, of another method or network (see
            :func:`howdah.nn.checkpoint.load_weights`), or does not say how its 3D network was made.
    """
    weights = load_weights(path, method=METHOD, expected=_expected)
    found = _seen(weights.members[0])
    stated = weights.header.get("network")
    if stated is None and found["keep_axials"] > 0:
        raise WeightsError(
            f"Loading weights from {path} failed: they are of a 3D network that leaves z alone in some poolings, and the header "
            "does not say in how many ('network' is missing). Train again."
        )
    network = found if stated is None else _checked(path, stated, found)
    return replace(weights, header={**weights.header, "network": network})


def network_of(weights: Weights, member: int = 0) -> BranchedERFNet:
    """Build the network that weights are of, with them in it, for prediction (``eval``), on the CPU.

    Args:
        weights: As :func:`read_weights` or the training gives them; the header holds ``network``.
        member: Which one, of an ensemble.
    """
    state = weights.members[member]
    network = BranchedERFNet(**{**_seen(state), **weights.header.get("network", {})})
    network.load_state_dict(state)
    return network.eval()


def network_header(n_dims: int, n_channels: int, keep_axials: int) -> dict[str, int]:
    """Return what the header of a weights file says of the network, under ``network``."""
    return {"n_dims": n_dims, "n_channels": n_channels, "keep_axials": keep_axials}


def _seen(state: Mapping[str, Any]) -> dict[str, int]:
    """What shapes say of a network; ``keep_axials`` is 1 where it is at least 1."""
    first, last = state[FIRST].shape, state[LAST].shape
    return network_header(len(first) - 2, first[1], int(len(last) == 5 and last[2] == 1))


def _expected(state: State) -> Mapping[str, tuple[int, ...]]:
    """Return the shapes that fit the first layer of a state dict; those of the paper where it is not one of ours."""
    if (
        not published(state)
        or LAST not in state
        or state[FIRST].ndim not in (4, 5)
        or state[LAST].ndim != state[FIRST].ndim
    ):
        return shapes()
    return shapes(**_seen(state))


def _checked(path: str | os.PathLike[str], stated: Any, found: Mapping[str, int]) -> dict[str, int]:
    names = ("n_dims", "n_channels", "keep_axials")
    if not isinstance(stated, Mapping) or not all(type(stated.get(name)) is int for name in names):
        raise WeightsError(
            f"Loading weights from {path} failed: its header is damaged ('network' is {stated!r}). Train again."
        )
    network = {name: int(stated[name]) for name in names}
    keep = network["keep_axials"]
    fits = 0 <= keep <= 3 and (keep > 0) == (found["keep_axials"] > 0)
    if not fits or any(network[name] != found[name] for name in names[:2]):
        raise WeightsError(
            f"Loading weights from {path} failed: its header speaks of a network {network}, but the weights are of {dict(found)}."
        )
    return network
