"""The network for prediction: its normalisations are part of its convolutions, and what is linear is done once.

The numbers are those of :class:`howdah.methods.tap.network.Tap` in evaluation, to about 1e-6 in float32. The last 1 x 1 convolution of the
U-Net, the one of the projection, and its normalisation are one linear map; it stays float32 whatever the precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_weights

from howdah.methods.tap.network import SLOPE, Tap
from howdah.nn.device import Place

__all__ = ["FoldedNet"]

Tensor = torch.Tensor
Conv = tuple[Tensor, Tensor]
ORDER = {2: torch.channels_last, 3: torch.channels_last_3d}


class FoldedNet:
    """The feature extractor with its projection, for prediction only.

    Args:
        network: In evaluation mode; it is not changed.
        place: Where, and in which precision.

    Attributes:
        pools: Factors of the poolings.
        multiple: What each spatial axis of an image is a multiple of.
    """

    def __init__(self, network: Tap, place: Place) -> None:
        self.pools: list[tuple[int, ...]] = list(network.backbone.pools)
        self.multiple = tuple(prod(pool[axis] for pool in self.pools) for axis in range(len(self.pools[0])))
        self.place = place
        dimensions = len(self.multiple)
        self._order: Any = ORDER[dimensions]
        self._conv: Any = functional.conv2d if dimensions == 2 else functional.conv3d
        self._pool: Any = functional.max_pool2d if dimensions == 2 else functional.max_pool3d
        self._border = (1, 1) * dimensions
        with torch.no_grad():
            self._down = [self._block(block) for block in network.backbone.l_conv]
            self._up = [self._block(block) for block in network.backbone.r_conv]
            self._last = self._joined(network)

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        """Return features (N, F, *S), float32, of images (N, C, *S) whose axes are multiples of ``multiple``.

        The result lies in memory with the features of a pixel side by side.
        """
        x = x.to(device=self.place.device, dtype=self.place.precision).contiguous(memory_format=self._order)
        skips: list[Tensor] = []
        for level, factors in enumerate(self.pools):
            x = self._twice(x, self._down[level])
            skips.append(x)
            x = self._pool(x, factors)
        x = self._twice(x, self._down[-1])
        for level in reversed(range(len(self.pools))):
            wide = functional.interpolate(x, scale_factor=[float(f) for f in self.pools[level]], mode="nearest")
            x = self._twice(torch.cat([skips.pop(), wide], dim=1), self._up[level])
        weight, bias = self._last
        flat = x.movedim(1, -1).to(torch.float32)
        found: Tensor = functional.linear(flat, weight, bias).movedim(-1, 1)
        return found

    def _twice(self, x: Tensor, block: Sequence[Conv]) -> Tensor:
        for weight, bias in block:
            x = self._conv(functional.pad(x, self._border, mode="replicate"), weight, bias)
            x = functional.leaky_relu_(x, SLOPE)
        return x

    def _block(self, block: Any) -> list[Conv]:
        layers = block.conv_block
        return [self._ready(*_fused(layers[at], layers[at + 1])) for at in (0, 3)]

    def _ready(self, weight: Tensor, bias: Tensor) -> Conv:
        weight = weight.to(self.place.device, self.place.precision)
        return weight.contiguous(memory_format=self._order), bias.to(self.place.device, self.place.precision)

    def _joined(self, network: Tap) -> Conv:
        """The head of the U-Net and the projection as one matrix and one vector."""
        inner: Any = network.backbone.head
        weight, bias = _fused(network.projection_head.layers[0], network.projection_head.layers[1])
        outer = weight.flatten(1)
        joint = outer @ inner.weight.detach().double().flatten(1)
        shift = outer @ inner.bias.detach().double() + bias
        return joint.to(self.place.device, torch.float32), shift.to(self.place.device, torch.float32)


def _fused(conv: Any, norm: Any) -> Conv:
    """Weight and bias, float64, of a convolution with the normalisation after it."""
    weight, bias = fuse_conv_bn_weights(
        conv.weight.detach().double(),
        conv.bias.detach().double(),
        norm.running_mean.double(),
        norm.running_var.double(),
        norm.eps,
        norm.weight.detach().double(),
        norm.bias.detach().double(),
    )
    return weight.detach(), bias.detach()
