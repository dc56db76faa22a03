"""Divisions: which children without a parent are the second daughter of a spot that has a child already.

A division is judged as a whole. With mother p and daughters a, b it costs

    2 |(a + b) / 2 - p|² + division_penalty * max_distance²

because daughters part to both sides of the place where their mother was: the midpoint is where one cell would be, and
counts for two links. The separation of the daughters costs nothing (up to ``division_distance`` each). In comparison a
link costs |a - p|² and a child without a parent max_distance². So a second spot that appears beside a cell that goes on
quietly is a new track, not a division, unless both estimated positions lie close to the mother.
"""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from howdah.linking.assignment import NONE, Edges

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

__all__ = ["Choices", "division_choices", "second_child_choices", "settle_divisions"]

log = logging.getLogger("howdah")

ROUNDS = 2
WHOLE = 1e-6


class Choices(NamedTuple):
    """What a parent may choose: one child, or two at once.

    Attributes:
        parent: (K,) int64. first: (K,) int64, a child. second: (K,) int64, another child, or -1.
        cost: (K,) float64, squared world units.
        divides: (K,) bool, whether the parent has two children if it chooses so.
    """

    parent: I64
    first: I64
    second: I64
    cost: F64
    divides: Bool

    @classmethod
    def of_links(cls, edges: Edges) -> Choices:
        """Return the choices that are one link of a parent that has no child yet."""
        n = len(edges.child)
        return cls(edges.parent, edges.child, np.full(n, NONE), edges.cost, np.zeros(n, dtype=bool))

    def only(self, mask: Bool) -> Choices:
        """Return the choices of a (K,) mask."""
        return Choices(self.parent[mask], self.first[mask], self.second[mask], self.cost[mask], self.divides[mask])

    def joined(self, other: Choices) -> Choices:
        """Return these choices and the others."""
        return Choices(
            np.concatenate([self.parent, other.parent]),
            np.concatenate([self.first, other.first]),
            np.concatenate([self.second, other.second]),
            np.concatenate([self.cost, other.cost]),
            np.concatenate([self.divides, other.divides]),
        )


def division_choices(
    edges: Edges, children: F64, parents: F64, *, penalty_cost: float, no_parent_cost: float
) -> Choices:
    """Return the divisions worth considering among edges of parents without a child.

    Args:
        edges: Possible links, each at most ``division_distance`` long.
        children: (C, 3) points (z, y, x), world.
        parents: (P, 3) points, the same.
        penalty_cost: Cost of a division besides its geometry, squared world units.
        no_parent_cost: Cost of a child without a parent, squared world units.
    """
    order = np.lexsort((edges.child, edges.parent))
    parent, child, cost = edges.parent[order], edges.child[order], edges.cost[order]
    ends = np.searchsorted(parent, parent, side="right")
    partners = ends - np.arange(len(parent)) - 1
    left = np.repeat(np.arange(len(parent)), partners)
    right = left + 1 + np.arange(len(left)) - np.repeat(np.cumsum(partners) - partners, partners)
    mother, first, second = parent[left], child[left], child[right]
    total = _geometry(children[first], children[second], parents[mother]) + penalty_cost
    one_link = np.minimum(np.minimum(cost[left], cost[right]), no_parent_cost)
    found = Choices(mother, first, second, total, np.ones(len(left), dtype=bool))
    return found.only(total < one_link + no_parent_cost)  # else one link and a new track are as good


def second_child_choices(
    edges: Edges, children: F64, parents: F64, siblings: F64, *, penalty_cost: float, no_parent_cost: float
) -> Choices:
    """Return the links that give a second child to parents that have one already, at ``siblings`` (P, 3).

    Their cost is that of the division less that of the link that exists.
    """
    sibling, mother = siblings[edges.parent], parents[edges.parent]
    known = ((sibling - mother) ** 2).sum(axis=1)
    total = _geometry(children[edges.child], sibling, mother) + penalty_cost - known
    n = len(total)
    found = Choices(edges.parent, edges.child, np.full(n, NONE), total, np.ones(n, dtype=bool))
    return found.only(total < no_parent_cost)


