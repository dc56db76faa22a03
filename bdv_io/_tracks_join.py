"""Growing annotations: further links, further spots, further tags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from bdv_io.errors import ValidationError
from bdv_io.tags import UNTAGGED, Feature, Tag, TagSet

if TYPE_CHECKING:
    from bdv_io.tracks import Tracks

__all__ = ["concatenate", "with_links", "with_tag_set"]

I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
T = TypeVar("T", bound="Tracks")


def with_links(tracks: T, links: I64) -> T:
    """Return ``tracks`` with further links (K, 2), untagged and without features."""
    m = tracks.n_links + len(links)
    return replace(
        tracks,
        links=np.concatenate([tracks.links, links]),
        tag_sets=tuple(replace(tags, links=_padded(tags.links, m)) for tags in tracks.tag_sets),
        features=tuple(f.extended(m) if f.target == "link" else f for f in tracks.features),
        carried=replace(tracks.carried, links=_extended(tracks.carried.links, m)),
    )


def concatenate(tracks: T, other: Tracks) -> T:
    """Return the spots and links of ``tracks``, then those of ``other``; see :meth:`Tracks.concatenate`."""
    if tracks.space_unit != other.space_unit and tracks.n_spots and other.n_spots:
        raise ValidationError(
            f"Joining two annotations failed: one measures in '{tracks.space_unit}', the other in '{other.space_unit}'. "
            "Convert one of them first."
        )
    n = tracks.n_spots
    grown = with_links(tracks, other.links + n)
    return replace(
        grown,
        t=np.concatenate([tracks.t, other.t]),
        centre=np.concatenate([tracks.centre, other.centre]),
        covariance=np.concatenate([tracks.covariance, other.covariance]),
        label=np.concatenate([tracks.label, other.label]),
        quality=np.concatenate([tracks.quality, other.quality]),
        id=np.concatenate([tracks.id, _free_ids(tracks.id, other.id)]),
        tag_sets=_joined_tags(tracks, other),
        features=_joined_features(tracks, other),
        outlines=tracks.outlines.followed_by(other.outlines, n),
        carried=replace(grown.carried, spots=_extended(tracks.carried.spots, n + other.n_spots)),
    )


def with_tag_set(tracks: T, name: str, tags: tuple[Tag, ...]) -> T:
    """Return ``tracks`` with a tag set of this name that has these tags besides those it had."""
    known = tracks.tag_set(name) or TagSet.empty(name, (), tracks.n_spots, tracks.n_links)
    new = tuple(tag for tag in tags if known.position(tag.name) == UNTAGGED)
    return tracks.with_tags(replace(known, tags=known.tags + new))


def _free_ids(taken: I64, wanted: I64) -> I64:
    if len(taken) and len(wanted) and np.isin(wanted, taken, kind="sort").any():
        return np.arange(len(wanted), dtype=np.int64) + max(int(taken.max()), int(wanted.max())) + 1
    return wanted


def _joined_tags(first: Tracks, second: Tracks) -> tuple[TagSet, ...]:
    joined = []
    for name in dict.fromkeys(tags.name for tags in (*first.tag_sets, *second.tag_sets)):
        mine = first.tag_set(name) or TagSet.empty(name, (), first.n_spots, first.n_links)
        theirs = second.tag_set(name) or TagSet.empty(name, (), second.n_spots, second.n_links)
        tags = mine.tags + tuple(tag for tag in theirs.tags if mine.position(tag.name) == UNTAGGED)
        union = replace(mine, tags=tags)
        places = np.array([*(union.position(tag.name) for tag in theirs.tags), UNTAGGED], dtype=np.int32)
        spots = np.concatenate([mine.spots, places[theirs.spots]])
        joined.append(replace(union, spots=spots, links=np.concatenate([mine.links, places[theirs.links]])))
    return tuple(joined)


def _joined_features(first: Tracks, second: Tracks) -> tuple[Feature, ...]:
    joined = []
    n, m = first.n_spots + second.n_spots, first.n_links + second.n_links
    before, after = {f.key: f for f in first.features}, {f.key: f for f in second.features}
    for key in dict.fromkeys([*before, *after]):
        mine, theirs = before.get(key), after.get(key)
        rows, total = (first.n_links, m) if key[0] == "link" else (first.n_spots, n)
        if theirs is None and mine is not None:
            joined.append(mine.extended(total))
        elif theirs is not None:
            blank = replace(theirs, values=theirs.values[:0], defined=None).extended(rows)
            joined.append(_stacked(mine or blank, theirs))
    return tuple(joined)


def _stacked(mine: Feature, theirs: Feature) -> Feature:
    values = np.concatenate([mine.values, theirs.values])
    if mine.defined is None and theirs.defined is None:
        return replace(mine, values=values)
    masks = [np.ones(len(f.values), dtype=bool) if f.defined is None else f.defined for f in (mine, theirs)]
    return replace(mine, values=values, defined=np.concatenate(masks))


def _padded(column: I32, n: int) -> I32:
    return np.concatenate([column, np.full(n - len(column), UNTAGGED, dtype=np.int32)])


def _extended(columns: Mapping[str, npt.NDArray[Any]], n: int) -> dict[str, npt.NDArray[Any]]:
    """Carried columns with rows appended that mean "not known": NaN, -1 for whole numbers, None for texts."""
    grown = {}
    for name, column in columns.items():
        filler: Any = {"f": np.nan, "T": None}.get(column.dtype.kind, -1)
        grown[name] = np.concatenate(
            [column, np.full((n - len(column), *column.shape[1:]), filler, dtype=column.dtype)]
        )
    return grown
