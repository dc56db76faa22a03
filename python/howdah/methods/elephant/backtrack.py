"""Following one nucleus back through a movie (client: back track), or forward, where its track is missing.

In each frame: where was it, by the flow? Is there a spot already? Else, does the detector find a nucleus in a small box? (A spot
that is further than a radius from the place, or has a child already, has to be nearer than what the detector finds.) Else, a
copy at the estimated place bridges the frame. What a person made is not changed: links are only added, to spots that have no
parent, and from spots with fewer than two children.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from bdv_io.tracks import Tracks
from howdah.config import Settings
from howdah.errors import DataError
from howdah.lineages import grow
from howdah.linking import automatic_max_distance
from howdah.methods import Spots
from howdah.methods.elephant.status import (
    DETECTION,
    DETECTION_TAGS,
    TRACKING,
    TRACKING_TAGS,
    UNLABELLED_TAG,
    Status,
    spot_status,
)
from howdah.progress import Progress, Steps

F64 = npt.NDArray[np.float64]
Estimate = Callable[[int, F64, F64], F64]
Box = tuple[F64, F64]
Detect = Callable[[int, Box], Spots]

__all__ = ["BacktrackConfig", "Backtracked", "Step", "backtrack"]

LINKED, FOUND, BRIDGED, REACHED, STOPPED = "linked", "detected", "interpolated", "reached a track", "stopped"
NO_QUALITY = 0.0  # of a spot that nobody saw
SAME = 0.5  # of a radius: a detection this near to a spot is that spot


class BacktrackConfig(Settings):
    """How a nucleus is followed; lengths are in the unit of the annotation's coordinates."""

    direction: Literal["back", "forward"] = Field(
        default="back",
        description="back: to where it came from. forward: to where it goes; the flow is not used then.",
    )
    max_frames: int | None = Field(
        default=None,
        ge=1,
        description="Most frames to follow it, a number of frames. Automatic: to the end of the movie.",
    )
    search_distance: float | None = Field(
        default=None,
        gt=0,
        description="How far from the estimated place a spot or nucleus may be, in world units. Automatic: as in linking.",
    )
    mother_radii: float = Field(
        default=1.5,
        gt=0,
        description="How far from the estimated place a spot may be that has a child already, in radii of the nucleus: daughters "
        "begin nearer to their mother than to her neighbours.",
    )
    max_interpolated: int = Field(
        default=3, ge=0, description="Most frames in a row in which it may be seen nowhere; 0 forbids interpolation."
    )
    box_radii: float = Field(
        default=4.0,
        ge=1,
        le=50,
        description="Half the edge of the box that the detector looks at, in radii of the nucleus, beyond the search distance.",
    )


@dataclass(frozen=True)
class Step:
    """What was done in one frame.

    Attributes:
        frame: The frame.
        action: "linked" (to a spot that was there), "detected", "interpolated", "reached a track" (linked to one that goes on by
            itself: the end) or "stopped" (nothing was added).
        spot: Id of the spot, -1 if stopped.
        distance: From the estimated place, world units; NaN where nothing was found.
        quality: Of a detection, else NaN.
        why: A sentence where it stopped.
    """

    frame: int
    action: str
    spot: int
    distance: float = float("nan")
    quality: float = float("nan")
    why: str = ""


@dataclass(frozen=True)
class Backtracked:
    """The annotation with the new spots and links at its end, and what was done frame by frame."""

    tracks: Tracks
    steps: tuple[Step, ...]


@dataclass
class _Trail:
    """The nucleus on its way: where it is now (a row; new spots are counted on), and what was made."""

    row: int
    centre: F64
    covariance: F64
    made: list[tuple[int, F64, F64, float]] = field(default_factory=list)
    links: list[tuple[int, int]] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    unseen: int = 0

    def meet(self, centre: F64, place: F64) -> None:
        """Shift the bridges behind so that they lead to where the nucleus was found, not to where it was expected."""
        for number in range(1, self.unseen + 1):
            at = number - self.unseen - 1
            frame, middle, covariance, quality = self.made[at]
            self.made[at] = (frame, middle + (centre - place) * number / (self.unseen + 1), covariance, quality)
        self.unseen = 0


