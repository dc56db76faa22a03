"""Gaps: tracks that were lost for some frames are taken up again (ELEPHANT: "interpolation", T_max).

A spot without a parent is followed backwards frame by frame, where the estimate says that it was, until a spot without a
child lies within reach. The points between are where it was followed, corrected evenly so that the last meets its parent;
without an estimate that is a straight line.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy

from bdv_io.tracks import Tracks
from howdah.linking.assignment import Edges, assign, candidate_edges
from howdah.linking.earlier import Ghosts
from howdah.linking.limits import Limits
from howdah.linking.programme import NONE

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

__all__ = ["Bridges", "Refused", "box_of", "bridge", "clear_edges", "fill", "rejected", "waypoints"]


class Bridges(NamedTuple):
    """Links over several frames: ``parent`` (K,) rows, and the ghosts (K) of the children that found them."""

    parent: I64
    ghosts: Ghosts

    @classmethod
    def none(cls, longest: int) -> Bridges:
        """Return no bridges."""
        nothing = np.empty(0, dtype=np.int64)
        return cls(nothing, Ghosts(nothing, nothing, np.empty((0, longest, 3))))

    @property
    def links(self) -> I64:
        """(K, 2) rows of parent and child."""
        return np.stack([self.parent, self.ghosts.spot], axis=1)

    def joined(self, other: Bridges) -> Bridges:
        """Return these bridges and the others."""
        return Bridges(np.concatenate([self.parent, other.parent]), self.ghosts.joined(other.ghosts))


class Refused:
    """Spots that a person rejected: no spot is put inside one of them.

    Args:
        t: (K,) frames. centre: (K, 3) world. radius: (K,) world units.
        box: (2, 3) lowest and highest centre of all spots of the movie: no spot is put beyond it.
    """

    def __init__(self, t: npt.NDArray[Any], centre: F64, radius: F64, box: F64) -> None:
        self.box = box
        self._frames: dict[int, tuple[scipy.spatial.KDTree, F64]] = {}
        for frame in np.unique(t).tolist():
            here = t == frame
            self._frames[frame] = (scipy.spatial.KDTree(centre[here]), radius[here])

    @classmethod
    def of(cls, tracks: Tracks, allowed: Bool) -> Refused:
        """Return those of an annotation: the spots that may get no links."""
        return cls(*rejected(tracks, allowed), box_of(tracks.centre))

    def holds(self, frame: I64, place: F64) -> Bool:
        """Return the (K,) mask of places (K, 3) at ``frame`` (K,) that lie in a rejected spot."""
        inside = np.zeros(len(frame), dtype=bool)
        for known, (tree, radius) in self._frames.items():
            here = np.flatnonzero(frame == known)
            if len(here):
                distance, nearest = tree.query(place[here])
                inside[here] = np.asarray(distance) < radius[np.asarray(nearest)]
        return inside


def rejected(tracks: Tracks, allowed: Bool) -> tuple[npt.NDArray[np.int32], F64, F64]:
    """Return frame (K,), centre (K, 3) and radius (K,) of the spots that may get no links and have a place."""
    rows = np.flatnonzero(~allowed & np.isfinite(tracks.centre).all(axis=1))
    return tracks.t[rows], tracks.centre[rows], np.abs(np.linalg.det(tracks.covariance[rows])) ** (1 / 6)


def box_of(centre: F64) -> F64:
    """Return the (2, 3) lowest and highest of centres (N, 3), NaN where there is none."""
    box = np.full((2, 3), np.nan)
    some = ~np.isnan(centre).all(axis=0)
    if len(centre) and some.any():
        box[:, some] = np.nanmin(centre[:, some], axis=0), np.nanmax(centre[:, some], axis=0)
    return box


def bridge(ghosts: Ghosts, tracks: Tracks, parents: I64, limits: Limits, refused: Refused) -> I64:
    """Return the (G,) row of the parent of each ghost among the spots ``parents`` of the frame where they are, or -1."""
    edges = candidate_edges(
        ghosts.place, tracks.centre[parents], max_distance=limits.max_distance, max_candidates=limits.max_candidates
    )
    edges = edges.only(clear_edges(edges, ghosts, tracks, parents, refused))
    chosen = assign(edges, len(ghosts.spot), len(parents), no_parent_cost=limits.no_parent_cost)
    found = np.full(len(chosen), NONE, dtype=np.int64)
    found[chosen != NONE] = parents[chosen[chosen != NONE]]
    return found


def waypoints(tracks: Tracks, bridges: Bridges, box: F64) -> tuple[I64, I64, F64, F64]:
    """Return the points between: bridge (W,), frames before the child (W,), place (W, 3), and covariance (W, 3, 3).

    They come in order of bridge, from the child back to the parent. An estimate may point out of the image, which is not known
    here: no place is beyond ``box`` (2, 3), that around the centres of all spots.
    """
    parent, (child, age, trail) = bridges
    between = age - 1
    row = np.repeat(np.arange(len(child)), between)
    back = 1 + np.arange(len(row)) - np.repeat(np.cumsum(between) - between, between)
    share = (back / age[row])[:, None]
    missed = tracks.centre[parent] - trail[np.arange(len(child)), age - 1]
    place = trail[row, back - 1] + share * missed[row]
    if len(place):
        place = np.clip(place, box[0], box[1])
    share = share[..., None]
    shape = (1 - share) * tracks.covariance[child[row]] + share * tracks.covariance[parent[row]]
    return row, back, place, shape


def fill(tracks: Tracks, bridges: Bridges) -> tuple[Tracks, I64, I64]:
    """Return the annotation with spots in the gaps, at its end; the links (K, 2) that join them; and the bridge (K,) of each."""
    row, back, place, shape = waypoints(tracks, bridges, box_of(tracks.centre))
    child = bridges.ghosts.spot
    frame = tracks.t[child[row]] - back
    order = np.lexsort((place[:, 2], place[:, 1], place[:, 0], frame))
    first = int(tracks.id.max()) + 1 if tracks.n_spots else 0
    new = Tracks.build(
        frame[order],
        place[order],
        covariance=shape[order],
        id=first + np.arange(len(order)),
        space_unit=tracks.space_unit,
    )
    made = np.empty(len(order), dtype=np.int64)
    made[order] = tracks.n_spots + np.arange(len(order))
    # From each child back over its new spots to the parent: one chain after the other.
    chain = np.concatenate([np.arange(len(child)), row, np.arange(len(child))])
    step = np.concatenate([np.zeros(len(child), dtype=np.int64), back, bridges.ghosts.age])
    spot = np.concatenate([child, made, bridges.parent])
    along = np.lexsort((step, chain))
    chain, spot = chain[along], spot[along]
    same = chain[1:] == chain[:-1]
    return tracks.concatenate(new), np.stack([spot[1:], spot[:-1]], axis=1)[same], chain[1:][same]


def clear_edges(edges: Edges, ghosts: Ghosts, tracks: Tracks, parents: I64, refused: Refused) -> Bool:
    """Return the (E,) mask of the edges that no rejected spot lies in the way of."""
    bridges = Bridges(parents[edges.parent], ghosts.only(edges.child))
    row, back, place, _ = waypoints(tracks, bridges, refused.box)
    clear = np.ones(len(edges.child), dtype=bool)
    clear[row[refused.holds(tracks.t[bridges.ghosts.spot[row]] - back, place)]] = False
    return clear