def settle_divisions(links: Choices, divisions: Choices, parent_of: I64, *, no_parent_cost: float) -> I64:
    """Return the (C,) parents, -1 for none, after divisions near children without a parent are weighed.

    Only around those children can divisions improve the one-to-one optimum ``parent_of`` (C,) as long as every parent
    that could be freed has a child to take; there the choice is made anew and exactly, as a small integer programme. Where the
    solver finds no answer, ``parent_of`` stays as it is.
    """
    region = _region(links, divisions, parent_of)
    if region is None:
        return parent_of
    in_parents, in_children = region
    choices = links.joined(divisions)
    inside = in_parents[choices.parent] & in_children[choices.first]
    inside &= (choices.second == NONE) | in_children[choices.second]
    choices = choices.only(inside)
    if not choices.divides.any():
        return parent_of
    taken = _solve(choices, len(parent_of), len(in_parents), no_parent_cost)
    if taken is None:
        return parent_of
    settled = parent_of.copy()
    settled[in_children] = NONE
    settled[choices.first[taken]] = choices.parent[taken]
    pairs = taken & (choices.second != NONE)
    settled[choices.second[pairs]] = choices.parent[pairs]
    return settled


def _geometry(first: F64, second: F64, mother: F64) -> F64:
    away = (first + second) / 2 - mother
    cost: F64 = 2 * (away * away).sum(axis=1)
    return cost


def _region(links: Choices, divisions: Choices, parent_of: I64) -> tuple[Bool, Bool] | None:
    """Masks of the parents and children whose links may change; None if nothing can."""
    orphans = parent_of == NONE
    if not orphans.any() or not len(divisions.parent):
        return None
    n_parents = int(max(links.parent.max(initial=-1), divisions.parent.max())) + 1
    in_children, in_parents = orphans.copy(), np.zeros(n_parents, dtype=bool)
    in_parents[links.parent[orphans[links.first]]] = True
    linked = np.flatnonzero(~orphans)
    paired = divisions.second != NONE
    for _ in range(ROUNDS):
        in_children[linked[in_parents[parent_of[linked]]]] = True
        touched = in_children[divisions.first] | (paired & in_children[divisions.second])
        in_parents[divisions.parent[touched]] = True
        in_children[divisions.first[touched]] = True
        in_children[divisions.second[touched & paired]] = True
        in_parents[parent_of[linked[in_children[linked]]]] = True
    in_children[linked[in_parents[parent_of[linked]]]] = True
    return in_parents, in_children


def _solve(choices: Choices, n_children: int, n_parents: int, no_parent_cost: float) -> Bool | None:
    """Return the (K,) mask of the best choices: each parent at most one, each child in at most one.

    The linear programme nearly always has a whole-numbered optimum; where it has not, the parts that are connected to
    the fractions are solved again as integer programmes. None where the solver gave up.
    """
    k = len(choices.parent)
    pairs = np.flatnonzero(choices.second != NONE)
    gain = (choices.cost - no_parent_cost * (1 + (choices.second != NONE))) / no_parent_cost
    rows = np.concatenate([choices.first, choices.second[pairs], n_children + choices.parent])
    columns = np.concatenate([np.arange(k), pairs, np.arange(k)])
    table = csr_array((np.ones(len(rows)), (rows, columns)), shape=(n_children + n_parents, k))
    table = table[np.flatnonzero(np.diff(table.indptr))]
    weight = _programme(gain, table, whole=False)
    if weight is None:
        return None
    fraction = (weight > WHOLE) & (weight < 1 - WHOLE)
    if fraction.any():
        _, part = connected_components(table.T @ table, directed=False)
        again = np.flatnonzero(np.isin(part, part[fraction]))
        exact = _programme(gain[again], table[:, again], whole=True)
        if exact is None:
            return None
        weight[again] = exact
    mask: Bool = weight > 0.5
    return mask


def _programme(gain: F64, table: Any, *, whole: bool) -> F64 | None:
    """Return the (K,) weights 0 to 1 with the smallest sum of ``gain`` such that no row of ``table`` exceeds 1, or None."""
    answer = milp(
        gain,
        integrality=np.full(len(gain), int(whole)),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(table, -np.inf, 1),
        options={"mip_rel_gap": 1e-9},
    )
    if not answer.success or answer.x is None:
        log.warning("The solver found no best divisions (%s); a pair of frames keeps its plain links.", answer.message)
        return None
    weights: F64 = np.asarray(answer.x, dtype=np.float64)
    return weights
