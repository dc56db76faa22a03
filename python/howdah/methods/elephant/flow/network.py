"""ELEPHANT's flow network: a residual 3D U-Net (paper: Algorithm for linking; Figure 4, supplement 1).

Two input channels (the earlier and the later frame, intensity 0..1), three outputs a voxel of the later frame. The attribute
names below are the keys of the published weights; they must stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from howdah.methods.elephant import network
from howdah.methods.elephant.network import BASE_WIDTH, WIDTHS, Conv, initialise, through, to_multiples

Tensor = torch.Tensor

__all__ = ["FlowNet", "shapes", "with_depth"]

SLOPE = 0.1  # of LeakyReLU below 0


class Residual(nn.Module):
    """Two convolutions beside a 1x1x1 one; the sum is halved, so that the scale of values stays (paper)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.res = nn.Conv3d(before, after, 1, bias=False)
        self.conv1 = Conv(before, after, 3, padding=1)
        self.conv2 = Conv(after, after, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Z, Y, X) -> (B, K, Z, Y, X)."""
        inner = self.conv2(F.leaky_relu(self.conv1(x), SLOPE))
        return F.leaky_relu((self.res(x) + inner) / 2, SLOPE)


def _up_block(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        Conv(before, after, 3, padding=1),
        nn.LeakyReLU(SLOPE, inplace=True),
        Conv(after, after, 3, padding=1),
        nn.LeakyReLU(SLOPE, inplace=True),
    )


class FlowNet(nn.Module):
    """The flow network; 5,928,051 parameters, 43 entries in its state dict, no norms: a tile sees what the whole would."""

    def __init__(self) -> None:
        super().__init__()
        inputs = (2, *WIDTHS)
        self.encoder = nn.ModuleList(Residual(before, after) for before, after in zip(inputs, WIDTHS, strict=False))
        self.base = Residual(WIDTHS[-1], BASE_WIDTH)
        below = (BASE_WIDTH, *reversed(WIDTHS))
        self.decoder = nn.ModuleList(
            _up_block(skip + up, skip) for skip, up in zip(reversed(WIDTHS), below, strict=False)
        )
        self.out_conv = nn.Conv3d(WIDTHS[0], 3, 1)
        initialise(self)

    def forward(self, x: Tensor, keep_axials: Sequence[bool]) -> Tensor:
        """Return the flow in units of the largest displacement.

        Args:
            x: (B, 2, Z, Y, X): earlier and later frame, intensity 0..1. Any size: edges are replicated up to the next multiple
                that the pooling needs, and cut off the result (the reference interpolates the image instead).
            keep_axials: Four flags; where True, the pooling at that level leaves z alone.

        Returns:
            (B, 3, Z, Y, X) float32 in -1..1, the displacement (z, y, x) from each voxel of the later frame to its place in
            the earlier one. (The published weights give x, y, z; the order is turned here.)
        """
        x, inner = to_multiples(x, keep_axials)
        y = self.out_conv(through(x, keep_axials, encoder=self.encoder, base=self.base, decoder=self.decoder))
        return torch.tanh(y[inner].float()).flip(1)


def shapes() -> dict[str, tuple[int, ...]]:
    """Return the shape of each entry of the state dict, without allocating the network."""
    with torch.device("meta"):
        return {key: tuple(value.shape) for key, value in FlowNet().state_dict().items()}


def with_depth(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict of a published 2D network (2,006,050 parameters) as one of this 3D network.

    Kernels become middle planes, and an output for z is added that is always 0. A 3D state dict stays as it is.
    """
    grown = network.with_depth(state)
    for key in ("out_conv.weight", "out_conv.bias"):
        if key in grown and len(grown[key]) == 2:
            value = grown[key]
            grown[key] = torch.cat([value, value.new_zeros(1, *value.shape[1:])])
    return grown
