"""True cells, spoilt in ways that real results are spoilt, as folders of the challenge (``01_RES``).

Each damage takes label images (one a frame, (Z, Y, X)), the parents of labels, and a generator of random numbers; it returns images and
parents. Labels that are not there without a break become several tracks when they are written, as the challenge wants it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from scipy import ndimage

Array = npt.NDArray[Any]
PART = 0.1  # of the cells or tracks that are spoilt


@dataclass
class Movie:
    """Label images, and the parent of each label that has one."""

    frames: list[Array]
    parents: dict[int, int]

    def new(self) -> int:
        """A label that nobody has."""
        return 1 + max(max(int(frame.max()) for frame in self.frames), *self.parents, 0)

    def cells(self, rng: np.random.Generator, part: float = PART) -> list[tuple[int, int]]:
        """Some of the cells, at random: (frame, label)."""
        there = [(t, int(name)) for t, frame in enumerate(self.frames) for name in np.unique(frame[frame > 0])]
        return [there[i] for i in rng.permutation(len(there))[: max(1, round(part * len(there)))]]

    def long_tracks(self, rng: np.random.Generator, n: int) -> list[tuple[int, int, int]]:
        """Some labels that live for three frames or more, at random: label, first and last frame."""
        found: dict[int, list[int]] = {}
        for t, frame in enumerate(self.frames):
            for name in np.unique(frame[frame > 0]).tolist():
                found.setdefault(name, []).append(t)
        long = [(name, min(t), max(t)) for name, t in found.items() if max(t) - min(t) > 1]
        return [long[i] for i in rng.permutation(len(long))[:n]]


Rng = np.random.Generator


def missed(movie: Movie, rng: Rng) -> None:
    for t, name in movie.cells(rng):
        movie.frames[t][movie.frames[t] == name] = 0


def false_cells(movie: Movie, rng: Rng) -> None:
    for t, frame in enumerate(movie.frames):
        for _ in range(2):
            place = np.array([rng.integers(0, n) for n in frame.shape])
            near = np.ogrid[tuple(slice(0, n) for n in frame.shape)]
            ball = sum((axis - at) ** 2 for axis, at in zip(near, place, strict=True)) < 16
            frame[ball & (frame == 0)] = movie.new() if t % 2 else 9000


def shifted(movie: Movie, rng: Rng) -> None:
    for t, frame in enumerate(movie.frames):
        movie.frames[t] = np.roll(frame, rng.integers(-3, 4, size=2), axis=(-2, -1))


def thin(movie: Movie, rng: Rng) -> None:
    del rng
    for t, frame in enumerate(movie.frames):
        edge = ndimage.minimum_filter(frame, size=(1, 5, 5)) != ndimage.maximum_filter(frame, size=(1, 5, 5))
        movie.frames[t] = np.where(edge, 0, frame)


def merged_cells(movie: Movie, rng: Rng) -> None:
    """A cell takes its neighbour's label: one result cell on two true ones."""
    for t, name in movie.cells(rng):
        frame = movie.frames[t]
        others = np.setdiff1d(np.unique(frame), [0, name])
        if not (frame == name).any() or not len(others):
            continue
        places = np.array(ndimage.center_of_mass(np.ones_like(frame), frame, [name, *others]))
        frame[frame == name] = others[np.argmin(np.linalg.norm(places[1:] - places[0], axis=1))]


def halved_cells(movie: Movie, rng: Rng) -> None:
    for t, name in movie.cells(rng):
        mask = np.nonzero(movie.frames[t] == name)
        later = mask[2] > np.median(mask[2]) if len(mask[2]) else np.empty(0, bool)
        movie.frames[t][tuple(axis[later] for axis in mask)] = movie.new()


def swapped(movie: Movie, rng: Rng) -> None:
    some = movie.long_tracks(rng, 6)
    for (a, begin, end), (b, _, _) in zip(some[::2], some[1::2], strict=False):
        for frame in movie.frames[int(rng.integers(begin + 1, end + 1)) :]:
            one, other = frame == a, frame == b
            frame[one], frame[other] = b, a


