"""The one place of the bridge that knows Java's x, y, z: ImageJ's hyperstacks and ImgLib2's axes.

Inside Howdah an image is (T, C, Z, Y, X). A hyperstack of ImageJ is a list of (Y, X) planes in the order C fastest, then Z, then T ("CZT").
ImgLib2 and ImageJ2 count axes from the fastest: an array (T, C, Z, Y, X) is an image X, Y, Z, C, T.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from howdah.errors import DataError

Array = npt.NDArray[Any]

ALL = "TCZYX"
TO_IMAGEJ2 = {"T": "Time", "C": "Channel", "Z": "Z", "Y": "Y", "X": "X"}
FROM_IMAGEJ2 = {name: letter for letter, name in TO_IMAGEJ2.items()}

__all__ = ["ALL", "FROM_IMAGEJ2", "TO_IMAGEJ2", "axes_of", "five", "from_planes", "java_dimensions", "to_planes"]


def axes_of(array: Array, axes: str | None) -> str:
    """Return the axes of an array: those given, or where none are, those of its 2, 3 (ZYX) or 5 (TCZYX) dimensions.

    Raises:
        DataError: The axes do not fit the array, or it has four dimensions (TZYX or CZYX?) and none were given.
    """
    if axes is None:
        known = {2: "YX", 3: "ZYX", 5: ALL}.get(array.ndim)
        if known is None:
            raise DataError(
                f"An array of shape {array.shape} was given without its axes; with {array.ndim} dimensions they cannot be known. Say "
                "them, slowest first, for example axes='TZYX'."
            )
        return known
    letters = axes.upper()
    if (
        len(letters) != array.ndim
        or set(letters) - set(ALL)
        or len(set(letters)) != len(letters)
        or not {"Y", "X"} <= set(letters)
    ):
        raise DataError(
            f"The axes {axes!r} were given for an array of shape {array.shape}; expected {array.ndim} of the letters T, C, Z, Y, X, each "
            "once, with Y and X among them, slowest first."
        )
    return letters


def five(array: Array, axes: str | None = None) -> Array:
    """Return a view of an array as (T, C, Z, Y, X); axes that it lacks have length 1."""
    letters = axes_of(array, axes)
    order = [letters.index(letter) for letter in ALL if letter in letters]
    index = tuple(slice(None) if letter in letters else None for letter in ALL)
    return np.transpose(array, order)[index]


def to_planes(image: Array) -> Array:
    """Turn (T, C, Z, Y, X) into (T*Z*C, Y, X), the planes of a hyperstack in ImageJ's order; a view where that is possible."""
    t, c, z, y, x = image.shape
    return image.transpose(0, 2, 1, 3, 4).reshape(t * z * c, y, x)


def from_planes(planes: Array, *, channels: int, slices: int, frames: int) -> Array:
    """Turn the planes (T*Z*C, Y, X) of a hyperstack into (T, C, Z, Y, X)."""
    return planes.reshape(frames, slices, channels, *planes.shape[1:]).transpose(0, 2, 1, 3, 4)


def java_dimensions(shape: Sequence[int]) -> list[int]:
    """Lengths of ImgLib2's axes, fastest first, of an array's shape."""
    return [int(length) for length in reversed(shape)]
