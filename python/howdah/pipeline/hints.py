"""What a user knows of a movie and its file does not say, from what was typed."""

from __future__ import annotations

import re

from bdv_io.image import Hints, Vector
from howdah.errors import ConfigError

__all__ = ["hints_of"]


def hints_of(
    *, axes: str | None = None, voxel_size: str | None = None, unit: str | None = None, interval: str | None = None
) -> Hints:
    """Turn what was typed into hints.

    Raises:
        ConfigError: A number was not understood.
        FormatError: The axes, or a size, cannot be.
    """
    return Hints(axes, _voxel_size(voxel_size), unit, _interval(interval))


def _voxel_size(text: str | None) -> Vector | None:
    if text is None:
        return None
    try:
        numbers = [float(part) for part in re.split(r"[,x ]+", text.strip())]
        if len(numbers) == 2:
            numbers.insert(0, 1.0)
        z, y, x = numbers
    except ValueError:
        raise ConfigError(
            f"The voxel size '{text}' was not understood. Write edge lengths z, y, x: --voxel-size 2,0.5,0.5 (2D: 0.5,0.5)."
        ) from None
    return (z, y, x)


def _interval(text: str | None) -> tuple[float, str] | None:
    if text is None:
        return None
    match = re.fullmatch(r"\s*([0-9.]+(?:[eE][+-]?\d+)?)\s*([^\W\d_]+)\s*", text)
    try:
        if match is None:
            raise ValueError
        return (float(match[1]), match[2])
    except ValueError:
        raise ConfigError(
            f"The interval '{text}' was not understood. Write a number and its unit: --interval 30s."
        ) from None
