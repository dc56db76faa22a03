"""How good are masks: SEG of the Cell Tracking Challenge, mean IoU, average precision, and PESEG.

All of them come from one table of how many voxels each pair of a true and a predicted label shares. Label images are integers,
0 is background; axes do not matter, and several frames are scored together by giving several: a label in two frames is two cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from howdah.errors import DataError
from howdah.metrics.matching import cheapest_pairs

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Labels = npt.NDArray[Any]

__all__ = ["Overlaps", "SegScore", "average_precision", "mean_iou", "overlaps", "peseg", "seg_score"]

THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
DIRECT = 1 << 24  # cells of a table that is cheaper to fill than to sort pairs


@dataclass(frozen=True, eq=False)
class Overlaps:
    """How many voxels pairs of labels of two images share; background does not take part.

    Attributes:
        truth: (P,) int64, row of the pair's true label in ``truth_size``.
        predicted: (P,) int64, row of the pair's predicted label in ``predicted_size``.
        shared: (P,) int64, voxels of both.
        truth_label: (N,) int64, the true labels, growing.
        truth_size: (N,) int64, voxels.
        predicted_label: (M,) int64, the predicted labels, growing.
        predicted_size: (M,) int64, voxels.
    """

    truth: I64
    predicted: I64
    shared: I64
    truth_label: I64
    truth_size: I64
    predicted_label: I64
    predicted_size: I64

    @property
    def iou(self) -> F64:
        """(P,) intersection over union of each pair, 0 to 1."""
        union = self.truth_size[self.truth] + self.predicted_size[self.predicted] - self.shared
        return np.asarray(self.shared / union, dtype=np.float64)

    def jaccard(self) -> F64:
        """Return (N,) of each true label the Jaccard index of SEG: 0 unless one prediction covers more than half of it."""
        found = np.zeros(len(self.truth_size))
        most = 2 * self.shared > self.truth_size[self.truth]
        found[self.truth[most]] = self.iou[most]
        return found


def overlaps(truth: Labels, predicted: Labels) -> Overlaps:
    """Count how many voxels each pair of labels shares.

    Args:
        truth: Integers from 0, any shape.
        predicted: The same shape.

    Raises:
        DataError: They are no integers, hold negative ones, or differ in shape.
    """
    a, b = _checked(truth, "true"), _checked(predicted, "predicted")
    if truth.shape != predicted.shape:
        raise DataError(
            f"Scoring masks failed: the true labels have shape {truth.shape}, the predicted ones {predicted.shape}; they must "
            "be equal."
        )
    there = np.flatnonzero(a), np.flatnonzero(b)
    (label_a, rank_a, size_a), (label_b, rank_b, size_b) = _ranked(a[there[0]]), _ranked(b[there[1]])
    row_b = np.full(b.size, -1, dtype=np.int64)
    row_b[there[1]] = rank_b
    row_b = row_b[there[0]]
    both = row_b >= 0
    key = rank_a[both] * len(label_b) + row_b[both]
    if len(label_a) * len(label_b) <= max(DIRECT, len(key)):
        table = np.bincount(key, minlength=len(label_a) * len(label_b))
        pair = np.flatnonzero(table)
        shared = table[pair]
    else:
        pair, shared = np.unique(key, return_counts=True)
    of_a, of_b = np.divmod(pair, max(len(label_b), 1))
    return Overlaps(of_a, of_b, shared, label_a, size_a, label_b, size_b)


def _checked(labels: Labels, name: str) -> Labels:
    if labels.dtype.kind not in "biu" or (labels.size and labels.min() < 0):
        low = labels.min() if labels.size else "nothing"
        raise DataError(
            f"Scoring masks failed: {name} labels must be integers from 0; found {labels.dtype} from {low}."
        )
    return (labels.view(np.uint8) if labels.dtype == np.bool_ else labels).reshape(-1)


def _ranked(labels: Labels) -> tuple[I64, I64, I64]:
    """Return the labels there are, growing, the row of each voxel's label among them, and their numbers of voxels."""
    if not labels.size:
        none = np.empty(0, dtype=np.int64)
        return none, none, none
    highest = int(labels.max())
    if highest > max(DIRECT, 2 * labels.size):
        names, rank, size = np.unique(labels, return_inverse=True, return_counts=True)
        return names.astype(np.int64), rank.reshape(-1).astype(np.int64), size.astype(np.int64)
    size = np.bincount(labels, minlength=highest + 1)
    names = np.flatnonzero(size)
    row = np.zeros(highest + 1, dtype=np.int64)
    row[names] = np.arange(len(names))
    return names, row[labels], size[names]


