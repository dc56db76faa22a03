"""Cells of one plane, found region by region, as :func:`.instances.find_cells` finds them in the whole plane.

A region is looked at with a *window* around it. If a connected part of the foreground (after small holes are closed) lies in the window
as a whole, and what lies within the reach of the smoothing does too, its cells are those of the whole plane: pixels, qualities, and
order. The window grows until that is so for all parts that have a pixel in the region. A part is known by its first pixel, row by
row; two regions that both see all of it see the same, and it is taken once.

Where a part is larger than the largest window (tissue without gaps), its cells are found in that window, and neighbouring regions may
disagree about them near their seam. Then a cell counts for the region in which its middle lies. One that shares half of its pixels with
cells that count already is left out, and of others the shared pixels stay with the former; at last, cells whose middle lies beyond the
region, and which no other region has found, are taken by the same rule. So no cell is there twice, none is lost that a region has seen,
and a border near a seam (within the window's margin) may lie elsewhere than in the whole plane.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from howdah.methods.efficientcellseg.config import EfficientCellSegConfig
from howdah.methods.efficientcellseg.holes import fill_small_holes
from howdah.methods.efficientcellseg.instances import (
    HOLE,
    Cells,
    in_finest,
    kept_cells,
    parts_of,
    rules_of,
    typical_size,
)
from howdah.methods.efficientcellseg.maps import Maps

Bool = npt.NDArray[np.bool_]
F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
Box = tuple[slice, slice]
Shape = tuple[int, int]
Vector = tuple[float, float, float]

__all__ = ["Found", "find_in_window", "join"]

HALF = 0.5
NEAR = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True, eq=False)
class Found:
    """Cells of a region.

    Attributes:
        labels: (Y, X) int32, 1..N in the order of the plane.
        start: (y, x) of its first pixel in the plane.
        sums: (2, N) pixels, and sum of their probability times clearness.
        first: (N,) flat index in the plane of the first pixel of the foreground that each is part of.
        whole: (N,) whether it is exactly what it is in the whole plane.
        inside: (N,) whether its middle lies in the region; only asked of those that are not whole.
    """

    labels: I32
    start: tuple[int, int]
    sums: F64
    first: I64
    whole: Bool
    inside: Bool


def find_in_window(
    maps: Maps,
    config: EfficientCellSegConfig,
    *,
    voxel_size: Vector,
    diameter: float,
    window: Box,
    core: Box,
    plane: Shape,
) -> tuple[Found, bool]:
    """Find the cells of a region.

    Args:
        maps: (1, Y, X) of the window.
        config: As of :func:`.instances.find_cells`.
        voxel_size: As of :func:`.instances.find_cells`.
        diameter: As of :func:`.instances.find_cells`.
        window: Where the maps lie in the plane.
        core: The region.
        plane: Shape (Y, X) of the plane.

    Returns:
        The cells, and whether all are whole: if not, a larger window is worth trying.

    Raises:
        ConfigError, DataError: As of :func:`.instances.find_cells`.
    """
    size = voxel_size[1:]
    finest = in_finest(diameter, size)
    rules, threshold = rules_of(maps, config, voxel_size=size, diameter=finest)
    mask = maps.cell > np.float32(threshold)
    area = np.pi / 4 * (HOLE * finest) ** 2
    closed = fill_small_holes(mask, area)[0] if config.fill_holes else mask[0]
    component, n = _named(closed)
    cut = _cut_edges(window, plane)
    bad = _on(component, cut, n)
    if config.fill_holes:
        bad |= _beside_open_holes(component, closed, cut, area, n)
    bad |= _too_near(
        component, bad, cut, [int(np.ceil(3.0 * rules.smoothing / step)) + 2 for step in rules.sampling], n
    )
    inner = (
        slice(core[0].start - window[0].start, core[0].stop - window[0].start),
        slice(core[1].start - window[1].start, core[1].stop - window[1].start),
    )
    touched = _on(component, inner, n)
    names, where = np.unique(component, return_index=True)
    first = np.zeros(n + 1, dtype=np.int64)
    first[names] = _in_plane(where, component.shape, window, plane)

    labels, sums = parts_of(maps, threshold, rules, config.fill_holes, finest)
    owner = _owner(labels[0], component, sums.shape[1])
    whole = touched[owner] & ~bad[owner]
    loose = touched[owner] & bad[owner]
    inside = np.ones(len(owner), dtype=bool)
    if loose.any():
        inside, meets = _middle_within(labels[0], inner, len(owner))
        loose &= inside | meets
    kept = np.flatnonzero(whole | loose)
    number = np.zeros(len(owner), dtype=np.int32)
    number[kept] = np.arange(1, len(kept) + 1)
    start = (window[0].start, window[1].start)
    found = Found(number[labels[0]], start, sums[:, kept], first[owner[kept]], whole[kept], inside[kept])
    return found, not (bad & touched).any()


def _named(mask: Bool) -> tuple[I32, int]:
    component, n = ndimage.label(mask)
    return np.asarray(component, dtype=np.int32), int(n)


def _middle_within(labels: I32, box: Box, n: int) -> tuple[Bool, Bool]:
    """(n,) whether the middle of each label lies in a box, and whether a pixel does."""
    flat = np.flatnonzero(labels)
    name = labels.reshape(-1)[flat]
    size = np.maximum(np.bincount(name, minlength=n), 1)
    inside, meets = np.ones(n, dtype=bool), np.zeros(n, dtype=bool)
    for values, part in zip(np.unravel_index(flat, labels.shape), box, strict=True):
        middle = np.bincount(name, values, minlength=n) / size
        inside &= (middle >= part.start - HALF) & (middle < part.stop - HALF)
    meets[labels[box]] = True
    return inside, meets


def _cut_edges(window: Box, plane: Shape) -> Bool:
    """Mask of the outermost pixels of a window where the plane goes on beyond them."""
    y, x = (part.stop - part.start for part in window)
    edge = np.zeros((y, x), dtype=bool)
    edge[0] |= window[0].start > 0
    edge[-1] |= window[0].stop < plane[0]
    edge[:, 0] |= window[1].start > 0
    edge[:, -1] |= window[1].stop < plane[1]
    return edge


def _on(component: I32, where: Bool | Box, n: int) -> Bool:
    """(n + 1,) which components have a pixel there."""
    found = np.zeros(n + 1, dtype=bool)
    found[component[where]] = True
    found[0] = False
    return found


def _beside_open_holes(component: I32, closed: Bool, cut: Bool, area: float, n: int) -> Bool:
    """(n + 1,) components beside background that leaves the window, of which so little is seen that it may be a small hole."""
    background, m = _named(~closed)
    size = np.bincount(background.reshape(-1), minlength=m + 1)
    open_ = np.zeros(m + 1, dtype=bool)
    open_[background[cut]] = True
    open_ &= size <= area
    open_[0] = False
    if not open_.any():
        return np.zeros(n + 1, dtype=bool)
    return _on(component, ndimage.binary_dilation(open_[background], NEAR), n)


def _too_near(component: I32, bad: Bool, cut: Bool, reach: list[int], n: int) -> Bool:
    """(n + 1,) components that have a bad one, or the end of the window, within the reach of the smoothing."""
    unsure = cut | bad[component]
    if not unsure.any():
        return np.zeros(n + 1, dtype=bool)
    size = [2 * r + 1 for r in reach]
    return _on(component, ndimage.maximum_filter(unsure, size, mode="constant"), n)


def _in_plane(flat: I64, shape: Shape, window: Box, plane: Shape) -> I64:
    y, x = np.unravel_index(flat, shape)
    found: I64 = (y + window[0].start).astype(np.int64) * plane[1] + x + window[1].start
    return found


def _owner(labels: I32, component: I32, n: int) -> I64:
    """(n,) the component that each label is part of; 0 for the background."""
    owner = np.zeros(n, dtype=np.int64)
    there = np.flatnonzero((labels > 0) & (component > 0))
    owner[labels.reshape(-1)[there]] = component.reshape(-1)[there]
    owner[0] = 0
    return owner


def join(
    found: list[Found], config: EfficientCellSegConfig, *, voxel_size: Vector, diameter: float, plane: Shape
) -> Cells:
    """Put the cells of all regions of a plane together.

    Args:
        found: The regions, in any order that is always the same.
        config: As of :func:`.instances.find_cells`.
        voxel_size: As of :func:`.instances.find_cells`.
        diameter: As of :func:`.instances.find_cells`.
        plane: Shape (Y, X).

    Returns:
        The cells (1, Y, X); of cells that are whole the same as in the whole plane, in the same order.
    """
    size = voxel_size[1:]
    finest = in_finest(diameter, size)
    starts = np.cumsum([0, *(len(one.first) for one in found)])
    labels = np.zeros(plane, dtype=np.int32)
    sums = np.concatenate([np.zeros((2, 1)), *(one.sums for one in found)], axis=1)
    first = np.concatenate([np.zeros(1, dtype=np.int64), *(one.first for one in found)])
    taken = np.empty(0, dtype=np.int64)
    for one, start in zip(found, starts.tolist(), strict=False):
        again = one.whole & np.isin(one.first, taken)  # two regions that both see all of it see the same
        new = one.whole & ~again
        sums[:, 1 + start + np.flatnonzero(again)] = 0.0
        fresh = np.concatenate([[0], np.where(new, np.arange(len(new)) + start + 1, 0)]).astype(np.int32)[one.labels]
        np.copyto(_place(one, labels), fresh, where=fresh > 0)
        taken = np.union1d(taken, one.first[new])
    for inside in (True, False):
        for one, start in zip(found, starts.tolist(), strict=False):
            _add(one, labels, sums, start, np.flatnonzero(~one.whole & (one.inside == inside)))
    order = np.concatenate([[0], 1 + np.lexsort((np.arange(len(first) - 1), first[1:]))])
    least = rules_of(None, config, voxel_size=size, diameter=finest)[0].min_size
    table, quality = kept_cells(sums[:, order], least, typical_size(size, finest))
    number = np.zeros(len(order), dtype=np.int32)
    number[order] = table
    np.take(number, labels, out=labels)
    return Cells(labels[np.newaxis], quality)


def _place(one: Found, labels: I32) -> I32:
    (y, x), (height, width) = one.start, one.labels.shape
    return labels[y : y + height, x : x + width]


def _add(one: Found, labels: I32, sums: F64, start: int, rows: I64) -> None:
    """Add cells that are not whole, as far as their pixels are free; those that share half of their pixels are left out."""
    if not len(rows):
        return
    place, boxes = _place(one, labels), ndimage.find_objects(one.labels)
    for row in rows.tolist():
        box = boxes[row]
        mask = one.labels[box] == row + 1
        free = mask & (place[box] == 0)
        share = np.count_nonzero(free) / np.count_nonzero(mask)
        if share > HALF:
            place[box][free] = start + row + 1
            sums[:, start + row + 1] *= share
        else:
            sums[:, start + row + 1] = 0.0
