"""From frames to maps: the network over planes, part by part (paper, sections 2 and 3.3), in bounded memory.

A volume is never held as a whole: planes are read, coloured, cut into parts, predicted and put together one after the other.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from howdah.errors import ConfigError, DataError, WeightsError
from howdah.methods.efficientcellseg.config import STRIDE, EfficientCellSegConfig
from howdah.methods.efficientcellseg.fast import ready
from howdah.methods.efficientcellseg.learned import MAPS, diameter_of, maps_of, settled
from howdah.methods.efficientcellseg.maps import Maps
from howdah.methods.efficientcellseg.picture import mode_of, picture, picture_planes
from howdah.methods.efficientcellseg.weights import network_of
from howdah.methods.efficientcellseg.windows import parts
from howdah.nn import tiles
from howdah.nn.checkpoint import Weights
from howdah.nn.device import Place, free_memory_mb, pick
from howdah.nn.enlarge import resized_shape, restored
from howdah.nn.views import views_of

F32 = npt.NDArray[np.float32]
Array = npt.NDArray[Any]
Tensor = torch.Tensor
Shape = tuple[int, int, int]
T = TypeVar("T")

__all__ = ["Network"]

BYTES_PER_PIXEL = 800.0  # of a forward pass, float32; measured 600 to 750, whatever the encoder
MOST_AT_ONCE = {"cpu": 1, "cuda": 32}  # parts in a batch: a processor gains nothing from several


class Network:
    """Trained weights, ready to predict the maps of frames.

    Args:
        weights: From training or :func:`howdah.methods.efficientcellseg.weights.read_weights`. Maps of the same name that several
            members give are averaged.
        config: Settings; what was not given there comes from the weights, see
            :func:`howdah.methods.efficientcellseg.learned.settled`.
        planes: How many planes the frames have, where that is known: settles what the colours carry. None: each frame by itself.

    Attributes:
        config: The settings that it works with: these are for finding cells, too.
        diameter: How wide a cell of the training is; pixels of the frame.
        place: Where it computes.
        maps_given: Names of the maps that it predicts: ``cell``, and ``centre`` where that was learned.

    Raises:
        WeightsError: The weights are not those of this method, or their header is damaged.
        ConfigError: There is no such device.
    """

    def __init__(
        self, weights: Weights, config: EfficientCellSegConfig | None = None, *, planes: int | None = None
    ) -> None:
        _check(weights)
        roles = maps_of(weights)
        self.config = settled(weights, config)
        if planes is not None:
            self.config = self.config.but(colour=mode_of(self.config, planes))
        self.diameter = diameter_of(weights, self.config)
        self.place = pick(self.config.device, precision=self.config.precision)
        self.members = [(_ready(weights, n, given, self.place), given) for n, given in enumerate(roles)]
        self.maps_given = tuple(name for name in MAPS if any(name in given for given in roles))
        self.views = views_of(self.config.test_time, 2)

    def maps(
        self, frame: Array, *, earlier: Array | None = None, later: Array | None = None, time: int | None = None
    ) -> Maps:
        """Predict the maps of a frame: exactly what :meth:`planes` gives, plane on plane.

        Args:
            frame: (Z, Y, X), any real type; 2D is Z = 1.
            earlier: The frame before it, of the same shape; used where the colours carry time. None at the first frame.
            later: The frame after it; None at the last one.
            time: Number of the frame, for the sentence of an error.

        Raises:
            DataError: The frame has no pixels or is no volume, or holds values that are no numbers, or its neighbours have another shape.
            ConfigError: The memory does not suffice for the smallest tile.
            WeightsError: A network does not give the maps that the header of the weights names.
        """
        if frame.ndim != 3 or 0 in frame.shape:
            raise DataError(
                f"Predicting {_name(time)} failed: a frame (Z, Y, X) with pixels is needed; found shape {frame.shape}."
            )
        n_z, n_y, n_x = frame.shape
        found = {name: np.empty(frame.shape, dtype=np.float32) for name in self.maps_given}
        for z, plane in self.planes(lambda z: frame[z], (n_z, n_y, n_x), earlier=earlier, later=later, time=time):
            for name, values in found.items():
                values[z] = getattr(plane, name)[0]
        return Maps(found["cell"], found.get("centre"))

    def planes(
        self,
        read_plane: Callable[[int], Array],
        shape: Shape,
        *,
        earlier: Array | None = None,
        later: Array | None = None,
        time: int | None = None,
    ) -> Iterator[tuple[int, Maps]]:
        """Predict a volume plane by plane, in growing order of z.

        Args:
            read_plane: Reads a plane (Y, X) by its number; each is read several times, a few are kept.
            shape: (Z, Y, X).
            earlier: See :meth:`maps`.
            later: See :meth:`maps`.
            time: See :meth:`maps`.

        Yields:
            z, and the maps (1, Y, X) of this plane.

        Raises:
            DataError, ConfigError, WeightsError: See :meth:`maps`.

        Memory: some 60 bytes a pixel of a plane, plus what the parts take, ``memory_mb`` at most. Where the colours carry time the whole
        frame is held.
        """
        if 0 in shape:
            raise DataError(f"Predicting {_name(time)} failed: it has shape {shape}, so no pixels.")
        for other in (earlier, later):
            if other is not None and other.shape != tuple(shape):
                raise DataError(
                    f"Predicting {_name(time)} failed: it has shape {tuple(shape)}, and a frame beside it {other.shape}. "
                    "Frames of a movie need one size; crop or pad them, or use colour = grey."
                )
        pictures = self._pictures(read_plane, shape, earlier=earlier, later=later, time=time)
        plan = self._plan(shape)
        at_once = self._at_once(plan)
        for group in _groups(enumerate(pictures), max(at_once // len(plan), 1)):
            found = self._predicted([shown for _, shown in group], plan, at_once)
            for (z, _), values in zip(group, found, strict=True):
                yield z, self._maps(values, shape)

    def _pictures(
        self,
        read_plane: Callable[[int], Array],
        shape: Shape,
        *,
        earlier: Array | None,
        later: Array | None,
        time: int | None,
    ) -> Iterator[F32]:
        """Yield what the network sees of each plane, (3, Y', X')."""
        if shape[0] > 1 and mode_of(self.config, shape[0]) != "time":
            return picture_planes(read_plane, shape[0], self.config, time=time)
        frame = np.stack([read_plane(z) for z in range(shape[0])])
        return iter(picture(frame, self.config, earlier=earlier, later=later, time=time))

    # ---- parts of a picture

    def tiling(self, shape: Shape) -> list[tiles.Tile]:
        """Return the tiles of a plane (Z, Y, X), in the padded plane, that :meth:`tile_maps` is asked for one by one.

        Raises:
            ConfigError: What one tile shows hangs on more than its own pixels, and on how bright the frame is: colours, enlarging, and
                the paper's squeezed windows.
        """
        config = self.config
        enlarged, squeezed = (config.enlarge or 1) != 1, config.fit_frame or "plain_grid" in config.compat
        if shape[0] > 1 or enlarged or squeezed or mode_of(config, 1) != "grey":
            raise ConfigError(
                "Cutting a frame of EfficientCellSeg into blocks is possible for images of one plane, with colour = grey, enlarge = 1 and "
                "without fit_frame or compat = plain_grid. Leave --block out: then a block is a frame."
            )
        return self._plan(shape)

    def tile_maps(self, shown: F32) -> F32:
        """Predict the maps (C, Y, X) of a tile, C as ``maps_given``, from its pixels (Y, X), 0..1; not yet weighted."""
        found: F32 = self._seen(np.stack([np.broadcast_to(shown, (3, *shown.shape))]))[0]
        return found

    def as_maps(self, values: F32) -> Maps:
        """Return blended maps (C, Y, X) as what cells are found in."""
        found = {name: values[channel : channel + 1] for channel, name in enumerate(self.maps_given)}
        return Maps(found["cell"], found.get("centre"))

    def _plan(self, shape: Shape) -> list[tiles.Tile]:
        """The parts of a plane: after enlarging and, for tiles, padding."""
        inner = resized_shape(shape[1:], self.config.enlarge or 1)
        if self.config.fit_frame or "plain_grid" in self.config.compat:
            return parts(inner, self.config, tile=self.config.input_size)
        padded = [-(-n // STRIDE) * STRIDE for n in inner]
        return parts(padded, self.config, tile=self._tile())

    def _tile(self) -> int:
        """The edge of a tile: the input size, or less where memory is short."""
        edge = (self.config.input_size,) * 2
        unit, memory = (STRIDE, STRIDE), self._memory_mb()
        return min(tiles.size_for_memory(edge, multiple=unit, bytes_per_voxel=BYTES_PER_PIXEL, memory_mb=memory))

    def _memory_mb(self) -> float:
        return self.config.memory_mb or free_memory_mb(self.place.device)

    def _at_once(self, plan: Sequence[tiles.Tile]) -> int:
        """How many parts go through the network together."""
        edges = [self.config.input_size] * 2 if self.config.fit_frame else [s.stop - s.start for s in plan[0].region]
        taken = float(np.prod(edges)) * BYTES_PER_PIXEL / 2**20
        if self.config.fit_frame and taken > self._memory_mb():
            raise ConfigError(
                f"A memory of {self._memory_mb():g} MiB is too little: a window of {edges[0]} x {edges[1]} pixels takes {taken:.0f} MiB. "
                "Allow more memory, or choose a smaller input_size."
            )
        return int(np.clip(self._memory_mb() // taken, 1, MOST_AT_ONCE.get(self.place.device.type, 8)))

    def _predicted(self, pictures: Sequence[F32], plan: Sequence[tiles.Tile], at_once: int) -> list[F32]:
        """Return the maps (C, Y', X') of pictures (3, Y', X'), C as ``maps_given``."""
        size = [max(tile.region[axis].stop for tile in plan) for axis in (0, 1)]
        size = [max(a, b) for a, b in zip(size, pictures[0].shape[1:], strict=True)]
        shown = [_mirrored(one, size) for one in pictures]
        whole = [np.zeros((len(self.maps_given), *size), dtype=np.float32) for _ in pictures]
        for batch in _groups(itertools.product(range(len(pictures)), plan), at_once):
            found = self._seen(np.stack([shown[n][(slice(None), *tile.region)] for n, tile in batch]))
            for (n, tile), values in zip(batch, found, strict=True):
                if len(plan) > 1:
                    values *= tile.weights[0][:, None] * tile.weights[1]
                whole[n][(slice(None), *tile.region)] += values
        return whole

    @torch.inference_mode()
    def _seen(self, cut: F32) -> F32:
        """Return the maps (B, C, h, w) of parts (B, 3, h, w): mean over networks and views."""
        shape = cut.shape[2:]
        inner = [self.config.input_size] * 2 if self.config.fit_frame else [-(-n // STRIDE) * STRIDE for n in shape]
        if not self.config.fit_frame:
            cut = _mirrored(cut, inner)
        image = torch.from_numpy(cut).to(self.place.device)
        if self.config.fit_frame:
            image = _squeezed(image, inner)
        total = torch.zeros(len(cut), len(self.maps_given), *inner, device=self.place.device)
        for view in self.views:
            turned = view.turned(image).contiguous(memory_format=torch.channels_last)
            for network, given in self.members:
                with self.place.autocast():
                    logits = network(turned)
                _check_channels(logits.shape[1], given)
                chances = view.turned_back(logits.float()).sigmoid()
                for channel, name in enumerate(given):
                    total[:, self.maps_given.index(name)] += chances[:, channel]
        for channel, name in enumerate(self.maps_given):
            total[:, channel] /= len(self.views) * sum(given.count(name) for _, given in self.members)
        if self.config.fit_frame:
            total = _squeezed(total, shape)
        mean: F32 = total[:, :, : shape[0], : shape[1]].cpu().numpy()
        return mean

    def _maps(self, values: F32, shape: Shape) -> Maps:
        """Bring maps (C, Y', X') back to the pixels of a plane."""
        times = self.config.enlarge or 1
        n_y, n_x = resized_shape(shape[1:], times)
        back = restored(np.ascontiguousarray(values[:, :n_y, :n_x]), times, shape[1:])
        found = {name: back[channel : channel + 1] for channel, name in enumerate(self.maps_given)}
        return Maps(found["cell"], found.get("centre"))


def _check(weights: Weights) -> None:
    method = weights.header.get("method", "efficientcellseg")
    if method != "efficientcellseg":
        raise WeightsError(
            f"The weights were made by '{method}', not by efficientcellseg. Choose a file of this method."
        )


def _check_channels(found: int, given: Sequence[str]) -> None:
    if found != len(given):
        raise WeightsError(
            f"The header of the weights is damaged: it names {len(given)} maps ({', '.join(given)}), but the network gives "
            f"{found}. Train again, or use another file."
        )


def _ready(weights: Weights, member: int, given: Sequence[str], place: Place) -> nn.Module:
    """A member as it is fastest there."""
    last = weights.members[member].get("last.bias")
    if last is not None:
        _check_channels(len(last), given)
    return ready(network_of(weights, member), place.device, precision=place.precision)


def _mirrored(picture: F32, size: Sequence[int]) -> F32:
    """Mirror the far edges of (..., Y, X) up to a size."""
    missing = [(0, n - m) for n, m in zip(size, picture.shape[-2:], strict=True)]
    if not any(more for _, more in missing):
        return picture
    return np.pad(picture, [*[(0, 0)] * (picture.ndim - 2), *missing], mode="reflect")


def _squeezed(image: Tensor, size: Sequence[int]) -> Tensor:
    """Bring (B, C, Y, X) to a size, linear between the centres of pixels (paper, section 3.3)."""
    return nn.functional.interpolate(image, size=tuple(size), mode="bilinear", align_corners=False, antialias=False)


def _groups(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield so many items at a time."""
    left = iter(items)
    while group := list(itertools.islice(left, size)):
        yield group


def _name(time: int | None) -> str:
    return "the frame" if time is None else f"frame {time}"
