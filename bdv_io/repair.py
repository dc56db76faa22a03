"""Mending annotations that contradict themselves: what can be mended is, and each change is said in a sentence.

Nothing is mended unless a user asks for it (``howdah convert --repair``): by itself a reader refuses what contradicts
itself, and keeps what is only odd (:meth:`bdv_io.tracks.Tracks.validate`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from bdv_io._tracks_check import positive_definite
from bdv_io.outlines import Outlines
from bdv_io.tags import UNTAGGED, Feature, TagSet
from bdv_io.tracks import Tracks

__all__ = ["mended"]

T = TypeVar("T", bound=Tracks)
Bool = npt.NDArray[np.bool_]
F64 = npt.NDArray[np.float64]


def mended(tracks: T) -> tuple[T, tuple[str, ...]]:
    """Return an annotation without problems, and what was changed, one sentence a kind of change.

    - Links to spots that do not exist, within one frame, or that occur twice are left out; links that run backward in
      time are turned around.
    - A spot without a finite centre is put half-way between the spots that it is linked to, where there is one before
      and one after it; else it is left out, as are spots in negative frames.
    - A covariance that is no ellipsoid becomes a sphere of the median volume of the others (radius 1 without others).
    - Ids that occur again are given anew; tags that do not exist become no tag; tag sets and features of a name that is
      taken get a number; a feature, tag column or outline that does not fit to its spots is left out; an interval that
      is not positive becomes unknown.

    Args:
        tracks: The annotation, in any state in which its columns have their types.
    """
    said: list[str] = []
    for step in (_columns, _links, _names, _ids, _centres, _ellipsoids, _interval):
        tracks = step(tracks, said)
    return tracks.validate(), tuple(said)


def _columns(tracks: T, said: list[str]) -> T:
    """Leave out columns of the wrong length, tags that do not exist, outlines that fit nothing."""
    tag_sets, features = [], []
    for tags in tracks.tag_sets:
        if len(tags.spots) != tracks.n_spots or len(tags.links) != tracks.n_links:
            said.append(f"Tag set '{tags.name}' was emptied: its rows did not fit to the spots and links.")
            tag_sets.append(TagSet.empty(tags.name, tags.tags, tracks.n_spots, tracks.n_links))
            continue
        columns, bad = [], 0
        for column in (tags.spots, tags.links):
            wrong = (column < UNTAGGED) | (column >= len(tags.tags))
            bad += int(wrong.sum())
            columns.append(np.where(wrong, UNTAGGED, column))
        if bad:
            said.append(f"{_count(bad, 'tag')} of set '{tags.name}' did not exist and {_were(bad)} removed.")
        tag_sets.append(replace(tags, spots=columns[0], links=columns[1]))
    for feature in tracks.features:
        n = tracks.n_links if feature.target == "link" else tracks.n_spots
        fits = feature.values.shape == (n,) and (feature.defined is None or feature.defined.shape == (n,))
        if fits and feature.values.dtype.kind in "fiu":
            features.append(feature)
        else:
            said.append(f"Feature '{_name(feature)}' was left out: it held no number for each {feature.target}.")
    outlines = tracks.outlines
    if outlines.problems(tracks.n_spots):
        outlines, before = _usable_outlines(outlines, tracks.n_spots), len(outlines)
        said.append(f"{before - len(outlines)} of {before} outlines were left out: no polygons of a spot.")
    return replace(tracks, tag_sets=tuple(tag_sets), features=tuple(features), outlines=outlines)


def _usable_outlines(outlines: Outlines, n_spots: int) -> Outlines:
    start, n = np.asarray(outlines.start), len(outlines.spot)
    if len(start) != n + 1 or len(outlines.z) != n or (np.diff(start) < 0).any() or start[-1] > len(outlines.vertices):
        return Outlines.empty()
    usable = []
    for ring in range(n):
        points = outlines.vertices[start[ring] : start[ring + 1]]
        inside = 0 <= outlines.spot[ring] < n_spots and np.isfinite(outlines.z[ring])
        if inside and len(points) >= 3 and np.isfinite(points).all():
            usable.append(ring)
    return Outlines.of_polygons(
        outlines.spot[usable].tolist(), [outlines.vertices[start[i] : start[i + 1]] for i in usable], outlines.z[usable]
    )


def _links(tracks: T, said: list[str]) -> T:
    links, n = tracks.links, tracks.n_spots
    outside = ((links < 0) | (links >= n)).any(axis=1)
    if outside.any():
        said.append(f"{_count(outside.sum(), 'link')} to spots that do not exist {_were(outside.sum())} left out.")
        tracks = tracks.select_links(~outside)
    links = tracks.links
    if not len(links):
        return tracks
    frames = tracks.t[links]
    backward, level = frames[:, 0] > frames[:, 1], frames[:, 0] == frames[:, 1]
    if backward.any():
        said.append(
            f"{_count(backward.sum(), 'link')} that ran backward in time {_were(backward.sum())} turned around."
        )
        links = np.where(backward[:, None], links[:, ::-1], links)
        tracks = replace(tracks, links=links)
    first = np.zeros(len(links), dtype=bool)
    first[np.unique(links, axis=0, return_index=True)[1]] = True
    if level.any():
        said.append(f"{_count(level.sum(), 'link')} within one frame {_were(level.sum())} left out.")
    twice = int((~first & ~level).sum())
    if twice:
        said.append(f"{_count(twice, 'link')} that occurred again {_were(twice)} left out.")
    return tracks.select_links(first & ~level)


def _names(tracks: T, said: list[str]) -> T:
    taken: set[object] = set()
    sets, features = [], []
    for tags in tracks.tag_sets:
        name = _free(tags.name, lambda text: text in taken)
        if name != tags.name:
            said.append(f"The second tag set '{tags.name}' was renamed '{name}'.")
        taken.add(name)
        sets.append(replace(tags, name=name))
    for feature in tracks.features:
        projection = _free(feature.projection, lambda text, f=feature: (f.target, f.name, text) in taken)
        if projection != feature.projection:
            said.append(f"The second feature '{_name(feature)}' got the projection '{projection}'.")
        taken.add((feature.target, feature.name, projection))
        features.append(replace(feature, projection=projection))
    return replace(tracks, tag_sets=tuple(sets), features=tuple(features))


def _free(name: str, is_taken: object) -> str:
    wanted, number = name, 2
    while callable(is_taken) and is_taken(name):
        name, number = f"{wanted} {number}".strip(), number + 1
    return name


def _ids(tracks: T, said: list[str]) -> T:
    first = np.zeros(tracks.n_spots, dtype=bool)
    first[np.unique(tracks.id, return_index=True)[1]] = True
    if first.all():
        return tracks
    again = int((~first).sum())
    said.append(f"{_count(again, 'spot')} had the id of another and got a new one.")
    ids = tracks.id.copy()
    ids[~first] = np.arange(again) + int(ids.max()) + 1
    return replace(tracks, id=ids)


def _centres(tracks: T, said: list[str]) -> T:
    early = tracks.t < 0
    if early.any():
        said.append(f"{_count(early.sum(), 'spot')} in negative frames {_were(early.sum())} left out.")
        tracks = tracks.select(~early)
    lost: Bool = np.logical_not(np.isfinite(tracks.centre).all(axis=1))
    if not lost.any():
        return tracks
    centre = tracks.centre.copy()
    sums, counts = np.zeros((2, tracks.n_spots, 3)), np.zeros((2, tracks.n_spots))
    for side, (here, there) in enumerate(((1, 0), (0, 1))):  # what comes before a spot, what comes after it
        known = lost[tracks.links[:, here]] & ~lost[tracks.links[:, there]]
        np.add.at(sums[side], tracks.links[known, here], tracks.centre[tracks.links[known, there]])
        np.add.at(counts[side], tracks.links[known, here], 1)
    between = lost & (counts > 0).all(axis=0)
    centre[between] = (sums[:, between] / counts[:, between, None]).mean(axis=0)
    gone = int((lost & ~between).sum())
    if between.any():
        said.append(
            f"{_count(between.sum(), 'spot')} without a centre {_were(between.sum())} put between the linked ones."
        )
    if gone:
        said.append(f"{_count(gone, 'spot')} without a centre {_were(gone)} left out.")
    return replace(tracks, centre=centre).select(~lost | between)


def _ellipsoids(tracks: T, said: list[str]) -> T:
    bad = ~positive_definite(tracks.covariance)
    if not bad.any():
        return tracks
    with np.errstate(over="ignore"):
        known = np.linalg.det(tracks.covariance[~bad]) ** (1 / 6)
    radius = float(np.median(known[np.isfinite(known)])) if np.isfinite(known).any() else 1.0
    said.append(f"{_count(bad.sum(), 'spot')} whose covariance was no ellipsoid became spheres of radius {radius:.4g}.")
    covariance: F64 = tracks.covariance.copy()
    covariance[bad] = radius**2 * np.eye(3)
    return replace(tracks, covariance=covariance)


def _interval(tracks: T, said: list[str]) -> T:
    if tracks.interval is None or tracks.interval > 0:
        return tracks
    said.append(f"The frame interval {tracks.interval} was dropped: it is not positive.")
    return replace(tracks, interval=None)


def _name(feature: Feature) -> str:
    return f"{feature.name} {feature.projection}".strip()


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _were(number: int) -> str:
    return "was" if number == 1 else "were"
