"""The network for prediction: its normalisations, which are fixed by then, are part of the convolutions before them."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from howdah.methods.embedtrack.network import BranchedERFNet
from howdah.nn.checkpoint import State

__all__ = ["folded", "ready"]


def ready(
    state: State, device: torch.device, *, n_dims: int, n_channels: int = 1, keep_axials: int = 0
) -> BranchedERFNet:
    """Return a network with these weights for prediction on a device: folded, in the order of memory that is fastest there."""
    network = BranchedERFNet(n_dims, n_channels, keep_axials)
    network.load_state_dict(state)
    order = torch.channels_last if n_dims == 2 else torch.channels_last_3d
    return folded(network.eval()).to(device=device, memory_format=order)  # type: ignore[call-overload, no-any-return]


@torch.no_grad()
def folded(network: BranchedERFNet) -> BranchedERFNet:
    """Return a copy for prediction that gives the same numbers (to about 1e-6) in a tenth less time.

    A normalisation after one convolution is folded into it. Where a convolution and a pooling meet before it (three places) it stays.
    """
    network = copy.deepcopy(network).eval()
    parts: list[Any] = list(network.modules())
    for part in parts:
        if hasattr(part, "names"):  # a residual block
            for number in (1, 2):
                last = f"{part.names[-1]}_{number}"
                _fold(part, last, f"bn{number}")
        elif isinstance(getattr(part, "conv", None), nn.ConvTranspose2d | nn.ConvTranspose3d):
            _fold(part, "conv", "bn")
    return network


def _fold(block: nn.Module, conv: str, norm: str) -> None:
    before: Any = getattr(block, conv)
    transposed = isinstance(before, nn.ConvTranspose2d | nn.ConvTranspose3d)
    setattr(block, conv, fuse_conv_bn_eval(before, getattr(block, norm), transpose=transposed))
    setattr(block, norm, nn.Identity())
