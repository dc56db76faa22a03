"""Samples for training: crops at one place in a few frames of a movie, drawn anywhere, and fixed ones that judge (paper, section 2).

What a step sees follows from (seed, step) alone: neither memory nor what was drawn before makes a difference.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from howdah.errors import DataError
from howdah.methods.tap.augment import Changes, augmented, margin, shuffled
from howdah.methods.tap.background import Background
from howdah.methods.tap.config import TapConfig
from howdah.methods.tap.movies import Frames, Movie, Region, voxel_of
from howdah.nn.device import Place, free_memory_mb

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Tensor = torch.Tensor

__all__ = ["Samples", "crop_shape"]

TRIES = 16  # draws at most until a sample shows cells, and no blank frame
FEWEST, MOST = 1_000, 100_000  # samples in a pass, where nothing is said
BATCH = {"cuda": 256}  # samples in a step by device, where nothing is said
USUAL_BATCH = 32
HELD = 2**32 - 1  # step whose draw is that of the validation

log = logging.getLogger("howdah")


@dataclass(frozen=True, eq=False)
class _Places:
    """Moments of a movie that a sample may begin at: ``start`` (N,) frame, ``delta`` (N,) frames to the next, and how many crops
    fit a frame."""

    movie: int
    start: I64
    delta: I64
    crops: float

    @property
    def weight(self) -> float:
        return len(self.start) * self.crops


@dataclass(frozen=True, eq=False)
class _Drawn:
    """N samples: movie, first frame, frames to the next, and first pixel (N, 3) of the crop, (z, y, x)."""

    movie: I64
    start: I64
    delta: I64
    low: I64

    def times(self, frames: int) -> I64:
        """Return the frames (N, T) of the samples."""
        return self.start[:, None] + np.arange(frames) * self.delta[:, None]

    def some(self, rows: slice) -> _Drawn:
        """Return some of the samples."""
        return _Drawn(self.movie[rows], self.start[rows], self.delta[rows], self.low[rows])


class Samples:
    """Crops of movies.

    Args:
        movies: Movies of equally many channels; some may be larger or longer than others.
        config: Settings, with ``None`` where something is left open.
        form: Arguments of the network, :attr:`Tap.form`: how many channels it takes, planes or volumes.
        place: Where :meth:`batch` puts samples.

    Attributes:
        size: A crop (*S), (Y, X) or (Z, Y, X), pixels after shrinking.
        batch_size: Samples in a step.
        epoch_samples: Samples in a pass.
        steps_per_epoch: Steps in a pass, at least one.
        held_frames: For each movie the frames (first, one after the last) that are held out.

    Raises:
        DataError: There is no movie; a movie is too short for a sample, or too little is left of it; channels differ.
    """

    def __init__(self, movies: Sequence[Movie], config: TapConfig, *, form: dict[str, Any], place: Place) -> None:
        if not movies:
            raise DataError("There is nothing to learn from: no movie was given.")
        self.movies, self.config, self.place = tuple(movies), config, place
        self.dimensions = len(form["pools"][0])
        self.pools: list[tuple[int, ...]] = [tuple(pool) for pool in form["pools"]]
        self._frames, self._channels = config.frames, int(form["channels"])
        self._check_channels()
        room = (config.memory_mb or free_memory_mb() / 2) / len(movies)
        self.frames = [Frames(movie, config, memory_mb=room) for movie in movies]
        self.size = crop_shape(movies, config, self.pools)
        self._size3 = np.asarray((1, *self.size) if self.dimensions == 2 else self.size, dtype=np.int64)
        self._margin = margin(config, self.size)
        self._say_small()
        deltas = [self._deltas(frames) for frames in self.frames]
        self.held_frames = [self._held_frames(frames, few) for frames, few in zip(self.frames, deltas, strict=True)]
        self._training = [
            self._places(at, [(0, held[0]), (held[1], frames.movie.n_frames)], few)
            for at, (frames, held, few) in enumerate(zip(self.frames, self.held_frames, deltas, strict=True))
        ]
        self._judging = [
            self._places(at, [held], few) for at, (held, few) in enumerate(zip(self.held_frames, deltas, strict=True))
        ]
        self._check_enough()
        self.batch_size = config.batch_size or BATCH.get(place.device.type, USUAL_BATCH)
        places = sum(one.weight for one in self._training)
        self.epoch_samples = config.epoch_samples or int(np.clip(places, FEWEST, MOST))
        self.steps_per_epoch = max(round(self.epoch_samples / self.batch_size), 1)
        self._blank = np.full((len(movies), max(movie.n_frames for movie in movies)), -1, dtype=np.int8)  # not known
        self._memory = np.empty(0, dtype=np.float32)
        self._background = [Background(frames, config.crop_size) for frames in self.frames]

    # ---- what training asks for

    def crops(self, step: int) -> Tensor:
        """Return the samples of a step (B, T, C, *S') on the CPU, in order of time, larger than a crop by what augmentation needs.

        Beyond the border the image is mirrored.

        Args:
            step: From 0.

        Raises:
            DataError: A frame is not what its movie says, holds no numbers, or all are blank.
        """
        return self._crops(self._drawn(step), self._margin)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the samples of a step (B, T, C, *S) on the device, changed and shuffled, and where the first frame is (B,).

        One thread at a time: memory is used again.
        """
        rng = np.random.default_rng([self.config.seed, step, 1])
        y, shape = rng.integers(self._frames, size=self.batch_size), self.size
        if self.place.device.type != "cpu":
            crops = self.crops(step).to(self.place.device)
            return shuffled(augmented(crops, self.config, size=shape, rng=rng), y)
        drawn = self._drawn(step)
        changes = Changes(self.batch_size, self._frames, self.config, size=shape, rng=rng)
        changes.normalise(*self._normal(drawn))
        found = np.empty((self.batch_size, self._frames, self._channels, *shape), dtype=np.float32)
        low, size = self._windows(drawn.low, changes.margin)
        movies, times = drawn.movie.tolist(), drawn.times(self._frames).tolist()
        for row, first in enumerate(
            y.tolist()
        ):  # as augmented does, but no more of the image is read than the sample looks at
            crop = self._room(size[row])
            self._read(self.frames[movies[row]], times[row], low[row], crop)
            changes.apply(row, crop[:, :, 0] if self.dimensions == 2 else crop, out=found[row], first=first)
        return torch.from_numpy(found), torch.from_numpy(y)

    def held(self) -> list[tuple[Tensor, Tensor]]:
        """Return batches (x, y) of the frames that are held out, on the CPU: the same in every process, not changed.

        Each place of the first frame comes equally often.
        """
        count, frames = self.config.validation_samples, self.config.frames
        drawn = self._draw(np.random.default_rng([self.config.seed, HELD]), self._judging, count)
        found = []
        for first in range(0, count, self.batch_size):
            some = slice(first, min(first + self.batch_size, count))
            x = self._crops(drawn.some(some), (0,) * len(self.size))
            y = torch.arange(some.start, some.stop) % frames
            from_ = (torch.arange(frames)[None] - y[:, None]) % frames
            found.append((x[torch.arange(len(x))[:, None], from_], y))
        return found

    # ---- what is drawn

    def _drawn(self, step: int) -> _Drawn:
        return self._draw(np.random.default_rng([self.config.seed, step]), self._training, self.batch_size)

    def _draw(self, rng: np.random.Generator, places: Sequence[_Places], count: int) -> _Drawn:
        """Draw samples; those that are blank, or show no cells, are drawn again."""
        weights = np.cumsum([one.weight for one in places])
        found = _Drawn(*(np.zeros((count, *more), dtype=np.int64) for more in ((), (), (), (3,))))
        again = np.arange(count)
        for _ in range(TRIES):
            u = rng.random((len(again), 6))
            movie = np.searchsorted(weights / weights[-1], u[:, 0], side="right").clip(max=len(places) - 1)
            for at, one in enumerate(places):
                here = movie == at
                rows, shape = again[here], np.asarray(self.frames[at].shape)
                moment = (u[here, 1] * len(one.start)).astype(np.int64)
                room, outside = np.maximum(shape - self._size3, 0), np.maximum(self._size3 - shape, 0) // 2
                found.movie[rows], found.start[rows], found.delta[rows] = at, one.start[moment], one.delta[moment]
                found.low[rows] = (u[here, 2:5] * (room + 1)).astype(np.int64) - outside
            again = again[self._unwanted(found, again, u[:, 5])]
            if not len(again):
                return found
        if self._have_blank(found, again).any():
            raise DataError(
                f"Learning from {', '.join(movie.name for movie in self.movies)} failed: frames are blank (one value everywhere). Is it "
                "the right channel?"
            )
        return found

    def _unwanted(self, drawn: _Drawn, rows: I64, chance: F64) -> npt.NDArray[np.bool_]:
        """Return which of some samples to draw again."""
        found = self._have_blank(drawn, rows)
        for n in np.flatnonzero(~found & (chance < self.config.reject_background)):
            found[n] = self._is_empty(drawn, int(rows[n]))
        return found

    def _is_empty(self, drawn: _Drawn, row: int) -> bool:
        """Return whether a sample shows no cells in any of its frames."""
        background, low = self._background[int(drawn.movie[row])], drawn.low[row].tolist()
        first, delta = int(drawn.start[row]), int(drawn.delta[row])
        size = self._size3.tolist()
        return all(background.is_empty(first + t * delta, low, size) for t in range(self._frames))

    def _have_blank(self, drawn: _Drawn, rows: I64) -> npt.NDArray[np.bool_]:
        """Return which of some samples have a blank frame."""
        movie, times = drawn.movie[rows, None], drawn.times(self._frames)[rows]
        unseen = self._blank[movie, times] < 0
        if unseen.any():
            for at, time in sorted(
                {*zip(np.broadcast_to(movie, times.shape)[unseen].tolist(), times[unseen].tolist(), strict=True)}
            ):
                self._blank[at, time] = self.frames[at].is_blank(time)
                if self._blank[at, time]:
                    log.warning("Frame %d of %s is blank and is left out.", time, self.movies[at].name)
        return np.asarray((self._blank[movie, times] > 0).any(axis=1))

    # ---- pixels

    def _room(self, size: Sequence[int]) -> F32:
        """Return memory for a crop (T, C, *size), used again for each: fresh memory costs as much as filling it."""
        shape = (self._frames, self._channels, *size)
        n = prod(shape)
        if self._memory.size < n:
            self._memory = np.empty(n, dtype=np.float32)
        return self._memory[:n].reshape(shape)

    def _windows(self, low: I64, extra: npt.ArrayLike) -> tuple[list[list[int]], list[list[int]]]:
        """Return the first pixels and the sizes, (N, 3) each, of crops with so many pixels more on each side, (D,) or (N, D)."""
        more = np.zeros(low.shape, dtype=np.int64)
        more[:, 3 - self.dimensions :] = extra
        return (low - more).tolist(), (self._size3 + 2 * more).tolist()

    def _normal(self, drawn: _Drawn) -> tuple[F32, F32]:
        """Return what intensities of the file are multiplied by, and what is then added: (N, T, C) each."""
        found = np.empty((2, len(drawn.movie), self._frames, self._channels), dtype=np.float32)
        for n, (movie, times) in enumerate(zip(drawn.movie.tolist(), drawn.times(self._frames).tolist(), strict=True)):
            for t, time in enumerate(times):
                found[:, n, t] = self.frames[movie].factors(time)
        return found[0], found[1]

    def _crops(self, drawn: _Drawn, extra: tuple[int, ...]) -> Tensor:
        """Return crops (N, T, C, *S'), normalised, with so many pixels more on each side."""
        low, size = self._windows(drawn.low, extra)
        found = np.empty((len(low), self._frames, self._channels, *size[0]), dtype=np.float32)
        for n, (movie, times) in enumerate(zip(drawn.movie.tolist(), drawn.times(self._frames).tolist(), strict=True)):
            self._read(self.frames[movie], times, low[n], found[n])
        scale, add = self._normal(drawn)
        found *= scale[..., None, None, None]
        found += add[..., None, None, None]
        return torch.from_numpy(found[:, :, :, 0] if self.dimensions == 2 else found)

    def _read(self, frames: Frames, times: Sequence[int], low: Sequence[int], crop: F32) -> None:
        """Fill a crop (T, C, Z, Y, X) whose first pixel is ``low``, with the intensities of the file."""
        window = _Window.of(low, crop.shape[2:], frames.shape)
        z, y, x = window.filled
        for t, time in enumerate(times):
            crop[t, :, z, y, x] = frames.raw(time, window.region)
        window.mirror(crop)

    # ---- which frames

    def _deltas(self, frames: Frames) -> list[int]:
        """Return the distances in time that a movie is long enough for, held-out part included."""
        found, n = [], frames.movie.n_frames
        for delta in sorted(set(self.config.delta)):
            if 2 * self._span(delta) <= n:
                found.append(delta)
            else:
                log.warning(
                    "%s has %d frames: too few for samples of %d frames at a distance of %d (delta), which are left out.",
                    frames.movie.name,
                    n,
                    self.config.frames,
                    delta,
                )
        if not found:
            least = 2 * self._span(min(self.config.delta))
            raise DataError(
                f"{frames.movie.name} has {n} frame(s), but at least {least} are needed: half to learn from, half to judge by, for "
                f"samples of {self.config.frames} frames at a distance of {min(self.config.delta)} (delta). Use a longer movie, or a "
                "smaller delta."
            )
        return found

    def _span(self, delta: int) -> int:
        return (self.config.frames - 1) * delta + 1

    def _held_frames(self, frames: Frames, deltas: Sequence[int]) -> tuple[int, int]:
        """Return the frames that are held out; in a short movie more than the settings say, so that one sample of each kind fits."""
        n, (first, last) = frames.movie.n_frames, self.config.validation
        high = min(max(round(last * n), 1), n)
        low = min(round(first * n), high - 1)
        missing = self._span(max(deltas)) - (high - low)
        if missing > 0:
            low -= missing
            if low < 0:
                low, high = 0, high - low
        return low, min(high, n)

    def _places(self, movie: int, parts: Sequence[tuple[int, int]], deltas: Sequence[int]) -> _Places:
        """Return the samples that lie wholly in one of the parts (first frame, one after the last), and miss no frame."""
        frames = self.frames[movie]
        there = np.isin(np.arange(frames.movie.n_frames), frames.times)
        starts, steps = [], []
        for first, last in parts:
            for delta in deltas:
                start = np.arange(first, last - self._span(delta) + 1)
                whole = np.all([there[start + k * delta] for k in range(self.config.frames)], axis=0)
                starts.append(start[whole])
                steps.append(np.full(int(whole.sum()), delta))
        ratio = np.asarray(frames.shape) / self._size3
        return _Places(movie, np.concatenate(starts), np.concatenate(steps), float(np.prod(np.maximum(ratio, 1.0))))

    # ---- sentences

    def _check_channels(self) -> None:
        for movie in self.movies:
            if movie.channels != self._channels:
                raise DataError(
                    f"{movie.name} has {movie.channels} channels, but the network takes {self._channels}. "
                    "Choose as many setups of each movie."
                )

    def _check_enough(self) -> None:
        for what, all_places in (("learn from", self._training), ("judge by", self._judging)):
            if not sum(len(one.start) for one in all_places):
                names = ", ".join(movie.name for movie in self.movies)
                raise DataError(
                    f"Too few frames of {names} are left to {what}: with validation {self.config.validation} no "
                    f"{self.config.frames} frames at a distance of {self.config.delta} (delta) lie in that part, missing ones left out. "
                    "Hold out another part, or use a smaller delta."
                )

    def _say_small(self) -> None:
        for frames in self.frames:
            if any(n < size for n, size in zip(frames.shape, self._size3, strict=True)):
                log.warning(
                    "Frames of %s have %d x %d x %d pixels (z, y, x), fewer than a crop (%s): they are mirrored at the border.",
                    frames.movie.name,
                    *frames.shape,
                    " x ".join(map(str, self.size)),
                )


def crop_shape(movies: Sequence[Movie], config: TapConfig, pools: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Return the size of a crop, (Y, X) or (Z, Y, X), pixels after shrinking.

    Its depth is that of the settings; else about as deep as it is wide in world units, no deeper than the flattest movie, and a multiple
    of what the network pools.
    """
    edge = config.crop_size
    if len(pools[0]) == 2:
        return edge, edge
    if config.crop_depth:
        return config.crop_depth, edge, edge
    multiple = prod(pool[0] for pool in pools)
    voxels = np.asarray([voxel_of(movie, config) for movie in movies])
    wanted = edge * float(np.median(voxels[:, 2] / voxels[:, 0]))
    planes = min(movie.shape[0] for movie in movies)
    depth = max(round(min(wanted, planes) / multiple), 1) * multiple
    if depth > planes and planes >= multiple:
        depth -= multiple
    return depth, edge, edge


class _Window(NamedTuple):
    """A window of a frame that may lie partly beyond its border: the region to read, the part of the window that it fills, and the
    pixels (z, y, x) of the window that the others repeat, where there are others."""

    region: Region
    filled: Region
    size: tuple[int, ...]

    @classmethod
    def of(cls, low: Sequence[int], size: Sequence[int], shape: Sequence[int]) -> _Window:
        """Return the window of some size whose first pixel is ``low``; it meets the frame."""
        regions, filled = [], []
        for a, n, whole in zip(low, size, shape, strict=True):
            first, last = max(a, 0), min(a + n, whole)
            regions.append(slice(first, last))
            filled.append(slice(first - a, last - a))
        return cls((regions[0], regions[1], regions[2]), (filled[0], filled[1], filled[2]), tuple(size))

    def mirror(self, window: npt.NDArray[np.float32]) -> None:
        """Fill the rest of a window (..., Z, Y, X): mirrored at the border of the frame, whose outermost pixels come once."""
        for axis, (part, n) in enumerate(zip(self.filled, self.size, strict=True), start=-3):
            before, after, kept = part.start, n - part.stop, part.stop - part.start
            if not before and not after:
                continue
            moved = window.swapaxes(axis, 0)
            if max(before, after) >= kept:  # there and back again
                turn = max(2 * kept - 2, 1)
                at = np.arange(-before, kept + after)
                moved[:] = moved[before + np.abs((at + kept - 1) % turn - (kept - 1))]
                continue
            if before:
                moved[:before] = moved[2 * before : before : -1]
            if after:
                moved[part.stop :] = moved[part.stop - 2 : part.stop - 2 - after : -1]
