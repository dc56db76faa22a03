"""The annotated frames as training sees them, kept in memory as far as allowed, and the table of all their cells."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from howdah.errors import DataError
from howdah.methods.annotation import Annotation
from howdah.methods.efficientcellseg.config import EfficientCellSegConfig
from howdah.methods.efficientcellseg.defaults import widths
from howdah.methods.efficientcellseg.picture import mode_of, picture, picture_planes
from howdah.methods.efficientcellseg.targets import centre_heat, deepest_points
from howdah.methods.efficientcellseg.windows import parts
from howdah.methods.outlined import outlined
from howdah.nn.device import free_memory_mb
from howdah.nn.enlarge import finer, relabelled, resized_shape

F16 = npt.NDArray[np.float16]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]

__all__ = ["CELL", "COLOURS", "HEAT", "KNOWN", "LAYERS", "Cells", "FrameStore"]

COLOURS, CELL, HEAT, KNOWN, LAYERS = slice(0, 3), 3, 4, 5, 6  # of a plane
BYTES_PER_VOXEL = 2 * LAYERS
USUAL_MB = 2000.0  # what any computer has; nn.device takes no less
LARGE = 2**24  # voxels of a volume that is coloured plane by plane, to save memory
FEWEST = 2  # frames in memory at least


@dataclass(frozen=True, eq=False)
class Cells:
    """All outlined cells, N rows in the order of frames and labels, in voxels of the movie.

    Attributes:
        time: (N,) frame. size: (N,) voxels. area: (N,) pixels of the largest section in a plane.
        low, high: (N, 3) first voxel of the box around it, and the one after its last.
    """

    time: I64
    size: I64
    area: I64
    low: I64
    high: I64

    def __len__(self) -> int:
        return len(self.time)


@dataclass
class FrameStore:
    """Reads annotated frames once, and again only if memory does not hold them all; pictures and targets as the network has them.

    Attributes:
        annotation: What a person outlined.
        config: Settings; go on with others by :meth:`decided`.
    """

    annotation: Annotation
    config: EfficientCellSegConfig
    _shapes: dict[int, tuple[int, ...]] = field(default_factory=dict, init=False, repr=False)
    _kept: OrderedDict[int, F16] = field(default_factory=OrderedDict, init=False, repr=False)

    @cached_property
    def cells(self) -> Cells:
        """All cells; reads every annotated frame once.

        Raises:
            DataError: No cell is outlined.
        """
        parts = [self._cells_of(time) for time in self.annotation.times]
        if not sum(map(len, parts)):
            raise DataError(
                f"There is nothing to train on: no cell is outlined in {len(parts)} annotated frames. Outline some cells first."
            )
        names = ("time", "size", "area", "low", "high")
        return Cells(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    @property
    def planes(self) -> int:
        """Of the largest frame."""
        _ = self.cells
        return max(shape[0] for shape in self._shapes.values())

    @property
    def n_voxels(self) -> int:
        """Of all annotated frames, in the planes that are annotated."""
        _ = self.cells
        return sum(
            len(self.annotation.planes_of(time, shape[0])) * shape[1] * shape[2] for time, shape in self._shapes.items()
        )

    @cached_property
    def shapes(self) -> dict[int, tuple[int, ...]]:
        """Frame -> (Z, Y', X') as the network sees it."""
        _ = self.cells
        return {time: self._resized(shape) for time, shape in self._shapes.items()}

    def _resized(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if self.config.fit_frame:  # each window becomes a square of input_size
            window = parts(shape[1:], self.config, tile=self.config.input_size)[0].region
            edges = [min(part.stop - part.start, n) for part, n in zip(window, shape[1:], strict=True)]
            y, x = (round(n * self.config.input_size / e) for n, e in zip(shape[1:], edges, strict=True))
            return (shape[0], y, x)
        return resized_shape(shape, self.config.enlarge or 1.0)

    def factors(self, time: int) -> F64:
        """Return how many times a frame was enlarged along (z, y, x)."""
        found: F64 = np.asarray(self.shapes[time]) / np.asarray(self._shapes[time])
        return found

    @property
    def together(self) -> int:
        """How many frames training may go to and fro between; it does not hang on what is free, so that a training can be repeated."""
        return self._frames_in(self.config.memory_mb or USUAL_MB)

    def _frames_in(self, memory_mb: float) -> int:
        largest = max(int(np.prod(shape)) for shape in self.shapes.values())
        return max(int(memory_mb / 2 * 2**20 // (largest * BYTES_PER_VOXEL)), FEWEST)

    def frame(self, time: int) -> F16:
        """Return a frame (Z, 6, Y', X') float16 0..1: three colours, mask, height of centres, known."""
        if time not in self._kept:
            self._kept[time] = self._made(time)
            fits = self._frames_in(self.config.memory_mb or free_memory_mb())
            while len(self._kept) > fits:
                self._kept.popitem(last=False)
        self._kept.move_to_end(time)
        return self._kept[time]

    def decided(self, config: EfficientCellSegConfig) -> None:
        """Go on with these settings."""
        self._kept.clear()
        self.config = config
        self.__dict__.pop("shapes", None)

    def _made(self, time: int) -> F16:
        image, labels = self.annotation.read(time)
        config = self.config.but(enlarge=1.0) if self.config.fit_frame else self.config
        times = config.enlarge or 1.0
        large = relabelled(labels, times)
        frame = np.empty((len(image), LAYERS, *large.shape[1:]), dtype=np.float16)
        for plane, colours in zip(frame, self._colours(image, config, time), strict=True):
            plane[COLOURS] = colours
        frame[:, CELL] = large > 0
        frame[:, HEAT] = self._heat(large, times)
        known = self._known(time, frame[:, 1], large, times=times)
        frame[:, KNOWN] = 1 if known is None else known
        return _squeezed(frame, self.shapes[time][1:])

    def _colours(self, image: npt.NDArray[Any], config: EfficientCellSegConfig, time: int) -> Iterable[F32]:
        """Return the pictures (3, Y', X') of the planes; of a large volume one after the other."""
        earlier, later = self.neighbours(time)
        if image.size < LARGE or earlier is not None or later is not None:
            return iter(picture(image, config, earlier=earlier, later=later, time=time))
        return picture_planes(lambda z: image[z], len(image), config, time=time)

    def neighbours(self, time: int) -> tuple[npt.NDArray[Any] | None, npt.NDArray[Any] | None]:
        """Return the frames before and after, of the same size, where colours carry time; annotated ones only, if no others are known."""
        _ = self.cells
        shape = self._shapes[time]
        if mode_of(self.config, shape[0]) != "time":
            return None, None
        if self.annotation.beside is not None:
            before, after = self.annotation.beside(time)
            return before, after
        earlier, later = (
            self.annotation.read(other)[0] if self._shapes.get(other) == shape else None
            for other in (time - 1, time + 1)
        )
        return earlier, later

    def _heat(self, labels: I32, times: float) -> F32:
        size = finer(self.annotation.voxel_size, times)
        sizes = np.bincount(labels.ravel())[1:]
        volume = sizes[sizes > 0] * np.prod(size[1:] if len(labels) == 1 else size)
        across = 2 * np.sqrt(volume / np.pi) if len(labels) == 1 else 2 * (0.75 * volume / np.pi) ** (1 / 3)
        centres = deepest_points(labels, size)
        return centre_heat(labels, centres, across, voxel_size=size, width=self.config.centre_width)

    def _known(self, time: int, image: F16, labels: I32, *, times: float) -> npt.NDArray[np.bool_] | None:
        return self.annotation.known(
            time,
            image.astype(np.float32) if not self.annotation.complete else np.empty(labels.shape, np.float32),
            labels,
            voxel_size=finer(self.annotation.voxel_size, times),
            ring_width=(self.config.ring_width or 0.0) * times,
            dark_quantile=self.config.dark_quantile,
        )

    def _cells_of(self, time: int) -> Cells:
        labels = self.annotation.read(time)[1]
        self._shapes[time] = labels.shape
        found = outlined(labels)
        each = [np.bincount(plane.ravel(), minlength=len(found) + 1)[1:] for plane in found.rows]
        times = np.full(len(found), time, dtype=np.int64)
        return Cells(times, found.size, np.max(each, axis=0).astype(np.int64), found.low, found.high)

    def diameter(self) -> float:
        """Median over the cells of the diameter of a disk as large as the largest section; pixels of the movie."""
        return float(np.median(widths(self.cells.area)))

    def diameter_planes(self) -> float:
        """Median over the cells of how many planes they are in."""
        return float(np.median(self.cells.high[:, 0] - self.cells.low[:, 0]))


def _squeezed(frame: F16, size: Sequence[int]) -> F16:
    """Bring planes to another size (Y', X'), linear between pixels; masks stay 0 and 1."""
    if frame.shape[2:] == tuple(size):
        return frame
    found = torch.nn.functional.interpolate(
        torch.from_numpy(frame.astype(np.float32)), size=tuple(size), mode="bilinear", align_corners=False
    ).numpy()
    found[:, [CELL, KNOWN]] = found[:, [CELL, KNOWN]] >= 0.5
    return found.astype(np.float16)
