"""How sure a link is: the probability that it is right among all ways to link its surroundings.

For one pair of frames every possible link has a weight against "this spot has no parent", from its length; two links may
not share a child, and may share a parent only as a division, which has a weight of its own. The probability of a link is
its share of the weights of all ways to link the pair as a whole. It is found by belief propagation on the graph of the possible links,
which for such matchings converges and comes close to the exact sums (Williams and Lau 2014, 10.1109/TAES.2014.120568).

So a link is sure if no other parent and no other child lies near, or if those have better partners of their own. Lengths
are taken as heavy-tailed (Student), with the median length of the links made on the movie as their scale.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from howdah.linking.assignment import Edges, candidate_edges
from howdah.linking.earlier import Earlier
from howdah.linking.gaps import Bridges
from howdah.linking.job import Job
from howdah.linking.limits import Limits
from howdah.linking.programme import NONE

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

__all__ = ["link_lengths", "link_quality", "link_shares", "link_weights", "usual_length"]

ROUNDS = 12
FREEDOM = 2.0
LEAST_SCALE = 0.05
DIVISION_WEIGHT = 0.05
CANDIDATES = 6


def link_weights(squared: F64, *, scale: float, reach: float) -> F64:
    """Return the (E,) weights of links of squared length (E,) against having no parent, which weighs 1.

    A link of the length ``reach`` weighs 1, too; ``scale`` is the usual length, both in world units.
    """
    power = -(FREEDOM + 3) / 2
    weights: F64 = ((1 + squared / (FREEDOM * scale**2)) / (1 + reach**2 / (FREEDOM * scale**2))) ** power
    return weights


def link_shares(edges: Edges, weight: F64, taken: Bool, *, divide: bool, odds: F64 | None = None) -> F64:
    """Return the (E,) probability of each possible link.

    Args:
        edges: Possible links.
        weight: (E,) their weights against no parent.
        taken: (P,) bool, parents that have a child already: another one makes a division.
        divide: Whether a parent may have two children.
        odds: (P,) how many times likelier than any other each parent divides; 1 by default.
    """
    if not len(edges.child):
        return np.empty(0)
    n_children, n_parents = int(edges.child.max()) + 1, len(taken)
    has = taken[edges.parent]
    second = np.full(n_parents, DIVISION_WEIGHT if divide else 0.0)
    second = (second if odds is None else second * odds)[edges.parent]
    to_parent = weight.copy()  # the weight of an edge without what its parent says
    said = np.ones(len(weight))
    for _ in range(ROUNDS):
        one = np.bincount(edges.parent, to_parent, n_parents)[edges.parent] - to_parent
        squares = np.bincount(edges.parent, to_parent**2, n_parents)[edges.parent] - to_parent**2
        two = np.maximum(one**2 - squares, 0) / 2
        said = np.where(has, second / (1 + second * one), (1 + second * one) / (1 + one + second * two))
        each = weight * said
        rest = np.bincount(edges.child, each, n_children)[edges.child] - each
        to_parent = weight / (1 + np.maximum(rest, 0))
    each = weight * said
    shares: F64 = each / (1 + np.bincount(edges.child, each, n_children)[edges.child])
    return shares


def link_lengths(job: Job, links: I64, earlier: Earlier, bridges: Bridges) -> F64:
    """Return the (K,) lengths of new links (K, 2), world units, of which the last are the bridges: from the estimated earlier place."""
    place = _places(earlier, bridges)
    found: F64 = np.linalg.norm(place[links[:, 1]] - job.tracks.centre[links[:, 0]], axis=1)
    return found


def usual_length(lengths: F64, limits: Limits) -> float:
    """Return the scale of lengths (K,), world units: their median, in any order."""
    return max(float(np.median(lengths)) if len(lengths) else 0.0, LEAST_SCALE * limits.max_distance)


def link_quality(
    job: Job, links: I64, earlier: Earlier, bridges: Bridges, *, scale: float | None = None, of: Bool | None = None
) -> F64:
    """Return the (K,) quality, 0 to 1, of new links (K, 2): those between neighbouring frames, then the bridges over gaps.

    Args:
        job: The annotation before linking.
        links: Rows of source and target.
        earlier: Estimates for its spots.
        bridges: The last links, in the same order.
        scale: :func:`usual_length` of all links of the movie; by default these are all.
        of: (K,) bool, the links that are asked about, by default all; the others only say which spots have a child.
    """
    quality = np.zeros(len(links))
    if not len(links):
        return quality
    tracks, limits, allowed = job.tracks, job.limits, job.allowed
    place = _places(earlier, bridges)
    if scale is None:
        scale = usual_length(link_lengths(job, links, earlier, bridges), limits)
    free = allowed & ~job.has_parent
    taken, over = job.n_children > 0, np.zeros(tracks.n_spots, dtype=bool)
    over[bridges.ghosts.spot] = True
    age = np.ones(tracks.n_spots, dtype=np.int64)
    age[bridges.ghosts.spot] = bridges.ghosts.age
    n_children = job.n_children + np.bincount(links[:, 0], minlength=tracks.n_spots)
    chosen = np.full(tracks.n_spots, NONE, dtype=np.int64)
    chosen[links[:, 1]] = np.arange(len(links))
    order = np.argsort(tracks.t, kind="stable")
    frames = tracks.t[order]
    asked = links[:, 1] if of is None else links[of, 1]
    for frame, back in np.unique(np.stack([tracks.t[asked], age[asked]], axis=1), axis=0).tolist():
        rows = [order[slice(*np.searchsorted(frames, [one, one + 1]))] for one in (frame, frame - back)]
        children, parents = rows[0], rows[1][allowed[rows[1]]]
        children = children[free[children] & (age[children] == back)]
        if back > 1:  # only spots without a child could be the end of the track
            children = children[over[children]]
            parents = parents[(n_children[parents] == 0) | np.isin(parents, links[chosen[children], 0])]
        edges = candidate_edges(
            place[children], tracks.centre[parents], max_distance=2 * limits.max_distance, max_candidates=CANDIDATES
        )
        weight = link_weights(edges.cost, scale=scale, reach=limits.max_distance)
        share = link_shares(
            edges, weight, taken[parents], divide=limits.divide and back == 1, odds=np.exp(job.evidence[parents])
        )
        link = chosen[children[edges.child]]
        mine = (link != NONE) & (links[link, 0] == parents[edges.parent])
        quality[link[mine]] = share[mine]
    return quality


def _places(earlier: Earlier, bridges: Bridges) -> F64:
    """(N, 3) where each spot was in the frame in which its parent is looked for."""
    place = earlier.origin.copy()
    place[bridges.ghosts.spot] = bridges.ghosts.place
    return place
