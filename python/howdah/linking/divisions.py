"""Divisions: what it costs that a spot has two children.

A division is judged as a whole. With mother p and daughters a, b it costs

    2 |(a + b) / 2 - p|² + (division_penalty + size_weight * odds - division_weight * evidence) max_distance²

because daughters part to both sides of the place where their mother was: the midpoint is where one cell would be, and
counts for two links. The separation of the daughters costs nothing (up to ``division_distance`` each). In comparison a
link costs |a - p|² and a child without a parent max_distance². So a second spot that appears beside a cell that goes on
quietly is a new track, not a division, unless both estimated positions lie close to the mother.

The odds say what the sizes say: the larger daughter should have half of the mother's volume; a cell that goes on has all of
it. They are the logarithm of how much likelier the second is, for volumes that vary by ``size_spread`` (of the logarithm)
from frame to frame, within bounds. They count as far as the differences between spots last from frame to frame: where all
have the same size, or sizes are noise, they say nothing.

The evidence is what a classifier says of the mother (:mod:`.evidence`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy

from bdv_io.tracks import Tracks
from howdah.linking.assignment import Edges

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = ["division_cost", "log_volumes", "size_model", "size_odds", "twins"]

MOST_ODDS = 1.5
LEAST_SPREAD = 0.35
EQUAL = 0.02
SAMPLED = 12
MAD = 1.4826
CROWD = 30


def twins(edges: Edges) -> tuple[I64, I64]:
    """Return all pairs of edges (K,), (K,) that have the same parent; the first has the smaller child.

    Of more than ``CROWD`` edges of a parent only the shortest count: where very many spots lie in one place, the pairs of all
    would not fit into memory.
    """
    order = np.lexsort((edges.child, edges.cost, edges.parent))
    place = np.arange(len(order)) - np.searchsorted(edges.parent[order], edges.parent[order])
    order = np.sort(order[place < CROWD])
    order = order[np.lexsort((edges.child[order], edges.parent[order]))]
    parent = edges.parent[order]
    partners = np.searchsorted(parent, parent, side="right") - np.arange(len(parent)) - 1
    left = np.repeat(np.arange(len(parent)), partners)
    right = left + 1 + np.arange(len(left)) - np.repeat(np.cumsum(partners) - partners, partners)
    return order[left], order[right]


def division_cost(first: F64, second: F64, mother: F64, *, penalty_cost: float) -> F64:
    """Return the (K,) costs of divisions, squared world units, without the sizes.

    Places are (K, 3), those of the daughters one frame earlier.
    """
    away = (first + second) / 2 - mother
    cost: F64 = 2 * (away * away).sum(axis=1) + penalty_cost
    return cost


def size_odds(first: F64, second: F64, mother: F64, *, spread: float) -> F64:
    """Return the (K,) logarithm of the odds of sizes against a division; sizes are logarithms of volumes."""
    grown = np.maximum(first, second) - mother
    odds = ((grown + np.log(2.0)) ** 2 - grown**2) / (2 * spread**2)
    found: F64 = np.clip(np.nan_to_num(odds), -MOST_ODDS, MOST_ODDS)
    return found


def log_volumes(tracks: Tracks) -> F64:
    """Return the (N,) logarithms of the spots' volumes, but for a constant; NaN where a spot is no ellipsoid."""
    with np.errstate(invalid="ignore"):  # what is no number stays none
        sign, size = np.linalg.slogdet(tracks.covariance)
    volumes: F64 = np.where(sign > 0, size / 2, np.nan)
    return volumes


class SizeModel(NamedTuple):
    """How sizes behave on a movie.

    Attributes:
        spread: Standard deviation of the change of a log volume from frame to frame.
        kept: 0 to 1, how much of the differences between spots lasts: 0 if sizes are noise, or all the same.
    """

    spread: float
    kept: float


def size_model(size: F64, centre: F64, rows_of: dict[int, I64]) -> SizeModel:
    """Return how sizes behave: robust spreads of the log volumes (N,), and of their change to the nearest spot one frame
    earlier, in some frames of the movie."""
    frames = [frame for frame in sorted(rows_of) if frame - 1 in rows_of]
    changes, sizes = [np.zeros(1)], [np.zeros(1)]
    for at in np.unique(np.linspace(0, len(frames) - 1, SAMPLED).astype(int)) if frames else []:
        pair = [rows_of[frames[at]], rows_of[frames[at] - 1]]
        children, parents = (rows[np.isfinite(centre[rows]).all(axis=1) & np.isfinite(size[rows])] for rows in pair)
        if len(children) and len(parents):
            distance, nearest = map(np.asarray, scipy.spatial.KDTree(centre[parents]).query(centre[children]))
            near = np.isfinite(distance)  # beyond all measure a tree finds nothing
            changes.append(size[children[near]] - size[parents[nearest[near]]])
            sizes.append(size[children] - np.median(size[children]))
    change, differ = (MAD * float(np.median(np.abs(np.concatenate(column)))) for column in (changes, sizes))
    if differ < EQUAL:
        return SizeModel(LEAST_SPREAD, 0.0)
    return SizeModel(max(change, LEAST_SPREAD), max(0.0, 1 - change**2 / (2 * differ**2)))
