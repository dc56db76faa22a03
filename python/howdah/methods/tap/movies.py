"""A raw movie as TAP sees it, and its normalised frames, kept as long as memory allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]
Region = tuple[slice, slice, slice]

__all__ = ["Movie"]


@dataclass(frozen=True, eq=False)
class Movie:
    """A movie that is read frame by frame, or a region of a frame at a time.

    Attributes:
        name: What sentences call it.
        n_frames: Frames, missing ones counted.
        shape: Voxels (Z, Y, X) of a frame; Z = 1 in 2D.
        voxel_size: (z, y, x), world units.
        channels: Channels that the network sees.
        read: Reads a frame, or a region (z, y, x) of it, by its number: (C, Z, Y, X) of the file's type.
        missing: Frames that the file lacks.
    """

    name: str
    n_frames: int
    shape: tuple[int, int, int]
    voxel_size: tuple[float, float, float]
    channels: int
    read: Callable[[int, Region | None], Array]
    missing: frozenset[int] = frozenset()
