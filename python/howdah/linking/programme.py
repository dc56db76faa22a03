"""The best set of choices: an integer programme that is mostly solved before a solver sees it.

A *choice* joins a parent to one child or to two; each choice saves something, each parent makes at most one, and each child
is in at most one. The sum of what is saved is to be largest. In three steps:

1. What is sure is taken. A link that saves more than the best other choice of its parent and the best other choice of its
   child together is in every optimum: whatever a better solution had instead could be exchanged for it. Taking it removes
   what conflicts with it, which makes further links sure.
2. The rest falls into parts that have nothing to do with each other.
3. Their linear programme nearly always has a whole-numbered optimum; where it has not, the parts with fractions are solved
   again as integer programmes (HiGHS).

So the answer is exact, but for parts of more than ``PART`` choices: those are solved in windows along ``when``, the later
half of a window being decided again with the next one.
"""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

__all__ = ["NONE", "Choices", "begin_large", "best_choices", "settle"]

log = logging.getLogger("howdah")

NONE = -1
WHOLE = 1e-6
BATCH = 20_000
PART = 20_000


class Choices(NamedTuple):
    """What parents may choose: one child, or two at once.

    Attributes:
        parent: (K,) int64. first: (K,) int64, a child. second: (K,) int64, another child, or -1.
        saving: (K,) float64, what the choice is better than none of it; only choices above 0 are ever taken.
    """

    parent: I64
    first: I64
    second: I64
    saving: F64

    def only(self, rows: Bool | I64) -> Choices:
        """Return the choices of a (K,) mask, or of rows."""
        return Choices(self.parent[rows], self.first[rows], self.second[rows], self.saving[rows])

    @property
    def links(self) -> I64:
        """(L, 2) parent and child of every choice, then those of the second children."""
        both = self.second != NONE
        return np.concatenate(
            [
                np.stack([self.parent, self.first], axis=1),
                np.stack([self.parent[both], self.second[both]], axis=1),
            ]
        )

    def numbered(self, number: I64) -> Choices:
        """Return the same choices with other numbers: ``number`` (N,) of each old one."""
        second = np.full(len(self.second), NONE, dtype=np.int64)
        both = self.second != NONE
        second[both] = number[self.second[both]]
        return Choices(number[self.parent], number[self.first], second, self.saving)

    def joined(self, *others: Choices) -> Choices:
        """Return these choices and the others."""
        every = (self, *others)
        return Choices(
            np.concatenate([one.parent for one in every]),
            np.concatenate([one.first for one in every]),
            np.concatenate([one.second for one in every]),
            np.concatenate([one.saving for one in every]),
        )


def best_choices(choices: Choices, n_children: int, n_parents: int, *, when: I64 | None = None) -> Bool:
    """Return the (K,) mask of the choices with the largest sum of savings.

    Args:
        choices: What may be chosen; children count from 0 to ``n_children``, parents to ``n_parents``.
        n_children: Number of children.
        n_parents: Number of parents.
        when: (K,) frame of each choice, along which very large problems are cut; by default they are not.
    """
    taken, _ = settle(choices, np.ones(n_parents, dtype=bool), n_children, when=when)
    return taken


def settle(choices: Choices, known: Bool, n_children: int, *, when: I64 | None = None) -> tuple[Bool, Bool]:
    """Return the (K,) masks of what is in the best set, and of what cannot be decided yet: it hangs on choices not given here.

    Args:
        choices: Some of all choices: all of each child that occurs, and all of the parents that are ``known``.
        known: (P,) bool. A link to another parent is never sure here, and what hangs together with one stays open.
        n_children: Number of children.
        when: As for :func:`best_choices`.
    """
    n_parents = len(known)
    taken, undecided = np.zeros(len(choices.parent), dtype=bool), np.zeros(len(choices.parent), dtype=bool)
    open_rows, sure = _settle_sure(choices, n_children, known)
    taken[sure] = True
    if not len(open_rows):
        return taken, undecided
    part = _parts(choices.only(open_rows), n_children, n_parents)
    hangs = np.isin(part, part[~known[choices.parent[open_rows]]])
    undecided[open_rows[hangs]] = True
    open_rows, part = open_rows[~hangs], part[~hangs]
    if not len(open_rows):
        return taken, undecided
    size = np.bincount(part)
    large = size[part] > PART
    if when is None:
        large[:] = False
    small = np.flatnonzero(~large)[np.argsort(part[~large], kind="stable")]
    first_of_part = np.searchsorted(part[small], part[small])
    batch = first_of_part // BATCH  # a part is never torn
    for rows in np.split(open_rows[small], np.flatnonzero(np.diff(batch)) + 1):
        if len(rows):
            taken[rows[_solve(choices.only(rows), n_children, n_parents)]] = True
    for number in np.unique(part[large]).tolist():
        assert when is not None  # noqa: S101  else nothing is large
        rows = open_rows[part == number]
        found, _ = _in_windows(choices.only(rows), n_children, n_parents, when[rows])
        taken[rows[found]] = True
    return taken, undecided


