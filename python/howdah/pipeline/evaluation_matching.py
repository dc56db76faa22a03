"""Which result cell is which true cell: by masks as the Cell Tracking Challenge does it, or by centres."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io import ValidationError
from howdah.errors import DataError
from howdah.metrics import Matching, Overlaps, overlaps
from howdah.metrics.challenge_cells import NOBODY, Cover
from howdah.pipeline.evaluation_sides import Labelled, Side, labelled, painted
from howdah.pipeline.mask_scores import Masks, MaskScore, gold_of
from howdah.progress import Progress, Steps

Array = npt.NDArray[Any]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = ["Found", "by_centres", "by_masks", "one_to_one"]


@dataclass(frozen=True, eq=False)
class Found:
    """Who covers whom.

    Attributes:
        cover: The matching, as the challenge's measures want it.
        how: The same in words.
        overlap: (n_truth,) IoU of each true cell with the result cell that covers it most, NaN where unknown; None without masks.
        masks: Score of the masks, where the truth's cells are whole masks, not markers.
    """

    cover: Cover
    how: str
    overlap: F64 | None = None
    masks: MaskScore | None = None


def by_centres(true: Side, found: Side, pairs: Matching, reach: float) -> Found:
    """Take the pairs of nearest spots."""
    cover = Cover(true.cells, found.cells, pairs.predicted_of)
    return Found(cover, f"centres of spots, one to one, at most {reach:.4g} {true.tracks.space_unit} apart")


def one_to_one(cover: Cover) -> Matching:
    """Return the pairs in which a result cell covers one true cell alone; nobody knows their distances (NaN)."""
    row = np.flatnonzero(cover.truth_of != NOBODY)
    truth = cover.truth_of[row]
    return Matching(truth, row, np.full(len(row), np.nan), len(cover.truth), len(cover.found))


def by_masks(true: Side, found: Side) -> Steps[Found | None]:
    """Match cells where a result cell covers more than half of a true one; frames are read one at a time.

    Where a challenge's truth has gold masks (``SEG`` beside ``TRA``) these are what masks are scored by, each plane by itself, as the
    official program does.

    Returns:
        The matching, or None where one of the two cannot be painted.

    Raises:
        DataError: Frames differ in size, or a spot cannot be painted.
    """
    mine, theirs = labelled(true) or painted(true, found), labelled(found) or painted(found, true)
    if mine is None or theirs is None:
        return None
    marked, gold = _markers(true), gold_of(true.folder)
    table = _Tally(
        (mine, theirs),
        (gold, gold_of(found.folder)),
        np.full(true.tracks.n_spots, NOBODY, dtype=np.int64),
        np.full(true.tracks.n_spots, np.nan),
        whole=not marked and gold is None,
    )
    n_frames = max(mine.n_frames, 1)
    for frame in range(n_frames):
        table.add(frame)
        yield Progress("match", frame + 1, n_frames)
    kind = "markers in TRA" if marked else "cells"
    scored = table.whole or gold is not None
    return Found(
        Cover(true.cells, found.cells, table.by),
        f"masks: a cell of the result covers more than half of the pixels of a true one ({kind})",
        table.overlap if scored else None,
        table.score if scored else None,
    )


def _markers(side: Side) -> bool:
    """Whether the cells of a side are a challenge's markers, whose shape says nothing."""
    files = side.folder.masks.values() if side.folder is not None and side.with_table else ()
    return any(file.name.startswith("man_track") for file in files)


@dataclass(eq=False)
class _Tally:
    """What is known after some frames.

    Attributes:
        sides: Frames of the truth and of the result.
        gold: Gold masks of both, where there are some.
        by: (n_truth,) which result cell covers each true one.
        overlap: (n_truth,) IoU of each true cell's mask.
        whole: The truth's cells are whole masks, and are scored.
        score: The sums.
    """

    sides: tuple[Labelled, Labelled]
    gold: tuple[Masks | None, Masks | None]
    by: I64
    overlap: F64
    whole: bool
    score: MaskScore = field(default_factory=MaskScore)

    def add(self, frame: int) -> None:
        """Match a frame, and score its masks."""
        try:
            a, b = (side.read(frame) for side in self.sides)
        except ValidationError as error:
            raise DataError(f"Matching by masks failed in frame {frame}: {error}") from error
        if a is None:
            return
        if b is None:
            b = np.zeros(a.shape, dtype=np.uint8)
        table = _overlaps(a, b, f"in frame {frame}")
        mine, theirs = (
            side.rows(label, frame)
            for side, label in zip(self.sides, (table.truth_label, table.predicted_label), strict=True)
        )
        most = 2 * table.shared > table.truth_size[table.truth]
        row = mine[table.truth[most]]
        self.by[row[row != NOBODY]] = theirs[table.predicted[most]][row != NOBODY]
        if self.whole:
            self._note(table, mine)
            self.score = self.score + MaskScore.of_table(table)
        if self.gold[0] is not None:
            for plane, mask in self.gold[0].of(frame):
                self._add_gold(frame, plane, mask, (a, b))

    def _add_gold(self, frame: int, plane: int | None, mask: Array, markers: tuple[Array, Array]) -> None:
        a, b = markers
        theirs = {} if self.gold[1] is None else dict(self.gold[1].of(frame))
        if plane is not None and plane >= len(b):
            raise DataError(f"The truth has a mask of plane {plane} of frame {frame}; the result has {len(b)} planes.")
        part = theirs.get(plane, b if plane is None else b[plane : plane + 1])
        where = f"in frame {frame}" + ("" if plane is None else f", plane {plane}")
        table = _overlaps(mask, part, where)
        self.score = self.score + MaskScore.of_table(table)
        if plane is None:  # of planes nobody knows which is the cell's overlap
            marker = _overlaps(mask, a, where)
            order = np.argsort(marker.shared, kind="stable")  # so that the marker it covers most comes last
            name = np.zeros(len(marker.truth_label), dtype=np.int64)
            name[marker.truth[order]] = marker.predicted_label[marker.predicted[order]]
            self._note(table, self.sides[0].rows(name, frame))

    def _note(self, table: Overlaps, mine: I64) -> None:
        """Keep the best IoU of each true cell."""
        best = np.zeros(len(table.truth_label))
        np.maximum.at(best, table.truth, table.iou)
        self.overlap[mine[mine != NOBODY]] = best[mine != NOBODY]


def _overlaps(truth: Array, result: Array, where: str) -> Overlaps:
    if truth.shape != result.shape:
        raise DataError(
            f"Comparing masks failed {where}: those of the truth have (Z, Y, X) = {truth.shape} pixels, those of the result "
            f"{result.shape}; they must be equal. Do they belong together?"
        )
    return overlaps(truth, result)
