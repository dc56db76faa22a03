"""What differs between two annotations of one movie: spots and links added, removed, moved, reshaped, relabelled, retagged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.dtypes import StringDType

from bdv_io.errors import ValidationError
from bdv_io.tags import UNTAGGED, Tag, TagSet
from bdv_io.tracks import Tracks

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

__all__ = [
    "REVIEW",
    "Difference",
    "difference",
    "link_keys",
    "match_spots",
    "refuse_other_units",
    "review",
    "same_shape",
    "tag_names",
]

ROUNDING = 1e-9  # relative: numbers that went through text or a registration
REVIEW = "Difference"
COLOURS = {"added": 0xFF2CA02C, "removed": 0xFFD62728, "moved": 0xFFFF7F0E, "changed": 0xFF1F77B4}


@dataclass(frozen=True, eq=False)
class Difference:
    """What happened between a first and a second annotation. Rows are those of the annotation that is named.

    Attributes:
        pairs: (K, 2) int64, rows of the spots that are taken to be the same, in the first and in the second.
        removed: Rows of spots of the first that the second lacks.
        added: Rows of spots of the second that the first lacks.
        distance: (K,) how far each pair lies apart, world units; 0 where it is the same place but for rounding.
        reshaped: (K,) whether the ellipsoid differs.
        relabelled: (K,) whether the label differs.
        retagged: Name of tag set -> (K,) whether the tag differs.
        links_removed: Rows of links of the first that the second lacks.
        links_added: Rows of links of the second that the first lacks.
        link_pairs: (L, 2) rows of the links that are in both.
        links_retagged: Name of tag set -> (L,) whether the tag differs.
        notes: Sentences about the rest: units, tag sets, features.
    """

    pairs: I64
    removed: I64
    added: I64
    distance: F64
    reshaped: Bool
    relabelled: Bool
    retagged: Mapping[str, Bool]
    links_removed: I64
    links_added: I64
    link_pairs: I64
    links_retagged: Mapping[str, Bool]
    notes: tuple[str, ...] = field(default=())

    @property
    def moved(self) -> Bool:
        """(K,) whether the two spots of a pair lie apart."""
        moved: Bool = self.distance > 0
        return moved

    @property
    def counts(self) -> dict[str, int]:
        """How many spots and links of each kind of difference there are."""
        return {
            "spots_added": len(self.added),
            "spots_removed": len(self.removed),
            "spots_moved": int(self.moved.sum()),
            "spots_reshaped": int(self.reshaped.sum()),
            "spots_relabelled": int(self.relabelled.sum()),
            "spots_retagged": int(_any(self.retagged, len(self.pairs)).sum()),
            "links_added": len(self.links_added),
            "links_removed": len(self.links_removed),
            "links_retagged": int(_any(self.links_retagged, len(self.link_pairs)).sum()),
        }

    def __bool__(self) -> bool:
        """Whether there is any difference."""
        return any(self.counts.values()) or bool(self.notes)


def difference(first: Tracks, second: Tracks, *, reach: float | None = None) -> Difference:
    """Compare two annotations of one movie.

    Args:
        first: The earlier one.
        second: The later one.
        reach: How far a spot may have moved and still be the same, world units; default the mean radius of the spots.

    Raises:
        ValidationError: The units of length differ.
    """
    refuse_other_units(first, second, "Comparing")
    pairs = match_spots(first, second, reach=reach)
    a, b = pairs[:, 0], pairs[:, 1]
    distance = np.linalg.norm(first.centre[a] - second.centre[b], axis=1)
    distance[np.isclose(first.centre[a], second.centre[b], rtol=ROUNDING, atol=0, equal_nan=True).all(axis=1)] = 0.0
    mine, theirs = link_keys(first, second, pairs)
    _, left, right = np.intersect1d(mine, theirs, return_indices=True)
    link_pairs = np.stack([left, right], axis=1).astype(np.int64)
    names = list(dict.fromkeys(tags.name for tags in (*first.tag_sets, *second.tag_sets)))
    return Difference(
        pairs=pairs,
        removed=_without(first.n_spots, a),
        added=_without(second.n_spots, b),
        distance=distance,
        reshaped=~same_shape(first.covariance[a], second.covariance[b]),
        relabelled=np.array(
            [x != y for x, y in zip(first.label[a].tolist(), second.label[b].tolist(), strict=True)], bool
        ),
        retagged={n: tag_names(first, n)[a] != tag_names(second, n)[b] for n in names},
        links_removed=_without(first.n_links, left),
        links_added=_without(second.n_links, right),
        link_pairs=link_pairs,
        links_retagged={
            n: tag_names(first, n, links=True)[left] != tag_names(second, n, links=True)[right] for n in names
        },
        notes=tuple(_notes(first, second)),
    )


def refuse_other_units(first: Tracks, second: Tracks, action: str) -> None:
    """Raise a ValidationError if two annotations measure in different units of length."""
    if first.space_unit != second.space_unit and first.n_spots and second.n_spots:
        raise ValidationError(
            f"{action} two annotations failed: one measures in '{first.space_unit}', the other in '{second.space_unit}'. "
            "Convert one of them first."
        )


def match_spots(first: Tracks, second: Tracks, *, reach: float | None = None) -> I64:
    """Return (K, 2) rows of spots that are the same: first those at the same place, then mutual nearest ones in reach.

    Ids do not count: Mastodon numbers spots anew at every save.
    """
    left, right = _equal_rows(_keys(first), _keys(second))
    rest_a, rest_b = _without(first.n_spots, left), _without(second.n_spots, right)
    far = _mean_radius(first, second) if reach is None else reach
    near = _nearest(first, second, rest_a, rest_b, far)
    found = np.concatenate([np.stack([left, right], axis=1), near])
    return found[np.argsort(found[:, 0], kind="stable")]


def review(first: Tracks, second: Tracks, found: Difference) -> Tracks:
    """Return the second annotation, and the spots that it lacks, with a tag set that says what happened to each.

    Spots and links carry the tags added, removed, moved or changed of the tag set ``Difference``.
    """
    both = second.concatenate(first.select(found.removed))
    tags = np.full(both.n_spots, UNTAGGED, np.int32)
    order = list(COLOURS)
    changed = found.reshaped | found.relabelled | _any(found.retagged, len(found.pairs))
    tags[found.pairs[changed, 1]] = order.index("changed")
    tags[found.pairs[found.moved, 1]] = order.index("moved")
    tags[found.added] = order.index("added")
    tags[second.n_spots :] = order.index("removed")
    link_tags = np.full(both.n_links, UNTAGGED, np.int32)
    link_tags[found.link_pairs[_any(found.links_retagged, len(found.link_pairs)), 1]] = order.index("changed")
    link_tags[found.links_added] = order.index("added")
    link_tags[second.n_links :] = order.index("removed")
    colours = tuple(Tag(name, colour) for name, colour in COLOURS.items())
    return both.with_tags(TagSet(REVIEW, colours, tags, link_tags))


def tag_names(tracks: Tracks, name: str, *, links: bool = False) -> npt.NDArray[Any]:
    """Return the name of each spot's (or link's) tag of a set as text, empty where there is none."""
    tags = tracks.tag_set(name)
    column = np.full(tracks.n_links if links else tracks.n_spots, UNTAGGED) if tags is None else tags.spots
    if tags is not None and links:
        column = tags.links
    names = [tag.name for tag in tags.tags] if tags is not None else []
    texts: npt.NDArray[Any] = np.array([*names, ""], dtype=StringDType())[column]
    return texts


def same_shape(first: F64, second: F64) -> Bool:
    """Return the (K,) mask of equal covariances (K, 3, 3), but for rounding."""
    scale = np.abs(first).max(axis=(1, 2), initial=0.0)
    with np.errstate(invalid="ignore"):
        close = np.abs(first - second).max(axis=(1, 2), initial=0.0) <= 1e-6 * scale
    same: Bool = close | ((first == second) | (np.isnan(first) & np.isnan(second))).all(axis=(1, 2))
    return same


def link_keys(first: Tracks, second: Tracks, pairs: I64) -> tuple[I64, I64]:
    """Return one number a link, equal in both annotations where both ends are the same spots."""
    names = np.arange(second.n_spots, dtype=np.int64) + first.n_spots
    names[pairs[:, 1]] = pairs[:, 0]
    n = first.n_spots + second.n_spots
    ends = names[second.links]
    return first.links[:, 0] * n + first.links[:, 1], ends[:, 0] * n + ends[:, 1]


def _keys(tracks: Tracks) -> npt.NDArray[np.void]:
    """Frame and centre of each spot as one comparable item."""
    table = np.empty((tracks.n_spots, 4))
    table[:, 0], table[:, 1:] = tracks.t, tracks.centre + 0.0  # -0 becomes 0
    return np.ascontiguousarray(table).view(np.dtype((np.void, 32))).reshape(-1)


def _equal_rows(first: npt.NDArray[np.void], second: npt.NDArray[np.void]) -> tuple[I64, I64]:
    """Pair equal items; of items that occur several times the first with the first, the second with the second."""
    _, group = np.unique(np.concatenate([first, second]), return_inverse=True)
    a, b = _occurrences(group[: len(first)]), _occurrences(group[len(first) :])
    most = int(max(a.max(initial=0), b.max(initial=0))) + 1
    mine, theirs = group[: len(first)] * most + a, group[len(first) :] * most + b
    _, left, right = np.intersect1d(mine, theirs, assume_unique=True, return_indices=True)
    return left.astype(np.int64), right.astype(np.int64)


def _occurrences(group: I64) -> I64:
    """Count for each item how many equal ones stand before it."""
    order = np.argsort(group, kind="stable")
    ordered = group[order]
    fresh = np.ones(len(group), dtype=bool)
    fresh[1:] = ordered[1:] != ordered[:-1]
    start = np.flatnonzero(fresh)
    lengths = np.diff(np.append(start, len(group)))
    counts = np.empty(len(group), np.int64)
    counts[order] = np.arange(len(group)) - np.repeat(start, lengths)
    return counts


def _nearest(first: Tracks, second: Tracks, rows_a: I64, rows_b: I64, reach: float) -> I64:
    """Pair spots of one frame that are each other's nearest."""
    from scipy.spatial import cKDTree

    rows_a = rows_a[np.isfinite(first.centre[rows_a]).all(axis=1)]
    rows_b = rows_b[np.isfinite(second.centre[rows_b]).all(axis=1)]
    found = [np.empty((0, 2), np.int64)]
    for frame in np.intersect1d(first.t[rows_a], second.t[rows_b]):
        a, b = rows_a[first.t[rows_a] == frame], rows_b[second.t[rows_b] == frame]
        there, nearest = cKDTree(second.centre[b]).query(first.centre[a])
        to_b = np.asarray(nearest)
        to_a = np.asarray(cKDTree(first.centre[a]).query(second.centre[b])[1])
        mutual = (to_a[to_b] == np.arange(len(a))) & (there <= reach)
        found.append(np.stack([a[mutual], b[to_b[mutual]]], axis=1))
    return np.concatenate(found)


