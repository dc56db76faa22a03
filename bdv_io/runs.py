"""Voxels as runs along x: the common ground of outlines, ellipsoids and label images. Pure arithmetic, no files.

With the Cholesky factor L of a covariance, an inner point is d = L u with |u| < 1, and L is lower triangular: u_z depends
on z alone, u_y on z and y. So the planes that an ellipsoid meets, the rows of each plane and the run of each row follow
in closed form, for all ellipsoids at once, and nothing outside is ever looked at. The cost is that of the voxels inside.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
Shape = tuple[int, int, int]

__all__ = ["Runs", "expand", "paint", "runs_of_ellipsoids"]

PAINTED_AT_ONCE = 8_000_000


@dataclass(frozen=True, eq=False)
class Runs:
    """Voxels as runs along x.

    Attributes:
        shape: Voxels (Z, Y, X) of the image.
        start: (R,) int64, index of the first voxel of each run in the flattened (Z, Y, X) image.
        length: (R,) int64, voxels of each run, at least 1; a run stays in its row.
        owner: (R,) int64, row of the object that the run belongs to; ascending.
    """

    shape: Shape
    start: I64
    length: I64
    owner: I64

    @property
    def n_voxels(self) -> int:
        """Voxels in all runs; a voxel in two objects counts twice."""
        return int(self.length.sum())

    def voxels(self) -> tuple[I64, I64]:
        """Return flat indices (K,) and owners (K,) of all voxels; a voxel in two objects comes twice."""
        return expand(self.start, self.length), np.repeat(self.owner, self.length)

    def flat(self) -> I64:
        """Return flat indices (K,) of all voxels, for painting one value."""
        return expand(self.start, self.length)

    def parts(self, n_voxels: int) -> Iterator[Runs]:
        """Yield the runs in parts of about ``n_voxels`` voxels, so that :meth:`voxels` stays within memory."""
        cuts = np.flatnonzero(np.diff(np.cumsum(self.length) // n_voxels)) + 1
        for first, last in zip([0, *cuts], [*cuts, len(self.start)], strict=True):
            rows = slice(first, last)
            yield Runs(self.shape, self.start[rows], self.length[rows], self.owner[rows])


def paint(canvas: I32, runs: Runs) -> None:
    """Paint ``owner + 1`` into a (Z, Y, X) int32 image, in place; where objects overlap, the largest owner stays."""
    flat_canvas = canvas.reshape(-1)
    for part in runs.parts(PAINTED_AT_ONCE):
        flat, owner = part.voxels()
        # Owners ascend, and of values for the same voxel the last stays: the largest of the part and what was there.
        flat_canvas[flat] = np.maximum(flat_canvas[flat], owner + 1)


def runs_of_ellipsoids(middle: F64, factor: F64, reach: F64, shape: Shape) -> Runs:
    """Find the voxels whose centres lie strictly inside ellipsoids, cut at the border of the image.

    Args:
        middle: (N, 3) centres (z, y, x) in voxels.
        factor: (N, 3, 3) Cholesky factors of the covariances, in voxels.
        reach: (N,) factors on all half-axes; 1 for the ellipsoids as they are.
        shape: Voxels (Z, Y, X) of the image.
    """
    n_z, n_y, n_x = shape
    scaled = factor * reach[:, None, None]
    # planes of each ellipsoid
    owner, z = _between(middle[:, 0], scaled[:, 0, 0], n_z)
    u_z = (z - middle[owner, 0]) / scaled[owner, 0, 0]
    # rows of each plane
    y_middle = middle[owner, 1] + scaled[owner, 1, 0] * u_z
    plane, y = _between(y_middle, scaled[owner, 1, 1] * np.sqrt(np.maximum(1 - u_z**2, 0)), n_y)
    owner, z, u_z, y_middle = owner[plane], z[plane], u_z[plane], y_middle[plane]
    u_y = (y - y_middle) / scaled[owner, 1, 1]
    # the run of each row
    x_middle = middle[owner, 2] + scaled[owner, 2, 0] * u_z + scaled[owner, 2, 1] * u_y
    half = scaled[owner, 2, 2] * np.sqrt(np.maximum(1 - u_z**2 - u_y**2, 0))
    first, count = _span(x_middle, half, n_x)
    kept = np.flatnonzero(count > 0)
    start = (z * n_y + y) * n_x + first
    return Runs(shape, start[kept], count[kept], owner[kept])


def expand(start: I64, length: I64) -> I64:
    """Whole numbers start, start + 1 ... of all runs, one after the other."""
    before = np.cumsum(length) - length
    numbers = np.repeat(start - before, length)
    numbers += np.arange(len(numbers), dtype=np.int64)
    return numbers


def _span(middle: F64, half: F64, limit: int) -> tuple[I64, I64]:
    """First whole number and how many lie strictly between ``middle ± half`` and in 0..limit-1."""
    first = np.clip(np.floor(middle - half) + 1, 0, limit).astype(np.int64)
    end = np.clip(np.ceil(middle + half), 0, limit).astype(np.int64)
    return first, np.maximum(end - first, 0)


def _between(middle: F64, half: F64, limit: int) -> tuple[I64, I64]:
    """The same as :func:`_span`, one row a number: (parent row, number)."""
    first, count = _span(middle, half, limit)
    return np.repeat(np.arange(len(middle), dtype=np.int64), count), expand(first, count)
