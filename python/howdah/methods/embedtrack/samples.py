"""Pairs of crops for training: a cell at t with its surroundings, and the same place at t-1 (paper, section 4.3).

A pass takes crops side by side, those with a cell in them, so that every cell is seen; then crops around cells at
random, and some anywhere. What a step sees follows from (seed, step).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from howdah.errors import DataError
from howdah.methods.annotation import Annotation
from howdah.methods.embedtrack import defaults
from howdah.methods.embedtrack.config import EmbedTrackConfig
from howdah.methods.embedtrack.frames import FrameStore
from howdah.methods.embedtrack.network import N_POOLINGS, multiple_of
from howdah.methods.embedtrack.targets import Targets, targets_of
from howdah.nn.augment import Appearance, Pose

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Shape = tuple[int, ...]

__all__ = ["Batch", "Held", "Samples"]

DENSE = 11.0  # a pass shows each pixel so often, as with the published stride of 0.3 of a crop ...
MOST_PIXELS = 2**22  # ... but no more pixels than this; a CPU with two cores takes half a minute for them
HELD_EDGE, MOST_HELD = 256, 16  # longest edge of a crop of the validation, pixels, and their number
DIVIDED = 4.0  # so many times more often are cells taken that have just divided: they are few
ANYWHERE = 0.15  # share of the crops around cells that are taken anywhere instead, where background is known


@dataclass(frozen=True, eq=False)
class Batch:
    """B pairs of crops: images (B, 1, *S) float32 of 0..1 at t and t-1, and their targets."""

    later: F32
    earlier: F32
    targets: Targets


@dataclass(frozen=True, eq=False)
class Held:
    """One pair of crops of the validation: as a batch, its labels (*S) at t and t-1, and its links (K, 2)."""

    batch: Batch
    labels: npt.NDArray[np.int32]
    before: npt.NDArray[np.int32]
    links: I64


@dataclass(frozen=True, eq=False)
class _Crop:
    """One side of a pair: image, labels, known (all (*S)), and a table (K, 1 + D) of labels and centres."""

    image: F32
    labels: npt.NDArray[np.int32]
    known: npt.NDArray[np.bool_]
    centres: F64

    def posed(self, pose: Pose) -> _Crop:
        places = pose.places(self.centres[:, 1:], self.image.shape)
        return _Crop(
            np.ascontiguousarray(pose.array(self.image)),
            np.ascontiguousarray(pose.array(self.labels)),
            np.ascontiguousarray(pose.array(self.known)),
            np.column_stack([self.centres[:, 0], places]),
        )


@dataclass
class Samples:
    """Crops of the annotated frames; the last ones are kept for validation.

    Attributes:
        annotation: What a person outlined.
        config: Settings, with ``None`` where :meth:`resolved` shall decide.
    """

    annotation: Annotation
    config: EmbedTrackConfig
    store: FrameStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = FrameStore(self.annotation, self.config)
        self._plan = lru_cache(maxsize=2)(self._plan_of)
        times = list(self.annotation.times)
        kept = round(self.config.validation_share * len(times))
        with_cells = set(self.store.cells.time.tolist())
        if not with_cells & set(times[: len(times) - kept]) or not with_cells & set(times[len(times) - kept :]):
            kept = 0
        self.times = times[: len(times) - kept]
        self.validation_times = times[len(times) - kept :]

    # ---- what the data decide

    def resolved(self) -> EmbedTrackConfig:
        """Return the settings with what training needs decided, and go on with them."""
        cells, config = self.store.original, self.config
        mine = np.isin(cells.time, self.times)
        plain = self.annotation.voxel_size[-self.n_dims :]
        found: dict[str, Any] = {
            "enlarge": defaults.enlargement(cells.size[mine], plain),
            "min_size": defaults.min_size(cells.size[mine]),
            "ring_width": defaults.ring_width(cells.size[mine], plain),
            "annotation": "complete" if self.annotation.complete else "sparse",
        }
        config = config.but(**{name: value for name, value in found.items() if getattr(config, name) is None})
        self.store.decided(config)
        cells, size = self.store.cells, self.store.voxel_size
        reach = self.store.moves(self.times)
        keep = config.keep_axials if config.keep_axials is not None else self._keep_axials()
        multiple = multiple_of(self.n_dims, keep)
        largest = np.max(list(self.store.shapes.values()), axis=0)
        crop = config.crop_size or defaults.crop_size(
            cells.size[mine],
            (cells.high - cells.low)[mine],
            reach=float(np.percentile(reach, 95)) if len(reach) else 0.0,
            shape=largest,
            voxel_size=size,
            multiple=multiple,
        )
        if len(crop) != self.n_dims:
            raise DataError(f"crop_size {crop} has {len(crop)} numbers, but the movie has {self.n_dims} spatial axes.")
        whole = tuple(-(-n // m) * m for n, m in zip(crop, multiple, strict=True))
        self.config = config.but(keep_axials=keep, crop_size=whole)
        self.store.decided(self.config)
        return self.config

    @property
    def n_dims(self) -> int:
        """2 or 3."""
        return self.store.n_dims

    def _keep_axials(self) -> int:
        if self.n_dims == 2:
            return 0
        planes = min(shape[0] for shape in self.store.shapes.values())
        return defaults.keep_axials(self.store.voxel_size, planes)

    @property
    def crop(self) -> Shape:
        """Size of a crop."""
        if self.config.crop_size is None:
            raise DataError("The size of crops is not decided yet: use resolved() settings.")
        return self.config.crop_size

    @property
    def planes(self) -> list[int]:
        """Planes of a crop as the layers of the network see them, input first; empty in 2D."""
        keep = self.config.keep_axials or 0
        return [self.crop[0] >> max(level - keep, 0) for level in range(N_POOLINGS + 1)] if self.n_dims == 3 else []

    # ---- passes

    @cached_property
    def ends(self) -> I64:
        """The number of steps up to the end of each pass, (n_epochs,)."""
        return np.cumsum(
            [len(self._plan_of(epoch)[0]) // self.config.batch_size for epoch in range(self.config.n_epochs)]
        )

    @property
    def steps(self) -> int:
        """Steps of all passes."""
        return int(self.ends[-1])

    def epoch_of(self, step: int) -> tuple[int, bool]:
        """Return the pass that a step belongs to, and whether it is its last."""
        epoch = int(np.searchsorted(self.ends, step, side="right"))
        return epoch, step + 1 == self.ends[epoch]

    def batch(self, step: int) -> Batch:
        """Return the crops of a step; the same step gives the same crops."""
        epoch, _ = self.epoch_of(step)
        first = step - (int(self.ends[epoch - 1]) if epoch else 0)
        times, starts = self._plan(epoch)
        rows = range(first * self.config.batch_size, (first + 1) * self.config.batch_size)
        rng = np.random.default_rng([self.config.seed, 1, step])
        return self._stacked([self._drawn(int(times[row]), starts[row], rng) for row in rows])

    def _target_count(self) -> int:
        """Crops of a pass, before every cell is in one and batches are full."""
        if self.config.n_crops is not None:
            return self.config.n_crops
        pixels = sum(int(np.prod(self.store.shapes[time])) for time in self.times)
        coverage = self.config.coverage
        seen = min(DENSE * pixels, MOST_PIXELS) if coverage is None else coverage * pixels
        return max(int(seen / np.prod(self.crop)), 1)

    def _plan_of(self, epoch: int) -> tuple[I64, I64]:
        """Return the frames (M,) and first pixels (M, D) of the crops of a pass; M is a multiple of the batch size."""
        rng = np.random.default_rng([self.config.seed, 2, epoch])
        times, starts = self._cover(rng)
        count, batch = self._target_count(), self.config.batch_size
        if self.config.n_crops is not None:
            chosen = rng.permutation(len(times))[:count]
            times, starts = times[chosen], starts[chosen]
        more = -(-max(count, len(times)) // batch) * batch - len(times)
        further = self._further(rng, more)
        times, starts = np.concatenate([times, further[0]]), np.concatenate([starts, further[1]])
        order = rng.permutation(len(times))
        if self.store.together < len(self.times):  # crops of a few frames follow each other, so that they are read once
            rank = np.argsort(rng.permutation(len(self.times)))[np.searchsorted(self.times, times[order])]
            order = order[np.argsort(rank // max(self.store.together // 2, 1), kind="stable")]
        return times[order], starts[order]

    def _cover(self, rng: np.random.Generator) -> tuple[I64, I64]:
        """Lay as few crops as cover a frame over each, moved at random as far as that allows; take those with cells."""
        cells = self.store.cells
        times, starts = [np.empty(0, dtype=np.int64)], [np.empty((0, self.n_dims), dtype=np.int64)]
        for time in self.times:
            centre = cells.centre[cells.of(time)]
            nodes, firsts = [], []
            for axis, (n, size) in enumerate(zip(self.store.shapes[time], self.crop, strict=True)):
                first = _cover_of(n, size, rng)
                near = np.abs(centre[:, axis, None] - (first + size / 2)).argmin(axis=1)
                nodes.append(near)
                firsts.append(first[near])
            kept = np.unique(np.stack(nodes, axis=1), axis=0, return_index=True)[1]
            times.append(np.full(len(kept), time, dtype=np.int64))
            starts.append(np.stack(firsts, axis=1)[kept])
        every = np.concatenate(times)
        return every, self._inside(every, np.concatenate(starts))

    def _further(self, rng: np.random.Generator, count: int) -> tuple[I64, I64]:
        """Draw crops around cells, which are wholly in them if there is room, and some anywhere."""
        cells, size = self.store.cells, np.asarray(self.crop)
        rows = rng.choice(len(cells), count, p=self._chances)
        times = cells.time[rows]
        ends = np.stack([cells.high[rows] - size, cells.low[rows]])
        low, high = ends.min(axis=0), ends.max(axis=0)
        starts = low + np.floor(rng.random(low.shape) * (high - low + 1)).astype(np.int64)
        if self.annotation.complete:
            free = rng.random(count) < ANYWHERE
            times = np.where(free, rng.choice(self.times, count), times)
            shapes = np.array([self.store.shapes[int(time)] for time in times]).reshape(count, self.n_dims)
            anywhere = np.floor(rng.random(low.shape) * np.maximum(shapes - size + 1, 1)).astype(np.int64)
            starts = np.where(free[:, None], anywhere, starts)
        return times, self._inside(times, starts)

    @cached_property
    def _chances(self) -> F64:
        """How often each cell gets a crop around it, (N,), in all 1."""
        cells = self.store.cells
        chances = np.isin(cells.time, self.times).astype(np.float64)
        for time in self.times:
            links, here = self.annotation.links(time), cells.of(time)
            mothers, children = np.unique(links[:, 1], return_counts=True)
            daughters = links[np.isin(links[:, 1], mothers[children > 1]), 0]
            chances[here][np.isin(cells.label[here], daughters)] *= DIVIDED
        normed: F64 = chances / chances.sum()
        return normed

    def _inside(self, times: I64, starts: I64, size: Shape | None = None) -> I64:
        """Move crops into their frames; a crop larger than the frame has it in the middle."""
        shapes = np.array([self.store.shapes[int(time)] for time in times]).reshape(len(times), self.n_dims)
        room = shapes - np.asarray(size or self.crop)
        return np.where(room >= 0, np.clip(starts, 0, np.maximum(room, 0)), room // 2)

    # ---- crops

    def _drawn(self, time: int, start: I64, rng: np.random.Generator) -> tuple[_Crop, _Crop, I64, bool]:
        """Return a pair of crops, changed at random, with its links, and whether cells without a link are new ones."""
        config, voxel_size = self.config, self.store.voxel_size
        pose = Pose.drawn(rng, self.crop, flip=config.flip, rotate=config.rotate)
        look = Appearance.drawn(  # both frames of a pair alike: what differs between them is what the network shall see
            rng, clahe=config.clahe_probability, blur=config.blur_probability, noise=config.noise_probability
        )
        reach = np.minimum(config.shift_range * np.asarray(self.crop), np.asarray(self.store.shapes[time]) / 2).astype(
            int
        )
        shift = rng.integers(-reach, reach + 1)
        linked = time - 1 in self.times
        links, complete = self.annotation.links(time), linked and self.annotation.tells_new(time)
        later = self._cut(time, start)
        if rng.random() < config.shift_probability:
            earlier, complete = self._cut(time, start + shift), False
            labels = self.store.cells.label[self.store.cells.of(time)]
            links = np.column_stack([labels, labels])
        elif linked:
            earlier = self._cut(time - 1, start)
        else:
            earlier = _without_annotation(later)
            links = np.empty((0, 2), dtype=np.int64)
        sides = []
        for side in (later, earlier):
            posed = side.posed(pose)
            sides.append(_Crop(look.of(posed.image, rng, voxel_size), posed.labels, posed.known, posed.centres))
        return sides[0], sides[1], links, complete

    def _cut(self, time: int, start: I64, size: Shape | None = None) -> _Crop:
        """Cut a crop out of a frame; what is beyond the frame is its mirror image, and unknown."""
        frame, size = self.store.frame(time), size or self.crop
        shape = frame.image.shape
        low, high = np.maximum(start, 0), np.minimum(start + np.asarray(size), shape)
        region = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        image, labels = frame.image[region], frame.labels[region]
        known = np.ones(image.shape, dtype=bool) if frame.known is None else frame.known[region]
        if image.shape != size:
            room = [(int(a - s), int(s + n - b)) for a, s, n, b in zip(low, start, size, high, strict=True)]
            image = np.pad(image, room, mode="symmetric")
            labels, known = np.pad(labels, room), np.pad(known, room)
        rows = self.store.cells.of(time)
        cells = self.store.cells
        return _Crop(image, labels, known, np.column_stack([cells.label[rows], cells.centre[rows] - start]))

    def _stacked(self, drawn: Sequence[tuple[_Crop, _Crop, I64, bool]]) -> Batch:
        later, earlier = [item[0] for item in drawn], [item[1] for item in drawn]
        targets = targets_of(
            np.stack([crop.labels for crop in later]),
            np.stack([crop.labels for crop in earlier]),
            [item[2] for item in drawn],
            voxel_size=self.store.voxel_size,
            centres=([crop.centres for crop in later], [crop.centres for crop in earlier]),
            known=(np.stack([crop.known for crop in later]), np.stack([crop.known for crop in earlier])),
            complete=[item[3] for item in drawn],
        )
        images = [np.stack([crop.image for crop in side])[:, None] for side in (later, earlier)]
        return Batch(images[0], images[1], targets)

    # ---- validation

    def held(self) -> list[Held]:
        """Return crops of the frames of the validation as they are, at most ``MOST_HELD``, spread evenly."""
        found = []
        for time in self.validation_times:
            shape = self.store.shapes[time]
            sizes = tuple(
                max(n, min(-(-s // n) * n, HELD_EDGE // n * n)) for n, s in zip(self.crop, shape, strict=True)
            )
            axes = [range(0, s, n) for s, n in zip(shape, sizes, strict=True)]
            grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(shape))
            found += [(time, start, sizes) for start in self._inside(np.full(len(grid), time), grid, sizes)]
        chosen = np.unique(np.linspace(0, len(found) - 1, min(MOST_HELD, len(found))).round().astype(int))
        return [self._held(*found[i]) for i in chosen]

    def _held(self, time: int, start: I64, size: Shape) -> Held:
        linked = time - 1 in self.annotation.times
        later = self._cut(time, start, size)
        earlier = self._cut(time - 1, start, size) if linked else _without_annotation(later)
        links = self.annotation.links(time)
        batch = self._stacked([(later, earlier, links, self.annotation.tells_new(time))])
        return Held(batch, later.labels, earlier.labels, links)


def _cover_of(n: int, size: int, rng: np.random.Generator) -> I64:
    """Return the first pixels of as few pieces as cover n pixels, moved at random as far as their overlap allows."""
    pieces = -(-n // size)
    if pieces == 1:
        return np.zeros(1, dtype=np.int64)
    overlap = (pieces * size - n) / (pieces - 1)
    first = np.arange(pieces) * (n - size) / (pieces - 1)
    first[1:-1] += rng.uniform(-0.5, 0.5, pieces - 2) * overlap
    return np.floor(first).astype(np.int64)


def _without_annotation(crop: _Crop) -> _Crop:
    """The same image once more, of which nothing is known: it teaches neither segmentation nor tracking."""
    labels = np.zeros_like(crop.labels)
    return _Crop(crop.image, labels, np.zeros(labels.shape, dtype=bool), np.empty((0, crop.centres.shape[1])))
