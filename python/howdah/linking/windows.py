"""Linking a movie window by window: what a window can decide alone, and what goes on from one to the next.

A window [begin, end) answers for the links of the spots in its frames to their parents, which may lie up to ``frame_gap`` frames
before it. So no link is decided twice, and none is left out. What has to be known of other windows goes from one to the next:

- *pairwise, nearest*: neighbouring frames are solved alone. Spots without a parent are followed backwards; which of them takes up
  which lost track is decided from late frames to early ones (:func:`bridge_window`), with what is still followed at the begin of a
  window given to the one before. This is what :func:`howdah.linking.link_spots` does frame by frame, so the result is the same.
- *global*: a window takes what is sure and solves what hangs together only within it (:func:`choose_in_window`). What hangs on spots
  that may take children in the next window stays open, and is decided with that of the next window (:func:`choose_at_seam`). Both
  are steps of the same exact solution (:func:`howdah.linking.programme.settle`), so the sum is that of the whole movie solved at
  once; of several best solutions another may be taken. The exception are parts of more than ``programme.PART`` choices, which the
  whole movie at once does not solve exactly either: the first half of such a part is decided when more than :data:`CARRIED` choices
  of it would go on to the next window.

Frames, and rows of a :class:`Job` that holds only the spots of the window and before it, are all that is known here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bdv_io.tracks import Tracks
from howdah.linking.earlier import Earlier, Ghosts
from howdah.linking.gaps import Bridges, Refused, bridge
from howdah.linking.job import Job
from howdah.linking.limits import Limits
from howdah.linking.link import link_neighbours
from howdah.linking.movie import Ends, Possible
from howdah.linking.programme import NONE, Choices, begin_large, settle

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

CARRIED = 200_000

__all__ = ["CARRIED", "Open", "Paired", "bridge_window", "choose_at_seam", "choose_in_window", "link_window"]


class Paired(NamedTuple):
    """What was found in the pairs of frames of a window, as rows; frames from late to early.

    Attributes:
        links: (K, 2) parent and child.
        orphans: (O,) spots of the window that looked for a parent in the frame before in vain.
        trail: (O, frame_gap, 3) where they were 1, 2 ... frames earlier, world; NaN where they were not followed.
        childless: (P,) spots that may take a child, and have none.
    """

    links: I64
    orphans: I64
    trail: F64
    childless: I64


class Open(NamedTuple):
    """Choices, and what will be needed of them when they are taken.

    Attributes:
        choices: K of them.
        length: (K, 2) lengths of the links to the first and the second child, world units.
        trail: (K, frame_gap, 3) where the first child was 1, 2 ... frames earlier, as far as it was followed.
    """

    choices: Choices
    length: F64
    trail: F64

    def only(self, rows: Bool | I64) -> Open:
        """Return those of a mask, or of rows."""
        return Open(self.choices.only(rows), self.length[rows], self.trail[rows])

    def joined(self, other: Open) -> Open:
        """Return these and the others."""
        return Open(
            self.choices.joined(other.choices),
            np.concatenate([self.length, other.length]),
            np.concatenate([self.trail, other.trail]),
        )


def link_window(job: Job, earlier: Earlier, frames: Sequence[int], *, begin: int, wanted: Collection[int]) -> Paired:
    """Link the spots of a window to the frame before each, and follow those without a parent back beyond the window.

    Args:
        job: The spots of the window and of ``frame_gap`` frames before it.
        earlier: Estimates for them; learns.
        frames: The frames to visit, late ones first: of the window, then those before it through which spots are followed.
        begin: First frame of the window.
        wanted: Frames whose spots look for a parent.
    """
    gap, tracks = job.config.frame_gap, job.tracks
    links, orphans, childless = [np.empty((0, 2), dtype=np.int64)], [_nothing()], [_nothing()]
    trail = np.full((tracks.n_spots if gap > 1 else 0, gap, 3), np.nan)
    ghosts = Bridges.none(gap).ghosts
    for frame in frames:
        mine = frame >= begin
        ghosts = earlier.step(frame, job.rows(frame) if mine else _nothing(), ghosts.at(frame, tracks.t))
        if gap > 1:
            trail[ghosts.spot, ghosts.age - 1] = ghosts.place
        if not mine:
            continue
        pair = link_neighbours(job, earlier, frame, wanted)
        links.append(pair.links)
        if gap > 1:
            trail[pair.orphans, 0] = earlier.origin[pair.orphans]
            ghosts = ghosts.joined(Ghosts.of(pair.orphans, earlier.origin[pair.orphans], gap))
            orphans.append(pair.orphans)
            childless.append(pair.childless)
    lost = np.concatenate(orphans)
    return Paired(np.concatenate(links), lost, trail[lost], np.concatenate(childless))


def bridge_window(
    spots: Tracks, frames: Sequence[int], paired: Paired, carried: Ghosts, *, limits: Limits, refused: Refused
) -> tuple[Bridges, Ghosts]:
    """Join lost tracks over gaps in a window; return the bridges, and the spots that are still followed at its begin.

    Args:
        spots: Frames and places of all rows that occur.
        frames: The frames of the window that are visited, late ones first.
        paired: What was found in the window; no links are needed.
        carried: Spots of later windows that are still followed, with their whole trails.
        limits: Settings.
        refused: Spots that a person rejected in the window and ``frame_gap`` frames around it.
    """
    longest = paired.trail.shape[1]
    bridges, ghosts = Bridges.none(longest), carried
    orphan_at, free_at = spots.t[paired.orphans], spots.t[paired.childless]
    for frame in frames:
        here = ghosts.at(frame, spots.t)
        here = Ghosts(here.spot, here.age + 1, here.trail)
        found = bridge(here, spots, paired.childless[free_at == frame - 1], limits, refused)
        bridges = bridges.joined(Bridges(found[found != NONE], here.only(found != NONE)))
        new = np.flatnonzero(orphan_at == frame)
        lost = Ghosts(paired.orphans[new], np.ones(len(new), dtype=np.int64), paired.trail[new])
        ghosts = here.only(found == NONE).joined(lost)
    return bridges, ghosts


def choose_in_window(
    job: Job,
    earlier: Earlier,
    frames: Sequence[int],
    *,
    window: tuple[int, int],
    wanted: Collection[int],
    refused: Refused,
    ends: Ends,
) -> tuple[Open, Open]:
    """Return the choices of a window that belong to the best solution, and those that the window cannot decide alone.

    Args:
        job: The spots of the window and of ``frame_gap`` frames before it.
        earlier: Estimates for them; learns.
        frames: As for :func:`link_window`.
        window: First frame, and the one after the last; wider than the movie where no window is before or after.
        wanted: Frames whose spots look for a parent.
        refused: Spots that a person rejected in these frames.
        ends: Where tracks of the movie begin and end without cost.
    """
    (begin, end), tracks = window, job.tracks
    mine = {frame for frame in wanted if begin <= frame < end}
    possible = Possible(job, refused)
    for frame in frames:
        possible.look(earlier, frame, mine, job.rows(frame) if frame >= begin else _nothing())
    choices = possible.choices(ends)
    all_of_it = Open(choices, _lengths(choices, possible.trail, tracks), possible.trail[choices.first])
    known = (tracks.t >= begin - 1) & (tracks.t + job.config.frame_gap < end)
    number = np.empty(tracks.n_spots, dtype=np.int64)  # in order of frame and place, as for the whole movie
    order = np.concatenate([_nothing(), *job.rows_of.values()])
    order = np.concatenate([order, np.setdiff1d(np.arange(tracks.n_spots), order)])
    number[order] = np.arange(tracks.n_spots)
    when = tracks.t[choices.first].astype(np.int64)
    taken, undecided = settle(choices.numbered(number), known[order], tracks.n_spots, when=when)
    return all_of_it.only(taken), all_of_it.only(undecided)


def choose_at_seam(given: Open, t: Tracks, *, end: int, gap: int) -> tuple[Open, Open]:
    """Return what belongs to the best solution of what earlier windows and the next one left open, and what stays open.

    Args:
        given: All that was left open up to and with the next window. Nodes are rows of ``t``.
        t: Frames of the rows that occur.
        end: The frame after the last of the next window; beyond the movie if there is none after it.
        gap: Most frames from a spot back to its parent.
    """
    when = t.t[given.choices.first].astype(np.int64)
    known = t.t + gap < end
    taken, undecided = settle(given.choices, known, t.n_spots, when=when)
    rows = np.flatnonzero(undecided)
    early, still = begin_large(given.choices.only(rows), t.n_spots, when=when[rows], latest=end - gap - 1, most=CARRIED)
    taken[rows[early]] = True
    return given.only(taken), given.only(rows[still])


def _lengths(choices: Choices, trail: F64, tracks: Tracks) -> F64:
    parent = tracks.centre[choices.parent]
    age = tracks.t[choices.first] - tracks.t[choices.parent]
    second = np.where(choices.second == NONE, 0, choices.second)
    places = trail[choices.first, age - 1], trail[second, 0]
    found: F64 = np.stack([np.linalg.norm(place - parent, axis=1) for place in places], axis=1)
    return found


def _nothing() -> I64:
    return np.empty(0, dtype=np.int64)
