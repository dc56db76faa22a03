"""The integer programme: its answer is the best one, and what cannot be solved exactly is near it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from howdah.linking import programme
from howdah.linking.programme import NONE, Choices, best_choices


def some(seed: int, n: int, nodes: int) -> Choices:
    rng = np.random.default_rng(seed)
    first, second = np.sort(rng.integers(0, nodes, (2, n)), axis=0)
    pair = (first != second) & (rng.random(n) < 0.4)
    return Choices(rng.integers(0, nodes, n), first, np.where(pair, second, NONE), rng.integers(-2, 9, n).astype(float))


def conflict(choices: Choices, rows) -> bool:
    used = [("p", choices.parent[row]) for row in rows] + [("c", choices.first[row]) for row in rows]
    used += [("c", choices.second[row]) for row in rows if choices.second[row] != NONE]
    return len(set(used)) < len(used)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 10), nodes=st.integers(1, 6))
def test_it_is_the_best_of_all_sets(seed, n, nodes):
    choices = some(seed, n, nodes)
    best = max(
        choices.saving[list(rows)].sum()
        for size in range(n + 1)
        for rows in itertools.combinations(range(n), size)
        if not conflict(choices, rows)
    )
    taken = np.flatnonzero(best_choices(choices, nodes, nodes))
    assert not conflict(choices, taken)
    assert choices.saving[taken].sum() == pytest.approx(best)


def test_many_small_parts_are_solved_in_batches(monkeypatch):
    choices = some(1, 400, 300)
    whole = best_choices(choices, 300, 300)
    monkeypatch.setattr(programme, "BATCH", 20)
    np.testing.assert_allclose(choices.saving[best_choices(choices, 300, 300)].sum(), choices.saving[whole].sum())


def test_a_large_part_is_solved_in_windows_nearly_as_well(monkeypatch):
    rng = np.random.default_rng(2)
    child = np.repeat(np.arange(300), 6)
    parent = np.clip(child + rng.integers(-4, 5, len(child)), 0, 299)
    choices = Choices(parent, child, np.full(len(child), NONE), rng.uniform(0, 1, len(child)))
    whole = choices.saving[best_choices(choices, 300, 300, when=child // 10)].sum()
    monkeypatch.setattr(programme, "PART", 200)
    taken = best_choices(choices, 300, 300, when=child // 10)
    assert not conflict(choices, np.flatnonzero(taken))
    assert 0.99 * whole < choices.saving[taken].sum() <= whole + 1e-9


def test_an_odd_ring_of_divisions_needs_whole_numbers():
    # each mother wants two of three daughters: the linear programme takes half of each
    choices = Choices(np.arange(3), np.array([0, 0, 1]), np.array([1, 2, 2]), np.ones(3))
    assert best_choices(choices, 3, 3).sum() == 1
