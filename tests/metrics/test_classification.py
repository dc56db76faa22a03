"""Measures of probabilities and events, on cases that can be counted by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from howdah.errors import DataError
from howdah.metrics.classification import (
    average_precision,
    balanced_accuracy,
    best_f1_threshold,
    confusion,
    event_f1,
    match_events,
    precision_recall,
)


def test_a_curve_by_hand() -> None:
    curve = precision_recall([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1])
    assert curve.precision == pytest.approx([1, 1 / 2, 2 / 3, 1 / 2])
    assert curve.recall == pytest.approx([1 / 2, 1 / 2, 1, 1])
    assert curve.threshold == pytest.approx([0.9, 0.8, 0.7, 0.1])
    assert curve.average_precision == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)
    assert curve.chance == 0.5


def test_equal_scores_are_chance() -> None:
    assert average_precision([1, 0, 0, 0], [0.3] * 4) == pytest.approx(0.25)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=30).filter(
        lambda s: any(a for a, _ in s)
    )
)
def test_the_order_of_examples_does_not_matter(examples: list[tuple[bool, int]]) -> None:
    truth, score = (np.array(column) for column in zip(*examples, strict=True))
    found = average_precision(truth, score)
    assert 0 < found <= 1
    assert average_precision(truth[::-1], score[::-1]) == pytest.approx(found)
    assert average_precision(truth, np.exp(score)) == pytest.approx(found)


def test_the_best_threshold_by_hand() -> None:
    assert best_f1_threshold([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1]) == (0.7, pytest.approx(0.8))


def test_confusions_by_hand() -> None:
    assert confusion([0, 0, 1, 2], [0, 1, 1, 0], n_classes=3).tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert balanced_accuracy([0, 0, 1], [0, 1, 1], n_classes=3) == pytest.approx(0.75)


def test_events_are_matched_in_space_and_time() -> None:
    truth = ([3, 8, 20], [(0, 5, 5), (0, 5, 5), (0, 40, 40)])
    found = ([4, 9, 20, 20], [(0, 6, 5), (0, 5, 5), (0, 60, 60), (0, 41, 40)])
    counts = event_f1(truth, found, radius=5, frames=1)
    assert (counts.true_positives, counts.false_positives, counts.false_negatives) == (3, 1, 0)
    assert event_f1(truth, found, radius=5, frames=0).true_positives == 1
    pairs = match_events(truth, found, radius=5, frames=1)
    assert dict(zip(pairs.truth.tolist(), pairs.predicted.tolist(), strict=True)) == {0: 0, 1: 1, 2: 3}


def test_one_event_is_found_once() -> None:
    assert event_f1(([1], [(0, 0)]), ([1, 1], [(0, 0), (0, 1)]), radius=3).to_dict()["false_positives"] == 1


def test_no_events_at_all() -> None:
    assert event_f1(([], []), ([], []), radius=3).true_positives == 0
    assert event_f1(([1], [(0, 0)]), ([], []), radius=3).false_negatives == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: precision_recall([0, 0], [1, 2]), "no example is positive"),
        (lambda: precision_recall([1, 0], [1, np.nan]), "1 of 2 are no numbers"),
        (lambda: precision_recall([1], [1, 2]), "expected one each"),
        (lambda: confusion([0, 3], [0, 0], n_classes=2), "a class is not in 0 to 1"),
        (lambda: confusion([0], [0, 0], n_classes=2), "Counting confusions failed"),
        (lambda: event_f1(([1], [(0, 0)]), ([1], [(0, 0)]), radius=0), "positive radius"),
        (lambda: event_f1(([1], [(0, 0)]), ([1], [(0, 0, 0)]), radius=1), "have 2 coordinates, found ones 3"),
        (lambda: event_f1(([1], [(0, np.inf)]), ([1], [(0, 0)]), radius=1), "places of true events are not finite"),
    ],
)
def test_what_cannot_be_measured_is_said(call, message) -> None:
    with pytest.raises(DataError, match=message):
        call()
