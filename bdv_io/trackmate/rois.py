"""TrackMate's ROIs: one polygon a spot as text, ``x0 y0 x1 y1 ...``, physical, relative to POSITION_X and POSITION_Y."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io.errors import FormatError
from bdv_io.outlines import Outlines
from bdv_io.tracks import Tracks

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = ["RoiWriter", "read_outlines"]

BLOCK = 20_000
DIGITS = 17
MOST = 2**31


def read_outlines(texts: Any, n_points: F64, centre: F64, *, file: Path) -> Outlines:
    """Return the outlines of spots whose element has ROI_N_POINTS above 2, each in the plane of its spot.

    Args:
        texts: (N,) what stands inside each spot element, or None; None if no spot has anything inside.
        n_points: (N,) ROI_N_POINTS, 0 where there is none.
        centre: (N, 3) centres (z, y, x), world.
        file: For messages.

    Raises:
        FormatError: A text has too few numbers, or something else than numbers.
    """
    told = np.flatnonzero(n_points > 2)
    if not len(told):
        return Outlines.empty()
    most = float(n_points[told].max())
    if most >= MOST or (n_points[told] != np.floor(n_points[told])).any():
        raise FormatError(
            f"Reading {file} failed: ROI_N_POINTS must be a whole number below 2^31; the largest is {most:g}."
        )
    wanted = n_points[told].astype(np.int64)
    parts = []
    for start in range(0, len(told), BLOCK):
        rows = told[start : start + BLOCK]
        inside = texts[rows].tolist() if texts is not None else [None] * len(rows)
        words = [
            (text or "").split()[: 2 * n]
            for text, n in zip(inside, wanted[start : start + BLOCK].tolist(), strict=True)
        ]
        for row, n, found in zip(rows.tolist(), wanted[start : start + BLOCK].tolist(), words, strict=True):
            if len(found) < 2 * n:
                raise FormatError(
                    f"Reading {file} failed: spot number {row + 1} has ROI_N_POINTS {n}, but {len(found)} numbers; expected {2 * n}."
                )
        parts.append(_numbers(words, file))
    relative = np.concatenate(parts).reshape(-1, 2)
    if not np.isfinite(relative).all():
        raise FormatError(f"Reading {file} failed: a ROI has a vertex that is not a finite number.")
    vertices = relative[:, ::-1] + np.repeat(centre[told, 1:], wanted, axis=0)
    return Outlines.build(told, centre[told, 0], n_vertices=wanted, vertices=vertices)


def _numbers(words: list[list[str]], file: Path) -> F64:
    try:
        return np.fromiter(map(float, chain.from_iterable(words)), np.float64)
    except ValueError as error:
        raise FormatError(f"Reading {file} failed: a ROI holds something that is no number ({error}).") from None


class RoiWriter:
    """Spells the outlines of spots: the largest ring of each, for TrackMate knows one polygon without holes.

    Where spot and outline are as they were read, the text is the one that was read.
    """

    def __init__(self, tracks: Tracks, carried: Any) -> None:
        self.outlines, self.centre, self.carried = tracks.outlines, tracks.centre, carried
        self.ring = largest_rings(self.outlines, tracks.n_spots)

    def texts(self, rows: I64) -> list[tuple[int, str | None]]:
        """For each spot the number of its vertices (0 for no outline), and what stands inside its element."""
        inside: list[str | None] = self.carried[rows].tolist() if self.carried is not None else [None] * len(rows)
        rings = self.ring[rows]
        places = np.flatnonzero(rings >= 0)
        made: list[tuple[int, str | None]] = [(0, text) for text in inside]
        if not len(places):
            return made
        counts = self.outlines.n_vertices[rings[places]]
        ends = np.cumsum(counts)
        source = np.repeat(self.outlines.start[rings[places]] - ends + counts, counts) + np.arange(ends[-1])
        vertices = self.outlines.vertices[source]
        base = np.repeat(self.centre[rows[places], 1:], counts, axis=0)
        same = self._unchanged([inside[i] for i in places.tolist()], counts, vertices, base)
        fresh = np.repeat(~same, counts)
        words = list(map(repr, _shortest(vertices[fresh], base[fresh])[:, ::-1].ravel().tolist()))
        first = 0
        for place, n, kept in zip(places.tolist(), counts.tolist(), same.tolist(), strict=True):
            made[place] = (n, inside[place] if kept else " ".join(words[first : first + 2 * n]))
            first += 0 if kept else 2 * n
        return made

    def _unchanged(self, texts: list[str | None], counts: I64, vertices: F64, base: F64) -> npt.NDArray[np.bool_]:
        """Which texts give these very vertices around the spots as they are now."""
        words = [(text or "").split() for text in texts]
        same = np.array([len(found) == 2 * n for found, n in zip(words, counts.tolist(), strict=True)])
        if not same.any():
            return same
        try:
            relative = np.fromiter(
                map(float, chain.from_iterable(w for w, fits in zip(words, same.tolist(), strict=True) if fits)),
                np.float64,
            )
        except ValueError:  # children of a later version, say
            return np.zeros(len(texts), dtype=bool)
        fits = np.repeat(same, counts)
        equal = (relative.reshape(-1, 2)[:, ::-1] + base[fits] == vertices[fits]).all(axis=1)
        starts = np.concatenate([[0], np.cumsum(counts[same])[:-1]])
        same[same] = np.logical_and.reduceat(equal, starts)
        return same


def largest_rings(outlines: Outlines, n_spots: int) -> I64:
    """(N,) the ring of each spot that has the largest area, which no other encloses; -1 for none."""
    ring = np.full(n_spots, -1, dtype=np.int64)
    order = np.lexsort((-np.arange(len(outlines)), np.abs(outlines.areas())))
    ring[outlines.spot[order]] = order
    return ring


def _shortest(vertices: F64, base: F64) -> F64:
    """Vertices relative to ``base``, in as few digits as give the same vertices when they are added again.

    Where none does (a vertex nearer to 0 than its spot has finer digits than the difference) the last digit may differ.
    """
    exact = vertices - base
    flat, goal, origin = exact.ravel(), vertices.ravel(), base.ravel()
    left = np.arange(len(flat))
    for digits in range(DIGITS):
        with np.errstate(over="ignore", invalid="ignore"):
            tried = np.round(flat[left], digits)
        good = origin[left] + tried == goal[left]
        flat[left[good]] = tried[good]
        left = left[~good]
        if not len(left):
            return exact
    left = left[origin[left] + flat[left] != goal[left]]
    for neighbour in (np.inf, -np.inf):
        tried = np.nextafter(flat[left], neighbour)
        good = origin[left] + tried == goal[left]
        flat[left[good]] = tried[good]
        left = left[~good]
    return exact
