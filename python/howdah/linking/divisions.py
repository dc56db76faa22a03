"""Divisions: what it costs that a spot has two children.

A division is judged as a whole. With mother p and daughters a, b it costs

    2 |(a + b) / 2 - p|² + division_penalty * max_distance²

because daughters part to both sides of the place where their mother was: the midpoint is where one cell would be, and
counts for two links. The separation of the daughters costs nothing (up to ``division_distance`` each). In comparison a
link costs |a - p|² and a child without a parent max_distance². So a second spot that appears beside a cell that goes on
quietly is a new track, not a division, unless both estimated positions lie close to the mother.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from howdah.linking.assignment import Edges

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = ["division_cost", "twins"]


def twins(edges: Edges) -> tuple[I64, I64]:
    """Return all pairs of edges (K,), (K,) that have the same parent; the first has the smaller child."""
    order = np.lexsort((edges.child, edges.parent))
    parent = edges.parent[order]
    partners = np.searchsorted(parent, parent, side="right") - np.arange(len(parent)) - 1
    left = np.repeat(np.arange(len(parent)), partners)
    right = left + 1 + np.arange(len(left)) - np.repeat(np.cumsum(partners) - partners, partners)
    return order[left], order[right]


def division_cost(first: F64, second: F64, mother: F64, *, penalty_cost: float) -> F64:
    """Return the (K,) costs of divisions, squared world units; all places (K, 3), those of daughters one frame earlier."""
    away = (first + second) / 2 - mother
    cost: F64 = 2 * (away * away).sum(axis=1) + penalty_cost
    return cost
