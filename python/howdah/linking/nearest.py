"""Nearest-neighbour linking, solved as a whole for each pair of frames.

The paper links in order of distance, first come first served, in five passes (ELEPHANT, section "Algorithm for
linking"). Here the sum of squared distances is minimal over all spots of a pair of frames, so the result does not
depend on the order of spots, and no parent gets more children than allowed. See :mod:`howdah.linking.divisions` for
how divisions are told from new tracks.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

from bdv_io.tracks import Tracks
from howdah.errors import DataError
from howdah.linking.assignment import NONE, assign, candidate_edges
from howdah.linking.config import LinkingConfig
from howdah.linking.divisions import Choices, division_choices, second_child_choices, settle_divisions
from howdah.progress import Progress

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = ["automatic_max_distance", "link_frames", "link_nearest"]

RADII = (2.0, 5.0)


def link_nearest(
    tracks: Tracks,
    config: LinkingConfig | None = None,
    *,
    frames: Iterable[int] | None = None,
    predicted: npt.ArrayLike | None = None,
    candidates: npt.ArrayLike | None = None,
) -> Tracks:
    """Return ``tracks`` with links added from each spot without a parent to its likeliest parent one frame earlier.

    Existing links stay as they are and count: a spot with an incoming link gets no other parent, and a spot with
    ``max_children`` children gets no more. For each pair of frames the one-to-one links are the best in the sum of
    squared distances; divisions are then settled around the children that got no link, exactly there. That is not a
    proof of the best divisions of the whole pair. The result does not depend on the order of spots.

    Args:
        tracks: Spots and the links that exist. The new links come after those, in order of target frame.
        config: Settings; the defaults if None.
        frames: Frames whose spots look for a parent; all by default.
        predicted: (N, 3) estimated centre (z, y, x) of each spot one frame earlier, world units; a row with NaN means
            that nothing is known and the spot's own centre is taken.
        candidates: (N,) bool, the spots that may get links; all by default. Links of the others still count.

    Raises:
        DataError: ``predicted`` or ``candidates`` do not have one row a spot.
    """
    steps = link_frames(tracks, config, frames=frames, predicted=predicted, candidates=candidates)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            linked: Tracks = end.value
            return linked


def link_frames(
    tracks: Tracks,
    config: LinkingConfig | None = None,
    *,
    frames: Iterable[int] | None = None,
    predicted: npt.ArrayLike | None = None,
    candidates: npt.ArrayLike | None = None,
) -> Generator[Progress, None, Tracks]:
    """Do what :func:`link_nearest` does, yielding a Progress after each pair of frames; the annotation is returned.

    The values of each Progress are ``links`` and ``divisions`` made for that pair, and ``max_distance`` (world units).
    """
    config = config or LinkingConfig()
    origin = _origins(tracks, predicted)
    allowed = np.ones(tracks.n_spots, dtype=bool) if candidates is None else np.asarray(candidates, dtype=bool)
    if allowed.shape != (tracks.n_spots,):
        raise DataError(f"Linking failed: candidates has shape {allowed.shape}; expected ({tracks.n_spots},).")
    limits = _limits(tracks, config)
    rows_of = _rows_by_frame(tracks)
    wanted = sorted(rows_of) if frames is None else sorted({int(frame) for frame in frames})
    targets = [frame for frame in wanted if frame in rows_of and frame - 1 in rows_of]
    n_children, has_parent = tracks.n_children(), tracks.n_parents() > 0
    sibling = np.full(tracks.n_spots, NONE, dtype=np.int64)
    sibling[tracks.links[:, 0]] = tracks.links[:, 1]
    made = [np.empty((0, 2), dtype=np.int64)]
    for done, frame in enumerate(targets, start=1):
        parents, children = rows_of[frame - 1], rows_of[frame]
        parents = parents[allowed[parents] & (n_children[parents] < config.max_children)]
        children = children[allowed[children] & ~has_parent[children]]
        known = np.where((sibling[parents] >= 0)[:, None], origin[sibling[parents]], np.nan)
        parent_of = _link_pair(origin[children], tracks.centre[parents], known, limits)
        linked = np.flatnonzero(parent_of != NONE)
        links = np.stack([parents[parent_of[linked]], children[linked]], axis=1)
        made.append(links[np.lexsort((links[:, 1], links[:, 0]))])
        total = n_children[parents] + np.bincount(parent_of[linked], minlength=len(parents))
        divisions = int(np.count_nonzero((total > 1) & (n_children[parents] <= 1)))
        values = {"links": float(len(links)), "divisions": float(divisions), "max_distance": limits.max_distance}
        yield Progress("link", done, len(targets), values)
    return tracks.with_links(np.concatenate(made))


def automatic_max_distance(tracks: Tracks) -> float:
    """Return the search distance that is taken when none is set, world units.

    It is the median, over all spots, of the distance to the nearest other spot of the same frame: a cell that moves
    further than its neighbour is away cannot be told from it by distance alone. Crowded or lonely cells are caught by
    bounds of 2 and 5 median radii (the radius of a spot is the geometric mean of its half-axes).
    """
    if not tracks.n_spots:
        return 1.0
    radius = float(np.median(np.linalg.det(tracks.covariance) ** (1 / 6)))
    nearest = [np.empty(0)]
    for rows in _rows_by_frame(tracks).values():
        if len(rows) > 1:
            points = tracks.centre[rows]
            nearest.append(np.asarray(KDTree(points).query(points, k=[2])[0]).ravel())
    distances = np.concatenate(nearest)
    apart = float(np.median(distances)) if len(distances) else np.inf
    return float(np.clip(apart, RADII[0] * radius, RADII[1] * radius))


class _Limits(NamedTuple):
    """The settings with every length known; costs are squared world units."""

    max_distance: float
    division_distance: float
    no_parent_cost: float
    penalty_cost: float
    max_candidates: int
    divide: bool


def _limits(tracks: Tracks, config: LinkingConfig) -> _Limits:
    reach = automatic_max_distance(tracks) if config.max_distance is None else config.max_distance
    return _Limits(
        max_distance=reach,
        division_distance=config.division_distance or reach,
        no_parent_cost=reach**2,
        penalty_cost=config.division_penalty * reach**2,
        max_candidates=config.max_candidates,
        divide=config.max_children > 1,
    )


def _link_pair(children: F64, parents: F64, siblings: F64, limits: _Limits) -> I64:
    """Return the (C,) parent of each child or -1; ``siblings`` (P, 3) is where a parent has a child, else NaN."""
    reach = max(limits.max_distance, limits.division_distance) if limits.divide else limits.max_distance
    edges = candidate_edges(children, parents, max_distance=reach, max_candidates=limits.max_candidates)
    free = np.isnan(siblings[:, 0])[edges.parent]
    ahead = edges.only(free & (edges.cost <= limits.max_distance**2))
    parent_of = assign(ahead, len(children), len(parents), no_parent_cost=limits.no_parent_cost)
    if not limits.divide:
        return parent_of
    near = edges.cost <= limits.division_distance**2
    costs = {"penalty_cost": limits.penalty_cost, "no_parent_cost": limits.no_parent_cost}
    pairs = division_choices(edges.only(free & near), children, parents, **costs)
    seconds = second_child_choices(edges.only(~free & near), children, parents, siblings, **costs)
    return settle_divisions(
        Choices.of_links(ahead), pairs.joined(seconds), parent_of, no_parent_cost=limits.no_parent_cost
    )


def _origins(tracks: Tracks, predicted: npt.ArrayLike | None) -> F64:
    """(N, 3) points where the spots were one frame earlier, as far as is known."""
    if predicted is None:
        return tracks.centre
    estimate = np.asarray(predicted, dtype=np.float64)
    if estimate.shape != tracks.centre.shape:
        raise DataError(
            f"Linking failed: predicted positions have shape {estimate.shape}; expected {tracks.centre.shape}, one a spot."
        )
    return np.where(np.isfinite(estimate).all(axis=1, keepdims=True), estimate, tracks.centre)


def _rows_by_frame(tracks: Tracks) -> dict[int, I64]:
    """Rows of each frame that has spots, ordered by position and id, so that ties do not depend on the spots' order."""
    z, y, x = tracks.centre.T
    order = np.lexsort((tracks.id, x, y, z, tracks.t))
    frames, starts = np.unique(tracks.t[order], return_index=True)
    return dict(zip(frames.tolist(), np.split(order, starts[1:]), strict=True)) if len(frames) else {}
