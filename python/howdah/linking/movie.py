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

import numpy as np
import numpy.typing as npt

from bdv_io.tracks import Tracks
from howdah.linking.assignment import candidate_edges
from howdah.linking.config import LinkingConfig
from howdah.linking.earlier import Earlier, Ghosts
from howdah.linking.gaps import Bridges, Refused, clear_edges
from howdah.linking.job import Job
from howdah.linking.pairs import Pair, pair_choices, possible_edges
from howdah.linking.programme import NONE, Choices, best_choices
from howdah.progress import Progress, Steps

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

__all__ = ["link_movie"]


def link_movie(job: Job, earlier: Earlier, wanted: list[int]) -> Steps[tuple[I64, Bridges]]:
    """Return the links (K, 2) and the bridges over gaps with the smallest sum of costs; progress tells of candidates."""
    tracks, gap = job.tracks, job.config.frame_gap
    trail = np.full((tracks.n_spots, gap, 3), np.nan)
    found: list[Choices] = [_nothing()]
    frames = job.frames_to_visit(wanted)
    refused = Refused(tracks, job.allowed)
    ghosts = Bridges.none(gap).ghosts
    for done, frame in enumerate(frames, start=1):
        rows = job.rows(frame)
        ghosts = earlier.step(frame, rows, ghosts.at(frame, tracks.t))
        trail[ghosts.spot, ghosts.age - 1] = ghosts.place
        children, parents = job.children(frame, wanted), job.parents(frame - 1)
        trail[children, 0] = earlier.origin[children]
        found.append(_neighbours(job, job.pair(earlier, children, parents), children, parents))
        found.append(_over_gap(job, ghosts, parents[job.n_children[parents] == 0], refused))
        if gap > 1:
            ghosts = ghosts.joined(Ghosts.of(children, earlier.origin[children], gap))
        yield Progress("link", done, len(frames) + 1, {"max_distance": job.limits.max_distance})
    choices = _with_ends(found[0].joined(*found[1:]), job)
    # Numbers in order of frame and place: the answer must not depend on the order of the spots.
    rank = np.empty(tracks.n_spots, dtype=np.int64)
    order = np.concatenate([np.empty(0, dtype=np.int64), *job.rows_of.values()])
    rank[order] = np.arange(tracks.n_spots)
    numbered = Choices(
        rank[choices.parent],
        rank[choices.first],
        np.where(choices.second == NONE, NONE, rank[choices.second]),
        choices.saving,
    )
    when = tracks.t[choices.first].astype(np.int64)
    taken = choices.only(best_choices(numbered, tracks.n_spots, tracks.n_spots, when=when))
    both = taken.second != NONE
    links = np.concatenate(
        [
            np.stack([taken.parent, taken.first], axis=1),
            np.stack([taken.parent[both], taken.second[both]], axis=1),
        ]
    )
    age = (tracks.t[links[:, 1]] - tracks.t[links[:, 0]]).astype(np.int64)
    over = age > 1
    bridges = Bridges(links[over, 0], Ghosts(links[over, 1], age[over], trail[links[over, 1]]))
    n = int(np.count_nonzero(~over))
    values = {"links": float(n), "gaps": float(len(links) - n), "divisions": float(_divisions(tracks, links, job))}
    yield Progress("link", len(frames) + 1, len(frames) + 1, {**values, "max_distance": job.limits.max_distance})
    return links[~over], bridges


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


def _with_ends(choices: Choices, job: Job) -> Choices:
    """Add what is saved because tracks do not begin and end there; choices that save nothing are left out."""
    tracks, config = job.tracks, job.config
    factor = np.where(_near_border(tracks, job.allowed, config), 0.5, 1.0)
    frames = tracks.t[job.allowed]
    first, last = (int(frames.min()), int(frames.max())) if len(frames) else (0, 0)
    begin = np.where(tracks.t > first, config.appearance_cost * factor, 0.0)
    end = np.where((tracks.t < last) & (job.n_children == 0), config.disappearance_cost * factor, 0.0)
    second = np.where(choices.second == NONE, 0.0, begin[choices.second])
    saving = choices.saving + begin[choices.first] + second + end[choices.parent]
    found = Choices(choices.parent, choices.first, choices.second, saving)
    return found.only(saving > 0)


def _near_border(tracks: Tracks, allowed: Bool, config: LinkingConfig) -> Bool:
    """(N,) mask of spots near the border of the box around all spots; along a flat axis there is none."""
    points = tracks.centre[allowed]
    if not config.border_distance or not len(points):
        return np.zeros(tracks.n_spots, dtype=bool)
    low, high = points.min(axis=0), points.max(axis=0)
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
