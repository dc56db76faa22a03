"""The marked frames of a movie, normalised and labelled, and the crops that each training step sees."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io.tracks import Tracks
from howdah.ellipsoids import transform
from howdah.errors import DataError
from howdah.methods.elephant import defaults
from howdah.methods.elephant.augment import Augmentation, random_crop, scales
from howdah.methods.elephant.config import ElephantConfig
from howdah.methods.elephant.guesses import guess_nuclei, hill_height
from howdah.methods.elephant.preprocess import Prepared, prepare
from howdah.methods.elephant.status import Status, spot_status
from howdah.methods.elephant.targets import render_labels
from howdah.nn.device import free_memory_mb

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Affine = F64 | Callable[[int], F64]
Frames = Callable[[int], npt.NDArray[Any]]

__all__ = ["MarkedFrame", "Samples", "affine_of"]

PRIOR_SCALE = 0.2


@dataclass(frozen=True)
class MarkedFrame:
    """One frame on the working grid: intensity 0..1, labels 0..6 (both (Z, Y, X)), the 4x4 affine of that grid to the world,
    and the marked positions (N, 3) in its voxels."""

    image: F32
    affine: F64
    labels: npt.NDArray[np.uint8]
    marks: F64


def affine_of(affine: Affine, frame: int) -> F64:
    """Return the 4x4 matrix, voxels to world, of a frame."""
    matrix = np.asarray(affine(frame) if callable(affine) else affine, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:3, :3])) < 1e-12:
        raise DataError(
            f"The affine of frame {frame} must be a 4x4 matrix that can be inverted; found {matrix.tolist()}."
        )
    return matrix


def _in_voxels(marks: Tracks, affine: F64) -> tuple[F64, F64]:
    """Centres and covariances of marks in voxels; ``affine`` goes from voxels to the world."""
    return transform(marks.centre, marks.covariance, np.linalg.inv(affine))


@dataclass
class Samples:
    """Crops for training, drawn from the marked frames; frames are kept in memory as far as allowed.

    Attributes:
        frames: Reads a frame as (Z, Y, X).
        marks: All spots; those of status UNLABELLED are not used.
        affine: 4x4, voxels to world, for all frames or by frame.
        config: Settings, with ``None`` where :meth:`resolved` shall decide.
    """

    frames: Frames
    marks: Tracks
    affine: Affine
    config: ElephantConfig
    _kept: OrderedDict[int, MarkedFrame] = field(default_factory=OrderedDict, init=False, repr=False)

    def __post_init__(self) -> None:
        self.automatic_background = self.config.background_threshold is None
        status = spot_status(self.marks)
        self.marks = self.marks.select(status != Status.UNLABELLED)
        self.status = spot_status(self.marks)
        if not np.isin(self.status, (Status.TP, Status.FN)).any():
            raise DataError(
                "There is nothing to train on: no spot is a nucleus that a person marked or accepted. Mark about ten nuclei "
                "(tags 'fn', 'tp', or none in the tag set 'Detection'); 'unlabeled' spots are predictions and do not count."
            )
        self.times = [int(t) for t in np.unique(self.marks.t)]

    def resolved(self) -> ElephantConfig:
        """Return the settings with every ``None`` decided (but ``n_keep_axials`` and ``tile_size``: they follow the image)."""
        positive = np.isin(self.status, (Status.TP, Status.FN))
        nuclei = self.marks.select(positive)
        time = int(nuclei.t[0])
        if self.config.nucleus_size is None:
            self.config = self.config.but(nucleus_size=defaults.nucleus_size(nuclei.covariance))
        if self.config.normalisation is None:
            self.config = self.config.but(normalisation=self._normalisation(nuclei))
        if self.config.rescale is None:
            self.config = self.config.but(rescale=self._working_scale(nuclei, time))
        found: dict[str, Any] = defaults.spot_limits(nuclei.covariance)
        cut: dict[str, Any] = {}
        image, affine = self._prepared(time)
        found["guess_height"] = self._guess_height(nuclei.select(nuclei.t == time), time)
        _, covariance = _in_voxels(nuclei, affine)
        flags = defaults.keep_axials(affine, image.shape, n_keep=self.config.n_keep_axials)
        found["crop_size"] = defaults.crop_size(covariance, image.shape, defaults.multiples(flags))
        crop = self.config.crop_size
        if crop is not None:  # no larger than the frame, rounded up to what the network pools
            most = [-(-n // m) * m for n, m in zip(image.shape, defaults.multiples(flags), strict=True)]
            cut["crop_size"] = tuple(min(n, limit) for n, limit in zip(crop, most, strict=True))
        if self.config.background_threshold is None:
            levels = []
            for t in np.unique(nuclei.t)[:5]:
                here = nuclei.t == t
                there = Prepared(image, affine) if t == time else self._prepared(int(t))
                voxels = _in_voxels(nuclei.select(here), there.affine)
                levels.append(defaults.background_level(there.image, *voxels))
            found["background_threshold"] = float(np.median(levels))
        unset = {name: value for name, value in found.items() if getattr(self.config, name) is None}
        return self.config.but(**unset, **cut)

    def _working_scale(self, nuclei: Tracks, time: int) -> tuple[float, float, float]:
        """Choose a coarser grid where faint nuclei must be told from noise; else fine voxels keep nuclei apart that touch."""
        if self.config.normalisation != "local":
            return 1.0, 1.0, 1.0
        size, spacing = defaults.nucleus_size(nuclei.covariance), defaults.voxel_size(affine_of(self.affine, time))
        return defaults.working_scale(size, spacing, self._read(time).shape)

    def _normalisation(self, nuclei: Tracks) -> str:
        """Choose ``local`` where the contrast of marked nuclei differs much, else ``minmax``."""
        contrasts = []
        for t in np.unique(nuclei.t)[:5]:
            image, affine = self._prepared(int(t), self.config.but(normalisation="minmax"))
            contrasts.append(defaults.contrast(image, *_in_voxels(nuclei.select(nuclei.t == t), affine)))
        return "local" if defaults.uneven(np.concatenate(contrasts)) else "minmax"

    def _guess_height(self, nuclei: Tracks, time: int) -> float:
        if not self.config.guesses or self.config.normalisation != "local":
            return 0.0
        plain, affine = self._prepared(time, self.config.but(normalisation="minmax"))
        return hill_height(plain, *_in_voxels(nuclei, affine)) or 0.0

    def marked(self, time: int) -> MarkedFrame:
        """Return a marked frame, from memory or read and drawn."""
        if time in self._kept:
            self._kept.move_to_end(time)
            return self._kept[time]
        config, frame = self.config, self._read(time)
        image, affine = prepare(frame, affine_of(self.affine, time), config)
        here = self.marks.t == time
        centre, covariance = _in_voxels(self.marks.select(here), affine)
        shape = (image.shape[0], image.shape[1], image.shape[2])
        plain = image
        if config.guesses and config.normalisation == "local":
            plain = prepare(frame, affine_of(self.affine, time), config.but(normalisation="minmax")).image
        guessed, background = self._guesses(plain, time, centre, covariance)
        level = config.background_threshold or 0.0
        dark = (image < level if level < 1 else image <= level) if level else None  # 1 means all voxels
        if background is None or not self.automatic_background:
            background = dark
        elif dark is not None and config.normalisation != "local":  # else it is compared with what is around already
            background |= dark
        labels = render_labels(
            np.concatenate([centre, guessed]),
            np.concatenate([covariance, np.tile(np.median(covariance, axis=0), (len(guessed), 1, 1))]),
            np.concatenate([self.status[here], np.full(len(guessed), Status.TP, dtype=np.int8)]),
            shape,
            centre_ratio=config.centre_ratio,
            background=background,
        )
        inside = ((centre > -1) & (centre < np.asarray(shape))).all(axis=1)
        if not inside.any():
            raise DataError(
                f"None of the {len(centre)} marks of frame {time} lies inside its image of {shape} voxels (z, y, x). "
                "Check that annotation and movie belong together and have the same voxel size."
            )
        marked = MarkedFrame(image, affine, labels, np.clip(centre[inside], 0, np.asarray(shape) - 1))
        self._kept[time] = marked
        room = (self.config.memory_mb or free_memory_mb()) / 2 * 2**20
        while len(self._kept) > 1 and sum(f.image.nbytes + f.labels.nbytes for f in self._kept.values()) > room:
            self._kept.popitem(last=False)
        return marked

    def _guesses(self, image: F32, time: int, centre: F64, covariance: F64) -> tuple[F64, npt.NDArray[np.bool_] | None]:
        """Guess nuclei away from the marks of a frame; (M, 3) voxels, and what is background."""
        positive = np.isin(self.status[self.marks.t == time], (Status.TP, Status.FN))
        if not self.config.guesses or not positive.any():
            return np.empty((0, 3)), None
        found, background = guess_nuclei(image, centre[positive], covariance[positive])
        away = found[:, None] - centre  # nothing is guessed where a person said what is there
        near = (np.einsum("mni,nij,mnj->mn", away, np.linalg.inv(covariance), away) < 1).any(axis=1)
        return found[~near], background

    def seeded(self, seed: int) -> Samples:
        """Return the same samples with another seed for the crops; frames in memory are shared."""
        if seed == self.config.seed:
            return self
        other = copy.copy(self)
        other.config = self.config.but(seed=seed)
        return other

    @property
    def steps(self) -> int:
        """Number of training steps: each pass sees ``n_crops`` crops of every marked frame."""
        crops = self.config.n_crops * len(self.times)
        return self.config.n_epochs * -(-crops // self.config.batch_size)

    def batch(self, step: int) -> tuple[F32, npt.NDArray[np.uint8]]:
        """Return the crops of a training step: (B, z, y, x) intensity and labels. The same step gives the same crops."""
        config = self.config
        rng = np.random.default_rng([config.seed, 1, step])
        crops = []
        per_epoch = config.n_crops * len(self.times)
        for i in range(step * config.batch_size, (step + 1) * config.batch_size):
            epoch, place = divmod(i, per_epoch)
            order = np.random.default_rng([config.seed, 2, epoch]).permutation(len(self.times))
            time = self.times[order[place // config.n_crops]]  # crops of one frame follow each other: it is read once
            frame, how = self.marked(time), self._how(time, config.scale_range)
            around = frame.marks[rng.integers(len(frame.marks))]
            crops.append(random_crop(frame.image, frame.labels, self._size(), around=around, how=how, rng=rng))
        return np.stack([image for image, _ in crops]), np.stack([labels for _, labels in crops])

    def prior_batch(self, step: int) -> F32:
        """Return the crop of a step of the prior training: (1, z, y, x) intensity, anywhere in a marked frame."""
        rng = np.random.default_rng([self.config.seed, 3, step])
        time = self.times[rng.integers(len(self.times))]
        frame = self.marked(time)
        how = Augmentation(flip=self.config.flip, scale=self._how(time, PRIOR_SCALE).scale)
        return random_crop(frame.image, frame.labels, self._size(), around=None, how=how, rng=rng)[0][None]

    @cached_property
    def flags(self) -> tuple[bool, ...]:
        """Pooling flags, of the first marked frame for all: the voxels of a movie have one shape."""
        first = self.marked(self.times[0])
        return defaults.keep_axials(first.affine, first.image.shape, n_keep=self.config.n_keep_axials)

    def _size(self) -> tuple[int, int, int]:
        if self.config.crop_size is None:
            raise DataError("The size of crops is not decided yet: use resolved() settings.")
        return self.config.crop_size

    def _how(self, time: int, scale: float | tuple[float, float]) -> Augmentation:
        config, size = self.config, defaults.voxel_size(self.marked(time).affine)
        return Augmentation(
            flip=config.flip,
            scale=scales(scale, size),
            rotation_degrees=config.rotation_degrees,
            contrast=config.contrast_range,
        )

    def _prepared(self, time: int, config: ElephantConfig | None = None) -> Prepared:
        return prepare(self._read(time), affine_of(self.affine, time), config or self.config)

    def _read(self, time: int) -> npt.NDArray[Any]:
        frame = self.frames(time)
        if np.ndim(frame) != 3 or 0 in np.shape(frame):
            raise DataError(f"Frame {time} of the movie has shape {np.shape(frame)}; expected voxels (Z, Y, X).")
        if not np.isfinite(frame.min()) or not np.isfinite(frame.max()):
            raise DataError(f"Frame {time} of the movie holds values that are no numbers; it cannot be normalised.")
        return frame
