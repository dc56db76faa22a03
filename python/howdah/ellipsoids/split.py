"""Components that hold several objects, cut along the valleys of a landscape: watersheds of its h-maxima.

Few components of a frame need a cut, so the many that do not are recognised cheaply: a component is looked at only if it
falls apart at some higher level of the landscape.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import scipy

from howdah.ellipsoids.components import Components, components_of

F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]
Vector = tuple[float, float, float]

__all__ = ["split_components"]

AROUND = np.ones((3, 3, 3), dtype=bool)
WAIST = 0.2  # depth of a valley of the distance to the surface, relative to the largest distance


def split_components(
    found: Components,
    values: npt.NDArray[np.floating],
    *,
    depth: float = 0.1,
    large: Bool | None = None,
    only: Bool | None = None,
    least_voxels: int = 1,
    voxel_size: Vector = (1.0, 1.0, 1.0),
    lowest: float | None = None,
) -> Components:
    """Cut components that have several maxima, and large ones that have a waist.

    A component with several maxima of ``values``, each at least ``depth`` above the highest pass to a higher one, is cut along
    the watersheds between them. One that is ``large`` and has no such maxima is cut at waists: where the distance to
    its surface has a valley of a fifth of its largest value.

    Args:
        found: Components of (Z, Y, X) voxels.
        values: (K,) value of each voxel of ``found``.
        depth: In the unit of the values.
        large: (n,) components that are larger than one object can be; none if None.
        only: (n,) components that may be cut; all if None.
        least_voxels: A part of fewer voxels is not cut off.
        voxel_size: Edge lengths (z, y, x) of a voxel, for distances.
        lowest: Least value of the image where only some of its components are given: then they are cut as among all of them.

    Returns:
        The same voxels; the first part of a cut component keeps its number, others come after the last component.
    """
    wide = np.zeros(found.n, dtype=bool) if large is None else large
    several = _fall_apart(found, values, depth, lowest)
    candidates = np.flatnonzero((several | wide) if only is None else (several | wide) & only)
    if not candidates.size:
        return found
    owner, n = found.owner.copy(), found.n
    place = np.full(found.n, -1)
    place[candidates] = np.arange(len(candidates))
    rows = np.flatnonzero(place[owner] >= 0)
    rows = rows[np.argsort(owner[rows], kind="stable")]
    for mine in np.split(rows, np.flatnonzero(np.diff(owner[rows])) + 1):
        number = int(owner[mine[0]])
        part = _parts(found.flat[mine], values[mine], found.shape, (depth, least_voxels)) if several[number] else None
        if part is None and wide[number]:
            distance = _to_surface(found.flat[mine], found.shape, voxel_size)
            part = _parts(found.flat[mine], distance, found.shape, (WAIST * float(distance.max()), least_voxels))
        if part is not None:
            owner[mine] = np.where(part == 1, number, n + part - 2)
            n += int(part.max()) - 1
    return replace(found, owner=owner, n=n)


def _fall_apart(found: Components, values: npt.NDArray[np.floating], depth: float, lowest: float | None) -> Bool:
    """Which components are in several pieces above some level; levels lie closer than ``depth``."""
    several = np.zeros(found.n, dtype=bool)
    if not values.size:
        return several
    low, high = float(values.min()) if lowest is None else lowest, float(values.max())
    for level in np.arange(low + depth / 2, high, depth * 0.999):
        above = np.flatnonzero(values > level)
        pieces = components_of(found.flat[above], found.shape)
        _, first = np.unique(pieces.owner, return_index=True)
        several |= np.bincount(found.owner[above[first]], minlength=found.n) > 1
    return several


def _parts(
    flat: I64, values: npt.NDArray[np.floating], shape: tuple[int, int, int], limits: tuple[float, int]
) -> I32 | None:
    """Part (K,) of each voxel of a component, from 1 in the order of the highest maxima; None if it has one part only."""
    from skimage.morphology import local_maxima, reconstruction  # slow to import, and seldom needed
    from skimage.segmentation import watershed

    depth, least = limits
    place = np.unravel_index(flat, shape)
    low = [int(axis.min()) for axis in place]
    inside = tuple(axis - start for axis, start in zip(place, low, strict=True))
    box = tuple(int(axis.max()) + 1 for axis in inside)
    bottom = float(values.min()) - depth - 1.0
    landscape = np.full(box, bottom)
    landscape[inside] = values
    mask = landscape > bottom
    raised = reconstruction(np.where(mask, landscape - depth, bottom), landscape, footprint=AROUND)  # type: ignore[no-untyped-call]
    peaks = local_maxima(raised, footprint=AROUND) & mask  # type: ignore[no-untyped-call]
    markers, n = scipy.ndimage.label(peaks, AROUND)
    while n > 1:
        part = watershed(-landscape, markers, connectivity=AROUND, mask=mask)[inside]  # type: ignore[no-untyped-call]
        counts = np.bincount(part, minlength=n + 1)[1:]
        if counts.min() >= least:
            found: I32 = part.astype(np.int32)
            return found
        markers[markers == int(counts.argmin()) + 1] = 0
        markers[markers > int(counts.argmin()) + 1] -= 1
        n -= 1
    return None


def _to_surface(flat: I64, shape: tuple[int, int, int], voxel_size: Vector) -> F64:
    """Distance (K,) of the voxels of a component to the nearest voxel outside of it, world units."""
    place = np.stack(np.unravel_index(flat, shape))
    around = 1 if shape[0] > 1 else 0  # an image of one slice has no outside above and below
    inside = tuple(place - place.min(axis=1, keepdims=True) + np.array([[around], [1], [1]]))
    mask = np.zeros([int(axis.max()) + 1 + edge for axis, edge in zip(inside, (around, 1, 1), strict=True)], dtype=bool)
    mask[inside] = True
    distance: F64 = scipy.ndimage.distance_transform_edt(mask, sampling=voxel_size)[inside]
    return distance
