"""Properties of the cells of a label image: size, shape and brightness, as features that TrackMate knows by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

from bdv_io.moments import Measured, measure
from bdv_io.raster import trace

Array = npt.NDArray[Any]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = ["Property", "properties", "region_properties"]


@dataclass(frozen=True)
class Property:
    """A number of each cell: its name (TrackMate's key where TrackMate has it), kind of quantity and unit."""

    name: str
    dimension: str
    unit: str


def properties(*, flat: bool, unit: str, channel: int = 1) -> dict[str, Property]:
    """Return what :func:`region_properties` measures, by its keys.

    Args:
        flat: 2D (area, perimeter and shape), else 3D (volume).
        unit: Unit of length.
        channel: Number of the channel, from 1.
    """
    bright = {
        "mean": Property(f"MEAN_INTENSITY_CH{channel}", "INTENSITY", "counts"),
        "std": Property(f"STD_INTENSITY_CH{channel}", "INTENSITY", "counts"),
        "max": Property(f"MAX_INTENSITY_CH{channel}", "INTENSITY", "counts"),
    }
    if not flat:
        # neither TrackMate nor Mastodon has a word for volumes: with another than theirs they refuse the file
        return {"volume": Property("VOLUME", "NONE", f"{unit}^3"), **bright}
    return {
        "area": Property("AREA", "AREA", f"{unit}^2"),
        "perimeter": Property("PERIMETER", "LENGTH", unit),
        "eccentricity": Property("ECCENTRICITY", "NONE", ""),
        "orientation": Property("ELLIPSE_THETA", "ANGLE", "radians"),
        "solidity": Property("SOLIDITY", "NONE", ""),
        **bright,
    }


def region_properties(labels: Array, frame: Array, affine: F64) -> tuple[I64, Mapping[str, F64]]:
    """Measure the cells of a frame.

    Area (volume) in squared (cubed) world units; perimeter by the formula of Cauchy and Crofton with four directions, which follows a
    smooth border within about 1 % where counting pixel sides overestimates by a quarter; eccentricity of the ellipse with the
    cell's moments, 0 for a circle; orientation of its long axis, radians from the x axis towards the y axis, in (-pi/2, pi/2];
    solidity, area by area of the convex hull; mean, standard deviation and maximum of the frame's values.

    Args:
        labels: (Z, Y, X) integers, 0 is background.
        frame: (Z, Y, X), any type.
        affine: 4x4 matrix from indices to the world.

    Returns:
        The labels (N,), ascending, and (N,) float64 of each key of :func:`properties`.
    """
    shapes = measure(labels, affine)
    flat = np.flatnonzero(labels)
    row = np.searchsorted(shapes.label, labels.reshape(-1)[flat])
    values = frame.reshape(-1)[flat].astype(np.float64)
    n = len(shapes.label)
    mean = np.bincount(row, values, n) / np.maximum(shapes.n_voxels, 1)
    with np.errstate(over="ignore"):  # of values like 1e300 the spread is infinite
        spread = np.bincount(row, (values - mean[row]) ** 2, n) / np.maximum(shapes.n_voxels, 1)
    most = np.full(n, -np.inf)
    np.maximum.at(most, row, values)
    bright = {"mean": mean, "std": np.sqrt(spread), "max": most}
    if labels.shape[0] > 1:
        return shapes.label, {"volume": shapes.size, **bright}
    return shapes.label, {**_shape(labels[0], shapes, affine), **bright}


def _shape(labels: Array, shapes: Measured, affine: F64) -> dict[str, F64]:
    (yy, yx), (_, xx) = shapes.covariance[:, 1:, 1:].transpose(1, 2, 0)
    middle, half = (yy + xx) / 2, np.hypot((yy - xx) / 2, yx)
    eccentricity = np.sqrt(np.clip(1 - (middle - half) / (middle + half), 0, 1))
    size_y, size_x = np.linalg.norm(affine[1:3, 1:3], axis=0).tolist()
    return {
        "area": shapes.size,
        "perimeter": _perimeters(labels, shapes.label, size_y, size_x),
        "eccentricity": eccentricity,
        "orientation": np.arctan2(2 * yx, xx - yy) / 2,
        "solidity": _solidity(labels, shapes, affine),
    }


def _perimeters(labels: Array, names: I64, size_y: float, size_x: float) -> F64:
    """Count how often lines in four directions cross the border of each cell (Crofton)."""
    padded = np.pad(labels, 1)
    inside = np.flatnonzero(padded)
    value = padded.reshape(-1)[inside]
    row, width = np.searchsorted(names, value), padded.shape[1]
    slant = np.arctan2(size_y, size_x)
    across = size_x * size_y / np.hypot(size_x, size_y)
    total = np.zeros(len(names))
    # step to the next pixel of the line; distance between lines; the share of directions (radians) that the line stands for
    for step, apart, share in (
        (1, size_y, slant),
        (width, size_x, np.pi / 2 - slant),
        (width + 1, across, np.pi / 4),
        (width - 1, across, np.pi / 4),
    ):
        for way in (step, -step):
            crossed = padded.reshape(-1)[inside + way] != value
            total += np.bincount(row[crossed], minlength=len(names)) * apart * share
    return total / 2


def _solidity(labels: Array, shapes: Measured, affine: F64) -> F64:
    """Area by area of the convex hull of the pixels' corners."""
    rings = trace(labels)
    ring = np.repeat(rings.label, np.diff(rings.start))
    order = np.argsort(ring, kind="stable")
    vertices = rings.vertices[order] @ affine[1:3, 1:3].T
    starts = np.searchsorted(ring[order], shapes.label)
    parts = np.split(vertices, starts[1:])
    hulls = np.array([scipy.spatial.ConvexHull(points).volume for points in parts if len(points)])  # of 2D the area
    return np.minimum(shapes.size / hulls, 1.0) if len(hulls) == len(shapes.size) else np.full(len(shapes.size), np.nan)
