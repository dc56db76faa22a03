"""Proposals: where a track is not complete or not sure, and what could be done about it, the likeliest first.

A person who corrects tracks wants to be led to the places that need it. Five kinds of them are found:

- ``end``: a track stops before the last frame; ``start``: one begins after the first frame. The candidate is a spot of the
  neighbouring frame that could go on with it and has no partner on that side; without one, a nucleus may have been missed
  at the position.
- ``gap``: a track stops and another begins some frames later, near by; the candidate is its first spot.
- ``low quality link``: a link that was hardly better than another; the candidate is the other possible parent.
- ``possible division``: a track begins beside a spot that goes on; the spot is the mother, the candidate the new daughter.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bdv_io.tracks import Tracks
from howdah.errors import DataError
from howdah.linking.assignment import Edges, candidate_edges
from howdah.linking.config import LinkingConfig
from howdah.linking.earlier import Earlier, Estimate
from howdah.linking.gaps import Bridges
from howdah.linking.limits import Limits, limits_of, rows_by_frame
from howdah.linking.link import LINK_QUALITY
from howdah.linking.programme import NONE
from howdah.linking.quality import LEAST_SCALE, link_weights

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

__all__ = ["KINDS", "Proposals", "find_proposals"]

KINDS = ("end", "start", "gap", "low quality link", "possible division")
END, START, GAP, LOW, DIVISION = range(5)
LEAST_GAP = 3
DOUBTFUL = 0.5
NO_CANDIDATE, AT_BORDER = 0.3, 0.1


class Proposals(NamedTuple):
    """Suggestions, one row each, the likeliest first; ties in order of frame and place.

    Attributes:
        spot: (K,) int64, row of the spot that is looked at. frame: (K,) int64, its frame.
        kind: (K,) int64, position in :data:`KINDS`.
        candidate: (K,) int64, row of the spot that it could be linked with, or -1.
        position: (K, 3) float64, (z, y, x), world: where to look (of the candidate, or where the nucleus is expected).
        at: (K,) int64, the frame of that position.
        score: (K,) float64, 0 to 1: how likely the suggestion is right.
    """

    spot: I64
    frame: I64
    kind: I64
    candidate: I64
    position: F64
    at: I64
    score: F64

    @property
    def kinds(self) -> list[str]:
        """The kinds as words."""
        return [KINDS[kind] for kind in self.kind]

    def only(self, rows: npt.NDArray[np.intp] | Bool) -> Proposals:
        """Return the suggestions of some rows, in their order."""
        return Proposals(
            self.spot[rows],
            self.frame[rows],
            self.kind[rows],
            self.candidate[rows],
            self.position[rows],
            self.at[rows],
            self.score[rows],
        )


def find_proposals(
    tracks: Tracks,
    config: LinkingConfig | None = None,
    *,
    estimate: Estimate | None = None,
    predicted: npt.ArrayLike | None = None,
    candidates: npt.ArrayLike | None = None,
    settled: npt.ArrayLike | None = None,
    limit: int | None = None,
) -> Proposals:
    """Return suggestions for tracks that are not complete.

    Args:
        tracks: Spots and links.
        config: Settings; ``max_distance`` and ``frame_gap`` (but at least 3 frames) limit where candidates are looked for.
        estimate: Where ellipsoids were one frame earlier; see :func:`howdah.linking.link_spots`.
        predicted: The same for the spots alone; see there.
        candidates: (N,) bool, spots that count; all by default. Spots that a person rejected should not.
        settled: (N,) bool, spots whose missing parent or child is right, as a person said; none by default.
        limit: Most suggestions; all by default.

    Raises:
        DataError: A column does not have one row a spot.
    """
    scene = _scene(tracks, config or LinkingConfig(), Earlier(tracks, predicted, estimate), candidates, settled)
    parts = [_Table.nothing(), _low_links(scene)]
    gap = max(LEAST_GAP, scene.gap)
    joined = np.zeros(tracks.n_spots, dtype=bool)
    ends, starts = scene.ends & ~scene.settled, scene.starts & ~scene.settled
    for back in range(1, gap + 1):
        for frame in sorted(scene.rows_of, reverse=True):
            children = _of(scene, frame, starts)
            if back == 1:
                parts.append(_divisions(scene, frame, children))
            parents = _of(scene, frame - back, ends)
            edges, weight = _possible(scene, children, parents, back)
            parts.append(_continuations(scene, children, parents, edges, weight, back))
            joined[children[edges.child]] = joined[parents[edges.parent]] = True
    parts.append(_lost(scene, np.flatnonzero(ends & ~joined), END))
    parts.append(_lost(scene, np.flatnonzero(starts & ~joined), START))
    found = _Table(*(np.concatenate(columns) for columns in zip(*parts, strict=True))).ranked(scene)
    return found if limit is None else found.only(np.arange(min(limit, len(found.spot))))


class _Scene(NamedTuple):
    """The annotation, and which of its (N,) spots are ends, starts, settled; ``place``: where each was before."""

    tracks: Tracks
    limits: Limits
    gap: int
    rows_of: dict[int, I64]
    earlier: Earlier
    trail: F64
    usable: Bool
    ends: Bool
    starts: Bool
    settled: Bool
    scale: float


class _Table(NamedTuple):
    spot: I64
    kind: I64
    candidate: I64
    position: F64
    at: I64
    score: F64

    @classmethod
    def nothing(cls) -> _Table:
        none = np.empty(0, dtype=np.int64)
        return cls(none, none, none, np.empty((0, 3)), none, np.empty(0))

    def ranked(self, scene: _Scene) -> Proposals:
        frame = scene.tracks.t[self.spot].astype(np.int64)
        z, y, x = self.position.T
        order = np.lexsort((scene.tracks.id[self.spot], x, y, z, self.kind, frame, -self.score))
        found = Proposals(self.spot, frame, self.kind, self.candidate, self.position, self.at, self.score)
        return found.only(order)


def _scene(
    tracks: Tracks,
    config: LinkingConfig,
    earlier: Earlier,
    candidates: npt.ArrayLike | None,
    settled: npt.ArrayLike | None,
) -> _Scene:
    masks = []
    for name, given, default in (("candidates", candidates, True), ("settled", settled, False)):
        mask = np.full(tracks.n_spots, default) if given is None else np.asarray(given, dtype=bool)
        if mask.shape != (tracks.n_spots,):
            raise DataError(f"Finding proposals failed: {name} has shape {mask.shape}; expected ({tracks.n_spots},).")
        masks.append(mask)
    usable = masks[0] & np.isfinite(tracks.centre).all(axis=1)
    limits, rows_of = limits_of(tracks, config), rows_by_frame(tracks)
    gap = max(LEAST_GAP, config.frame_gap)
    trail = _followed(tracks, rows_of, earlier, usable & (tracks.n_parents() == 0), gap)
    length = np.linalg.norm(earlier.origin[tracks.links[:, 1]] - tracks.centre[tracks.links[:, 0]], axis=1)
    usual = float(np.nanmedian(length)) if np.isfinite(length).any() else 0.0
    last = int(tracks.t[usable].max()) if usable.any() else 0
    first = int(tracks.t[usable].min()) if usable.any() else 0
    return _Scene(
        tracks=tracks,
        limits=limits,
        gap=config.frame_gap,
        rows_of=rows_of,
        earlier=earlier,
        trail=trail,
        usable=usable,
        ends=usable & (tracks.n_children() == 0) & (tracks.t < last),
        starts=usable & (tracks.n_parents() == 0) & (tracks.t > first),
        settled=masks[1],
        scale=max(usual, LEAST_SCALE * limits.max_distance),
    )


def _followed(tracks: Tracks, rows_of: dict[int, I64], earlier: Earlier, orphans: Bool, gap: int) -> F64:
    """(N, gap, 3) places 1, 2 ... frames back; beyond the first one only of the orphans, NaN for the rest."""
    trail = np.full((tracks.n_spots, gap, 3), np.nan)
    ghosts = Bridges.none(gap).ghosts
    for frame in sorted({f - back for f in rows_of for back in range(gap)}, reverse=True):
        rows = rows_of.get(frame, np.empty(0, dtype=np.int64))
        ghosts = earlier.step(frame, rows, ghosts.at(frame, tracks.t))
        trail[ghosts.spot, ghosts.age - 1] = ghosts.place
        trail[rows, 0] = earlier.origin[rows]
        mine = rows[orphans[rows]]
        ghosts = ghosts.joined(type(ghosts).of(mine, earlier.origin[mine], gap))
    return trail


def _of(scene: _Scene, frame: int, mask: Bool) -> I64:
    rows = scene.rows_of.get(frame, np.empty(0, dtype=np.int64))
    found: I64 = rows[mask[rows]]
    return found


def _possible(scene: _Scene, children: I64, parents: I64, back: int) -> tuple[Edges, F64]:
    """Possible links, and the weight of each against none."""
    limits = scene.limits
    edges = candidate_edges(
        scene.trail[children, back - 1],
        scene.tracks.centre[parents],
        max_distance=limits.max_distance,
        max_candidates=limits.max_candidates,
    )
    return edges, link_weights(edges.cost, scale=scene.scale * np.sqrt(back), reach=limits.max_distance)


def _continuations(scene: _Scene, children: I64, parents: I64, edges: Edges, weight: F64, back: int) -> _Table:
    """A track that ends and one that begins ``back`` frames later: one suggestion for each possible pair."""
    total = 1 + np.bincount(edges.child, weight, len(children))[edges.child]
    child, parent = children[edges.child], parents[edges.parent]
    return _Table(
        spot=parent,
        kind=np.full(len(child), END if back == 1 else GAP),
        candidate=child,
        position=scene.tracks.centre[child],
        at=scene.tracks.t[child].astype(np.int64),
        score=weight / total / back,
    )


def _divisions(scene: _Scene, frame: int, children: I64) -> _Table:
    """A spot without a parent beside one that has a child in the same frame."""
    tracks, limits = scene.tracks, scene.limits
    n_children = tracks.n_children()
    mothers = _of(scene, frame - 1, scene.usable & (n_children == 1))
    if not limits.divide or not len(mothers) or not len(children):
        return _Table.nothing()
    sibling = np.full(tracks.n_spots, NONE, dtype=np.int64)
    sibling[tracks.links[:, 0]] = tracks.links[:, 1]
    edges = candidate_edges(
        scene.earlier.origin[children],
        tracks.centre[mothers],
        max_distance=limits.division_distance,
        max_candidates=limits.max_candidates,
    )
    child, mother = children[edges.child], mothers[edges.parent]
    middle = (scene.earlier.origin[child] + scene.earlier.origin[sibling[mother]]) / 2
    off = ((middle - tracks.centre[mother]) ** 2).sum(axis=1)
    weight = link_weights(2 * off, scale=max(scene.scale, limits.max_distance / 5), reach=limits.max_distance)
    total = 1 + np.bincount(edges.child, weight, len(children))[edges.child]
    return _Table(
        spot=mother,
        kind=np.full(len(child), DIVISION),
        candidate=child,
        position=tracks.centre[child],
        at=tracks.t[child].astype(np.int64),
        score=weight / total,
    )


def _low_links(scene: _Scene) -> _Table:
    """Links of low quality, each with the nearest other spot that could be the parent."""
    tracks = scene.tracks
    feature = tracks.feature(LINK_QUALITY, target="link")
    if feature is None or not tracks.n_links:
        return _Table.nothing()
    values = np.asarray(feature.values, dtype=np.float64)
    low = np.isfinite(values) & (values < DOUBTFUL)
    if feature.defined is not None:
        low &= feature.defined
    source, target = tracks.links[low].T
    other = np.full(len(target), NONE, dtype=np.int64)
    for frame in np.unique(tracks.t[source]).tolist():
        here = np.flatnonzero(tracks.t[source] == frame)
        parents = _of(scene, frame, scene.usable)
        if not len(parents):
            continue
        places = scene.earlier.origin[target[here]]
        edges = candidate_edges(
            places, tracks.centre[parents], max_distance=scene.limits.max_distance, max_candidates=3
        )
        edges = edges.only(parents[edges.parent] != source[here[edges.child]])
        child, first = np.unique(edges.child, return_index=True)
        other[here[child]] = parents[edges.parent[first]]
    known = (other != NONE)[:, None]
    return _Table(
        spot=target,
        kind=np.full(len(target), LOW),
        candidate=other,
        position=np.where(known, tracks.centre[other], tracks.centre[target]),
        at=np.where(known[:, 0], tracks.t[other], tracks.t[target]).astype(np.int64),
        score=1 - values[low],
    )


def _lost(scene: _Scene, rows: I64, kind: int) -> _Table:
    """Ends or starts without any candidate: where the nucleus should be, one frame on or back."""
    tracks = scene.tracks
    shift = scene.earlier.origin[rows] - tracks.centre[rows]
    place = tracks.centre[rows] + (shift if kind == START else -shift)
    points = tracks.centre[scene.usable]
    low, high = (points.min(axis=0), points.max(axis=0)) if len(points) else (np.zeros(3), np.zeros(3))
    deep = high - low > 2 * scene.limits.max_distance  # a flat movie has no border above and below
    margin = np.minimum(place - low, high - place)[:, deep].min(axis=1, initial=np.inf)
    return _Table(
        spot=rows,
        kind=np.full(len(rows), kind),
        candidate=np.full(len(rows), NONE),
        position=place,
        at=tracks.t[rows].astype(np.int64) + (-1 if kind == START else 1),
        score=np.where(margin < scene.limits.max_distance, AT_BORDER, NO_CANDIDATE),
    )
