"""What a person said about predictions: two versions of an annotation, before and after proofreading, compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy

from bdv_io.difference import difference
from bdv_io.tracks import Tracks
from howdah.ellipsoids import radii_and_axes
from howdah.methods.elephant.status import DETECTION, DETECTION_TAGS, TRACKING, Status, spot_status

Rows = npt.NDArray[np.intp]

__all__ = ["Judgement", "Review", "bare", "judge", "present", "still_refused", "with_refused"]

POSITIVE = (Status.TP, Status.FN)
TIDIED = 10  # predictions of a frame; who deletes all of so many clears up, and says nothing about each


@dataclass(frozen=True)
class Judgement:
    """How many predictions a person has judged, and how.

    Attributes:
        validated: Accepted as they were.
        moved: Accepted by correcting place or shape.
        rejected: Tagged as no nucleus, or as the border of one only.
        deleted: Deleted, one by one.
        untouched: Not judged.
        missed: Nuclei that the person marked and no prediction had found.
    """

    validated: int = 0
    moved: int = 0
    rejected: int = 0
    deleted: int = 0
    untouched: int = 0
    missed: int = 0

    @property
    def judged(self) -> int:
        """Predictions that a person said anything about."""
        return self.validated + self.moved + self.rejected + self.deleted

    @property
    def precision(self) -> float | None:
        """Share of the judged predictions that are nuclei; None if none was judged."""
        return (self.validated + self.moved) / self.judged if self.judged else None

    @property
    def recall(self) -> float | None:
        """Share of the nuclei, of those that the person accepted or added, that was predicted; None if there are none."""
        right = self.validated + self.moved
        return right / (right + self.missed) if right + self.missed else None


@dataclass(frozen=True, eq=False)
class Review:
    """What happened to an annotation in a person's hands.

    Attributes:
        judgement: The counts.
        tracks: The later annotation. Predictions that were moved or reshaped there are tagged Detection = tp: who corrects
            a place has said that there is a nucleus, and a next prediction must not replace it.
        refused: Predictions that were deleted, as spots without tags.
        changes: Frame -> number of spots that the person added, removed, moved or tagged otherwise there.
    """

    judgement: Judgement
    tracks: Tracks
    refused: Tracks
    changes: Mapping[int, int]


def judge(before: Tracks, after: Tracks) -> Review:
    """Compare an annotation with predictions (Detection = unlabeled) with what a person made of it.

    Spots are the same if they are at the same place, or else each other's nearest within a mean radius: a prediction that
    was carried further counts as deleted, and the spot there as a missed nucleus.

    Args:
        before: The annotation as the program wrote it.
        after: The same, as the person saved it.

    Raises:
        ValidationError: The units of length differ.
    """
    found = difference(before, after)
    first, second = found.pairs[:, 0], found.pairs[:, 1]
    was, now = spot_status(before), spot_status(after)
    predicted = was[first] == Status.UNLABELLED
    corrected = found.moved | found.reshaped
    silent = predicted & (now[second] == Status.UNLABELLED)
    approved = silent & after.tagged(TRACKING, "Approved")[second] & ~before.tagged(TRACKING, "Approved")[first]
    accepted = predicted & (np.isin(now[second], POSITIVE) | approved | (silent & corrected))
    deleted = _one_by_one(before, found.removed[was[found.removed] == Status.UNLABELLED])
    missed = np.isin(now[found.added], POSITIVE)
    judgement = Judgement(
        validated=int((accepted & ~corrected).sum()),
        moved=int((accepted & corrected).sum()),
        rejected=int((predicted & ~silent & ~accepted).sum()),
        deleted=len(deleted),
        untouched=int((silent & ~accepted).sum()),
        missed=int(missed.sum()),
    )
    touched = corrected | found.retagged.get(DETECTION, np.zeros(len(first), dtype=bool)) | approved
    frames = np.concatenate([after.t[second[touched]], after.t[found.added], before.t[found.removed]])
    tp = DETECTION_TAGS[Status.TP]
    tracks = after.with_tag(DETECTION, tp, spots=second[silent & corrected]) if (silent & corrected).any() else after
    numbers, counts = np.unique(frames, return_counts=True)
    changes = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
    return Review(judgement, tracks, bare(before, deleted), changes)


def bare(tracks: Tracks, rows: Rows) -> Tracks:
    """Return some spots without links, tags and features."""
    some = tracks.select(rows)
    return Tracks.build(some.t, some.centre, covariance=some.covariance, space_unit=tracks.space_unit)


def present(spots: Tracks, among: Tracks) -> npt.NDArray[np.bool_]:
    """Return the (N,) mask of ``spots`` that are in another annotation at exactly the same place, whatever their tags."""
    mine, theirs = (np.column_stack([tracks.t, tracks.centre]) + 0.0 for tracks in (spots, among))  # -0 becomes 0
    known = {row.tobytes() for row in theirs}
    return np.array([row.tobytes() in known for row in mine], dtype=bool)


def still_refused(refused: Tracks, tracks: Tracks) -> Tracks:
    """Return those refused places in whose ellipsoid no accepted nucleus has its centre: a person's mark has the last word.

    Args:
        refused: Predictions that were deleted.
        tracks: The annotation as it is now.
    """
    marks = tracks.select(np.isin(spot_status(tracks), POSITIVE) & np.isfinite(tracks.centre).all(axis=1))
    keep = np.ones(refused.n_spots, dtype=bool)
    for time in np.intersect1d(refused.t, marks.t):
        rows = np.flatnonzero(refused.t == time)
        there = marks.centre[marks.t == time]
        reach = radii_and_axes(refused.covariance[rows])[0][:, -1]
        for row, near in zip(
            rows, scipy.spatial.cKDTree(there).query_ball_point(refused.centre[rows], reach), strict=True
        ):
            apart = there[near] - refused.centre[row]
            inside = np.einsum("ni,ij,nj->n", apart, np.linalg.pinv(refused.covariance[row]), apart) <= 1
            keep[row] = not inside.any()
    return refused.select(keep)


def with_refused(tracks: Tracks, refused: Tracks) -> Tracks:
    """Return an annotation with refused places as spots that are no nuclei (Detection = fp), for training."""
    if not refused.n_spots:
        return tracks
    rejected = replace(refused, space_unit=tracks.space_unit)
    tagged = rejected.with_tag(DETECTION, DETECTION_TAGS[Status.FP], spots=np.arange(refused.n_spots))
    return tracks.concatenate(tagged)


def _one_by_one(before: Tracks, rows: npt.NDArray[np.int64]) -> Rows:
    """Drop the rows of frames where a person has cleared up: every prediction of many is gone."""
    machine = np.bincount(before.t[spot_status(before) == Status.UNLABELLED], minlength=before.n_frames)
    gone = np.bincount(before.t[rows], minlength=before.n_frames)
    cleared = (gone == machine) & (machine >= TIDIED)
    return np.asarray(rows[~cleared[before.t[rows]]], dtype=np.intp)