def begin_large(choices: Choices, n_nodes: int, *, when: I64, latest: int, most: int) -> tuple[Bool, Bool]:
    """Decide the early half of parts of more than ``most`` choices, in windows; return the (K,) masks of taken and of still open.

    For choices that were left open by :func:`settle`, where waiting for all of a part would need memory for the whole movie.

    Args:
        choices: What is open.
        n_nodes: Children and parents count from 0 to this.
        when: (K,) frame of each choice.
        latest: Last frame whose choices may be decided: those of later ones have rivals that are not known yet.
        most: At least :data:`PART`.
    """
    taken, still = np.zeros(len(when), dtype=bool), np.ones(len(when), dtype=bool)
    if len(when) <= most:
        return taken, still
    part = _parts(choices, n_nodes, n_nodes)
    for number in np.flatnonzero(np.bincount(part) > most).tolist():
        rows = np.flatnonzero(part == number)
        found, left = _in_windows(
            choices.only(rows), n_nodes, n_nodes, when[rows], leave=max(PART, most // 2), latest=latest
        )
        taken[rows[found]] = True
        still[rows] = False
        still[rows[left]] = True
    return taken, still


def _settle_sure(choices: Choices, n_children: int, known: Bool) -> tuple[I64, I64]:
    """Return the rows that are still open, and those that are in every optimum."""
    alive, n_parents = np.flatnonzero(choices.saving > 0), len(known)
    sure = [np.empty(0, dtype=np.int64)]
    while len(alive):
        parent, first, second, saving = choices.only(alive)
        other_of_parent = _best_other(parent, saving, n_parents)
        paired = np.flatnonzero(second != NONE)
        member = np.concatenate([np.arange(len(alive)), paired])
        child = np.concatenate([first, second[paired]])
        other_of_child = _best_other(child, saving[member], n_children)[: len(alive)]
        fixed = known[parent] & (second == NONE) & (saving > other_of_parent + other_of_child)
        if not fixed.any():
            break
        sure.append(alive[fixed])
        no_parent, no_child = np.zeros(n_parents, dtype=bool), np.zeros(n_children, dtype=bool)
        no_parent[parent[fixed]] = no_child[first[fixed]] = True
        gone = no_parent[parent] | no_child[first] | ((second != NONE) & no_child[second])
        alive = alive[~gone]
    return alive, np.concatenate(sure)


def _best_other(node: I64, saving: F64, n_nodes: int) -> F64:
    """For each membership (a choice at a node) return the largest saving of the other choices at that node, 0 if none."""
    best = np.zeros(n_nodes)
    np.maximum.at(best, node, saving)
    is_best = saving == best[node]
    times = np.bincount(node, is_best, n_nodes)
    runner_up = np.zeros(n_nodes)
    np.maximum.at(runner_up, node[~is_best], saving[~is_best])
    alone = is_best & (times[node] == 1)
    other: F64 = np.where(alone, runner_up[node], best[node])
    return other


def _table(choices: Choices, n_children: int) -> Any:
    """The (nodes, K) matrix of which choice uses which child and parent, without the rows that no choice uses."""
    k = len(choices.parent)
    pairs = np.flatnonzero(choices.second != NONE)
    rows = np.concatenate([choices.first, choices.second[pairs], n_children + choices.parent])
    columns = np.concatenate([np.arange(k), pairs, np.arange(k)])
    _, rows = np.unique(rows, return_inverse=True)
    return scipy.sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(int(rows.max()) + 1, k))


