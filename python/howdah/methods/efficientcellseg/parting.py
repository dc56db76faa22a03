"""Touching cells are parted: seeds, a watershed from them, and how clear each border is (paper, section 3.3)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from howdah.methods.efficientcellseg.peaks import Sampling, depth, peaks, smoothed

Bool = npt.NDArray[np.bool_]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
Split = Literal["components", "distance", "centres"]

FAR = 0.3  # what the depth counts far from any centre; with the centre's height added, it falls from each centre to all sides

__all__ = ["Rules", "Split", "part"]


@dataclass(frozen=True)
class Rules:
    """Settled settings; lengths in pixels of the finest axis.

    Attributes:
        split: How touching cells are parted.
        smoothing: Standard deviation of the smoothing before peaks are sought.
        distance: Peaks of one component lie at least so far apart.
        centre_threshold: Height that a predicted centre has at least.
        min_size: A part of fewer voxels is joined to what it touches; 0 = never.
        sampling: Length of a voxel along each axis.
        planes: A plane of a volume is parted, in which not every cell has its centre: ``centres`` then seeks the peaks of
            depth times predicted centre, and does not ask for ``centre_threshold``.
    """

    split: Split
    smoothing: float
    distance: float
    centre_threshold: float
    min_size: int
    sampling: Sampling
    planes: bool = False


def part(mask: Bool, centre: F32 | None, rules: Rules) -> tuple[I32, F64]:
    """Part the foreground into cells. A component without any seed stays one cell.

    Args:
        mask: (*S) foreground; voxels are connected by faces.
        centre: (*S) predicted centres 0..1; None: as ``distance``.
        rules: How.

    Returns:
        (*S) int32 labels 1..N without gaps, and (N,) float64 how clear each is, 0..1: 1 for a cell that touches no other cell,
        else how far the highest pass to another cell lies below its own peak, as a share of that.
    """
    named, n = ndimage.label(mask)
    component: I32 = named.astype(np.int32, copy=False)
    if not n or rules.split == "components":
        return component, np.ones(n)
    deep = depth(mask, rules.sampling)
    if rules.split == "distance" or centre is None:
        height = landscape = smoothed(deep, rules.sampling, rules.smoothing)
    else:
        landscape = deep * (FAR + centre)
        height = smoothed(landscape if rules.planes else centre, rules.sampling, rules.smoothing)
    seeds = peaks(height, component, rules.sampling, rules.distance)
    if rules.split == "centres" and not rules.planes:
        seeds = seeds[height.reshape(-1)[seeds] >= rules.centre_threshold]
    labels, seed = _flooded(component, n, landscape, seeds)
    if labels is component:
        return labels, np.ones(n)
    borders = _borders(labels, height)
    if rules.min_size > 1:
        labels, seed, borders = _without_crumbs(labels, seed, borders, rules.min_size)
    highest = np.zeros(len(seed) + 1)
    np.maximum.at(highest, borders.cell, borders.height)
    peak = np.where(seed >= 0, height.reshape(-1)[seed], 0.0)
    clear = np.where(highest[1:] > 0, 1.0 - highest[1:] / np.maximum(peak, 1e-6), 1.0)
    return labels, np.clip(clear, 0.0, 1.0)


def _flooded(component: I32, n: int, landscape: F32, seeds: I64) -> tuple[I32, I64]:
    """Part each component with several seeds by a watershed.

    Returns:
        The labels, in order of component, then of seed (the same array if nothing is to part), and the flat index of each one's
        seed, -1 for a component without.
    """
    owner = component.reshape(-1)[seeds]
    counts = np.bincount(owner, minlength=n + 1)
    many = counts > 1
    many[0] = False
    own = np.maximum(counts[1:], 1)
    first = np.concatenate([[0], 1 + np.concatenate([[0], np.cumsum(own)[:-1]])]).astype(
        np.int32
    )  # label of a component
    order = np.argsort(owner, kind="stable")
    owner, seeds = owner[order], seeds[order]
    rank = np.arange(len(owner)) - np.searchsorted(owner, owner)
    label = (first[owner] + rank).astype(np.int32)
    seed = np.full(int(own.sum()), -1, dtype=np.int64)
    seed[label - 1] = seeds
    if not many.any():
        return component, seed
    from skimage.segmentation import watershed  # slow to import

    markers = np.zeros(component.shape, dtype=np.int32)
    markers.reshape(-1)[seeds] = label
    labels = first[component]
    for box, mask in _places(component, many):
        parted = watershed(-landscape[box], np.where(mask, markers[box], 0), mask=mask)  # type: ignore[no-untyped-call]
        np.copyto(labels[box], parted, where=mask)
    return labels, seed


def _places(component: I32, wanted: Bool) -> Iterator[tuple[tuple[slice, ...], Bool]]:
    """Yield the wanted components as boxes and masks: one by one, for a short queue of voxels makes a watershed fast; or all at
    once where the boxes overlap so much that this does not pay."""
    boxes = ndimage.find_objects(component)
    numbers = np.flatnonzero(wanted)
    content = sum(prod(axis.stop - axis.start for axis in boxes[number - 1]) for number in numbers)
    if content > 2 * component.size:
        yield (slice(None),) * component.ndim, wanted[component]
        return
    for number in numbers:
        box = boxes[number - 1]
        yield box, component[box] == number


class _Borders(NamedTuple):
    """Pairs of neighbouring voxels of two cells: the one cell, the other, and the lower of the two heights; both ways."""

    cell: I32
    other: I32
    height: F32


def _borders(labels: I32, height: F32) -> _Borders:
    parts = []
    for axis in range(labels.ndim):
        lead = (slice(None),) * axis
        here, there = (*lead, slice(None, -1)), (*lead, slice(1, None))
        a, b = labels[here], labels[there]
        at = np.nonzero((a != b) & (a > 0) & (b > 0))
        low = np.minimum(height[here][at], height[there][at])
        parts += [(a[at], b[at], low), (b[at], a[at], low)]
    return _Borders(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _without_crumbs(labels: I32, seed: I64, borders: _Borders, least: int) -> tuple[I32, I64, _Borders]:
    """Join parts that are too small for a cell to the neighbour behind the highest pass, if that is large enough."""
    n = len(seed)
    small = np.bincount(labels.reshape(-1), minlength=n + 1) < least
    fits = small[borders.cell] & ~small[borders.other]
    if not fits.any():
        return labels, seed, borders
    target = np.arange(n + 1)
    order = np.argsort(borders.height[fits], kind="stable")
    target[borders.cell[fits][order]] = borders.other[fits][order]  # the last one written counts
    stays = target == np.arange(n + 1)
    number = (np.cumsum(stays) - 1).astype(np.int32)[target]
    cell, other = number[borders.cell], number[borders.other]
    apart = cell != other
    return number[labels], seed[stays[1:]], _Borders(cell[apart], other[apart], borders.height[apart])
