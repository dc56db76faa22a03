"""A box in world coordinates, and the voxels that a network must see to find what is in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from howdah.errors import DataError

F64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Box = tuple[npt.ArrayLike, npt.ArrayLike]
Region = tuple[slice, slice, slice]

__all__ = ["Box", "box_around", "grown", "in_box", "region_of"]


def box_around(point: npt.ArrayLike, size: npt.ArrayLike) -> tuple[F64, F64]:
    """Return the (low, high) corners of a box around a point.

    Args:
        point: (3,) middle of the box (z, y, x), world units.
        size: (3,) edge lengths (z, y, x), or one number for a cube, world units.
    """
    middle, half = np.asarray(point, dtype=np.float64), np.broadcast_to(np.asarray(size, dtype=np.float64) / 2, (3,))
    return _corners((middle - half, middle + half))


def in_box(centre: F64, box: Box) -> Bool:
    """Tell which of (N, 3) world points lie in a box, its surface included."""
    low, high = _corners(box)
    inside = ((centre >= low) & (centre <= high)).all(axis=1)
    return np.asarray(inside, dtype=np.bool_)


def region_of(box: Box, affine: F64, shape: Sequence[int]) -> Region | None:
    """Return the voxels of a frame that a box covers, or None where it lies beside the frame.

    Args:
        box: World corners (low, high), each (z, y, x).
        affine: 4x4, voxels to world.
        shape: Voxels (Z, Y, X) of the frame.
    """
    low, high = _corners(box)
    picks = np.array(np.meshgrid(*[[0, 1]] * 3, indexing="ij")).reshape(3, -1).T
    inverse = np.linalg.inv(affine)
    voxels = np.where(picks == 1, high, low) @ inverse[:3, :3].T + inverse[:3, 3]
    first, last, size = voxels.min(axis=0), voxels.max(axis=0), np.asarray(shape)
    if (last < -0.5).any() or (first > size - 0.5).any():
        return None
    start = np.clip(np.floor(first + 0.5), 0, size - 1).astype(int).tolist()
    stop = (np.clip(np.floor(last + 0.5), 0, size - 1).astype(int) + 1).tolist()
    return slice(start[0], stop[0]), slice(start[1], stop[1]), slice(start[2], stop[2])


def grown(region: Region, margin: Sequence[int], shape: Sequence[int], *, multiple: Sequence[int]) -> Region:
    """Return a region with a margin (z, y, x) of voxels on each side; it starts and ends at multiples, or at the frame's end."""
    z, y, x = (
        slice(max(part.start - edge, 0) // unit * unit, min(-(-(part.stop + edge) // unit) * unit, size))
        for part, edge, size, unit in zip(region, margin, shape, multiple, strict=True)
    )
    return z, y, x


def _corners(box: Box) -> tuple[F64, F64]:
    low, high = (np.asarray(corner, dtype=np.float64) for corner in box)
    if low.shape != (3,) or high.shape != (3,) or not np.isfinite([low, high]).all() or (low > high).any():
        raise DataError(
            f"A box needs two corners (z, y, x) in world units, the low one first; found {low.tolist()} and {high.tolist()}."
        )
    return low, high
