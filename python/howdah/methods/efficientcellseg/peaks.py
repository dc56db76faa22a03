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
    along = [_along(mask, axis) for axis in range(mask.ndim)]
    most = np.inf
    with np.errstate(invalid="ignore"):
        bound = along[0] * np.float32(sampling[0])
        for steps, step in zip(along[1:], sampling[1:], strict=True):
            np.minimum(bound, steps * np.float32(step), out=bound)
        most = float(bound.max(initial=0.0))
    if most > DEEPEST * min(sampling):
        found = ndimage.distance_transform_edt(mask, sampling=sampling)
        return np.asarray(
            found if not mask.all() else np.full(mask.shape, most if np.isfinite(most) else 1.0), np.float32
        )
    squared = (along[-1] * np.float32(sampling[-1])) ** 2
    for axis in range(mask.ndim - 1):
        squared = _nearest(squared, bound, axis, sampling[axis])
    deep: F32 = np.sqrt(squared, out=squared)
    return deep


def _along(mask: Bool, axis: int) -> F32:
    """Return how many voxels away the nearest voxel outside of the mask is along one axis; infinite if there is none."""
    n = mask.shape[axis]
    place = np.arange(n, dtype=np.int32).reshape(*([1] * axis), n, *([1] * (mask.ndim - axis - 1)))
    far = np.int32(1 << 29)
    before = np.maximum.accumulate(np.where(mask, -far, place), axis=axis)
    after = np.flip(np.minimum.accumulate(np.flip(np.where(mask, far, place), axis), axis=axis), axis)
    steps = np.minimum(place - before, after - place).astype(np.float32)
    steps[steps > n] = np.inf
    return steps


def _nearest(squared: F32, bound: F32, axis: int, step: float) -> F32:
    """Take the least, over all offsets along an axis, of the value there plus the squared offset."""
    n = squared.shape[axis]
    whole = np.moveaxis(squared, axis, 0).reshape(n, -1)
    limit = np.moveaxis(bound, axis, 0).reshape(n, -1)
    out = np.array(whole)
    width = max(BLOCK // max(n, 1), 16)
    for start in range(0, whole.shape[1], width):
        values, best = np.ascontiguousarray(whole[:, start : start + width]), out[:, start : start + width].copy()
        reach = int(np.ceil(float(limit[:, start : start + width].max(initial=0.0)) / step))
        for k in range(1, min(reach, n - 1) + 1):
            raised = values + np.float32((k * step) ** 2)
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
    flat, name, place = flat[good], name[good], place[good]
    size = np.maximum(np.bincount(name, minlength=n + 1), 1)
    middle = np.stack([np.bincount(name, axis, minlength=n + 1) / size for axis in place.T], axis=1)
    order = np.lexsort((flat, ((place - middle[name]) ** 2).sum(axis=1), name))
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
