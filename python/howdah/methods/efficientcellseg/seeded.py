"""Masks of spots that are there already: each ellipsoid grows or shrinks to the cell that the network sees (not in the paper).

The paper parts cells from predicted centres; here centres are known, from a person or from another method. Every voxel within reach
of an ellipsoid belongs to the nearest one, measured in half-axes; of these voxels those that are cell are flooded from the cores of
the ellipsoids, along valleys of distance and of improbability. So touching cells part where the probability has a valley, or else
half-way. A mask does not run away, for an ellipsoid reaches ``REACH`` half-axes; and it does not vanish: where hardly anything of
an ellipsoid is cell, the ellipsoid itself stays, cut by its neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from howdah.ellipsoids import rasterise
from howdah.errors import DataError
from howdah.methods.efficientcellseg.holes import fill_holes

Bool = npt.NDArray[np.bool_]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]

__all__ = ["REACH", "Masks", "masks_of"]

REACH = 1.6  # half-axes that a mask may reach: an ellipsoid of 0.63 of a cell's diameter still finds its cell
CORE = 0.4  # half-axes around the centre that belong to the spot without question
VANISHED = 0.1  # of an ellipsoid's voxels; with fewer of them that are cell, the ellipsoid stays
STEEP = 1.0  # what a fall of the probability from 1 to 0 is worth, in half-axes
LEAST = 0.5  # half-axis in voxels
BLOCK = 1 << 18  # voxels whose distances are measured at once: a hundred bytes each
AROUND = 2  # voxels to each side among which a spot that has none gets one


@dataclass(frozen=True, eq=False)
class Masks:
    """The masks of the spots of one frame.

    Attributes:
        labels: (Z, Y, X) int32; label n + 1 is spot n, 0 background.
        seen: (N,) whether the mask comes from the network. Else it is the ellipsoid, cut by its neighbours; or nothing, for a spot
            outside of the image.
        size: (N,) voxels of each mask.
        quality: (N,) mean probability of each mask's voxels; NaN where there is none.
    """

    labels: I32
    seen: Bool
    size: I64
    quality: F64


def masks_of(
    centre: npt.ArrayLike,
    covariance: npt.ArrayLike,
    probability: F32,
    *,
    threshold: float = 0.5,
    reach: float = REACH,
    holes: bool = True,
) -> Masks:
    """Give each spot of a frame a mask.

    Args:
        centre: (N, 3) (z, y, x) in voxels.
        covariance: (N, 3, 3) in squared voxels; thick planes are in it already. Half-axes under half a voxel count as that.
        probability: (Z, Y, X) 0..1 that a voxel is cell; 2D is Z = 1.
        threshold: What is cell.
        reach: Half-axes of its ellipsoid that a mask may reach.
        holes: Fill holes, plane by plane.

    Returns:
        Masks that do not overlap. A spot whose centre lies in the image has at least one voxel, unless more spots than
        voxels are crowded there.

    Raises:
        DataError: The probability is no volume of numbers, shapes do not fit together, or an ellipsoid is not finite.
    """
    places, shapes = np.asarray(centre, dtype=np.float64), np.asarray(covariance, dtype=np.float64)
    shape = _checked(places, shapes, probability)
    n = len(places)
    here = np.flatnonzero(((places > -0.5) & (places < np.array(shape) - 0.5)).all(axis=1))
    labels, seen = np.zeros(shape, dtype=np.int32), np.zeros(n, dtype=bool)
    if len(here):
        middle, matrices = places[here], _thick(shapes[here])
        found, good = _grown(middle, matrices, probability, threshold=threshold, reach=reach, holes=holes)
        number = np.concatenate([[0], here + 1]).astype(np.int32)
        labels, seen[here] = number[found], good
    size = np.bincount(labels.reshape(-1), minlength=n + 1)[1:]
    total = np.bincount(labels.reshape(-1), probability.reshape(-1), minlength=n + 1)[1:]
    with np.errstate(invalid="ignore"):
        return Masks(labels, seen, size, total / size)


def _checked(places: F64, shapes: F64, probability: F32) -> tuple[int, int, int]:
    what = "Giving spots their masks failed: "
    if probability.ndim != 3 or not np.isfinite(probability).all():
        raise DataError(f"{what}the probability has shape {probability.shape}; it must be finite, (Z, Y, X).")
    if places.shape[1:] != (3,) or shapes.shape != (*places.shape, 3):
        raise DataError(
            f"{what}centres have shape {places.shape}, covariances {shapes.shape}; expected (N, 3), (N, 3, 3)."
        )
    if not (np.isfinite(places).all() and np.isfinite(shapes).all()):
        raise DataError(
            f"{what}a centre or a covariance is not finite. Delete that spot, or give it a place and a size."
        )
    z, y, x = probability.shape
    return z, y, x


def _thick(covariance: F64) -> F64:
    """Make half-axes at least half a voxel long."""
    values, axes = np.linalg.eigh((covariance + covariance.transpose(0, 2, 1)) / 2)
    found: F64 = np.einsum("nij,nj,nkj->nik", axes, np.maximum(values, LEAST**2), axes)
    return found


def _grown(
    middle: F64, matrices: F64, probability: F32, *, threshold: float, reach: float, holes: bool
) -> tuple[I32, Bool]:
    """Return the labels, and which spots the network saw."""
    n, shape = len(middle), probability.shape
    domain = rasterise(middle, matrices, shape, scale=reach, min_voxels=1)
    flat = np.flatnonzero(domain)
    owner = domain.reshape(-1)[flat] - 1
    away = np.sqrt(_distance(flat, owner, shape, (middle, matrices)))
    chance = probability.reshape(-1)[flat]
    cell = chance > threshold
    markers = _cores(owner[cell], away[cell], n)
    labels = np.zeros(shape, dtype=np.int32)
    if len(markers):
        height = away[cell] + STEEP * (1 - chance[cell])
        labels.reshape(-1)[flat[cell]] = _flooded(flat[cell], shape, height, markers)
    _cut(labels, domain, (middle, matrices), reach)
    if holes:
        labels = fill_holes(labels)
    own = rasterise(middle, matrices, shape, min_voxels=1)
    least = VANISHED * np.bincount(own.reshape(-1), minlength=n + 1)[1:]
    size = np.bincount(labels.reshape(-1), minlength=n + 1)[1:]
    seen = (size > 0) & (size >= least)
    lost = np.concatenate([[False], ~seen])
    labels[lost[labels]] = 0
    free = (labels == 0) & lost[own]
    labels[free] = own[free]
    _rescue(labels, middle)
    return labels, seen


def _distance(flat: I64, owner: npt.NDArray[np.integer], shape: tuple[int, ...], spots: tuple[F64, F64]) -> F64:
    """Squared distances of voxels from the spots that they belong to, in half-axes; some voxels at a time, to save memory."""
    inverse = np.linalg.inv(np.linalg.cholesky(spots[1]))
    found = np.empty(len(flat))
    for start in range(0, len(flat), BLOCK):
        part = slice(start, start + BLOCK)
        offset = np.stack(np.unravel_index(flat[part], shape), axis=1) - spots[0][owner[part]]
        steps = np.einsum("kij,kj->ki", inverse[owner[part]], offset)
        found[part] = np.einsum("ki,ki->k", steps, steps)
    return found


def _cores(owner: I32, away: F64, n: int) -> I32:
    """Return (K,) markers: spot + 1 in its core; where nothing of it is cell, at the nearest voxel that is."""
    nearest = np.full(n, np.inf)
    np.minimum.at(nearest, owner, away)
    return np.where(away <= np.maximum(nearest, CORE)[owner], owner + 1, 0).astype(np.int32)


def _flooded(flat: I64, shape: tuple[int, ...], height: F64, markers: I32) -> I32:
    """Flood voxels from their markers, neighbours by faces, low ones first."""
    from skimage.segmentation import watershed  # slow to import

    place = np.unravel_index(flat, shape)
    low = [int(axis.min()) for axis in place]
    inside = tuple(axis - start for axis, start in zip(place, low, strict=True))
    box = tuple(int(axis.max()) + 1 for axis in inside)
    landscape, seeds = np.full(box, np.float32(np.inf)), np.zeros(box, dtype=np.int32)
    landscape[inside], seeds[inside] = height, markers
    part = watershed(landscape, seeds, mask=np.isfinite(landscape))[inside]  # type: ignore[no-untyped-call]
    found: I32 = part.astype(np.int32)
    return found


def _cut(labels: I32, domain: I32, spots: tuple[F64, F64], reach: float) -> None:
    """Take away, in place, what flooded out of a spot's own reach."""
    strange = np.flatnonzero((labels != domain) & (labels > 0))
    values = labels.reshape(-1)
    far = _distance(strange, values[strange] - 1, labels.shape, spots) >= reach**2
    values[strange[far]] = 0


def _rescue(labels: I32, middle: F64) -> None:
    """Give each spot without a voxel the nearest one, in place, that is free or that another spot can spare."""
    values, shape = labels.reshape(-1), np.array(labels.shape)
    size = np.bincount(values, minlength=len(middle) + 1)
    steps = np.stack(np.meshgrid(*[np.arange(-AROUND, AROUND + 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    for spot in np.flatnonzero(size[1:] == 0).tolist():
        around = np.floor(middle[spot] + 0.5).astype(np.int64) + steps
        around = around[((around >= 0) & (around < shape)).all(axis=1)]
        near = np.argsort(((around - middle[spot]) ** 2).sum(axis=1), kind="stable")
        flat = np.ravel_multi_index(tuple(around[near].T), labels.shape)
        spare = flat[(values[flat] == 0) | (size[values[flat]] > 1)]
        if len(spare):
            size[values[spare[0]]] -= 1
            values[spare[0]] = spot + 1
            size[spot + 1] = 1
