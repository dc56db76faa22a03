"""Samples for training: crops at one place in a few frames of a movie, drawn anywhere, and fixed ones that judge (paper, section 2).

What a step sees follows from (seed, step) alone: neither memory nor what was drawn before makes a difference.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from howdah.errors import DataError
from howdah.methods.tap.augment import Changes, augmented, margin, shuffled
from howdah.methods.tap.config import TapConfig
from howdah.methods.tap.movies import Frames, Movie, Region, voxel_of
from howdah.nn.device import Place, free_memory_mb

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Tensor = torch.Tensor

__all__ = ["Samples", "crop_shape"]

TRIES = 16  # of which the first that shows cells, and no blank frame, is taken
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
        self._check_channels(form["channels"])
        room = (config.memory_mb or free_memory_mb() / 2) / len(movies)
        self.frames = [Frames(movie, config, memory_mb=room) for movie in movies]
        self.size = crop_shape(movies, config, self.pools)
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
        self._told: set[tuple[int, int]] = set()

    # ---- what training asks for

    def crops(self, step: int) -> Tensor:
        """Return the samples of a step (B, T, C, *S') on the CPU, in order of time, larger than a crop by what augmentation needs.

        Beyond the border the image is mirrored.

        Args:
            step: From 0.

        Raises:
            DataError: A frame is not what its movie says, holds no numbers, or all are blank.
        """
        return self._read(self._drawn(step), slice(0, self.batch_size), self._margin)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the samples of a step (B, T, C, *S) on the device, changed and shuffled, and where the first frame is (B,)."""
        device = self.place.device
        generator = torch.Generator(device)
        generator.manual_seed(int(np.random.default_rng([self.config.seed, step, 1]).integers(2**63)))
        if device.type != "cpu":
            crops = self.crops(step).to(device)
            return shuffled(augmented(crops, self.config, size=self.size, generator=generator), generator=generator)
        drawn = self._drawn(step)
        changes = Changes(self.batch_size, self.config.frames, self.config, size=self.size, generator=generator)
        found = torch.empty((self.batch_size, self.config.frames, self.movies[0].channels, *self.size))
        for rows in changes.parts():  # as augmented does, but a few crops at a time, which stay in the cache of the CPU
            changes.apply(self._read(drawn, rows, self._margin), rows, out=found[rows])
        return shuffled(found, generator=generator)

    def held(self) -> list[tuple[Tensor, Tensor]]:
        """Return batches (x, y) of the frames that are held out, on the CPU: the same in every process, not changed.

        Each place of the first frame comes equally often.
        """
        count, frames = self.config.validation_samples, self.config.frames
        drawn = self._draw(np.random.default_rng([self.config.seed, HELD]), self._judging, count)
        found = []
        for first in range(0, count, self.batch_size):
            some = slice(first, min(first + self.batch_size, count))
            x = self._read(drawn, some, (0,) * len(self.size))
            y = torch.arange(some.start, some.stop) % frames
            from_ = (torch.arange(frames)[None] - y[:, None]) % frames
            found.append((x[torch.arange(len(x))[:, None], from_], y))
        return found

    # ---- what is drawn

    def _drawn(self, step: int) -> _Drawn:
        return self._draw(np.random.default_rng([self.config.seed, step]), self._training, self.batch_size)

    def _draw(self, rng: np.random.Generator, places: Sequence[_Places], count: int) -> _Drawn:
        """Draw samples; where one is blank or shows no cells the next draw takes its place."""
        weights = np.cumsum([one.weight for one in places])
        u = rng.random((TRIES, count, 6))
        movie = np.searchsorted(weights / weights[-1], u[..., 0], side="right").clip(max=len(places) - 1)
        start, delta = np.empty_like(movie), np.empty_like(movie)
        low = np.empty((*movie.shape, 3), dtype=np.int64)
        for at, one in enumerate(places):
            here = movie == at
            row = (u[here, 1] * len(one.start)).astype(np.int64)
            start[here], delta[here] = one.start[row], one.delta[row]
            shape = np.asarray(self.frames[at].shape)
            low[here] = (u[here, 2:5] * np.maximum(shape - self._size3 + 1, 1)).astype(np.int64)
            low[here] -= np.maximum(self._size3 - shape, 0) // 2
        tried = _Drawn(movie, start, delta, low)
        chosen = self._chosen(tried, u[..., 5])
        rows = np.arange(count)
        return _Drawn(movie[chosen, rows], start[chosen, rows], delta[chosen, rows], low[chosen, rows])

    def _chosen(self, tried: _Drawn, chance: F64) -> I64:
        """Return which draw (N,) of each sample to take."""
        tries, count = tried.movie.shape
        chosen = np.zeros(count, dtype=np.int64)
        for n in range(count):
            for k in range(tries):
                if not self._blank(int(tried.movie[k, n]), int(tried.start[k, n]), int(tried.delta[k, n])):
                    chosen[n] = k
                    break
            else:
                names = ", ".join(movie.name for movie in self.movies)
                raise DataError(
                    f"Learning from {names} failed: frames are blank (one value everywhere). Is it the right channel?"
                )
        return chosen

    def _blank(self, movie: int, start: int, delta: int) -> bool:
        frames, found = self.frames[movie], False
        for time in range(start, start + (self.config.frames - 1) * delta + 1, delta):
            if frames.is_blank(time):
                found = True
                if (movie, time) not in self._told:
                    self._told.add((movie, time))
                    log.warning("Frame %d of %s is blank and is left out.", time, frames.movie.name)
        return found

    # ---- pixels

    @property
    def _size3(self) -> I64:
        return np.asarray((1, *self.size) if self.dimensions == 2 else self.size, dtype=np.int64)

    def _read(self, drawn: _Drawn, rows: slice, extra: tuple[int, ...]) -> Tensor:
        """Return some of the crops (N, T, C, *S'), normalised, with so many pixels more on each side."""
        extra3 = np.asarray((0, *extra) if self.dimensions == 2 else extra)
        size = self._size3 + 2 * extra3
        channels, n_frames = self.movies[0].channels, self.config.frames
        found = np.empty((rows.stop - rows.start, n_frames, channels, *size), dtype=np.float32)
        moments = (drawn.movie[rows].tolist(), drawn.start[rows].tolist(), drawn.delta[rows].tolist())
        for n, (movie, start, delta) in enumerate(zip(*moments, strict=True)):
            frames = self.frames[movie]
            window = _Window.of(drawn.low[rows.start + n] - extra3, size, frames.shape)
            inside = found[n][(slice(None), slice(None), *window.filled)]
            for t in range(n_frames):
                time = start + t * delta
                scale, add = frames.factors(time)
                np.multiply(frames.raw(time, window.region), scale, out=inside[t], dtype=np.float32)
                inside[t] += add
            window.mirror(found[n])
        flat = found.reshape(*found.shape[:3], *size[1:]) if self.dimensions == 2 else found
        return torch.from_numpy(flat)

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
                f"{frames.movie.name} has {n} frames, but at least {least} are needed: half to learn from, half to judge by, for samples "
                f"of {self.config.frames} frames at a distance of {min(self.config.delta)} (delta). Use a longer movie or a smaller delta."
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

    def _check_channels(self, channels: int) -> None:
        for movie in self.movies:
            if movie.channels != channels:
                raise DataError(
                    f"{movie.name} has {movie.channels} channels, but the network takes {channels}. Choose as many setups of each movie."
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


@dataclass(frozen=True)
class _Window:
    """A window of a frame that may lie partly beyond its border: the region to read, the part of the window that it fills, and the
    pixels (z, y, x) of the window that the others repeat, where there are others."""

    region: Region
    filled: Region
    size: tuple[int, ...]

    @classmethod
    def of(cls, low: I64, size: I64, shape: Sequence[int]) -> _Window:
        """Return the window of some size whose first pixel is ``low``."""
        regions, filled = [], []
        for a, n, whole in zip(low.tolist(), size.tolist(), shape, strict=True):
            first, last = min(max(a, 0), whole - 1), max(min(a + n, whole), 1)
            regions.append(slice(first, last))
            filled.append(slice(first - a, last - a))
        return cls((regions[0], regions[1], regions[2]), (filled[0], filled[1], filled[2]), tuple(size.tolist()))

    def mirror(self, window: npt.NDArray[np.float32]) -> None:
        """Fill the rest of a window (..., Z, Y, X): mirrored at the border of the frame, whose outermost pixels come once."""
        for axis, (part, n) in enumerate(zip(self.filled, self.size, strict=True), start=-3):
            moved = np.moveaxis(window, axis, 0)
            before, after, kept = part.start, n - part.stop, part.stop - part.start
            if max(before, after) >= kept:  # there and back again
                turn = max(2 * kept - 2, 1)
                at = np.arange(-before, kept + after)
                moved[:] = moved[part.start + np.abs((at + kept - 1) % turn - (kept - 1))]
                continue
            if before:
                moved[:before] = moved[2 * before : before : -1]
            if after:
                moved[part.stop :] = moved[part.stop - 2 : part.stop - 2 - after : -1]
