"""The network for prediction on a processor or GPU: the same numbers in less time."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from howdah.methods.efficientcellseg.network import EfficientCellSeg

__all__ = ["Pointwise", "folded", "ready"]

Tensor = torch.Tensor


def ready(network: EfficientCellSeg, device: torch.device) -> EfficientCellSeg:
    """Return a copy for prediction on a device: folded, channels last; on the processor 1 x 1 convolutions are matrix products.

    Pictures should be channels last, too; others work.
    """
    fast = folded(network)
    if device.type == "cpu":
        for part in list(fast.modules()):
            for name, child in list(part.named_children()):
                if isinstance(child, nn.Conv2d) and child.kernel_size == (1, 1) and child.stride == (1, 1):
                    setattr(part, name, Pointwise(child))
    return fast.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


class Pointwise(nn.Module):
    """A 1 x 1 convolution as a matrix product, without copies where the map is channels last. PyTorch's own convolution takes a slow
    path there on one thread.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight = nn.Parameter(conv.weight.detach().flatten(1).clone(), requires_grad=False)
        self.bias = None if conv.bias is None else nn.Parameter(conv.bias.detach().clone(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of a map (B, C, Y, X)."""
        return nn.functional.linear(x.permute(0, 2, 3, 1), self.weight, self.bias).permute(0, 3, 1, 2)


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
