"""Quality that means something: the probability that a detection is a nucleus (Platt's logistic calibration, few parameters).

What is seen of a detection is the mean and the highest centre probability of its component, and its size relative to the usual
nucleus. A logistic function of these gives the quality. Its default numbers were fitted on synthetic embryos; what a person
judged in a movie refines them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy

from howdah.errors import DataError, WeightsError

F64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

__all__ = ["DEFAULT", "FEATURES", "Calibration", "features", "reliability"]

FEATURES = ("constant", "mean", "highest", "size", "size_squared")
MOST = 6.0  # of a log-odds; 0.9975
SIZE_MOST = 1.5  # of the logarithm of a relative size
PRIOR_SPREAD = 0.5  # standard deviation of a weight around its prior, in units of the standardised features


@dataclass(frozen=True)
class Calibration:
    """A logistic function of :func:`features`.

    Attributes:
        weights: One number a feature, in the order of :data:`FEATURES`.
        n: Detections that it was fitted on.
    """

    weights: tuple[float, ...]
    n: int = 0

    def quality(self, seen: F64) -> F64:
        """Return the probability (N,) that detections with these features (N, F) are nuclei."""
        return np.asarray(scipy.special.expit(seen @ np.asarray(self.weights)), dtype=np.float64)

    def refined(self, seen: F64, right: Bool) -> Self:
        """Fit to judged detections, with this calibration as the prior: maximum a posteriori, by Newton's method.

        Args:
            seen: (N, F) features.
            right: (N,) whether each is a nucleus.

        Raises:
            DataError: There are no judged detections.
        """
        if not len(seen):
            raise DataError("Calibrating failed: no detection was judged.")
        return type(self)(tuple(fitted(seen, right, np.asarray(self.weights)).tolist()), len(seen))

    def to_header(self) -> dict[str, Any]:
        """Return JSON values for the header of a weights file."""
        return {"features": list(FEATURES), "weights": list(self.weights), "n": self.n}

    @classmethod
    def from_header(cls, header: Mapping[str, Any]) -> Self | None:
        """Read what :meth:`to_header` gave, from the entry "calibration" of a header; None where there is none.

        Raises:
            WeightsError: The entry is damaged.
        """
        kept = header.get("calibration")
        if kept is None:
            return None
        numbers = kept.get("weights") if isinstance(kept, Mapping) and kept.get("features") == list(FEATURES) else None
        if isinstance(numbers, list) and len(numbers) == len(FEATURES):
            weights = tuple(float(n) for n in numbers if isinstance(n, float | int) and np.isfinite(n))
            n = kept.get("n", 0)
            if len(weights) == len(FEATURES) and isinstance(n, int):
                return cls(weights, n)
        raise WeightsError(
            f"The header of the weights is damaged: 'calibration' shall hold {len(FEATURES)} numbers, but is {kept!r:.80}. "
            "Calibrate again, or use another file."
        )


def features(mean: F64, highest: F64, radius: F64, *, usual: float | None) -> F64:
    """Return (N, F) what is seen of detections, in the order of :data:`FEATURES`.

    Args:
        mean: (N,) mean centre probability of the component; taken as log-odds.
        highest: (N,) highest one, too.
        radius: (N,) radius of the ball of the same volume, world units; taken as logarithm relative to ``usual``.
        usual: Usual radius of a nucleus; None: unknown, then size says nothing.
    """
    odds = [np.clip(scipy.special.logit(np.clip(p, 1e-6, 1 - 1e-6)), -MOST, MOST) for p in (mean, highest)]
    size = np.zeros(len(mean)) if usual is None else np.clip(np.log(radius / usual), -SIZE_MOST, SIZE_MOST)
    return np.stack([np.ones(len(mean)), *odds, size, size**2], axis=1)


def fitted(seen: F64, right: Bool, prior: F64, *, spread: float | None = PRIOR_SPREAD) -> F64:
    """Weights (F,) that maximise the likelihood times a Gaussian prior around ``prior``.

    The constant may move freely (by 3 or so); the weight of a feature less, the wider the feature varies.
    """
    truth = np.asarray(right, dtype=np.float64)
    width = np.maximum(seen.std(axis=0), 0.1)
    width[0] = PRIOR_SPREAD / 3.0 if spread is None else spread / 3.0
    precision = np.diag((width / (spread or 1e3)) ** 2)
    weights = prior.astype(np.float64)
    for _ in range(100):
        p = scipy.special.expit(seen @ weights)
        slope = seen.T @ (truth - p) - precision @ (weights - prior)
        curvature = (seen * (p * (1 - p))[:, None]).T @ seen + precision
        step = np.linalg.solve(curvature, slope)
        weights = weights + step * min(1.0, 2.0 / max(float(np.abs(seen @ step).max()), 1e-12))
        if float(np.abs(step).max()) < 1e-9:
            break
    return weights


def reliability(quality: F64, right: Bool, *, n_bins: int = 10) -> dict[str, Any]:
    """Compare predicted quality with how often it was right.

    Returns:
        ``bins``: one entry for each bin of equal width that is not empty: ``low``, ``high``, ``n``, mean ``quality`` and
        ``share`` that was right; ``ece``: the expected calibration error, the mean of |share - quality| weighted by n;
        ``brier``: the mean squared error of the quality; ``n``.
    """
    truth = np.asarray(right, dtype=np.float64)
    place = np.minimum((quality * n_bins).astype(int), n_bins - 1)
    bins = []
    for i in np.unique(place):
        here = place == i
        means = float(quality[here].mean()), float(truth[here].mean())
        bins.append(
            {"low": i / n_bins, "high": (i + 1) / n_bins, "n": int(here.sum()), "quality": means[0], "share": means[1]}
        )
    n = len(quality)
    error = sum(b["n"] * abs(b["share"] - b["quality"]) for b in bins) / n if n else float("nan")
    brier = float(((quality - truth) ** 2).mean()) if n else float("nan")
    return {"n": n, "ece": float(error), "brier": brier, "bins": bins}


# Fitted by benchmarks/fit_calibration.py to 2071 detections, right and wrong, of six networks in unseen frames of six synthetic
# embryos (each network counting alike, so 1848). Fitted on five, the expected calibration error on the sixth was 0.02 to 0.06 (of the
# mean probability as it is: 0.22 to 0.32). Size is left out: it helped there, but not on a real movie.
DEFAULT = Calibration((0.16, 4.08, 0.85, 0.0, 0.0), 1848)
