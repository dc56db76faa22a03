"""From frames to fields: the network over a movie, tile by tile (paper, section 4.4).

Every frame is read, encoded and segmented once, and every pair of frames takes one tracking pass. The published code segments a
frame twice, with its predecessor and with its successor. In prediction all parts of the network treat the two frames of a
pair one by one, but for the tracking decoder, so both estimates of a frame are the same numbers, and so is any fusion of them; also where
tiles are normalised one by one, for both estimates come from the same tiles.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from howdah.errors import DataError, WeightsError
from howdah.methods.embedtrack.config import EmbedTrackConfig
from howdah.methods.embedtrack.coordinates import unit_of
from howdah.methods.embedtrack.fields import Fields
from howdah.methods.embedtrack.folded import ready
from howdah.methods.embedtrack.learned import Layout, settled
from howdah.methods.embedtrack.network import FEATURES, BranchedERFNet, multiple_of
from howdah.methods.embedtrack.views import View, views_of
from howdah.nn import tiles
from howdah.nn.checkpoint import Weights
from howdah.nn.device import free_memory_mb, pick
from howdah.nn.enlarge import finer, resized, resized_shape, restored
from howdah.nn.normalise import normalised

F32 = npt.NDArray[np.float32]
Array = npt.NDArray[Any]
Tensor = torch.Tensor
Region = tuple[slice, ...]

__all__ = ["Network"]

BYTES_PER_PIXEL = {2: 220.0, 3: 260.0}  # of a forward pass, float32; measured in benchmarks/bench_embedtrack_predict.py
KEPT_SHARE = 0.25  # of the memory may hold features of the frame before


@dataclass(eq=False)
class _Seen:
    """A frame that has been through the network.

    Attributes:
        time: Its number.
        shape: Its pixels S.
        image: Padded; normalised, unless tiles are normalised one by one.
        features: For each tile, by its first pixel: features (1, 128, *S / 8) for each view and network; None if memory forbids.
    """

    time: int
    shape: tuple[int, ...]
    image: Array
    features: dict[tuple[int, ...], list[Tensor]] | None = field(default=None)


class Network:
    """Trained weights, ready to predict the fields of a movie.

    Args:
        weights: From training or :func:`howdah.methods.embedtrack.weights.read_weights`. Of several members the
            mean is taken, before activation.
        config: Settings; what is ``None`` there comes from the weights, see :func:`howdah.methods.embedtrack.learned.settled`.
        voxel_size: (z, y, x), world units; a 2D network needs (y, x) only. Only ratios count.

    Attributes:
        config: The settings that it works with: these are for clustering and linking, too.
        n_dims: 2 or 3.
        unit: Length of a pixel along each of the D axes, normalised.
        enlarge: How many times frames are enlarged along y and x before the network.
    """

    def __init__(
        self, weights: Weights, config: EmbedTrackConfig | None = None, *, voxel_size: Sequence[float] = (1.0, 1.0, 1.0)
    ) -> None:
        if not weights.members:
            raise WeightsError("The weights hold no network.")
        layout = Layout.of(weights)
        self.config = settled(weights, config)
        self.n_dims = layout.n_dims
        self.multiple = multiple_of(layout.n_dims, layout.keep_axials)
        self.place = pick(self.config.device, precision=self.config.precision)
        self.networks: list[BranchedERFNet] = [
            ready(state, self.place.device, n_dims=layout.n_dims, keep_axials=layout.keep_axials)
            for state in weights.members
        ]
        self.unit: tuple[float, ...] = ()
        self.views: list[View] = []
        self._measure(voxel_size)

    def with_voxels(self, voxel_size: Sequence[float]) -> Self:
        """Return the same network for a movie with another voxel size."""
        other = copy.copy(self)
        other._measure(voxel_size)
        return other

    def _measure(self, voxel_size: Sequence[float]) -> None:
        self.enlarge = self.config.enlarge or 1
        inner = unit_of(finer(voxel_size[-self.n_dims :], self.enlarge), self.config.grid_size)
        self.unit = (*inner[:-2], inner[-2] * self.enlarge, inner[-1] * self.enlarge)
        self.views = views_of(self.config.test_time, self.n_dims, unit=inner)

    def fields(self, frames: Callable[[int], Array], times: Iterable[int]) -> Iterator[tuple[int, Fields]]:
        """Predict frame after frame, forward in time.

        Args:
            frames: Reads a frame (Z, Y, X), any real type; Z = 1 for a 2D network. Called once for each time.
            times: Frames to predict, in any order. Where the one before is not among them there are no tracking offsets.

        Yields:
            A time and its :class:`~howdah.methods.embedtrack.fields.Fields`.

        Raises:
            DataError: A frame has no pixels, planes that the network does not know, another size than the one before it, or
                values that are no numbers.
            ConfigError: The memory does not suffice for the smallest tile.

        Memory: about 80 bytes a pixel of the frame, plus what the tiles take, ``memory_mb`` at most.
        """
        before: _Seen | None = None
        plans: dict[
            tuple[int, ...], list[tiles.Tile]
        ] = {}  # one for all frames of a size, whatever memory is free by then
        for time in sorted(set(times)):
            frame = self._flat(frames(time), time)
            if before is not None and before.time != time - 1:
                before = None
            if before is not None and before.shape != frame.shape:
                raise DataError(
                    f"Predicting frame {time} failed: it has {_by(frame.shape)} pixels, and the frame before it {_by(before.shape)}. "
                    "Frames of a movie need one size; crop or pad them, or work on the frames of each size by themselves."
                )
            seen = _Seen(time, frame.shape, self._padded(frame, time))
            size = seen.image.shape
            if size not in plans:
                plans[size] = tiles.plan(size, self.tile(size), multiple=self.multiple)
            yield time, self._predicted(seen, before, plans[size])
            before = seen

    def _flat(self, frame: Array, time: int) -> Array:
        """A frame (Z, Y, X) as the network's S."""
        if frame.ndim != 3 or 0 in frame.shape:
            raise DataError(f"Predicting frame {time} failed: a frame (Z, Y, X) is needed; found shape {frame.shape}.")
        if self.n_dims == 3 and frame.shape[0] > 1:
            return frame
        if self.n_dims == 2 and frame.shape[0] == 1:
            flat: Array = frame[0]
            return flat
        raise DataError(
            f"Predicting frame {time} failed: the weights are those of a {self.n_dims}D network, but the frame has "
            f"{frame.shape[0]} {'plane' if frame.shape[0] == 1 else 'planes'}. "
            + ("Train on 3D frames, or project the movie." if self.n_dims == 2 else "Train on 2D frames.")
        )

    def _padded(self, frame: Array, time: int) -> Array:
        """Normalise, unless tiles do that, and mirror the far edges up to a multiple of what the network pools."""
        by_tile = "crop_percentiles" in self.config.compat
        image = frame if by_tile else normalised(frame, self.config.percentiles, time=time)
        if by_tile:
            normalised(frame, self.config.percentiles, time=time)  # says what is wrong with it
        if self.enlarge != 1:
            image = resized(image.astype(np.float32, copy=False), self.enlarge)
        missing = [(0, -n % m) for n, m in zip(image.shape, self.multiple, strict=True)]
        return np.pad(image, missing, mode="reflect") if any(more for _, more in missing) else image

    def _predicted(self, seen: _Seen, before: _Seen | None, plan: Sequence[tiles.Tile]) -> Fields:
        if self._can_keep(plan):
            seen.features = {}

        def compute(region: Region) -> F32:
            return self._tile_logits(seen, before, region)

        n_channels = (3 if before is not None else 2) * self.n_dims + 1
        if len(plan) == 1:
            whole = compute(plan[0].region)
        else:
            *_, whole = tiles.blend(plan, compute, shape=(n_channels, *seen.image.shape))
        if before is not None:
            before.features = None  # free before the next frame
        return self._fields(whole, seen.shape)

    def tile(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the size of a tile for a padded frame of this shape."""
        if self.config.tile_size is not None:
            asked = (*shape[: -len(self.config.tile_size)], *self.config.tile_size)[
                -self.n_dims :
            ]  # (y, x) in 3D: all planes
            return tuple(-(-n // m) * m for n, m in zip(asked, self.multiple, strict=True))
        memory = (self.config.memory_mb or free_memory_mb(self.place.device)) * (1 - KEPT_SHARE)
        return tiles.size_for_memory(
            shape, multiple=self.multiple, bytes_per_voxel=BYTES_PER_PIXEL[self.n_dims], memory_mb=memory
        )

    def _can_keep(self, plan: Sequence[tiles.Tile]) -> bool:
        """Whether the features of all tiles fit into their share of the memory; else they are computed again."""
        pixels = sum(float(np.prod([s.stop - s.start for s in tile.region])) for tile in plan)
        size = 2 if self.place.precision != torch.float32 else 4
        taken = pixels / np.prod(self.multiple) * FEATURES * size * len(self.views) * len(self.networks)
        return bool(taken <= KEPT_SHARE * (self.config.memory_mb or free_memory_mb(self.place.device)) * 2**20)

    @torch.inference_mode()
    def _tile_logits(self, seen: _Seen, before: _Seen | None, region: Region) -> F32:
        """Mean logits of a tile, (C, *S): offsets, bandwidths, seediness, and tracking offsets if there is a frame before."""
        total = torch.zeros(1, device=self.place.device)
        pasts = itertools.repeat(None) if before is None else self._features(before, region)
        for (view, network), features, past in zip(self._ways(), self._features(seen, region), pasts, strict=False):
            with self.place.autocast():
                logits = view.segmentation_back(network.segment(features).float())
                if past is not None:
                    tracking = view.vectors_back(network.track(features, past).float())
                    logits = torch.cat([logits, tracking], dim=1)
            total = total + logits
        mean: F32 = total.div_(len(self.views) * len(self.networks))[0].cpu().contiguous().numpy()
        return mean

    def _ways(self) -> Iterator[tuple[View, BranchedERFNet]]:
        """Each view with each network."""
        return itertools.product(self.views, self.networks)

    def _features(self, frame: _Seen, region: Region) -> Iterator[Tensor]:
        """Yield the features of a tile for each of :meth:`_ways`: those that were kept, or computed, and kept if memory allows."""
        start = tuple(part.start for part in region)
        if frame.features is not None and start in frame.features:
            yield from frame.features[start]
            return
        found: list[Tensor] = []
        if frame.features is not None:
            frame.features[start] = found
        image = self._shown(frame, region)
        order = torch.channels_last if self.n_dims == 2 else torch.channels_last_3d
        for view, network in self._ways():
            with self.place.autocast():
                features = network.encode(view.turned(image).contiguous(memory_format=order))
            if frame.features is not None:
                found.append(features)
            yield features

    def _shown(self, seen: _Seen, region: Region) -> Tensor:
        """A tile of a frame, (1, 1, *S)."""
        part = seen.image[region]
        if "crop_percentiles" in self.config.compat:
            part = normalised(part, self.config.percentiles, time=seen.time)
        return torch.from_numpy(np.ascontiguousarray(part))[None, None].to(self.place.device)

    def _fields(self, logits: F32, shape: tuple[int, ...]) -> Fields:
        """Activate what the network says, and cut the padding off."""
        dims = self.n_dims
        inside = (slice(None), *(slice(n) for n in resized_shape(shape, self.enlarge)))
        whole = torch.from_numpy(restored(np.ascontiguousarray(logits[inside]), self.enlarge, shape))
        whole[:dims].tanh_()
        whole[dims : 2 * dims + 1].sigmoid_()
        whole[2 * dims + 1 :].tanh_()
        found: F32 = whole.numpy()
        tracking = found[2 * dims + 1 :] if len(found) > 2 * dims + 1 else None
        return Fields(found[:dims], found[dims : 2 * dims], found[2 * dims], tracking, self.unit)


def _by(shape: Sequence[int]) -> str:
    return " x ".join(str(n) for n in shape)
