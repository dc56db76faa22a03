"""Counts of right and wrong, and the ratios made of them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Counts"]


@dataclass(frozen=True)
class Counts:
    """How many things were found rightly, made up, and missed.

    Attributes:
        true_positives: Things of the truth that were found.
        false_positives: Things that were predicted and are not true.
        false_negatives: Things of the truth that were missed.
        unknown: Predicted things on which a sparse truth is silent; they count for nothing.
    """

    true_positives: int
    false_positives: int
    false_negatives: int
    unknown: int = 0

    @property
    def precision(self) -> float:
        """Fraction of the counted predictions that are right, 0 to 1; NaN if there are none."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """Fraction of the truth that was found, 0 to 1; NaN if the truth is empty."""
        return _ratio(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, 0 to 1; NaN if there is neither truth nor prediction."""
        return _ratio(2 * self.true_positives, 2 * self.true_positives + self.false_positives + self.false_negatives)

    def __add__(self, other: Counts) -> Counts:
        """Return the counts of both, for example of two movies."""
        return Counts(
            self.true_positives + other.true_positives,
            self.false_positives + other.false_positives,
            self.false_negatives + other.false_negatives,
            self.unknown + other.unknown,
        )

    def to_dict(self) -> dict[str, float]:
        """Return counts and ratios by name, for tables and JSON."""
        return {
            "true_positives": self.true_positives,
            "false_positives": self.false_positives,
            "false_negatives": self.false_negatives,
            "unknown": self.unknown,
            "precision": self.precision,
            "recall": self.recall,
            "f1": self.f1,
        }


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
