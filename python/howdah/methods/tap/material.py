"""What a classifier sees of spots: numbers of their surroundings, crops of the features, or crops of the images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from howdah.errors import ConfigError
from howdah.methods.tap.augment import margin
from howdah.methods.tap.config import TapConfig
from howdah.methods.tap.head_config import HeadConfig
from howdah.methods.tap.pooled import (
    Describes,
    Parts,
    Reads,
    Region,
    dense_parts,
    gathered,
    in_shrunk,
    inside,
    present,
    spot_features,
)

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = ["Places", "View", "crop_size", "cut", "steps_of", "usable"]

CROPS = (24, 64)  # pixels, of automatic crops
STRIDE = 8
SPOTS = 3.0  # diameters in a crop
BEND = 20  # a crop is bent by this part of it at most
MOST_GB = 8.0
PORTION_GB = 0.5  # of crops that are looked at together in prediction


@dataclass(frozen=True, eq=False)
class Places:
    """Where spots are: frames (N,), and centres (N, 3) and covariances (N, 3, 3) in pixels of the movie."""

    t: I64
    centre: F64
    covariance: F64

    @classmethod
    def of(cls, t: npt.ArrayLike, centre: npt.ArrayLike, covariance: npt.ArrayLike) -> Places:
        """Make one of anything like arrays."""
        return cls(
            np.asarray(t, np.int64).reshape(-1),
            np.asarray(centre, np.float64).reshape(-1, 3),
            np.asarray(covariance, np.float64).reshape(-1, 3, 3),
        )

    def take(self, rows: npt.ArrayLike) -> Places:
        """Return some of the spots."""
        at = np.asarray(rows)
        return Places(self.t[at], self.centre[at], self.covariance[at])


def steps_of(config: TapConfig, head: HeadConfig) -> tuple[int, ...]:
    """Return how many frames later the frames of a sample are: (0, delta) for a pair, (0,) for a frame."""
    return (0, min(config.delta)) if head.per == "pair" else (0,)


def usable(places: Places, frames: Reads, config: TapConfig, steps: Sequence[int]) -> tuple[I64, str]:
    """Return the spots of which something can be seen, and a sentence on the others (empty where there are none)."""
    centre, _ = in_shrunk(places.centre, places.covariance, config.shrink)
    within, there = inside(centre, frames.shape), present(places.t, frames.times, steps)
    said = []
    if not within.all():
        said.append(f"{np.count_nonzero(~within)} spots lie outside of the image")
    late = np.count_nonzero(within & ~there)
    if late:
        said.append(f"of {late} spots the frame, or the one {steps[-1]} later, is not there")
    sentence = f"Left out: {' and '.join(said)}." if said else ""
    return np.flatnonzero(within & there), sentence


def crop_size(
    covariance: F64, config: TapConfig, head: HeadConfig, *, dimensions: int, voxel_size: Sequence[float]
) -> tuple[int, ...]:
    """Return the crop (Y, X) or (Z, Y, X) around a spot, pixels, shrunk.

    Args:
        covariance: (N, 3, 3) of the labelled spots, squared pixels of the movie.
        config: Settings of the network.
        head: Settings; what they name is taken.
        dimensions: Of the network.
        voxel_size: (z, y, x) of the shrunk image, any unit.
    """
    size = head.crop_size
    if size is None:
        radius = float(np.median(np.linalg.det(covariance[:, 1:, 1:]) ** 0.25)) / config.shrink
        size = int(np.clip(-(-SPOTS * 2 * radius // STRIDE) * STRIDE, *CROPS))
    if dimensions == 2:
        return (size, size)
    deep = head.crop_depth or max(round(size * voxel_size[1] / voxel_size[0]), 4)
    return (deep, size, size)


@dataclass(frozen=True, eq=False)
class View:
    """What one kind of classifier sees.

    Attributes:
        config: Settings of the network, settled.
        head: Settings of the classifier.
        steps: See :func:`steps_of`.
        crop: See :func:`crop_size`; not used by a linear classifier of frozen features.
    """

    config: TapConfig
    head: HeadConfig
    steps: tuple[int, ...]
    crop: tuple[int, ...]

    @property
    def pooled(self) -> bool:
        """Whether it sees numbers, not crops."""
        return self.head.pooled

    @property
    def frozen(self) -> bool:
        """Whether it sees features of whole frames, which do not change in training."""
        return self.head.mode == "frozen"

    @property
    def changes(self) -> TapConfig:
        """Settings of the augmentation of image crops."""
        if not self.head.augment:
            return self.config.but(augment=0.0)
        return self.config.but(elastic=min(self.config.elastic, self.crop[-1] / BEND))

    def portions(self, rows: I64, form: Mapping[str, Any]) -> list[I64]:
        """Cut rows of spots into portions whose crops fit into memory together.

        Args:
            rows: (R,) the spots.
            form: Of the network: how many channels and features there are.
        """
        if self.pooled or not len(rows):
            return [rows] if len(rows) else []
        channels = int(form["features" if self.frozen else "channels"])
        most = int(PORTION_GB * 2**30 / (4 * len(self.steps) * channels * float(np.prod(self.crop))))
        return [rows[first : first + max(most, 1)] for first in range(0, len(rows), max(most, 1))]

    def of(self, places: Places, frames: Reads, embedder: Describes | None, *, training: bool) -> torch.Tensor:
        """Return what is seen of spots that :func:`usable` named: numbers (N, K), or crops (N, T, C, *S); float32.

        Args:
            places: The spots.
            frames: The movie.
            embedder: The network; not needed where images are seen.
            training: Image crops get the margin that augmentation needs.

        Raises:
            ConfigError: It does not fit into memory.
        """
        if self.pooled and embedder is not None:
            values, _ = spot_features(
                embedder,
                frames,
                places.t,
                places.centre,
                places.covariance,
                delta=self.steps[1] if len(self.steps) == 2 else None,
                scale=self.head.scale,
                least_radius=self.head.least_radius,
            )
            if (
                len(self.steps) == 2
            ):  # what changes is what a pair is about; of few labels no classifier would learn to subtract
                now, later = np.split(values[:, :-1], 2, axis=1)
                values = np.concatenate([values, later - now], axis=1)
            return torch.from_numpy(values)
        size = self.crop
        if training and not self.frozen:
            size = tuple(n + 2 * m for n, m in zip(size, margin(self.changes, size), strict=True))
        parts = dense_parts(embedder, frames) if self.frozen and embedder is not None else _images(frames)
        return cut(parts, places, frames, size=size, steps=self.steps, shrink=self.config.shrink)


def _images(frames: Reads) -> Parts:
    def parts(time: int) -> Iterator[tuple[Region, F32]]:
        whole: Any = tuple(slice(0, n) for n in frames.shape)
        yield whole, frames.frame(time)

    return parts


def cut(
    parts: Parts, places: Places, frames: Reads, *, size: Sequence[int], steps: Sequence[int], shrink: int
) -> torch.Tensor:
    """Return crops (N, T, C, *size) around spots; beyond the border the outermost pixels repeat.

    Args:
        parts: See :func:`howdah.methods.tap.pooled.gathered`.
        places: The spots.
        frames: The movie.
        size: (Y, X), of the plane of the spot, or (Z, Y, X).
        steps: Frames later, from 0.
        shrink: Pixels of the movie in a pixel, along y and x.

    Raises:
        ConfigError: They do not fit into memory.
    """
    centre, _ = in_shrunk(places.centre, places.covariance, shrink)
    deep = (1, *size) if len(size) == 2 else tuple(size)
    first = np.rint(centre - (np.array(deep) - 1) / 2).astype(np.int64)
    axes = [
        np.clip(first[:, axis, None] + np.arange(n), 0, frames.shape[axis] - 1) for axis, n in enumerate(deep)
    ]  # (N, n) each
    _, n_y, n_x = frames.shape
    found: F32 | None = None
    rows_of = {now: np.flatnonzero(places.t == now) for now in np.unique(places.t).tolist()}
    wanted = {}
    for now, rows in rows_of.items():
        z, y, x = (axis[rows] for axis in axes)
        flat = (z[:, :, None, None] * n_y + y[:, None, :, None]) * n_x + x[:, None, None, :]
        wanted[now] = flat.reshape(-1)
    for now, values in gathered(parts, frames.shape, wanted, steps):  # (M, T, C)
        rows = rows_of[now]
        n_channels = values.shape[2]
        if found is None:
            shape = (len(places.t), len(steps), n_channels, *size)
            _check_memory(shape)
            found = np.empty(shape, dtype=np.float32)
        block = values.reshape(len(rows), -1, len(steps), n_channels).transpose(0, 2, 3, 1)
        found[rows] = block.reshape(len(rows), *found.shape[1:])
    return torch.from_numpy(np.empty((0, len(steps), 0, *size), np.float32) if found is None else found)


def _check_memory(shape: tuple[int, ...]) -> None:
    size = float(np.prod(shape)) * 4 / 2**30
    if size > MOST_GB:
        raise ConfigError(
            f"Crops around {shape[0]} spots would take {size:.1f} GiB; at most {MOST_GB:g} are taken. Use the linear head, a smaller "
            "crop_size, or fewer labels."
        )
