"""Which mistakes a result makes: one row each, with its place and how bad it is, so that people can look at the worst first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bdv_io.tracks import Tracks
from howdah.errors import DataError
from howdah.metrics.matching import UNMATCHED, Matching
from howdah.metrics.tracking import division_verdicts, link_verdicts

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = ["KINDS", "Mistakes", "find_mistakes"]

KINDS = (
    "spot false",
    "spot missed",
    "link false",
    "link missed",
    "division false",
    "division missed",
    "mask poor",
)

NONE = -1
POOR = 0.5  # overlap (IoU) below which a mask is called poor
LONG = 10  # mistaken spots in one track from which on it is as bad as can be


@dataclass(frozen=True, eq=False)
class Mistakes:
    """What is wrong, in columns of one length K; worst first within :meth:`worst`, otherwise by kind, then row.

    Attributes:
        kind: (K,) int64, position in :data:`KINDS`.
        frame: (K,) int64, frame of the spot; of a link that of its target; of a division that of the mother.
        centre: (K, 3) float64, (z, y, x) world: of the spot, of the mother, or of the target of the link.
        predicted: (K,) int64, row in the result, or -1 where the result has nothing there: of a spot for spots, divisions (the
            mother) and masks; of a link (a row of ``links``) for links.
        truth: (K,) int64, the same in the truth, or -1.
        severity: (K,) float64, 0 to 1; see :func:`find_mistakes`.
    """

    kind: I64
    frame: I64
    centre: F64
    predicted: I64
    truth: I64
    severity: F64

    def __len__(self) -> int:
        """Return the number of mistakes."""
        return len(self.kind)

    def of(self, kind: str) -> Mistakes:
        """Return those of one kind (a name in :data:`KINDS`)."""
        return self.take(np.flatnonzero(self.kind == KINDS.index(kind)))

    def take(self, rows: npt.ArrayLike) -> Mistakes:
        """Return some of them, in the order of ``rows``."""
        chosen = np.asarray(rows)
        return Mistakes(*(column[chosen] for column in vars(self).values()))

    def worst(self, n: int | None = None) -> Mistakes:
        """Return the ``n`` (None: all) of the highest severity, worst first; equal ones stay in their order."""
        return self.take(np.argsort(-self.severity, kind="stable")[:n])

    def counts(self) -> dict[str, int]:
        """Return the number of each kind, by name, those that do not occur too."""
        found = np.bincount(self.kind, minlength=len(KINDS))
        return dict(zip(KINDS, found.tolist(), strict=True))


def find_mistakes(
    truth: Tracks,
    predicted: Tracks,
    pairs: Matching,
    *,
    frame_tolerance: int = 0,
    sparse: bool = False,
    overlap: npt.ArrayLike | None = None,
) -> Mistakes:
    """List what a result has wrong.

    Severity says what a mistake costs the person who must correct it, 0 to 1:

    - *spot false*: 0.3, growing to 0.6 with the number of false spots in its track (full from ten on);
    - *spot missed*: 0.4, growing to 0.7 with the number of missed spots in its track;
    - *link false*: 0.8 if it joins two spots that are both right (it swaps two cells), else 0.2: it follows from a wrong spot;
    - *link missed*: 0.7 if both its spots were found, else 0.2: it follows from a missed spot;
    - *division false*: 0.9 if the mother is a true cell, else 0.5;
    - *division missed*: 1.0 if the mother was found, else 0.8;
    - *mask poor*: 0.6 at no overlap, falling to 0.1 at an overlap (IoU) of one half; only of cells that were found, for one that was
      missed is a mistake already.

    Args:
        truth: The true annotation.
        predicted: The result, in the same unit.
        pairs: How spots were matched (:func:`howdah.metrics.match_spots`, or by masks).
        frame_tolerance: Frames that a division may be early or late.
        sparse: The truth is not complete: only what contradicts it is a mistake, as in :func:`score_tracking`; then no spot is false.
        overlap: (n_truth,) overlap (IoU) of each true spot's mask with that of its partner, NaN where unknown.

    Raises:
        DataError: The overlaps are not one a true spot.
    """
    rate = None if overlap is None else np.asarray(overlap, dtype=np.float64)
    if rate is not None and rate.shape != (truth.n_spots,):
        raise DataError(
            f"Listing mistakes failed: {rate.shape} overlaps were given for {truth.n_spots} true spots; one each is needed."
        )
    parts = [
        *_spots(truth, predicted, pairs, sparse),
        *_links(truth, predicted, pairs, sparse),
        *_divisions(truth, predicted, pairs, frame_tolerance=frame_tolerance, sparse=sparse),
    ]
    if rate is not None:
        poor = np.flatnonzero((rate < POOR) & (pairs.predicted_of != UNMATCHED))
        parts.append(_of_spots("mask poor", truth, poor, 0.6 - rate[poor], other=pairs.predicted_of[poor]))
    return Mistakes(*(np.concatenate(column) for column in zip(*(vars(p).values() for p in parts), strict=True)))


def _spots(truth: Tracks, predicted: Tracks, pairs: Matching, sparse: bool) -> tuple[Mistakes, Mistakes]:
    """False and missed spots; worse, the more of their track is wrong."""
    false = pairs.truth_of == UNMATCHED
    false &= not sparse
    missed = pairs.predicted_of == UNMATCHED
    made, lost = np.flatnonzero(false), np.flatnonzero(missed)
    return (
        _of_spots("spot false", predicted, made, 0.3 + 0.3 * _share(predicted, false)[made], in_result=True),
        _of_spots("spot missed", truth, lost, 0.4 + 0.3 * _share(truth, missed)[lost]),
    )


def _links(truth: Tracks, predicted: Tracks, pairs: Matching, sparse: bool) -> tuple[Mistakes, Mistakes]:
    verdicts = link_verdicts(truth, predicted, pairs, sparse=sparse)
    false, missed = np.flatnonzero(verdicts.false), np.flatnonzero(~verdicts.found)
    true_ends = (pairs.truth_of[predicted.links[false]].reshape(-1, 2) != UNMATCHED).all(axis=1)
    found_ends = (pairs.predicted_of[truth.links[missed]].reshape(-1, 2) != UNMATCHED).all(axis=1)
    return (
        _of_links("link false", predicted, false, np.where(true_ends, 0.8, 0.2), in_result=True),
        _of_links("link missed", truth, missed, np.where(found_ends, 0.7, 0.2)),
    )


def _divisions(
    truth: Tracks, predicted: Tracks, pairs: Matching, *, frame_tolerance: int, sparse: bool
) -> tuple[Mistakes, Mistakes]:
    verdicts = division_verdicts(truth, predicted, pairs, frame_tolerance=frame_tolerance, sparse=sparse)
    false, missed = predicted.divisions()[verdicts.false], truth.divisions()[~verdicts.found]
    known, found = pairs.truth_of[false], pairs.predicted_of[missed]
    worse, lost = np.where(known != UNMATCHED, 0.9, 0.5), np.where(found != UNMATCHED, 1.0, 0.8)
    return (
        _of_spots("division false", predicted, false, worse, other=known, in_result=True),
        _of_spots("division missed", truth, missed, lost, other=found),
    )


def _share(tracks: Tracks, wrong: npt.NDArray[np.bool_]) -> F64:
    """(N,) number of wrong spots in the track of each spot, as a part of :data:`LONG`, at most 1."""
    count, track = tracks.tracks()
    number = np.bincount(track[wrong], minlength=count)[track]
    return np.asarray(np.minimum((number - 1) / (LONG - 1), 1.0), dtype=np.float64)


def _of_spots(
    kind: str, tracks: Tracks, rows: I64, severity: F64, *, other: I64 | None = None, in_result: bool = False
) -> Mistakes:
    theirs = np.full(len(rows), NONE) if other is None else other
    predicted, true = (rows, theirs) if in_result else (theirs, rows)
    number = np.full(len(rows), KINDS.index(kind))
    return Mistakes(number, tracks.t[rows].astype(np.int64), tracks.centre[rows], predicted, true, severity)


def _of_links(kind: str, tracks: Tracks, rows: I64, severity: F64, *, in_result: bool = False) -> Mistakes:
    target, none = tracks.links[rows, 1], np.full(len(rows), NONE)
    predicted, true = (rows, none) if in_result else (none, rows)
    number = np.full(len(rows), KINDS.index(kind))
    return Mistakes(number, tracks.t[target].astype(np.int64), tracks.centre[target], predicted, true, severity)
