"""The linear classifier against the conditions of its minimum."""

import numpy as np
import pytest

from howdah.methods.tap.regression import class_weights, fit_regression


def test_weights_of_classes_are_balanced() -> None:
    label = np.array([0, 0, 0, 1])
    assert class_weights(label, 2, balanced=True) == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2])
    assert class_weights(label, 2, balanced=False) == pytest.approx([1, 1, 1, 1])


@pytest.mark.parametrize("penalty", [0.1, 10.0])
def test_the_slope_is_zero_at_the_minimum(penalty: float) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 5)) * [1, 10, 0.1, 1, 1] + 3
    label = (x[:, 0] + rng.normal(size=60) > 3).astype(np.int64) + (x[:, 3] > 4)
    fitted = fit_regression(x, label, n_classes=3, penalty=penalty)
    wrong = fitted.probabilities(x) - np.eye(3)[label]
    wrong *= class_weights(label, 3, balanced=True)[:, None]
    scaled = (x - fitted.mean) / fitted.std
    assert wrong.sum(axis=0) == pytest.approx(np.zeros(3), abs=1e-3)
    assert wrong.T @ scaled + penalty * fitted.weight == pytest.approx(np.zeros((3, 5)), abs=1e-3)


def test_features_of_any_scale_and_constant_ones_give_the_same() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(40, 3))
    label = (x[:, 0] > 0).astype(np.int64)
    plain = fit_regression(x, label, n_classes=2, penalty=1.0).probabilities(x)
    other = np.column_stack([x * 1000 + 5, np.full(40, 7.0)])
    assert fit_regression(other, label, n_classes=2, penalty=1.0).probabilities(other) == pytest.approx(plain, abs=1e-5)
    assert np.isnan(fit_regression(x, label, n_classes=2, penalty=1.0).probabilities([[np.nan, 0, 0]])).all()
