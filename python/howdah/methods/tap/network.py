"""The networks: a dense feature extractor, a projection, and the head that tells the order of frames (paper, sections 2 and 3.2).

Names and shapes of the weights of the default network, 2D and 32 features, are those of the published code. Tensors are (B, T, C, *S) for
samples of T frames with C channels; S stands for the spatial axes, (Y, X) or (Z, Y, X), of any size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional

from howdah.methods.tap.lean import SLOPE, again, bordered, enlarged, last_dense, normalised, pooled, rectified

__all__ = ["SLOPE", "Tap", "form_of", "planes_of", "pooling", "reach", "shapes"]

Tensor = torch.Tensor
CONV: dict[int, Any] = {2: nn.Conv2d, 3: nn.Conv3d}
LINEAR: dict[int, Any] = {0: functional.linear, 2: functional.conv2d, 3: functional.conv3d}
NORM: dict[int, Any] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}

DEPTH = 3
ANISOTROPIC = 1.5  # planes this many times further apart than pixels are not pooled


def pooling(dimensions: int, voxel_size: Sequence[float] = (1.0, 1.0, 1.0)) -> tuple[tuple[int, ...], ...]:
    """Return what each of the three poolings halves, so that voxels become cubes first.

    Args:
        dimensions: 2 or 3.
        voxel_size: (z, y, x), any unit.

    Returns:
        One tuple (y, x) or (z, y, x) of factors 1 or 2 a pooling.
    """
    if dimensions == 2:
        return ((2, 2),) * DEPTH
    found, ratio = [], voxel_size[0] / max(min(voxel_size[1:]), 1e-12)
    for _ in range(DEPTH):
        along_z = 1 if ratio >= ANISOTROPIC else 2
        ratio = ratio / 2 * along_z
        found.append((along_z, 2, 2))
    return tuple(found)


def planes_of(depth: int, pools: Sequence[Sequence[int]]) -> list[int]:
    """Return how many planes the layers of each level see of a volume of so many, the finest first; none for networks of planes."""
    if len(pools[0]) == 2:
        return []
    found = [depth]
    for pool in pools:
        found.append(-(-found[-1] // pool[0]))
    return found


def reach(pools: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Return how far each feature sees along each axis, pixels to either side (half of the receptive field, rounded up)."""
    found = []
    for axis in range(len(pools[0])):
        field, scale = 1, 1
        for pool in pools:
            field += 4 * scale + (pool[axis] - 1) * scale  # two convolutions, then a pooling
            scale *= pool[axis]
        field += 4 * scale
        for pool in reversed(pools):
            field += (pool[axis] - 1) * scale // pool[axis]  # a copied pixel may look from the far side of its block
            scale //= pool[axis]
            field += 4 * scale
        found.append(-(-(field - 1) // 2))
    return tuple(found)


class _Block(nn.Module):
    """Two convolutions with batch normalisation and leaky ReLU; edges repeat the outermost pixels."""

    def __init__(self, n_in: int, n_out: int, dimensions: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before in (n_in, n_out):
            conv = CONV[dimensions](before, n_out, 3, padding=1, padding_mode="replicate")
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            nn.init.zeros_(conv.bias)
            layers += [conv, NORM[dimensions](n_out), nn.LeakyReLU(SLOPE, inplace=True)]
        self.conv_block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, n_out, *S) of (N, n_in, *S), layer by layer."""
        found: Tensor = self.conv_block(x)
        return found

    @property
    def first(self) -> Any:
        """The first convolution."""
        return self.conv_block[0]

    def second(self, x: Tensor) -> Tensor:
        """Return what the second convolution gives of what the first gave."""
        layers: Any = self.conv_block
        return again(
            lambda first, raw: bordered(rectified(raw, layers[1], layers[0].bias, first=first), layers[3].weight), x
        )

    def last(self, x: Tensor, *, first: bool = True) -> Tensor:
        """Return the block's result of what the second convolution gave."""
        layers: Any = self.conv_block
        return rectified(x, layers[4], layers[3].bias, first=first)


class UNet(nn.Module):
    """U-Net of depth 3 whose output has ``width`` channels at every pixel (paper, section 3.2)."""

    def __init__(self, channels: int, width: int, pools: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.pools = [tuple(pool) for pool in pools]
        dimensions = len(self.pools[0])
        sizes = [width * 2**level for level in range(len(pools) + 1)]
        self.l_conv = nn.ModuleList(
            _Block(before, size, dimensions) for before, size in zip([channels, *sizes], sizes, strict=False)
        )
        self.r_conv = nn.ModuleList(_Block(3 * size, size, dimensions) for size in sizes[:-1])
        self.head = CONV[dimensions](width, width, 1)
        nn.init.kaiming_normal_(self.head.weight, nonlinearity="relu")
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, width, *S) of images (N, C, *S), layer by layer as published."""
        size, x, skips = x.shape[2:], self._rounded(x), []
        for block, factors in zip(self.l_conv, self.pools, strict=False):
            x = block(x)
            skips.append(x)
            x = pooled(x, factors)
        x = self.l_conv[-1](x)
        for block, factors in zip(reversed(self.r_conv), reversed(self.pools), strict=True):
            wide = functional.interpolate(x, scale_factor=[float(f) for f in factors], mode="nearest")
            x = block(torch.cat([skips.pop(), wide], dim=1))
        result: Tensor = self.head(x)
        return self.cut(result, size)

    def raw(self, x: Tensor) -> Tensor:
        """Return what the last 3 x 3 convolution gives, before its normalisation; axes are rounded up to what the poolings need."""
        x = self._rounded(x)
        left, right = cast("list[_Block]", list(self.l_conv)), cast("list[_Block]", list(self.r_conv))
        x = bordered(x, left[0].first.weight)
        skips = []
        for level, factors in enumerate(self.pools):
            skips.append(left[level].last(left[level].second(x)))
            x = again(_pooled_conv(factors, left[level + 1].first.weight), skips[-1])
        x, below = left[-1].second(x), left[-1]
        for level in reversed(range(len(self.pools))):
            x = again(_joined_conv(below, self.pools[level], right[level].first.weight), skips.pop(), x)
            x, below = right[level].second(x), right[level]
        return x

    def last(self, x: Tensor, *, size: Sequence[int], first: bool = True) -> Tensor:
        """Return (N, width, *S), before the last 1 x 1 convolution, of what :meth:`raw` gives of images of this size."""
        return self.cut(self._finest.last(x, first=first), size)

    def cut(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """Cut away what the rounded axes have too much."""
        for axis, (m, n) in enumerate(zip(self._missing(size), size, strict=True), start=2):
            x = x.narrow(axis, m // 2, n) if m else x
        return x

    @property
    def _finest(self) -> _Block:
        return cast("_Block", self.r_conv[0])

    def _rounded(self, x: Tensor) -> Tensor:
        missing = self._missing(x.shape[2:])
        sides = [side for m in reversed(missing) for side in (m // 2, m - m // 2)]
        return functional.pad(x, sides, mode="replicate") if any(missing) else x

    def _missing(self, size: Sequence[int]) -> list[int]:
        multiple = [prod(pool[axis] for pool in self.pools) for axis in range(len(size))]
        return [-n % m for n, m in zip(size, multiple, strict=True)]


def _pooled_conv(factors: Sequence[int], weight: Tensor) -> Callable[[bool, Tensor], Tensor]:
    """The way down: pooling and the first convolution of the next level."""
    return lambda _, skip: bordered(pooled(skip, factors), weight)


def _joined_conv(below: _Block, factors: Sequence[int], weight: Tensor) -> Callable[[bool, Tensor, Tensor], Tensor]:
    """The way up: the first convolution of the copied image and, behind it, the enlarged result of the level below."""

    def run(first: bool, skip: Tensor, raw: Tensor) -> Tensor:
        fine = skip.shape[1]
        return bordered(skip, weight[:, :fine]) + enlarged(below.last(raw, first=first), weight[:, fine:], factors)

    return run


class Projection(nn.Module):
    """One 1 x 1 convolution with batch normalisation; its outputs are the features z."""

    def __init__(self, width: int, features: int, dimensions: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(CONV[dimensions](width, features, 1), NORM[dimensions](features))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layers(x)
        return found


class Equivariant(nn.Module):
    """A layer for which the order of the frames is no clue: each frame for itself, plus the mean of all (equation 3).

    The paper sums over frames; the published code takes the mean, which differs by a factor that G learns.
    """

    def __init__(self, n_in: int, n_out: int, *, norm: bool) -> None:
        super().__init__()
        self.L = nn.Linear(n_in, n_out)
        self.G = nn.Linear(n_in, n_out)
        if norm:
            self.norm = nn.BatchNorm1d(n_out)

    def forward(self, z: Tensor) -> Tensor:
        """Return (B, T, n_out, *S) of features (B, T, n_in, *S); with ``norm`` normalised and rectified."""
        return self.finished(self.mixed(z))

    def mixed(self, z: Tensor) -> Tensor:
        """Return :meth:`forward` before the normalisation, which the biases drop out of."""
        b, t, _, *space = z.shape
        ones = (1,) * len(space)
        conv = LINEAR[len(space)]
        biases = (None, None) if hasattr(self, "norm") else (self.L.bias, self.G.bias)
        own = conv(z.flatten(0, 1), self.L.weight.view(*self.L.weight.shape, *ones), biases[0])
        joint = conv(z.mean(1), self.G.weight.view(*self.G.weight.shape, *ones), biases[1])
        y: Tensor = own.view(b, t, -1, *space) + joint.unsqueeze(1)
        return y

    def finished(self, y: Tensor, *, first: bool = True) -> Tensor:
        """Return :meth:`forward` of what :meth:`mixed` gives."""
        if not hasattr(self, "norm"):
            return y
        flat = rectified(y.flatten(0, 1), self.norm, self.L.bias + self.G.bias, first=first)
        return flat.view(y.shape)


class _Chain(nn.Module):
    """Layers under a name that the published weights have."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        found: Tensor = self.layers(z)
        return found


class _Pool(nn.Module):
    """Mean over space."""

    def forward(self, z: Tensor) -> Tensor:
        return z.flatten(3).mean(3)


class EquivariantHead(nn.Module):
    """Two equivariant layers, the mean over space, a last equivariant layer (paper, section 3.2)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(_Chain(Equivariant(features, features, norm=True)) for _ in range(2)))
        self.head = nn.Sequential(_Pool(), _Chain(Equivariant(features, 1, norm=False)))

    def forward(self, z: Tensor) -> Tensor:
        """Return the logits (B, T) that a frame is the first, of features (B, T, F, *S)."""
        one, two = (cast("Equivariant", cast("_Chain", chain).layers[0]) for chain in self.layers)
        y = again(lambda _, given: one.mixed(given), z)
        y = again(lambda first, given: two.mixed(one.finished(given, first=first)), y)
        y = again(lambda first, given: two.finished(given, first=first).flatten(3).mean(3), y)
        found: Tensor = cast("_Chain", self.head[1])(y)
        return found.squeeze(2)


class PlainHead(nn.Module):
    """An ordinary head on stacked frames, for comparison (paper, figure 2b)."""

    def __init__(self, features: int, frames: int, dimensions: int) -> None:
        super().__init__()
        conv = CONV[dimensions]
        self.layers = nn.Sequential(
            conv(features * frames, features, 1), nn.LeakyReLU(SLOPE, inplace=True), conv(features, features, 1)
        )
        self.head = nn.Sequential(nn.Flatten(2), nn.AdaptiveAvgPool1d(1), nn.Linear(features, frames, bias=False))

    def forward(self, z: Tensor) -> Tensor:
        """Return the logits (B, T), of features (B, T, F, *S)."""
        pooled = self.layers(z.flatten(1, 2)).flatten(2).mean(2)
        found: Tensor = self.head[2](pooled)
        return found


class Tap(nn.Module):
    """Feature extractor f, projection and time arrow head h (paper, section 2).

    Args:
        channels: Channels of the images.
        width: Filters of the first level of the U-Net.
        features: Numbers that describe a pixel.
        frames: Frames of a sample; only the plain head needs to know.
        head: ``"equivariant"`` or ``"plain"``.
        pools: Factors of the poolings; see :func:`pooling`.
    """

    def __init__(
        self,
        *,
        channels: int = 1,
        width: int = 32,
        features: int = 32,
        frames: int = 2,
        head: str = "equivariant",
        pools: Sequence[Sequence[int]] = ((2, 2),) * DEPTH,
    ) -> None:
        super().__init__()
        self.form: dict[str, Any] = {
            "channels": channels,
            "width": width,
            "features": features,
            "frames": frames,
            "head": head,
            "pools": [list(pool) for pool in pools],
        }
        dimensions = len(pools[0])
        self.backbone = UNet(channels, width, pools)
        self.projection_head = Projection(width, features, dimensions)
        self.classification_head: nn.Module = (
            EquivariantHead(features) if head == "equivariant" else PlainHead(features, frames, dimensions)
        )

    def dense(self, x: Tensor) -> Tensor:
        """Return the features z (N, F, *S) of images (N, C, *S).

        In evaluation without a gradient layer by layer, bit for bit as published; else with less memory and work, the same up to
        rounding (:mod:`howdah.methods.tap.lean`). There the last convolution of the U-Net and the one of the projection are one
        matrix: both are linear and between the same pixels.
        """
        if not self.training and not torch.is_grad_enabled():
            plain: Tensor = self.projection_head(self.backbone(x))
            return plain
        inner: Any = self.backbone.head
        outer, norm = cast("tuple[Any, Any]", tuple(self.projection_head.layers))
        with torch.autocast(x.device.type, enabled=False):
            matrix = outer.weight.flatten(1) @ inner.weight.flatten(1)
            bias = outer.weight.flatten(1) @ inner.bias + outer.bias
        weight, size = matrix.view(*matrix.shape, *(1,) * (x.ndim - 2)), x.shape[2:]

        def run(first: bool, raw: Tensor) -> Tensor:
            found: Tensor = LINEAR[len(size)](self.backbone.last(raw, size=size, first=first), weight)
            return found

        return normalised(last_dense(again(run, self.backbone.raw(x))), norm, bias, first=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, T) and features z (B, T, F, *S) of samples (B, T, C, *S).

        A logit says how likely the frame at its position is the first one of the sample, cyclically: of two frames, logit 0 stands for
        the true order and logit 1 for the flipped one.
        """
        flat = self.dense(x.flatten(0, 1))
        z = flat.view(*x.shape[:2], *flat.shape[1:])
        logits: Tensor = self.classification_head(z)
        return logits, z


def shapes(form: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return name and shape of each entry of the state dict of a network of this form (arguments of :class:`Tap`)."""
    with torch.device("meta"):
        return {key: tuple(value.shape) for key, value in Tap(**form).state_dict().items()}


def form_of(
    state: dict[str, Tensor], *, pools: Sequence[Sequence[int]] | None = None, frames: int = 2
) -> dict[str, Any]:
    """Return the form of the network that a state dict belongs to; what does not follow from the shapes can be given.

    Raises:
        KeyError: It is the state dict of something else.
    """
    first = state["backbone.l_conv.0.conv_block.0.weight"]
    dimensions = first.ndim - 2
    plain = state.get("classification_head.layers.0.weight")
    return {
        "channels": int(first.shape[1]),
        "width": int(first.shape[0]),
        "features": int(state["projection_head.layers.0.weight"].shape[0]),
        "frames": frames if plain is None else int(state["classification_head.head.2.weight"].shape[0]),
        "head": "equivariant" if plain is None else "plain",
        "pools": [list(pool) for pool in pools or pooling(dimensions)],
    }
