"""What is known of the spots of two frames that are to be joined, and today's optimum for such a pair."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from howdah.linking.assignment import assign, candidate_edges
from howdah.linking.divisions import Choices, division_choices, second_child_choices, settle_divisions
from howdah.linking.limits import Limits

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = ["Pair", "link_pair"]


class Pair(NamedTuple):
    """C spots without a parent and P spots of an earlier frame that may take a child; world units, (z, y, x).

    Attributes:
        origin: (C, 3), where the children are estimated to have been in the earlier frame.
        move: (C,), distance from there to where they are; NaN where there is no estimate.
        parents: (P, 3), centres.
        sibling: (P, 3), estimated earlier position of the child that a parent has already; NaN where it has none.
        sibling_move: (P,), the move of that child, NaN where unknown.
    """

    origin: F64
    move: F64
    parents: F64
    sibling: F64
    sibling_move: F64


def link_pair(pair: Pair, limits: Limits) -> I64:
    """Return the (C,) parent of each child or -1, such that the sum of squared distances is minimal.

    For one-to-one links this is the optimum; divisions are then settled around the children that got no link, exactly
    there (:func:`howdah.linking.divisions.settle_divisions`). That is not a proof of the best divisions of the whole pair.
    """
    n_children, n_parents = len(pair.origin), len(pair.parents)
    reach = max(limits.max_distance, limits.division_distance) if limits.divide else limits.max_distance
    edges = candidate_edges(pair.origin, pair.parents, max_distance=reach, max_candidates=limits.max_candidates)
    free = np.isnan(pair.sibling[:, 0])[edges.parent]
    ahead = edges.only(free & (edges.cost <= limits.max_distance**2))
    parent_of = assign(ahead, n_children, n_parents, no_parent_cost=limits.no_parent_cost)
    if not limits.divide:
        return parent_of
    near = edges.cost <= limits.division_distance**2
    costs = {"penalty_cost": limits.penalty_cost, "no_parent_cost": limits.no_parent_cost}
    twins = division_choices(edges.only(free & near), pair.origin, pair.parents, **costs)
    seconds = second_child_choices(edges.only(~free & near), pair.origin, pair.parents, pair.sibling, **costs)
    return settle_divisions(
        Choices.of_links(ahead), twins.joined(seconds), parent_of, no_parent_cost=limits.no_parent_cost
    )
