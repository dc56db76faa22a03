"""Pairs of frames with links between them, and the crops that each training step sees."""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from bdv_io.tracks import Tracks
from howdah.ellipsoids import transform
from howdah.errors import DataError
from howdah.methods.elephant import defaults
from howdah.methods.elephant.augment import Augmentation, scales
from howdah.methods.elephant.flow.augment import random_crop
from howdah.methods.elephant.flow.config import FlowConfig
from howdah.methods.elephant.flow.prior import moved_pair, smooth_flow
from howdah.methods.elephant.flow.targets import teaching_links
from howdah.methods.elephant.preprocess import Prepared, prepare
from howdah.methods.elephant.samples import Affine, Frames, affine_of
from howdah.nn.device import free_memory_mb

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Vector = tuple[float, float, float]

__all__ = ["Batch", "FlowSamples", "Pair"]

log = logging.getLogger("howdah")

PERCENT = 95.0
ROOM = 2.0  # the largest displacement that can be estimated, in parts of this percentile of those that were seen
LEAST = 4.0  # voxels


@dataclass(frozen=True, eq=False)
class Pair:
    """Two frames on the working grid, and what is known between them.

    Attributes:
        images: Earlier and later frame, each (Z, Y, X), intensity 0..1.
        affine: 4x4, voxels of the later frame to world.
        centre: (N, 3) later spots of the links, voxels.
        covariance: (N, 3, 3), squared voxels.
        displacement: (N, 3), voxels; earlier minus later place.
    """

    images: tuple[F32, F32]
    affine: F64
    centre: F64
    covariance: F64
    displacement: F64


@dataclass(frozen=True, eq=False)
class Batch:
    """Crops of a step: ``images`` (B, 2, z, y, x); ``voxel`` (K,) flat indices into (B, z, y, x), ``displacement`` (K, 3) voxels."""

    images: F32
    voxel: I64
    displacement: F32


