"""Linking the spots of a movie with one of three solvers, closing gaps, and saying how sure each link is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bdv_io.tags import Feature
from bdv_io.tracks import Tracks
from howdah.errors import DataError
from howdah.linking.assignment import NONE
from howdah.linking.config import LinkingConfig
from howdah.linking.earlier import Earlier, Estimate, Ghosts
from howdah.linking.gaps import Bridges, Refused, bridge, fill
from howdah.linking.limits import Limits, limits_of, rows_by_frame
from howdah.linking.nearest import link_by_rules
from howdah.linking.pairs import Pair, link_pair
from howdah.linking.quality import link_quality
from howdah.progress import Progress, Steps, finish

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

__all__ = ["LINK_QUALITY", "link_frames", "link_spots"]

LINK_QUALITY = "Howdah link quality"
SOLVERS = {"pairwise": link_pair, "nearest": link_by_rules}


def link_spots(
    tracks: Tracks,
    config: LinkingConfig | None = None,
    *,
    frames: Iterable[int] | None = None,
    predicted: npt.ArrayLike | None = None,
    candidates: npt.ArrayLike | None = None,
    estimate: Estimate | None = None,
) -> Tracks:
    """Return ``tracks`` with links added from each spot without a parent to its likeliest parent.

    Existing links stay as they are and count: a spot with an incoming link gets no other parent, and a spot with
    ``max_children`` children gets no more. The result does not depend on the order of spots. New links come after those
    that exist, in order of target frame, and carry the link feature "Howdah link quality"
    (:func:`howdah.linking.quality.link_quality`), which is not defined for the others. Spots that were inserted to close a
    gap come after all others (rows from ``tracks.n_spots`` on), without quality; there are none with ``frame_gap`` = 1.

    Args:
        tracks: Spots and the links that exist.
        config: Settings; the defaults if None.
        frames: Frames whose spots look for a parent; all by default.
        predicted: (N, 3) estimated centre (z, y, x) of each spot one frame earlier, world units; a row with NaN means
            that nothing is known and the spot's own centre is taken.
        candidates: (N,) bool, the spots that may get links; all by default. Links of the others still count, and no spot
            is inserted inside one of the others.
        estimate: Where ellipsoids of a frame were one frame earlier (:data:`howdah.linking.Estimate`). Asked for the
            spots unless ``predicted`` is given, and for those that are followed over a gap; once a frame, late frames first.

    Raises:
        DataError: ``predicted``, ``candidates`` or what ``estimate`` returns do not have one row a spot.
    """
    return finish(
        link_frames(tracks, config, frames=frames, predicted=predicted, candidates=candidates, estimate=estimate)
    )


def link_frames(
    tracks: Tracks,
    config: LinkingConfig | None = None,
    *,
    frames: Iterable[int] | None = None,
    predicted: npt.ArrayLike | None = None,
    candidates: npt.ArrayLike | None = None,
    estimate: Estimate | None = None,
) -> Steps[Tracks]:
    """Do what :func:`link_spots` does, yielding a Progress after each frame, late frames first.

    The values of each Progress are ``links`` and ``divisions`` made for that frame, and ``max_distance`` (world units).
    """
    config = config or LinkingConfig()
    earlier = Earlier(tracks, predicted, estimate)
    allowed = np.ones(tracks.n_spots, dtype=bool) if candidates is None else np.asarray(candidates, dtype=bool)
    if allowed.shape != (tracks.n_spots,):
        raise DataError(f"Linking failed: candidates has shape {allowed.shape}; expected ({tracks.n_spots},).")
    allowed = allowed & np.isfinite(tracks.centre).all(axis=1)
    job = _Job(tracks, config, limits_of(tracks, config), rows_by_frame(tracks), allowed)
    wanted = sorted(job.rows_of) if frames is None else sorted({int(frame) for frame in frames})
    links, bridges = yield from _backwards(job, earlier, wanted)
    return _finished(job, earlier, links, bridges)


class _Job(NamedTuple):
    """What is linked, and how; ``rows_of`` holds the rows of each frame, ``allowed`` (N,) those that may get links."""

    tracks: Tracks
    config: LinkingConfig
    limits: Limits
    rows_of: dict[int, I64]
    allowed: Bool


def _backwards(job: _Job, earlier: Earlier, wanted: list[int]) -> Steps[tuple[I64, Bridges]]:
    """Link frame by frame, from the last to the first; return the links (K, 2) and the bridges over gaps."""
    tracks, config, limits, rows_of, allowed = job
    solve, gap = SOLVERS[config.solver], config.frame_gap
    n_children, has_parent = tracks.n_children(), tracks.n_parents() > 0
    child_of = np.full(tracks.n_spots, NONE, dtype=np.int64)
    child_of[tracks.links[:, 0]] = tracks.links[:, 1]
    refused = Refused(tracks, allowed)
    made, bridges, ghosts = [np.empty((0, 2), dtype=np.int64)], Bridges.none(gap), Bridges.none(gap).ghosts
    nothing = np.empty(0, dtype=np.int64)
    steps = _frames_to_visit(rows_of, wanted, gap)
    targets = set(wanted)
    for done, frame in enumerate(steps, start=1):
        rows, parents = rows_of.get(frame, nothing), rows_of.get(frame - 1, nothing)
        rows = rows[allowed[rows]]
        ghosts = earlier.step(
            frame, rows, ghosts.only((ghosts.age < gap) & (tracks.t[ghosts.spot] - ghosts.age == frame))
        )
        children = rows[~has_parent[rows]] if frame in targets else nothing
        parents = parents[allowed[parents] & (n_children[parents] < config.max_children)]
        known = child_of[parents]
        pair = Pair(
            origin=earlier.origin[children],
            move=earlier.move[children],
            parents=tracks.centre[parents],
            sibling=np.where((known >= 0)[:, None], earlier.origin[known], np.nan),
            sibling_move=np.where(known >= 0, earlier.move[known], np.nan),
        )
        parent_of = solve(pair, limits)
        linked = np.flatnonzero(parent_of != NONE)
        made.append(np.stack([parents[parent_of[linked]], children[linked]], axis=1))
        total = n_children[parents] + np.bincount(parent_of[linked], minlength=len(parents))
        divisions = int(np.count_nonzero((total > 1) & (n_children[parents] <= 1)))
        if gap > 1:
            found = bridge(ghosts, tracks, parents[total == 0], limits, refused)
            bridges = bridges.joined(Bridges(found[found != NONE], ghosts.only(found != NONE)))
            orphans = children[parent_of == NONE]
            ghosts = ghosts.only(found == NONE).joined(Ghosts.of(orphans, earlier.origin[orphans], gap))
        values = {"links": float(len(linked)), "divisions": float(divisions), "max_distance": limits.max_distance}
        yield Progress("link", done, len(steps), values)
    return np.concatenate(made), bridges


def _frames_to_visit(rows_of: dict[int, I64], wanted: list[int], gap: int) -> list[int]:
    """Frames in which a spot may find a parent or a ghost may pass, late frames first."""
    first = min(rows_of, default=0)
    found = [frame for frame in wanted if frame in rows_of]
    if gap == 1:
        return [frame for frame in reversed(found) if frame - 1 in rows_of]
    return sorted({frame - back for frame in found for back in range(gap) if frame - back > first}, reverse=True)


def _finished(job: _Job, earlier: Earlier, links: I64, bridges: Bridges) -> Tracks:
    """Return the annotation with all that was found."""
    tracks, over = job.tracks, bridges.links
    quality = link_quality(
        tracks, np.concatenate([links, over]), earlier, bridges, allowed=job.allowed, limits=job.limits
    )
    grown = tracks
    if job.config.interpolate and len(over):
        grown, over, of_bridge = fill(tracks, bridges)
        quality = np.concatenate([quality[: len(links)], quality[len(links) + of_bridge]])
    new = np.concatenate([links, over])
    order = np.lexsort((new[:, 1], new[:, 0], grown.t[new[:, 1]]))
    linked = grown.with_links(new[order])
    known = tracks.feature(LINK_QUALITY, target="link")
    before = np.full(tracks.n_links, np.nan) if known is None else known.values.astype(np.float64)
    defined = np.isfinite(before) if known is None or known.defined is None else known.defined
    return linked.with_feature(
        Feature(
            LINK_QUALITY,
            "",
            np.concatenate([before, quality[order]]),
            target="link",
            dimension="QUALITY",
            defined=np.concatenate([defined, np.ones(len(new), dtype=bool)]),
        )
    )
