"""The network over a frame that is too large for it at once, strip by strip and layer by layer, with the result of a whole frame.

The norms of the network need mean and variance over everything that it sees, so tiles that go through it one after another
give another result than the whole frame. Here each convolution goes over the frame in strips along y, with one row more on both
sides; what it gives is kept, its mean and variance are added up meanwhile, and the next layer applies the norm to the strips
that it reads. Nothing is computed twice but those rows, and only two layers are in memory at a time (and the skips).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from howdah.methods.elephant.network import UNet
from howdah.nn.device import Place

Tensor = torch.Tensor

__all__ = ["STRIPS_MB", "bytes_per_voxel", "stream"]

STRIP_VOXELS = 600_000  # of a strip; with smaller ones, the C library's heap breaks into pieces and takes more
STRIPS_MB = 350.0  # what the strips take, whatever the size of the frame
CHANNELS = 48  # kept for each voxel of the frame at the worst moment, skips and coarser levels included


def bytes_per_voxel(place: Place) -> float:
    """Return the memory that :func:`stream` takes for each voxel of the frame, besides :data:`STRIPS_MB`."""
    return CHANNELS * place.precision.itemsize + 70.0


@dataclass
class _Layer:
    """What a layer gave: raw values after its ReLU, and the norm that is still to be applied, by channel."""

    raw: Tensor  # (1, C, Z, Y, X)
    factor: Tensor  # (1, C, 1, 1, 1)
    shift: Tensor

    def rows(self, start: int, stop: int) -> Tensor:
        """Normed values of rows, zeros beyond the frame."""
        n = self.raw.shape[3]
        low, high = max(start, 0), min(stop, n)
        values = torch.addcmul(self.shift, self.raw[:, :, :, low:high], self.factor)
        if start < low or high < stop:
            values = F.pad(values, (0, 0, low - start, stop - high))
        return values.contiguous(memory_format=torch.channels_last_3d)


def stream(network: UNet, image: Tensor, keep_axials: Sequence[bool], place: Place) -> Tensor:
    """Return log-probabilities (3, Z, Y, X) float32 on the CPU, as ``network(image, keep_axials)`` gives them.

    Args:
        network: On the device of ``place``.
        image: (Z, Y, X) float32 on the CPU; sizes are multiples of what the pooling needs.
        keep_axials: As for the network.
        place: Where to compute; what is kept between layers is in its precision.
    """
    factors = [(1, 2, 2) if keep else (2, 2, 2) for keep in keep_axials]
    one, none = torch.ones(1, 1, 1, 1, 1, device=place.device), torch.zeros(1, 1, 1, 1, 1, device=place.device)
    with torch.inference_mode(), place.autocast():
        x = _Layer(image[None, None].to(place.device), one, none)
        skips = []
        for block, factor in zip(network.encoder, factors, strict=True):
            skips.append(_block(block, [(x, (1, 1, 1))], place))
            x = _pooled(skips[-1], factor)
        x = _block(network.base, [(x, (1, 1, 1))], place)
        for block, factor in zip(network.decoder, reversed(factors), strict=True):
            x = _block(block, [(skips.pop(), (1, 1, 1)), (x, factor)], place)
        result = torch.empty((3, *image.shape), dtype=torch.float32)
        for start, stop in _strips(x.raw):
            logits = network.out_conv(x.rows(start, stop))
            result[:, :, start:stop] = F.log_softmax(logits.float(), dim=1)[0].cpu()
    return result


def _block(block: nn.Module, inputs: list[tuple[_Layer, tuple[int, int, int]]], place: Place) -> _Layer:
    """Two times convolution, ReLU and norm over layers beside each other, each repeated by its factors (z, y, x)."""
    layers: tuple[Any, ...] = tuple(block.children())
    conv, _, norm, second, _, last = layers
    between = _convolved(conv, norm, inputs, place)
    inputs.clear()
    return _convolved(second, last, [(between, (1, 1, 1))], place)


def _convolved(
    conv: nn.Conv3d, norm: nn.GroupNorm, inputs: list[tuple[_Layer, tuple[int, int, int]]], place: Place
) -> _Layer:
    first = inputs[0][0].raw
    raw = torch.empty(
        (1, conv.out_channels, *first.shape[2:]),
        dtype=place.precision,
        device=place.device,
        memory_format=torch.channels_last_3d,
    )
    n, mean, spread = (
        0,
        torch.zeros(norm.num_groups, dtype=torch.float64),
        torch.zeros(norm.num_groups, dtype=torch.float64),
    )
    for start, stop in _strips(first):
        x = torch.cat([_repeated(layer, factor, start - 1, stop + 1) for layer, factor in inputs], dim=1)
        y = F.relu_(_convolution(conv, x))
        raw[:, :, :, start:stop] = y
        grouped = y.float().permute(0, 2, 3, 4, 1).reshape(-1, norm.num_groups, conv.out_channels // norm.num_groups)
        count = grouped.shape[0] * grouped.shape[2]
        variance, middle = (s.double().cpu() for s in torch.var_mean(grouped, dim=(0, 2), correction=0))
        step = middle - mean  # two sets of numbers joined: mean and sum of squares about it
        spread += variance * count + step**2 * (n * count / (n + count))
        mean += step * (count / (n + count))
        n += count
    each = conv.out_channels // norm.num_groups
    width = torch.rsqrt(spread / n + norm.eps).repeat_interleave(each).to(place.device)
    factor = (
        norm.weight.double().to(place.device) * width if place.device.type != "mps" else norm.weight * width.float()
    )
    shift = norm.bias - mean.repeat_interleave(each).to(factor) * factor
    return _Layer(raw, factor.float().view(1, -1, 1, 1, 1), shift.float().view(1, -1, 1, 1, 1))


def _convolution(conv: nn.Conv3d, x: Tensor) -> Tensor:
    """Convolve a strip that brings its neighbour rows along y; along z and x zeros are around it."""
    if x.shape[2] == 1:  # see network.Conv: the outer planes of the kernel meet padding only
        return F.conv3d(x, conv.weight[:, :, 1:2], conv.bias, padding=(0, 0, 1))
    return F.conv3d(x, conv.weight, conv.bias, padding=(1, 0, 1))


def _repeated(layer: _Layer, factor: tuple[int, int, int], start: int, stop: int) -> Tensor:
    """Rows of a layer whose voxels are repeated along z, y and x (nearest-neighbour upsampling)."""
    if factor == (1, 1, 1):
        return layer.rows(start, stop)
    low, high = start // factor[1], -(-stop // factor[1])
    near = F.interpolate(layer.rows(low, high), scale_factor=[float(f) for f in factor], mode="nearest")
    return near[:, :, :, start - low * factor[1] : stop - low * factor[1]]


def _pooled(layer: _Layer, factor: tuple[int, int, int]) -> _Layer:
    parts = [F.max_pool3d(layer.rows(start, stop), factor) for start, stop in _strips(layer.raw)]
    ones = torch.ones_like(layer.factor)
    return _Layer(torch.cat(parts, dim=3).to(layer.raw.dtype), ones, torch.zeros_like(ones))


def _strips(x: Tensor) -> Iterator[tuple[int, int]]:
    """Rows of strips; each begins at an even row."""
    depth, n, width = x.shape[2:]
    height = max(2, STRIP_VOXELS // (depth * width) // 2 * 2)
    for start in range(0, n, height):
        yield start, min(start + height, n)
