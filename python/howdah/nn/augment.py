"""Changes of training crops at random: flips and quarter turns, local contrast, blur, noise.

Arrays are (*S), (Y, X) or
(Z, Y, X); only y and x are turned. Places are in pixels, D columns in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from howdah.nn.clahe import local_contrast

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Scalar = TypeVar("Scalar", bound=np.generic)

__all__ = ["Appearance", "Pose", "equalised"]

BLUR = (0.5, 1.5)  # standard deviation, pixels
NOISE = (0.01, 0.06)  # standard deviation; the image runs from 0 to 1
TILES, CLIP = 8, 2.56  # of the local contrast, along each axis; the last in multiples of an even histogram


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

    Tiles are an eighth of the image along each axis, and a crop without cells stays dark; see :func:`~howdah.nn.clahe.local_contrast`.
    """
    return local_contrast(image, (TILES,) * image.ndim, CLIP)
