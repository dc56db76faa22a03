"""Changes of whole batches of crops at random (paper, section 3.2), on the device that they are on.

Turns, scalings, shifts and bends of a sample are put together into one place to look at for each pixel, so that each frame is resampled
once. A sample is a crop at T frames with C channels; tensors are (B, T, C, *S), and S is (Y, X) or (Z, Y, X).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, hypot, log

import torch
from torch.nn import functional

from howdah.methods.tap.config import TapConfig

Tensor = torch.Tensor

__all__ = ["augmented", "margin", "shuffled"]

KNOTS = 4  # pieces of the bend along an axis; a cubic spline over them has three points more


def margin(config: TapConfig, size: Sequence[int]) -> tuple[int, ...]:
    """Return how many pixels more, on each side along each axis, a crop needs so that no change looks beyond it.

    Args:
        config: Settings.
        size: The crop (*S) that is left.
    """
    if not config.augment:
        return (0,) * len(size)
    half = [(n - 1) / 2 for n in size]
    seen = list(half)
    if config.rotate:
        seen[-2:] = [hypot(*half[-2:])] * 2
    bends = _bends(config, size)
    scale = config.frame_scale_range
    reach = [
        (at * config.scale_range + bend) * scale + config.shift * n
        for at, bend, n in zip(seen, bends, size, strict=True)
    ]
    return tuple(max(ceil(at - h + 0.01), 0) for at, h in zip(reach, half, strict=True))


def augmented(x: Tensor, config: TapConfig, *, size: Sequence[int], generator: torch.Generator) -> Tensor:
    """Return a batch of crops, changed: each sample by its own draw, each change with the probability of the settings.

    All frames together: mirrored along each axis, turned around z, scaled, bent, intensities multiplied and shifted. Each frame for
    itself: scaled, shifted, intensities multiplied and shifted, Gaussian noise. A sample that is neither turned, scaled, shifted nor bent
    has exactly the pixels of the middle of its crop.

    Args:
        x: (B, T, C, *S) float32, larger than ``size`` by :func:`margin` on each side; of smaller ones the border is mirrored.
        config: Settings.
        size: The crop (*S) that is left, out of the middle.
        generator: Of the device of ``x``.

    Returns:
        (B, T, C, *size) float32, on the same device.
    """
    size = tuple(size)
    if not config.augment:
        return _middle(x, size).contiguous()
    draw = _Draw(x, config, generator)
    found = _moved(x, config, size, draw)
    return _recoloured(found, config, draw)


def shuffled(x: Tensor, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return samples with their frames shifted in a circle by a random number each, and that number: the place of the first frame.

    With two frames this is a swap, or none, at equal odds.

    Args:
        x: (B, T, C, *S), in order of time.
        generator: Of the device of ``x``.

    Returns:
        (B, T, C, *S), and (B,) int64 of 0 to T - 1.
    """
    count, frames = x.shape[:2]
    y = torch.randint(frames, (count,), generator=generator, device=x.device)
    from_ = (torch.arange(frames, device=x.device)[None] - y[:, None]) % frames
    rows = torch.arange(count, device=x.device)[:, None]
    return x[rows, from_], y


@dataclass
class _Draw:
    """Draws numbers for the samples of a batch, always as many as samples, whatever is done with them."""

    x: Tensor
    config: TapConfig
    generator: torch.Generator

    def happens(self, *shape: int) -> Tensor:
        """Return (B, *shape) truth values."""
        return self.uniform(*shape) < self.config.augment

    def uniform(self, *shape: int) -> Tensor:
        """Return (B, *shape) numbers of 0 to 1."""
        return torch.rand((len(self.x), *shape), generator=self.generator, device=self.x.device)

    def within(self, most: float, *shape: int) -> Tensor:
        """Return (B, *shape) numbers of -most to most."""
        return (self.uniform(*shape) * 2 - 1) * most

    def factor(self, most: float, *shape: int) -> Tensor:
        """Return (B, *shape) factors of 1 / most to most, as often above 1 as below."""
        return torch.exp(self.within(log(most), *shape))


def _moved(x: Tensor, config: TapConfig, size: tuple[int, ...], draw: _Draw) -> Tensor:
    """Mirror, turn, scale, shift and bend."""
    n_axes, frames = len(size), x.shape[1]
    flips = draw.happens(n_axes) & config.flip
    turned, scaled, bent = draw.happens() & config.rotate, draw.happens(), draw.happens()
    frame_scaled, shifted = draw.happens(), draw.happens()
    angle = draw.within(torch.pi) * turned
    scale = torch.where(scaled, draw.factor(config.scale_range), 1.0)
    frame_scale = torch.where(frame_scaled[:, None], draw.factor(config.frame_scale_range, frames), 1.0)
    extent = torch.tensor(size, dtype=torch.float32, device=x.device)
    shift = draw.within(config.shift, frames, n_axes) * extent * shifted[:, None, None]
    bends = torch.tensor(_bends(config, size), device=x.device)
    bend = draw.within(1.0, *([KNOTS + 3] * n_axes), n_axes) * bends * bent.view(-1, *[1] * (n_axes + 1))

    moved = torch.zeros_like(turned)
    for happens, does in (
        (turned, True),
        (scaled, config.scale_range > 1),
        (bent, config.elastic > 0),
        (frame_scaled, config.frame_scale_range > 1),
        (shifted, config.shift > 0),
    ):
        moved |= happens & does
    found = x.new_empty((*x.shape[:3], *size))
    still = (~moved).nonzero()[:, 0]
    if len(still):
        found[still] = _flipped(_middle(x[still], size), flips[still])
    rows = moved.nonzero()[:, 0]
    if len(rows):
        turn = _matrices(angle[rows], flips[rows], scale[rows], n_axes)
        grid = _grid(turn, bend[rows], frame_scale[rows], shift[rows], size=size, source=tuple(x.shape[3:]))
        found[rows] = _resampled(x[rows], grid)
    return found


