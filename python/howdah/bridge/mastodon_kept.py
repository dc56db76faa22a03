"""What a project file holds and a running Mastodon does not: it is carried over when the open project is saved.

That is Howdah's own entry (outlines, numbers of spots, the frame interval), features of programs that this Mastodon does not know, and any
other entry. Mastodon's own saving drops them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from bdv_io.difference import match_spots, same_shape
from bdv_io.errors import BdvIoError
from bdv_io.mastodon.container import MODEL, PROJECT
from bdv_io.mastodon.feature_files import contained_name, container_of
from bdv_io.mastodon.model_file import read_model
from bdv_io.mastodon.project import tracks_of_entries
from bdv_io.mastodon.sidecar import SIDECAR, sidecar_of
from bdv_io.tags import Feature
from bdv_io.tracks import Tracks

__all__ = ["carry_over"]

FEATURES, RAW = "features/", ".raw"
OWN = frozenset({PROJECT, MODEL, "tags.raw", "gui.xml", "dataset.xml.backup", SIDECAR})  # written anew


def carry_over(
    old: Mapping[str, bytes], new: Mapping[str, bytes], *, known: Callable[[str], bool], also: Tracks | None, path: Path
) -> tuple[dict[str, bytes], list[str]]:
    """Return entries to add to those that Mastodon writes, and sentences about what could not be kept.

    Args:
        old: Entries of the file as it was.
        new: Entries that Mastodon writes, ``project.xml`` among them.
        known: Whether Mastodon knows a feature by this key: then its absence was somebody's wish.
        also: An annotation that was written into the open project and has outlines or a frame interval.
        path: The project, for error sentences.
    """
    kept = {name: data for name, data in old.items() if name not in OWN and not name.startswith(FEATURES)}
    lost = list[str]()
    missing = [_key(name) for name in old if name.startswith(FEATURES) and name not in new]
    strange = [key for key in missing if not known(key)]
    if strange and _same_rows(old, new):
        kept |= {f"{FEATURES}{key}{RAW}": old[f"{FEATURES}{key}{RAW}"] for key in strange}
    elif strange:
        lost.append(
            f"Features that this Mastodon does not know are left out, because spots or links have changed: {', '.join(strange)}."
        )
    gone = [key for key in missing if key not in strange]
    if gone:
        lost.append(f"Features that are no longer in Mastodon are left out: {', '.join(gone)}.")
    if SIDECAR in old or also is not None:
        own = _own_entry(old, new, also, path, lost)
        kept |= {SIDECAR: own} if own is not None else {}
    return kept, lost


def _key(name: str) -> str:
    return name[len(FEATURES) : -len(RAW)]


def _same_rows(old: Mapping[str, bytes], new: Mapping[str, bytes]) -> bool:
    """Whether all spots and links of the file are there, as they were and under their index; there may be more."""
    first, second = read_model(old[MODEL], MODEL), read_model(new[MODEL], MODEL)
    n, m = len(first.t), len(first.links)
    return (
        len(second.t) >= n
        and len(second.links) >= m
        and np.array_equal(first.t, second.t[:n])
        and np.array_equal(first.centre, second.centre[:n])
        and np.array_equal(first.links, second.links[:m])
    )


def _own_entry(
    old: Mapping[str, bytes], new: Mapping[str, bytes], also: Tracks | None, path: Path, lost: list[str]
) -> bytes | None:
    """Howdah's entry for the spots as they are now: by what the file said, and by what was written into the open project."""
    try:
        before = tracks_of_entries(old, path) if SIDECAR in old else None
    except BdvIoError as error:
        lost.append(f"Howdah's own entry of the file as it was is left out: {error}")
        before = None
    now = tracks_of_entries({**new, **({} if before is None else {SIDECAR: old[SIDECAR]})}, path)
    if before is not None:
        now = _with_ids(now, before)
    for source in (also, before):
        if source is None:
            continue
        if source.interval is not None and now.interval is None:
            now = replace(now, interval=source.interval, time_unit=source.time_unit)
        if len(source.outlines) and not len(now.outlines):
            now = _with_outlines(now, source, lost)
    if also is not None:
        now = replace(now, features=tuple(_named_as(feature, also) for feature in now.features))
    return sidecar_of(now, new[MODEL])


def _with_ids(now: Tracks, before: Tracks) -> Tracks:
    """The numbers that spots had in the file, and new ones for new spots."""
    if np.array_equal(before.id, np.arange(before.n_spots)):
        return now
    pairs = match_spots(before, now)
    ids = np.full(now.n_spots, -1, np.int64)
    ids[pairs[:, 1]] = before.id[pairs[:, 0]]
    fresh = np.flatnonzero(ids < 0)
    ids[fresh] = before.id.max(initial=-1) + 1 + np.arange(len(fresh))
    return replace(now, id=ids)


def _with_outlines(now: Tracks, source: Tracks, lost: list[str]) -> Tracks:
    """The outlines of spots that still have their ellipsoid; they move with their spots."""
    a, b = match_spots(source, now).T
    same = same_shape(source.covariance[a], now.covariance[b])
    new_row, shift = np.full(source.n_spots, -1, np.int64), np.zeros((now.n_spots, 3))
    new_row[a[same]] = b[same]
    shift[b[same]] = now.centre[b[same]] - source.centre[a[same]]
    reshaped = int(np.isin(a[~same], source.outlines.spot).sum())
    if reshaped:
        lost.append(f"The outlines of {reshaped} spots that have another size or shape now are left out.")
    outlines = source.outlines.given_to(new_row)
    return replace(now, outlines=outlines.moved(shift) if len(outlines) else outlines)


def _named_as(feature: Feature, source: Tracks) -> Feature:
    """A feature of one of Mastodon's two containers under the name that it had in an annotation."""
    for own in source.features:
        if feature.target == own.target and (container_of(own), contained_name(own)) == (
            feature.name,
            feature.projection,
        ):
            return replace(feature, name=own.name, projection=own.projection)
    return feature
