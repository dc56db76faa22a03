"""What the features say of a spot: their mean and maximum around it, now and later, and where time has an arrow there.

Each frame is embedded once, part by part; only the pixels that are asked for are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from howdah.ellipsoids import runs_of
from howdah.methods.tap.arrow import Arrow
from howdah.methods.tap.config import TapConfig
from howdah.methods.tap.network import Tap

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]
Shape = tuple[int, int, int]
Region = tuple[slice, slice, slice]
Parts = Callable[[int], Iterable[tuple[Region, F32]]]

__all__ = [
    "Describes",
    "Reads",
    "dense_parts",
    "gathered",
    "in_shrunk",
    "inside",
    "present",
    "spot_features",
]

MOST = 4096  # pixels of a spot that are looked at; of larger ones every second, third ...
ROUND = 0.25  # squared pixels that a covariance gets along each axis, so that flat spots have a thickness


class Reads(Protocol):
    """Normalised frames: :class:`howdah.methods.tap.movies.Frames`."""

    @property
    def shape(self) -> Shape:
        """Pixels (Z, Y, X) of a frame, shrunk."""

    @property
    def times(self) -> Sequence[int]:
        """Frames that are there."""

    def frame(self, time: int) -> F32:
        """Return a frame (C, Z, Y, X)."""

    def region(self, time: int, region: Region) -> F32:
        """Return a region (C, Z, Y, X) of a frame."""


class Describes(Protocol):
    """Gives features of frames: :class:`howdah.methods.tap.predict.Embedder`."""

    config: TapConfig
    form: dict[str, Any]
    network: Tap

    def regions(self, read: Callable[[Region], F32], shape: Sequence[int]) -> Iterator[tuple[Region, F32]]:
        """Describe a frame part by part: region, and features (F, Z, Y, X)."""


def spot_features(
    embedder: Describes,
    frames: Reads,
    t: npt.ArrayLike,
    centre_px: npt.ArrayLike,
    covariance_px: npt.ArrayLike,
    *,
    delta: int | None = 1,
    scale: float = 1.0,
    least_radius: float = 3.0,
) -> tuple[F32, tuple[str, ...]]:
    """Describe spots by numbers (paper, section 3.4: what its linear classifier sees; how it pools, it does not say).

    Args:
        embedder: The network.
        frames: The movie as the network sees it.
        t: (N,) frame of each spot.
        centre_px: (N, 3) (z, y, x), pixels of the movie (not shrunk).
        covariance_px: (N, 3, 3), squared pixels of the movie; eigenvalues are squared half-axes.
        delta: Frames from now to later. None: nothing of later, and no score.
        scale: The spot's surroundings; multiple of its half-axes.
        least_radius: They reach at least so far along y and x; pixels, shrunk.

    Returns:
        (N, K) float32 and the names of the columns: F means and F maxima of the features around the spot, the same in the frame
        ``t + delta`` at the same place, and ``"score"``, the mean evidence there that time runs forward (logit; 0 where time has no
        arrow, its sign says whether the network is right), of these two frames alone, whatever number it learned with. Rows are NaN
        where a frame is not there, or the centre lies outside of the image.
    """
    time = np.asarray(t, np.int64).reshape(-1)
    centre, covariance = in_shrunk(centre_px, covariance_px, embedder.config.shrink)
    n_features = int(embedder.form["features"])
    steps = (0,) if delta is None else (0, delta)
    names = [
        f"{when}{what} {k + 1}"
        for when in ("", "later ")[: len(steps)]
        for what in ("mean", "maximum")
        for k in range(n_features)
    ]
    if len(steps) == 2:
        names.append("score")
    found = np.full((len(time), len(names)), np.nan, dtype=np.float32)
    able = np.flatnonzero(inside(centre, frames.shape) & present(time, frames.times, steps))
    arrow = Arrow(embedder.network, frames=len(steps)) if len(steps) == 2 else None
    spots: dict[int, tuple[I64, I64]] = {}
    wanted: dict[int, I64] = {}
    for now in np.unique(time[able]).tolist():
        rows = able[time[able] == now]
        flat, length = _surroundings(
            centre[rows], covariance[rows], frames.shape, scale=scale, least_radius=least_radius
        )
        spots[now], wanted[now] = (rows, np.cumsum(length) - length), flat
    for now, values in gathered(dense_parts(embedder, frames), frames.shape, wanted, steps):  # (M, S, F)
        rows, first = spots[now]
        count = np.diff(np.append(first, len(values)))[:, None, None]
        mean, most = np.add.reduceat(values, first) / count, np.maximum.reduceat(values, first)
        columns = [np.concatenate([mean, most], axis=2).reshape(len(rows), -1)]
        if arrow is not None:
            said = arrow.see(torch.from_numpy(values.reshape(len(values), -1)))[0].numpy()
            columns.append(np.add.reduceat(said, first)[:, None] / count[:, 0])
        found[rows] = np.concatenate(columns, axis=1)
    return found, tuple(names)


def in_shrunk(centre_px: npt.ArrayLike, covariance_px: npt.ArrayLike, shrink: int) -> tuple[F64, F64]:
    """Return centres (N, 3) and covariances (N, 3, 3) in pixels of the shrunk image, of those of the movie."""
    centre = np.array(centre_px, dtype=np.float64).reshape(-1, 3)
    covariance = np.array(covariance_px, dtype=np.float64).reshape(-1, 3, 3)
    factor = np.array([1.0, shrink, shrink])
    return (centre + 0.5) / factor - 0.5, covariance / np.multiply.outer(factor, factor)


def inside(centre: F64, shape: Shape) -> Bool:
    """Say which centres (N, 3), in pixels, lie in the image."""
    with np.errstate(invalid="ignore"):
        return np.asarray(((centre >= -0.5) & (centre < np.asarray(shape) - 0.5)).all(axis=1))


def present(time: I64, times: Iterable[int], steps: Sequence[int]) -> Bool:
    """Say of which frames (N,) all that lie ``steps`` later are there."""
    there = np.fromiter(times, np.int64)
    return np.asarray(np.stack([np.isin(time + step, there) for step in steps]).all(axis=0))


def dense_parts(embedder: Describes, frames: Reads) -> Parts:
    """Return what gives the features of a frame part by part, for :func:`gathered`."""

    def parts(time: int) -> Iterator[tuple[Region, F32]]:
        return embedder.regions(lambda region: frames.region(time, region), frames.shape)

    return parts


def gathered(parts: Parts, shape: Shape, wanted: dict[int, I64], steps: Sequence[int]) -> Iterator[tuple[int, F32]]:
    """Collect the values at some pixels of frames and of later ones; each frame is asked for once.

    Args:
        parts: Gives a frame, by its number, part by part: region (z, y, x) and (C, Z, Y, X) values.
        shape: (Z, Y, X) of a frame.
        wanted: Frame -> (M,) pixels, positions in the flattened frame.
        steps: So many frames later, growing, from 0.

    Yields:
        Frame, and (M, S, C) values of its pixels, in that frame and each of those that are ``steps`` later.
    """
    waiting: dict[int, list[F32]] = {}
    for time in sorted({now + step for now in wanted for step in steps}):
        askers = [time - step for step in steps if time - step in wanted]
        flat = np.concatenate([wanted[now] for now in askers])
        values = np.split(_picked(parts(time), flat, shape), np.cumsum([len(wanted[now]) for now in askers])[:-1])
        for now, own in zip(askers, values, strict=True):
            waiting.setdefault(now, []).append(own)
            if time == now + steps[-1]:
                yield now, np.stack(waiting.pop(now), axis=1)


def _picked(parts: Iterable[tuple[Region, F32]], flat: I64, shape: Shape) -> F32:
    """Return the values (M, C) of pixels, from the parts of a frame."""
    z, y, x = np.unravel_index(flat, shape)
    found: F32 | None = None
    for region, values in parts:
        here = np.flatnonzero(
            np.all([(at >= s.start) & (at < s.stop) for at, s in zip((z, y, x), region, strict=True)], axis=0)
        )
        if found is None:
            found = np.empty((len(flat), len(values)), dtype=np.float32)
        if len(here):
            at = tuple(axis[here] - s.start for axis, s in zip((z, y, x), region, strict=True))
            found[here] = values[(slice(None), *at)].T
    return np.empty((0, 0), np.float32) if found is None else found


def _surroundings(centre: F64, covariance: F64, shape: Shape, *, scale: float, least_radius: float) -> tuple[I64, I64]:
    """Return the pixels around spots, spot after spot, and how many each has; all have one at least."""
    wide = covariance * scale**2 + ROUND * np.eye(3)
    for axis in (1, 2):  # at least so far along y and x
        wide[:, axis, axis] = np.maximum(wide[:, axis, axis], least_radius**2)
    runs = runs_of(centre, wide, shape, min_voxels=1)
    flat, owner = runs.voxels()
    length = np.bincount(owner, minlength=len(centre))
    every = -(-np.maximum(length, 1) // MOST)
    place = np.arange(len(flat)) - (np.cumsum(length) - length)[owner]
    kept = place % every[owner] == 0
    flat, owner = flat[kept], owner[kept]
    length = np.bincount(owner, minlength=len(centre))
    lost = np.flatnonzero(length == 0)  # thinner than a pixel, between two
    if lost.size:
        nearest = np.clip(np.rint(centre[lost]), 0, np.asarray(shape) - 1).astype(np.int64)
        flat = np.concatenate([flat, np.ravel_multi_index(tuple(nearest.T), shape)])
        owner = np.concatenate([owner, lost])
        order = np.argsort(owner, kind="stable")
        flat, owner = flat[order], owner[order]
        length = np.bincount(owner, minlength=len(centre))
    return flat, length
