"""Which lineages are known from beginning to end, and where the others are open."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io.tracks import Tracks
from howdah.lineages.forest import Forest, grow
from howdah.lineages.measures import Table, about
from howdah.lineages.protection import COMPLETED, STATUS, protected

I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

__all__ = ["complete_roots", "mark_completed", "open_places"]

STARTS, ENDS, GAP, MERGE, MANY, BACKWARD = (
    "starts late",
    "ends early",
    "skips frames",
    "several parents",
    "more than two children",
    "does not run forward",
)


def complete_roots(
    tracks: Tracks,
    *,
    first: int | None = None,
    last: int | None = None,
    ends: npt.ArrayLike | None = None,
    without_gaps: bool = True,
    confirmed: bool = False,
) -> I64:
    """Return the rows of the roots whose lineage is complete: every branch reaches the last frame.

    Args:
        tracks: The annotation.
        first: If given, the lineage must begin in this frame or before.
        last: The frame that each branch must reach; None for the last one that has spots. A lineage that only begins there is
            not complete.
        ends: (N,) bool, spots that may end before, for example because a person saw the cell die there.
        without_gaps: A link that skips frames makes a lineage incomplete (paper: no missing links).
        confirmed: All spots and links of the lineage must be made or approved by a person.
    """
    forest = grow(tracks)
    end = tracks.n_frames - 1 if last is None else last
    wrong = forest.is_leaf & (tracks.t < end)
    if ends is not None:
        wrong &= ~np.asarray(ends, dtype=bool)
    source, target = tracks.links.T
    step = tracks.t[target] - tracks.t[source]
    second = _further_parents(tracks, forest)
    bad = (step < 1) | second
    if without_gaps:
        bad |= step > 1
    wrong[source[bad]] = True
    wrong[target[bad]] = True
    wrong |= forest.n_children > 2
    if confirmed:
        kept = protected(tracks)
        wrong |= ~kept.spots
        wrong[target[~kept.links]] = True
    complete = forest.is_root & (tracks.t < end)
    complete[forest.root[wrong]] = False
    if first is not None:
        complete &= tracks.t <= first
    return np.flatnonzero(complete)


def mark_completed(tracks: Tracks, roots: npt.ArrayLike) -> tuple[Tracks, int, int]:
    """Tag roots Status = Completed. Tags that are there stay.

    Args:
        tracks: The annotation.
        roots: Rows, for example from :func:`complete_roots`.

    Returns:
        The annotation; how many roots have the tag now that had no tag in "Status"; and how many keep another tag.
    """
    rows = np.asarray(roots, dtype=np.intp)
    known = tracks.tag_set(STATUS)
    had = np.zeros(len(rows), dtype=bool) if known is None else known.spots[rows] >= 0
    other = had & ~tracks.tagged(STATUS, COMPLETED.name)[rows]
    return tracks.with_tag(STATUS, COMPLETED, spots=rows[~had]), int((~had).sum()), int(other.sum())


def open_places(tracks: Tracks, *, first: int = 0, last: int | None = None, ends: npt.ArrayLike | None = None) -> Table:
    """Return where lineages are incomplete, the largest lineages first: that is where a look pays most.

    Args:
        tracks: The annotation.
        first: Lineages that begin later are listed, with "starts late".
        last: Branches that end before are listed, with "ends early"; None for the last frame that has spots.
        ends: (N,) bool, spots that may end before.

    Returns:
        Columns ``what``, ``spot`` (id), ``label``, ``frame``, ``z``, ``y``, ``x``, ``root`` (id of the lineage's root),
        ``lineage_spots``; ``what`` is one of starts late, ends early, skips frames (at its later spot), several parents,
        more than two children, does not run forward.
    """
    forest = grow(tracks)
    end = tracks.n_frames - 1 if last is None else last
    source, target = tracks.links.T
    step = tracks.t[target] - tracks.t[source]
    dies = forest.is_leaf & (tracks.t < end)
    if ends is not None:
        dies &= ~np.asarray(ends, dtype=bool)
    found = [
        (STARTS, np.flatnonzero(forest.is_root & (tracks.t > first))),
        (ENDS, np.flatnonzero(dies)),
        (GAP, target[step > 1]),
        (MERGE, np.unique(target[_further_parents(tracks, forest)])),
        (MANY, np.flatnonzero(forest.n_children > 2)),
        (BACKWARD, np.unique(source[step < 1])),
    ]
    what = np.repeat(np.array([name for name, _ in found]), [len(rows) for _, rows in found])
    rows = np.concatenate([rows for _, rows in found])
    size = forest.sizes()[forest.root[rows]]
    order = np.lexsort((rows, tracks.t[rows], forest.root[rows], -size))
    table: dict[str, npt.NDArray[Any]] = {"what": what[order], **about(tracks, rows[order])}
    return {**table, "root": tracks.id[forest.root[rows[order]]], "lineage_spots": size[order]}


def _further_parents(tracks: Tracks, forest: Forest) -> Bool:
    """(M,) forward links whose target has another parent in its tree."""
    source, target = tracks.links.T
    mask: Bool = (tracks.t[target] > tracks.t[source]) & (forest.parent[target] != source)
    return mask
