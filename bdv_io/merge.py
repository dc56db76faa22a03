"""Merging two annotations of one movie, with or without the version that both began from. Nothing is dropped silently.

Spots that are the same (:func:`bdv_io.difference.match_spots`) become one. With the common version (a three-way merge),
what only one of the two changed is taken from it, and what one removed and the other left alone is removed. Without it,
and where both changed the same thing, the first wins, and the spot is tagged in the tag set ``Merge conflict``, so that
a person can decide.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.dtypes import StringDType

from bdv_io.difference import link_keys, match_spots, refuse_other_units, same_shape, tag_names
from bdv_io.tags import UNTAGGED, Tag, TagSet
from bdv_io.tracks import Tracks

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]
Texts = npt.NDArray[Any]

__all__ = ["CONFLICT", "merged"]

CONFLICT = "Merge conflict"
KINDS = {"place": 0xFFFF7F0E, "shape": 0xFFBCBD22, "label": 0xFF17BECF, "tag": 0xFF9467BD, "removed by one": 0xFFD62728}


def merged(first: Tracks, second: Tracks, *, base: Tracks | None = None, reach: float | None = None) -> Tracks:
    """Return both annotations as one: first the spots of ``first``, then those that only ``second`` has.

    Tag sets, features and outlines of both are kept; of a spot that is in both, the second's where the first has none.

    Args:
        first: Wins where the two contradict each other. Units and carried content are its own.
        second: The other one.
        base: The version that both began from.
        reach: How far a spot may have been moved and still be the same, world units; default the mean radius.

    Raises:
        ValidationError: The units of length differ.
    """
    refuse_other_units(first, second, "Merging")
    return _Merge(first, second, base, reach).result()


class _Merge:
    """The two annotations side by side. Rows of ``whole`` are those of the first, then those of the second."""

    def __init__(self, first: Tracks, second: Tracks, base: Tracks | None, reach: float | None) -> None:
        self.first, self.second, self.reach = first, second, reach
        self.is_three_way = base is not None
        self.base = base if base is not None else first.select(np.empty(0, np.int64))
        self.in_first, self.in_second = self._from_base(first), self._from_base(second)
        self.a, self.b = self._pairs().T
        origin = np.full(first.n_spots, -1, np.int64)
        there = self.in_first >= 0
        origin[self.in_first[there]] = np.flatnonzero(there)
        self.origin = origin[self.a]
        self.known = self.origin >= 0
        self.whole = first.concatenate(second)
        self.conflicts = np.full(self.whole.n_spots, UNTAGGED, np.int32)

    def result(self) -> Tracks:
        from_second = self._places_and_shapes()
        self._labels()
        self._tags()
        self._features()
        self._outlines(from_second)
        gone = self._removed_spots()
        self._links()
        if (self.conflicts != UNTAGGED).any():
            tags = tuple(Tag(name, colour) for name, colour in KINDS.items())
            untagged = np.full(self.whole.n_links, UNTAGGED, np.int32)
            self.whole = self.whole.with_tags(TagSet(CONFLICT, tags, self.conflicts, untagged))
        gone[self.b + self.first.n_spots] = True  # they are one with spots of the first
        return self.whole.select(~gone)

    # ---- which spots are the same ------------------------------------------------------------------------------

    def _from_base(self, tracks: Tracks) -> I64:
        """For each spot of the common version the row of the same spot in ``tracks``, or -1."""
        rows = np.full(self.base.n_spots, -1, np.int64)
        pairs = match_spots(self.base, tracks, reach=self.reach)
        rows[pairs[:, 0]] = pairs[:, 1]
        return rows

    def _pairs(self) -> I64:
        """Rows of the same spots: those that come from one spot of the common version, then those that match directly."""
        both = (self.in_first >= 0) & (self.in_second >= 0)
        rest_a = np.setdiff1d(np.arange(self.first.n_spots), self.in_first)
        rest_b = np.setdiff1d(np.arange(self.second.n_spots), self.in_second)
        direct = match_spots(self.first.select(rest_a), self.second.select(rest_b), reach=self.reach)
        known = np.stack([self.in_first[both], self.in_second[both]], axis=1)
        return np.concatenate([known, np.stack([rest_a[direct[:, 0]], rest_b[direct[:, 1]]], axis=1)])

    # ---- whose value a spot gets -------------------------------------------------------------------------------

    def _decide(self, kind: str, differs: Bool, *, first_is_base: Bool, second_is_base: Bool) -> Bool:
        """Return the pairs that take the second's value, and note those where both have changed."""
        take: Bool = np.logical_and(differs & self.known, first_is_base)
        conflict = differs & ~take & ~(self.known & second_is_base)
        self.conflicts[self.a[conflict]] = list(KINDS).index(kind)
        return take

    def _was(self, column: npt.NDArray[Any], like: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The common version's values of the pairs; those of ``like`` where it has none."""
        values = like.copy()
        values[self.known] = column[self.origin[self.known]]
        return values

    def _places_and_shapes(self) -> Bool:
        whole, first, second, base = self.whole, self.first, self.second, self.base
        mine, theirs = first.centre[self.a], second.centre[self.b]
        was = self._was(base.centre, mine)
        moved = self._decide(
            "place", _apart(mine, theirs), first_is_base=~_apart(mine, was), second_is_base=~_apart(theirs, was)
        )
        shape, other = first.covariance[self.a], second.covariance[self.b]
        former = self._was(base.covariance, shape)
        reshaped = self._decide(
            "shape",
            ~same_shape(shape, other),
            first_is_base=same_shape(shape, former),
            second_is_base=same_shape(other, former),
        )
        centre, covariance = whole.centre.copy(), whole.covariance.copy()
        centre[self.a[moved]], covariance[self.a[reshaped]] = theirs[moved], other[reshaped]
        self.whole = replace(whole, centre=centre, covariance=covariance)
        moved |= reshaped
        return moved

    def _labels(self) -> None:
        mine, theirs, base = (_texts_of(tracks) for tracks in (self.first, self.second, self.base))
        mine, theirs = mine[self.a], theirs[self.b]
        take = self._decide_texts("label", mine, theirs, self._was(base, mine))
        label = self.whole.label.copy()
        label[self.a[take]] = self.second.label[self.b[take]]
        self.whole = self.whole.relabelled(label)

    def _tags(self) -> None:
        for tags in self.whole.tag_sets:
            mine, theirs = tag_names(self.first, tags.name)[self.a], tag_names(self.second, tags.name)[self.b]
            take = self._decide_texts("tag", mine, theirs, self._was(tag_names(self.base, tags.name), mine))
            column = tags.spots.copy()
            column[self.a[take]] = tags.spots[self.b[take] + self.first.n_spots]
            self.whole = self.whole.with_tags(replace(tags, spots=column))

    def _decide_texts(self, kind: str, mine: Texts, theirs: Texts, was: Texts) -> Bool:
        """Decide about names: none is no contradiction to one, unless the common version tells that it was taken away."""
        differs = (mine != theirs) & (self.known | ((mine != "") & (theirs != "")))
        take = self._decide(kind, differs, first_is_base=mine == was, second_is_base=theirs == was)
        take |= ~self.known & (mine == "") & (theirs != "")
        return take

    def _features(self) -> None:
        """Fill what the first does not know of a spot with what the second knows."""
        features = []
        for feature in self.whole.features:
            if feature.target == "link" or feature.defined is None:
                features.append(feature)
                continue
            here, there = self.a, self.b + self.first.n_spots
            fill = ~feature.defined[here] & feature.defined[there]
            values, defined = feature.values.copy(), feature.defined.copy()
            values[here[fill]], defined[here[fill]] = feature.values[there[fill]], True
            features.append(replace(feature, values=values, defined=defined))
        self.whole = replace(self.whole, features=tuple(features))

    def _outlines(self, from_second: Bool) -> None:
        n = self.first.n_spots
        rings = self.whole.outlines.n_rings(self.whole.n_spots)
        take = (from_second | (rings[self.a] == 0)) & (rings[self.b + n] > 0)
        owner = np.arange(self.whole.n_spots, dtype=np.int64)
        owner[self.a[take]] = -1
        owner[self.b[take] + n] = self.a[take]
        self.whole = replace(self.whole, outlines=self.whole.outlines.given_to(owner))

    # ---- what one of the two removed ---------------------------------------------------------------------------

    def _removed_spots(self) -> Bool:
        """The mask of spots that one removed and the other left alone; those that the other changed become conflicts."""
        gone = np.zeros(self.whole.n_spots, dtype=bool)
        sides = (
            (self.first, self.in_first, self.in_second, 0),
            (self.second, self.in_second, self.in_first, self.first.n_spots),
        )
        for tracks, here, there, offset in sides:
            lost = np.flatnonzero((here >= 0) & (there < 0))
            rows = here[lost]
            touched = _apart(tracks.centre[rows], self.base.centre[lost])
            touched |= ~same_shape(tracks.covariance[rows], self.base.covariance[lost])
            for name in dict.fromkeys(tags.name for tags in (*tracks.tag_sets, *self.base.tag_sets)):
                touched |= tag_names(tracks, name)[rows] != tag_names(self.base, name)[lost]
            gone[rows[~touched] + offset] = True
            self.conflicts[rows[touched] + offset] = list(KINDS).index("removed by one")
        return gone

    def _links(self) -> None:
        """Let the links of the second end at the merged spots, each link once, without those that one of the two removed."""
        target = np.arange(self.whole.n_spots, dtype=np.int64)
        target[self.b + self.first.n_spots] = self.a
        links = target[self.whole.links]
        _, once, again = np.unique(links, axis=0, return_index=True, return_inverse=True)
        same = once[again.ravel()]  # for each link the first of its kind
        keep = same == np.arange(len(links))
        tag_sets = []
        for tags in self.whole.tag_sets:  # a link of both gets the second's tag where the first gave none
            column = tags.links.copy()
            late = np.flatnonzero((column != UNTAGGED) & ~keep)
            late = late[column[same[late]] == UNTAGGED]
            column[same[late]] = tags.links[late]
            tag_sets.append(replace(tags, links=column))
        sides = ((self.first, self.second, 0), (self.second, self.first, self.first.n_links))
        for mine, theirs, start in sides if self.is_three_way else ():
            keep[same[self._links_that_the_other_removed(mine, theirs) + start]] = False
        self.whole = replace(self.whole, links=links, tag_sets=tuple(tag_sets)).select_links(keep)

    def _links_that_the_other_removed(self, mine: Tracks, theirs: Tracks) -> I64:
        """Rows of links of ``mine`` that are in the common version, but not in ``theirs``."""
        here, there = (match_spots(self.base, tracks, reach=self.reach) for tracks in (mine, theirs))
        _, in_base, rows = np.intersect1d(*link_keys(self.base, mine, here), return_indices=True)
        _, kept, _ = np.intersect1d(*link_keys(self.base, theirs, there), return_indices=True)
        return rows[~np.isin(in_base, kept)].astype(np.int64)


def _apart(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> Bool:
    apart: Bool = np.logical_not(np.isclose(first, second, rtol=1e-9, atol=0, equal_nan=True).all(axis=1))
    return apart


def _texts_of(tracks: Tracks) -> Texts:
    return np.array([text or "" for text in tracks.label.tolist()], dtype=StringDType())
