"""The colours of the published code, for its weights (``compat = colouring``); :mod:`.colour` is the better way.

Colours hang on the type of the file's numbers (see :mod:`.clahe`), each plane has its own brightness, each colour is brought to 0..1
alone (the paper: the whole picture), and the threshold stops after thirty steps, whether the area is reached or not. Planes of one
value, where that code divides by zero, become 0 here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from howdah.errors import DataError
from howdah.methods.efficientcellseg.clahe import clahe_of_integers
from howdah.methods.efficientcellseg.config import EfficientCellSegConfig

F64 = npt.NDArray[np.float64]
Plane = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

__all__ = ["cells_as_published", "mixed_as_published"]

STEP, STEPS = 0.01, 30


def cells_as_published(plane: Plane, config: EfficientCellSegConfig, *, area: float) -> Mask:
    """Return where a plane (Y, X) of uint8 or uint16 has cells, roughly.

    The threshold is the first of thirty, 0.01 apart, above which lies something, but no more than ``area`` of the plane; else the last.

    Raises:
        DataError: The plane has another type.
    """
    if plane.dtype not in (np.uint8, np.uint16):
        raise DataError(
            f"Colouring a plane as the published code does failed: its numbers are {plane.dtype}, and that code takes 8 or 16 bit "
            'without sign only. Save the image as one of these, or leave "colouring" out of compat.'
        )
    bright = _stretched(clahe_of_integers(plane, config.colour_tiles, config.colour_clip) if plane.any() else plane)
    if config.colour_blur >= 2:
        bright = ndimage.uniform_filter(bright, round(config.colour_blur), mode="mirror")
    thresholds = np.cumsum([config.colour_threshold, *[STEP] * (STEPS - 1)])
    passed = np.bincount(np.searchsorted(thresholds, bright.reshape(-1)), minlength=STEPS + 1)
    above = np.cumsum(passed[::-1])[-2::-1] / plane.size  # the share above each threshold
    fits = (above > 0) & (above <= area)
    chosen = int(np.argmax(fits)) if fits.any() else STEPS - 1
    found: Mask = bright > thresholds[chosen]
    return found


def mixed_as_published(plane: Plane, above: Mask | None, below: Mask | None) -> F64:
    """Return the picture (3, Y, X), 0..1, of a raw plane (Y, X) and of where its neighbours have cells."""
    green = _stretched(plane)
    found = np.stack([green, green, green])
    for colour, cells in ((0, above), (2, below)):
        if cells is not None:
            found[colour] = _stretched(green * (cells + 1.0))
    return found


def _stretched(plane: Plane) -> F64:
    """Bring a plane from its minimum and maximum to 0 and 1."""
    low, high = plane.min(), plane.max()
    if low == high:
        return np.zeros(plane.shape)
    return np.asarray((plane - low) / (high - low), dtype=np.float64)
