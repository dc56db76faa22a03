"""Dense features of frames: exactly those of the untiled network, in bounded memory (paper, section 2).

A tile is computed with as much around it as its features see (``reach``), and only its inside is kept. Tiles start where the poolings of
the whole frame do, and what lies beyond the frame repeats its border as the network itself does; so tiles make no difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from howdah.errors import ConfigError, DataError
from howdah.methods.tap.config import TapConfig
from howdah.methods.tap.folded import FoldedNet
from howdah.methods.tap.learned import settled
from howdah.methods.tap.network import reach
from howdah.methods.tap.weights import network_of
from howdah.nn.checkpoint import Weights
from howdah.nn.device import Place, free_memory_mb, pick

F32 = npt.NDArray[np.float32]
Region = tuple[slice, slice, slice]
Reader = Callable[[Region], F32]
Shape = tuple[int, int, int]

__all__ = ["Embedder"]

BYTES_PER_FILTER = {  # of a pixel in a tile, a filter of the first level; measured 24 and 21
    torch.float32: 26.0,
    torch.bfloat16: 22.0,
    torch.float16: 22.0,
}


class Embedder:
    """Trained weights, ready to describe every pixel of a frame.

    Args:
        weights: From training or :func:`howdah.methods.tap.weights.read_weights`.
        config: Settings; what was not given there comes from the weights, see :func:`howdah.methods.tap.learned.settled`.
        memory_mb: What the network may take at work; MiB. None: the setting ``memory_mb``, or half of what is free.

    Attributes:
        config: The settings that it works with.
        form: The form of the network, arguments of :class:`howdah.methods.tap.network.Tap`.
        network: The network, in evaluation mode, on the CPU; for its head.
        place: Where it computes.
        stride: What tiles start at multiples of, (z, y, x) pixels.
        reach: How far a feature sees, (z, y, x) pixels; 0 along z where planes are seen one by one.

    Raises:
        WeightsError: The weights are not those of this method, or their header is damaged.
        ConfigError: There is no such device.
    """

    def __init__(self, weights: Weights, config: TapConfig | None = None, *, memory_mb: float | None = None) -> None:
        self.config = settled(weights, config)
        self.network = network_of(weights).eval()
        self.form: dict[str, Any] = self.network.form
        self.place: Place = pick(self.config.device, precision=self.config.precision)
        self.memory_mb = memory_mb or self.config.memory_mb
        self._net = FoldedNet(self.network, self.place)
        self.planar = len(self._net.multiple) == 2
        around = reach(self._net.pools)
        self.stride: Shape = _three((1, *self._net.multiple) if self.planar else self._net.multiple)
        self.reach: Shape = _three((0, *around) if self.planar else around)

    def features(self, frame: F32) -> F32:
        """Return the features (F, Z, Y, X) of a frame (C, Z, Y, X), normalised as :class:`howdah.methods.tap.movies.Frames` gives it.

        The result is float32; the features of a pixel lie side by side in memory. It takes 4 F bytes a pixel; where that is too much, see
        :meth:`regions`.

        Raises:
            DataError: The frame has no pixels, or other channels than the network.
            ConfigError: The memory does not suffice for the smallest tile.
        """
        shape = self._checked(frame)
        found = np.empty((*shape, int(self.form["features"])), dtype=np.float32).transpose(3, 0, 1, 2)
        for region, part in self.regions(lambda at: frame[(slice(None), *at)], shape):
            found[(slice(None), *region)] = part
        return found

    def regions(self, read: Reader, shape: Sequence[int]) -> Iterator[tuple[Region, F32]]:
        """Describe a frame part by part; the parts cover it without overlap.

        Args:
            read: Reads a region (z, y, x) of the normalised frame: (C, Z, Y, X) float32. Neighbouring regions overlap.
            shape: (Z, Y, X) of the frame.

        Yields:
            The region, and its features (F, Z, Y, X).

        Raises:
            ConfigError: The memory does not suffice for the smallest tile.
        """
        plan = self._plan(shape)
        for z, y, x in product(*plan):
            yield (z.inside, y.inside, x.inside), self._part(read, (z, y, x))

    def window(self, read: Reader, shape: Sequence[int], region: Region) -> F32:
        """Return the features (F, Z, Y, X) of one region of a frame: those that the whole frame has there.

        Args:
            read: As for :meth:`regions`.
            shape: (Z, Y, X) of the frame.
            region: (z, y, x), within the frame. It is computed at once, with as much around it as its features see.
        """
        axes = zip(shape, self.stride, self._halo, region, strict=True)
        z, y, x = (_part(n, m, halo, part.start, part.stop) for n, m, halo, part in axes)
        return self._part(read, (z, y, x))

    @property
    def _halo(self) -> list[int]:
        return [-(-r // m) * m for r, m in zip(self.reach, self.stride, strict=True)]

    def _part(self, read: Reader, tile: tuple[_Part, _Part, _Part]) -> F32:
        """Return the features of the inside of one tile."""
        given = read((tile[0].read, tile[1].read, tile[2].read))
        if given.shape[0] != self.form["channels"]:
            raise DataError(
                f"Describing a frame failed: it has {given.shape[0]} channels, and the network was trained with {self.form['channels']}. "
                "Choose the channels that it was trained with."
            )
        x = np.pad(given, [(0, 0), *(part.beyond for part in tile)], mode="edge")
        image = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))
        image = image.movedim(1, 0) if self.planar else image[None]
        found = self._net(image)
        found = found.movedim(0, 1) if self.planar else found[0]
        kept = found[(slice(None), *(part.kept for part in tile))]
        array: F32 = kept.cpu().numpy()
        return array

    def _plan(self, shape: Sequence[int]) -> list[list[_Part]]:
        """Parts along each axis, as few as the memory allows."""
        sizes = list(zip(shape, self.stride, strict=True))
        padded = [-(-n // m) * m for n, m in sizes]
        halo = self._halo
        memory = self.memory_mb or free_memory_mb(self.place.device)
        taken = BYTES_PER_FILTER[self.place.precision] * int(self.form["width"])
        on_processor = self.place.device.type == "cpu"  # which gains nothing from several planes at once
        pieces = [padded[0] if self.planar and on_processor else 1, 1, 1]
        while True:
            core = [-(-n // m // k) * m for n, m, k in zip(padded, self.stride, pieces, strict=True)]
            tile = [min(c + 2 * h, n) for c, h, n in zip(core, halo, padded, strict=True)]
            if prod(tile) * taken <= memory * 2**20:
                break
            room = [c if c > m else 0 for c, m in zip(core, self.stride, strict=True)]
            if not any(room):
                raise ConfigError(
                    f"A memory of {memory:g} MiB is too little: the smallest tile of {tuple(tile)} voxels takes "
                    f"{prod(tile) * taken / 2**20:.0f} MiB. Allow more memory."
                )
            pieces[int(np.argmax(room))] += 1
        return [_parts(n, m, c, h) for (n, m), c, h in zip(sizes, core, halo, strict=True)]

    def _checked(self, frame: F32) -> Shape:
        if frame.ndim != 4 or 0 in frame.shape:
            raise DataError(
                f"Describing a frame failed: a frame (C, Z, Y, X) with pixels is needed; found shape {frame.shape}."
            )
        return (frame.shape[1], frame.shape[2], frame.shape[3])


@dataclass(frozen=True)
class _Part:
    """A tile along one axis: what is read of the frame, repeated borders, what is kept of the tile, where that is in the frame."""

    read: slice
    beyond: tuple[int, int]
    kept: slice
    inside: slice


def _parts(length: int, multiple: int, core: int, halo: int) -> list[_Part]:
    """Cut an axis; the frame stands in the middle of the multiple, as in the network."""
    padded = -(-length // multiple) * multiple
    front = (padded - length) // 2
    starts = range(0, padded, core)
    ends = [(max(start - front, 0), min(start + core - front, length)) for start in starts]
    return [_part(length, multiple, halo, first, last) for first, last in ends if first < last]


def _part(length: int, multiple: int, halo: int, first: int, last: int) -> _Part:
    """Return the tile along one axis of which the pixels from ``first`` up to ``last`` are kept."""
    padded = -(-length // multiple) * multiple
    front = (padded - length) // 2
    low = max((first + front) // multiple * multiple - halo, 0)
    high = min(-(-(last + front) // multiple) * multiple + halo, padded)
    read = slice(min(max(low - front, 0), length - 1), max(min(high - front, length), 1))
    beyond = (read.start + front - low, high - front - read.stop)
    return _Part(read, beyond, slice(first + front - low, last + front - low), slice(first, last))


def _three(values: Sequence[int]) -> Shape:
    z, y, x = values
    return (z, y, x)
