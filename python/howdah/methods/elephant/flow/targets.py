"""Flow labels from links (paper: Algorithm for linking, training of the flow model with sparse annotations).

A label lies on a voxel of the later frame: how far it is, in voxels (z, y, x), to the same nucleus in the earlier frame. Labels
are lists of voxels, since most of a frame has none; they can be drawn for a whole frame or into a crop.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bdv_io.tracks import Tracks
from howdah.ellipsoids import runs_of, voxel_distance
from howdah.methods.elephant.status import TRACKING, TRACKING_TAGS, Status, spot_status

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Shape = tuple[int, int, int]

__all__ = ["MIN_VOXELS", "FlowLabels", "render_flow", "teaching_links"]

MIN_VOXELS = 9
TIE = 1e-9  # squared Mahalanobis distances nearer than this are equal but for rounding
REJECTED = (Status.FP, Status.TN, Status.TB, Status.FB)

log = logging.getLogger("howdah")


class FlowLabels(NamedTuple):
    """Labelled voxels of a frame or crop; all others are unknown.

    Attributes:
        voxel: (K,) int64, flat indices into (Z, Y, X), ascending, none twice.
        displacement: (K, 3) float32 (z, y, x), voxels, from the voxel to its place one frame earlier.
    """

    voxel: I64
    displacement: F32


def teaching_links(tracks: Tracks) -> I64:
    """Return the rows of the links that the flow is learned from.

    They are those that a person made or approved: all that are not tagged "unlabeled" in the tag set "Tracking". Left out, and
    said in the log, are links over several frames (the flow is over one), links of spots that a person rejected, and spots with
    two such links backwards, which contradict each other.
    """
    links = tracks.links
    person = ~tracks.tagged(TRACKING, TRACKING_TAGS[1].name, links=True)
    rejected = np.isin(spot_status(tracks), REJECTED)[links].any(axis=1)
    next_frame = tracks.t[links[:, 1]] - tracks.t[links[:, 0]] == 1
    finite = np.isfinite(tracks.centre[links]).all(axis=(1, 2))
    good = person & ~rejected & next_frame & finite
    single = np.bincount(links[good, 1], minlength=tracks.n_spots) == 1
    chosen = good & single[links[:, 1]]
    for mask, why in (
        (person & ~next_frame, "do not join neighbouring frames"),
        (good & ~chosen, "end in a spot with two links backwards"),
    ):
        if mask.any():
            log.warning("%d of %d links are not learned from: they %s.", mask.sum(), person.sum(), why)
    return np.flatnonzero(chosen)


def render_flow(centre: F64, covariance: F64, displacement: F64, shape: Shape) -> FlowLabels:
    """Draw the labels of one frame or crop.

    Args:
        centre: (N, 3) centres of the later spots in voxels.
        covariance: (N, 3, 3) in squared voxels.
        displacement: (N, 3) (z, y, x), earlier minus later position, voxels.
        shape: Voxels (Z, Y, X).

    Returns:
        The voxels of the ellipsoids. One with fewer than nine voxels is enlarged; a voxel in several ellipsoids goes to the one
        in which it lies deepest, and to none if it lies equally deep in two: the order of the spots does not matter.
    """
    flat, row = runs_of(centre, covariance, shape, min_voxels=MIN_VOXELS).voxels()
    order = np.argsort(flat)
    flat, row = flat[order], row[order]
    kept = np.ones(len(flat), dtype=bool)
    same = np.flatnonzero(flat[1:] == flat[:-1])
    if same.size:
        contested = np.unique(np.concatenate([same, same + 1]))
        kept[contested] = False
        depth = voxel_distance(flat[contested], row[contested], shape, centre, covariance)
        by_depth = np.lexsort((depth, flat[contested]))
        rank, depth = contested[by_depth], depth[by_depth]
        first = np.ones(len(rank), dtype=bool)
        first[1:] = flat[rank][1:] != flat[rank][:-1]
        tied = np.zeros(len(rank), dtype=bool)
        tied[:-1] = ~first[1:] & (depth[1:] - depth[:-1] <= TIE)
        kept[rank[first & ~tied]] = True
    return FlowLabels(flat[kept], displacement[row[kept]].astype(np.float32))
