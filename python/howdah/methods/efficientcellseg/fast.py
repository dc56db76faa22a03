"""The network for prediction."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from howdah.methods.efficientcellseg.network import EfficientCellSeg

__all__ = ["folded"]


@torch.no_grad()
def folded(network: EfficientCellSeg) -> EfficientCellSeg:
    """Return a copy for prediction whose normalisations are part of the convolutions before them; the same numbers to about 1e-6."""
    network = copy.deepcopy(network).eval()
    encoder = network.encoder
    _fold(encoder, "conv_stem", "bn1")
    _fold(encoder, "conv_pw", "bn2")
    blocks: list[Any] = [block for stage in encoder.blocks for block in stage]
    for block in blocks:
        expands = hasattr(block, "conv_pwl")
        order = ("conv_pw", "conv_dw", "conv_pwl") if expands else ("conv_dw", "conv_pw")
        for number, conv in enumerate(order, 1):
            _fold(block, conv, f"bn{number}")
    for step in network.decoder:
        for place in ("0", "3"):
            _fold(step, place, str(int(place) + 1))
    return network


def _fold(part: nn.Module, conv: str, norm: str) -> None:
    """Fold a normalisation of a part into the convolution before it; the activation that timm's hold stays."""
    normalisation: Any = getattr(part, norm)
    setattr(part, conv, fuse_conv_bn_eval(getattr(part, conv), normalisation))
    setattr(part, norm, getattr(normalisation, "act", nn.Identity()))