@dataclass(frozen=True)
class SegScore:
    """SEG over all cells of all frames that were scored.

    Attributes:
        seg: Mean Jaccard index of the true cells, 0 to 1; NaN if there is none.
        n_cells: True cells.
        n_found: True cells of which one prediction covers more than half.
    """

    seg: float
    n_cells: int
    n_found: int

    def to_dict(self) -> dict[str, float]:
        """Return the score and the counts by name."""
        return {"seg": self.seg, "n_cells": self.n_cells, "n_found": self.n_found}


Frames = Labels | Sequence[Labels]


def seg_score(truth: Frames, predicted: Frames) -> SegScore:
    """Score masks by SEG, as the Cell Tracking Challenge does (paper, section 3.3).

    A true cell R is found by the prediction S that covers more than half of it, and scores |R ∩ S| / |R ∪ S|, else 0. SEG is the
    mean over all true cells of all frames. Predictions without a true cell cost nothing.

    Args:
        truth: One label image, or a sequence of one a frame.
        predicted: The same.

    Raises:
        DataError: Images are no labels, or differ in shape or number.
    """
    found = [overlaps(*pair).jaccard() for pair in _frames(truth, predicted)]
    scores = np.concatenate(found) if found else np.empty(0)
    mean = float(scores.mean()) if len(scores) else float("nan")
    return SegScore(mean, len(scores), int(np.count_nonzero(scores)))


def mean_iou(truth: Frames, predicted: Frames) -> float:
    """Score masks by the mean IoU of background and cell (paper, section 3.2); touching cells are one to it.

    Args:
        truth: Masks or labels, everything that is not 0 is cell; one image, or a sequence of one a frame.
        predicted: The same.

    Returns:
        0 to 1; a class that neither has counts as 1. Frames are taken together, not averaged.

    Raises:
        DataError: Images are no masks, or differ in shape or number.
    """
    both = either = total = 0
    for a, b in _frames(truth, predicted):
        first, second = _checked(a, "true") != 0, _checked(b, "predicted") != 0
        both += int(np.count_nonzero(first & second))
        either += int(np.count_nonzero(first | second))
        total += a.size
    cell = both / either if either else 1.0
    background = (total - either) / (total - both) if total > both else 1.0
    return (cell + background) / 2


def average_precision(truth: Frames, predicted: Frames, thresholds: Iterable[float] = THRESHOLDS) -> dict[float, float]:
    """Score cells by average precision, TP / (TP + FP + FN), at thresholds of the IoU.

    True and predicted cells are paired one to one, as many as possible with an IoU of at least the threshold.

    Args:
        truth: One label image, or a sequence of one a frame.
        predicted: The same.
        thresholds: Least IoU of a pair, above 0 up to 1.

    Returns:
        Precision of each threshold, 0 to 1; NaN where there is neither a true nor a predicted cell.

    Raises:
        DataError: Images are no labels, or differ in shape or number; a threshold is out of range.
    """
    wanted = list(thresholds)
    if not all(0 < t <= 1 for t in wanted):
        raise DataError(f"Thresholds of the IoU must lie above 0 and up to 1; found {wanted}.")
    right = dict.fromkeys(wanted, 0)
    n_true = n_predicted = 0
    for a, b in _frames(truth, predicted):
        table = overlaps(a, b)
        shape = (len(table.truth_size), len(table.predicted_size))
        n_true, n_predicted = n_true + shape[0], n_predicted + shape[1]
        for t in wanted:
            good = table.iou >= t
            rows, columns = table.truth[good], table.predicted[good]
            if t > 0.5:  # then no cell can have two partners
                right[t] += len(rows)
            else:
                right[t] += len(cheapest_pairs(rows, columns, 1 - table.iou[good], shape=shape))
    return {t: n / (n_true + n_predicted - n) if n_true + n_predicted else float("nan") for t, n in right.items()}


def peseg(seg: float, n_parameters: int) -> float:
    """Return SEG per million parameters (paper, section 3.3): PESEG = SEG / N * 10^6; 0.951 of 6.7 M is 0.142.

    Raises:
        DataError: There are no parameters.
    """
    if n_parameters < 1:
        raise DataError(f"PESEG needs a network with parameters; found {n_parameters}.")
    return seg / n_parameters * 1e6


def _frames(truth: Frames, predicted: Frames) -> list[tuple[Labels, Labels]]:
    a = [truth] if isinstance(truth, np.ndarray) else list(truth)
    b = [predicted] if isinstance(predicted, np.ndarray) else list(predicted)
    if len(a) != len(b):
        raise DataError(f"Scoring masks failed: there are {len(a)} true frames and {len(b)} predicted ones.")
    pairs = list(zip(a, b, strict=True))
    for first, second in pairs:
        if first.shape != second.shape:
            raise DataError(
                f"Scoring masks failed: true labels have shape {first.shape}, predicted ones {second.shape}; they must be equal."
            )
    return pairs
