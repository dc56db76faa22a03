"""Ellipsoids from shapes: the centre and covariance of labelled voxels and of outlines, by their moments. No files.

A solid ellipsoid with half-axis r has the variance r²/5 along that axis, an elliptic disc r²/4. So a covariance (whose
eigenvalues are the squared half-axes) is 5 times the second central moments of a solid, and 4 times those of a disc. A disc
says nothing about its depth: its half-axis in z is the geometric mean of the other two, as for a TrackMate spot, which is
the sphere whose middle has the disc's area. No half-axis is under half a voxel, so that a single voxel is an ellipsoid too.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations_with_replacement
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bdv_io.errors import ValidationError

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = ["Measured", "measure", "measure_polygons"]

SOLID, DISC = 5.0, 4.0  # squared half-axis by variance
LEAST = 0.5  # least half-axis in voxels
PAIRS_AT_MOST = 100_000_000


class Measured(NamedTuple):
    """Shapes of objects, one row each.

    Attributes:
        label: (N,) int64, ascending.
        centre: (N, 3) float64 (z, y, x), world.
        covariance: (N, 3, 3) float64, squared world units, positive definite.
        n_voxels: (N,) int64.
        size: (N,) float64, volume of the voxels, or their area where the image has one plane; world units.
    """

    label: I64
    centre: F64
    covariance: F64
    n_voxels: I64
    size: F64


def measure(labels: npt.NDArray[Any], affine: npt.ArrayLike | None = None) -> Measured:
    """Measure each label of an image; 2D rules where it has one plane (see the module's docstring).

    Args:
        labels: (Z, Y, X) or (Y, X), any integers; 0 is background.
        affine: 4x4 matrix from indices (z, y, x, 1) to the world; None for index coordinates.

    Raises:
        ValidationError: The image has another shape, or no whole numbers.
    """
    if labels.ndim not in (2, 3) or labels.dtype.kind not in "iub":
        raise ValidationError(
            f"Measuring labels needs a (Z, Y, X) or (Y, X) image of whole numbers; found shape {labels.shape}, "
            f"type {labels.dtype}."
        )
    stack = labels[None] if labels.ndim == 2 else labels
    flat = np.flatnonzero(stack)
    values = stack.reshape(-1)[flat]
    names, owner = _numbered(values.astype(np.uint8) if values.dtype.kind == "b" else values)
    n = len(names)
    counts = np.bincount(owner, minlength=n)
    mean, offsets = np.zeros((n, 3)), {}
    for axis, index in _indices(flat, stack.shape):
        mean[:, axis] = np.bincount(owner, weights=index, minlength=n) / counts
        offsets[axis] = index - mean[owner, axis]
    variance = np.zeros((n, 3, 3))
    for i, j in combinations_with_replacement(sorted(offsets), 2):
        sums = np.bincount(owner, weights=offsets[i] * offsets[j], minlength=n)
        variance[:, i, j] = variance[:, j, i] = sums / counts
    matrix = np.eye(4) if affine is None else np.asarray(affine, dtype=np.float64)
    flat_image = len(stack) == 1
    covariance = _ellipsoids(variance, matrix[:3, :3], disc=np.full(n, flat_image))
    unit = np.abs(np.linalg.det(matrix[1:3, 1:3] if flat_image else matrix[:3, :3]))
    return Measured(names, mean @ matrix[:3, :3].T + matrix[:3, 3], covariance, counts.astype(np.int64), counts * unit)


def measure_polygons(
    owner: I64, z: F64, *, start: I64, vertices: F64, n_objects: int, affine: npt.ArrayLike | None = None
) -> tuple[F64, F64, F64]:
    """Measure objects from their outlines, exactly: areas and moments of the polygons, holes taken off.

    Args:
        owner: (R,) object of each ring, from 0, never descending.
        z: (R,) plane of each ring, index coordinates.
        start: (R + 1,) where the vertices of each ring begin, as in :class:`bdv_io.outlines.Outlines`.
        vertices: (V, 2) (y, x), index coordinates.
        n_objects: Number of objects; those without a ring have NaN.
        affine: 4x4 matrix from indices (z, y, x, 1) to the world; None for index coordinates.

    Returns:
        Centres (N, 3) and covariances (N, 3, 3), world, and areas (N,) in pixels, summed over planes. An outline without
        an area is measured as a dot of the size of the least half-axis (half a voxel).
    """
    ring = np.repeat(np.arange(len(owner)), np.diff(start))
    following = np.arange(1, len(vertices) + 1)
    following[start[1:] - 1] = start[:-1]
    # Moments about the ring's first vertex, so that digits are not lost far from the origin.
    origin = vertices[start[:-1]]
    a, b = vertices - origin[ring], vertices[following] - origin[ring]
    cross = a[:, 0] * b[:, 1] - b[:, 0] * a[:, 1]
    n = len(owner)

    def total(values: F64) -> F64:
        return np.bincount(ring, weights=values, minlength=n).astype(np.float64)

    area = total(cross) / 2
    first = np.stack([total((a[:, i] + b[:, i]) * cross) / 6 for i in (0, 1)], axis=1)
    second = np.empty((n, 2, 2))
    for i in (0, 1):
        for j in (0, 1):
            mixed = 2 * a[:, i] * a[:, j] + a[:, i] * b[:, j] + b[:, i] * a[:, j] + 2 * b[:, i] * b[:, j]
            second[:, i, j] = total(mixed * cross) / 24
    sign = np.where(area < 0, -1.0, 1.0) * _parity(owner, z, start=start, vertices=vertices)
    area, first, second = area * sign, first * sign[:, None], second * sign[:, None, None]
    return _joined(owner, z, (area, first, second, origin), n_objects, affine)


def _joined(
    owner: I64, z: F64, moments: tuple[F64, F64, F64, F64], n: int, affine: npt.ArrayLike | None
) -> tuple[F64, F64, F64]:
    """Centres, covariances and areas of objects from the signed moments of their rings."""
    area, first, second, origin = moments

    def total(values: F64) -> F64:
        return np.bincount(owner, weights=values, minlength=n).astype(np.float64)

    size = total(area)
    with np.errstate(invalid="ignore", divide="ignore"):
        n_rings = np.bincount(owner, minlength=n)
        solid = size > 1e-12
        weight = np.where(solid[owner], area / size[owner], 1 / n_rings[owner])
        inner = np.where((area != 0)[:, None], first / area[:, None], 0)
        spread = np.where((area != 0)[:, None, None], second / area[:, None, None], 0)
        spread = spread - inner[:, :, None] * inner[:, None, :]
        middle = np.concatenate([z[:, None], origin + inner], axis=1)
        centre = np.stack([total(weight * middle[:, i]) for i in range(3)], axis=1)
        centre[n_rings == 0] = np.nan
    offset = middle - centre[owner]
    variance = np.zeros((n, 3, 3))
    for i in range(3):
        for j in range(3):
            own = spread[:, i - 1, j - 1] if i and j else 0.0
            variance[:, i, j] = total(weight * (offset[:, i] * offset[:, j] + own))
    lowest, highest = np.full(n, np.inf), np.full(n, -np.inf)
    np.minimum.at(lowest, owner, z)
    np.maximum.at(highest, owner, z)
    disc = ~(highest > lowest)
    variance[~disc, 0, 0] += 1 / 12
    variance[n_rings == 0] = 0
    matrix = np.eye(4) if affine is None else np.asarray(affine, dtype=np.float64)
    covariance = _ellipsoids(variance, matrix[:3, :3], disc=disc)
    covariance[n_rings == 0] = np.nan
    return centre @ matrix[:3, :3].T + matrix[:3, 3], covariance, size


def _parity(owner: I64, z: F64, *, start: I64, vertices: F64) -> F64:
    """+1 for rings that bound an object from outside, -1 for holes: by how many rings of the object lie around each."""
    sign = np.ones(len(owner))
    new = np.ones(len(owner), dtype=bool)
    new[1:] = (owner[1:] != owner[:-1]) | (z[1:] != z[:-1])
    first = np.flatnonzero(new)
    count = np.diff([*first, len(owner)])
    for begin, rings in zip(first[count > 1].tolist(), count[count > 1].tolist(), strict=True):
        points = vertices[start[begin] : start[begin + rings]]
        if rings * len(points) > PAIRS_AT_MOST:
            raise ValidationError(
                f"Measuring outlines failed: one object has {rings} rings with {len(points)} vertices in a plane; that is "
                "more than any cell has."
            )
        local = start[begin : begin + rings + 1] - start[begin]
        ring = np.repeat(np.arange(rings), np.diff(local))
        following = np.arange(1, len(points) + 1)
        following[local[1:] - 1] = local[:-1]
        (y, x), (y_2, x_2) = points.T, points[following].T
        for k in range(rings):
            # A point beside the middle of the ring's first edge: a vertex may be shared with the ring around it.
            probe_y, probe_x = (points[local[k]] + points[following[local[k]]]) / 2
            spans = ((y <= probe_y) != (y_2 <= probe_y)) & (ring != k)
            at = x[spans] + (probe_y - y[spans]) * (x_2[spans] - x[spans]) / (y_2[spans] - y[spans])
            sign[begin + k] = 1.0 - 2.0 * (np.count_nonzero(at < probe_x) % 2)
    return sign


def _indices(flat: I64, shape: tuple[int, ...]) -> Iterator[tuple[int, I64]]:
    """Axis and index along it of each voxel; without the axis z where there is one plane, for all are 0 along it."""
    line = flat // max(shape[2], 1)  # with the product below several times faster than divmod
    yield 2, flat - line * shape[2]
    if shape[0] == 1:
        yield 1, line
        return
    plane = line // max(shape[1], 1)
    yield 1, line - plane * shape[1]
    yield 0, plane


def _numbered(values: npt.NDArray[Any]) -> tuple[I64, I64]:
    """The labels that occur, ascending, and for each voxel the row of its label."""
    if (
        values.size
        and values.dtype != np.uint64
        and int(values.min()) >= 0
        and int(values.max()) <= 4 * values.size + 65536
    ):
        row = np.zeros(int(values.max()) + 1, dtype=np.int64)
        row[values] = 1
        names = np.flatnonzero(row)
        row[names] = np.arange(len(names))
        return names, row[values]
    names, owner = np.unique(values, return_inverse=True)
    return names.astype(np.int64), owner


def _ellipsoids(variance: F64, matrix: F64, *, disc: npt.NDArray[np.bool_]) -> F64:
    """Covariances (N, 3, 3), world, from variances in voxels and the 3x3 part of the affine."""
    squared = variance * np.where(disc, DISC, SOLID)[:, None, None]
    squared[disc, 0, :] = squared[disc, :, 0] = 0.0
    values, axes = np.linalg.eigh(squared)
    raised = (axes * np.maximum(values, LEAST**2)[:, None, :]) @ axes.transpose(0, 2, 1)
    world = matrix @ raised @ matrix.T
    world[disc, 0, :] = world[disc, :, 0] = 0.0
    flat = world[disc, 1:, 1:]
    world[disc, 0, 0] = np.sqrt(flat[:, 0, 0] * flat[:, 1, 1] - flat[:, 0, 1] * flat[:, 1, 0])
    return np.asarray((world + world.transpose(0, 2, 1)) / 2, dtype=np.float64)