def cut_tracks(movie: Movie, rng: Rng) -> None:
    """A track goes on under another number, every second one as the child of the first."""
    for place, (name, begin, end) in enumerate(movie.long_tracks(rng, 6)):
        new = movie.new()
        for frame in movie.frames[int(rng.integers(begin + 1, end + 1)) :]:
            frame[frame == name] = new
        movie.parents = {child: new if parent == name else parent for child, parent in movie.parents.items()}
        if place % 2:
            movie.parents[new] = name


def early_and_late_divisions(movie: Movie, rng: Rng) -> None:
    """In the daughters' first frame one is still the mother, and the other is not there; or the mother's last one is a daughter."""
    del rng
    for place, parent in enumerate(sorted(set(movie.parents.values()))):
        first, *others = (child for child, mother in movie.parents.items() if mother == parent)
        there = [t for t, frame in enumerate(movie.frames) if (frame == first).any()]
        before = [t for t, frame in enumerate(movie.frames) if (frame == parent).any()]
        if len(there) > 1 and place % 2 == 0:
            frame = movie.frames[there[0]]
            frame[frame == first] = parent
            frame[np.isin(frame, others)] = 0
        elif len(before) > 1 and place % 2:
            halved = np.nonzero(movie.frames[before[-1]] == parent)
            right = halved[2] > np.median(halved[2])
            movie.frames[before[-1]][halved] = np.where(right, first, others[0] if others else first)


def no_divisions(movie: Movie, rng: Rng) -> None:
    del rng
    movie.parents.clear()


def false_divisions(movie: Movie, rng: Rng) -> None:
    """A track ends as the mother of itself and of a part of it."""
    for name, begin, end in movie.long_tracks(rng, 4):
        at, new = int(rng.integers(begin + 1, end + 1)), movie.new()
        movie.parents = {child: new if parent == name else parent for child, parent in movie.parents.items()}
        for frame in movie.frames[at:]:
            mask = np.nonzero(frame == name)
            frame[mask] = new
            if len(mask[2]):
                part = mask[2] > np.quantile(mask[2], 0.7)
                frame[tuple(axis[part] for axis in mask)] = new + 1
        movie.parents |= {new: name, new + 1: name}


def everything(movie: Movie, rng: Rng) -> None:
    for spoil in (missed, merged_cells, halved_cells, swapped, cut_tracks, false_divisions, false_cells, shifted):
        spoil(movie, rng)


def nothing(movie: Movie, rng: Rng) -> None:
    del movie, rng


DAMAGES: dict[str, Callable[[Movie, Rng], None]] = {
    spoil.__name__.replace("_", " "): spoil
    for spoil in (
        nothing,
        missed,
        false_cells,
        shifted,
        thin,
        merged_cells,
        halved_cells,
        swapped,
        cut_tracks,
        early_and_late_divisions,
        no_divisions,
        false_divisions,
        everything,
    )
}


def write(movie: Movie, folder: Path) -> None:
    """Write masks and table; a label with gaps becomes several tracks, each the child of the one before."""
    folder.mkdir(parents=True, exist_ok=True)
    names: dict[int, tuple[int, int]] = {}  # of a label: its last track, and the last frame of that
    rows: list[list[int]] = []
    for t, frame in enumerate(movie.frames):
        made = np.zeros(frame.shape, dtype=np.uint16)
        for label in np.unique(frame[frame > 0]).tolist():
            track, last = names.get(label, (0, -1))
            if not track or last < t - 1:
                mother, end = names.get(movie.parents.get(label, 0), (0, t))
                rows.append([len(rows) + 1, t, t, track or (mother if end < t else 0)])
                track = len(rows)
            names[label] = track, t
            rows[track - 1][2] = t
            made[frame == label] = track
        tifffile.imwrite(folder / f"mask{t:03}.tif", made, photometric="minisblack", compression="zlib")
    (folder / "res_track.txt").write_text("".join(" ".join(map(str, row)) + "\n" for row in rows))
