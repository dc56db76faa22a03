"""Numbers of lineages as tables: divisions, cell cycles, what each frame holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io.tracks import Tracks
from howdah.lineages.forest import Forest, grow
from howdah.lineages.protection import approved_divisions

I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]
Table = dict[str, npt.NDArray[Any]]

__all__ = [
    "Table",
    "about",
    "cell_cycles",
    "divisions_per_frame",
    "divisions_per_progenitor",
    "divisions_per_track",
    "statistics_per_frame",
]


def about(tracks: Tracks, rows: npt.NDArray[np.intp] | I64) -> Table:
    """Return columns that let a person find spots: ``spot`` (id), ``label``, ``frame``, ``z``, ``y``, ``x`` (world)."""
    z, y, x = tracks.centre[rows].T
    label = np.array([name or "" for name in tracks.label[rows].tolist()], dtype=object)
    return {"spot": tracks.id[rows], "label": label, "frame": tracks.t[rows], "z": z, "y": y, "x": x}


def divisions_per_frame(tracks: Tracks, *, approved_only: bool = False) -> Table:
    """Count divisions by the frame of the mother's last spot.

    Args:
        tracks: The annotation.
        approved_only: Only of mothers that are tagged Approved, or all whose links to daughters are.

    Returns:
        Columns ``frame`` (each from 0 to the last), ``divisions``.
    """
    counts = np.bincount(tracks.t[_mothers(tracks, grow(tracks), approved_only)], minlength=tracks.n_frames)
    return {"frame": np.arange(tracks.n_frames), "divisions": counts}


def divisions_per_track(tracks: Tracks, *, approved_only: bool = False) -> Table:
    """Count divisions of each tree.

    Returns:
        Columns ``root`` (id), ``label``, ``first_frame``, ``last_frame``, ``spots``, ``divisions``, ``ends`` (branches at the
        end); one row a tree, in order of the roots' rows.
    """
    forest = grow(tracks)
    return _per_group(tracks, forest, forest.root, np.flatnonzero(forest.is_root), approved_only=approved_only)


def divisions_per_progenitor(
    tracks: Tracks, rows: npt.ArrayLike | None = None, *, frame: int | None = None, approved_only: bool = False
) -> Table:
    """Count divisions among the descendants of each progenitor.

    Args:
        tracks: The annotation.
        rows: Rows of the progenitors; None: all spots of ``frame`` that have no parent.
        frame: See ``rows``; None is the first frame that has spots.
        approved_only: As in :func:`divisions_per_frame`.

    Returns:
        Columns as in :func:`divisions_per_track`; ``root`` is the progenitor.
    """
    forest = grow(tracks)
    chosen = forest.roots_of(frame) if rows is None else np.asarray(rows, np.int64)
    return _per_group(tracks, forest, forest.founder(chosen), chosen, approved_only=approved_only)


def cell_cycles(tracks: Tracks, *, complete_only: bool = True) -> Table:
    """Return the cells with the time from their birth to their own division.

    The time runs from the last spot of the mother to the last spot of the cell, both before a division.

    Args:
        tracks: The annotation.
        complete_only: Only cells whose birth and division were both seen; else all, and ``end`` says how far it goes.

    Returns:
        Columns ``cell`` (id of its first spot), ``mother`` (id of the mother's last spot, -1 if unknown), ``root`` (id), ``label``
        (of the first spot), ``first_frame``, ``last_frame``, ``frames`` (the time in frames; without a birth counted from
        the first spot), ``time`` (in ``tracks.time_unit``; NaN if the interval is unknown), ``begins`` ("division" or
        "start") and ``end`` ("division", "last frame" or "lost").
    """
    forest = grow(tracks)
    first = np.flatnonzero(forest.cell == np.arange(tracks.n_spots))
    last = forest.cell_end[first]
    born, divides = ~forest.is_root[first], forest.divides[last]
    if complete_only:
        kept = born & divides
        first, last, born, divides = first[kept], last[kept], born[kept], divides[kept]
    mother = forest.parent[first]
    frames = (tracks.t[last] - tracks.t[mother]).astype(np.int64)
    interval = np.nan if tracks.interval is None else tracks.interval
    at_end = tracks.t[last] == tracks.n_frames - 1
    return {
        "cell": tracks.id[first],
        "mother": np.where(born, tracks.id[mother], -1),
        "root": tracks.id[forest.root[first]],
        "label": about(tracks, first)["label"],
        "first_frame": tracks.t[first],
        "last_frame": tracks.t[last],
        "frames": frames,
        "time": frames * interval,
        "begins": np.where(born, "division", "start"),
        "end": np.where(divides, "division", np.where(at_end, "last frame", "lost")),
    }


def statistics_per_frame(tracks: Tracks) -> Table:
    """Return what each frame holds.

    Returns:
        Columns ``frame``, ``spots``, ``tracks`` (trees that have a spot in or, over a gap, across the frame are counted where they
        have one), ``divisions`` (mothers), ``starts`` (spots without parent), ``ends`` (spots without child), ``links`` (that
        lead to the frame).
    """
    forest = grow(tracks)
    n = tracks.n_frames

    def count(mask: Bool) -> I64:
        return np.bincount(tracks.t[mask], minlength=n)

    pairs = np.unique(forest.root * max(n, 1) + tracks.t)
    return {
        "frame": np.arange(n),
        "spots": np.bincount(tracks.t, minlength=n),
        "tracks": np.bincount(pairs % max(n, 1), minlength=n),
        "divisions": count(forest.divides),
        "starts": count(forest.is_root),
        "ends": count(forest.is_leaf),
        "links": np.bincount(tracks.t[tracks.links[:, 1]], minlength=n),
    }


def _mothers(tracks: Tracks, forest: Forest, approved_only: bool) -> Bool:
    return forest.divides & approved_divisions(tracks) if approved_only else forest.divides


def _per_group(tracks: Tracks, forest: Forest, group: I64, heads: I64, *, approved_only: bool) -> Table:
    """Counts of spots by the row ``group`` (N,) of their head, -1 for none; one row for each of ``heads``."""
    n = tracks.n_spots
    inside = np.flatnonzero(group >= 0)
    of = group[inside]
    last = np.zeros(n, dtype=np.int64)
    np.maximum.at(last, of, tracks.t[inside])

    def count(mask: Bool) -> I64:
        return np.bincount(of[mask[inside]], minlength=n)[heads]

    return {
        "root": tracks.id[heads],
        "label": about(tracks, heads)["label"],
        "first_frame": tracks.t[heads],
        "last_frame": last[heads],
        "spots": np.bincount(of, minlength=n)[heads],
        "divisions": count(_mothers(tracks, forest, approved_only)),
        "ends": count(forest.is_leaf),
    }
