"""Label images to outlines and back, pixel by pixel: :func:`trace` and :func:`fill`; and ellipsoids to label images.

A pixel is the square around its index, so its corners are at index ± 0.5 (index coordinates; an affine takes them to the
world). :func:`trace` follows the pixel borders of every label; :func:`fill` gives a pixel to an object if its centre lies
inside an odd number of the object's rings. Both work on all objects at once, so that a frame with a thousand cells takes
a fraction of a second, and ``fill(trace(labels))`` gives the labels back exactly.

Tracing: each side of a pixel whose neighbour has another label is a directed edge, with the object on its left. Which edge
follows is decided by two pixels ahead, so edges form closed chains, which *pointer doubling* orders: in round k every edge
learns about the 2^k edges after it. Pixels that touch at a corner only are kept apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bdv_io.errors import ValidationError
from bdv_io.runs import Runs, Shape, expand, paint, runs_of_ellipsoids

Array = npt.NDArray[Any]
Bool = npt.NDArray[np.bool_]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]

__all__ = ["Filled", "Rings", "ellipsoids_in_voxels", "fill", "fill_ellipsoids", "runs_of_rings", "trace"]

PIXELS_AT_ONCE = 4_000_000
CROSSINGS_AT_ONCE = 4_000_000


@dataclass(frozen=True, eq=False)
class Rings:
    """Closed polygons of objects in planes of a label image, in index coordinates.

    Attributes:
        label: (R,) int64, the object that each ring belongs to.
        plane: (R,) int64, index of its plane.
        start: (R + 1,) int64; ring i has the vertices ``vertices[start[i]:start[i + 1]]``, not closed.
        vertices: (V, 2) float64 (y, x). Of traced rings the area is positive from the y to the x axis for outer borders
            and negative for holes.
    """

    label: I64
    plane: I64
    start: I64
    vertices: F64

    def __len__(self) -> int:
        """Return the number of rings."""
        return len(self.label)


class Filled(NamedTuple):
    """What :func:`fill` made.

    Attributes:
        labels: (Z, Y, X) label image, 0 where there is no object.
        n_overlapping: Number of pixels that further objects lost to later ones.
    """

    labels: Array
    n_overlapping: int


# ---- label image -> rings ------------------------------------------------------------------------------------------


def trace(labels: Array) -> Rings:
    """Outline every label of an image along the pixel borders: all parts, all holes, plane by plane.

    Args:
        labels: (Z, Y, X) or (Y, X), any integers or bool; 0 is background.

    Returns:
        Rings in ascending order of plane and label; vertices only where the border turns.

    Raises:
        ValidationError: The image has another shape or no whole numbers, or a label is beyond int64.
    """
    if labels.ndim not in (2, 3) or labels.dtype.kind not in "iub":
        raise ValidationError(
            f"Tracing outlines needs a (Z, Y, X) or (Y, X) image of whole numbers; found shape {labels.shape}, "
            f"type {labels.dtype}."
        )
    stack = labels[None] if labels.ndim == 2 else labels
    if labels.dtype == np.uint64 and labels.size and int(labels.max()) > np.iinfo(np.int64).max:
        raise ValidationError(f"Tracing outlines failed: the label {int(labels.max())} is beyond 63 bits.")
    depth = max(PIXELS_AT_ONCE // max(stack[0].size, 1), 1) if len(stack) else 1
    parts = [_trace(stack[first : first + depth], first) for first in range(0, len(stack), depth)]
    if not parts:
        return Rings(np.empty(0, np.int64), np.empty(0, np.int64), np.zeros(1, np.int64), np.empty((0, 2)))
    counts = np.concatenate([np.diff(part.start) for part in parts])
    return Rings(
        np.concatenate([part.label for part in parts]),
        np.concatenate([part.plane for part in parts]),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        np.concatenate([part.vertices for part in parts]),
    )


def _trace(stack: Array, first_plane: int) -> Rings:
    pixel = np.zeros((stack.shape[0], stack.shape[1] + 2, stack.shape[2] + 2), dtype=stack.dtype)
    pixel[:, 1:-1, 1:-1] = stack
    _, height, width = pixel.shape
    side, place, following = _edges(pixel)
    cycle, rank = _order(following)
    length = np.bincount(cycle)
    first = np.cumsum(length) - length
    along = np.empty(len(side), dtype=np.int64)  # edges ring by ring
    along[first[cycle] + rank] = np.arange(len(side))
    ring = np.repeat(np.arange(len(length)), length)
    turns = side[along] != side[following[along]]
    at, ring = along[turns], ring[turns]
    # An edge ends at a corner of its pixel: top edges at its upper left, left ones at its lower left, and so on.
    corner_y = np.array([0, 1, 1, 0])[side[at]]
    corner_x = np.array([0, 0, 1, 1])[side[at]]
    pixel_at = place[at]
    plane = pixel_at // (height * width)  # with the products below several times faster than divmod
    line = pixel_at // width
    y, x = line - plane * height, pixel_at - line * width
    vertices = np.stack([y + corner_y - 1.5, x + corner_x - 1.5], axis=1)
    counts = np.bincount(ring, minlength=len(length))
    start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    label = pixel.reshape(-1)[place[at][start[:-1]]].astype(np.int64)
    return _sorted(Rings(label, plane[start[:-1]] + first_plane, start, vertices.astype(np.float64)))


def _edges(pixel: Array) -> tuple[I64, I64, I64]:
    """Sides (E,) 0..3 = top, left, bottom, right, flat pixels (E,) that they bound, and the edge (E,) that follows each."""
    width = pixel.shape[2]
    flat = pixel.reshape(-1)
    # For each side: step over the side to the neighbour outside, and step ahead along the edge.
    across = (-width, -1, width, 1)
    ahead = (-1, width, 1, -width)
    solid = flat != 0
    places = [np.flatnonzero(solid & _differs(flat, step)) for step in across]
    counts = [len(place) for place in places]
    offset = np.concatenate([[0], np.cumsum(counts)])
    following = []
    for side, place in enumerate(places):
        own = flat[place]
        front = place + ahead[side]
        corner = front + across[side]
        straight = flat[front] == own
        right = straight & (flat[corner] == own)
        turned_left, turned_right = (side + 1) % 4, (side + 3) % 4
        next_edge = offset[turned_left] + np.searchsorted(places[turned_left], place)
        next_edge[straight] = offset[side] + np.searchsorted(place, front[straight])
        next_edge[right] = offset[turned_right] + np.searchsorted(places[turned_right], corner[right])
        following.append(next_edge)
    sides = np.repeat(np.arange(4), counts)
    return sides, np.concatenate(places), np.concatenate(following).astype(np.int64)


def _differs(flat: Array, step: int) -> Bool:
    """Whether each pixel differs from the one that is ``step`` further; false at the ends, where there is none."""
    found = np.zeros(flat.shape, dtype=bool)
    here, there = (slice(None, -step), slice(step, None)) if step > 0 else (slice(-step, None), slice(None, step))
    np.not_equal(flat[here], flat[there], out=found[here])
    return found


def _order(following: I64) -> tuple[I64, I64]:
    """Cycle (E,) of each edge, numbered from 0, and its place (E,) along the cycle, by pointer doubling."""
    n = len(following)
    least, jump = np.arange(n), following
    while (least[following] != least).any():
        least = np.minimum(least, least[jump])
        jump = jump[jump]
    # Cut each cycle before its least edge, and count the steps to the cut.
    last = least == following
    jump = np.where(last, np.arange(n), following)
    to_end = (~last).astype(np.int64)
    while not last[jump].all():
        to_end += to_end[jump]
        jump = jump[jump]
    is_first = least == np.arange(n)
    cycle = np.cumsum(is_first) - 1
    return cycle[least], to_end[least] - to_end


def _sorted(rings: Rings) -> Rings:
    order = np.lexsort((rings.label, rings.plane))
    counts = np.diff(rings.start)[order]
    start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    vertices = rings.vertices[expand(rings.start[order], counts)]
    return Rings(rings.label[order], rings.plane[order], start, vertices)


# ---- rings -> label image ------------------------------------------------------------------------------------------


def fill(rings: Rings, shape: Shape, *, dtype: npt.DTypeLike = np.int32) -> Filled:
    """Rasterise rings at pixel centres: a pixel belongs to an object if it lies in an odd number of its rings.

    A centre exactly on a border counts as inside on the right and upper side, as in ImageJ. Where objects overlap, the one whose rings
    come later has the pixel.

    Args:
        rings: The rings; those of one label in one plane belong together and must follow each other.
        shape: Pixels (Z, Y, X); what lies outside is cut.
        dtype: Integer type of the labels.

    Raises:
        ValidationError: A label does not fit the type.
    """
    if (
        len(rings)
        and not np.iinfo(dtype).min <= int(rings.label.min()) <= int(rings.label.max()) <= np.iinfo(dtype).max
    ):
        raise ValidationError(
            f"Filling outlines failed: labels run from {rings.label.min()} to {rings.label.max()}, which is beyond "
            f"{np.dtype(dtype)}."
        )
    new = np.ones(len(rings), dtype=bool)
    new[1:] = (rings.label[1:] != rings.label[:-1]) | (rings.plane[1:] != rings.plane[:-1])
    canvas = np.zeros(shape, dtype=np.int32)
    total = 0
    for runs in runs_of_rings(rings, np.cumsum(new) - 1, shape):
        paint(canvas, runs)
        total += runs.n_voxels
    names = np.concatenate([[0], rings.label[new]]).astype(dtype)
    return Filled(names[canvas], total - int(np.count_nonzero(canvas)))


def runs_of_rings(rings: Rings, owner: I64, shape: Shape) -> Iterator[Runs]:
    """Find the pixels inside rings as runs along x, in parts that fit into memory; ``rings.label`` does not matter.

    Args:
        rings: The rings, in any planes; those outside of ``shape`` are cut.
        owner: (R,) number of the object of each ring, never descending. Rings of one owner must be in one plane, and are
            joined by the even-odd rule.
        shape: Pixels (Z, Y, X).
    """
    n_z, n_y, n_x = shape
    ring = np.repeat(np.arange(len(rings)), np.diff(rings.start))
    following = np.arange(1, len(rings.vertices) + 1)
    following[rings.start[1:] - 1] = rings.start[:-1]
    y = np.clip(rings.vertices[:, 0], -1.0, n_y)
    # An edge crosses the rows from its upper end (included) to its lower end (not included).
    row, row_2 = np.ceil(y).astype(np.int64), np.ceil(y[following]).astype(np.int64)
    first, end = np.maximum(np.minimum(row, row_2), 0), np.minimum(np.maximum(row, row_2), n_y)
    in_image = (rings.plane >= 0) & (rings.plane < n_z)
    kept = np.flatnonzero((end > first) & in_image[ring])
    if not len(kept):
        return
    plane, owner_of = rings.plane[ring[kept]], owner[ring[kept]]
    first, end = plane * n_y + first[kept], plane * n_y + end[kept]
    (y_1, x_1), (y_2, x_2) = rings.vertices[kept].T, rings.vertices[following[kept]].T
    slope = (x_2 - x_1) / (y_2 - y_1)
    for low, high in _bands(first, end, n_z * n_y):
        inside = np.flatnonzero((first < high) & (end > low))
        top = np.maximum(first[inside], low)
        count = np.minimum(end[inside], high) - top
        line, edge = expand(top, count), np.repeat(inside, count)
        crossing = x_1[edge] + (line - plane[edge] * n_y - y_1[edge]) * slope[edge]
        column = np.clip(np.floor(crossing) + 1, 0, n_x).astype(np.int64)
        # Sorted by owner, line and column, crossings pair up to runs: where one enters and where it leaves.
        key = np.sort(((owner_of[edge] * (high - low)) + line - low) * (n_x + 1) + column)
        enter, leave = key[::2], key[1::2]
        length = leave - enter
        enter, length = enter[length > 0], length[length > 0]
        which, column = np.divmod(enter, n_x + 1)
        who, line = np.divmod(which, high - low)
        yield Runs(shape, (line + low) * n_x + column, length, who)


def _bands(first: I64, end: I64, n_lines: int) -> Iterator[tuple[int, int]]:
    """Cut the lines of an image into bands that few enough edges cross."""
    change = np.bincount(first, minlength=n_lines + 1) - np.bincount(end, minlength=n_lines + 1)
    crossings = np.cumsum(np.cumsum(change[:-1]))
    cuts = np.flatnonzero(np.diff(crossings // CROSSINGS_AT_ONCE)) + 1
    low, high = int(first.min()), int(end.max())
    edges = [low, *cuts[(cuts > low) & (cuts < high)].tolist(), high]
    yield from pairwise(edges)


# ---- ellipsoids -> label image -------------------------------------------------------------------------------------


def fill_ellipsoids(
    centre: npt.ArrayLike, covariance: npt.ArrayLike, shape: Shape, *, affine: npt.ArrayLike | None = None
) -> Filled:
    """Paint ellipsoids: the voxels whose centres lie inside, at least the one at the centre; labels are row + 1.

    Args:
        centre: (N, 3) (z, y, x), world.
        covariance: (N, 3, 3), squared world units, positive definite.
        shape: Voxels (Z, Y, X); what lies outside is cut.
        affine: 4x4 matrix from indices (z, y, x, 1) to the world; None for index coordinates.

    Raises:
        ValidationError: A centre is not finite, or a covariance is no ellipsoid.
    """
    middle, factor = ellipsoids_in_voxels(centre, covariance, affine)
    canvas = np.zeros(shape, dtype=np.int32)
    runs = runs_of_ellipsoids(middle, factor, np.ones(len(middle)), shape)
    has_voxels = np.zeros(len(middle), dtype=bool)
    has_voxels[runs.owner] = True
    nearest = np.floor(middle + 0.5)
    dots = np.flatnonzero(~has_voxels & (nearest >= 0).all(axis=1) & (nearest < shape).all(axis=1))
    paint(canvas, runs)
    at = tuple(nearest[dots].astype(np.int64).T)
    before = canvas[at]
    canvas[at] = np.maximum(before, dots + 1)
    return Filled(canvas, runs.n_voxels + len(dots) - int(np.count_nonzero(canvas)))


def ellipsoids_in_voxels(
    centre: npt.ArrayLike, covariance: npt.ArrayLike, affine: npt.ArrayLike | None
) -> tuple[F64, F64]:
    """Return centres (N, 3) in index coordinates, and Cholesky factors (N, 3, 3) of the covariances in voxels.

    Raises:
        ValidationError: A centre is not finite, or a covariance is no ellipsoid.
    """
    to_index = np.linalg.inv(np.eye(4) if affine is None else np.asarray(affine, dtype=np.float64))
    linear = to_index[:3, :3]
    middle = np.asarray(centre, dtype=np.float64).reshape(-1, 3) @ linear.T + to_index[:3, 3]
    matrices = linear @ np.asarray(covariance, dtype=np.float64).reshape(-1, 3, 3) @ linear.T
    if not (np.isfinite(middle).all() and np.isfinite(matrices).all()):
        raise ValidationError("Painting spots failed: a centre or a covariance is not a finite number.")
    try:
        return middle, np.linalg.cholesky(matrices)
    except np.linalg.LinAlgError:
        raise ValidationError(
            f"Painting {len(middle)} spots failed: a covariance is not positive definite, so it is no ellipsoid."
        ) from None
