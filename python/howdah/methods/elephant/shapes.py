"""Ellipsoids on the voxel grid: to and from voxel coordinates, filling, and back from components."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Shape = tuple[int, int, int]

__all__ = ["component_moments", "half_axes", "inside", "squared_depth", "to_voxels", "to_world"]


def to_world(centre: F64, covariance: F64, affine: F64) -> tuple[F64, F64]:
    """Take (N, 3) centres and (N, 3, 3) covariances (z, y, x) through a 4x4 affine."""
    linear = affine[:3, :3]
    return centre @ linear.T + affine[:3, 3], linear @ covariance @ linear.T


def to_voxels(centre: F64, covariance: F64, affine: F64) -> tuple[F64, F64]:
    """Take world centres and covariances to voxel indices; ``affine`` goes from voxels to the world."""
    return to_world(centre, covariance, np.asarray(np.linalg.inv(affine), dtype=np.float64))


def half_axes(covariance: F64) -> F64:
    """Return (N, 3) half-axes of ellipsoids, rising."""
    axes: F64 = np.sqrt(np.maximum(np.linalg.eigvalsh(covariance), 0))
    return axes


def inside(centre: F64, covariance: F64, shape: Shape, *, at_least: int = 0) -> tuple[I64, I64]:
    """List the voxels whose centre lies inside each ellipsoid.

    Every row of voxels along x is cut by an ellipsoid in one interval; the intervals of all ellipsoids are solved at
    once, so the cost grows with the voxels listed and not with the boxes around them.

    Args:
        centre: (N, 3) voxel coordinates.
        covariance: (N, 3, 3), squared voxels, eigenvalues = squared half-axes.
        shape: Voxels (Z, Y, X) of the frame; what lies outside is cut off.
        at_least: Ellipsoids with fewer voxels in an unbounded frame are enlarged in steps of 10 % until they have so many.

    Returns:
        Flat voxel indices (K,) and the row of the ellipsoid (K,), grouped by ellipsoid. A voxel inside several ellipsoids
        is listed once for each.
    """
    covariance = covariance.copy()
    counts = _count(centre, covariance) if at_least else np.full(len(centre), at_least)
    for _ in range(60):
        small = counts < at_least
        if not small.any():
            break
        covariance[small] *= 1.1**2
        counts[small] = _count(centre[small], covariance[small])
    row, z, y, x_low, x_high = _spans(centre, covariance)
    within = (z >= 0) & (z < shape[0]) & (y >= 0) & (y < shape[1])
    row, z, y, x_low, x_high = (column[within] for column in (row, z, y, x_low, x_high))
    x_low, x_high = np.maximum(x_low, 0), np.minimum(x_high, shape[2] - 1)
    length = np.maximum(x_high - x_low + 1, 0)
    span = np.repeat(np.arange(len(row)), length)
    x = x_low[span] + np.arange(len(span)) - np.repeat(np.cumsum(length) - length, length)
    return (z * shape[1] + y)[span] * shape[2] + x, row[span]


def squared_depth(flat: I64, row: I64, centre: F64, covariance: F64, shape: Shape) -> F64:
    """Return (K,) squared Mahalanobis distances of listed voxels to the centre of their ellipsoid: 0 at the centre."""
    offsets = np.stack(np.unravel_index(flat, shape), axis=1) - centre[row]
    distance: F64 = np.einsum("ki,kij,kj->k", offsets, np.linalg.inv(covariance)[row], offsets)
    return distance


def _count(centre: F64, covariance: F64) -> I64:
    row, _, _, low, high = _spans(centre, covariance)
    return np.bincount(row, weights=high - low + 1, minlength=len(centre)).astype(np.int64)


def _spans(centre: F64, covariance: F64) -> tuple[I64, I64, I64, I64, I64]:
    """Solve d' P d < 1 for x on every (z, y) row that an ellipsoid's box meets: row of ellipsoid, z, y, first x, last x."""
    reach = np.sqrt(np.einsum("nii->ni", covariance)[:, :2])  # half the box in z and y
    first = np.ceil(centre[:, :2] - reach).astype(np.int64)
    count = np.maximum(np.floor(centre[:, :2] + reach).astype(np.int64) - first + 1, 0)
    rows = count.prod(axis=1)
    row = np.repeat(np.arange(len(centre)), rows)
    within = np.arange(len(row)) - np.repeat(np.cumsum(rows) - rows, rows)
    z = first[row, 0] + within // np.maximum(count[row, 1], 1)
    y = first[row, 1] + within % np.maximum(count[row, 1], 1)
    inverse = np.linalg.inv(covariance)[row]
    dz, dy = z - centre[row, 0], y - centre[row, 1]
    a = inverse[:, 2, 2]
    b = inverse[:, 0, 2] * dz + inverse[:, 1, 2] * dy
    c = inverse[:, 0, 0] * dz**2 + 2 * inverse[:, 0, 1] * dz * dy + inverse[:, 1, 1] * dy**2 - 1
    root = b**2 - a * c
    hit = root > 0
    row, z, y, a, b, root = (column[hit] for column in (row, z, y, a, b, np.sqrt(np.maximum(root, 0))))
    middle = centre[row, 2] - b / a
    low = np.floor(middle - root / a).astype(np.int64) + 1  # strictly inside
    high = np.ceil(middle + root / a).astype(np.int64) - 1
    kept = high >= low
    return row[kept], z[kept], y[kept], low[kept], high[kept]


def component_moments(mask: npt.NDArray[np.bool_], weight: npt.NDArray[np.float32]) -> tuple[I64, F64, F64, F64]:
    """Label the 26-connected components of a mask and measure them.

    Args:
        mask: (Z, Y, X).
        weight: (Z, Y, X) of which the mean over each component is wanted.

    Returns:
        Number of voxels (N,), mean position (N, 3) in voxels, second central moments (N, 3, 3) of the voxel centres,
        mean weight (N,); in raster order of the first voxel.
    """
    labels, n = ndimage.label(mask, structure=np.ones((3, 3, 3), dtype=bool))
    flat = np.flatnonzero(labels)
    component = labels.reshape(-1)[flat] - 1
    count = np.bincount(component, minlength=n)
    points = np.stack(np.unravel_index(flat, mask.shape), axis=1).astype(np.float64)
    mean = _means(component, points, count)
    offsets = points - mean[component]
    pairs = [(i, j) for i in range(3) for j in range(i, 3)]
    products = np.stack([offsets[:, i] * offsets[:, j] for i, j in pairs], axis=1)
    moments = np.empty((n, 3, 3))
    for column, (i, j) in enumerate(pairs):
        moments[:, i, j] = moments[:, j, i] = _means(component, products[:, column : column + 1], count)[:, 0]
    weights = _means(component, weight.reshape(-1)[flat][:, None], count)[:, 0]
    return count, mean, moments, weights


def _means(component: npt.NDArray[np.integer], values: npt.NDArray[np.floating], count: I64) -> F64:
    n = len(count)
    sums = [np.bincount(component, weights=column, minlength=n) for column in values.T]
    return np.stack(sums, axis=1) / np.maximum(count, 1)[:, None]
