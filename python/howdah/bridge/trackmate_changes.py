"""Changing the model that is open in a TrackMate window: only what differs, as one step, and every view follows.

Spots are known by their ids. What is new or has changed is made by TrackMate itself from a file (:func:`model_of`) and then
given to the live model: spots that stay keep their identity, so a selection and an open TrackScheme stay too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io.tags import UNTAGGED, Feature, TagSet
from bdv_io.trackmate.declarations import xml_key
from bdv_io.trackmate.rois import largest_rings
from bdv_io.tracks import Tracks
from howdah.bridge.java_classes import java_class, java_errors
from howdah.bridge.swing import on_swing
from howdah.bridge.trackmate import model_of, tracks_of
from howdah.errors import BridgeError

I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

__all__ = ["Changes", "apply_to"]

OWN = "HOWDAH_"  # features in which ellipsoids and tags are kept: the only ones that are taken away
BIGGEST_ID = 2**31 - 1  # Java's int


@dataclass(frozen=True, eq=False)
class Changes:
    """What a live model gains, loses and changes. Rows of ``old`` are those of the model, of ``new`` those that are wanted.

    Attributes:
        removed: Rows (old) of spots that go. added: Rows (new) of spots that come.
        changed: (K, 2) rows (old, new) of spots that stay but differ in place, size, outline, name, tags or a feature.
        links_removed: Rows (old) of links that go. links_added: Rows (new) of links that come.
        links_changed: Rows (new) of links that stay but differ in a tag or a feature.
    """

    old: Tracks
    new: Tracks
    removed: I64
    added: I64
    changed: I64
    links_removed: I64
    links_added: I64
    links_changed: I64

    @classmethod
    def between(cls, old: Tracks, new: Tracks) -> Changes:
        """Compare two annotations spot by spot; the same id means the same spot."""
        shared, mine, theirs = np.intersect1d(old.id, new.id, return_indices=True)
        pairs = np.stack([mine, theirs], axis=1).astype(np.int64).reshape(-1, 2)
        ends_old, ends_new = _link_ids(old), _link_ids(new)
        _, left, right = np.intersect1d(ends_old, ends_new, return_indices=True)
        links = np.stack([left, right], axis=1).astype(np.int64).reshape(-1, 2)
        differ = _spots_differ(old, new, pairs)
        links_differ = _columns_differ(old, new, links, target="link")
        return cls(
            old,
            new,
            removed=np.flatnonzero(~np.isin(old.id, shared)),
            added=np.flatnonzero(~np.isin(new.id, shared)),
            changed=pairs[differ],
            links_removed=np.setdiff1d(np.arange(old.n_links), left),
            links_added=np.setdiff1d(np.arange(new.n_links), right),
            links_changed=links[links_differ, 1],
        )

    @property
    def counts(self) -> dict[str, int]:
        """How many spots and links of each kind of change there are."""
        names = ("removed", "added", "changed", "links_removed", "links_added", "links_changed")
        return {name: len(getattr(self, name)) for name in names}

    def __bool__(self) -> bool:
        """Whether there is any change."""
        return any(self.counts.values())


def apply_to(model: Any, tracks: Tracks, *, settings: Any = None) -> Changes:
    """Make a live model hold this annotation, in one update, and return what has changed.

    Views that show the model (image, TrackScheme, tables) follow at once. Features that TrackMate computed and the
    annotation does not have stay. TrackMate has no undo for models: :func:`tracks_of` before, and the same call with what
    it returned, is the way back.

    Args:
        model: A ``fiji.plugin.trackmate.Model``, for example that of a running TrackMate.
        tracks: What it shall hold. Its ids say which spot is which: start from :func:`tracks_of`.
        settings: TrackMate's ``Settings``, which say the frame interval.

    Raises:
        BdvIoError: The annotation is not consistent.
        BridgeError: Units differ, ids do not fit into Java's whole numbers, or TrackMate refuses.
    """
    tracks.validate()

    def run() -> (
        Changes
    ):  # all of it on one thread: nobody, and no other call, changes the model between reading and writing
        old = tracks_of(model, settings=settings)
        _check(old, tracks)
        wanted = _with_tags_in_order(old, tracks)
        found = Changes.between(old, wanted)
        if found:
            touched = np.unique(wanted.links[np.concatenate([found.links_added, found.links_changed]).astype(np.int64)])
            rows = np.union1d(np.concatenate([found.added, found.changed[:, 1]]), touched).astype(np.int64)
            made = model_of(wanted.select(rows))
            update = _Update(model, found, made, interval=old.interval or tracks.interval or 1.0)
            with java_errors("Changing TrackMate's model"):
                update.run()
        return found

    return on_swing(run)


class _Update:
    """Carries changes out on a live model; ``made`` is a model of all spots that come or differ, and those at new links."""

    def __init__(self, model: Any, changes: Changes, made: Any, *, interval: float) -> None:
        self.model, self.changes, self.made, self.interval = model, changes, made, interval
        self.double, self.integer = java_class("java.lang.Double"), java_class("java.lang.Integer")
        self.live: dict[int, Any] = {}
        self.fresh: dict[int, Any] = {}

    def run(self) -> None:
        import jpype

        model, made = self.model, self.made
        self._declare()
        with jpype.synchronized(model):
            self.live = {int(spot.ID()): spot for spot in model.getSpots().iterable(False)}
            self.fresh = {int(spot.ID()): spot for spot in made.getSpots().iterable(False)}
            model.beginUpdate()
            try:
                self._remove()
                self._change()
                self._add()
                self._link()
            finally:
                model.endUpdate()

    def _declare(self) -> None:
        live, made = self.model.getFeatureModel(), self.made.getFeatureModel()
        live.declareSpotFeatures(
            made.getSpotFeatures(),
            made.getSpotFeatureNames(),
            made.getSpotFeatureShortNames(),
            made.getSpotFeatureDimensions(),
            made.getSpotFeatureIsInt(),
        )
        live.declareEdgeFeatures(
            made.getEdgeFeatures(),
            made.getEdgeFeatureNames(),
            made.getEdgeFeatureShortNames(),
            made.getEdgeFeatureDimensions(),
            made.getEdgeFeatureIsInt(),
        )

    def _remove(self) -> None:
        old = self.changes.old
        for source, target in old.id[old.links[self.changes.links_removed]].tolist():
            self.model.removeEdge(self.live[source], self.live[target])
        for number in old.id[self.changes.removed].tolist():
            self.model.removeSpot(self.live.pop(number))

    def _change(self) -> None:
        old, new = self.changes.old, self.changes.new
        own = [key for key in map(str, self.model.getFeatureModel().getSpotFeatures()) if key.startswith(OWN)]
        for before, after in self.changes.changed.tolist():
            number = int(new.id[after])
            live, fresh = self.live[number], self.fresh[number]
            features, given = live.getFeatures(), fresh.getFeatures()
            if int(old.t[before]) != int(new.t[after]):
                self.model.moveSpotFrom(live, self.integer(int(old.t[before])), self.integer(int(new.t[after])))
                given.put("POSITION_T", self.double(float(new.t[after]) * self.interval))
            for key in own:
                if not given.containsKey(key):
                    features.remove(key)
            features.putAll(given)
            live.setName(fresh.getName())
            live.setRoi(fresh.getRoi())
            self.model.updateFeatures(live)

    def _add(self) -> None:
        new = self.changes.new
        for row in self.changes.added.tolist():
            number = int(new.id[row])
            spot = self.live[number] = self.fresh[number]
            self.model.addSpotTo(spot, self.integer(int(new.t[row])))
            spot.putFeature("POSITION_T", self.double(float(new.t[row]) * self.interval))

    def _link(self) -> None:
        new = self.changes.new
        made, live = self.made.getTrackModel(), self.model.getTrackModel()
        keys = [key for key in map(str, self.made.getFeatureModel().getEdgeFeatures()) if not key.startswith("SPOT_")]
        pairs = new.id[new.links]
        for source, target in pairs[self.changes.links_added].tolist():
            weight = made.getEdgeWeight(made.getEdge(self.fresh[source], self.fresh[target]))
            self.model.addEdge(self.live[source], self.live[target], weight)
        both = np.concatenate([self.changes.links_added, self.changes.links_changed]).astype(np.int64)
        given, kept = self.made.getFeatureModel(), self.model.getFeatureModel()
        for source, target in pairs[both].tolist():
            fresh = made.getEdge(self.fresh[source], self.fresh[target])
            edge = live.getEdge(self.live[source], self.live[target])
            for key in keys:
                value = given.getEdgeFeature(fresh, key)
                if value is not None:
                    kept.putEdgeFeature(edge, key, value)
                elif key.startswith(OWN):
                    kept.removeEdgeFeature(edge, key)
        number = {"SPOT_SOURCE_ID": 0, "SPOT_TARGET_ID": 1}
        for ends in pairs[self.changes.links_added].tolist():
            edge = live.getEdge(self.live[ends[0]], self.live[ends[1]])
            for key, side in number.items():
                kept.putEdgeFeature(edge, key, self.double(float(ends[side])))


def _check(old: Tracks, new: Tracks) -> None:
    if old.n_spots and new.n_spots and old.space_unit != new.space_unit:
        raise BridgeError(
            f"Changing TrackMate's model failed: it is in '{old.space_unit}', the annotation in '{new.space_unit}'. "
            "Convert the annotation, or give the image its calibration (Image > Properties) and load it again."
        )
    if new.n_spots and (new.id.min() < 0 or new.id.max() > BIGGEST_ID):
        raise BridgeError(
            f"Changing TrackMate's model failed: spot ids run from {new.id.min()} to {new.id.max()}; TrackMate's are from 0 to "
            f"{BIGGEST_ID}. Number the spots with tracks.renumbered()."
        )


def _with_tags_in_order(old: Tracks, new: Tracks) -> Tracks:
    """The new annotation with its tag sets and tags in the order that the model has: it knows them by their numbers."""
    merged = []
    for known in old.tag_sets:
        said = new.tag_set(known.name)
        names = {tag.name for tag in known.tags}
        tags = (*known.tags, *(tag for tag in (said.tags if said else ()) if tag.name not in names))
        place = [next(i for i, tag in enumerate(tags) if tag.name == t.name) for t in (said.tags if said else ())]
        number = np.array([*place, UNTAGGED], dtype=np.int32)  # -1, which is no tag, is the last place
        blank = TagSet.empty(known.name, tags, new.n_spots, new.n_links)
        merged.append(replace(blank, spots=number[said.spots], links=number[said.links]) if said else blank)
    rest = [tags for tags in new.tag_sets if old.tag_set(tags.name) is None]
    return replace(new, tag_sets=(*merged, *rest))


# ---- what differs ----------------------------------------------------------------------------------------------------


def _link_ids(tracks: Tracks) -> npt.NDArray[np.void]:
    ends = np.ascontiguousarray(
        np.sort(tracks.id[tracks.links].reshape(-1, 2), axis=1)
    )  # TrackMate's edges have no direction
    return ends.view(np.dtype([("a", np.int64), ("b", np.int64)])).reshape(-1)


def _spots_differ(old: Tracks, new: Tracks, pairs: I64) -> Bool:
    a, b = pairs[:, 0], pairs[:, 1]
    differ: Bool = old.t[a] != new.t[b]
    differ |= (old.centre[a] != new.centre[b]).any(axis=1)
    differ |= ~np.isclose(old.covariance[a], new.covariance[b], rtol=1e-12, atol=0).all(axis=(1, 2))
    differ |= (old.quality[a] != new.quality[b]) & ~(np.isnan(old.quality[a]) & np.isnan(new.quality[b]))
    differ |= np.array([x != y for x, y in zip(old.label[a].tolist(), new.label[b].tolist(), strict=True)], dtype=bool)
    return differ | _outlines_differ(old, new, pairs) | _columns_differ(old, new, pairs, target="spot")


def _outlines_differ(old: Tracks, new: Tracks, pairs: I64) -> Bool:
    """Which outlines differ; of several rings TrackMate has the largest only, which is what is compared."""
    rings = [largest_rings(tracks.outlines, tracks.n_spots)[pairs[:, i]] for i, tracks in enumerate((old, new))]
    counts = [
        np.where(ring >= 0, np.append(tracks.outlines.n_vertices, 0)[ring], 0)
        for ring, tracks in zip(rings, (old, new), strict=True)
    ]
    differ: Bool = counts[0] != counts[1]
    same = np.flatnonzero(~differ & (counts[0] > 0))
    if len(same):
        n = counts[0][same]
        start = np.cumsum(n) - n
        points = []
        for ring, tracks in zip(rings, (old, new), strict=True):
            source = np.repeat(tracks.outlines.start[ring[same]] - start, n) + np.arange(n.sum())
            points.append(tracks.outlines.vertices[source])
        apart = ~np.isclose(points[0], points[1], rtol=1e-12, atol=1e-9).all(axis=1)
        differ[same] = np.logical_or.reduceat(apart, start)
    return differ


def _columns_differ(old: Tracks, new: Tracks, pairs: I64, *, target: str) -> Bool:
    """Which rows differ in a tag, or in a feature for which the new annotation has a value."""
    a, b = pairs[:, 0], pairs[:, 1]
    differ = np.zeros(len(pairs), dtype=bool)
    for feature in new.features:
        if (feature.target == "link") != (target == "link") or feature.name == "POSITION_T":
            continue
        known = old.feature(feature.name, feature.projection, feature.target)
        known = known or old.feature(xml_key(feature, ()), "", feature.target)  # TrackMate has it under this name
        x, y = _values(known, a), _values(feature, b)
        differ |= (x != y) & ~np.isnan(y)
    for name in dict.fromkeys(tags.name for tags in (*old.tag_sets, *new.tag_sets)):
        mine, theirs = old.tag_set(name), new.tag_set(name)
        differ |= _tags(mine, a, target) != _tags(theirs, b, target)
    return differ


def _values(feature: Feature | None, rows: I64) -> npt.NDArray[np.float64]:
    if feature is None:
        return np.full(len(rows), np.nan)
    values = feature.values[rows].astype(np.float64)
    return values if feature.defined is None else np.where(feature.defined[rows], values, np.nan)


def _tags(tags: TagSet | None, rows: I64, target: str) -> npt.NDArray[np.object_]:
    if tags is None:
        return np.full(len(rows), "", dtype=object)
    names = np.array([*(tag.name for tag in tags.tags), ""], dtype=object)
    column: Any = tags.links if target == "link" else tags.spots
    found: npt.NDArray[np.object_] = names[column[rows]]
    return found
