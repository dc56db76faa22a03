"""ELEPHANT's detection network: a 3D U-Net for any anisotropy (paper: Algorithm for detection; Figure 2 supplement 1).

One input channel (intensity 0..1), three outputs a voxel: log-probabilities of background, periphery, centre.
The attribute names below are the keys of the published weights; they must stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from howdah.errors import WeightsError

Tensor = torch.Tensor

__all__ = [
    "BACKGROUND",
    "BASE_WIDTH",
    "CENTRE",
    "PERIPHERY",
    "WIDTHS",
    "Conv",
    "UNet",
    "initialise",
    "multiples",
    "shapes",
    "through",
    "to_multiples",
    "with_depth",
]

BACKGROUND, PERIPHERY, CENTRE = 0, 1, 2
WIDTHS = (16, 32, 64, 128)
BASE_WIDTH = 256


class Conv(nn.Conv3d):
    """A 3x3x3 convolution for thin volumes.

    With one slice the outer planes of the kernel meet padding only and are skipped. With two slices oneDNN (torch 2.10 to 2.15,
    CPU, bfloat16) returns a wrong gradient of the kernel, up to 1e30; a third slice of zeros avoids it and changes nothing.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Z, Y, X) -> (B, K, Z, Y, X)."""
        depth = x.shape[2]
        if depth == 1:
            return F.conv2d(x[:, :, 0], self.weight[:, :, 1], self.bias, padding=1)[:, :, None]
        if depth == 2 and torch.is_grad_enabled() and x.device.type == "cpu":
            return super().forward(F.pad(x, (0, 0, 0, 0, 0, 1)))[:, :, :2]
        return super().forward(x)


def _block(before: int, after: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (before, after):
        layers += [
            Conv(width, after, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.GroupNorm(min(32, after), after),  # 16 and 32 channels: one group a channel
        ]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """The detection network; 5,887,011 parameters, 74 entries in its state dict.

    Weights are initialised by Kaiming's fan-in rule, biases with 0, norms with 1 and 0 (paper, same section), unless ``drawn`` is False.
    """

    def __init__(self, *, drawn: bool = True) -> None:
        super().__init__()
        inputs = (1, *WIDTHS)
        self.encoder = nn.ModuleList(_block(before, after) for before, after in zip(inputs, WIDTHS, strict=False))
        self.base = _block(WIDTHS[-1], BASE_WIDTH)
        below = (BASE_WIDTH, *reversed(WIDTHS))
        self.decoder = nn.ModuleList(_block(skip + up, skip) for skip, up in zip(reversed(WIDTHS), below, strict=False))
        self.out_conv = nn.Conv3d(WIDTHS[0], 3, 1)
        if drawn:
            initialise(self)

    def forward(self, x: Tensor, keep_axials: Sequence[bool]) -> Tensor:
        """Return log-probabilities.

        Args:
            x: (B, 1, Z, Y, X), intensity 0..1. Any size: edges are replicated up to the next multiple that the pooling
                needs, and cut off the result (the reference interpolates the image instead, which blurs it).
            keep_axials: Four flags; where True, the pooling at that level leaves z alone.

        Returns:
            (B, 3, Z, Y, X) float32: background, periphery, centre.
        """
        x, inner = to_multiples(x, keep_axials)
        logits = self.out_conv(through(x, keep_axials, encoder=self.encoder, base=self.base, decoder=self.decoder))
        return F.log_softmax(logits[inner].float(), dim=1)


def initialise(network: nn.Module) -> None:
    """Draw the weights of all convolutions by Kaiming's fan-in rule, and set biases to 0 (paper, same section)."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv3d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def to_multiples(x: Tensor, keep_axials: Sequence[bool]) -> tuple[Tensor, tuple[slice, ...]]:
    """Replicate the edges of (B, C, Z, Y, X) up to the next multiple that the pooling needs.

    Returns:
        The larger volume, and the five slices that cut the original out of it.
    """
    size = x.shape[2:]
    pads = [(-n) % m for n, m in zip(size, multiples(keep_axials), strict=True)]
    if any(pads):
        x = F.pad(x, [edge for pad in reversed(pads) for edge in (pad // 2, pad - pad // 2)], mode="replicate")
    inner = (slice(pad // 2, pad // 2 + n) for pad, n in zip(pads, size, strict=True))
    return x, (slice(None), slice(None), *inner)


def through(
    x: Tensor, keep_axials: Sequence[bool], *, encoder: nn.ModuleList, base: nn.Module, decoder: nn.ModuleList
) -> Tensor:
    """Go down and up the U: (B, C, Z, Y, X) -> (B, 16, Z, Y, X), sizes that are multiples."""
    factors = [(1, 2, 2) if keep else (2, 2, 2) for keep in keep_axials]
    skips = []
    for block, factor in zip(encoder, factors, strict=True):
        x = block(x)
        skips.append(x)  # (B, W, Z, Y, X)
        x = F.max_pool3d(x, factor)  # (B, W, Z or Z/2, Y/2, X/2)
    x = base(x)
    for block, factor in zip(decoder, reversed(factors), strict=True):
        skip = skips.pop()
        up = F.interpolate(x, scale_factor=[float(f) for f in factor], mode="nearest")
        x = block(torch.cat([skip, up], dim=1))  # skip first: so are the published weights
    return x


def multiples(keep_axials: Sequence[bool]) -> tuple[int, int, int]:
    """Return what sizes (z, y, x) must be multiples of for these pooling flags."""
    return 2 ** sum(not keep for keep in keep_axials), 2 ** len(keep_axials), 2 ** len(keep_axials)


def shapes() -> dict[str, tuple[int, ...]]:
    """Return the shape of each entry of the state dict, without allocating the network."""
    with torch.device("meta"):  # drawing numbers there would load torch's compiler, for seconds
        return {key: tuple(value.shape) for key, value in UNet(drawn=False).state_dict().items()}


def with_depth(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict of a 2D network of the authors as one of this 3D network: its kernels become middle planes.

    On an image of one slice the result is the same to the last bit of arithmetic order. A 3D state dict stays as it is.
    """
    grown = {}
    for key, value in state.items():
        if value.ndim == 4 and value.shape[-1] == 3:
            value = F.pad(value[:, :, None], (0, 0, 0, 0, 1, 1))
        elif value.ndim == 4 and value.shape[-1] == 1:
            value = value[:, :, None]
        elif value.ndim == 4:
            raise WeightsError(
                f"Kernel '{key}' of the weights has shape {tuple(value.shape)}; expected 3 x 3 or 1 x 1."
            )
        grown[key] = value
    return grown
