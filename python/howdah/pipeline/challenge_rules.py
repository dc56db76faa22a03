"""The rules of the Cell Tracking Challenge for a result: the field of interest, and frames without cells."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from bdv_io import ImageSeries, Tracks
from howdah.methods.embedtrack.postprocess import inside_field
from howdah.pipeline.truth import LabelFrames

Bool = npt.NDArray[np.bool_]
I64 = npt.NDArray[np.int64]

__all__ = ["Challenge", "by_the_rules", "filled", "in_the_field"]


@dataclass(frozen=True)
class Challenge:
    """Rules of the Cell Tracking Challenge, for results in its format.

    Attributes:
        border: Width of the border outside of the field of interest, pixels of x and y: cells that lie wholly in it are left out.
        fill_empty: Give a frame without cells those of the nearest frame that has some, for the challenge allows no empty frame.
    """

    border: int = 0
    fill_empty: bool = False


def by_the_rules(tracks: Tracks, image: ImageSeries, rules: Challenge, *, setup: int = 0) -> Tracks:
    """Return an annotation as the challenge wants it; the image's frames say where the border is, and which are empty."""
    inside = in_the_field(tracks, image, rules.border, setup=setup) if rules.border else None
    kept = tracks if inside is None or inside.all() else _without(tracks, ~inside)
    return filled(kept, image.n_frames) if rules.fill_empty else kept


def in_the_field(tracks: Tracks, image: ImageSeries, border: int, *, setup: int = 0) -> Bool:
    """(N,) mask of spots with at least one pixel that is ``border`` pixels or more from the sides of the image in x and y."""
    found = np.zeros(tracks.n_spots, dtype=bool)
    labels = LabelFrames(tracks, image, setup)
    for t in np.unique(tracks.t).tolist():
        seen = inside_field(labels(t), border)
        found[labels.rows(t)[: len(seen)]] = seen
    return found


def _without(tracks: Tracks, gone: Bool) -> Tracks:
    """Leave spots out, and link over them, so that the table of tracks can name the old track as the parent of the new one."""
    parent = np.full(tracks.n_spots, -1, dtype=np.int64)
    parent[tracks.links[::-1, 1]] = tracks.links[::-1, 0]  # of several, the first
    origin = parent.copy()
    hidden = (origin >= 0) & gone[origin]
    while hidden.any():
        origin[hidden] = parent[origin[hidden]]
        hidden = (origin >= 0) & gone[origin]
    child = np.flatnonzero(~gone & (parent >= 0) & gone[parent] & (origin >= 0))
    return tracks.with_links(np.stack([origin[child], child], axis=1)).select(~gone)


def filled(tracks: Tracks, n_frames: int) -> Tracks:
    """Give each frame without spots those of the nearest frame that has some, of two equally near the earlier.

    Copies go on the track of what they are a copy of, where that track ends (or begins) there.
    """
    known = np.unique(tracks.t)
    empty = np.setdiff1d(np.arange(n_frames), known)
    if not len(known) or not len(empty):
        return tracks
    nearest = known[np.abs(known[None].astype(np.int64) - empty[:, None]).argmin(axis=1)]
    ends, begins = tracks.n_children() == 0, tracks.n_parents() == 0
    grown = tracks
    place: dict[tuple[int, int], int] = {}  # frame and row of the original -> row of the copy
    links: list[tuple[int, int]] = []
    for t, source in zip(empty.tolist(), nearest.tolist(), strict=True):
        rows = np.flatnonzero(tracks.t == source)
        copy = tracks.select(rows).select_links(np.empty(0, dtype=np.intp))
        start = grown.n_spots
        grown = grown.concatenate(replace(copy, t=np.full(len(rows), t, dtype=np.int32)))
        place |= {(t, row): start + number for number, row in enumerate(rows.tolist())}
        for row in rows.tolist():
            new = place[t, row]
            before = row if source == t - 1 and ends[row] else place.get((t - 1, row))
            if before is not None:
                links.append((before, new))
            if source == t + 1 and begins[row]:
                links.append((new, row))
    return grown.with_links(links) if links else grown
