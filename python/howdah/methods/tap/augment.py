"""Changes of whole batches of crops at random (paper, section 3.2), on the device that they are on.

Turns, scalings, shifts and bends of a sample are put together into one place to look at for each pixel, so that each frame is resampled
once. What is drawn is the same on all devices, noise apart; a CPU, whose cache holds little, changes one sample after the other. A sample
is a crop at T frames with C channels; tensors are (B, T, C, *S), and S is (Y, X) or (Z, Y, X).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import ceil, hypot, log, prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from howdah.methods.tap.config import TapConfig

Tensor = torch.Tensor
F32 = npt.NDArray[np.float32]
B1 = npt.NDArray[np.bool_]
I64 = npt.NDArray[np.int64]

__all__ = ["Changes", "augmented", "margin", "shuffled"]

ROUNDING = 0.01  # pixels
KNOTS = 4  # pieces of the bend along an axis; a cubic spline over them has three points more
GRAINS = 2**20  # normal numbers that noise on a CPU is taken from


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


def augmented(x: Tensor, config: TapConfig, *, size: Sequence[int], rng: np.random.Generator) -> Tensor:
    """Return a batch of crops, changed: each sample by its own draw, each change with the probability of the settings.

    All frames together: mirrored along each axis, turned around z, scaled, bent, intensities multiplied and shifted. Each frame for
    itself: scaled, shifted, intensities multiplied and shifted, Gaussian noise. A sample that is neither turned, scaled, shifted nor bent
    has exactly the pixels of the middle of its crop, mirrored or not.

    Args:
        x: (B, T, C, *S) float32, larger than ``size`` by :func:`margin` on each side; of smaller ones the border is mirrored.
        config: Settings.
        size: The crop (*S) that is left, out of the middle.
        rng: Where chance comes from.

    Returns:
        (B, T, C, *size) float32, on the same device.
    """
    count, frames, channels = x.shape[:3]
    changes = Changes(count, frames, config, size=size, rng=rng)
    if x.device.type != "cpu":
        return changes.all_of(x)
    found, source = np.empty((count, frames, channels, *changes.size), dtype=np.float32), x.numpy()
    for row in range(count):
        changes.apply(row, source[row], out=found[row])
    return torch.from_numpy(found)


def shuffled(x: Tensor, y: I64) -> tuple[Tensor, Tensor]:
    """Return samples with their frames shifted in a circle, so that the first frame comes to a given place, and these places.

    With two frames this is a swap, or none.

    Args:
        x: (B, T, C, *S), in order of time.
        y: (B,), 0 to T - 1.

    Returns:
        (B, T, C, *S), and (B,) int64 on the same device.
    """
    count, frames = x.shape[:2]
    places = torch.from_numpy(y).to(x.device)
    from_ = (torch.arange(frames, device=x.device)[None] - places[:, None]) % frames
    rows = torch.arange(count, device=x.device)[:, None] * frames + from_
    return x.flatten(0, 1).index_select(0, rows.flatten()).view(x.shape), places


class Changes:
    """What is drawn for each sample of a batch, and done to them.

    Args:
        count: Samples B of the batch.
        frames: Frames T of a sample.
        config: Settings.
        size: The crop (*S) that is left.
        rng: Where chance comes from.

    Attributes:
        margin: (B, D) pixels more on each side along each axis that a sample looks at.
    """

    def __init__(
        self, count: int, frames: int, config: TapConfig, *, size: Sequence[int], rng: np.random.Generator
    ) -> None:
        self.size, self.config = tuple(size), config
        self._count, self._frames, self._rng = count, frames, rng
        axes = len(self.size)
        self._n_bend = axes * (KNOTS + 3) ** axes
        self._pool = rng.random((count, axes + 13 + frames * (axes + 4) + self._n_bend), dtype=np.float32)
        self._used = 0
        self._gain, self._add, self._noise = self._draw_intensities()
        self._draw_places()
        self._least = (2 * self.margin + self.size).tolist()
        self._grid = np.empty((frames, axes, *self.size), dtype=np.float32)  # of one sample after the other
        self._places = torch.from_numpy(self._grid).movedim(1, -1)

    def normalise(self, scale: F32, add: F32) -> None:
        """Let :meth:`apply` take intensities of the file: those of each frame are multiplied by ``scale``, then ``add`` is added, both
        (B, T, C)."""
        one = (1,) * len(self.size)
        self._add = self._gain * add.reshape(*add.shape, *one) + self._add
        self._gain = self._gain * scale.reshape(*scale.shape, *one)

    def apply(self, row: int, x: F32, *, out: F32, first: int = 0) -> None:
        """Change sample ``row``, on a CPU: (T, C, *S') of any layout, into ``out`` (T, C, *S), shifted in a circle so that the first
        frame lies at ``first``. Take samples in order."""
        moved = self._moved_one(row, x)
        for t, frame in enumerate(moved):
            to = out[(t + first) % self._frames]
            np.multiply(frame, self._gain[row, t], out=to)
            to += self._add[row, t]
            if self._noise[row, t]:
                to += self._grains(row, t, to.shape) * self._noise[row, t]

    def all_of(self, x: Tensor) -> Tensor:
        """Change all samples at once, normalised ones on any device: (B, T, C, *S') to (B, T, C, *S)."""
        points = torch.from_numpy(self._points * _to_units(x.shape[3:])).to(x.device)
        grid = _spread(points.flatten(0, 1), self.size).movedim(1, -1)
        enough = all(n >= least for n, least in zip(x.shape[3:], np.max(self._least, axis=0), strict=True))
        found = _resampled(x.flatten(0, 1), grid, mirrored=not enough).view(*x.shape[:3], *self.size)
        still = _flipped(_middle(x, self.size), torch.from_numpy(self._flips).to(x.device))
        one = (1,) * (x.ndim - 2)
        drawn = (self._moved.reshape(-1, 1, *one), self._noise.reshape(*self._noise.shape, *one), self._gain, self._add)
        moved, noise, gain, add = (torch.from_numpy(values).to(x.device) for values in drawn)
        found = torch.where(moved, found, still).mul_(gain).add_(add)
        if self.config.noise:
            generator = torch.Generator(x.device)
            generator.manual_seed(int(self._rng.integers(2**63)))
            grains = torch.randn(found.shape, generator=generator, device=x.device)
            found.addcmul_(grains, noise)
        return found

    # ---- draws: always as many numbers, whatever is done with them

    def _uniform(self, *shape: int) -> F32:
        """Return (B, *shape) numbers of 0 to 1."""
        n = prod(shape)
        found = self._pool[:, self._used : self._used + n]
        self._used += n
        return found.reshape(self._count, *shape)

    def _happens(self, *shape: int) -> B1:
        """Return (B, *shape) truth values."""
        return np.asarray(self._uniform(*shape) < self.config.augment)

    def _within(self, most: float, *shape: int) -> F32:
        """Return (B, *shape) numbers of -most to most."""
        return (self._uniform(*shape) - np.float32(0.5)) * np.float32(2 * most)

    def _factor(self, happens: B1, most: float, *shape: int) -> F32:
        """Return (B, *shape) factors of 1 / most to most, as often above 1 as below; 1 where it does not happen."""
        return np.exp(self._within(log(most), *shape) * happens)

    def _draw_places(self) -> None:
        config, axes, frames = self.config, len(self.size), self._frames
        self._flips = self._happens(axes) & config.flip
        turned, scaled, bent, each_scaled, shifted = self._happens(5).T
        turned = turned & config.rotate
        angle = self._within(np.pi) * turned
        scale = self._factor(scaled, config.scale_range)
        frame_scale = self._factor(each_scaled[:, None], config.frame_scale_range, frames)
        extent = np.asarray(self.size, dtype=np.float32)
        shift = self._within(config.shift, frames, axes) * extent * shifted[:, None, None]
        bend = self._within(1.0, axes, self._n_bend // axes) * (
            _bends(config, self.size)[:, None] * bent[:, None, None]
        )
        turn = _matrices(angle, self._flips, scale)
        self._moved = turned | (scaled & (config.scale_range > 1)) | (bent & (config.elastic > 0))
        self._moved |= (each_scaled & (config.frame_scale_range > 1)) | (shifted & (config.shift > 0))
        self._turn, self._frame_scale = turn, frame_scale

        half = (extent - 1) / 2
        reach = (np.abs(turn) @ half + np.abs(bend).max(axis=2))[:, None] / frame_scale[..., None] + np.abs(shift)
        self.margin = np.maximum(np.ceil(reach.max(axis=1) - half + ROUNDING), 0).astype(np.int64)

        # A spline through points on a plane is that plane: so turn, scale and shift are done on its few points.
        joint = turn @ _points(self.size) + bend
        each = joint[:, None] / frame_scale[:, :, None, None] + shift[..., None]
        knots = np.ascontiguousarray(each[:, :, ::-1]).reshape(-1, KNOTS + 3)  # x comes first
        points = knots @ _weights(self.size[-1]).T
        self._points = points.reshape(self._count, frames, axes, *[KNOTS + 3] * (axes - 1), self.size[-1])
        """Pixels from the middle of the crop, x first, that the points of a cubic spline along all axes but the last look at."""

    def _draw_intensities(self) -> tuple[F32, F32, F32]:
        """Return what to multiply by and then to add, (B, T, *1), and the deviation of the noise after that, (B, T)."""
        config, frames = self.config, self._frames
        noisy, each, joint = self._happens(3).T
        sigma = self._uniform() * np.float32(config.noise) * noisy
        gain = self._factor(each[:, None], config.frame_intensity_scale, frames)
        add = self._within(config.frame_intensity_shift, frames) * each[:, None]
        gain = gain * self._factor(joint, config.intensity_scale)[:, None]
        add = add + (self._within(config.intensity_shift) * joint)[:, None]
        self._start = self._uniform(frames)
        one, noise = (1,) * (1 + len(self.size)), sigma[:, None] * gain  # comes before the intensities change
        return gain.reshape(*gain.shape, *one), add.reshape(*add.shape, *one), noise

    # ---- pixels

    def _moved_one(self, row: int, x: F32) -> F32:
        """Return sample ``row`` mirrored, turned, scaled, shifted and bent."""
        if not self._moved[row]:
            middle = (slice((n - m) // 2, (n - m) // 2 + m) for n, m in zip(x.shape[2:], self.size, strict=True))
            turns = (slice(None, None, -1 if flip else 1) for flip in self._flips[row])
            return x[(slice(None), slice(None), *middle)][(slice(None), slice(None), *turns)]
        points = self._points[row] * _to_units(x.shape[2:])
        _spread(points, self.size, out=self._grid)
        enough = all(n >= least for n, least in zip(x.shape[2:], self._least[row], strict=True))
        found: F32 = _resampled(torch.from_numpy(x), self._places, mirrored=not enough).numpy()
        return found

    def _grains(self, row: int, t: int, shape: tuple[int, ...]) -> F32:
        """Return noise of standard deviation 1 for a frame.

        It is a piece of a table of normal numbers, and where it begins is drawn: that takes a fraction of the time of drawing each number.
        The pieces of two frames overlap in 2 of 100 samples of 96 x 96 pixels, hardly ever at the same place.
        """
        n = prod(shape)
        if 16 * n > GRAINS:
            return self._rng.standard_normal(shape, dtype=np.float32)
        start = int(self._start[row, t] * (GRAINS - n))
        return _table()[start : start + n].reshape(shape)


@lru_cache(maxsize=1)
def _table() -> F32:
    """Return normal numbers; 4 MiB, the same in every process."""
    return np.random.default_rng(0).standard_normal(GRAINS, dtype=np.float32)


def _matrices(angle: F32, flips: B1, scale: F32) -> F32:
    """Return what takes an offset from the middle (z, y, x) of the result to that in the crop: (B, D, D)."""
    found = np.zeros((len(angle), flips.shape[1], flips.shape[1]), dtype=np.float32)
    cos, sin = np.cos(angle), np.sin(angle)
    found[:, 0, 0] = 1
    found[:, -2, -2], found[:, -2, -1] = cos, -sin
    found[:, -1, -2], found[:, -1, -1] = sin, cos
    mirror = 1 - 2 * flips.astype(np.float32)
    return np.asarray(found * (mirror / scale[:, None])[:, None, :])


def _spread(points: Any, size: Sequence[int], *, out: F32 | None = None) -> Any:
    """Return the spline at all pixels of ``size``, (N, D, *size), of its points (N, D, *KNOTS + 3, last of size).

    Of a tensor a tensor on its device, of an array an array, which ``out`` may be.
    """
    found, whole = points, (*points.shape[:2], *size)
    for axis in reversed(range(len(size) - 1)):
        found = found.reshape(-1, KNOTS + 3, prod(size[axis + 1 :]))
        weights = _weights(size[axis], points.device if isinstance(points, Tensor) else None)
        if axis == 0 and out is not None:
            np.matmul(weights, found, out=out.reshape(-1, size[0], found.shape[2]))
            return out
        found = weights @ found
    return found.reshape(whole)


@lru_cache(maxsize=32)
def _points(size: tuple[int, ...]) -> F32:
    """Return where the points of the spline lie, pixels from the middle: (D, points)."""
    axes = [(np.arange(KNOTS + 3, dtype=np.float32) - 1 - KNOTS / 2) * (max(n - 1, 1) / KNOTS) for n in size]
    return np.stack(np.meshgrid(*axes, indexing="ij")).reshape(len(size), -1).astype(np.float32)


def _to_units(shape: Sequence[int]) -> F32:
    """Return what to multiply pixels from the middle by, so that the last pixel is at 1: x first, (D, *1)."""
    found = np.asarray([2 / max(n - 1, 1) for n in shape[::-1]], dtype=np.float32)
    return found.reshape(-1, *[1] * len(shape))


@lru_cache(maxsize=32)
def _weights(n: int, device: torch.device | None = None) -> Any:
    """Return how much each point of the spline counts at each pixel: (n, KNOTS + 3), rows sum to 1 (uniform cubic B-spline).

    A tensor on a device, or an array.
    """
    at = np.linspace(0, KNOTS, n) if n > 1 else np.asarray([KNOTS / 2])
    away = np.abs(at[:, None] + 1 - np.arange(KNOTS + 3))
    near, far = 2 / 3 - away**2 + away**3 / 2, np.maximum(2 - away, 0) ** 3 / 6
    found = np.where(away < 1, near, far).astype(np.float32)
    return found if device is None else torch.from_numpy(found).to(device)


def _bends(config: TapConfig, size: Sequence[int]) -> F32:
    """Return the most that a pixel moves along each axis, pixels; along z in proportion to the depth."""
    return np.asarray([config.elastic * min(n / size[-1], 1.0) for n in size], dtype=np.float32)


def _resampled(x: Tensor, grid: Tensor, *, mirrored: bool) -> Tensor:
    """Return frames (N, C, *S) at the places (N, *size, D) of a grid, linear between pixels."""
    beyond = "reflection" if mirrored else "border"
    return functional.grid_sample(x, grid, mode="bilinear", padding_mode=beyond, align_corners=True)


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
