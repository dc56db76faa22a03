"""How good are probabilities and detected events: precision and recall, average precision, confusion, F1 in space and time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from howdah.errors import DataError
from howdah.metrics.counts import Counts
from howdah.metrics.matching import Matching, cheapest_pairs

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = [
    "Curve",
    "average_precision",
    "balanced_accuracy",
    "best_f1_threshold",
    "confusion",
    "event_f1",
    "match_events",
    "precision_recall",
]


@dataclass(frozen=True, eq=False)
class Curve:
    """Precision and recall at every threshold at which they change, from the strictest to the loosest.

    Attributes:
        precision: (K,) float64, 0 to 1. recall: (K,) float64, 0 to 1, growing.
        threshold: (K,) float64, falling; what scores at least this counts as found.
        average_precision: Area under the steps of the curve.
        chance: Average precision to expect of random scores: the share of positives.
    """

    precision: F64
    recall: F64
    threshold: F64
    average_precision: float
    chance: float


def precision_recall(truth: npt.ArrayLike, score: npt.ArrayLike) -> Curve:
    """Return the precision-recall curve of scores.

    Args:
        truth: (N,) whether each is positive.
        score: (N,) the larger, the more likely; equal scores are taken together.

    Raises:
        DataError: Lengths differ, a score is NaN, or there is no positive.
    """
    true, scores = _columns(truth, score)
    n_positive = int(true.sum())
    if not n_positive:
        raise DataError("A precision-recall curve was asked for, but no example is positive.")
    order = np.argsort(-scores, kind="stable")
    ranked, right = scores[order], np.cumsum(true[order])
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # of each group of equal scores
    found = right[last]
    precision, recall = found / (last + 1.0), found / n_positive
    area = float(np.sum(np.diff(recall, prepend=0.0) * precision))
    return Curve(precision, recall, ranked[last], area, n_positive / len(true))


def average_precision(truth: npt.ArrayLike, score: npt.ArrayLike) -> float:
    """Return the area under the steps of :func:`precision_recall`, 0 to 1; chance is the share of positives."""
    return precision_recall(truth, score).average_precision


def best_f1_threshold(truth: npt.ArrayLike, score: npt.ArrayLike) -> tuple[float, float]:
    """Return the threshold with the largest F1, and that F1; what scores at least the threshold counts as found."""
    curve = precision_recall(truth, score)
    f1 = 2 * curve.precision * curve.recall / np.maximum(curve.precision + curve.recall, 1e-300)
    best = int(np.argmax(f1))
    return float(curve.threshold[best]), float(f1[best])


def confusion(truth: npt.ArrayLike, predicted: npt.ArrayLike, *, n_classes: int) -> I64:
    """Return (n_classes, n_classes) int64: how often a class (row) was taken for a class (column).

    Raises:
        DataError: Lengths differ, or a class is out of range.
    """
    true, found = np.asarray(truth, np.int64), np.asarray(predicted, np.int64)
    if true.shape != found.shape or true.ndim != 1:
        raise DataError(f"Counting confusions failed: {true.shape} true and {found.shape} predicted classes.")
    if len(true) and (min(true.min(), found.min()) < 0 or max(true.max(), found.max()) >= n_classes):
        raise DataError(f"Counting confusions failed: a class is not in 0 to {n_classes - 1}.")
    return np.bincount(true * n_classes + found, minlength=n_classes**2).reshape(n_classes, n_classes)


def balanced_accuracy(truth: npt.ArrayLike, predicted: npt.ArrayLike, *, n_classes: int) -> float:
    """Return the mean, over the classes that occur, of the share that was recognised, 0 to 1; NaN without examples."""
    table = confusion(truth, predicted, n_classes=n_classes)
    total = table.sum(axis=1)
    present = total > 0
    return float(np.mean(np.diag(table)[present] / total[present])) if present.any() else float("nan")


def match_events(
    truth: tuple[npt.ArrayLike, npt.ArrayLike],
    found: tuple[npt.ArrayLike, npt.ArrayLike],
    *,
    radius: float,
    frames: int = 1,
) -> Matching:
    """Match events one to one within a distance in space and in time: as many as possible, then the nearest.

    Args:
        truth: (N,) frame and (N, D) place of the true events.
        found: The same of the found ones, in the same unit.
        radius: Largest distance in space.
        frames: Largest distance in time; within it, being late costs as much as the same share of the radius.

    Returns:
        The pairs; ``distance`` is that in space.

    Raises:
        DataError: The radius is not positive, frames are negative, or arrays do not fit together.
    """
    if not radius > 0 or not np.isfinite(radius) or frames < 0:
        raise DataError(
            f"Matching events failed: radius is {radius} and frames is {frames}; a positive radius and no negative number are needed."
        )
    (time_a, place_a), (time_b, place_b) = _events(truth, "true"), _events(found, "found")
    none = np.empty(0, np.int64)
    if not len(time_a) or not len(time_b):
        return Matching(none, none, np.empty(0), len(time_a), len(time_b))
    if place_a.shape[1] != place_b.shape[1]:
        raise DataError(
            f"Matching events failed: true ones have {place_a.shape[1]} coordinates, found ones {place_b.shape[1]}."
        )
    near = scipy.spatial.KDTree(place_a).sparse_distance_matrix(
        scipy.spatial.KDTree(place_b), radius, output_type="ndarray"
    )
    rows, columns = np.asarray(near["i"], np.int64), np.asarray(near["j"], np.int64)
    late = np.abs(time_a[rows] - time_b[columns])
    kept = np.flatnonzero(late <= frames)
    rows, columns, distance, late = rows[kept], columns[kept], np.asarray(near["v"], np.float64)[kept], late[kept]
    cost = distance / radius + late / max(frames, 1)
    best = cheapest_pairs(rows, columns, cost, shape=(len(time_a), len(time_b)))
    return Matching(rows[best], columns[best], distance[best], len(time_a), len(time_b))


def event_f1(
    truth: tuple[npt.ArrayLike, npt.ArrayLike],
    found: tuple[npt.ArrayLike, npt.ArrayLike],
    *,
    radius: float,
    frames: int = 1,
) -> Counts:
    """Count events (divisions, deaths) that were found, made up and missed; ``.f1`` of the result is their F1.

    Arguments and errors as in :func:`match_events`.
    """
    pairs = match_events(truth, found, radius=radius, frames=frames)
    right = len(pairs.truth)
    return Counts(right, pairs.n_predicted - right, pairs.n_truth - right)


def _columns(truth: npt.ArrayLike, score: npt.ArrayLike) -> tuple[npt.NDArray[np.bool_], F64]:
    true, scores = np.asarray(truth).astype(bool), np.asarray(score, np.float64)
    if true.shape != scores.shape or true.ndim != 1:
        raise DataError(f"Ranking scores failed: {true.shape} truths and {scores.shape} scores; expected one each.")
    if np.isnan(scores).any():
        raise DataError(f"Ranking scores failed: {int(np.isnan(scores).sum())} of {len(scores)} are no numbers (NaN).")
    return true, scores


def _events(events: tuple[npt.ArrayLike, npt.ArrayLike], name: str) -> tuple[I64, F64]:
    time, place = np.asarray(events[0], np.int64).reshape(-1), np.asarray(events[1], np.float64)
    place = place.reshape(len(time), -1) if len(time) else np.empty((0, 3))
    if not np.isfinite(place).all():
        raise DataError(f"Matching events failed: places of {name} events are not finite.")
    return time, place
