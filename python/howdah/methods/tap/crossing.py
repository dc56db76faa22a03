"""How good a classifier is, on frames that it has not learned from: cross-validation in blocks of frames.

Neighbouring frames show the same cells, so examples are not dealt out at random: each fold is a block of frames of a movie, and what lies
so near to it that a sample reaches across is not learned from. A division is so in one block alone; a cell that lives longer than a block
is in several, and what is told of its state flatters a little.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from howdah.errors import DataError
from howdah.methods.tap.examples import Examples
from howdah.metrics.classification import Curve, balanced_accuracy, best_f1_threshold, confusion, precision_recall
from howdah.progress import Progress, Steps

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
Learn = Callable[[I64, I64], Steps[F32]]

__all__ = ["Crossed", "Fold", "crossed", "folds_of"]

FOLDS = 5
POINTS = 200  # of a curve in a header


@dataclass(frozen=True, eq=False)
class Fold:
    """Rows of examples: what is learned from (K,), and what is judged (M,)."""

    train: I64
    test: I64


@dataclass(frozen=True, eq=False)
class Crossed:
    """What each example was taken for by a classifier that had not seen its frame.

    Attributes:
        probability: (N, n_classes) float32; NaN where an example was in no fold.
        label: (N,) int64, the truth.
        classes: Names of the classes.
        n_folds: Folds.
    """

    probability: F32
    label: I64
    classes: tuple[str, ...]
    n_folds: int

    @property
    def judged(self) -> I64:
        """Rows that were judged."""
        return np.flatnonzero(np.isfinite(self.probability).all(axis=1))

    def curve(self, k: int) -> Curve:
        """Return the precision-recall curve of a class against all others.

        Raises:
            DataError: No judged example is of this class.
        """
        rows = self.judged
        return precision_recall(self.label[rows] == k, self.probability[rows, k])

    def to_dict(self) -> dict[str, Any]:
        """Return numbers and curves for a header: for each class AP, its chance level, best F1 and its threshold, and the curve."""
        rows = self.judged
        label, taken = self.label[rows], self.probability[rows].argmax(axis=1)
        n = len(self.classes)
        return {
            "folds": self.n_folds,
            "judged": len(rows),
            "balanced_accuracy": round(balanced_accuracy(label, taken, n_classes=n), 6),
            "accuracy": round(float(np.mean(label == taken)), 6),
            "confusion": confusion(label, taken, n_classes=n).tolist(),
            "classes": {name: self._of_class(k) for k, name in enumerate(self.classes) if (label == k).any()},
        }

    def _of_class(self, k: int) -> dict[str, Any]:
        curve, rows = self.curve(k), self.judged
        threshold, f1 = best_f1_threshold(self.label[rows] == k, self.probability[rows, k])
        at = np.unique(np.linspace(0, len(curve.threshold) - 1, min(POINTS, len(curve.threshold))).round().astype(int))
        return {
            "labels": int(np.count_nonzero(self.label[rows] == k)),
            "average_precision": round(curve.average_precision, 6),
            "chance": round(curve.chance, 6),
            "best_f1": round(f1, 6),
            "best_threshold": round(threshold, 6),
            "precision": np.round(curve.precision[at], 5).tolist(),
            "recall": np.round(curve.recall[at], 5).tolist(),
            "threshold": np.round(curve.threshold[at], 5).tolist(),
        }


def folds_of(examples: Examples, *, n: int | None = None, apart: int = 1) -> list[Fold]:
    """Cut examples into blocks of frames, so that each class is spread over the blocks as evenly as time allows.

    Args:
        examples: Checked ones.
        n: Blocks. None: 5, or fewer where the rarest class has fewer than ten.
        apart: Frames between a block and what is learned from; what lies nearer is left out.

    Returns:
        The folds in which every class can be learned.

    Raises:
        DataError: The labels are in too few frames to judge anything.
    """
    counts = examples.counts
    rarest = int(counts[counts > 0].min())
    moments, moment = np.unique(np.stack([examples.movie, examples.t], axis=1), axis=0, return_inverse=True)
    moment = moment.reshape(-1)
    wanted = n or min(FOLDS, max(rarest // 2, 2))
    wanted = min(wanted, len(moments))
    weight = (1.0 / np.maximum(counts, 1) ** 2)[examples.label]  # a rare class says where to cut
    share = np.bincount(moment, weights=weight, minlength=len(moments))
    middle = (np.cumsum(share) - share / 2) / share.sum()
    block = np.minimum((middle * wanted).astype(np.int64), wanted - 1)
    found = []
    for number in np.unique(block).tolist():
        tested = block[moment] == number
        near = np.zeros(len(examples), dtype=bool)
        for movie in np.unique(examples.movie[tested]).tolist():
            mine = examples.movie == movie
            times = np.unique(examples.t[tested & mine])
            around = (times[:, None] + np.arange(-apart, apart + 1)).ravel()
            near |= mine & np.isin(examples.t, around)
        train = np.flatnonzero(~near & ~tested)
        if len(np.unique(examples.label[train])) == len(np.flatnonzero(counts)):
            found.append(Fold(train, np.flatnonzero(tested)))
    if not found:
        raise DataError(
            f"Judging classes by cross-validation failed: the {len(examples)} labels are in {len(moments)} frames, and no block of frames "
            f"can be held out so that all classes are left (blocks are {apart} frames apart). Label spots in more frames."
        )
    return found


def crossed(learn: Learn, examples: Examples, folds: list[Fold], *, stage: str = "judge") -> Steps[Crossed]:
    """Learn and judge fold after fold.

    Args:
        learn: Learns from rows and returns probabilities (M, n_classes) of others.
        examples: The examples.
        folds: See :func:`folds_of`.
        stage: Name for the progress.
    """
    probability = np.full((len(examples), len(examples.classes)), np.nan, dtype=np.float32)
    for number, fold in enumerate(folds):
        probability[fold.test] = yield from learn(fold.train, fold.test)
        yield Progress(stage, number + 1, len(folds))
    return Crossed(probability, examples.label, examples.classes, len(folds))
