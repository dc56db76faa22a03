"""Changes of training crops at random that keep what is a cell: light, blur, noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from howdah.methods.efficientcellseg.config import EfficientCellSegConfig

F32 = npt.NDArray[np.float32]

__all__ = ["Light"]

BLUR = (0.5, 1.5)  # standard deviation, pixels
NOISE = (0.01, 0.06)  # standard deviation; pictures run from 0 to 1


@dataclass(frozen=True)
class Light:
    """Changes of a picture (3, Y, X) of 0..1, of all colours alike; it stays in 0..1."""

    gamma: float
    contrast: float
    brightness: float
    blur: float
    noise: float

    @classmethod
    def drawn(cls, rng: np.random.Generator, config: EfficientCellSegConfig) -> Light:
        """Draw one."""
        reach = config.intensity_range
        gamma, contrast = np.exp(rng.uniform(-reach, reach, 2))
        brightness = rng.uniform(-reach, reach) / 2
        blurred, noisy = rng.random(2) < (config.blur_probability, config.noise_probability)
        sigma, grain = rng.uniform(*BLUR), rng.uniform(*NOISE)
        return cls(float(gamma), float(contrast), float(brightness), sigma if blurred else 0.0, grain if noisy else 0.0)

    def of(self, picture: F32, rng: np.random.Generator) -> F32:
        """Return the picture so changed, a new array; noise is one for all colours, as they are made of one image."""
        changed = picture**self.gamma if self.gamma != 1 else picture
        middle = float(changed.mean())
        changed = (changed - middle) * self.contrast + (middle + self.brightness)
        if self.blur:
            changed = ndimage.gaussian_filter(changed, (0, self.blur, self.blur))
        if self.noise:
            changed = changed + np.float32(self.noise) * rng.standard_normal(picture.shape[1:], dtype=np.float32)
        return np.clip(changed, 0, 1).astype(np.float32, copy=False)
