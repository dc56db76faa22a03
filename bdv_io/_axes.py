"""The one place that knows Java's x, y, z order.

Inside Howdah coordinates are (z, y, x) and a covariance is a 3x3 matrix in the same order. BigDataViewer, Mastodon
and TrackMate write x, y, z. Everything that crosses that border goes through one of these functions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

__all__ = [
    "affine_from_xyz",
    "affine_to_xyz",
    "covariance_from_upper_xyz",
    "covariance_to_upper_xyz",
    "reverse_axes",
]


def reverse_axes(points: npt.ArrayLike) -> F64:
    """Turn (..., 3) vectors from (x, y, z) to (z, y, x) or back, as float64."""
    return np.ascontiguousarray(np.asarray(points, dtype=np.float64)[..., ::-1])


def covariance_from_upper_xyz(upper: npt.ArrayLike) -> F64:
    """Turn (N, 6) upper triangles xx, xy, xz, yy, yz, zz into (N, 3, 3) matrices in (z, y, x) order."""
    values = np.asarray(upper, dtype=np.float64)
    order = [5, 4, 2, 4, 3, 1, 2, 1, 0]  # zz zy zx, yz yy yx, xz xy xx
    full: F64 = np.take(values, order, axis=1)  # lets other threads run, unlike values[:, order]
    return full.reshape(-1, 3, 3)


def covariance_to_upper_xyz(covariance: npt.ArrayLike) -> F64:
    """Turn (N, 3, 3) matrices in (z, y, x) order into (N, 6) upper triangles xx, xy, xz, yy, yz, zz."""
    flat = np.asarray(covariance, dtype=np.float64).reshape(-1, 9)
    return np.ascontiguousarray(flat[:, [8, 7, 6, 4, 3, 0]])


def affine_from_xyz(numbers: Sequence[float]) -> F64:
    """Turn the 12 row-by-row numbers of a Java 3D affine (x, y, z) into a 4x4 matrix acting on (z, y, x, 1)."""
    java = np.eye(4)
    java[:3] = np.asarray(numbers, dtype=np.float64).reshape(3, 4)
    order = [2, 1, 0, 3]
    return java[np.ix_(order, order)]


def affine_to_xyz(affine: npt.ArrayLike) -> list[float]:
    """Turn a 4x4 matrix acting on (z, y, x, 1) into the 12 row-by-row numbers of a Java 3D affine."""
    order = [2, 1, 0, 3]
    java = np.asarray(affine, dtype=np.float64)[np.ix_(order, order)]
    return [float(number) for number in java[:3].ravel()]
