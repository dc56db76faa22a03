"""Do qualities mean what they say."""

from __future__ import annotations

import numpy as np
import pytest

from bdv_io import Tracks
from howdah.errors import DataError
from howdah.metrics.calibration import auc, reliability
from howdah.metrics.detection_curve import detection_curve


def test_counted_by_hand() -> None:
    table = reliability([0.15, 0.15, 0.95, 0.95, 1.0], [0, 1, 1, 1, 0])
    assert table.n.tolist() == [2, 3]
    assert table.right == pytest.approx([1 / 2, 2 / 3])
    assert table.quality == pytest.approx([0.15, 2.9 / 3])
    assert table.ece == pytest.approx((2 * 0.35 + 3 * 0.3) / 5)
    assert table.brier == pytest.approx((0.15**2 + 0.85**2 + 2 * 0.05**2 + 1) / 5)
    assert (table.n_right, table.total) == (3, 5)
    assert table.to_dict()["bins"][0] == {"low": 0.1, "high": 0.2, "n": 2, "quality": 0.15, "right": 0.5}


def test_area_under_the_curve() -> None:
    assert auc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]) == 0.75
    assert auc([1, 1, 1], [1, 0, 1]) == 0.5  # ties count half
    assert np.isnan(auc([0.3], [1]))


def test_what_is_no_probability_has_an_area_only() -> None:
    table = reliability([-3.0, 250.0, 80.0], [0, 1, 1])
    assert (table.auc, table.bins, np.isnan(table.ece), np.isnan(table.brier)) == (1.0, [], True, True)
    empty = reliability([], [])
    assert (empty.total, empty.bins, np.isnan(empty.auc)) == (0, [], True)


def test_calibrated_qualities_have_a_small_error() -> None:
    rng = np.random.default_rng(1)
    quality = rng.random(20_000)
    right = rng.random(20_000) < quality
    assert reliability(quality, right).ece < 0.02
    assert reliability(quality**3, right).ece > 0.15
    assert reliability(quality, right).auc == pytest.approx(reliability(quality**3, right).auc)


def test_what_does_not_go_together() -> None:
    with pytest.raises(DataError, match="do not go together"):
        reliability([0.1], [True, False])
    with pytest.raises(DataError, match="1 of 2 qualities are no numbers"):
        reliability([np.nan, 0.1], [True, False])


def test_curve_of_distances() -> None:
    truth = Tracks.build([0, 0, 0], [[0, 0, 0], [0, 0, 50], [0, 0, 100]], radius=1.0)
    found = Tracks.build([0, 0], [[0, 0, 1], [0, 0, 53]], radius=1.0)
    curve = detection_curve(truth, found, [5, 1, 2])
    assert [distance for distance, _ in curve] == [1, 2, 5]
    assert [(c.true_positives, c.false_positives, c.false_negatives) for _, c in curve] == [
        (1, 1, 2),
        (1, 1, 2),
        (2, 0, 1),
    ]
    assert [c.false_positives for _, c in detection_curve(truth, found, [1], sparse=True)] == [0]
