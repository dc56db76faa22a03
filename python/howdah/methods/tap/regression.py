"""Logistic regression of several classes, penalised, exact: what the paper's linear classifier is (section 3.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = ["Regression", "class_weights", "fit_regression"]

STEPS = 500
TOLERANCE = 1e-7


@dataclass(frozen=True, eq=False)
class Regression:
    """A fitted linear classifier.

    Attributes:
        mean: (K,) float64 of the features in training. std: (K,) float64, 1 where a feature is constant.
        weight: (n_classes, K) float64, of standardised features. bias: (n_classes,) float64.
    """

    mean: F64
    std: F64
    weight: F64
    bias: F64

    def probabilities(self, features: npt.ArrayLike) -> F64:
        """Return (N, n_classes) probabilities of features (N, K); rows with NaN stay NaN."""
        scaled = (np.asarray(features, np.float64) - self.mean) / self.std
        return np.asarray(softmax(scaled @ self.weight.T + self.bias, axis=1))


def class_weights(label: I64, n_classes: int, *, balanced: bool) -> F64:
    """Return the weight (N,) of each example, of mean 1; balanced: all classes that occur weigh the same together."""
    if not balanced or not len(label):
        return np.ones(len(label))
    counts = np.bincount(label, minlength=n_classes)
    share = 1 / np.maximum(counts, 1)
    weights = share[label]
    return np.asarray(weights / weights.mean())


def fit_regression(
    features: npt.ArrayLike, label: I64, *, n_classes: int, penalty: float, balanced: bool = True
) -> Regression:
    """Fit a linear classifier; the minimum is unique, so nothing is random.

    Args:
        features: (N, K), finite.
        label: (N,) int64, 0 to n_classes - 1.
        n_classes: Classes.
        penalty: Half of it times the squared weights (of standardised features, not the bias) is added to the sum of the losses.
        balanced: See :func:`class_weights`.
    """
    x = np.asarray(features, np.float64)
    mean, std = x.mean(axis=0), x.std(axis=0)
    std[std < 1e-12] = 1.0
    x = (x - mean) / std
    share = class_weights(label, n_classes, balanced=balanced)
    rows, n_features = np.arange(len(x)), x.shape[1]

    def loss(flat: npt.NDArray[Any]) -> tuple[float, F64]:
        table = flat.reshape(n_classes, n_features + 1)
        weight, bias = table[:, :-1], table[:, -1]
        logits = log_softmax(x @ weight.T + bias, axis=1)
        total = -float(share @ logits[rows, label]) + 0.5 * penalty * float((weight**2).sum())
        wrong = np.exp(logits)
        wrong[rows, label] -= 1.0
        wrong *= share[:, None]
        slope = np.concatenate([wrong.T @ x + penalty * weight, wrong.sum(axis=0)[:, None]], axis=1)
        return total, slope.ravel()

    start = np.zeros(n_classes * (n_features + 1))
    options: Any = {"maxiter": STEPS, "gtol": TOLERANCE * max(len(x), 1), "ftol": 1e-12}
    minimum: Any = minimize  # its stubs know no loss that gives its slope, too
    found = minimum(loss, start, jac=True, method="L-BFGS-B", options=options)
    table = np.asarray(found.x).reshape(n_classes, n_features + 1)
    return Regression(mean, std, table[:, :-1].copy(), table[:, -1].copy())
