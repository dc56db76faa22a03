"""Do qualities mean what they say: how often things of a quality are right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from howdah.errors import DataError

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = ["Reliability", "auc", "reliability"]


@dataclass(frozen=True, eq=False)
class Reliability:
    """Quality against truth, in bins of equal width from 0 to 1; bins without anything in them are left out.

    Attributes:
        low: (B,) lower end of each bin. high: (B,) upper end; only the last bin holds its own.
        n: (B,) int64, how many things are in it.
        quality: (B,) their mean quality.
        right: (B,) the share of them that is right.
        ece: Expected calibration error: mean of |right - quality|, weighted by n; NaN if a quality is no probability.
        brier: Mean squared difference of quality and truth (0 or 1); NaN likewise.
        auc: Probability that a right thing has a higher quality than a wrong one, ties counting half; NaN unless there are both.
        n_right: How many are right. total: How many there are.
    """

    low: F64
    high: F64
    n: I64
    quality: F64
    right: F64
    ece: float
    brier: float
    auc: float
    n_right: int
    total: int

    @property
    def bins(self) -> list[dict[str, float]]:
        """A row a bin."""
        columns = {"low": self.low, "high": self.high, "n": self.n, "quality": self.quality, "right": self.right}
        return [
            dict(zip(columns, row, strict=True)) for row in zip(*(c.tolist() for c in columns.values()), strict=True)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return all by name; NaN where something is not defined."""
        numbers = {"n": self.total, "n_right": self.n_right, "ece": self.ece, "brier": self.brier, "auc": self.auc}
        return {**numbers, "bins": self.bins}


def reliability(quality: npt.ArrayLike, right: npt.ArrayLike, *, n_bins: int = 10) -> Reliability:
    """Compare qualities with the truth.

    Where qualities leave 0 to 1 they are no probabilities: then there are no bins, but AUC is as good as ever.

    Args:
        quality: (N,) finite.
        right: (N,) whether each thing is right.
        n_bins: Number of bins.

    Raises:
        DataError: Lengths differ, a quality is not finite, or there are no bins.
    """
    said, true = np.asarray(quality, dtype=np.float64), np.asarray(right, dtype=bool)
    if said.shape != true.shape or said.ndim != 1 or n_bins < 1:
        raise DataError(
            f"Calibration: {said.shape} qualities, {true.shape} truths and {n_bins} bins do not go together."
        )
    if not np.isfinite(said).all():
        raise DataError(f"Calibration: {int((~np.isfinite(said)).sum())} of {len(said)} qualities are no numbers.")
    n_right, curve = int(true.sum()), auc(said, true)
    if not len(said) or said.min() < 0 or said.max() > 1:
        none, nan = np.empty(0), float("nan")
        return Reliability(none, none, np.empty(0, np.int64), none, none, nan, nan, curve, n_right, len(said))
    place = np.minimum((said * n_bins).astype(np.int64), n_bins - 1)
    count = np.bincount(place, minlength=n_bins)
    there = np.flatnonzero(count)
    n = count[there]
    mean = np.bincount(place, weights=said, minlength=n_bins)[there] / n
    share = np.bincount(place, weights=true, minlength=n_bins)[there] / n
    return Reliability(
        there / n_bins,
        (there + 1) / n_bins,
        n,
        mean,
        share,
        ece=float((n * np.abs(share - mean)).sum() / len(said)),
        brier=float(((said - true) ** 2).mean()),
        auc=curve,
        n_right=n_right,
        total=len(said),
    )


def auc(score: npt.ArrayLike, right: npt.ArrayLike) -> float:
    """Return the area under the receiver operating characteristic, 0 to 1 (Mann and Whitney's U); NaN unless there are both kinds."""
    true = np.asarray(right, dtype=bool)
    n_right, n_wrong = int(true.sum()), int((~true).sum())
    if not n_right or not n_wrong:
        return float("nan")
    _, place, count = np.unique(np.asarray(score, dtype=np.float64), return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place.reshape(-1)]  # ties share the mean of their ranks
    return float((rank[true].sum() - n_right * (n_right + 1) / 2) / (n_right * n_wrong))
