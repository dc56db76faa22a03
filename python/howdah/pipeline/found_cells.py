"""From predicted cells, frame by frame, to an annotation: joined with what a person outlined, linked, measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io import ImageSeries, Tracks
from bdv_io.masks import Spots, spots_of_frames
from bdv_io.outlines import Outlines
from bdv_io.tags import Feature
from howdah.linking import LINK_QUALITY
from howdah.pipeline.regions import properties, region_properties
from howdah.pipeline.sources import Source
from howdah.pipeline.truth import LabelFrames, rejected

Array = npt.NDArray[Any]
Bool = npt.NDArray[np.bool_]
F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]

__all__ = ["Frame", "Gathered", "Part", "giving_way", "inside"]

HALF = 0.5


@dataclass(frozen=True, eq=False)
class Frame:
    """The cells of one frame, a person's and the predicted ones, as they stand beside each other.

    Attributes:
        t: The frame.
        labels: (Z, Y, X) int32, 1..N without gaps; 0 background.
        spot: (N,) row of each cell in the annotation that will be: a person's spots first, then the predicted ones.
    """

    t: int
    labels: I32
    spot: I64


@dataclass(frozen=True, eq=False)
class Part:
    """What a frame gives to the annotation, whatever the other frames give.

    Attributes:
        t: The frame.
        cells: The predicted cells that stand beside a person's, with their outlines.
        quality: (M,) of these.
        label: (N,) labels of all cells of the frame, a person's first; ascending.
        values: Key of :func:`howdah.pipeline.regions.properties` -> (N,) of these.
    """

    t: int
    cells: Spots
    quality: F64
    label: I64
    values: Mapping[str, F64]


def giving_way(predicted: I32, hers: I32, refused: I32, *, min_size: int) -> tuple[I32, I64]:
    """Return the predicted cells that stand beside a person's, and which ones these are.

    A predicted cell that shares half of its pixels, or half of a person's cell, with that one gives way to it, and likewise to what she
    said is no cell. Of the others the pixels of her cells are taken away; what is left must still have the minimal size.

    Args:
        predicted: (Z, Y, X) labels 1..P.
        hers: (Z, Y, X) labels 1..K of a person's cells.
        refused: (Z, Y, X) labels of the spots that she said are no cells.
        min_size: Pixels.

    Returns:
        (Z, Y, X) labels 1..N, and (N,) which predicted label each was.
    """
    size = np.bincount(predicted.reshape(-1), minlength=1)
    kept = size > 0
    kept[0] = False
    for owned in (hers, refused):
        both = np.flatnonzero((predicted > 0) & (owned > 0))
        if not len(both):
            continue
        k = int(owned.max()) + 1
        codes = predicted.reshape(-1)[both].astype(np.int64) * k + owned.reshape(-1)[both]
        pairs, shared = np.unique(codes, return_counts=True)
        cell, person = np.divmod(pairs, k)
        least = np.minimum(size[cell], np.bincount(owned.reshape(-1))[person])
        kept[cell[shared >= HALF * least]] = False
    predicted = np.where(hers > 0, 0, predicted)
    left = np.bincount(predicted.reshape(-1), minlength=len(size))
    kept &= (left == size) | (left >= max(min_size, 1))
    names = np.flatnonzero(kept)
    number = np.zeros(len(size), dtype=np.int32)
    number[names] = np.arange(1, len(names) + 1)
    return number[predicted], names


def inside(tracks: Tracks, image: ImageSeries, setup: int) -> Bool:
    """(N,) mask of spots whose centre lies in a frame of the movie."""
    found = np.isfinite(tracks.centre).all(axis=1) & (tracks.t < image.n_frames)
    for t in np.unique(tracks.t[found]).tolist():
        if image.is_missing(t, setup):
            found[tracks.t == t] = False
            continue
        here = np.flatnonzero(found & (tracks.t == t))
        to_voxel = np.linalg.inv(image.affine(t, setup))
        voxel = tracks.centre[here] @ to_voxel[:3, :3].T + to_voxel[:3, 3]
        found[here] = ((voxel > -0.5) & (voxel < np.array(image.shape(t, setup)) - 0.5)).all(axis=1)
    return found


@dataclass(eq=False)
class Gathered:
    """The annotation that grows while the movie is read: add frames in order, then ask for :meth:`tracks`.

    Args:
        source: The movie, with the annotation that stays (``source.tracks``).
        min_size: Pixels that a predicted cell has at least.
    """

    source: Source
    min_size: int
    n_new: int = 0
    _parts: list[Spots] = field(default_factory=list)
    _quality: list[F64] = field(default_factory=list)
    _links: list[I64] = field(default_factory=list)
    _shares: list[F64] = field(default_factory=list)
    _measured: list[tuple[I64, dict[str, F64]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        kept, image, setup = self.source.tracks, self.source.image, self.source.setup
        there, no_cell = inside(kept, image, setup), rejected(kept)
        self._rows = np.flatnonzero(there & ~no_cell)  # of the cells that can be painted
        self._hers = LabelFrames(kept.select(self._rows), image, setup)
        self._refused = LabelFrames(kept.select(there & no_cell), image, setup)

    def add(self, t: int, labels: I32, quality: F64, frame: Array) -> Frame:
        """Take the predicted cells of a frame.

        Args:
            t: The frame; later than those before.
            labels: (Z, Y, X) predicted cells, 1..P.
            quality: (P,).
            frame: (Z, Y, X) the image.

        Returns:
            The frame with all cells, a person's too (but those that she rejected), for linking.
        """
        part, together = self.part(t, labels, quality, frame)
        return Frame(t, together, self.take(part))

    def part(self, t: int, labels: I32, quality: F64, frame: Array) -> tuple[Part, I32]:
        """Return what a frame gives, and its labels, without taking it: it hangs on no other frame. Arguments as of :meth:`add`."""
        affine = self.source.image.affine(t, self.source.setup)
        together, mine, names = self.together(t, labels)
        new = spots_of_frames([(t, mine, affine)])
        label, values = np.empty(0, dtype=np.int64), dict[str, F64]()
        if len(self._hers.rows(t)) + len(new.t):
            label, measured = region_properties(together, frame, affine)
            values = dict(measured)
        return Part(t, new, quality[names - 1], label, values), together

    def together(self, t: int, labels: I32) -> tuple[I32, I32, I64]:
        """Return (Z, Y, X) a person's cells and the predicted ones, 1..N; the predicted ones alone, 1..M; and which ones these are."""
        painted, mine, names = self._beside_hers(t, labels)
        both = np.where(mine > 0, mine + int(painted.max(initial=0)), painted) if painted.any() else mine
        return both.astype(np.int32), mine, names

    def take(self, part: Part) -> I64:
        """Take what a frame gave; frames come in growing order. Returns the row of each of its cells, as ``Frame.spot``."""
        start = self.source.tracks.n_spots + self.n_new
        self._parts.append(part.cells)
        self._quality.append(part.quality)
        self.n_new += len(part.cells.t)
        fresh = np.arange(start, start + len(part.cells.t))
        spot = np.concatenate([self._rows[self._hers.rows(part.t)], fresh]).astype(np.int64)
        if len(spot):
            self._measured.append((spot[part.label - 1], dict(part.values)))
        return spot

    def _beside_hers(self, t: int, labels: I32) -> tuple[I32, I32, I64]:
        """Return a person's cells, the predicted ones beside them, and which ones these are; where she has none without copies."""
        if not len(self._hers.rows(t)) and not len(self._refused.rows(t)):
            here = np.unique(labels)
            if here[-1] == len(here) - 1:  # without gaps
                nothing: I32 = np.broadcast_to(np.int32(0), labels.shape)
                return nothing, labels, np.arange(1, len(here), dtype=np.int64)
        painted = self._hers(t)
        return painted, *giving_way(labels, painted, self._refused(t), min_size=self.min_size)

    def link(self, later: I64, earlier: I64, parent: I64, share: F64) -> None:
        """Take the links of a frame: rows of its cells and of those one frame earlier (:meth:`take`), (N,) label there or 0, (N,)
        quality of each."""
        child = np.flatnonzero(parent > 0)
        self._links.append(np.stack([earlier[parent[child] - 1], later[child]], axis=1))
        self._shares.append(share[child])

    def tracks(self) -> tuple[Tracks, I64, I64]:
        """Return the annotation with the new spots and links, and the rows of these."""
        kept = self.source.tracks
        new = self._new()
        grown = kept.concatenate(new) if new.n_spots else kept
        links, share = self._allowed(grown)
        rows = np.arange(kept.n_links, kept.n_links + len(links))
        linked = grown.with_links(links) if len(links) else grown
        linked = _with_values(linked, LINK_QUALITY, rows, share, target="link", dimension="QUALITY")
        return self._with_properties(linked), np.arange(kept.n_spots, grown.n_spots), rows

    def _new(self) -> Tracks:
        rings = [part.outlines for part in self._parts]
        firsts = np.cumsum([0, *(len(part.t) for part in self._parts)])
        outlines = Outlines.build(
            np.concatenate([np.empty(0, np.int64), *(r.spot + n for r, n in zip(rings, firsts[:-1], strict=True))]),
            np.concatenate([np.empty(0), *(r.z for r in rings)]),
            n_vertices=np.concatenate([np.empty(0, np.int64), *(r.n_vertices for r in rings)]),
            vertices=np.concatenate([np.empty((0, 2)), *(r.vertices for r in rings)]),
        )
        return Tracks.build(
            np.concatenate([np.empty(0, np.int32), *(part.t for part in self._parts)]),
            np.concatenate([np.empty((0, 3)), *(part.centre for part in self._parts)]),
            covariance=np.concatenate([np.empty((0, 3, 3)), *(part.covariance for part in self._parts)]),
            quality=np.concatenate([np.empty(0), *self._quality]),
            outlines=outlines,
            space_unit=self.source.tracks.space_unit,
        )

    def _allowed(self, tracks: Tracks) -> tuple[I64, F64]:
        """New links that go together with those that are there: one parent, at most two children; the best ones first."""
        links = np.concatenate([np.empty((0, 2), np.int64), *self._links])
        share = np.concatenate([np.empty(0), *self._shares])
        free = (tracks.n_parents() == 0)[links[:, 1]] & (tracks.n_children() < 2)[links[:, 0]]
        links, share = links[free], share[free]
        order = np.lexsort((links[:, 1], -share, links[:, 0]))
        _, first, which = np.unique(links[order, 0], return_index=True, return_inverse=True)
        place = np.arange(len(order)) - first[which] if len(order) else np.empty(0, np.int64)
        good = order[place + tracks.n_children()[links[order, 0]] < 2]
        good = good[np.lexsort((links[good, 1], tracks.t[links[good, 1]]))]
        return links[good], share[good]

    def _with_properties(self, tracks: Tracks) -> Tracks:
        if not self._measured:
            return tracks
        image, setup = self.source.image, self.source.setup
        flat = image.shape(self._parts[0].t[0] if len(self._parts[0].t) else 0, setup)[0] == 1
        known = properties(flat=flat, unit=tracks.space_unit, channel=setup + 1)
        rows = np.concatenate([spot for spot, _ in self._measured])
        for key, said in known.items():
            values = np.concatenate([found[key] for _, found in self._measured])
            tracks = _with_values(tracks, said.name, rows, values, dimension=said.dimension, unit=said.unit)
        return tracks


def _with_values(
    tracks: Tracks, name: str, rows: I64, values: F64, *, target: Any = "spot", dimension: str = "NONE", unit: str = ""
) -> Tracks:
    """Return the annotation with a feature set on some rows; what is known of others, or by another program, stays."""
    n = tracks.n_links if target == "link" else tracks.n_spots
    column, defined = np.full(n, np.nan), np.zeros(n, dtype=bool)
    before = tracks.feature(name, target=target)
    if before is not None:
        known = np.isfinite(before.values) if before.defined is None else before.defined
        column[: len(known)][known], defined[: len(known)] = before.values[known], known
        dimension, unit = before.dimension, before.units or unit
    fresh = ~defined[rows]
    column[rows[fresh]], defined[rows[fresh]] = values[fresh], True
    return tracks.with_feature(Feature(name, "", column, target, unit, dimension, defined))