def _mean_radius(first: Tracks, second: Tracks) -> float:
    volumes = np.concatenate([np.linalg.det(tracks.covariance) for tracks in (first, second)])
    radii = volumes[np.isfinite(volumes) & (volumes > 0)] ** (1 / 6)
    return float(radii.mean()) if len(radii) else 1.0


def _without(n: int, rows: npt.NDArray[np.integer]) -> I64:
    left = np.ones(n, dtype=bool)
    left[rows] = False
    return np.flatnonzero(left).astype(np.int64)


def _any(masks: Mapping[str, Bool], n: int) -> Bool:
    found = np.zeros(n, dtype=bool)
    for mask in masks.values():
        found |= mask
    return found


def _notes(first: Tracks, second: Tracks) -> list[str]:
    notes = []
    for what, mine, theirs in (
        ("unit of time", first.time_unit, second.time_unit),
        ("frame interval", first.interval, second.interval),
    ):
        if mine != theirs:
            notes.append(f"The {what} was {mine} and is {theirs}.")
    before, after = (
        {tags.name: tags.tags for tags in first.tag_sets},
        {tags.name: tags.tags for tags in second.tag_sets},
    )
    notes += [f"Tag set '{name}' is gone." for name in before if name not in after]
    notes += [f"Tag set '{name}' is new." for name in after if name not in before]
    notes += [f"The tags of set '{n}' changed." for n in before if n in after and before[n] != after[n]]
    mine_f, theirs_f = {f.key for f in first.features}, {f.key for f in second.features}
    gone, new = (
        sorted(" ".join(k[1:]).strip() for k in mine_f - theirs_f),
        sorted(" ".join(k[1:]).strip() for k in theirs_f - mine_f),
    )
    notes += [f"Features are gone: {', '.join(gone)}."] if gone else []
    notes += [f"Features are new: {', '.join(new)}."] if new else []
    return notes
