"""What the network shall say of a frame: where cells are, and how near their centres."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]

__all__ = ["centre_heat", "deepest_points"]

DEEP = 0.95  # a voxel is as deep as any if its distance to the border is this share of the largest
REACH = 3.5  # a peak is drawn so many standard deviations wide
LEAST_SD = 0.7  # voxels of an axis; a narrower peak would fall between them


def deepest_points(labels: I32, voxel_size: Sequence[float]) -> F64:
    """Return the centre of each cell: of its deepest voxels the one nearest to its centroid; (N, 3) voxels, in the order of labels.

    Deep is far from the border of the cell, also from where another cell begins; beyond the frame the cell goes on.

    Args:
        labels: (Z, Y, X), 0 = no cell; numbers may have gaps.
        voxel_size: Of (z, y, x).
    """
    numbers = np.unique(labels[labels > 0])
    flat = labels.shape[0] == 1
    size = np.asarray(voxel_size, dtype=np.float64)
    boxes = ndimage.find_objects(labels)
    found = np.empty((len(numbers), 3))
    for row, number in enumerate(numbers):
        box = boxes[number - 1]
        inside = labels[box] == number
        room = [(0, 0) if flat and axis == 0 else (1, 1) for axis in range(3)]
        padded = np.pad(inside, room)
        for axis, part in enumerate(box):  # what touches the edge of the frame goes on behind it
            if room[axis] == (0, 0):
                continue
            if part.start == 0:
                _side(padded, axis, 0)[...] = _side(padded, axis, 1)
            if part.stop == labels.shape[axis]:
                _side(padded, axis, -1)[...] = _side(padded, axis, -2)
        depth = _depth(padded, size, flat=flat)
        depth = depth[tuple(slice(a, n - b) for (a, b), n in zip(room, depth.shape, strict=True))]
        depth = np.where(inside, depth, 0)
        voxels = np.argwhere(inside)
        middle = voxels.mean(axis=0)
        deep = np.argwhere(depth >= DEEP * depth.max())
        nearest = deep[(((deep - middle) * size) ** 2).sum(axis=1).argmin()]
        found[row] = nearest + [part.start for part in box]
    return found


def centre_heat(labels: I32, centres: F64, diameters: F64, *, voxel_size: Sequence[float], width: float) -> F32:
    """Draw a peak of height 1 at each centre, a Gaussian in world units; where peaks overlap the larger value counts.

    Args:
        labels: (Z, Y, X); gives the shape, and tells which cell's peak a voxel may show: its own, or on background any.
        centres: (N, 3) voxels, in the order of labels.
        diameters: (N,) of each cell, world units.
        voxel_size: Of (z, y, x).
        width: Standard deviation as a share of the diameter.

    Returns:
        (Z, Y, X) float32, 0..1.
    """
    heat = np.zeros(labels.shape, dtype=np.float32)
    numbers = np.unique(labels[labels > 0])
    size = np.asarray(voxel_size, dtype=np.float64)
    for number, centre, diameter in zip(numbers, centres, diameters, strict=True):
        sd = np.maximum(width * diameter / size, LEAST_SD)
        low = np.maximum(np.ceil(centre - REACH * sd), 0).astype(int)
        high = np.minimum(np.floor(centre + REACH * sd) + 1, labels.shape).astype(int)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        z, y, x = (
            np.exp(-0.5 * ((np.arange(a, b) - c) / s) ** 2) for a, b, c, s in zip(low, high, centre, sd, strict=True)
        )
        peak = (z[:, None, None] * y[:, None] * x).astype(np.float32)
        own = labels[box]
        peak[(own > 0) & (own != number)] = 0
        np.maximum(heat[box], peak, out=heat[box])
    return heat


def _depth(inside: npt.NDArray[np.bool_], size: F64, *, flat: bool) -> F64:
    """Return the distance of each voxel (Z, Y, X) to the outside; one number where there is no outside: a cell as large as the frame."""
    if inside.all():
        return np.ones(inside.shape)
    whole = ndimage.distance_transform_edt(inside[0] if flat else inside, sampling=size[1:] if flat else size)
    return np.asarray(whole[None] if flat else whole, dtype=np.float64)


def _side(values: npt.NDArray[np.bool_], axis: int, place: int) -> npt.NDArray[np.bool_]:
    """Return one layer of an array, a view."""
    return values[(slice(None),) * axis + (place,)]
