"""The settings with every length known, and the spots in the order in which they are linked."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy

from bdv_io.tracks import Tracks
from howdah.linking.config import LinkingConfig
from howdah.linking.divisions import SizeModel, log_volumes, size_model

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = [
    "Limits",
    "automatic_max_distance",
    "limits_of",
    "limits_with",
    "nearest_distances",
    "reach_of",
    "rows_by_frame",
    "usual_radius",
]

RADII = (2.0, 5.0)
CANDIDATES = {"nearest": 3}
MANY = 8


class Limits(NamedTuple):
    """The settings with every length known.

    Attributes:
        max_distance: World units. division_distance: World units.
        no_parent_cost: Cost of a child without a parent, squared world units.
        penalty_cost: Cost of a division besides its geometry, squared world units.
        max_candidates: Nearest parents considered. divide: Whether divisions are allowed.
        displacement: The paper's d_disp, world units. distance: The paper's d_dist, world units.
        size_cost: Cost of a division per odds that the sizes speak against it, squared world units.
        size_spread: How much the logarithms of volumes vary from frame to frame.
        evidence_cost: Saved by a division per log-odds that the feature speaks for it, squared world units.
    """

    max_distance: float
    division_distance: float
    no_parent_cost: float
    penalty_cost: float
    max_candidates: int
    divide: bool
    displacement: float
    distance: float
    size_cost: float
    size_spread: float
    evidence_cost: float


def limits_of(tracks: Tracks, config: LinkingConfig) -> Limits:
    """Return the settings for an annotation, with what is automatic decided."""
    reach = automatic_max_distance(tracks) if config.max_distance is None else config.max_distance
    return limits_with(config, reach, size_model(log_volumes(tracks), tracks.centre, rows_by_frame(tracks)))


def limits_with(config: LinkingConfig, reach: float, sizes: SizeModel) -> Limits:
    """Return the settings for a known ``max_distance``, world units, and a known behaviour of sizes."""
    return Limits(
        max_distance=reach,
        division_distance=config.division_distance or reach,
        no_parent_cost=reach**2,
        penalty_cost=config.division_penalty * reach**2,
        max_candidates=config.max_candidates or CANDIDATES.get(config.solver, MANY),
        divide=config.max_children > 1,
        displacement=config.displacement_threshold,
        distance=config.distance_threshold,
        size_cost=config.size_weight * sizes.kept * reach**2,
        size_spread=sizes.spread,
        evidence_cost=config.division_weight * reach**2,
    )


def automatic_max_distance(tracks: Tracks) -> float:
    """Return the search distance that is taken when none is set, world units.

    It is the median, over all spots, of the distance to the nearest other spot of the same frame: a cell that moves
    further than its neighbour is away cannot be told from it by distance alone. Crowded or lonely cells are caught by
    bounds of 2 and 5 median radii (the radius of a spot is the geometric mean of its half-axes).
    """
    usable, radius = usual_radius(tracks)
    if not usable.any():
        return 1.0
    nearest = [nearest_distances(tracks.centre[rows[usable[rows]]]) for rows in rows_by_frame(tracks).values()]
    return reach_of(radius, np.concatenate(nearest))


def usual_radius(tracks: Tracks) -> tuple[npt.NDArray[np.bool_], float]:
    """Return the (N,) mask of the spots that have a place and a shape, and their median radius, world units; NaN of none."""
    usable = np.atleast_1d(np.isfinite(tracks.centre).all(axis=1) & np.isfinite(tracks.covariance).all(axis=(1, 2)))
    if not usable.any():
        return usable, float("nan")
    return usable, float(np.median(np.abs(np.linalg.det(tracks.covariance[usable])) ** (1 / 6)))


def nearest_distances(points: F64) -> F64:
    """Return the (N,) distance from each point (N, 3) of a frame to the nearest other one; nothing of fewer than two."""
    if len(points) < 2:
        return np.empty(0)
    return np.asarray(scipy.spatial.KDTree(points).query(points, k=[2])[0], dtype=np.float64).ravel()


def reach_of(radius: float, distances: F64) -> float:
    """Return the automatic ``max_distance``, world units: see :func:`automatic_max_distance`.

    Args:
        radius: Median radius of all spots.
        distances: (K,) :func:`nearest_distances` of all frames, in any order.
    """
    apart = float(np.median(distances)) if len(distances) else np.inf
    return float(np.clip(apart, RADII[0] * radius, RADII[1] * radius)) or 1.0


def rows_by_frame(tracks: Tracks) -> dict[int, I64]:
    """Rows of each frame that has spots, ordered by position and id, so that ties do not depend on the spots' order."""
    z, y, x = tracks.centre.T
    order = np.lexsort((tracks.id, x, y, z, tracks.t))
    frames, starts = np.unique(tracks.t[order], return_index=True)
    return dict(zip(frames.tolist(), np.split(order, starts[1:]), strict=True)) if len(frames) else {}
