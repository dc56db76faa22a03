"""Seeds of cells: how deep voxels lie in the foreground, and the peaks of a map that lie far enough from each other.

Lengths are pixels of the finest axis: ``sampling`` says how long a voxel is along each axis.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import KDTree

Bool = npt.NDArray[np.bool_]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
Sampling = tuple[float, ...]

__all__ = ["depth", "peaks", "smoothed"]

DEEPEST = 48  # voxels: up to here, trying all offsets of an axis is faster than the general distance transform
BLOCK = 1 << 18  # voxels that stay in the processor's cache


def depth(mask: Bool, sampling: Sampling) -> F32:
    """Return the distance of each voxel of the mask to the nearest voxel outside of it, 0 outside; exact.

    The outside of the image is not outside of the mask: a cell that the border cuts is deepest where it is cut.

    Args:
        mask: (*S).
        sampling: Length of a voxel along each axis.
    """
    rows = _along_rows(mask)
    squared: F32 | None = (rows * np.float32(sampling[-1])) ** 2
    for axis in range(mask.ndim - 1):
        squared = None if squared is None else _nearest(squared, axis, sampling[axis])
    if squared is None or not np.isfinite(squared.max(initial=0.0)):
        if mask.all():
            return np.ones(mask.shape, dtype=np.float32)  # no outside, so no depth
        return np.asarray(ndimage.distance_transform_edt(mask, sampling=sampling), dtype=np.float32)
    deep: F32 = np.sqrt(squared, out=squared)
    return deep


def _along_rows(mask: Bool) -> F32:
    """Return how many voxels away the nearest voxel outside of the mask is along the last axis; infinite if there is none."""
    starts, ends = mask.copy(), mask.copy()
    starts[..., 1:] &= ~mask[..., :-1]
    ends[..., :-1] &= ~mask[..., 1:]
    start, end = np.flatnonzero(starts), np.flatnonzero(ends)
    length = end - start + 1
    place = np.arange(int(length.sum())) - np.repeat(np.cumsum(length) - length, length)
    n = mask.shape[-1]
    left = np.where(np.repeat(start % n == 0, length), np.float32(np.inf), (place + 1).astype(np.float32))
    right = np.repeat(length, length) - place
    right = np.where(np.repeat(end % n == n - 1, length), np.float32(np.inf), right.astype(np.float32))
    steps = np.zeros(mask.shape, dtype=np.float32)
    steps[mask] = np.minimum(left, right)
    return steps


def _nearest(squared: F32, axis: int, step: float) -> F32 | None:
    """Take the least, over all offsets along an axis, of the value there plus the squared offset; None if that is too many."""
    n = squared.shape[axis]
    whole = np.moveaxis(squared, axis, 0).reshape(n, -1)
    out = np.empty_like(whole)
    width = max(BLOCK // max(n, 1), 16)
    for start in range(0, whole.shape[1], width):
        values = np.ascontiguousarray(whole[:, start : start + width])
        best = values.copy()
        for k in range(1, n):
            raise_ = np.float32((k * step) ** 2)
            if raise_ >= best.max():
                break
            if k > DEEPEST:
                return None
            raised = values + raise_
            np.minimum(best[k:], raised[:-k], out=best[k:])
            np.minimum(best[:-k], raised[k:], out=best[:-k])
        out[:, start : start + width] = best
    shape = (n, *(size for at, size in enumerate(squared.shape) if at != axis))
    return np.ascontiguousarray(np.moveaxis(out.reshape(shape), 0, axis))


def smoothed(height: F32, sampling: Sampling, sigma: float) -> F32:
    """Return the map after a Gaussian of this standard deviation, the same length along all axes."""
    widths = [sigma / step if n > 1 else 0.0 for n, step in zip(height.shape, sampling, strict=True)]
    if max(widths, default=0.0) <= 0:
        return height
    result: F32 = ndimage.gaussian_filter(height, widths, truncate=3.0)
    return result


def peaks(height: F32, component: I32, sampling: Sampling, distance: float) -> I64:
    """Return the flat indices of the peaks of a map, growing.

    A peak is a voxel that no neighbour tops (with edges and corners); of a plateau, the voxel nearest to its middle. Of two
    peaks of one component that are nearer than ``distance``, the lower goes, the highest peaks first; of equal ones the later.

    Args:
        height: (*S) finite.
        component: (*S) connected parts of the foreground from 1; outside (0) nothing counts as height or peak.
        sampling: Length of a voxel along each axis.
        distance: Peaks lie at least so far apart.
    """
    inside = np.where(component > 0, height, np.float32(-np.inf))
    top = (inside == ndimage.maximum_filter(inside, 3, mode="nearest")) & (component > 0)
    flat = _middles(inside, top)
    if len(flat) < 2:
        return flat
    values, owner = height.reshape(-1)[flat], component.reshape(-1)[flat]
    order = np.argsort(-values, kind="stable")
    flat, owner = flat[order], owner[order]
    place = np.stack(np.unravel_index(flat, height.shape), axis=1) * np.array(sampling)
    return np.sort(flat[_apart(place, owner, distance)])


def _middles(height: F32, top: Bool) -> I64:
    """Return one voxel of each plateau of voxels that no neighbour tops, if none of the plateau's voxels has a higher one."""
    named, n = ndimage.label(top, np.ones((3,) * top.ndim, dtype=bool))
    flat = np.flatnonzero(top)
    name = named.reshape(-1)[flat]
    place = np.stack(np.unravel_index(flat, top.shape), axis=1)
    _, first, owner = np.unique(name, return_index=True, return_inverse=True)
    near = place - place[first[owner.reshape(-1)]]  # what is chosen must not hang on where in the image it lies
    bad = np.zeros(n + 1, dtype=bool)
    level, all_heights, all_tops = height.reshape(-1)[flat], height.reshape(-1), top.reshape(-1)
    for offset in itertools.product((-1, 0, 1), repeat=top.ndim):
        other = place + np.array(offset)
        fits = np.flatnonzero(np.all((other >= 0) & (other < np.array(top.shape)), axis=1))
        there = np.ravel_multi_index(tuple(other[fits].T), top.shape)
        bad[name[fits[(all_heights[there] == level[fits]) & ~all_tops[there]]]] = (
            True  # it goes on, up to something higher
        )
    good = ~bad[name]
    flat, name, near = flat[good], name[good], near[good]
    size = np.maximum(np.bincount(name, minlength=n + 1), 1)
    middle = np.stack([np.bincount(name, axis, minlength=n + 1) / size for axis in near.T], axis=1)
    order = np.lexsort((flat, ((near - middle[name]) ** 2).sum(axis=1), name))
    _, first = np.unique(name[order], return_index=True)
    return np.sort(flat[order[first]])


def _apart(place: F64, owner: I32, distance: float) -> I64:
    """Return the rows that stay, of points in falling order of height: none has a staying one before it within the distance."""
    near = np.nextafter(distance, 0) if distance > 0 else 0.0  # exactly the distance is far enough
    pairs = KDTree(place).query_pairs(near, output_type="ndarray")
    pairs = pairs[owner[pairs[:, 0]] == owner[pairs[:, 1]]]
    open_, stays = np.ones(len(place), dtype=bool), np.zeros(len(place), dtype=bool)
    while open_.any():  # a round settles all points without an open one above them: few rounds
        covered = np.zeros(len(place), dtype=bool)
        covered[pairs[:, 1]] = True
        settled = open_ & ~covered
        stays |= settled
        open_ &= ~settled
        open_[pairs[settled[pairs[:, 0]], 1]] = False
        pairs = pairs[open_[pairs[:, 0]] & open_[pairs[:, 1]]]
    return np.flatnonzero(stays)
