"""Regions of a frame: three slices (z, y, x), cut to what is there, and never more than the memory holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bdv_io import threads
from bdv_io.errors import FormatError, UnsupportedError
from bdv_io.image import Region, Shape

__all__ = ["bounded", "check_memory"]


def bounded(region: Region, shape: Shape) -> Region:
    """Cut a region to an array as numpy would, since file libraries are stricter.

    Raises:
        FormatError: A slice goes backwards.
    """
    bounds = [part.indices(size) for part, size in zip(region, shape, strict=True)]
    if any(step < 1 for _, _, step in bounds):
        raise FormatError(
            f"The region {region} was asked for; its slices must go forwards. Read it forwards and flip the array."
        )
    z, y, x = (slice(start, max(start, stop), step) for start, stop, step in bounds)
    return (z, y, x)


def check_memory(shape: Sequence[int], dtype: np.dtype[Any], what: str) -> None:
    """Refuse to allocate an array that this machine cannot hold, before it is tried.

    Args:
        shape: Of the array.
        dtype: Of its elements.
        what: What is read, for the sentence: ``"frame 3 of movie.zarr"``.

    Raises:
        UnsupportedError: It is larger than the physical memory.
    """
    size = dtype.itemsize
    for n in shape:
        size *= int(n)  # Python integers do not overflow
    there = threads.memory()
    if size > there:
        raise UnsupportedError(
            f"Reading {what} was not tried: {'x'.join(map(str, shape))} voxels of {dtype} need {size / 2**30:,.1f} GiB, and this "
            f"machine has {there / 2**30:,.1f} GiB of memory. Read it by regions or at a coarser level; if the file should not "
            "be that large, it is damaged."
        )
