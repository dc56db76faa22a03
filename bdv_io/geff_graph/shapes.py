"""Ellipsoids, spheres and polygons of GEFF, in the order and units of its axes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io.errors import FormatError
from bdv_io.outlines import Outlines

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Array = npt.NDArray[Any]

__all__ = ["covariance_of_plane", "covariances", "polygons"]

log = logging.getLogger(__name__)


def covariance_of_plane(flat: F64) -> F64:
    """Return (N, 3, 3) covariances (z, y, x) of ellipses (N, 2, 2): as high as a circle of the same area is wide."""
    full = np.zeros((len(flat), 3, 3))
    full[:, 1:, 1:] = flat
    full[:, 0, 0] = np.sqrt(np.linalg.det(flat).clip(0)) if len(flat) else 0.0
    return full


def covariances(
    ellipsoid: Array | None, radius: F64 | None, n: int, *, scale: F64, order: list[int], file: Path
) -> F64:
    """Return (n, 3, 3) covariances (z, y, x) in world units.

    Args:
        ellipsoid: (n, D, D) covariances in the order of the file's axes, NaN where missing; or None.
        radius: (n,) radii, NaN where missing; or None.
        n: Number of spots.
        scale: (D,) factors from the file's units to world units, in the order y, x or z, y, x.
        order: For each of these D axes its place among the file's axes.
        file: For messages.
    """
    dims = len(scale)
    if ellipsoid is not None and ellipsoid.shape == (n, 3, 3) and order == [0, 1, 2] and (scale == 1).all():
        plain: F64 = ellipsoid.astype(np.float64, copy=False)
        if np.isfinite(plain).all() and (np.einsum("nii->n", plain) > 0).all():
            return plain
    made = np.full((n, dims, dims), np.nan)
    if radius is not None:
        size_known = np.where((radius > 1e-100) & (radius < 1e100), radius, np.nan)
        made = size_known[:, None, None] ** 2 * np.diag(scale**2)
    if ellipsoid is not None and ellipsoid.shape[1:] == (dims, dims):
        given = ellipsoid[:, order][:, :, order] * np.outer(scale, scale)
        known = np.isfinite(given).all(axis=(1, 2))
        made[known] = given[known]
    elif ellipsoid is not None:
        raise FormatError(
            f"Reading the GEFF {file} failed: its ellipsoids have the shape {ellipsoid.shape[1:]}; expected {(dims, dims)}."
        )
    covariance = made if dims == 3 else covariance_of_plane(made)
    unknown = ~np.isfinite(covariance).all(axis=(1, 2)) | (np.einsum("nii->n", covariance) <= 0)
    if unknown.any():
        known = covariance[~unknown]
        size = float(np.sqrt(np.median(np.einsum("nii->n", known) / 3))) if len(known) else 1.0
        log.warning(
            "%s: %d of %d spots have no sphere and no ellipsoid; they get the radius %g.", file, unknown.sum(), n, size
        )
        covariance[unknown] = size**2 * np.eye(3)
    return covariance


def polygons(
    shape: Array, data: F64, missing: Array | None, *, centre: F64, scale: F64, order: list[int], file: Path
) -> Outlines:
    """Return outlines of polygons that are given relative to their spots.

    Args:
        shape: (N, 3) offset in ``data``, number of vertices, number of coordinates of each polygon.
        data: Numbers of all polygons.
        missing: (N,) bool, or None.
        centre: (N, 3) centres (z, y, x), world.
        scale: As in :func:`covariances`.
        order: As in :func:`covariances`.
        file: For messages.

    Raises:
        FormatError: A polygon lies outside of the data, or has the wrong number of coordinates.
    """
    first, counts, dims = (shape[:, i].astype(np.int64) for i in range(3))
    there = counts > 0 if missing is None else (counts > 0) & ~missing
    few = there & (counts < 3)
    if few.any():
        log.warning("%s: %d polygons have fewer than three vertices; they are left out.", file, few.sum())
    spots = np.flatnonzero(there & ~few)
    if not len(spots):
        return Outlines.empty()
    d = len(scale)
    first, counts = first[spots], counts[spots]
    if (dims[spots] != d).any() or (first < 0).any() or (first + counts * d > len(data)).any():
        raise FormatError(
            f"Reading the GEFF {file} failed: a polygon has not {d} coordinates, or lies outside of the data."
        )
    ends = np.cumsum(counts)
    place = np.repeat(first - (ends - counts) * d, counts)[:, None] + np.arange(ends[-1])[:, None] * d + np.array(order)
    points = data[place].astype(np.float64) * scale + np.repeat(centre[spots, 3 - d :], counts, axis=0)
    planes = centre[spots, 0] if d == 2 else np.add.reduceat(points[:, 0], ends - counts) / counts
    if d == 3:
        heads = points[ends - counts, 0]
        level = np.maximum.reduceat(np.abs(points[:, 0] - np.repeat(heads, counts)), ends - counts) == 0
        if not level.all():
            log.warning(
                "%s: %d polygons are not level; they are put into the plane of their mean z.", file, (~level).sum()
            )
        planes = np.where(level, heads, planes)
    return Outlines.build(spots, planes, n_vertices=counts, vertices=points[:, -2:])
