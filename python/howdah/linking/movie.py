"""The best links of a whole movie at once, with gaps and the costs of tracks that begin and end.

Every possible link, also over gaps, and every division is a choice (:mod:`.programme`); what it saves is the cost of the
tracks that would begin and end without it, less its own:

    link over g frames        |a - p|² / max_distance² + gap_cost (g - 1)
    division                  as in :mod:`.divisions`
    track that begins, ends   appearance_cost, disappearance_cost; half of it within border_distance of the border

With neighbouring frames only, nothing joins one pair of frames to the next, and this is the optimum per pair with other
costs. Over gaps it decides together which spot goes on and which was lost, where the other solvers close gaps afterwards.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bdv_io.tracks import Tracks
from howdah.linking.assignment import candidate_edges
from howdah.linking.config import LinkingConfig
from howdah.linking.earlier import Earlier, Ghosts
from howdah.linking.gaps import Bridges, Refused, box_of, clear_edges
from howdah.linking.job import Job
from howdah.linking.pairs import Pair, pair_choices, possible_edges
from howdah.linking.programme import NONE, Choices, best_choices
from howdah.progress import Progress, Steps

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

__all__ = ["Ends", "Possible", "link_movie"]


def link_movie(job: Job, earlier: Earlier, wanted: list[int]) -> Steps[tuple[I64, Bridges]]:
    """Return the links (K, 2) and the bridges over gaps with the smallest sum of costs; progress tells of candidates."""
    tracks, frames = job.tracks, job.frames_to_visit(wanted)
    possible = Possible(job, Refused.of(tracks, job.allowed))
    for done, frame in enumerate(frames, start=1):
        possible.look(earlier, frame, wanted, job.rows(frame))
        yield Progress("link", done, len(frames) + 1, {"max_distance": job.limits.max_distance})
    choices = possible.choices(Ends.of(tracks, job.allowed))
    # Numbers in order of frame and place: the answer must not depend on the order of the spots.
    rank = np.empty(tracks.n_spots, dtype=np.int64)
    order = np.concatenate([np.empty(0, dtype=np.int64), *job.rows_of.values()])
    rank[order] = np.arange(tracks.n_spots)
    when = tracks.t[choices.first].astype(np.int64)
    taken = choices.only(best_choices(choices.numbered(rank), tracks.n_spots, tracks.n_spots, when=when))
    links = taken.links
    age = (tracks.t[links[:, 1]] - tracks.t[links[:, 0]]).astype(np.int64)
    over = age > 1
    bridges = Bridges(links[over, 0], Ghosts(links[over, 1], age[over], possible.trail[links[over, 1]]))
    n = int(np.count_nonzero(~over))
    values = {"links": float(n), "gaps": float(len(links) - n), "divisions": float(_divisions(tracks, links, job))}
    yield Progress("link", len(frames) + 1, len(frames) + 1, {**values, "max_distance": job.limits.max_distance})
    return links[~over], bridges


class Possible:
    """Collects what could be chosen, frame after frame, late frames first.

    Attributes:
        trail: (N, gap, 3) where each spot that looks for a parent was 1, 2 ... frames earlier; NaN where it was not followed.
    """

    def __init__(self, job: Job, refused: Refused) -> None:
        gap = job.config.frame_gap
        self._job, self._refused = job, refused
        self._found: list[Choices] = [_nothing()]
        self._ghosts = Bridges.none(gap).ghosts
        self.trail = np.full((job.tracks.n_spots, gap, 3), np.nan)

    def look(self, earlier: Earlier, frame: int, wanted: Collection[int], asked: I64) -> None:
        """Find the choices of the spots of a frame, and of those that are followed through it.

        Args:
            earlier: Told where the spots ``asked``, rows of this frame, were before.
            frame: The frame.
            wanted: Frames whose spots look for a parent.
            asked: Rows.
        """
        job, gap = self._job, self._job.config.frame_gap
        ghosts = earlier.step(frame, asked, self._ghosts.at(frame, job.tracks.t))
        self.trail[ghosts.spot, ghosts.age - 1] = ghosts.place
        children, parents = job.children(frame, wanted), job.parents(frame - 1)
        self.trail[children, 0] = earlier.origin[children]
        self._found.append(_neighbours(job, job.pair(earlier, children, parents), children, parents))
        self._found.append(_over_gap(job, ghosts, parents[job.n_children[parents] == 0], self._refused))
        if gap > 1:
            ghosts = ghosts.joined(Ghosts.of(children, earlier.origin[children], gap))
        self._ghosts = ghosts

    def choices(self, ends: Ends) -> Choices:
        """Return all that saves something, by rows."""
        return _with_ends(self._found[0].joined(*self._found[1:]), self._job, ends)


class Ends(NamedTuple):
    """Where tracks begin and end without cost.

    Attributes:
        first, last: Frames of the first and the last spots that may get links.
        box: (2, 3) lowest and highest centre of those; NaN if there are none.
    """

    first: int
    last: int
    box: F64

    @classmethod
    def of(cls, tracks: Tracks, allowed: Bool) -> Ends:
        """Return those of an annotation."""
        frames = tracks.t[allowed]
        first, last = (int(frames.min()), int(frames.max())) if len(frames) else (0, 0)
        return cls(first, last, box_of(tracks.centre[allowed]))


def _neighbours(job: Job, pair: Pair, children: I64, parents: I64) -> Choices:
    """Choices between neighbouring frames, by rows; the saving is in units of max_distance² and without ends."""
    limits = job.limits
    # A track that begins cost max_distance² there; here it is a setting.
    found = pair_choices(possible_edges(pair, limits), pair, limits, prune=False)
    paired = found.second != NONE
    return Choices(
        parents[found.parent],
        children[found.first],
        np.where(paired, children[found.second], NONE),
        found.saving / limits.no_parent_cost - 1 - paired,
    )


def _over_gap(job: Job, ghosts: Ghosts, parents: I64, refused: Refused) -> Choices:
    limits = job.limits
    if not len(ghosts.spot) or not len(parents):
        return _nothing()
    places = job.tracks.centre[parents]
    edges = candidate_edges(
        ghosts.place, places, max_distance=limits.max_distance, max_candidates=limits.max_candidates
    )
    edges = edges.only(clear_edges(edges, ghosts, job.tracks, parents, refused))
    missing = ghosts.age[edges.child] - 1
    cost = edges.cost / limits.no_parent_cost + job.config.gap_cost * missing
    return Choices(parents[edges.parent], ghosts.spot[edges.child], np.full(len(cost), NONE), -cost)


def _with_ends(choices: Choices, job: Job, ends: Ends) -> Choices:
    """Add what is saved because tracks do not begin and end there; choices that save nothing are left out."""
    tracks, config = job.tracks, job.config
    factor = np.where(_near_border(tracks, ends.box, config), 0.5, 1.0)
    begin = np.where(tracks.t > ends.first, config.appearance_cost * factor, 0.0)
    end = np.where((tracks.t < ends.last) & (job.n_children == 0), config.disappearance_cost * factor, 0.0)
    second = np.where(choices.second == NONE, 0.0, begin[choices.second])
    saving = choices.saving + begin[choices.first] + second + end[choices.parent]
    found = Choices(choices.parent, choices.first, choices.second, saving)
    return found.only(saving > 0)


def _near_border(tracks: Tracks, box: F64, config: LinkingConfig) -> Bool:
    """(N,) mask of spots near the border of the box around all spots; along a flat axis there is none."""
    low, high = box
    if not config.border_distance or np.isnan(low).any():
        return np.zeros(tracks.n_spots, dtype=bool)
    deep = high - low > 2 * config.border_distance
    margin = np.minimum(tracks.centre - low, high - tracks.centre)[:, deep]
    near: Bool = margin.min(axis=1, initial=np.inf) < config.border_distance
    return near


def _divisions(tracks: Tracks, links: I64, job: Job) -> int:
    total = job.n_children + np.bincount(links[:, 0], minlength=tracks.n_spots)
    return int(np.count_nonzero((total > 1) & (job.n_children <= 1)))


def _nothing() -> Choices:
    none = np.empty(0, dtype=np.int64)
    return Choices(none, none, none, np.empty(0))