def _matrices(angle: Tensor, flips: Tensor, scale: Tensor, n_axes: int) -> Tensor:
    """Return what takes an offset from the middle (z, y, x) of the result to that in the crop: (B, D, D)."""
    found = torch.eye(n_axes, device=angle.device).repeat(len(angle), 1, 1)
    cos, sin = torch.cos(angle), torch.sin(angle)
    found[:, -2, -2], found[:, -2, -1] = cos, -sin
    found[:, -1, -2], found[:, -1, -1] = sin, cos
    mirror = 1 - 2 * flips.to(torch.float32)
    return found * mirror[:, None, :] / scale[:, None, None]


def _grid(
    turn: Tensor, bend: Tensor, scale: Tensor, shift: Tensor, *, size: tuple[int, ...], source: tuple[int, ...]
) -> Tensor:
    """Return where each pixel of the result looks: (B * T, *size, D), x first, -1 to 1 from the first to the last pixel of the crop.

    The bend is a cubic spline, and a spline through points on a plane is that plane: so turn, scale and shift are done on its few
    points, and all is spread over pixels at once by one small product along each axis.
    """
    device = turn.device
    axes = [_points(n, device) for n in size]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    joint = points.flatten(0, -2) @ turn.transpose(1, 2) + bend.flatten(1, -2)
    each = joint[:, None] / scale[:, :, None, None] + shift[:, :, None]
    half = (torch.tensor(source, dtype=torch.float32, device=device) - 1) / 2
    each = (each / half.clamp_min(0.5)).flip(-1).flatten(0, 1)
    found = each.view(len(each), *points.shape)
    for axis, n in enumerate(size):
        weights = _weights(n, device)
        rest = found.movedim(1 + axis, 1).flatten(2)
        shape = found.movedim(1 + axis, 1).shape[2:]
        found = (weights @ rest).view(len(each), n, *shape).movedim(1, 1 + axis)
    return found.contiguous()


@lru_cache(maxsize=32)
def _points(n: int, device: torch.device) -> Tensor:
    """Return where the points of the spline lie along an axis of n pixels, pixels from its middle."""
    step = max(n - 1, 1) / KNOTS
    return (torch.arange(KNOTS + 3, dtype=torch.float32, device=device) - 1 - KNOTS / 2) * step


@lru_cache(maxsize=32)
def _weights(n: int, device: torch.device) -> Tensor:
    """Return how much each point of the spline counts at each pixel: (n, KNOTS + 3), rows sum to 1 (uniform cubic B-spline)."""
    at = torch.linspace(0, KNOTS, n, dtype=torch.float64) if n > 1 else torch.tensor([KNOTS / 2], dtype=torch.float64)
    away = (at[:, None] + 1 - torch.arange(KNOTS + 3, dtype=torch.float64)).abs()
    near, far = 2 / 3 - away**2 + away**3 / 2, (2 - away).clamp_min(0) ** 3 / 6
    return torch.where(away < 1, near, far).to(torch.float32).to(device)


def _bends(config: TapConfig, size: Sequence[int]) -> list[float]:
    """Return the most that a pixel moves along each axis, pixels; along z in proportion to the depth."""
    return [config.elastic * min(n / size[-1], 1.0) for n in size]


def _resampled(x: Tensor, grid: Tensor) -> Tensor:
    """Return samples (B, T, C, *S) at the places of a grid, linear between pixels."""
    found = functional.grid_sample(
        x.flatten(0, 1), grid, mode="bilinear", padding_mode="reflection", align_corners=True
    )
    return found.view(*x.shape[:2], *found.shape[1:])


def _middle(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return the middle (B, T, C, *size) of crops, a view."""
    for axis, n in enumerate(size, start=3):
        x = x.narrow(axis, (x.shape[axis] - n) // 2, n)
    return x


def _flipped(x: Tensor, flips: Tensor) -> Tensor:
    """Mirror each sample along the axes named: flips (B, D)."""
    for axis in range(flips.shape[1]):
        flip = flips[:, axis].view(-1, *[1] * (x.ndim - 1))
        x = torch.where(flip, x.flip(3 + axis), x)
    return x


def _recoloured(x: Tensor, config: TapConfig, draw: _Draw) -> Tensor:
    """Add noise, then multiply and shift intensities, in place."""
    frames = x.shape[1]
    noisy, sigma = draw.happens(), draw.uniform() * config.noise
    rows = noisy.nonzero()[:, 0]
    if config.noise and len(rows):
        grain = torch.empty((len(rows), *x.shape[1:]), device=x.device).normal_(generator=draw.generator)
        x[rows] += grain * sigma[rows].view(-1, *[1] * (x.ndim - 1))
    each, joint = draw.happens(), draw.happens()
    frame_gain = torch.where(each[:, None], draw.factor(config.frame_intensity_scale, frames), 1.0)
    frame_add = draw.within(config.frame_intensity_shift, frames) * each[:, None]
    gain = torch.where(joint, draw.factor(config.intensity_scale), 1.0)[:, None] * frame_gain
    add = frame_add + (draw.within(config.intensity_shift) * joint)[:, None]
    spread = (*gain.shape, *[1] * (x.ndim - 2))
    return x.mul_(gain.view(spread)).add_(add.view(spread))
