"""Optimal one-to-one assignment of children to parents, with the choice to have no parent."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy

from howdah.linking.programme import NONE

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = ["Edges", "assign", "candidate_edges"]


class Edges(NamedTuple):
    """Possible links: one row each, in order of child, then of distance.

    Attributes:
        child: (E,) int64, position in the list of children. parent: (E,) int64, position in the list of parents.
        cost: (E,) float64, squared distance, squared world units.
    """

    child: I64
    parent: I64
    cost: F64

    def only(self, mask: npt.NDArray[np.bool_]) -> Edges:
        """Return the edges of an (E,) mask."""
        return Edges(self.child[mask], self.parent[mask], self.cost[mask])


def candidate_edges(children: F64, parents: F64, *, max_distance: float, max_candidates: int) -> Edges:
    """Return the edges from each child to its nearest parents.

    Args:
        children: (C, 3) points (z, y, x), world.
        parents: (P, 3) points, the same.
        max_distance: Largest length of an edge, world units; one of exactly this length is kept.
        max_candidates: Most edges of one child.
    """
    if not len(children) or not len(parents):
        return Edges(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    k = min(max_candidates, len(parents))
    reach = np.nextafter(max_distance, np.inf)  # the tree's bound is exclusive
    found = scipy.spatial.KDTree(parents).query(children, k=np.arange(1, k + 1), distance_upper_bound=reach)
    distance, parent = np.asarray(found[0]), np.asarray(found[1])
    child, place = np.nonzero(np.isfinite(distance))
    return Edges(child.astype(np.int64), parent[child, place].astype(np.int64), distance[child, place] ** 2)


def assign(edges: Edges, n_children: int, n_parents: int, *, no_parent_cost: float) -> I64:
    """Return the (C,) parent of each child, or -1, such that the sum of costs is minimal.

    Each parent is taken at most once. This is one sparse minimum-cost bipartite matching: every child has a column of
    its own that means "no parent", so a full matching of the children always exists.
    """
    chosen = np.full(n_children, NONE, dtype=np.int64)
    if not len(edges.child):
        return chosen
    alone = np.setdiff1d(np.arange(n_children), edges.child, assume_unique=False)
    busy = np.setdiff1d(np.arange(n_children), alone, assume_unique=True)
    row = np.searchsorted(busy, edges.child)
    own = n_parents + np.arange(len(busy))
    # The solver takes a stored zero for "no edge"; a constant on every edge shifts the sum, not the optimum.
    weights = np.concatenate([edges.cost, np.full(len(busy), no_parent_cost)]) + no_parent_cost
    rows, columns = np.concatenate([row, np.arange(len(busy))]), np.concatenate([edges.parent, own])
    matrix = scipy.sparse.csr_array((weights, (rows, columns)), shape=(len(busy), n_parents + len(busy)))
    matched_row, matched_column = scipy.sparse.csgraph.min_weight_full_bipartite_matching(matrix)
    linked = matched_column < n_parents
    chosen[busy[matched_row[linked]]] = matched_column[linked]
    return chosen
