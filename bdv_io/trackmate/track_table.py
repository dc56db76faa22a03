"""Tracks as TrackMate lists them: number, name, and counts that follow from spots and links."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bdv_io.tracks import Tracks

I64 = npt.NDArray[np.int64]

__all__ = ["TrackTable", "track_marks", "track_table"]


class TrackTable(NamedTuple):
    """One row a track; single spots are in no track.

    Attributes:
        names: Name of each track.
        columns: Declared track features by key, (K,) each.
        links: For each track the rows of its links, in order of time.
        shown: (K,) bool, whether the track is among the filtered ones, those that TrackMate shows.
    """

    names: list[str]
    columns: dict[str, npt.NDArray[Any]]
    links: list[list[int]]
    shown: npt.NDArray[np.bool_]


def track_table(tracks: Tracks, carried: Mapping[str, npt.NDArray[Any]], names: Mapping[str, str]) -> TrackTable:
    """Return the tracks of an annotation in order of their first spot.

    Args:
        tracks: The annotation.
        carried: Columns ``track_id`` and ``track_shown`` of the file that it came from; may be empty.
        names: Names of that file's tracks, by the text of their number.
    """
    source, target = tracks.links.T
    track, track_of_link, k = _numbered(tracks)
    inside = track >= 0
    span = (tracks.t[target] - tracks.t[source]).astype(np.int64)
    first, last, longest = np.full(k, np.iinfo(np.int64).max), np.zeros(k, np.int64), np.zeros(k, np.int64)
    np.minimum.at(first, track[inside], tracks.t[inside])
    np.maximum.at(last, track[inside], tracks.t[inside])
    np.maximum.at(longest, track_of_link, span - 1)
    splits, merges = tracks.n_children() > 1, tracks.n_parents() > 1

    def count(mask: npt.NDArray[np.bool_]) -> I64:
        return np.bincount(track[mask & inside], minlength=k)

    ids = _track_ids(track, inside, k, carried.get("track_id"))
    step = tracks.interval or 1.0
    columns: dict[str, npt.NDArray[Any]] = {
        "TRACK_ID": ids,
        "TRACK_INDEX": np.arange(k),
        "NUMBER_SPOTS": count(inside),
        "NUMBER_GAPS": np.bincount(track_of_link[span > 1], minlength=k),
        "NUMBER_SPLITS": count(splits & ~merges),
        "NUMBER_MERGES": count(merges & ~splits),
        "NUMBER_COMPLEX": count(splits & merges),
        "LONGEST_GAP": longest,
        "TRACK_DURATION": (last - first) * step,
        "TRACK_START": first * step,
        "TRACK_STOP": last * step,
    }
    order = np.lexsort((tracks.t[source], track_of_link))
    ends = np.searchsorted(track_of_link[order], np.arange(1, k))
    links = [rows.tolist() for rows in np.split(order, ends)] if k else []
    shown = np.ones(k, dtype=bool)
    if "track_shown" in carried:
        hidden = carried["track_shown"] == 0
        shown = count(hidden) < columns["NUMBER_SPOTS"]
    return TrackTable([names.get(str(i), f"Track_{i}") for i in ids.tolist()], columns, links, shown)


def track_marks(tracks: Tracks, carried: Mapping[str, npt.NDArray[Any]]) -> tuple[I64, I64]:
    """Return the number of each track, and a mark that changes when one of its spots or links does.

    The mark is a sum of hashes of number, frame, place and shape of spots, and of ends of links, so their order is free.
    """
    track, track_of_link, k = _numbered(tracks)
    inside = np.flatnonzero(track >= 0)
    shape = np.einsum("nij,ij->n", tracks.covariance, np.arange(1.0, 10).reshape(3, 3))
    spots = _hashed([tracks.id, tracks.t.astype(np.int64), *(tracks.centre + 0.0).T, shape])
    links = _hashed([*tracks.id[tracks.links].T])
    marks = np.zeros(k, dtype=np.uint64)
    np.add.at(marks, track[inside], spots[inside])
    np.add.at(marks, track_of_link, links)
    return _track_ids(track, track >= 0, k, carried.get("track_id")), marks.view(np.int64)


def _numbered(tracks: Tracks) -> tuple[I64, I64, int]:
    """The track of each spot, -1 for single ones, the track of each link, and how many tracks there are."""
    _, component = tracks.tracks()
    used, track_of_link = np.unique(component[tracks.links[:, 0]], return_inverse=True)
    place = np.full(int(component.max()) + 1 if tracks.n_spots else 0, -1, dtype=np.int64)
    place[used] = np.arange(len(used))
    return place[component], track_of_link, len(used)


def _hashed(columns: list[npt.NDArray[Any]]) -> npt.NDArray[np.uint64]:
    mixed = np.zeros(len(columns[0]), dtype=np.uint64)
    for column in columns:
        mixed ^= np.ascontiguousarray(column).view(np.uint64)
        mixed *= np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return mixed


def _track_ids(track: I64, inside: npt.NDArray[np.bool_], k: int, known: npt.NDArray[Any] | None) -> I64:
    """The number that each track had, where it has one of its own; else free numbers."""
    if known is None or not k:
        return np.arange(k, dtype=np.int64)
    wanted = np.full(k, np.iinfo(np.int64).max)
    had = inside & (known >= 0)
    np.minimum.at(wanted, track[had], known[had])
    ids = np.full(k, -1, dtype=np.int64)
    unique, first = np.unique(wanted, return_index=True)
    real = unique < np.iinfo(np.int64).max
    ids[first[real]] = unique[real]
    free = np.flatnonzero(ids < 0)
    ids[free] = int(known.max(initial=-1)) + 1 + np.arange(len(free))
    return ids
