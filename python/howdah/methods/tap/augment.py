"""Changes of whole batches of crops at random (paper, section 3.2), on the device that they are on.

Turns, scalings, shifts and bends of a sample are put together into one place to look at for each pixel, so that each frame is resampled
once. A sample is a crop at T frames with C channels; tensors are (B, T, C, *S), and S is (Y, X) or (Z, Y, X).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import ceil, hypot, log, prod

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import ndtri
from torch.nn import functional

from howdah.methods.tap.config import TapConfig

Tensor = torch.Tensor

__all__ = ["Changes", "augmented", "margin", "shuffled"]

AT_ONCE = 2  # samples that are changed together on a CPU: what its cache holds
ROUNDING = 0.01  # pixels
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
    return tuple(max(ceil(at - h + ROUNDING), 0) for at, h in zip(reach, half, strict=True))


def augmented(x: Tensor, config: TapConfig, *, size: Sequence[int], generator: torch.Generator) -> Tensor:
    """Return a batch of crops, changed: each sample by its own draw, each change with the probability of the settings.

    All frames together: mirrored along each axis, turned around z, scaled, bent, intensities multiplied and shifted. Each frame for
    itself: scaled, shifted, intensities multiplied and shifted, Gaussian noise. A sample that is neither turned, scaled, shifted nor bent
    has exactly the pixels of the middle of its crop, mirrored or not.

    Args:
        x: (B, T, C, *S) float32, larger than ``size`` by :func:`margin` on each side; of smaller ones the border is mirrored.
        config: Settings.
        size: The crop (*S) that is left, out of the middle.
        generator: Of the device of ``x``.

    Returns:
        (B, T, C, *size) float32, on the same device.
    """
    count, frames, channels = x.shape[:3]
    changes = Changes(count, frames, config, size=size, generator=generator)
    found = x.new_empty((count, frames, channels, *changes.size))
    for rows in changes.parts():
        changes.apply(x[rows], rows, out=found[rows])
    return found


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
    rows = torch.arange(count, device=x.device)[:, None] * frames + from_
    return x.flatten(0, 1).index_select(0, rows.flatten()).view(x.shape), y


class Changes:
    """What is drawn for each sample of a batch, and done to a few of them at a time.

    On a CPU a few samples stay in its cache while they are changed, on other devices the whole batch is one part.

    Args:
        count: Samples B of the batch.
        frames: Frames T of a sample.
        config: Settings.
        size: The crop (*S) that is left.
        generator: Of the device where samples are changed; parts have to be taken in order.
    """

    def __init__(
        self, count: int, frames: int, config: TapConfig, *, size: Sequence[int], generator: torch.Generator
    ) -> None:
        self.size, self.generator, self.config = tuple(size), generator, config
        self._count, self._device = count, generator.device
        self._on_cpu = generator.device.type == "cpu"
        axes = len(self.size)
        numbers = 2 * axes + 16 + frames * (axes + 4) + axes * (KNOTS + 3) ** axes
        self._pool, self._used = torch.rand((count, numbers), generator=generator, device=self._device), 0
        self._draw_places(frames)
        self._draw_intensities(frames)
        self._still: list[int] = (~self._moved).nonzero()[:, 0].tolist() if self._on_cpu else []
        self._noisy: list[float] = self._sigma.tolist() if self._on_cpu else []

    def parts(self) -> list[slice]:
        """Return which samples to change together."""
        step = AT_ONCE if self._on_cpu else self._count
        return [slice(first, min(first + step, self._count)) for first in range(0, self._count, step)]

    def apply(self, x: Tensor, rows: slice, *, out: Tensor, normal: tuple[Tensor, Tensor] | None = None) -> None:
        """Change the samples ``rows`` (n, T, C, *S'), which :func:`augmented` describes, into ``out`` (n, T, C, *S).

        Where intensities are those of the file, ``normal`` says what to multiply them by and what to add then (n, T, C, *1): after the
        change of place, there are fewer of them.
        """
        if self.config.augment:
            self._move(x, rows, out)
        else:
            out.copy_(_middle(x, self.size))
        if normal is not None:
            out.mul_(normal[0]).add_(normal[1])
        if self.config.augment:
            self._recolour(rows, out)

    # ---- draws: always as many numbers, whatever is done with them

    def _uniform(self, *shape: int) -> Tensor:
        """Return (B, *shape) numbers of 0 to 1."""
        n = prod(shape)
        found = self._pool[:, self._used : self._used + n]
        self._used += n
        return found.view(self._count, *shape)

    def _happens(self, *shape: int) -> Tensor:
        """Return (B, *shape) truth values."""
        return self._uniform(*shape) < self.config.augment

    def _within(self, most: float, *shape: int) -> Tensor:
        """Return (B, *shape) numbers of -most to most."""
        return (self._uniform(*shape) * 2 - 1) * most

    def _factor(self, most: float, *shape: int) -> Tensor:
        """Return (B, *shape) factors of 1 / most to most, as often above 1 as below."""
        return torch.exp(self._within(log(most), *shape))

    def _draw_places(self, frames: int) -> None:
        config, axes = self.config, len(self.size)
        self._flips = self._happens(axes) & config.flip
        turned, scaled, bent, each_scaled, shifted = self._happens(5).unbind(1)
        turned = turned & config.rotate
        angle = self._within(torch.pi) * turned
        scale = torch.where(scaled, self._factor(config.scale_range), 1.0)
        self._frame_scale = torch.where(each_scaled[:, None], self._factor(config.frame_scale_range, frames), 1.0)
        extent = torch.tensor(self.size, dtype=torch.float32, device=self._device)
        shift = self._within(config.shift, frames, axes) * extent * shifted[:, None, None]
        bends = torch.tensor(_bends(config, self.size), device=self._device)
        knots = [KNOTS + 3] * axes
        self._bend = self._within(1.0, *knots, axes) * bends * bent.view(-1, *[1] * (axes + 1))
        self._turn = _matrices(angle, self._flips, scale)
        self._moved = turned | (scaled & (config.scale_range > 1)) | (bent & (config.elastic > 0))
        self._moved |= (each_scaled & (config.frame_scale_range > 1)) | (shifted & (config.shift > 0))
        self._looked_at = self._places_of(shift)
        self._margins = self._margins_of(shift) if self._on_cpu else []

    def _draw_intensities(self, frames: int) -> None:
        config = self.config
        noisy, each, joint = self._happens(3).unbind(1)
        self._sigma = self._uniform() * config.noise * noisy
        frame_gain = torch.where(each[:, None], self._factor(config.frame_intensity_scale, frames), 1.0)
        frame_add = self._within(config.frame_intensity_shift, frames) * each[:, None]
        self._gain = torch.where(joint, self._factor(config.intensity_scale), 1.0)[:, None] * frame_gain
        self._add = frame_add + (self._within(config.intensity_shift) * joint)[:, None]

    # ---- pixels

    def _move(self, x: Tensor, rows: slice, out: Tensor) -> None:
        """Mirror, turn, scale, shift and bend."""
        source = tuple(x.shape[3:])
        half = (torch.tensor(source[::-1], dtype=torch.float32, device=self._device) - 1) / 2
        grid = _spread((self._looked_at[rows] / half.clamp_min(0.5)).flatten(0, 1), self.size[0])
        enough = all(n >= m + 2 * more for n, m, more in zip(source, self.size, self.margin(rows), strict=True))
        out.copy_(_resampled(x, grid, mirrored=not enough))
        if self._on_cpu:
            for row in [row for row in self._still if rows.start <= row < rows.stop]:
                one = slice(row - rows.start, row - rows.start + 1)
                out[one] = _flipped(_middle(x[one], self.size), self._flips[row : row + 1])
        else:  # all of them rather than wait for the device to say which
            still = _flipped(_middle(x, self.size), self._flips[rows])
            torch.where(self._moved[rows].view(-1, *[1] * (x.ndim - 1)), out, still, out=out)

    def margin(self, rows: slice) -> tuple[int, ...]:
        """Return how many pixels more than are left, on each side along each axis, these samples look at; on a CPU."""
        if not self._on_cpu:
            return margin(self.config, self.size)
        return tuple(max(n) for n in zip(*self._margins[rows], strict=True))

    def _margins_of(self, shift: Tensor) -> list[list[int]]:
        """Return how many pixels more on each side each sample looks at along each axis."""
        half = (torch.tensor(self.size, dtype=torch.float32) - 1) / 2
        bend = self._bend.flatten(1, -2).abs().amax(1)
        joint = self._turn.abs() @ half + bend
        each = joint[:, None] / self._frame_scale[:, :, None] + shift.abs()
        found: list[list[int]] = (each.amax(1) - half + ROUNDING).ceil().clamp_min(0).to(torch.int64).tolist()
        return found

    def _places_of(self, shift: Tensor) -> Tensor:
        """Return the places that the points of the spline look at, spread along all axes but the first.

        They are in pixels from the middle, x first: (B, T, points, *size but the first, D). The bend is a cubic spline, and a spline
        through points on a plane is that plane: so turn, scale and shift are done on its few points.
        """
        axes = [_points(n, self._device) for n in self.size]
        points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
        joint = points.flatten(0, -2) @ self._turn.transpose(1, 2) + self._bend.flatten(1, -2)
        each = joint[:, None] / self._frame_scale[:, :, None, None] + shift[:, :, None]
        found = each.flip(-1).flatten(0, 1).view(-1, *points.shape)
        for axis, n in list(enumerate(self.size, start=1))[1:]:
            found = _spread(found.movedim(axis, 1), n).movedim(1, axis)
        return found.contiguous().view(*each.shape[:2], *found.shape[1:])

    def _recolour(self, rows: slice, out: Tensor) -> None:
        """Add noise, then multiply and shift intensities."""
        one = (1,) * (out.ndim - 2)
        if self.config.noise and not self._on_cpu:
            grain = torch.randn(out.shape, generator=self.generator, device=self._device)
            out.addcmul_(grain, self._sigma[rows].view(-1, 1, *one))
        for row, sigma in enumerate(self._noisy[rows]):
            if sigma:
                out[row].add_(_grain(out[row], self.generator), alpha=sigma)
        out.mul_(self._gain[rows].view(*out.shape[:2], *one)).add_(self._add[rows].view(*out.shape[:2], *one))


@lru_cache(maxsize=1)
def _quantiles() -> npt.NDArray[np.float32]:
    """Return the normal distribution in so many equally likely values that 16 bits choose one; standard deviation 1."""
    found = ndtri((np.arange(2**16) + 0.5) / 2**16)
    return np.asarray(found / found.std(), dtype=np.float32)


def _grain(like: Tensor, generator: torch.Generator) -> Tensor:
    """Return noise of standard deviation 1; looked up, which takes half the time of computing it."""
    bits = torch.empty(-(-like.numel() // 4), dtype=torch.int64).random_(-(2**63), None, generator=generator)
    found = _quantiles().take(bits.numpy().view(np.uint16)[: like.numel()])
    return torch.from_numpy(found).view(like.shape)


def _matrices(angle: Tensor, flips: Tensor, scale: Tensor) -> Tensor:
    """Return what takes an offset from the middle (z, y, x) of the result to that in the crop: (B, D, D)."""
    found = torch.eye(flips.shape[1], device=angle.device).repeat(len(angle), 1, 1)
    cos, sin = torch.cos(angle), torch.sin(angle)
    found[:, -2, -2], found[:, -2, -1] = cos, -sin
    found[:, -1, -2], found[:, -1, -1] = sin, cos
    mirror = 1 - 2 * flips.to(torch.float32)
    return found * mirror[:, None, :] / scale[:, None, None]


def _spread(points: Tensor, n: int) -> Tensor:
    """Return the spline at n pixels along an axis, of its points (N, KNOTS + 3, ...): (N, n, ...)."""
    weights = _weights(n, points.device).expand(len(points), -1, -1)
    return torch.bmm(weights, points.flatten(2)).view(len(points), n, *points.shape[2:])


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


def _resampled(x: Tensor, grid: Tensor, *, mirrored: bool) -> Tensor:
    """Return samples (B, T, C, *S) at the places of a grid, linear between pixels."""
    beyond = "reflection" if mirrored else "border"
    found = functional.grid_sample(x.flatten(0, 1), grid, mode="bilinear", padding_mode=beyond, align_corners=True)
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
