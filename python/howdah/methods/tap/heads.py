"""Small networks on top of the features: a ResNet that tells classes, a linear layer, a U-Net that marks events (paper, section 3.4).

The paper gives no sizes but "small". Heads of classes have group instead of batch normalisation, because batches of few labels are small;
that of events has batch normalisation, because tiles must not matter to it. Tensors are
(B, T, F, *S) features (or images) of samples of T frames; S is (Y, X) or (Z, Y, X).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

__all__ = ["EventHead", "LinearHead", "ResNetHead", "head_from", "parameters_of"]

Tensor = torch.Tensor
CONV: dict[int, Any] = {2: nn.Conv2d, 3: nn.Conv3d}
GROUPS = 4


BATCH: dict[int, Any] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def _norm(n: int) -> nn.Module:
    return nn.GroupNorm(GROUPS if n % GROUPS == 0 else 1, n)


class _Residual(nn.Module):
    """Two convolutions beside a short cut; the first one may halve the size. ``local``: the norm does not depend on the crop (batch)."""

    def __init__(self, n_in: int, n_out: int, *, halve: Sequence[int], dimensions: int, local: bool = False) -> None:
        super().__init__()
        conv = CONV[dimensions]
        self.first = conv(n_in, n_out, 3, stride=tuple(halve), padding=1, bias=False)
        self.first_norm = BATCH[dimensions](n_out) if local else _norm(n_out)
        self.second = conv(n_out, n_out, 3, padding=1, bias=False)
        self.second_norm = BATCH[dimensions](n_out) if local else _norm(n_out)
        same = n_in == n_out and all(step == 1 for step in halve)
        self.short: nn.Module = nn.Identity() if same else conv(n_in, n_out, 1, stride=tuple(halve), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.first_norm(self.first(x)))
        y = self.second_norm(self.second(y))
        return functional.relu(y + self.short(x))


class ResNetHead(nn.Module):
    """A small ResNet on stacked frames.

    Args:
        n_in: Numbers of a pixel, all frames together.
        n_classes: Classes.
        width: Filters of the first level; twice and four times as many on the next two.
        dimensions: 2 or 3.
        dropout: Share of the numbers that are left out before the last layer while training.
    """

    def __init__(self, n_in: int, n_classes: int, *, width: int, dimensions: int, dropout: float = 0.0) -> None:
        super().__init__()
        one, two = (1,) * dimensions, (2,) * dimensions
        self.stem = CONV[dimensions](n_in, width, 3, padding=1, bias=False)
        self.stem_norm = _norm(width)
        self.stages = nn.Sequential(
            _Residual(width, width, halve=one, dimensions=dimensions),
            _Residual(width, 2 * width, halve=two, dimensions=dimensions),
            _Residual(2 * width, 4 * width, halve=two, dimensions=dimensions),
        )
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear(4 * width, n_classes)

    def forward(self, z: Tensor) -> Tensor:
        """Return logits (B, n_classes) of samples (B, T, F, *S)."""
        x = functional.relu(self.stem_norm(self.stem(z.flatten(1, 2))))
        x = self.stages(x).flatten(2).mean(2)
        found: Tensor = self.last(self.dropout(x))
        return found


class LinearHead(nn.Module):
    """Mean and maximum of the features in the middle of a crop, and one linear layer.

    Args:
        n_in: Numbers of a pixel, all frames together.
        n_classes: Classes.
        dropout: Share of the numbers that are left out while training.
    """

    def __init__(self, n_in: int, n_classes: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear(2 * n_in, n_classes)

    def forward(self, z: Tensor) -> Tensor:
        """Return logits (B, n_classes) of samples (B, T, F, *S)."""
        x = z.flatten(1, 2)
        for axis, n in enumerate(x.shape[2:], start=2):
            x = x.narrow(axis, n // 4, n - 2 * (n // 4))
        middle = x.flatten(2)
        found: Tensor = self.last(self.dropout(torch.cat([middle.mean(2), middle.amax(2)], dim=1)))
        return found


class EventHead(nn.Module):
    """A small U-Net of depth 2 on stacked frames that marks the pixels of events.

    Args:
        n_in: Numbers of a pixel, all frames together.
        width: Filters of the first level; twice and four times as many on the next two.
        pools: What each of its two poolings halves, one tuple of factors each.
    """

    def __init__(self, n_in: int, *, width: int, pools: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.pools = [tuple(pool) for pool in pools]
        dimensions = len(self.pools[0])
        one = (1,) * dimensions
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        for n_from, n_to in ((n_in, width), (width, 2 * width), (2 * width, 4 * width)):
            self.down.append(_Residual(n_from, n_to, halve=one, dimensions=dimensions, local=True))
        for n_from, n_to in ((6 * width, 2 * width), (3 * width, width)):
            self.up.append(_Residual(n_from, n_to, halve=one, dimensions=dimensions, local=True))
        self.last = CONV[dimensions](width, 1, 1)

    def forward(self, z: Tensor) -> Tensor:
        """Return logits (B, *S) of samples (B, T, F, *S) of any size."""
        x = z.flatten(1, 2)
        size = x.shape[2:]
        multiple = [self.pools[0][axis] * self.pools[1][axis] for axis in range(len(size))]
        missing = [-n % m for n, m in zip(size, multiple, strict=True)]
        if any(missing):
            x = functional.pad(x, [side for m in reversed(missing) for side in (0, m)], mode="replicate")
        pool = functional.max_pool2d if len(size) == 2 else functional.max_pool3d
        first = self.down[0](x)
        second = self.down[1](pool(first, self.pools[0]))
        third = self.down[2](pool(second, self.pools[1]))
        x = self.up[0](torch.cat([second, _enlarged(third, self.pools[1])], dim=1))
        x = self.up[1](torch.cat([first, _enlarged(x, self.pools[0])], dim=1))
        found: Tensor = self.last(x).squeeze(1)
        for axis, n in enumerate(size, start=1):
            found = found.narrow(axis, 0, n)
        return found


def head_from(form: Mapping[str, Any]) -> nn.Module:
    """Build a head by its form, as the header of its weights notes it.

    Args:
        form: ``kind`` is ``"resnet"``, ``"linear"`` or ``"events"``; the rest are the arguments of its class.
    """
    rest = {key: value for key, value in form.items() if key != "kind"}
    kinds: dict[str, Any] = {"resnet": ResNetHead, "linear": LinearHead, "events": EventHead}
    made: nn.Module = kinds[form["kind"]](**rest)
    return made


def parameters_of(module: nn.Module) -> int:
    """Return how many numbers of a module are learned."""
    return sum(parameter.numel() for parameter in module.parameters())


def _enlarged(x: Tensor, factors: Sequence[int]) -> Tensor:
    return functional.interpolate(x, scale_factor=[float(f) for f in factors], mode="nearest")
