"""Changes of training crops at random: flips and quarter turns, local contrast, blur, noise.

Arrays are (*S), (Y, X) or
(Z, Y, X); only y and x are turned. Places are in pixels, D columns in the same order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Scalar = TypeVar("Scalar", bound=np.generic)

__all__ = ["Appearance", "Pose", "equalised"]

BLUR = (0.5, 1.5)  # standard deviation, pixels
NOISE = (0.01, 0.06)  # standard deviation; the image runs from 0 to 1
TILES, BINS, CLIP = 8, 256, 0.01  # of the local contrast, along each axis; the last as a share of the pixels of a tile


@dataclass(frozen=True)
class Pose:
    """Mirrored axes, then counter-clockwise quarter turns of (y, x)."""

    flips: tuple[bool, ...]
    turns: int = 0

    @classmethod
    def drawn(cls, rng: np.random.Generator, shape: Sequence[int], *, flip: bool = True, rotate: bool = True) -> Pose:
        """Draw one; crops that are not square are turned by half turns only."""
        flips = tuple(bool(rng.random() < 0.5) and flip for _ in shape)
        turns = int(rng.integers(4))
        return cls(flips, (turns if shape[-1] == shape[-2] else turns // 2 * 2) if rotate else 0)

    def array(self, values: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        """Return an image (*S) in this pose, a view."""
        flipped = np.flip(values, tuple(axis for axis, flip in enumerate(self.flips) if flip))
        return np.rot90(flipped, self.turns, axes=(-2, -1))

    def places(self, places: F64, shape: Sequence[int]) -> F64:
        """Return where places (N, D) of an image of this shape come to lie; they may lie outside of it."""
        last = np.asarray(shape, dtype=np.float64) - 1
        moved = np.where(self.flips, last - places, places)
        for _ in range(self.turns):
            y, x = moved[:, -2].copy(), moved[:, -1].copy()
            moved[:, -2], moved[:, -1] = last[-1] - x, y
            last[[-2, -1]] = last[[-1, -2]]
        return moved


@dataclass(frozen=True)
class Appearance:
    """Changes of intensities 0..1, which stay in 0..1. Images of one moment are changed by one of these, each with its own noise."""

    equalise: bool = False
    blur: float = 0.0
    noise: float = 0.0

    @classmethod
    def drawn(cls, rng: np.random.Generator, *, clahe: float, blur: float, noise: float) -> Appearance:
        """Draw one; each change has a probability."""
        equalised, blurred, noisy = rng.random(3) < (clahe, blur, noise)
        sigma, grain = rng.uniform(*BLUR), rng.uniform(*NOISE)
        return cls(bool(equalised), sigma if blurred else 0.0, grain if noisy else 0.0)

    def of(self, image: F32, rng: np.random.Generator, voxel_size: Sequence[float]) -> F32:
        """Return the image (*S) so changed, a new array; along a coarse axis it is blurred over fewer voxels."""
        if self.blur:
            image = ndimage.gaussian_filter(image, [self.blur * min(voxel_size) / s for s in voxel_size])
        if self.equalise:
            image = equalised(image)
        if self.noise:
            image = image + np.float32(self.noise) * rng.standard_normal(image.shape, dtype=np.float32)
        return np.clip(image, 0, 1)


def equalised(image: F32) -> F32:
    """Equalise the contrast locally and within limits (CLAHE; Pizer et al. 1987), with the range 0..1 for every image.

    The range is fixed, so that a crop without cells stays dark. Tiles are an eighth of the image along each axis; the mapping of a
    pixel is interpolated between those of the tiles around it.
    """
    count = [min(TILES, n) for n in image.shape]
    place = [np.arange(n) for n in image.shape]
    tile = [p * k // n for p, k, n in zip(place, count, image.shape, strict=True)]
    number = np.ravel_multi_index(tuple(np.meshgrid(*tile, indexing="ij", sparse=True)), count)
    level = np.minimum((image * BINS).astype(np.int64), BINS - 1)
    histogram = np.bincount((number * BINS + level).ravel(), minlength=math.prod(count) * BINS).reshape(-1, BINS)
    total = histogram.sum(axis=1, keepdims=True)
    most = np.maximum(CLIP * total, 1.0)
    cut = np.minimum(histogram, most)
    cut += (total - cut.sum(axis=1, keepdims=True)) / BINS
    mapping = ((np.cumsum(cut, axis=1) - cut / 2) / total).astype(np.float32)
    result = np.zeros(image.shape, dtype=np.float32)
    around = [_between(n, k) for n, k in zip(image.shape, count, strict=True)]
    for corner in itertools.product((0, 1), repeat=image.ndim):
        chosen = np.meshgrid(*[a[0][c] for a, c in zip(around, corner, strict=True)], indexing="ij", sparse=True)
        shares = np.meshgrid(*[a[1][c] for a, c in zip(around, corner, strict=True)], indexing="ij", sparse=True)
        result += mapping[np.ravel_multi_index(tuple(chosen), count), level] * math.prod(shares)
    return result


def _between(n: int, tiles: int) -> tuple[tuple[npt.NDArray[np.int64], ...], tuple[F32, ...]]:
    """Return, for each pixel of an axis, the tiles before and after it, and their shares."""
    place = np.clip((np.arange(n) + 0.5) * tiles / n - 0.5, 0, tiles - 1)
    before = np.minimum(place.astype(np.int64), max(tiles - 2, 0))
    share = (place - before).astype(np.float32)
    return (before, np.minimum(before + 1, tiles - 1)), (1 - share, share)
