"""Events: the peaks of maps of where time has an arrow, ranked over the whole movie (paper, figure 3: "top six regions")."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

from howdah.methods.tap.attribution import Attribution
from howdah.methods.tap.config import TapConfig

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = ["Events", "Peaks", "find_events", "peaks_of", "settled_events"]


@dataclass(frozen=True, eq=False)
class Events:
    """Places and times where something happened, the strongest first.

    Attributes:
        t: (N,) int64, the frame before it: the event lies between this frame and the next one of the sample.
        centre: (N, 3) float64 (z, y, x), pixels of the maps.
        strength: (N,) float64, of the smoothed map, in its units.
        quality: (N,) float64, 0..1: strength / (strength + median strength of all). 0.5 is an ordinary peak, 0.9 one nine times as
            strong.
    """

    t: I64
    centre: F64
    strength: F64
    quality: F64

    def __len__(self) -> int:
        return len(self.t)

    def take(self, rows: npt.NDArray[np.intp] | slice) -> Self:
        """Return some of the events."""
        return type(self)(self.t[rows], self.centre[rows], self.strength[rows], self.quality[rows])


def find_events(maps: Iterable[Attribution], config: TapConfig, voxel_size: Sequence[float]) -> Events:
    """Find the peaks of maps, once in space and time each, and rank them.

    Args:
        maps: Of one movie; taken one by one, only peaks are kept.
        config: ``event_distance``, ``event_smoothing``, ``event_frames``, ``event_quality``.
        voxel_size: (z, y, x) of a pixel of the maps, any unit; distances along z count in pixels of x.
    """
    peaks = Peaks(config, voxel_size)
    for one in maps:
        peaks.add(one)
    return peaks.ranked()


class Peaks:
    """Collects the peaks of maps one by one, in any order; only peaks are kept. Arguments as for :func:`find_events`."""

    def __init__(self, config: TapConfig, voxel_size: Sequence[float]) -> None:
        self.config = config
        self.scale = np.array([voxel_size[0] / voxel_size[2], voxel_size[1] / voxel_size[2], 1.0])
        self.found: list[tuple[int, F64, F64]] = []

    def add(self, one: Attribution) -> None:
        """Take the peaks of a map."""
        distance, smoothing, _ = settled_events(self.config)
        self.found.append((one.time, *peaks_of(one.map, distance=distance, smoothing=smoothing, scale=self.scale)))

    def ranked(self) -> Events:
        """Return the events so far, each once in space and time, the strongest first."""
        distance, _, frames = settled_events(self.config)
        found = sorted(self.found, key=lambda one: one[0])
        t = np.concatenate([np.full(len(s), time, dtype=np.int64) for time, _, s in found] or [np.empty(0, np.int64)])
        centre = np.concatenate([c for _, c, _ in found] or [np.empty((0, 3))])
        strength = np.concatenate([s for _, _, s in found] or [np.empty(0)])
        kept = strongest(t, centre * self.scale, strength, distance=distance, frames=frames)
        kept = kept[np.lexsort((t[kept], -strength[kept]))]
        t, centre, strength = t[kept], centre[kept], strength[kept]
        usual = float(np.median(strength)) if len(strength) else 1.0
        events = Events(t, centre, strength, strength / (strength + usual))
        return events.take(np.flatnonzero(events.quality >= self.config.event_quality))


def settled_events(config: TapConfig) -> tuple[float, float, int]:
    """Return distance and smoothing, pixels, and frames that events are looked for with.

    More smoothing finds fewer divisions: what is seen of one is a few pixels wide (``benchmarks/score_tap_events.py``).
    """
    distance = config.event_distance or config.crop_size / 4
    smoothing = distance / 16 if config.event_smoothing is None else config.event_smoothing
    frames = max(config.delta) if config.event_frames is None else config.event_frames
    return distance, smoothing, frames


def peaks_of(values: F32, *, distance: float, smoothing: float, scale: F64) -> tuple[F64, F64]:
    """Return centres (N, 3), pixels, and strengths (N,) of the peaks above 0 of a map (Z, Y, X), at least ``distance`` apart.

    Args:
        values: The map.
        distance: Pixels of x.
        smoothing: Standard deviation; pixels of x. 0 = none.
        scale: Length of a pixel along (z, y, x), in pixels of x.
    """
    smooth = ndimage.gaussian_filter(values, smoothing / scale, mode="nearest") if smoothing else values
    around = [1 if n == 1 else 3 for n in values.shape]
    top = (ndimage.maximum_filter(smooth, around, mode="nearest") == smooth) & (smooth > 0)
    places = _middles(top)
    centre, strength = places.astype(np.float64), smooth[tuple(places.T)].astype(np.float64)
    kept = strongest(np.zeros(len(centre), np.int64), centre * scale, strength, distance=distance, frames=0)
    return centre[kept], strength[kept]


def _middles(top: npt.NDArray[np.bool_]) -> I64:
    """Return one pixel (N, 3) of each connected part, the one nearest to its middle: where nothing is imaged, maps are flat."""
    label, n = ndimage.label(top, structure=np.ones((3,) * top.ndim))
    place, part = np.argwhere(top), label[top] - 1
    count = np.bincount(part, minlength=n)
    middle = np.stack([np.bincount(part, axis, minlength=n) / np.maximum(count, 1) for axis in place.T], axis=1)
    off = ((place - middle[part]) ** 2).sum(axis=1)
    order = np.lexsort((off, part))
    found: I64 = place[order[np.cumsum(count) - count]]
    return found


def strongest(t: I64, place: F64, strength: F64, *, distance: float, frames: int) -> npt.NDArray[np.intp]:
    """Return which of the candidates have no stronger kept one within a distance and so many frames; the strongest are kept first.

    Args:
        t: (N,) frames.
        place: (N, 3), in units of ``distance``.
        strength: (N,); of equal ones the first is the stronger.
        distance: In space.
        frames: In time.
    """
    strong, weak = _rivals(t, place, np.argsort(np.argsort(-strength, kind="stable")), distance, frames)
    kept, open_ = np.zeros(len(t), dtype=bool), np.ones(len(t), dtype=bool)
    while open_.any():
        beaten = np.zeros(len(t), dtype=bool)
        beaten[weak[open_[strong]]] = True
        kept |= open_ & ~beaten
        open_ &= beaten
        open_[weak[kept[strong]]] = False
    return np.flatnonzero(kept)


def _rivals(
    t: I64, place: F64, rank: npt.NDArray[np.intp], distance: float, frames: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the pairs that are near each other: the stronger, the weaker."""
    present = np.unique(t)
    rows = {int(time): np.flatnonzero(t == time) for time in present}
    trees = {time: cKDTree(place[at]) for time, at in rows.items()}
    strong, weak = [np.empty(0, np.intp)], [np.empty(0, np.intp)]
    for time, at in rows.items():
        for later in range(time, time + frames + 1):
            if later not in rows:
                continue
            near = trees[time].sparse_distance_matrix(trees[later], distance, output_type="ndarray")
            a, b = at[near["i"]], rows[later][near["j"]]
            a, b = a[a != b], b[a != b]
            first = rank[a] < rank[b]
            strong.append(np.where(first, a, b))
            weak.append(np.where(first, b, a))
    return np.concatenate(strong), np.concatenate(weak)
