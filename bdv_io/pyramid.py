"""Mipmap pyramids: which levels a movie gets, and how a frame becomes smaller."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io.image import Array, Factors, Shape, Vector

__all__ = ["downsample", "propose_levels"]

COARSEST = 256  # the pyramid ends when no edge is longer
SLAB_BYTES = 32 << 20  # working memory of the downsampling


def propose_levels(shape: Shape, voxel_size: Vector) -> tuple[Factors, ...]:
    """Return whole downsampling factors (z, y, x) a level, as BigDataViewer proposes them.

    Each level halves the axes whose voxels are at most twice the finest, so that voxels become isotropic, until no
    edge is longer than 256 voxels. An axis of one voxel is left alone.
    """
    scale, factors = np.asarray(voxel_size, dtype=np.float64), np.ones(3, dtype=np.int64)
    levels = [(1, 1, 1)]
    while max(n // f for n, f in zip(shape, factors.tolist(), strict=True)) > COARSEST:
        wide = np.asarray(shape) // factors > 1  # an axis of one voxel has nothing to halve
        step = np.where((scale / scale[wide].min() <= 2.0) & wide, 2, 1)
        factors, scale = factors * step, scale * step
        z, y, x = factors.tolist()
        levels.append((z, y, x))
    return tuple(levels)


def downsample(frame: Array, factors: Factors) -> Array:
    """Return the mean of blocks of a (Z, Y, X) array, in its type; whole numbers are rounded to the nearest.

    A rest at the far border that fills no block is left out, as in BigDataViewer; an axis shorter than its factor
    becomes one block. Exact for integers up to 32 bit; 64-bit integers go through float64. NaN and infinity spread.
    """
    steps = [min(f, n) for f, n in zip(factors, frame.shape, strict=True)]
    if steps == [1, 1, 1]:
        return frame
    z, y, x = (n // f for f, n in zip(steps, frame.shape, strict=True))
    out = np.empty((z, y, x), dtype=frame.dtype)
    kind = _sum_type(frame.dtype, int(np.prod(steps)))
    # One slab of output planes at a time: the first sum over z is as large as a plane of the input.
    slab = max(1, SLAB_BYTES // max(1, frame.shape[1] * frame.shape[2] * np.dtype(kind).itemsize))
    with np.errstate(over="ignore", invalid="ignore"):
        for first in range(0, z, slab):
            last = min(z, first + slab)
            total = _sum_over(frame[first * steps[0] : last * steps[0]], 0, steps[0], kind)
            total = _sum_over(total[:, : y * steps[1]], 1, steps[1], kind)
            total = _sum_over(total[:, :, : x * steps[2]], 2, steps[2], kind)
            out[first:last] = _mean(total, int(np.prod(steps)), frame.dtype)
    return out


def _sum_over(array: Array, axis: int, step: int, kind: npt.DTypeLike) -> Array:
    parts = [array[(slice(None),) * axis + (slice(offset, None, step),)] for offset in range(step)]
    if step == 1:
        return array.astype(kind, copy=False)
    total = np.add(parts[0], parts[1], dtype=kind)
    for part in parts[2:]:
        total += part
    return total


def _sum_type(dtype: np.dtype[Any], count: int) -> npt.DTypeLike:
    if dtype.kind == "f" or dtype.itemsize == 8:
        return np.float64
    return np.int32 if dtype.itemsize * 8 + count.bit_length() < 32 else np.int64


def _mean(total: Array, count: int, dtype: np.dtype[Any]) -> Array:
    if dtype.kind == "f":
        return (total / count).astype(dtype)
    if total.dtype.kind == "f":
        limits = np.iinfo(dtype)
        # float64 rounds 2**63 - 1 up to 2**63, which does not fit back
        return np.clip(np.rint(total / count), limits.min, np.nextafter(float(limits.max), 0)).astype(dtype)
    return ((total + count // 2) // count).astype(dtype)
