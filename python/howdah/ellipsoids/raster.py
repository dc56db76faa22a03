"""Ellipsoids to voxels: the runs along x that they fill, and label volumes.

The closed form is that of :mod:`bdv_io.runs`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

import bdv_io.runs
from howdah.ellipsoids.shape import squared_distance
from howdah.errors import DataError

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
Shape = tuple[int, int, int]
Vector = tuple[float, float, float]

__all__ = ["Runs", "rasterise", "runs_of"]

MIN_VOXELS = 9
BATCH_VOXELS = 1_000_000
SMALL_AT_ONCE = 2048
TIE = 1 + 1e-9


class Runs(bdv_io.runs.Runs):
    """Voxels of ellipsoids as runs along x, which can be grown by a voxel."""

    def dilated(self) -> Runs:
        """Return the runs grown by one voxel into all 26 neighbours, cut at the border of the image.

        Runs of one owner then overlap: good for painting, not for counting.
        """
        n_z, n_y, n_x = self.shape
        row, x = np.divmod(self.start, n_x)
        z, y = np.divmod(row, n_y)
        first, end = np.maximum(x - 1, 0), np.minimum(x + self.length + 1, n_x)
        parts = []
        for step_z in (-1, 0, 1):
            for step_y in (-1, 0, 1):
                there = (z + step_z >= 0) & (z + step_z < n_z) & (y + step_y >= 0) & (y + step_y < n_y)
                start = ((z + step_z) * n_y + y + step_y) * n_x + first
                parts.append((start[there], (end - first)[there], self.owner[there]))
        start, length, owner = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.argsort(owner, kind="stable")
        return Runs(self.shape, start[order], length[order], owner[order])


def runs_of(
    centre: npt.ArrayLike,
    covariance: npt.ArrayLike,
    shape: Shape,
    *,
    voxel_size: Vector = (1.0, 1.0, 1.0),
    scale: float = 1.0,
    min_voxels: int = MIN_VOXELS,
) -> Runs:
    """Find the voxels whose centres lie strictly inside ellipsoids, cut at the border of the image.

    An ellipsoid with fewer than ``min_voxels`` voxels in the image, whose own centre lies in the image, is grown until it
    has them: all its half-axes by the same factor, up to the distance of the last voxel needed (voxels at the same
    distance come too). Ellipsoids centred outside are only cut.

    Args:
        centre: (N, 3) (z, y, x), world.
        covariance: (N, 3, 3), squared world units; must be positive definite.
        shape: Voxels (Z, Y, X).
        voxel_size: Edge lengths (z, y, x) of a voxel; (1, 1, 1) for voxel coordinates.
        scale: Factor on all half-axes, for example 0.4 for ELEPHANT's nucleus centres.
        min_voxels: See above; 0 or 1 leaves small ellipsoids as they are (possibly without any voxel).

    Raises:
        DataError: Shapes do not fit together, or a covariance is not positive definite.
    """
    middle, factor = _in_voxels(centre, covariance, voxel_size, scale)
    if len(shape) != 3:
        raise DataError(f"Drawing ellipsoids needs an image shape (Z, Y, X); found {shape}. A 2D image has Z = 1.")
    runs = _runs(middle, factor, np.ones(len(middle)), shape)
    counts = np.bincount(runs.owner, weights=runs.length, minlength=len(middle))
    nearest = np.floor(middle + 0.5)
    in_image = ((nearest >= 0) & (nearest < np.asarray(shape))).all(axis=1)
    small = np.flatnonzero((counts < min_voxels) & in_image) if min_voxels > 1 else np.empty(0, np.int64)
    if not small.size:
        return runs
    parts = np.array_split(small, -(-small.size // SMALL_AT_ONCE))
    reach = np.concatenate([_needed(middle[part], factor[part], shape, min_voxels) for part in parts])
    grown = _runs(middle[small], factor[small], reach, shape)
    kept = ~np.isin(runs.owner, small)
    columns = [(runs.start[kept], grown.start), (runs.length[kept], grown.length)]
    start, length = (np.concatenate(pair) for pair in columns)
    owner = np.concatenate([runs.owner[kept], small[grown.owner]])
    order = np.argsort(owner, kind="stable")
    return Runs(shape, start[order], length[order], owner[order])


def rasterise(
    centre: npt.ArrayLike,
    covariance: npt.ArrayLike,
    shape: Shape,
    *,
    voxel_size: Vector = (1.0, 1.0, 1.0),
    scale: float = 1.0,
    min_voxels: int = MIN_VOXELS,
) -> I32:
    """Paint ellipsoids into a label volume (Z, Y, X) int32: row + 1, 0 where there is none.

    A voxel in several ellipsoids goes to the one to whose centre it is nearest by Mahalanobis distance (of the scaled
    ellipsoids), so the order of the rows does not matter; at equal distance the centre that comes first in (z, y, x)
    wins, and at the same centre the smaller covariance (compared number by number). Arguments and errors as in
    :func:`runs_of`.
    """
    labels = np.zeros(shape, dtype=np.int32)
    painted = labels.reshape(-1)  # a view
    middle, factor = _in_voxels(centre, covariance, voxel_size, scale)
    matrices = factor @ factor.transpose(0, 2, 1)
    contested: list[tuple[I64, I32]] = []
    for rows in _batches(factor):
        runs = runs_of(middle[rows], matrices[rows], shape, min_voxels=min_voxels)
        flat, owner = runs.voxels()
        own = rows[owner].astype(np.int32) + 1
        before = painted[flat]
        if before.any():
            free = before == 0
            painted[flat[free]] = own[free]
        else:
            painted[flat] = own
        after = painted[flat]
        lost = np.flatnonzero(after != own)
        contested += [(flat[lost], own[lost] - 1), (flat[lost], after[lost] - 1)]
    if contested:
        _settle(painted, contested, (middle, matrices), shape)
    return labels


def _in_voxels(centre: npt.ArrayLike, covariance: npt.ArrayLike, voxel_size: Vector, scale: float) -> tuple[F64, F64]:
    """Centres (N, 3) and Cholesky factors (N, 3, 3) in voxels."""
    size = np.asarray(voxel_size, dtype=np.float64)
    middle, matrices = np.asarray(centre, dtype=np.float64), np.asarray(covariance, dtype=np.float64)
    if middle.ndim != 2 or middle.shape[1] != 3 or matrices.shape != (len(middle), 3, 3):
        raise DataError(
            f"Drawing ellipsoids failed: centres have shape {middle.shape} and covariances {matrices.shape}; "
            "expected (N, 3) and (N, 3, 3)."
        )
    if size.shape != (3,) or not (size > 0).all() or not scale > 0:
        raise DataError(
            f"Drawing ellipsoids failed: voxel size {voxel_size} and scale {scale} must be positive, the voxel size (z, y, x)."
        )
    if not (np.isfinite(middle).all() and np.isfinite(matrices).all()):
        raise DataError("Drawing ellipsoids failed: a centre or a covariance is not finite.")
    try:
        factor = np.linalg.cholesky(matrices) * (scale / size)[:, None]
    except np.linalg.LinAlgError:
        raise DataError(
            f"Drawing {len(middle)} ellipsoids failed: a covariance is not positive definite, so it is no ellipsoid."
        ) from None
    return middle / size, factor


def _batches(factor: F64) -> Iterator[I64]:
    """Rows in batches of about a million voxels, so that memory is bounded and the work stays in the cache."""
    sizes = np.maximum(4 / 3 * np.pi * np.prod(np.diagonal(factor, axis1=1, axis2=2), axis=1), MIN_VOXELS)
    batch = np.cumsum(sizes) // BATCH_VOXELS
    rows = np.arange(len(factor), dtype=np.int64)
    yield from (part for part in np.split(rows, np.flatnonzero(np.diff(batch)) + 1) if part.size)


def _runs(middle: F64, factor: F64, reach: F64, shape: Shape) -> Runs:
    found = bdv_io.runs.runs_of_ellipsoids(middle, factor, reach, shape)
    return Runs(shape, found.start, found.length, found.owner)


def _needed(middle: F64, factor: F64, shape: Shape, min_voxels: int) -> F64:
    """Factor (N,) on the half-axes at which each ellipsoid has ``min_voxels`` voxels in the image.

    The voxels around the centre bound the factor from above; the voxels within that bound give it exactly.
    """
    reach = int(np.ceil(np.sqrt(min_voxels))) - 1
    steps = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 1, 3)
    around = np.floor(middle + 0.5) + steps
    matrices = factor @ factor.transpose(0, 2, 1)
    distance = squared_distance(around, middle, matrices)
    distance[~((around >= 0) & (around < np.asarray(shape))).all(axis=-1)] = np.inf
    distance.sort(axis=0)
    wanted = np.minimum(min_voxels, np.isfinite(distance).sum(axis=0))
    bound = np.maximum(np.sqrt(distance[wanted - 1, np.arange(len(middle))]) * TIE, 1.0)
    flat, owner = _runs(middle, factor, bound, shape).voxels()
    exact = squared_distance(np.stack(np.unravel_index(flat, shape), axis=-1)[None], middle[owner], matrices[owner])[0]
    order = np.lexsort((exact, owner))
    first = np.searchsorted(owner[order], np.arange(len(middle)))
    reached: F64 = np.maximum(np.sqrt(exact[order][first + wanted - 1]) * TIE, 1.0)
    return reached


def _settle(painted: I32, contested: list[tuple[I64, I32]], ellipsoids: tuple[F64, F64], shape: Shape) -> None:
    """Give every contested voxel to the nearest of its claimants."""
    middle, matrices = ellipsoids
    flat, owner = (np.concatenate(column) for column in zip(*contested, strict=True))
    if not flat.size:
        return
    place = np.empty(len(middle), dtype=np.int64)
    keys = np.concatenate([middle, matrices.reshape(-1, 9)], axis=1)  # the shape only counts at the same centre
    place[np.lexsort(keys.T[::-1])] = np.arange(len(middle))
    precision = np.linalg.inv(matrices)
    offset = np.stack(np.unravel_index(flat, shape), axis=-1) - middle[owner]
    distance = np.einsum("ni,nij,nj->n", offset, precision[owner], offset)
    # Rounding makes distances that are equal by symmetry differ in the last digits; they must count as equal.
    order = np.lexsort((place[owner], np.round(distance, 9), flat))
    best = np.ones(len(order), dtype=bool)
    best[1:] = flat[order][1:] != flat[order][:-1]
    winner = order[best]
    painted[flat[winner]] = owner[winner] + 1
