"""Divisions with mother and daughters, by hand and against traccuracy."""

from __future__ import annotations

import pytest
from metrics.shifted import N, counts, dividing

from howdah.metrics import match_spots
from howdah.metrics.divisions import whole_divisions
from howdah.metrics.tracking import division_verdicts


def test_same_division() -> None:
    assert counts(dividing(3), dividing(3)) == (1, 0, 0)
    assert counts(dividing(3), dividing(N)) == (0, 0, 1)
    assert counts(dividing(N), dividing(3)) == (0, 1, 0)


def test_wrong_daughter() -> None:
    truth, found = dividing(3), dividing(3, swapped=True)
    pairs = match_spots(truth, found, max_distance=2.0)
    assert counts(truth, found) == (0, 1, 1)
    assert division_verdicts(truth, found, pairs).counts.true_positives == 0  # another mother
    lost = dividing(3, lost=(9,))  # the right daughter is missing in her first frame: no division is left
    assert counts(truth, lost) == (0, 0, 1)


@pytest.mark.parametrize(("true", "made"), [(3, 4), (4, 3), (2, 4), (4, 2)])
def test_shifted_division(true: int, made: int) -> None:
    truth, found = dividing(true), dividing(made)
    by_tolerance = [counts(truth, found, tolerance)[0] for tolerance in range(3)]
    assert by_tolerance == [int(tolerance >= abs(true - made)) for tolerance in range(3)]


def test_sparse_truth_calls_few_divisions_false() -> None:
    truth = dividing(N).select_links([])
    found = dividing(3)
    pairs = match_spots(truth, found, max_distance=2.0)
    made = whole_divisions(truth, found, pairs, sparse=True).counts
    assert (made.false_positives, made.unknown) == (0, 1)
