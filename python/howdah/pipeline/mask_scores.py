"""Gold masks of a challenge's folder, frame by frame, and scores of masks: SEG, average precision, IoU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from bdv_io.ctc.layout import Folder, read_mask
from howdah.metrics import Overlaps, overlaps

Array = npt.NDArray[Any]
Key = tuple[int, int | None]

__all__ = ["MaskScore", "Masks", "gold_of"]

HALF = 0.5  # IoU of a pair; above it no cell has two partners


@dataclass(frozen=True, eq=False)
class Masks:
    """Label images that are read when they are asked for.

    Attributes:
        keys: (frame, plane) of each mask; plane None for whole frames.
        frames: Reads a frame (Z, Y, X), or one of the planes (1, Y, X) that there are.
    """

    keys: tuple[Key, ...]
    frames: Callable[[int, int | None], Array]

    def of(self, frame: int) -> list[tuple[int | None, Array]]:
        """Return the masks of a frame with their planes: (1, Y, X) of a plane, (Z, Y, X) of a whole frame, plane None."""
        return [(plane, self.frames(frame, plane)) for known, plane in self.keys if known == frame]


def gold_of(folder: Folder | None) -> Masks | None:
    """Return the gold or silver masks of a challenge's folder that has a table of tracks beside them; None where it has none."""
    if folder is None or folder.table is None or not folder.segmented:
        return None
    files = folder.segmented
    return Masks(tuple(sorted(files, key=str)), lambda t, z: read_mask(files[t, z]))


@dataclass(frozen=True)
class MaskScore:
    """Sums over frames, from which measures are made; add two for both.

    Attributes:
        n_true: True cells.
        n_found: Predicted cells.
        jaccard: Sum of the scores of SEG over true cells.
        pairs: True and predicted cells with an IoU above one half.
        iou: Sum of the IoU of these pairs.
        both: Pixels that are cell in both.
        either: Pixels that are cell in one.
    """

    n_true: int = 0
    n_found: int = 0
    jaccard: float = 0.0
    pairs: int = 0
    iou: float = 0.0
    both: int = 0
    either: int = 0

    @classmethod
    def of(cls, truth: Array, predicted: Array) -> MaskScore:
        """Compare two label images of one shape.

        Raises:
            DataError: They are no labels, or differ in shape.
        """
        return cls.of_table(overlaps(truth, predicted))

    @classmethod
    def of_table(cls, table: Overlaps) -> MaskScore:
        """Score the overlaps of a frame."""
        good = table.iou > HALF
        both = int(table.shared.sum())
        return cls(
            n_true=len(table.truth_label),
            n_found=len(table.predicted_label),
            jaccard=float(table.jaccard().sum()),
            pairs=int(good.sum()),
            iou=float(table.iou[good].sum()),
            both=both,
            either=int(table.truth_size.sum() + table.predicted_size.sum()) - both,
        )

    def __add__(self, other: MaskScore) -> MaskScore:
        """Return the sums of both."""
        return MaskScore(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    def to_dict(self) -> dict[str, float]:
        """Return SEG (mean Jaccard index of true cells), AP50 = TP / (TP + FP + FN) and F1 at an IoU above one half,
        the mean IoU of these pairs, the IoU of cell against background, and the counts; NaN where there is nothing.
        """
        nan = float("nan")
        total = self.n_true + self.n_found
        return {
            "SEG": self.jaccard / self.n_true if self.n_true else nan,
            "AP50": self.pairs / (total - self.pairs) if total else nan,
            "F1": 2 * self.pairs / total if total else nan,
            "IoU_of_pairs": self.iou / self.pairs if self.pairs else nan,
            "IoU_of_pixels": self.both / self.either if self.either else nan,
            "cells_true": self.n_true,
            "cells_found": self.n_found,
        }
