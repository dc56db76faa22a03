"""The network (paper, section 2.1, figure 2): five blocks of an EfficientNet and the first convolution of the sixth, and a small decoder.

Skips leave the encoder inside its blocks, after the first normalisation and activation of stages 1, 3, 4 and 6: at 1/2, 1/4, 1/8 and
1/16 of the image. The image itself, 0..1, is the fourth skip. With B5 and an image of 384 x 384 the innermost map has 1056 x 24 x 24.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import timm
import torch
from torch import nn

from howdah.errors import DataError
from howdah.methods.efficientcellseg.config import STRIDE, EncoderName, Fault
from howdah.methods.efficientcellseg.encoders import ENCODERS, timm_name

__all__ = ["STRIDE", "EfficientCellSeg", "Encoder", "check_size", "opening", "shapes", "timm_name"]

Tensor = torch.Tensor

LAST_STAGE = 5  # blocks[5] is stage 6
SKIPS = (0, 2, 3)  # stages 1, 3 and 4, of which the map after the first activation goes to the decoder
EPS = 1e-3  # of the published network
MOMENTUM = 0.1  # as timm's encoders; the published 0.01 would need thousands of steps, which few images do not give


class Encoder(nn.Module):
    """The first five stages of an EfficientNet, and the expansion of the sixth. Entries are named as timm's.

    Args:
        name: Which EfficientNet.
        drop_connect: How often the last block of the whole EfficientNet would be skipped in training; less often the earlier ones.
    """

    blocks: Any  # of timm, which has no types
    conv_stem: Any
    bn1: Any
    conv_pw: Any
    bn2: Any

    def __init__(self, name: EncoderName = "b5", drop_connect: float = 0.2) -> None:
        super().__init__()
        whole: Any = timm.create_model(timm_name(name), pretrained=False, drop_path_rate=drop_connect)
        self.conv_stem, self.bn1 = whole.conv_stem, whole.bn1
        self.blocks = nn.ModuleList(whole.blocks[:LAST_STAGE])
        sixth = whole.blocks[LAST_STAGE][0]
        self.conv_pw, self.bn2 = sixth.conv_pw, sixth.bn1
        inner = [opening(self.blocks[stage][0]).out_channels for stage in SKIPS]
        self.channels = (*inner, self.conv_pw.out_channels)  # of the four maps

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the maps at 1/2, 1/4, 1/8 and 1/16 of an image (B, 3, Y, X), normalised for ImageNet."""
        found = []
        x = self.bn1(self.conv_stem(image))
        for number, stage in enumerate(self.blocks):
            for place, block in enumerate(stage):
                if number in SKIPS and place == 0:
                    inner = block.bn1(opening(block)(x))
                    found.append(inner)
                    x = _after(block, inner, x)
                else:
                    x = block(x)
        return [*found, self.bn2(self.conv_pw(x))]


def opening(block: Any) -> Any:
    """Return the first convolution of a block of timm: the expansion, or where there is none (stage 1) the depthwise one."""
    return block.conv_pw if hasattr(block, "conv_pwl") else block.conv_dw


def _after(block: Any, inner: Tensor, before: Tensor) -> Tensor:
    """Run the rest of a block of timm on the map after its first normalisation and activation.

    Args:
        block: With an expansion (``InvertedResidual``) or without (``DepthwiseSeparableConv``); squeeze-and-excitation may be off.
        inner: That map.
        before: What went into the block.
    """
    if hasattr(block, "conv_pwl"):
        x = block.bn2(block.conv_dw(inner))
        x = block.bn3(block.conv_pwl(block.se(x)))
    else:
        x = block.bn2(block.conv_pw(block.se(inner)))
    found: Tensor = block.drop_path(x) + before if block.has_skip else x
    return found


class EfficientCellSeg(nn.Module):
    """The whole network; sizes of images are multiples of 16.

    Args:
        encoder: Which EfficientNet.
        filters: Of the four steps of the decoder.
        outputs: Channels of the result.
        compat: ``dark_input`` and ``root_std`` normalise as the published code does.
        drop_connect: See :class:`Encoder`.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        encoder: EncoderName = "b5",
        *,
        filters: Sequence[int] = (64, 48, 32, 16),
        outputs: int = 1,
        compat: Sequence[Fault] = (),
        drop_connect: float = 0.2,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(encoder, drop_connect)
        half, quarter, eighth, inner = self.encoder.channels
        into = [inner, *filters[:3]]
        skips = [eighth, quarter, half, 3]
        self.decoder = nn.ModuleList(_step(a + b, f) for a, b, f in zip(into, skips, filters, strict=True))
        self.last = nn.Conv2d(filters[3], outputs, 1)
        scale = 255.0 if "dark_input" in compat else 1.0
        facts = ENCODERS[encoder]
        std = [s**0.5 for s in facts.std] if "root_std" in compat else facts.std
        self.register_buffer("mean", torch.tensor(facts.mean).reshape(3, 1, 1) * scale, persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(3, 1, 1) * scale, persistent=False)

    def forward(self, picture: Tensor) -> Tensor:
        """Return logits (B, outputs, Y, X) of a picture (B, 3, Y, X), 0..1.

        Raises:
            DataError: Y or X is not a multiple of 16.
        """
        check_size(picture)
        *skips, x = self.encoder((picture - self.mean) / self.std)
        for step, skip in zip(self.decoder, (*reversed(skips), picture), strict=True):
            x = nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = step(torch.cat([x, skip], dim=1))
        found: Tensor = self.last(x)
        return found


def check_size(picture: Tensor) -> None:
    """Check that a picture (B, 3, Y, X) is of a size that the network takes.

    Raises:
        DataError: Y or X is not a multiple of 16.
    """
    if picture.shape[-2] % STRIDE or picture.shape[-1] % STRIDE:
        raise DataError(
            f"The network was given a picture of {picture.shape[-2]} x {picture.shape[-1]} pixels; it takes multiples of {STRIDE}. "
            "Pad it, or cut it into tiles."
        )


def _step(n_in: int, n_out: int) -> nn.Sequential:
    """Two convolutions of a step of the decoder."""
    layers: list[nn.Module] = []
    for n in (n_in, n_out):
        layers += [nn.Conv2d(n, n_out, 3, padding=1), nn.BatchNorm2d(n_out, eps=EPS, momentum=MOMENTUM), nn.ReLU()]
    return nn.Sequential(*layers)


def shapes(encoder: EncoderName, filters: Sequence[int], outputs: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of each entry of the network's state dict."""
    return dict(_shapes(encoder, tuple(filters), outputs))


@cache
def _shapes(encoder: EncoderName, filters: tuple[int, ...], outputs: int) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        network = EfficientCellSeg(encoder, filters=filters, outputs=outputs)
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}
