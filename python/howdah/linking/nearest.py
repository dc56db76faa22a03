"""Nearest-neighbour linking by the rules of the paper (ELEPHANT, section "Algorithm for linking").

Each spot asks its nearest possible parents in turn, up to N_max of them within d_search. A parent takes at most two
children, and a second one only if at least one of the two moved further than d_disp, or both are nearer than d_dist. Of
more than two, those that moved less are taken; where only one of two may stay, the nearer. Who is refused asks the next
parent; who is pushed out asks again in the next of five rounds.

All spots of a frame ask at the same time, and ties are broken by the spots' positions, so the result does not depend on
their order. Without an estimate of the earlier position, the move of a spot is the way to the parent that it asks: that
is what the nearest neighbour says of its displacement.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from howdah.linking.assignment import candidate_edges
from howdah.linking.limits import Limits
from howdah.linking.pairs import Pair
from howdah.linking.programme import NONE

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

__all__ = ["link_by_rules"]

ROUNDS = 5


class _Asking(NamedTuple):
    """Children that want a parent, one row each: ``child`` is -1 for a child that the parent has already and keeps."""

    child: I64
    parent: I64
    distance: F64
    move: F64

    def of_parents(self, asked: Bool) -> _Asking:
        mask = asked[self.parent]
        return _Asking(self.child[mask], self.parent[mask], self.distance[mask], self.move[mask])

    def followed_by(self, other: _Asking) -> _Asking:
        return _Asking(*(np.concatenate(columns) for columns in zip(self, other, strict=True)))


def link_by_rules(pair: Pair, limits: Limits) -> I64:
    """Return the (C,) parent of each child of a pair of frames, or -1."""
    n = len(pair.origin)
    parent_of = np.full(n, NONE, dtype=np.int64)
    edges = candidate_edges(
        pair.origin, pair.parents, max_distance=limits.max_distance, max_candidates=limits.max_candidates
    )
    if not len(edges.child):
        return parent_of
    place = np.arange(len(edges.child)) - np.searchsorted(edges.child, edges.child)
    choice = np.full((n, int(place.max()) + 1), NONE, dtype=np.int64)
    length = np.full(choice.shape, np.inf)
    choice[edges.child, place], length[edges.child, place] = edges.parent, np.sqrt(edges.cost)
    move = np.where(np.isnan(pair.move)[:, None], length, pair.move[:, None])
    present, held = _present(pair), np.zeros(n, dtype=np.int64)

    def asking(children: I64, at: I64) -> _Asking:
        return _Asking(children, choice[children, at], length[children, at], move[children, at])

    for _ in range(ROUNDS):
        before = parent_of.copy()
        active = np.flatnonzero((parent_of == NONE) & (choice[:, 0] != NONE))
        for depth in range(choice.shape[1]):
            active = active[choice[active, depth] != NONE]
            if not len(active):
                break
            at = np.full(len(active), depth)
            asked = np.zeros(len(pair.parents), dtype=bool)
            asked[choice[active, depth]] = True
            holders = np.flatnonzero((parent_of != NONE) & asked[parent_of])
            everyone = (
                present.of_parents(asked).followed_by(asking(holders, held[holders])).followed_by(asking(active, at))
            )
            kept = _taken(everyone, limits)
            kept = kept[kept != NONE]
            parent_of[holders] = NONE
            held[active] = depth
            parent_of[kept] = choice[kept, held[kept]]
            active = active[parent_of[active] == NONE]
        if np.array_equal(parent_of, before):
            break
    return parent_of


def _present(pair: Pair) -> _Asking:
    """The children that parents have already."""
    parent = np.flatnonzero(~np.isnan(pair.sibling[:, 0]))
    distance = np.linalg.norm(pair.sibling[parent] - pair.parents[parent], axis=1)
    move = pair.sibling_move[parent]
    return _Asking(np.full(len(parent), NONE), parent, distance, np.where(np.isnan(move), distance, move))


def _taken(asking: _Asking, limits: Limits) -> I64:
    """Return the children that their parents take, -1 for those that they had already."""
    first = np.where(asking.child == NONE, -np.inf, asking.move if limits.divide else asking.distance)
    order = np.lexsort((asking.child, asking.distance, first, asking.parent))
    parent, distance, move = asking.parent[order], asking.distance[order], asking.move[order]
    place = np.arange(len(order)) - np.searchsorted(parent, parent)
    kept: Bool = place < (2 if limits.divide else 1)
    second = np.flatnonzero(kept & (place == 1))
    one, two = second - 1, second
    far = np.maximum(move[one], move[two]) > limits.displacement
    near = np.maximum(distance[one], distance[two]) < limits.distance
    alone = ~(far | near)
    settled = (asking.child[order[one]] == NONE) | (distance[one] <= distance[two])
    kept[two[alone & settled]] = False
    kept[one[alone & ~settled]] = False
    taken: I64 = asking.child[order[kept]]
    return taken