def _parts(choices: Choices, n_children: int, n_parents: int) -> I64:
    """Return the (K,) number of the part that each choice belongs to."""
    pairs = np.flatnonzero(choices.second != NONE)
    one = np.concatenate([n_children + choices.parent, choices.first[pairs]])
    two = np.concatenate([choices.first, choices.second[pairs]])
    n = n_children + n_parents
    graph = scipy.sparse.csr_array((np.ones(len(one), dtype=np.int8), (one, two)), shape=(n, n))
    _, part = scipy.sparse.csgraph.connected_components(graph, directed=False)
    return np.unique(part[choices.first], return_inverse=True)[1].astype(np.int64)


def _solve(choices: Choices, n_children: int, n_parents: int) -> Bool:
    table = _table(choices, n_children)
    weight = _programme(choices.saving, table, whole=False)
    if weight is None:
        return _greedy(choices)
    fraction = (weight > WHOLE) & (weight < 1 - WHOLE)
    if fraction.any():
        part = _parts(choices, n_children, n_parents)
        again = np.flatnonzero(np.isin(part, part[fraction]))
        exact = _programme(choices.saving[again], table[:, again], whole=True)
        if exact is None:
            exact = _greedy(choices.only(again)).astype(np.float64)
        weight[again] = exact
    mask: Bool = weight > 0.5
    return mask


def _programme(saving: F64, table: Any, *, whole: bool) -> F64 | None:
    """Return the (K,) weights 0 to 1 with the largest sum of savings such that no row of ``table`` exceeds 1, or None."""
    answer = scipy.optimize.milp(
        -saving / saving.max(),  # the solver's tolerances are absolute: in metres, all would be as good as nothing
        integrality=np.full(len(saving), int(whole)),
        bounds=scipy.optimize.Bounds(0, 1),
        constraints=scipy.optimize.LinearConstraint(table, -np.inf, 1),
        options={"mip_rel_gap": 1e-9},
    )
    if not answer.success or answer.x is None:
        log.warning(
            "The solver found no best links (%s); where they compete, those that save most are taken.", answer.message
        )
        return None
    weights: F64 = np.asarray(answer.x, dtype=np.float64)
    return weights


def _in_windows(
    choices: Choices, n_children: int, n_parents: int, when: I64, *, leave: int = 0, latest: int | None = None
) -> tuple[Bool, I64]:
    """Solve a part that is too large for one programme: windows along ``when``, of which the first half is kept.

    Returns:
        The (K,) mask of what is taken, and the rows that are still open: at most ``leave``, or all later than ``latest``.
    """
    taken = np.zeros(len(when), dtype=bool)
    alive = np.argsort(when, kind="stable")
    while len(alive) > leave:
        end = when[alive[min(PART, len(alive)) - 1]]
        window = alive[when[alive] <= end]
        middle = (when[alive[0]] + end) // 2
        if latest is not None and middle > latest:
            return taken, alive
        mask = _solve(choices.only(window), n_children, n_parents)
        final = window[mask & (when[window] <= middle)] if len(window) < len(alive) else window[mask]
        taken[final] = True
        if len(window) == len(alive):
            return taken, alive[:0]
        used = np.zeros(n_children, dtype=bool)
        used[choices.first[final]] = True
        used[choices.second[final][choices.second[final] != NONE]] = True
        busy = np.zeros(n_parents, dtype=bool)
        busy[choices.parent[final]] = True
        gone = busy[choices.parent] | used[choices.first] | ((choices.second != NONE) & used[choices.second])
        alive = alive[~gone[alive] & (when[alive] > middle)]
    return taken, alive


def _greedy(choices: Choices) -> Bool:
    """Take the choices in order of what they save, as far as they do not conflict."""
    taken = np.zeros(len(choices.parent), dtype=bool)
    parents: set[int] = set()
    children: set[int] = {NONE}
    for row in np.argsort(-choices.saving, kind="stable").tolist():
        parent, first, second = int(choices.parent[row]), int(choices.first[row]), int(choices.second[row])
        if parent in parents or first in children or (second != NONE and second in children):
            continue
        parents.add(parent)
        children |= {first, second}
        taken[row] = True
    return taken
