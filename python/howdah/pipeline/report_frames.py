"""Where errors are: frame by frame, and track by track."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bdv_io import Tracks
from howdah.metrics.matching import UNMATCHED, Matching
from howdah.metrics.mistakes import KINDS, Mistakes
from howdah.pipeline.error_gallery import named
from howdah.pipeline.report_page import escaped, number, table
from howdah.pipeline.report_words import KIND_WORDS

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = ["Frames", "by_frame", "worst_frames", "worst_tracks"]

LISTED = 10


@dataclass(frozen=True, eq=False)
class Frames:
    """What happens in each frame; columns of one length, the number of frames.

    Attributes:
        true: Spots of the truth. found: Spots of the result.
        spot_f1: F1 of the spots, NaN where the truth has none. link_f1: The same of the links that end in the frame.
        errors: (frames, kinds) number of errors. cost: Sum of their severities.
    """

    true: I64
    found: I64
    spot_f1: F64
    link_f1: F64
    errors: I64
    cost: F64

    @property
    def spot_recall(self) -> F64:
        """The part of the true spots of each frame that was found; NaN where the truth has none."""
        missed = self.errors[:, KINDS.index("spot missed")]
        recall: F64 = np.divide(self.true - missed, self.true, out=np.full(len(self.true), np.nan), where=self.true > 0)
        return recall

    @property
    def frame(self) -> F64:
        """The numbers of the frames."""
        return np.arange(len(self.true), dtype=np.float64)


def by_frame(result: Tracks, truth: Tracks, matching: Matching, mistakes: Mistakes) -> Frames:
    """Count what is right and wrong in each frame."""
    n = max(result.n_frames, truth.n_frames)
    errors = np.zeros((n, len(KINDS)), dtype=np.int64)
    np.add.at(errors, (mistakes.frame, mistakes.kind), 1)
    column = {kind: errors[:, place] for place, kind in enumerate(KINDS)}
    right = np.bincount(truth.t[matching.truth], minlength=n)
    links = np.bincount(truth.t[truth.links[:, 1]], minlength=n)
    true = np.bincount(truth.t, minlength=n)
    return Frames(
        true=true,
        found=np.bincount(result.t, minlength=n),
        spot_f1=np.where(true > 0, _f1(right, column["spot false"], column["spot missed"]), np.nan),
        link_f1=np.where(
            links > 0, _f1(links - column["link missed"], column["link false"], column["link missed"]), np.nan
        ),
        errors=errors,
        cost=np.bincount(mistakes.frame, weights=mistakes.severity, minlength=n).astype(np.float64),
    )


def worst_frames(frames: Frames) -> str:
    """Return the table of the frames whose errors cost most; empty without errors."""
    order = np.argsort(-frames.cost, kind="stable")[:LISTED]
    order = order[frames.cost[order] > 0]
    if not len(order):
        return ""
    kinds = [place for place in range(len(KINDS)) if frames.errors[:, place].any()]
    rows = (
        [
            str(frame),
            number(int(frames.true[frame])),
            number(int(frames.found[frame])),
            *(number(int(frames.errors[frame, place])) for place in kinds),
            number(float(frames.cost[frame]), 1),
        ]
        for frame in order.tolist()
    )
    head = ["frame", "true", "found", *(KIND_WORDS[KINDS[place]].title.lower() for place in kinds), "cost"]
    return table(f"Frames whose errors cost most; the worst {len(order)} of {number(len(frames.true))}", head, rows)


def worst_tracks(result: Tracks, truth: Tracks, matching: Matching, mistakes: Mistakes) -> str:
    """Return the tables of the tracks, true and found, whose errors cost most."""
    found = _tracks_table(
        truth, "true tracks", *_costs_of_truth(result, truth, matching, mistakes), matching.predicted_of
    )
    made = _tracks_table(result, "tracks of the result", *_costs_of_result(mistakes, result), matching.truth_of)
    return f'<div class="two">{found}{made}</div>' if found or made else ""


def _costs_of_truth(result: Tracks, truth: Tracks, matching: Matching, mistakes: Mistakes) -> tuple[I64, F64]:
    """True spots that errors happen to, and the severities."""
    false = mistakes.of("link false")
    missed = mistakes.of("link missed")
    own = mistakes.take(np.flatnonzero(np.isin(mistakes.kind, _places("spot missed", "mask poor", "division missed"))))
    made = mistakes.of("division false")
    rows = np.concatenate(
        [
            own.truth,
            truth.links[missed.truth, 0],
            matching.truth_of[result.links[false.predicted, 1]],
            made.truth,
        ]
    )
    severity = np.concatenate([own.severity, missed.severity, false.severity, made.severity])
    known = rows != UNMATCHED
    return rows[known], severity[known]


def _costs_of_result(mistakes: Mistakes, result: Tracks) -> tuple[I64, F64]:
    false = mistakes.of("link false")
    own = mistakes.take(np.flatnonzero(np.isin(mistakes.kind, _places("spot false", "division false"))))
    rows = np.concatenate([own.predicted, result.links[false.predicted, 0]])
    return rows, np.concatenate([own.severity, false.severity])


def _tracks_table(tracks: Tracks, what: str, rows: I64, severity: F64, partner: I64) -> str:
    if not len(rows):
        return ""
    count, track = tracks.tracks()
    cost = np.bincount(track[rows], weights=severity, minlength=count)
    errors = np.bincount(track[rows], minlength=count)
    order = np.argsort(-cost, kind="stable")[:LISTED]
    order = order[cost[order] > 0]
    lines = []
    for which in order.tolist():
        members = np.flatnonzero(track == which)
        first = members[np.argmin(tracks.t[members])]
        matched = int((partner[members] != UNMATCHED).sum())
        begin, end = int(tracks.t[members].min()), int(tracks.t[members].max())
        lines.append(
            [
                escaped(named(tracks, int(first))),
                str(begin) if begin == end else f"{begin}–{end}",
                number(len(members)),
                number(matched / len(members), 2),
                number(int(errors[which])),
                number(float(cost[which]), 1),
            ]
        )
    head = ["first spot", "frames", "spots", "part matched", "errors", "cost"]
    return table(f"The {len(order)} {what} (of {number(count)}) whose errors cost most", head, lines)


def _places(*kinds: str) -> list[int]:
    return [KINDS.index(kind) for kind in kinds]


def _f1(right: I64, false: I64, missed: I64) -> F64:
    total = 2 * right + false + missed
    f1: F64 = np.divide(2.0 * right, total, out=np.full(len(right), np.nan), where=total > 0)
    return f1
