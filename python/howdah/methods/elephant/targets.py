"""Label images from sparse marks (paper: Training with sparse annotations; Figure 2A).

Label of a voxel: 0 nothing known; 1, 2, 3 background, periphery, centre that the prediction had right ("true");
4, 5, 6 the same where a person corrected it ("false"). What does not depend on the order of the spots:

1. background by threshold; then tn (1) and fp (4) ellipsoids;
2. over it the periphery of true (2), then of false (5) spots: the whole ellipsoid, and a rim of one voxel around its centre
   part, so that a thin nucleus has a periphery too;
3. over it the centre parts (3, 6): the ellipsoid scaled by the centre ratio. A voxel that two centre parts claim goes to the
   one in which it lies deeper; voxels where two of them touch become periphery, or they would be detected as one nucleus. So
   do voxels that lie equally deep in two. A nucleus that was marked twice alike counts once, as false if one mark is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from howdah.ellipsoids import runs_of, voxel_distance
from howdah.methods.elephant.status import Status

F64 = npt.NDArray[np.float64]
Labels = npt.NDArray[np.uint8]
Shape = tuple[int, int, int]

__all__ = ["BACKGROUND", "CENTRE", "FALSE_OFFSET", "MIN_VOXELS", "PERIPHERY", "render_labels"]

BACKGROUND, PERIPHERY, CENTRE = 1, 2, 3
FALSE_OFFSET = 3
MIN_VOXELS = 9
TIE = 1e-9  # squared Mahalanobis distances nearer than this are equal but for rounding


def render_labels(
    centre: F64,
    covariance: F64,
    status: npt.NDArray[np.int8],
    shape: Shape,
    *,
    centre_ratio: float = 0.4,
    background: npt.NDArray[np.bool_] | None = None,
) -> Labels:
    """Draw the labels of one frame.

    Args:
        centre: (N, 3) centres in voxels.
        covariance: (N, 3, 3) in squared voxels.
        status: (N,) codes of :class:`Status`; UNLABELLED spots are not drawn.
        shape: Voxels (Z, Y, X).
        centre_ratio: Size of the centre part relative to the ellipsoid.
        background: (Z, Y, X) bool, voxels that are background by their intensity; none if None.

    Returns:
        (Z, Y, X) uint8 labels as in the text above. An ellipsoid or centre part of fewer than nine voxels is enlarged.
    """
    padded = (shape[0] + 2, shape[1] + 2, shape[2] + 2)  # one voxel around, so that neighbours need no bounds
    labels = np.zeros(padded, dtype=np.uint8)
    inner = labels[1:-1, 1:-1, 1:-1]
    if background is not None:
        inner[background] = BACKGROUND
    drawn = labels.reshape(-1)
    flat, row = runs_of(centre, covariance, shape, min_voxels=MIN_VOXELS).voxels()
    flat, kind = _in_padded(flat, shape), status[row]
    for code, label in ((Status.TN, BACKGROUND), (Status.FP, BACKGROUND + FALSE_OFFSET)):
        drawn[flat[kind == code]] = label

    has_centre = np.isin(status, (Status.TP, Status.FN))
    rows = _distinct(np.flatnonzero(has_centre), centre, covariance, status)
    parts = covariance[rows] * centre_ratio**2
    core, owner = runs_of(centre[rows], parts, shape, min_voxels=MIN_VOXELS).voxels()
    depth = voxel_distance(core, owner, shape, centre[rows], parts)
    core, owner = _nearest_owner(_in_padded(core, shape), owner, depth)
    rim, rim_owner, touching = _rim(core, owner, padded)
    for codes, offset in (((Status.TP, Status.TB), 0), ((Status.FN, Status.FB), FALSE_OFFSET)):
        drawn[flat[np.isin(kind, codes)]] = PERIPHERY + offset
        drawn[rim[np.isin(status[rows[rim_owner]], codes)]] = PERIPHERY + offset
    apart = ~touching
    is_false = status[rows[owner]] == Status.FN
    drawn[core[apart]] = CENTRE + FALSE_OFFSET * is_false[apart].astype(np.uint8)
    return np.ascontiguousarray(inner)


def _distinct(rows: npt.NDArray[np.intp], centre: F64, covariance: F64, status: npt.NDArray[np.int8]) -> Any:
    """Keep one row of those with the same centre and covariance, a false one before a true one."""
    rows = rows[np.argsort(status[rows] != Status.FN, kind="stable")]
    numbers = np.concatenate([centre[rows], covariance[rows].reshape(-1, 9)], axis=1)
    return np.sort(rows[np.unique(numbers, axis=0, return_index=True)[1]])


def _in_padded(flat: npt.NDArray[np.int64], shape: Shape) -> npt.NDArray[np.int64]:
    """Turn flat indices of a frame into those of the frame with one voxel around."""
    plane, x = np.divmod(flat, shape[2])
    z, y = np.divmod(plane, shape[1])
    return ((z + 1) * (shape[1] + 2) + y + 1) * (shape[2] + 2) + x + 1


def _nearest_owner(
    voxel: npt.NDArray[np.int64], owner: npt.NDArray[np.int64], depth: F64
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Keep one owner a voxel, the ellipsoid with the smallest Mahalanobis distance; voxels with two such are dropped."""
    order = np.lexsort((depth, voxel))
    first = np.ones(len(order), dtype=bool)
    first[1:] = voxel[order][1:] != voxel[order][:-1]
    near, tied = depth[order], np.zeros(len(order), dtype=bool)
    tied[:-1] = ~first[1:] & (near[1:] - near[:-1] <= TIE)
    kept = order[first & ~tied]
    return voxel[kept], owner[kept]


def _rim(
    voxel: npt.NDArray[np.int64], owner: npt.NDArray[np.int64], shape: Shape
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[Any]]:
    """Find the 26-neighbours of centre parts that are in none, with an owner, and the voxels that touch another's part."""
    owners = np.zeros(shape, dtype=np.int32).reshape(-1)
    owners[voxel] = owner + 1
    touching = np.zeros(len(voxel), dtype=bool)
    rim, rim_owner = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    steps = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    for z, y, x in steps[np.any(steps != 0, axis=1)]:
        beside = voxel + ((z * shape[1] + y) * shape[2] + x)
        found = owners[beside]
        touching |= (found != 0) & (found != owner + 1)
        free = found == 0
        rim.append(beside[free])
        rim_owner.append(owner[free])
    return np.concatenate(rim), np.concatenate(rim_owner), touching
