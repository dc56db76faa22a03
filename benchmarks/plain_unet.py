"""A plain U-Net (Ronneberger et al. 2015) with batch normalisation: what ``score_efficientcellseg.py`` compares with.

Four poolings, two convolutions a step, as wide as the number of parameters asks for; nothing in it has learned before.
"""

from __future__ import annotations

import torch
from torch import nn


class PlainUNet(nn.Module):
    """Takes pictures (B, 3, Y, X) of 0..1, sizes multiples of 16, and gives logits (B, outputs, Y, X).

    Args:
        width: Filters of the first step; they double at each pooling.
        outputs: Channels of the result.
    """

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        n = [width * 2**k for k in range(5)]
        self.down = nn.ModuleList(_step(a, b) for a, b in zip([3, *n[:4]], n, strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in zip(n[3::-1], n[4:0:-1], strict=True))
        self.join = nn.ModuleList(_step(2 * a, a) for a in n[3::-1])
        self.last = nn.Conv2d(width, outputs, 1)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        x, skips = picture - 0.5, []
        for number, step in enumerate(self.down):
            x = step(nn.functional.max_pool2d(x, 2) if number else x)
            skips.append(x)
        for up, join, skip in zip(self.up, self.join, skips[3::-1], strict=True):
            x = join(torch.cat([skip, up(x)], dim=1))
        return self.last(x)


def width_for(parameters: int) -> int:
    """Return the width of the U-Net whose number of parameters is nearest to this."""
    return min(range(4, 65), key=lambda width: abs(size(PlainUNet(width, 2)) - parameters))


def size(network: nn.Module) -> int:
    """Return the number of learnable parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def _step(n_in: int, n_out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n in (n_in, n_out):
        layers += [nn.Conv2d(n, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out, momentum=0.1), nn.ReLU()]
    return nn.Sequential(*layers)
