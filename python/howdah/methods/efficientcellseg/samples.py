"""Crops for training: pieces of planes with cells in them, changed at random, and a part that is kept for validation.

A pass goes through all outlined cells in random order, each time with one of the planes that the cell is in and a crop that shows the
cell; where all cells are outlined, some crops are taken anywhere. What a step sees follows from (seed, step).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from howdah.methods.annotation import Annotation
from howdah.methods.efficientcellseg import defaults
from howdah.methods.efficientcellseg.augment import Light
from howdah.methods.efficientcellseg.config import STRIDE, EfficientCellSegConfig
from howdah.methods.efficientcellseg.frames import CELL, COLOURS, HEAT, KNOWN, FrameStore
from howdah.methods.efficientcellseg.picture import mode_of
from howdah.nn.augment import Pose

F16 = npt.NDArray[np.float16]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = ["Batch", "Part", "Samples"]

ANYWHERE = 0.2  # share of the crops that are taken anywhere, where all cells are outlined
HELD_EDGE, MOST_HELD = 384, 12  # longest edge of a crop of the validation, pixels, and their number
FEWEST = 2  # cells that both parts have, else nothing is kept for validation
FEW_FRAMES = 2  # of so many frames a part of each is kept, of more the last ones


@dataclass(frozen=True, eq=False)
class Batch:
    """B crops, float32: picture (B, 3, Y, X) of 0..1; mask, height of centres and known (B, Y, X), 0..1."""

    picture: F32
    cell: F32
    heat: F32
    known: F32


@dataclass(frozen=True)
class Part:
    """A part of the planes of a frame as enlarged: first (y, x), and the one after the last."""

    time: int
    low: tuple[int, int]
    high: tuple[int, int]


@dataclass
class Samples:
    """Crops of the annotated frames.

    Attributes:
        annotation: What a person outlined.
        config: Settings, with ``None`` where :meth:`resolved` shall decide.
    """

    annotation: Annotation
    config: EfficientCellSegConfig
    store: FrameStore = field(init=False)
    learned: dict[int, Part] = field(init=False)  # by frame
    held_back: list[Part] = field(init=False)

    def __post_init__(self) -> None:
        self.store = FrameStore(self.annotation, self.config)
        self._plan = lru_cache(maxsize=2)(self._plan_of)
        self.resolved()

    # ---- what the data decide

    def resolved(self) -> EfficientCellSegConfig:
        """Return the settings with what training needs decided, and go on with them."""
        cells, complete = self.store.cells, self.annotation.complete
        self.config = self.config.but(
            colour=mode_of(self.config, self.store.planes)
        )  # one way for images and volumes together
        share = float(cells.size.sum()) / self.store.n_voxels
        found: dict[str, Any] = {
            "enlarge": 1.0 if self.config.fit_frame else defaults.enlargement(cells.area),
            "min_size": defaults.min_size(cells.size),
            "ring_width": defaults.ring_width(cells.area),
            "colour_area": defaults.colour_area(share, complete=complete),
            "annotation": "complete" if complete else "sparse",
        }
        self._decide(found)
        shapes = list(self.store.shapes.values())
        area = (cells.area * (self.config.enlarge or 1.0) ** 2).astype(np.int64)
        edge = self.config.input_size
        self._decide({"crop_size": edge if self.config.fit_frame else defaults.crop_size(area, shapes, edge)})
        self.learned, self.held_back = self._split()
        self._rows = self._cells_in(list(self.learned.values()))
        used = sum((part.high[0] - part.low[0]) * (part.high[1] - part.low[1]) for part in self.learned.values())
        layers = np.median((cells.high - cells.low)[:, 0])  # planes of one cell look much alike
        self._decide({"n_crops": defaults.n_crops(int(used * max(self.store.planes / max(layers, 1), 1)), self.crop)})
        return self.config

    def _decide(self, found: dict[str, Any]) -> None:
        self.config = self.config.but(**{k: v for k, v in found.items() if getattr(self.config, k) is None})
        self.store.decided(self.config)

    @property
    def crop(self) -> int:
        """Edge of a crop."""
        return self.config.crop_size or self.config.input_size

    @property
    def validation_times(self) -> list[int]:
        """Frames that nothing is learned from."""
        return sorted({part.time for part in self.held_back} - set(self.learned))

    def _split(self) -> tuple[dict[int, Part], list[Part]]:
        """Say what is learned from and what is kept: the last frames; of one or two frames a strip of each."""
        times, share = list(self.annotation.times), self.config.validation_share
        every = {time: Part(time, (0, 0), self._size(time)) for time in times}
        if not share:
            return every, []
        if len(times) > FEW_FRAMES:
            kept = min(max(round(share * len(times)), 1), len(times) - 1)
            learned, held = {t: every[t] for t in times[:-kept]}, [every[t] for t in times[-kept:]]
            if self._enough(learned, held):
                return learned, held
        for axis, first in ((1, False), (0, False), (1, True), (0, True)):
            cut = [self._cut_in_two(every[time], axis, first=first) for time in times]
            learned, held = {part.time: part for part, _ in cut}, [part for _, part in cut]
            if self._enough(learned, held):
                return learned, held
        return every, []

    def _size(self, time: int) -> tuple[int, int]:
        _, y, x = self.store.shapes[time]
        return y, x

    def _enough(self, learned: dict[int, Part], held: list[Part]) -> bool:
        return min(len(self._cells_in(list(learned.values()))), len(self._cells_in(held))) >= FEWEST

    def _cut_in_two(self, whole: Part, axis: int, *, first: bool) -> tuple[Part, Part]:
        """Part a frame along an axis, with half a cell between what is learned and the strip that is kept."""
        n = whole.high[axis]
        strip = round(self.config.validation_share * n)
        gap = round(self.store.diameter() * self.store.factors(whole.time)[1 + axis] / 2)
        a, b = (strip, min(strip + gap, n - 1)) if first else (n - strip, max(n - strip - gap, 1))

        def part(low: int, high: int) -> Part:
            lows, highs = list(whole.low), list(whole.high)
            lows[axis], highs[axis] = low, high
            return Part(whole.time, (lows[0], lows[1]), (highs[0], highs[1]))

        return (part(b, n), part(0, a)) if first else (part(0, b), part(a, n))

    def _cells_in(self, parts: Sequence[Part]) -> I64:
        """Return the rows of the cells whose middle lies in one of these parts."""
        cells, found = self.store.cells, [np.empty(0, dtype=np.int64)]
        for part in parts:
            middle = ((cells.low + cells.high) / 2 * self.store.factors(part.time))[:, 1:]
            inside = (middle >= part.low).all(axis=1) & (middle < part.high).all(axis=1)
            found.append(np.flatnonzero(inside & (cells.time == part.time)))
        return np.concatenate(found)

    # ---- passes

    @property
    def steps_a_pass(self) -> int:
        """Steps of a pass."""
        return max(-(-(self.config.n_crops or 1) // self.config.batch_size), 1)

    @property
    def steps(self) -> int:
        """Steps of all passes, if none is saved by stopping early."""
        return self.steps_a_pass * self.config.n_epochs

    def batch(self, step: int) -> Batch:
        """Return the crops of a step; the same step gives the same crops."""
        epoch, place = divmod(step, self.steps_a_pass)
        rng = np.random.default_rng([self.config.seed, 1, step])
        size = self.config.batch_size
        crops = np.stack([self._drawn(int(row), rng) for row in self._plan(epoch)[place * size : (place + 1) * size]])
        return _batch(crops)

    def _plan_of(self, epoch: int) -> I64:
        """Return for each crop of a pass the cell that it shows, a row of the table."""
        rng = np.random.default_rng([self.config.seed, 2, epoch])
        count = self.steps_a_pass * self.config.batch_size
        turns = -(-count // len(self._rows))
        rows = np.concatenate([rng.permutation(self._rows) for _ in range(turns)])[:count]
        times = list(self.learned)
        if self.store.together < len(times):  # crops of a few frames follow each other, so that they are read once
            rank = np.argsort(rng.permutation(len(times)))[np.searchsorted(times, self.store.cells.time[rows])]
            rows = rows[np.argsort(rank // max(self.store.together // 2, 1), kind="stable")]
        return rows

    def _drawn(self, row: int, rng: np.random.Generator) -> F32:
        """Return a crop (6, Y, X) that shows a cell, or one anywhere in the frame of the cell, changed at random."""
        config, cells = self.config, self.store.cells
        time = int(cells.time[row])
        part, edge = self.learned[time], self.crop
        scale = float(np.exp(rng.uniform(-1, 1) * np.log1p(config.scale_range)))
        size = max(round(edge / scale), 1) if not config.fit_frame else edge
        low, high = np.asarray(part.low), np.asarray(part.high)
        first, last = cells.low[row] * self.store.factors(time), cells.high[row] * self.store.factors(time)
        if self.annotation.complete and rng.random() < ANYWHERE:
            planes = self.annotation.planes_of(time, self.store.shapes[time][0])
            plane = planes[int(rng.integers(len(planes)))]
            start = low + np.floor(rng.random(2) * np.maximum(high - low - size + 1, 1))
        else:
            span = range(int(cells.low[row, 0]), int(cells.high[row, 0]))
            plane = int(rng.choice([z for z in self.annotation.planes_of(time, span.stop) if z in span]))
            ends = np.sort([last[1:] - size, first[1:]], axis=0)
            start = np.floor(ends[0] + rng.random(2) * (ends[1] - ends[0] + 1))
        room = high - low - size
        start = np.where(room >= 0, np.clip(start, low, np.maximum(high - size, low)), low + room // 2).astype(int)
        crop = _rescaled(_cut(self.store.frame(time)[plane], start, size, part), edge)
        pose = Pose.drawn(rng, (2, edge, edge), flip=config.flip, rotate=config.rotate)
        if pose.flips[0] and mode_of(config, self.store.shapes[time][0]) == "context":
            crop[COLOURS] = crop[COLOURS][::-1].copy()  # the plane above becomes the one below
        crop = np.ascontiguousarray(replace(pose, flips=(False, *pose.flips[1:])).array(crop))
        crop[COLOURS] = Light.drawn(rng, config).of(crop[COLOURS], rng)
        return crop

    # ---- validation

    def held(self) -> list[Batch]:
        """Return crops of what is kept, as they are, one a batch, spread evenly over planes and places; beyond a strip unknown."""
        places = [
            (part, plane, y, x)
            for part in self.held_back
            for plane in self._planes_with_cells(part)
            for y in range(part.low[0], part.high[0], HELD_EDGE)
            for x in range(part.low[1], part.high[1], HELD_EDGE)
        ]
        chosen = np.unique(np.linspace(0, len(places) - 1, min(MOST_HELD, len(places))).round().astype(int))
        return [_batch(self._kept(*places[i])[None]) for i in chosen]

    def _kept(self, part: Part, plane: int, y: int, x: int) -> F32:
        """Return a crop (6, Y, X) of a part, with what is beside a narrow part as surroundings."""
        whole = self.store.shapes[part.time][1:]
        start, edges = [], []
        for first, end, n in zip((y, x), part.high, whole, strict=True):
            edge = min(max(end - first, self.crop), HELD_EDGE, n)
            edges.append(-(-edge // STRIDE) * STRIDE)
            start.append(max(min(first, n - edges[-1]), 0))
        frame = self.store.frame(part.time)[plane]
        crop = _cut(frame, np.asarray(start), edges, Part(part.time, (0, 0), (whole[0], whole[1])))
        inside = np.zeros(crop.shape[1:], dtype=np.float32)
        low, high = (np.maximum(np.subtract(ends, start), 0) for ends in (part.low, part.high))
        inside[low[0] : high[0], low[1] : high[1]] = 1
        crop[KNOWN] *= inside
        return crop

    def _planes_with_cells(self, part: Part) -> list[int]:
        cells, rows = self.store.cells, self._cells_in([part])
        if not len(rows):
            return [0] if self.store.shapes[part.time][0] == 1 and self.annotation.complete else []
        inside = range(int(cells.low[rows, 0].min()), int(cells.high[rows, 0].max()))
        return [z for z in self.annotation.planes_of(part.time, inside.stop) if z in inside]


def _batch(crops: F32) -> Batch:
    return Batch(*(np.ascontiguousarray(crops[:, layer]) for layer in (COLOURS, CELL, HEAT, KNOWN)))


def _cut(plane: F16, start: npt.NDArray[Any], size: int | Sequence[int], part: Part) -> F32:
    """Cut a crop (6, *size) out of a part of a plane (6, Y, X); what is beyond the part is its mirror image, and unknown."""
    edges = np.broadcast_to(size, 2)
    low, high = np.maximum(start, part.low), np.minimum(start + edges, part.high)
    crop = plane[:, low[0] : high[0], low[1] : high[1]].astype(np.float32)
    room = [(int(a - s), int(s + n - b)) for a, s, n, b in zip(low, start, edges, high, strict=True)]
    if any(map(any, room)):
        crop = np.pad(crop, [(0, 0), *room], mode="symmetric")
        beyond = np.pad(np.ones(tuple(high - low), dtype=np.float32), room)
        crop[KNOWN] *= beyond
    return crop


def _rescaled(crop: F32, edge: int) -> F32:
    """Bring a crop (6, Y, X) to another edge, linear between pixels; masks stay 0 and 1, and known what is wholly so."""
    if crop.shape[-1] == edge:
        return crop
    found: F32 = torch.nn.functional.interpolate(
        torch.from_numpy(crop)[None], size=(edge, edge), mode="bilinear", align_corners=False
    )[0].numpy()
    found[CELL] = found[CELL] >= 0.5
    found[KNOWN] = found[KNOWN] >= 1 - 1e-6
    return found
