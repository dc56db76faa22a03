"""The technical measures of the Cell Tracking Challenge: DET, TRA, LNK, from the operations that correct a graph of cells.

Matula et al., "Cell Tracking Accuracy Measurement Based on Comparison of Acyclic Oriented Graphs", PLoS ONE 2015: AOGM is the
weighted number of operations that turn the result's graph into the true one. Everything is counted in columns, so that a movie of
a million cells takes seconds. The same numbers come from py-ctcmetrics (:mod:`.challenge_library`), which is slower, and the tests
hold them together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from howdah.metrics.challenge_cells import NOBODY, Cells, Cover

__all__ = ["Corrections", "corrections"]

SPLIT, MISSED, FALSE = 5.0, 10.0, 1.0  # weights of operations on cells
REDUNDANT, ABSENT, MEANING = 1.0, 1.5, 1.0  # and on links


@dataclass(frozen=True)
class Corrections:
    """How many operations turn the result into the truth (Matula et al. 2015, table 1).

    Attributes:
        splits: NS, true cells that share a result cell with another, beyond the first.
        missed: FN, true cells without a result cell.
        false: FP, result cells that cover no true cell.
        redundant: ED, links to delete, between cells that each stand for one true cell.
        absent: EA, links to add.
        meaning: EC, links along a track that ought to go to a child, or the other way round.
        n_cells: True cells.
        n_links: True links.
    """

    splits: int
    missed: int
    false: int
    redundant: int
    absent: int
    meaning: int
    n_cells: int
    n_links: int

    @property
    def on_cells(self) -> float:
        """Weighted operations on cells."""
        return SPLIT * self.splits + MISSED * self.missed + FALSE * self.false

    @property
    def on_links(self) -> float:
        """Weighted operations on links."""
        return REDUNDANT * self.redundant + ABSENT * self.absent + MEANING * self.meaning

    @property
    def det(self) -> float | None:
        """DET, 0 to 1; None without true cells."""
        return _normalised(self.on_cells, MISSED * self.n_cells)

    @property
    def lnk(self) -> float | None:
        """LNK, 0 to 1; None without true links."""
        return _normalised(self.on_links, ABSENT * self.n_links)

    @property
    def tra(self) -> float | None:
        """TRA, 0 to 1; None without true cells."""
        return _normalised(self.on_cells + self.on_links, MISSED * self.n_cells + ABSENT * self.n_links)

    def to_dict(self) -> dict[str, float]:
        """Return the counts by the names of the challenge, and AOGM, their weighted sum."""
        return {
            "AOGM": self.on_cells + self.on_links,
            "AOGM_NS": self.splits,
            "AOGM_FN": self.missed,
            "AOGM_FP": self.false,
            "AOGM_ED": self.redundant,
            "AOGM_EA": self.absent,
            "AOGM_EC": self.meaning,
            "AOGM_0": MISSED * self.n_cells + ABSENT * self.n_links,
        }


def corrections(cover: Cover, *, found: Cells | None = None) -> Corrections:
    """Count the operations that turn a result into the truth.

    Args:
        cover: Which result cell covers which true one.
        found: The result's cells with another table of tracks (the same rows), for what-if questions.
    """
    truth, result = cover.truth, found or cover.found
    covered = cover.by != NOBODY
    mine, theirs = truth.edges, result.edges
    source, target = cover.truth_of[theirs.source], cover.truth_of[theirs.target]
    judged = (source != NOBODY) & (target != NOBODY)
    n = max(len(truth), 1)
    true, made = mine.source * n + mine.target, (source * n + target)[judged]
    order = np.argsort(true)
    at = np.searchsorted(true[order], made).clip(max=max(len(true) - 1, 0))
    same = true[order][at] == made if len(true) else np.zeros(len(made), dtype=bool)
    differs = mine.parental[order[at[same]]] != theirs.parental[judged][same] if len(true) else same
    n_covered = int(covered.sum())
    return Corrections(
        splits=n_covered - int(np.count_nonzero(cover.number)),
        missed=len(truth) - n_covered,
        false=int(np.count_nonzero(cover.number == 0)),
        redundant=int(len(made) - same.sum()),
        absent=int(len(true) - same.sum()),
        meaning=int(differs.sum()),
        n_cells=len(truth),
        n_links=len(true),
    )


def _normalised(cost: float, from_nothing: float) -> float | None:
    return 1 - min(cost, from_nothing) / from_nothing if from_nothing else None
