"""Linking the spots of a movie with one of three solvers, closing gaps, and saying how sure each link is."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bdv_io.tags import Feature
from bdv_io.tracks import Tracks
from howdah.linking.config import LinkingConfig
from howdah.linking.earlier import Earlier, Estimate, Ghosts
from howdah.linking.gaps import Bridges, Refused, bridge, fill
from howdah.linking.job import Job
from howdah.linking.movie import link_movie
from howdah.linking.nearest import link_by_rules
from howdah.linking.pairs import link_pair
from howdah.linking.programme import NONE
from howdah.linking.quality import link_quality
from howdah.progress import Progress, Steps, finish

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = ["LINK_QUALITY", "Neighbours", "completed", "link_frames", "link_neighbours", "link_spots"]

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
    job = Job.of(tracks, config, candidates)
    wanted = sorted(job.rows_of) if frames is None else sorted({int(frame) for frame in frames})
    solve = link_movie if config.solver == "global" else _backwards
    links, bridges = yield from solve(job, earlier, wanted)
    quality = link_quality(job, np.concatenate([links, bridges.links]), earlier, bridges)
    return completed(tracks, links, bridges, quality, interpolate=config.interpolate)


class Neighbours(NamedTuple):
    """What was found between two neighbouring frames, all as rows.

    Attributes:
        links: (K, 2), parent and child. orphans: (O,) spots of the later frame that looked for a parent and have none.
        childless: (P,) spots of the earlier frame that may take a child and have none.
        divisions: How many there are more than before.
    """

    links: I64
    orphans: I64
    childless: I64
    divisions: int


def link_neighbours(job: Job, earlier: Earlier, frame: int, wanted: Collection[int]) -> Neighbours:
    """Link the spots of a frame to those of the frame before, with the solver for pairs of frames; see :mod:`.pairs`, :mod:`.nearest`."""
    children, parents = job.children(frame, wanted), job.parents(frame - 1)
    parent_of = SOLVERS[job.config.solver](job.pair(earlier, children, parents), job.limits)
    linked = np.flatnonzero(parent_of != NONE)
    before = job.n_children[parents]
    total = before + np.bincount(parent_of[linked], minlength=len(parents))
    return Neighbours(
        links=np.stack([parents[parent_of[linked]], children[linked]], axis=1),
        orphans=children[parent_of == NONE],
        childless=parents[total == 0],
        divisions=int(np.count_nonzero((total > 1) & (before <= 1))),
    )


def _backwards(job: Job, earlier: Earlier, wanted: list[int]) -> Steps[tuple[I64, Bridges]]:
    """Link frame by frame, from the last to the first; return the links (K, 2) and the bridges over gaps."""
    gap, limits = job.config.frame_gap, job.limits
    refused = Refused.of(job.tracks, job.allowed)
    made, bridges, ghosts = [np.empty((0, 2), dtype=np.int64)], Bridges.none(gap), Bridges.none(gap).ghosts
    frames = job.frames_to_visit(wanted)
    for done, frame in enumerate(frames, start=1):
        ghosts = earlier.step(frame, job.rows(frame), ghosts.at(frame, job.tracks.t))
        pair = link_neighbours(job, earlier, frame, wanted)
        made.append(pair.links)
        if gap > 1:
            found = bridge(ghosts, job.tracks, pair.childless, limits, refused)
            bridges = bridges.joined(Bridges(found[found != NONE], ghosts.only(found != NONE)))
            ghosts = ghosts.only(found == NONE).joined(Ghosts.of(pair.orphans, earlier.origin[pair.orphans], gap))
        values = {
            "links": float(len(pair.links)),
            "divisions": float(pair.divisions),
            "max_distance": limits.max_distance,
        }
        yield Progress("link", done, len(frames), values)
    return np.concatenate(made), bridges


def completed(tracks: Tracks, links: I64, bridges: Bridges, quality: F64, *, interpolate: bool) -> Tracks:
    """Return the annotation with all that was found, as :func:`link_spots` does.

    Args:
        tracks: The annotation before linking.
        links: (K, 2) rows of parent and child, in any order.
        bridges: B links over several frames, in any order.
        quality: (K + B,) of the links, then of the bridges.
        interpolate: Put spots into the gaps.
    """
    over = bridges.links
    grown = tracks
    if interpolate and len(over):
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
