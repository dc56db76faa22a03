"""The best links of one pair of frames."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from howdah.linking.assignment import Edges, candidate_edges
from howdah.linking.divisions import division_cost, size_odds, twins
from howdah.linking.evidence import farther
from howdah.linking.limits import Limits
from howdah.linking.programme import NONE, Choices, best_choices

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = ["Pair", "link_pair", "pair_choices", "possible_edges"]


TIE = 1e-9  # a link of exactly max_distance is as good as none, and is made


class Pair(NamedTuple):
    """C spots without a parent and P spots of an earlier frame that may take a child; world units, (z, y, x).

    Attributes:
        origin: (C, 3), where the children are estimated to have been in the earlier frame.
        move: (C,), distance from there to where they are; NaN where there is no estimate.
        parents: (P, 3), centres.
        sibling: (P, 3), estimated earlier position of the child that a parent has already; NaN where it has none.
        sibling_move: (P,), the move of that child, NaN where unknown.
        size: (C,), logarithms of the volumes; the same for the parents, ``parent_size`` (P,), and siblings, ``sibling_size`` (P,).
        evidence: (P,), log-odds that a parent divides, against the prior; 0 where nothing is known.
    """

    origin: F64
    move: F64
    parents: F64
    sibling: F64
    sibling_move: F64
    size: F64
    parent_size: F64
    sibling_size: F64
    evidence: F64


def link_pair(pair: Pair, limits: Limits) -> I64:
    """Return the (C,) parent of each child or -1, such that the sum of all costs is minimal.

    A link costs its squared length, a child without a parent max_distance², a division what :mod:`.divisions` says.
    """
    n_children, n_parents = len(pair.origin), len(pair.parents)
    choices = pair_choices(possible_edges(pair, limits), pair, limits)
    taken = choices.only(best_choices(choices, n_children, n_parents))
    parent_of = np.full(n_children, NONE, dtype=np.int64)
    parent_of[taken.first] = taken.parent
    both = taken.second != NONE
    parent_of[taken.second[both]] = taken.parent[both]
    return parent_of


def possible_edges(pair: Pair, limits: Limits) -> Edges:
    """Return the edges from each child to the parents that it could have, alone or as one of two."""
    reach = limits.max_distance
    if limits.divide:
        reach = max(reach, limits.division_distance * float(farther(pair.evidence).max(initial=1.0)))
    return candidate_edges(pair.origin, pair.parents, max_distance=reach, max_candidates=limits.max_candidates)


def pair_choices(edges: Edges, pair: Pair, limits: Limits, *, prune: bool = True) -> Choices:
    """Return what the parents may choose: links, divisions, and second children of those that have one already.

    ``prune`` leaves out divisions that are never better than one link and a new track.
    """
    alone = limits.no_parent_cost
    free = np.isnan(pair.sibling[:, 0])[edges.parent]
    ahead = edges.only(free & (edges.cost <= limits.max_distance**2))
    none = np.full(len(ahead.child), NONE)
    links = Choices(ahead.parent, ahead.child, none, alone * (1 + TIE) - ahead.cost)
    if not limits.divide:
        return links
    near = edges.cost <= (limits.division_distance * farther(pair.evidence)[edges.parent]) ** 2
    pairs = edges.only(free & near)
    left, right = twins(pairs)
    mother, first, second = pairs.parent[left], pairs.child[left], pairs.child[right]
    places = (pair.origin[first], pair.origin[second], pair.parents[mother])
    cost = division_cost(*places, penalty_cost=limits.penalty_cost)
    sizes = pair.size[first], pair.size[second], pair.parent_size[mother]
    cost += limits.size_cost * size_odds(*sizes, spread=limits.size_spread)
    cost -= limits.evidence_cost * pair.evidence[mother]
    divisions = Choices(mother, first, second, 2 * alone - cost)
    if prune:
        one_link = np.minimum(np.minimum(pairs.cost[left], pairs.cost[right]), alone)
        divisions = divisions.only(cost < one_link + alone)
    more = edges.only(~free & near)
    sibling, place = pair.sibling[more.parent], pair.parents[more.parent]
    known = np.minimum(((sibling - place) ** 2).sum(axis=1), alone)
    cost = division_cost(pair.origin[more.child], sibling, place, penalty_cost=limits.penalty_cost) - known
    sizes = pair.size[more.child], pair.sibling_size[more.parent], pair.parent_size[more.parent]
    cost += limits.size_cost * size_odds(*sizes, spread=limits.size_spread)
    cost -= limits.evidence_cost * pair.evidence[more.parent]
    return links.joined(divisions, Choices(more.parent, more.child, np.full(len(cost), NONE), alone - cost))
