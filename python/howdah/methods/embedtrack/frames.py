"""The annotated frames as training sees them, kept in memory as far as allowed, and the table of all their cells."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from howdah.errors import DataError
from howdah.methods.annotation import Annotation, known_pixels
from howdah.methods.embedtrack.config import EmbedTrackConfig
from howdah.methods.embedtrack.medoid import centroids, medoids
from howdah.methods.outlined import outlined
from howdah.nn.device import free_memory_mb
from howdah.nn.enlarge import finer, relabelled, resized, resized_shape
from howdah.nn.normalise import normalised

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
Scalar = TypeVar("Scalar", bound=np.generic)

__all__ = ["CellTable", "Frame", "FrameStore"]

EDGE = 1e-6
USUAL_MB = 2000.0  # what any computer has; nn.device takes no less
BYTES_PER_PIXEL = 9  # of a Frame


@dataclass(frozen=True, eq=False)
class Frame:
    """One annotated frame: intensity 0..1, labels, where background is known, all (*S); None: everywhere."""

    image: F32
    labels: I32
    known: npt.NDArray[np.bool_] | None

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return self.image.nbytes + self.labels.nbytes + (0 if self.known is None else self.known.nbytes)


@dataclass(frozen=True, eq=False)
class CellTable:
    """All outlined cells, N rows in the order of frames and labels; D axes in pixels.

    Attributes:
        time: (N,) frame. label: (N,). size: (N,) pixels.
        low, high: (N, D) first pixel of the box around it, and the one after its last.
        centre: (N, D) medoid or centroid, as the settings say.
    """

    time: I64
    label: I64
    size: I64
    low: I64
    high: I64
    centre: F64

    def of(self, time: int) -> slice:
        """Return the rows of a frame."""
        first, end = np.searchsorted(self.time, [time, time + 1])
        return slice(int(first), int(end))

    def __len__(self) -> int:
        return len(self.time)

    def enlarged(self, times: float) -> CellTable:
        """Return the same cells of frames enlarged along y and x."""
        each = np.ones(self.low.shape[1])
        each[-2:] = times
        centre = (self.centre + 0.5) * each - 0.5
        return replace(
            self,
            size=np.maximum(np.rint(self.size * times**2), 1).astype(np.int64),
            low=np.floor(self.low * each + EDGE).astype(np.int64),
            high=np.ceil(self.high * each - EDGE).astype(np.int64),
            centre=centre,
        )


@dataclass
class FrameStore:
    """Reads annotated frames once, and again only if memory does not hold them all; enlarged as the settings say.

    Attributes:
        annotation: What a person outlined.
        config: Settings; go on with others by :meth:`decided`. For frames of a sparse annotation it needs ``ring_width``.
    """

    annotation: Annotation
    config: EmbedTrackConfig
    _shapes: dict[int, tuple[int, ...]] = field(default_factory=dict, init=False, repr=False)
    _kept: OrderedDict[int, Frame] = field(default_factory=OrderedDict, init=False, repr=False)

    @property
    def scale(self) -> float:
        """How many times frames are enlarged along y and x."""
        return self.config.enlarge or 1.0

    @cached_property
    def cells(self) -> CellTable:
        """All cells, of frames as enlarged."""
        return self.original.enlarged(self.scale)

    @cached_property
    def shapes(self) -> dict[int, tuple[int, ...]]:
        """Frame -> its shape S as enlarged."""
        return {time: resized_shape(shape, self.scale) for time, shape in self._shapes.items()}

    @cached_property
    def original(self) -> CellTable:
        """All cells, in pixels of the movie; reads every annotated frame once.

        Raises:
            DataError: No cell is outlined.
        """
        parts = [self._cells_of(time) for time in self.annotation.times]
        if not sum(map(len, parts)):
            raise DataError(
                f"There is nothing to train on: no cell is outlined in {len(parts)} annotated frames. "
                "Outline some cells, best in frames that follow each other."
            )
        dims = max(part.low.shape[1] for part in parts)
        if any(part.low.shape[1] != dims for part in parts):
            raise DataError("Some annotated frames have one plane and others more; train on one kind of them.")
        names = ("time", "label", "size", "low", "high", "centre")
        return CellTable(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    @property
    def n_dims(self) -> int:
        """2 or 3."""
        return int(self.original.low.shape[1])

    @property
    def voxel_size(self) -> tuple[float, ...]:
        """Of the D axes, of frames as enlarged."""
        return finer(self.annotation.voxel_size[-self.n_dims :], self.scale)

    @property
    def fits(self) -> int:
        """How many frames memory holds now."""
        return self._frames_in(self.config.memory_mb or free_memory_mb())

    @property
    def together(self) -> int:
        """How many frames training may go to and fro between; it does not hang on what is free, so that a training can be repeated."""
        return self._frames_in(self.config.memory_mb or USUAL_MB)

    def _frames_in(self, memory_mb: float) -> int:
        largest = max(int(np.prod(shape)) for shape in self.shapes.values())
        return max(int(memory_mb / 2 * 2**20 // (largest * BYTES_PER_PIXEL)), 2)

    def frame(self, time: int) -> Frame:
        """Return an annotated frame."""
        if time not in self._kept:
            image, outlined = self.annotation.read(time)
            plain = resized(normalised(_flat(image), self.config.percentiles, time=time), self.scale)
            labels = relabelled(_flat(outlined), self.scale)
            self._kept[time] = Frame(plain, labels, None if self.annotation.complete else self._known(plain, labels))
            while len(self._kept) > self.fits:
                self._kept.popitem(last=False)
        self._kept.move_to_end(time)
        return self._kept[time]

    def decided(self, config: EmbedTrackConfig) -> None:
        """Go on with these settings."""
        self._kept.clear()
        self.config = config
        for name in ("cells", "shapes"):
            self.__dict__.pop(name, None)

    def _known(self, image: F32, labels: I32) -> npt.NDArray[np.bool_]:
        ring, dark = (self.config.ring_width or 0.0) * self.scale, self.config.dark_quantile
        return known_pixels(image, labels, voxel_size=self.voxel_size, ring_width=ring, dark_quantile=dark)

    def _cells_of(self, time: int) -> CellTable:
        labels = _flat(self.annotation.read(time)[1])
        self._shapes[time] = labels.shape
        found = outlined(labels)
        centre = self._centres(found.rows) if len(found) else np.empty((0, labels.ndim))
        times = np.full(len(found), time, dtype=np.int64)
        return CellTable(times, found.number, found.size, found.low, found.high, centre)

    def _centres(self, rows: I64) -> F64:
        if self.config.centre == "centroid":
            return centroids(rows)
        return medoids(rows, self.annotation.voxel_size[-rows.ndim :])

    def moves(self, times: Sequence[int]) -> F64:
        """Return how far the cells of these frames went since the frame before, (K,) pixels of the finest axis."""
        cells, steps = self.cells, np.asarray(self.voxel_size) / min(self.voxel_size)
        found = [np.empty(0)]
        for time in times:
            links, here, before = self.annotation.links(time), cells.of(time), cells.of(time - 1)
            links = links[np.isin(links[:, 0], cells.label[here]) & np.isin(links[:, 1], cells.label[before])]
            later = cells.centre[here][np.searchsorted(cells.label[here], links[:, 0])]
            earlier = cells.centre[before][np.searchsorted(cells.label[before], links[:, 1])]
            found.append(np.linalg.norm((later - earlier) * steps, axis=1))
        return np.concatenate(found)


def _flat(values: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
    """Drop z where there is one plane."""
    return values[0] if len(values) == 1 else values
