"""What is linked, and how: the annotation, the settings, and which spots may get links."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from bdv_io.tracks import Tracks
from howdah.errors import DataError
from howdah.linking.config import LinkingConfig
from howdah.linking.divisions import log_volumes
from howdah.linking.earlier import Earlier
from howdah.linking.evidence import division_evidence
from howdah.linking.limits import Limits, limits_of, rows_by_frame
from howdah.linking.pairs import Pair
from howdah.linking.programme import NONE

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

__all__ = ["Job", "frames_to_visit"]

NOTHING = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Job:
    """An annotation to be linked.

    Attributes:
        tracks: Spots and the links that exist.
        config: Settings. limits: The same with every length known.
        allowed: (N,) bool, the spots that may get links.
        rows_of: Rows of each frame, in order of place.
        n_children: (N,) children that exist. has_parent: (N,) bool.
        child_of: (N,) row of a child that exists, or -1.
        size: (N,) logarithms of the volumes.
        evidence: (N,) log-odds that the spot divides, against the prior; 0 where nothing is known.
    """

    tracks: Tracks
    config: LinkingConfig
    limits: Limits
    allowed: Bool
    rows_of: dict[int, I64]
    n_children: I64 = field(repr=False)
    has_parent: Bool = field(repr=False)
    child_of: I64 = field(repr=False)
    size: F64 = field(repr=False)
    evidence: F64 = field(repr=False)

    @classmethod
    def of(cls, tracks: Tracks, config: LinkingConfig, candidates: npt.ArrayLike | None) -> Job:
        """Return the job; spots without a finite centre get no links.

        Raises:
            DataError: ``candidates`` does not have one row a spot.
        """
        allowed = np.ones(tracks.n_spots, dtype=bool) if candidates is None else np.asarray(candidates, dtype=bool)
        if allowed.shape != (tracks.n_spots,):
            raise DataError(f"Linking failed: candidates has shape {allowed.shape}; expected ({tracks.n_spots},).")
        child_of = np.full(tracks.n_spots, NONE, dtype=np.int64)
        child_of[tracks.links[:, 0]] = tracks.links[:, 1]
        return cls(
            tracks=tracks,
            config=config,
            limits=limits_of(tracks, config),
            allowed=allowed & np.isfinite(tracks.centre).all(axis=1),
            rows_of=rows_by_frame(tracks),
            n_children=tracks.n_children(),
            has_parent=tracks.n_parents() > 0,
            child_of=child_of,
            size=log_volumes(tracks),
            evidence=division_evidence(tracks, config.division_feature if config.division_weight else ""),
        )

    def rows(self, frame: int) -> I64:
        """Rows of the spots of a frame that may get links."""
        rows = self.rows_of.get(frame, NOTHING)
        found: I64 = rows[self.allowed[rows]]
        return found

    def children(self, frame: int, wanted: Collection[int]) -> I64:
        """Rows of the spots of a frame that look for a parent; none if the frame is not wanted."""
        rows = self.rows(frame)
        found: I64 = rows[~self.has_parent[rows]] if frame in wanted else NOTHING
        return found

    def parents(self, frame: int) -> I64:
        """Rows of the spots of a frame that may take a child."""
        rows = self.rows(frame)
        found: I64 = rows[self.n_children[rows] < self.config.max_children]
        return found

    def pair(self, earlier: Earlier, children: I64, parents: I64) -> Pair:
        """Return what is known of two frames."""
        known = self.child_of[parents]
        return Pair(
            origin=earlier.origin[children],
            move=earlier.move[children],
            parents=self.tracks.centre[parents],
            sibling=np.where((known >= 0)[:, None], earlier.origin[known], np.nan),
            sibling_move=np.where(known >= 0, earlier.move[known], np.nan),
            size=self.size[children],
            parent_size=self.size[parents],
            sibling_size=np.where(known >= 0, self.size[known], np.nan),
            evidence=self.evidence[parents],
        )

    def frames_to_visit(self, wanted: list[int]) -> list[int]:
        """Frames in which a spot may find a parent, or one may be followed through, late frames first."""
        return frames_to_visit(self.rows_of, wanted, self.config.frame_gap)


def frames_to_visit(there: Collection[int], wanted: list[int], gap: int) -> list[int]:
    """Return the frames in which a spot may find a parent, or one may be followed through, late frames first.

    Args:
        there: Frames that have spots.
        wanted: Frames whose spots look for a parent, early ones first.
        gap: Most frames from a spot back to its parent.
    """
    first = min(there, default=0)
    found = [frame for frame in wanted if frame in there]
    if gap == 1:
        return [frame for frame in reversed(found) if frame - 1 in there]
    return sorted({frame - back for frame in found for back in range(gap) if frame - back > first}, reverse=True)