def backtrack(
    tracks: Tracks,
    spot: int,
    config: BacktrackConfig | None = None,
    *,
    n_frames: int | None = None,
    estimate: Estimate | None = None,
    detect: Detect | None = None,
) -> Steps[Backtracked]:
    """Follow a nucleus back until it meets a track, the first frame, or nothing.

    Where the spot has a parent already, its track is followed to its beginning first, and the work starts there.

    Args:
        tracks: The annotation.
        spot: Row of the spot.
        config: Settings.
        n_frames: Frames of the movie, for following it forward; by default up to the last frame that has spots.
        estimate: ``(frame, centre (1, 3), covariance (1, 3, 3))`` -> (1, 3) place one frame earlier, world. None, or a
            result with NaN: it stays where it is.
        detect: ``(frame, box)`` -> nuclei with centres in the box (its lowest and highest corner, world). None: only spots
            that are there are looked at.

    Returns:
        The annotation, where new spots are tagged Detection = unlabeled and new links Tracking = unlabeled, and the report.
        Interpolated spots have quality 0; they are left out where nothing was found after them.

    Raises:
        DataError: There is no such row; its track begins (forward: ends) with a spot that a person rejected; or (forward) it
            divides.
    """
    config = config or BacktrackConfig()
    if not 0 <= spot < tracks.n_spots:
        raise DataError(f"Following a spot failed: row {spot} was given, but there are {tracks.n_spots} spots.")
    forward = config.direction == "forward"
    scene = _Scene(tracks, config, forward)
    start = scene.tip(spot)
    trail = _Trail(start, tracks.centre[start], tracks.covariance[start])
    step = 1 if forward else -1
    last = (n_frames or tracks.n_frames) - 1 if forward else 0
    left = abs(last - int(tracks.t[start]))
    total = left if config.max_frames is None else min(left, config.max_frames)
    if not total:
        edge = "last" if forward else "first"
        trail.steps.append(
            Step(int(tracks.t[start]), STOPPED, -1, why=f"Its track reaches the {edge} frame of the movie already.")
        )
    for done in range(total):
        frame = int(tracks.t[start]) + step * (done + 1)
        place = trail.centre if forward else _estimated(estimate, frame + 1, trail)
        goes_on = scene.advance(trail, frame, place, detect)
        taken = trail.steps[-1]
        yield Progress("follow", done + 1, total, message=f"frame {frame}: {taken.action}")
        if not goes_on:
            break
    _forget_bridges_to_nowhere(trail)
    return Backtracked(_grown(tracks, trail), tuple(trail.steps))


