"""Holes of cells, plane by plane."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Bool = npt.NDArray[np.bool_]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]

__all__ = ["fill_holes", "fill_small_holes"]


def fill_small_holes(mask: Bool, area: float) -> Bool:
    """Return the mask (Z, Y, X) with holes of up to ``area`` pixels filled, each plane for itself.

    A hole is background that the plane's mask encloses; pixels of the background are connected by edges.
    """
    hole, size, _ = _enclosed(mask)
    small = size <= area
    small[0] = False
    return mask | small[hole] if small.any() else mask


def fill_holes(labels: I32) -> I32:
    """Return the labels (Z, Y, X) with each hole filled that one cell alone encloses in a plane."""
    hole, size, inner = _enclosed(labels > 0)
    if not len(inner):
        return labels
    flat, name = labels.reshape(-1), hole.reshape(-1)[inner]
    low = np.full(len(size), np.iinfo(np.int32).max, dtype=np.int32)
    high = np.zeros(len(size), dtype=np.int32)
    for stride in (1, labels.shape[-1]):
        for neighbours in (flat[inner - stride], flat[inner + stride]):  # a hole never touches the border
            cell = neighbours > 0
            np.minimum.at(low, name[cell], neighbours[cell])
            np.maximum.at(high, name[cell], neighbours[cell])
    filled = labels.copy()
    filled.reshape(-1)[inner] = np.where(low[name] == high[name], high[name], 0)
    return filled


def _enclosed(mask: Bool) -> tuple[I32, I64, I64]:
    """Return the enclosed background, numbered from 1 (Z, Y, X), how many pixels each has, and their flat indices."""
    within = np.zeros((3, 3, 3), dtype=bool)
    within[1] = [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    named, n = ndimage.label(~mask, within)
    outer = np.zeros(n + 1, dtype=bool)
    outer[0] = True
    for edge in (named[:, 0], named[:, -1], named[:, :, 0], named[:, :, -1]):
        outer[edge] = True
    if outer.all():
        return np.zeros((1, 1, 1), np.int32), np.zeros(1, np.int64), np.empty(0, np.int64)
    number = np.cumsum(~outer) * ~outer
    hole = number.astype(np.int32)[named]
    inner = np.flatnonzero(hole)
    return hole, np.bincount(hole.reshape(-1)[inner], minlength=int(number.max()) + 1), inner
