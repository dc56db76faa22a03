"""The networks: a dense feature extractor, a projection, and the head that tells the order of frames (paper, sections 2 and 3.2).

Names and shapes of the weights of the default network, 2D and 32 features, are those of the published code. Tensors are (B, T, C, *S) for
samples of T frames with C channels; S stands for the spatial axes, (Y, X) or (Z, Y, X), of any size.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import nn
from torch.nn import functional

__all__ = ["Tap", "form_of", "pooling", "reach", "shapes"]

Tensor = torch.Tensor
CONV: dict[int, Any] = {2: nn.Conv2d, 3: nn.Conv3d}
LINEAR: dict[int, Any] = {0: functional.linear, 2: functional.conv2d, 3: functional.conv3d}
NORM: dict[int, Any] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}

DEPTH = 3
SLOPE = 0.01  # of the leaky ReLU
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
        found: Tensor = self.conv_block(x)
        return found


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
        """Return (N, width, *S) of images (N, C, *S)."""
        size = x.shape[2:]
        multiple = [prod(pool[axis] for pool in self.pools) for axis in range(len(size))]
        missing = [-n % m for n, m in zip(size, multiple, strict=True)]
        if any(missing):
            sides = [side for m in reversed(missing) for side in (m // 2, m - m // 2)]
            x = functional.pad(x, sides, mode="replicate")
        pool = functional.max_pool2d if len(size) == 2 else functional.max_pool3d
        skips = []
        for level, factors in enumerate(self.pools):
            x = self.l_conv[level](x)
            skips.append(x)
            x = pool(x, factors)
        x = self.l_conv[-1](x)
        for level in reversed(range(len(self.pools))):
            wide = functional.interpolate(x, scale_factor=[float(f) for f in self.pools[level]], mode="nearest")
            x = self.r_conv[level](torch.cat([skips[level], wide], dim=1))
        x = self.head(x)
        if any(missing):
            for axis, (m, n) in enumerate(zip(missing, size, strict=True), start=2):
                x = x.narrow(axis, m // 2, n)
        return x


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
        b, t, _, *space = z.shape
        ones = (1,) * len(space)
        conv = LINEAR[len(space)]
        own = conv(z.flatten(0, 1), self.L.weight.view(*self.L.weight.shape, *ones), self.L.bias)
        joint = conv(z.mean(1), self.G.weight.view(*self.G.weight.shape, *ones), self.G.bias)
        y: Tensor = own.view(b, t, -1, *space) + joint.unsqueeze(1)
        if not hasattr(self, "norm"):
            return y
        flat = y.flatten(0, 1)
        return functional.leaky_relu(self._normalised(flat), SLOPE, inplace=True).view(b, t, -1, *space)

    def _normalised(self, y: Tensor) -> Tensor:
        norm = self.norm
        if self.training and norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
        return functional.batch_norm(
            y,
            norm.running_mean,
            norm.running_var,
            norm.weight,
            norm.bias,
            self.training,
            norm.momentum or 0.0,
            norm.eps,
        )


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
        found: Tensor = self.head(self.layers(z))
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
        """Return the features z (N, F, *S) of images (N, C, *S)."""
        found: Tensor = self.projection_head(self.backbone(x))
        return found

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