class _Scene:
    """What is there already, and what may be linked to."""

    def __init__(self, tracks: Tracks, config: BacktrackConfig, forward: bool) -> None:
        self.tracks, self.config, self.forward = tracks, config, forward
        self.reach = config.search_distance or automatic_max_distance(tracks)
        self.rejected = np.isin(spot_status(tracks), [Status.FP, Status.TN, Status.TB, Status.FB])
        self.order = np.argsort(tracks.t, kind="stable")
        self.n_children, self.n_parents = tracks.n_children(), tracks.n_parents()
        self.next_id = int(tracks.id.max()) + 1

    def tip(self, row: int) -> int:
        """Where the track of a spot begins; forward: where it ends."""
        forest = grow(self.tracks)
        end = int(forest.cell_end[row] if self.forward else forest.root[row])
        name = f"Following spot {self.tracks.id[row]} {'forward' if self.forward else 'back'} failed: "
        if self.forward and self.n_children[end]:
            raise DataError(
                f"{name}its track divides, or joins another one, at frame {self.tracks.t[end]}. Choose a spot after that."
            )
        if not self.forward and self.n_parents[end]:
            raise DataError(f"{name}a link of its track does not run forward in time. Remove such links first.")
        if self.rejected[end]:
            raise DataError(
                f"{name}spot {self.tracks.id[end]} is no nucleus, as a person said (tag set '{DETECTION}')."
            )
        return end

    def advance(self, trail: _Trail, frame: int, place: F64, detect: Detect | None) -> bool:
        """Do one frame; return whether to go on."""
        rows = self._at(frame)
        away = np.linalg.norm(self.tracks.centre[rows] - place, axis=1)
        radius = float(np.linalg.det(trail.covariance)) ** (1 / 6)
        free = ~self.rejected[rows] & self._may_be_linked(rows)
        mother = self.n_children[rows] > 0 if not self.forward else np.zeros(len(rows), dtype=bool)
        usable = np.flatnonzero(
            free & (away <= np.where(mother, min(self.reach, self.config.mother_radii * radius), self.reach))
        )
        nearest = usable[np.argmin(away[usable])] if len(usable) else None
        sure = nearest is not None and away[nearest] <= radius and not mother[nearest]
        if nearest is not None and (sure or detect is None):
            return self._link(trail, int(rows[nearest]), frame, place)
        taken = rows[~free & (away <= SAME * radius)]
        if len(taken):
            return self._stop(trail, frame, int(taken[0]))
        found = self._detected(frame, place, radius, detect)
        if found is not None:
            apart = np.linalg.norm(self.tracks.centre[rows] - found.centre[0], axis=1)
            same = rows[apart <= SAME * radius]
            distance = float(np.linalg.norm(found.centre[0] - place))
            if len(same) and not free[apart <= SAME * radius].any():
                return self._stop(trail, frame, int(same[0]))
            if not len(same) and (nearest is None or distance < away[nearest]):
                return self._add(trail, frame, found, place)
        if nearest is not None:
            return self._link(trail, int(rows[nearest]), frame, place)
        if trail.unseen >= self.config.max_interpolated:
            why = "Nothing was found" + (f" in {trail.unseen + 1} frames." if trail.unseen else ".")
            trail.steps.append(Step(frame, STOPPED, -1, why=why))
            return False
        bridge = Spots(place[None], trail.covariance[None], np.array([NO_QUALITY]))
        return self._add(trail, frame, bridge, None)

    def _at(self, frame: int) -> npt.NDArray[np.intp]:
        first, last = np.searchsorted(self.tracks.t, [frame, frame + 1], sorter=self.order)
        rows: npt.NDArray[np.intp] = self.order[first:last]
        return rows

    def _may_be_linked(self, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
        """Nobody gets a second parent or a third child."""
        free: npt.NDArray[np.bool_] = self.n_parents[rows] == 0 if self.forward else self.n_children[rows] < 2
        return free

    def _link(self, trail: _Trail, row: int, frame: int, place: F64) -> bool:
        met = self.n_children[row] > 0 if self.forward else self.n_parents[row] > 0
        centre = self.tracks.centre[row]
        trail.meet(centre, place)
        self._join(trail, row)
        trail.row, trail.centre, trail.covariance = row, centre, self.tracks.covariance[row]
        distance = float(np.linalg.norm(centre - place))
        trail.steps.append(Step(frame, REACHED if met else LINKED, int(self.tracks.id[row]), distance))
        return not met

    def _stop(self, trail: _Trail, frame: int, row: int) -> bool:
        name = f"spot {self.tracks.id[row]}"
        why = f"At its place is {name}, which "
        if self.rejected[row]:
            why += "a person said is no nucleus."
        else:
            why += "has a parent already." if self.forward else "has two children already."
        trail.steps.append(Step(frame, STOPPED, -1, why=why))
        return False

    def _detected(self, frame: int, place: F64, radius: float, detect: Detect | None) -> Spots | None:
        """The nucleus that the detector finds nearest to the place, within reach."""
        if detect is None:
            return None
        half = self.reach + self.config.box_radii * radius
        spots = detect(frame, (place - half, place + half))
        if not len(spots):
            return None
        away = np.linalg.norm(spots.centre - place, axis=1)
        nearest = int(np.argmin(away))
        return spots.take(np.array([nearest])) if away[nearest] <= self.reach else None

    def _add(self, trail: _Trail, frame: int, spot: Spots, place: F64 | None) -> bool:
        """Add a detected spot, or without ``place`` a bridge."""
        centre, covariance, quality = spot.centre[0], spot.covariance[0], float(spot.quality[0])
        new_id = self.next_id + len(trail.made)
        if place is None:
            trail.unseen += 1
            trail.steps.append(Step(frame, BRIDGED, new_id))
        else:
            trail.meet(centre, place)
            distance = float(np.linalg.norm(centre - place))
            trail.steps.append(Step(frame, FOUND, new_id, distance, quality))
        row = self.tracks.n_spots + len(trail.made)
        trail.made.append((frame, centre, covariance, quality))
        self._join(trail, row)
        trail.row, trail.centre, trail.covariance = row, centre, covariance
        return True

    def _join(self, trail: _Trail, row: int) -> None:
        trail.links.append((trail.row, row) if self.forward else (row, trail.row))


def _estimated(estimate: Estimate | None, frame: int, trail: _Trail) -> F64:
    """The place one frame before ``frame``, where the nucleus is now."""
    if estimate is None:
        return trail.centre
    place = np.asarray(estimate(frame, trail.centre[None], trail.covariance[None]), dtype=np.float64).reshape(3)
    return place if np.isfinite(place).all() else trail.centre


def _forget_bridges_to_nowhere(trail: _Trail) -> None:
    """Take back the interpolated spots at the end of the trail: a bridge needs two banks."""
    n = trail.unseen
    if not n:
        return
    last = trail.steps[-1]
    if last.action == STOPPED:
        trail.steps.pop()
    else:
        last = Step(last.frame, STOPPED, -1, why=f"Nothing was found in the last {n} frames.")
    del trail.made[-n:], trail.links[-n:], trail.steps[-n:]
    trail.steps.append(last)


def _grown(tracks: Tracks, trail: _Trail) -> Tracks:
    grown = tracks.with_tag_set(DETECTION, DETECTION_TAGS).with_tag_set(TRACKING, TRACKING_TAGS)
    if trail.made:
        frames, centres, covariances, qualities = zip(*trail.made, strict=True)
        new = Tracks.build(
            frames,
            np.stack(centres),
            covariance=np.stack(covariances),
            quality=qualities,
            id=np.arange(len(frames)) + int(tracks.id.max()) + 1,
            space_unit=tracks.space_unit,
        )
        grown = grown.concatenate(new.with_tag(DETECTION, UNLABELLED_TAG, spots=np.arange(new.n_spots)))
    if trail.links:
        before = grown.n_links
        grown = grown.with_links(np.array(trail.links))
        grown = grown.with_tag(TRACKING, TRACKING_TAGS[1], links=np.arange(before, grown.n_links))
    return grown
