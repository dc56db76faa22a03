"""As many colours as are asked for, each as far from the others as it can be to the eye.

Glasbey's idea (2007): take the colour that is furthest from all that were taken. Distances are Euclidean in OKLab, a space
in which equal steps look about equal (B. Ottosson, 2020).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = ["distinct_colours", "oklab"]

STEPS = 40  # of each of red, green, blue
LIGHTNESS = (0.45, 0.94)  # darker ones drown in a black viewer, lighter ones look white
LEAST_CHROMA = 0.045  # greys look like the image
BY_DISTANCE = 512  # so many are chosen one by one; the eye tells no more apart
OPAQUE = 0xFF000000


def distinct_colours(n: int) -> list[int]:
    """Return ``n`` colours as 0xAARRGGBB, opaque. The first ones are the same for every ``n``.

    Up to 512 each is the one furthest from those before it; further ones are different values, but people will not tell
    them all apart. Beyond about 40,000 they begin again.
    """
    table = _sequence()
    return [int(colour) for colour in np.resize(table, n)]


def oklab(rgb: npt.ArrayLike) -> F64:
    """Turn (..., 3) sRGB values 0 to 1 into OKLab: lightness, green-red, blue-yellow."""
    value = np.asarray(rgb, dtype=np.float64)
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    cones = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    mixed = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    lab: F64 = np.cbrt(linear @ cones.T) @ mixed.T
    return lab


@lru_cache(maxsize=1)
def _sequence() -> I64:
    """All candidate colours: first by distance, then the rest in an order that jumps about."""
    level = np.linspace(0, 1, STEPS)
    rgb = np.stack(np.meshgrid(level, level, level, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = oklab(rgb)
    fits = (lab[:, 0] > LIGHTNESS[0]) & (lab[:, 0] < LIGHTNESS[1]) & (np.hypot(lab[:, 1], lab[:, 2]) > LEAST_CHROMA)
    rgb, lab = rgb[fits], lab[fits]
    nearest = ((lab - oklab([0.0, 0.0, 0.0])) ** 2).sum(axis=1)  # far from black, what viewers are filled with
    order = []
    for _ in range(BY_DISTANCE):
        chosen = int(np.argmax(nearest))
        order.append(chosen)
        np.minimum(nearest, ((lab - lab[chosen]) ** 2).sum(axis=1), out=nearest)
    rest = np.setdiff1d(np.arange(len(rgb)), order)
    shuffled = np.random.default_rng(0).permutation(rest)
    values = np.rint(rgb[np.concatenate([order, shuffled])] * 255).astype(np.int64)
    codes: I64 = OPAQUE | values[:, 0] << 16 | values[:, 1] << 8 | values[:, 2]
    return codes
