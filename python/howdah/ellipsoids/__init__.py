"""Ellipsoids: their shape, the voxels they fill, and ellipsoids from segmented voxels.

Everywhere: coordinates are (z, y, x); a *centre* is (N, 3), a *covariance* (N, 3, 3) whose eigenvalues are the squared
half-axes, so the surface is where the Mahalanobis distance is 1 (the data model of Mastodon). An image is (Z, Y, X), and
voxel (0, 0, 0) has its centre at the origin. Where ``voxel_size`` is taken, world = index × voxel size; for any other
affine, :func:`transform` first.

- :mod:`.shape`: radii and axes, volumes, affine transforms, distances, overlap of pairs.
- :mod:`.raster`: ellipsoids -> voxels.
- :mod:`.components`: mask -> connected components, at the cost of the foreground only.
- :mod:`.split`: components that hold several objects -> their parts.
- :mod:`.moments`: voxels or labels or a probability map -> ellipsoids.
"""

from __future__ import annotations

from howdah.ellipsoids.components import Components, components_of, connected_components
from howdah.ellipsoids.moments import (
    Ellipsoids,
    ellipsoids_from_labels,
    ellipsoids_from_probability,
    ellipsoids_from_voxels,
)
from howdah.ellipsoids.raster import Runs, rasterise, runs_of
from howdah.ellipsoids.shape import (
    covariance_from,
    equivalent_radius,
    inside,
    overlap,
    radii_and_axes,
    squared_distance,
    transform,
    volume,
    voxel_distance,
)
from howdah.ellipsoids.split import split_components

__all__ = [
    "Components",
    "Ellipsoids",
    "Runs",
    "components_of",
    "connected_components",
    "covariance_from",
    "ellipsoids_from_labels",
    "ellipsoids_from_probability",
    "ellipsoids_from_voxels",
    "equivalent_radius",
    "inside",
    "overlap",
    "radii_and_axes",
    "rasterise",
    "runs_of",
    "split_components",
    "squared_distance",
    "transform",
    "volume",
    "voxel_distance",
]
