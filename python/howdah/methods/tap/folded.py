"""The network for prediction: its normalisations are part of its convolutions, and what is linear is done once.

The numbers are those of :class:`howdah.methods.tap.network.Tap` in evaluation, to about 1e-6 in float32. Three things save work:

- the last 1 x 1 convolution of the U-Net, the one of the projection and its normalisation are one linear map, always in float32;
- a convolution of stacked images is the sum of the convolutions of each, so nothing is stacked;
- an enlarged image holds each pixel several times: a 3 x 3 convolution of it takes 2 x 2 coarse pixels, other weights for each of the fine
  ones (4 products instead of 9).

A frame of 512 x 512 takes 0.58 of the published code's processor time in float32 and 0.25 in bfloat16; Grad-CAM of a pair 0.13 and 0.07
(``benchmarks/bench_tap_predict.py``).
"""

from __future__ import annotations

from itertools import product
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
Step = tuple[Conv, Tensor, Conv]  # of the fine image, of the coarse one, of their sum
ORDER = {2: torch.channels_last, 3: torch.channels_last_3d}
TAPS = {  # factor -> (phase, coarse pixel, tap of the fine convolution)
    1: torch.eye(3, dtype=torch.float64)[None],
    2: torch.tensor([[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]], dtype=torch.float64),
}


class FoldedNet:
    """The feature extractor with its projection, for prediction only.

    Args:
        network: In evaluation mode; it is not changed.
        place: Where, and in which precision.

    Attributes:
        pools: Factors of the poolings.
        multiple: What each spatial axis of an image is a multiple of.
        place: Where it computes.
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
            self._up = [
                self._step(block, factors) for block, factors in zip(network.backbone.r_conv, self.pools, strict=True)
            ]
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
            fine, coarse, second = self._up[level]
            y = self._bordered(skips.pop(), *fine)
            _add_finer(y, self._bordered(x, coarse), self.pools[level])
            x = functional.leaky_relu_(y, SLOPE)
            del y
            x = functional.leaky_relu_(self._bordered(x, *second), SLOPE)
        weight, bias = self._last
        found: Tensor = functional.linear(x.movedim(1, -1).to(weight.dtype), weight, bias).movedim(-1, 1)
        return found

    def _twice(self, x: Tensor, block: tuple[Conv, Conv]) -> Tensor:
        for conv in block:
            x = functional.leaky_relu_(self._bordered(x, *conv), SLOPE)
        return x

    def _bordered(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        found: Tensor = self._conv(functional.pad(x, self._border, mode="replicate"), weight, bias)
        return found

    # ---- weights

    def _block(self, block: Any) -> tuple[Conv, Conv]:
        first, second = _of(block)
        return self._ready(*first), self._ready(*second)

    def _step(self, block: Any, factors: tuple[int, ...]) -> Step:
        (weight, bias), second = _of(block)
        n_fine = len(bias)  # the fine image has as many channels as the result
        coarse = _coarse(weight[:, n_fine:], factors)
        return self._ready(weight[:, :n_fine], bias), self._ready(coarse, bias)[0], self._ready(*second)

    def _ready(self, weight: Tensor, bias: Tensor) -> Conv:
        weight = weight.to(self.place.device, self.place.precision)
        return weight.contiguous(memory_format=self._order), bias.to(self.place.device, self.place.precision)

    def _joined(self, network: Tap) -> Conv:
        """The head of the U-Net and the projection as one matrix and one vector."""
        inner: Any = network.backbone.head
        layers = network.projection_head.layers
        outer, bias = _fused(layers[0], layers[1])
        joint = outer.flatten(1) @ inner.weight.detach().double().flatten(1)
        shift = outer.flatten(1) @ inner.bias.detach().double() + bias
        precision = torch.promote_types(torch.float32, self.place.precision)
        return joint.to(self.place.device, precision), shift.to(self.place.device, precision)


def _add_finer(y: Tensor, coarse: Tensor, factors: tuple[int, ...]) -> None:
    """Add to a fine image what was computed from a coarse one, the values of each phase behind those of the other."""
    channels = y.shape[1]
    for number, phase in enumerate(product(*(range(f) for f in factors))):
        part, target = coarse[:, number * channels : (number + 1) * channels], y
        for axis, (shift, factor) in enumerate(zip(phase, factors, strict=True), start=2):
            at = (slice(None),) * axis
            part = part[(*at, slice(shift, shift + y.shape[axis] // factor))]
            target = target[(*at, slice(shift, None, factor))]
        target += part


def _coarse(weight: Tensor, factors: tuple[int, ...]) -> Tensor:
    """Return the weights of a convolution of an enlarged image, for the image before enlarging: (phases * out, in, 2 or 3 an axis)."""
    parts = []
    for phase in product(*(range(f) for f in factors)):
        part = weight
        for axis, (shift, factor) in enumerate(zip(phase, factors, strict=True), start=2):
            part = (part.movedim(axis, -1) @ TAPS[factor][shift].T).movedim(-1, axis)
        parts.append(part)
    return torch.cat(parts)


def _of(block: Any) -> tuple[Conv, Conv]:
    layers = block.conv_block
    return _fused(layers[0], layers[1]), _fused(layers[3], layers[4])


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
