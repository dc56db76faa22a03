"""Segmented voxels to ellipsoids, by their first and second central moments.

A solid ellipsoid with half-axis r has the variance r²/5 along that axis, an elliptic disc r²/4; so half-axes are sqrt(5)
and 2 times the standard deviation of the voxels. (ELEPHANT, "Detection": ellipsoids from central moments.)

Voxel size: to the variance of voxel centres one could add that of a voxel itself, h²/12. For a set of voxels chosen by
their centres that is wrong: over all positions of the grid, the sum of squares about the true centre is unbiased already,
and adding h²/12 makes a sphere of radius 2 voxels 5 % too large. What is lost is the square of the centroid's error, which
matters for thin shapes: where a half-axis is under two voxels, moments give sizes up to 12 % too small. The number of voxels
stays right there: over all positions of the grid its mean is the volume. So each half-axis is at least half a voxel, and
thin shapes are then scaled such that the ellipsoid has the volume of its voxels (a disc, their area). A flat nucleus of
6 : 6 : 1.5 voxels, reduced to 0.4 and measured, comes back as 1.00 of its size (0.88 from moments alone).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from howdah.ellipsoids.components import connected_components
from howdah.errors import DataError

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Shape = tuple[int, int, int]
Vector = tuple[float, float, float]

__all__ = ["Ellipsoids", "ellipsoids_from_labels", "ellipsoids_from_probability", "ellipsoids_from_voxels"]

SOLID, DISC = 5.0, 4.0  # squared half-axis by variance
LEAST = 0.5  # least half-axis in voxels
SMALL = 2.0  # half-axis in voxels under which the number of voxels tells the size


@dataclass(frozen=True, eq=False)
class Ellipsoids:
    """Ellipsoids measured from voxels.

    Attributes:
        centre: (N, 3) float64 (z, y, x), world: index × voxel size.
        covariance: (N, 3, 3) float64, squared world units; positive definite.
        n_voxels: (N,) int64.
        label: (N,) int64, label or component that each row comes from.
        quality: (N,) float64, mean probability of the voxels; NaN where none was given.
    """

    centre: F64
    covariance: F64
    n_voxels: I64
    label: I64
    quality: F64


def ellipsoids_from_voxels(
    flat: I64,
    owner: I64,
    shape: Shape,
    *,
    voxel_size: Vector = (1.0, 1.0, 1.0),
    ndim: int | None = None,
    probability: npt.NDArray[Any] | None = None,
) -> Ellipsoids:
    """Measure ellipsoids from lists of voxels.

    Args:
        flat: (K,) int64, indices of the flattened (Z, Y, X) image.
        owner: (K,) int64 >= 0, object of each voxel, in any order. Objects without voxels give no row.
        shape: (Z, Y, X) of the image.
        voxel_size: Edge lengths (z, y, x) of a voxel in world units.
        ndim: 3: solids. 2: discs in a plane of constant z. None: discs if the image has one slice.
            A disc has half a voxel as its half-axis in z.
        probability: (K,) number of each voxel, averaged to ``quality``.

    Raises:
        DataError: Columns differ in length, a voxel lies outside of the image, or ``ndim`` is not 2, 3 or None.
    """
    _check(flat, owner, shape, ndim)
    counts = np.bincount(owner)
    label = np.flatnonzero(counts)
    if len(label) < len(counts):
        row = np.zeros(len(counts), dtype=np.int64)
        row[label] = np.arange(len(label))
        owner, counts = row[owner], counts[label]
    n = len(label)
    # Unravelled by hand: indices are known to be good, and this is where the time goes.
    line, x = np.divmod(flat, shape[2])
    z, y = np.divmod(line, shape[1])
    mean = np.empty((n, 3))
    offsets = []
    for axis, index in enumerate((z, y, x)):
        mean[:, axis] = np.bincount(owner, weights=index, minlength=n) / counts
        offsets.append(index - mean[owner, axis])
    variance = np.empty((n, 3, 3))
    for i in range(3):
        for j in range(i, 3):
            sums = np.bincount(owner, weights=offsets[i] * offsets[j], minlength=n)
            variance[:, i, j] = variance[:, j, i] = sums / counts
    size = np.asarray(voxel_size, dtype=np.float64)
    covariance = _half_axes(variance, counts, ndim=ndim, flat=shape[0] == 1) * np.outer(size, size)
    quality = np.full(n, np.nan)
    if probability is not None:
        quality = np.bincount(owner, weights=probability, minlength=n) / counts
    return Ellipsoids(mean * size, covariance, counts.astype(np.int64), label.astype(np.int64), quality)


def ellipsoids_from_labels(
    labels: npt.NDArray[Any], *, voxel_size: Vector = (1.0, 1.0, 1.0), ndim: int | None = None
) -> Ellipsoids:
    """Measure an ellipsoid for each label of a (Z, Y, X) integer label image (0 is background).

    Each label gives one row, in ascending order, in one piece or not. Options as in :func:`ellipsoids_from_voxels`.

    Raises:
        DataError: The image is not a three-dimensional image of whole numbers >= 0.
    """
    if labels.ndim != 3 or labels.dtype.kind not in "iub":
        raise DataError(
            f"Measuring labels needs a (Z, Y, X) image of whole numbers; found shape {labels.shape}, type {labels.dtype}. "
            "Give a 2D image as labels[None]."
        )
    n_z, n_y, n_x = labels.shape
    flat = np.flatnonzero(labels)
    values = labels.reshape(-1)[flat]
    if values.size and (int(values.min()) < 0 or int(values.max()) > 8 * labels.size):
        numbers, owner = np.unique(values, return_inverse=True)
        if int(numbers[0]) < 0:
            raise DataError(
                f"Measuring labels failed: the image has the label {int(numbers[0])}; labels are 0 or above."
            )
    else:
        numbers, owner = None, values.astype(np.int64)
    found = ellipsoids_from_voxels(flat, owner, (n_z, n_y, n_x), voxel_size=voxel_size, ndim=ndim)
    if numbers is None:
        return found
    return Ellipsoids(found.centre, found.covariance, found.n_voxels, numbers.astype(np.int64), found.quality)


def ellipsoids_from_probability(
    probability: npt.NDArray[Any],
    threshold: float = 0.5,
    *,
    voxel_size: Vector = (1.0, 1.0, 1.0),
    ndim: int | None = None,
    min_voxels: int = 1,
) -> Ellipsoids:
    """Find the 26-connected components above a threshold and measure an ellipsoid for each.

    Args:
        probability: (Z, Y, X), any real type.
        threshold: Voxels strictly above it are foreground.
        voxel_size: Edge lengths (z, y, x) of a voxel in world units.
        ndim: As in :func:`ellipsoids_from_voxels`.
        min_voxels: Smaller components are dropped.

    Returns:
        Rows in the order of the components' first voxels; ``quality`` is the mean probability of a component.

    Raises:
        DataError: The map is not three-dimensional.
    """
    found = connected_components(probability > threshold)
    flat, owner = found.flat, found.owner
    if min_voxels > 1 and flat.size:
        kept = np.bincount(owner)[owner] >= min_voxels
        flat, owner = flat[kept], owner[kept]
    values = probability.reshape(-1)[flat].astype(np.float64)
    return ellipsoids_from_voxels(flat, owner, found.shape, voxel_size=voxel_size, ndim=ndim, probability=values)


def _half_axes(variance: F64, counts: I64, *, ndim: int | None, flat: bool) -> F64:
    """Covariances (N, 3, 3) of ellipsoids, in voxels, from the variances and numbers of their voxels.

    No half-axis is under half a voxel; where one is under two voxels, the volume (or a disc's area) is that of the voxels.
    """
    disc = np.full(len(variance), flat if ndim is None else ndim == 2)
    squared = variance * np.where(disc, DISC, SOLID)[:, None, None]
    squared[disc, 0, :] = 0.0
    squared[disc, :, 0] = 0.0
    values, axes = np.linalg.eigh(squared)
    raised = np.maximum(values, LEAST**2)
    floored = (axes * raised[:, None, :]) @ axes.transpose(0, 2, 1)
    floored = (floored + floored.transpose(0, 2, 1)) / 2
    area = np.pi * np.sqrt(np.linalg.det(floored[:, 1:, 1:]))
    solid = 4 / 3 * np.pi * np.sqrt(raised.prod(axis=1))
    least = np.where(disc, raised[:, 1], raised[:, 0])  # a disc's z, half a voxel, is the smallest
    factor = np.where(disc, counts / area, (counts / solid) ** (2 / 3))
    factor = np.where(least < SMALL**2, factor, 1.0)
    scaled = floored * factor[:, None, None]
    scaled[disc, 0, :] = scaled[disc, :, 0] = 0.0
    scaled[disc, 0, 0] = LEAST**2
    return np.asarray(scaled, dtype=np.float64)


def _check(flat: I64, owner: I64, shape: Shape, ndim: int | None) -> None:
    if flat.shape != owner.shape or flat.ndim != 1:
        raise DataError(
            f"Measuring ellipsoids failed: {flat.shape} voxels have {owner.shape} owners; expected as many, (K,) each."
        )
    if ndim not in (None, 2, 3):
        raise DataError(f"Measuring ellipsoids failed: ndim is {ndim}; it must be 2, 3 or None.")
    size = int(np.prod(shape))
    if flat.size and (int(flat.min()) < 0 or int(flat.max()) >= size or int(owner.min()) < 0):
        raise DataError(
            f"Measuring ellipsoids failed: voxels run from {int(flat.min())} to {int(flat.max())} in an image of {size} voxels, "
            f"and owners from {int(owner.min())}; both must be 0 or above, and voxels within the image."
        )