@dataclass
class FlowSamples:
    """Crops for training around linked spots; pairs of frames are kept in memory as far as allowed.

    Attributes:
        frames: Reads a frame as (Z, Y, X).
        marks: Spots and links; see :func:`teaching_links` for those that count.
        affine: 4x4, voxels to world, for all frames or by frame.
        config: Settings, with ``None`` where :meth:`resolved` shall decide.
    """

    frames: Frames
    marks: Tracks
    affine: Affine
    config: FlowConfig
    _kept: OrderedDict[int, Prepared] = field(default_factory=OrderedDict, init=False, repr=False)

    def __post_init__(self) -> None:
        self.rows = teaching_links(self.marks)
        if not len(self.rows):
            raise DataError(
                "There is nothing to train the flow on: no link between neighbouring frames was made or approved by a person. "
                "Link about thirty nuclei to where they were one frame earlier (links tagged 'unlabeled' are a machine's)."
            )
        links = self.marks.links[self.rows]
        self.times = [int(t) for t in np.unique(self.marks.t[links[:, 1]])]
        self._pairs: dict[int, tuple[F64, F64, F64]] = {}

    def resolved(self, learned: Vector | None = None) -> FlowConfig:
        """Return the settings with every ``None`` decided (but ``n_keep_axials`` and ``tile_size``: they follow the image).

        Args:
            learned: Largest displacement (z, y, x) of the weights to start from: what the network calls 1 stays what it is.
        """
        pairs = [self._linked(t) for t in self.times]
        moved = np.concatenate([displacement for _, _, displacement in pairs])
        covariance = np.concatenate([covariance for _, covariance, _ in pairs])
        reach = np.median(np.sqrt(np.einsum("nii->ni", covariance)), axis=0)
        far = np.maximum(np.percentile(np.abs(moved), PERCENT, axis=0), reach)  # one wrong link must not set the scale
        far[1:] = max(
            np.percentile(np.linalg.norm(moved[:, 1:], axis=1), PERCENT), *reach[1:]
        )  # crops are turned in xy
        config = self.config
        limit = config.max_displacement or learned
        if limit is None:
            z, y, x = np.maximum(np.ceil(ROOM * far), LEAST).tolist()
            limit = (z, y, x)
        beyond = (np.abs(moved) > limit).any(axis=1)
        if beyond.any():
            log.warning(
                "%d of %d links are longer than max_displacement = %s voxels (z, y, x); the flow cannot reach so far. Are they right?",
                beyond.sum(),
                len(moved),
                limit,
            )
        image, grid = self._prepared(self.times[0])
        flags = defaults.keep_axials(grid, image.shape, n_keep=config.n_keep_axials)
        multiple = defaults.multiples(flags)
        crop = config.crop_size
        if crop is None:
            usual = defaults.crop_size(covariance, image.shape, multiple)
            wanted = np.maximum(usual, 2 * np.percentile(np.abs(moved), 90, axis=0) + 4 * reach)
        else:
            wanted = np.asarray(crop, dtype=np.float64)
        sizes = [
            max(min(round(w / m), -(-n // m)), 1) * m for w, m, n in zip(wanted, multiple, image.shape, strict=True)
        ]
        return config.but(max_displacement=limit, crop_size=tuple(sizes))

    @property
    def steps(self) -> int:
        """Number of training steps: each pass sees ``n_crops`` crops of every pair of frames."""
        return self.config.n_epochs * self.steps_a_pass

    @property
    def steps_a_pass(self) -> int:
        """Steps in one pass."""
        return -(-self.config.n_crops * len(self.times) // self.config.batch_size)

    def rate(self, step: int) -> float:
        """Return the learning rate of a step: each of the settings' holds for an equal part of the passes."""
        rates = self.config.learning_rates
        return rates[min(step * len(rates) // self.steps, len(rates) - 1)]

    def pair(self, time: int) -> Pair:
        """Return the pair of frames ``time - 1`` and ``time``."""
        earlier, later = self._prepared(time - 1), self._prepared(time)
        if earlier.image.shape != later.image.shape:
            raise DataError(
                f"Frames {time - 1} and {time} have different sizes, {earlier.image.shape} and {later.image.shape} voxels; "
                "the flow needs equal ones."
            )
        centre, covariance, displacement = self._linked(time)
        return Pair((earlier.image, later.image), later.affine, centre, covariance, displacement)

    def batch(self, step: int) -> Batch:
        """Return the crops of a training step. The same step gives the same crops."""
        config = self.config
        if config.crop_size is None:
            raise DataError("The size of crops is not decided yet: use resolved() settings.")
        rng = np.random.default_rng([config.seed, 1, step])
        images, voxels, values = [], [], []
        per_pass, n_voxels = config.n_crops * len(self.times), int(np.prod(config.crop_size))
        for place in range(config.batch_size):
            one_pass, nth = divmod(step * config.batch_size + place, per_pass)
            order = np.random.default_rng([config.seed, 2, one_pass]).permutation(len(self.times))
            pair = self.pair(
                self.times[order[nth // config.n_crops]]
            )  # crops of a pair follow each other: it is read once
            chosen = rng.integers(len(pair.centre))
            way = pair.displacement[chosen]
            reach = np.abs(way) / 2 + np.sqrt(np.diag(pair.covariance[chosen]))
            crop = random_crop(
                pair.images[1].shape,
                config.crop_size,
                around=np.clip(pair.centre[chosen] + way / 2, 0, np.asarray(pair.images[1].shape) - 1),
                reach=reach,
                how=self._how(pair.affine),
                rng=rng,
            )
            labels = crop.labels(pair.centre, pair.covariance, pair.displacement)
            images.append(np.stack([crop.image(image) for image in pair.images]))
            voxels.append(labels.voxel + place * n_voxels)
            values.append(labels.displacement)
        return Batch(np.stack(images), np.concatenate(voxels), np.concatenate(values))

    def prior_batch(self, step: int) -> Batch:
        """Return crops of a step of the prior training: frames moved in a known way (see :mod:`prior`)."""
        config = self.config
        if config.crop_size is None or config.max_displacement is None:
            raise DataError("The settings are not decided yet: use resolved() settings.")
        rng = np.random.default_rng([config.seed, 3, step])
        images, voxels, values = [], [], []
        for place in range(config.batch_size):
            pair = self.pair(self.times[rng.integers(len(self.times))])
            frame = pair.images[rng.integers(2)]
            around = np.clip(pair.centre[rng.integers(len(pair.centre))], 0, np.asarray(frame.shape) - 1)
            how = self._how(pair.affine)
            crop = random_crop(frame.shape, config.crop_size, around=around, reach=np.zeros(3), how=how, rng=rng)
            flow = smooth_flow(config.crop_size, np.asarray(config.max_displacement) / 2, rng)
            image, voxel, value = moved_pair(frame, crop, flow, rng)
            images.append(image)
            voxels.append(voxel + place * int(np.prod(config.crop_size)))
            values.append(value)
        return Batch(np.stack(images), np.concatenate(voxels), np.concatenate(values))

    @cached_property
    def flags(self) -> tuple[bool, ...]:
        """Pooling flags, of the first pair for all: the voxels of a movie have one shape."""
        image, grid = self._prepared(self.times[0])
        return defaults.keep_axials(grid, image.shape, n_keep=self.config.n_keep_axials)

    def _how(self, affine: F64) -> Augmentation:
        scale = scales(self.config.scale_range, defaults.voxel_size(affine))
        return Augmentation(flip=self.config.flip, scale=scale, rotation_degrees=self.config.rotation_degrees)

    def _linked(self, time: int) -> tuple[F64, F64, F64]:
        """Centres, covariances and displacements of the links into a frame, voxels of the working grid."""
        if time not in self._pairs:
            links = self.marks.links[self.rows]
            earlier, later = links[self.marks.t[links[:, 1]] == time].T
            grids = self._prepared(time - 1).affine, self._prepared(time).affine
            before, _ = transform(self.marks.centre[earlier], self.marks.covariance[earlier], np.linalg.inv(grids[0]))
            centre, covariance = transform(
                self.marks.centre[later], self.marks.covariance[later], np.linalg.inv(grids[1])
            )
            shape = np.asarray(self._prepared(time).image.shape)
            inside = ((centre > -1) & (centre < shape)).all(axis=1)
            if not inside.any():
                raise DataError(
                    f"None of the {len(centre)} linked spots of frame {time} lies inside its image of {tuple(shape.tolist())} "
                    "voxels (z, y, x). Check that annotation and movie belong together and have the same voxel size."
                )
            self._pairs[time] = (centre[inside], covariance[inside], (before - centre)[inside])
        return self._pairs[time]

    def _prepared(self, time: int) -> Prepared:
        if time in self._kept:
            self._kept.move_to_end(time)
            return self._kept[time]
        frame = self.frames(time)
        if np.ndim(frame) != 3 or 0 in np.shape(frame):
            raise DataError(f"Frame {time} of the movie has shape {np.shape(frame)}; expected voxels (Z, Y, X).")
        if not np.isfinite(frame.min()) or not np.isfinite(frame.max()):
            raise DataError(f"Frame {time} of the movie holds values that are no numbers; it cannot be normalised.")
        self._kept[time] = prepared = prepare(frame, affine_of(self.affine, time), self.config)
        room = (self.config.memory_mb or free_memory_mb()) / 2 * 2**20
        while len(self._kept) > 2 and sum(kept.image.nbytes for kept in self._kept.values()) > room:
            self._kept.popitem(last=False)
        return prepared
