"""Where the network sees the arrow of time: Grad-CAM (paper, section 3.3), and each pixel's share of the verdict.

After the dense features all is done pixel by pixel, but for one mean over the pixels before the last, linear layer. So the gradient of a
verdict is known in closed form from the features alone, and the verdict is the mean of what each pixel says (*evidence*, not in the paper).
Both need one pass over a frame, whatever its size; the map of Grad-CAM a second one.

Grad-CAM here is that of the true order against the others, and what the frames of a sample contribute is added before the absolute value is
taken: what stays as it is cancels out. The published code takes the first logit alone, whose gradient holds weights that never learn (the
common part G of the last layer changes no verdict), and the first frame alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from howdah.errors import ConfigError
from howdah.methods.tap.arrow import Arrow
from howdah.methods.tap.movies import Frames
from howdah.methods.tap.predict import Embedder
from howdah.nn.device import free_memory_mb

F32 = npt.NDArray[np.float32]
Tensor = torch.Tensor

__all__ = ["Attribution", "attributions", "enlarged", "head_gradient"]

BYTES = 4.0  # of a number
AT_ONCE = 1 << 15  # pixels; what they need stays in the cache of a processor


@dataclass(frozen=True, eq=False)
class Attribution:
    """Where the network sees the arrow of time from a frame to the next one of the sample.

    Attributes:
        time: The earlier frame.
        map: (Z, Y, X) float32, pixels as the network sees them (shrunk). Grad-CAM: not negative, of arbitrary scale. Evidence: logit units,
            positive where the true order is told; its mean is ``score``.
        score: What the network says of the whole frame: the logit of the true order less that of the others (their mean); positive = right.
    """

    time: int
    map: F32
    score: float


def head_gradient(embedder: Embedder, *features: F32, published: bool = False) -> F32:
    """Return the gradient of the verdict by the features, summed over the pixels: the weights alpha of Grad-CAM, (T, F).

    Args:
        embedder: Whose head.
        features: (F, Z, Y, X) of each frame of the sample, the earliest first.
        published: Of the first logit alone.

    Raises:
        ConfigError: The network was trained with another number of frames.
    """
    arrow = Arrow(embedder.network, embedder.place.device, published=published)
    if arrow.frames != len(features):
        raise ConfigError(
            f"The network was trained with {arrow.frames} frames a sample, and {len(features)} were given."
        )
    total, pixels = _summed(arrow, [(None, [_flat(z) for z in features])], None)[1:]
    alpha: F32 = (total / pixels).reshape(len(features), -1).to(torch.float32).numpy()
    return alpha


def attributions(
    embedder: Embedder, frames: Frames, times: Sequence[int] | None = None, *, delta: int | None = None
) -> Iterator[Attribution]:
    """Yield where the network sees the arrow of time, frame by frame; which map it is, the setting ``attribution`` says.

    Args:
        embedder: Trained weights.
        frames: The movie.
        times: Frames that a map is wanted of. None: all. A frame without a map, because a later frame of its sample is missing, is left
            out.
        delta: Frames from one frame of a sample to the next. None: those of the settings; maps of several are averaged.

    Memory: the features of as many frames as are used again, if they fit into ``memory_mb`` (4 F bytes a pixel); then each frame is
    described once. Else the frames of a sample are described tile by tile, twice for Grad-CAM.

    Raises:
        ConfigError: The memory does not suffice for the smallest tile; delta is less than 1.
        DataError: The movie has other channels than the network.
    """
    deltas = embedder.config.delta if delta is None else (delta,)
    if min(deltas) < 1:
        raise ConfigError(f"delta is {min(deltas)}; it must be at least 1 frame.")
    published = embedder.config.attribution == "published"
    arrow = Arrow(embedder.network, embedder.place.device, published=published)
    there = set(frames.times)
    kept = _Kept(embedder, frames, (arrow.frames - 1) * max(deltas) + 1, arrow.frames)
    for time in sorted(frames.times if times is None else times):
        samples = [[time + step * one for step in range(arrow.frames)] for one in deltas]
        found = [_one(arrow, kept, sample) for sample in samples if there.issuperset(sample)]
        if found:
            yield Attribution(
                time, np.mean([m for m, _ in found], axis=0, dtype=np.float32), float(np.mean([s for _, s in found]))
            )


def enlarged(values: F32, shape: Sequence[int], shrink: int) -> F32:
    """Return a map (Z, Y', X') of shrunk pixels on the grid of the image, (Z, Y, X)."""
    rows, columns = (
        np.minimum(np.arange(n) // shrink, m - 1) for n, m in zip(shape[1:], values.shape[1:], strict=True)
    )
    return values[:, rows][:, :, columns]


# ---- inside


Piece = tuple[tuple[slice, slice, slice] | None, list[Tensor]]


class _Kept:
    """Features of the frames that are used again, as long as there is memory for them; else none."""

    def __init__(self, embedder: Embedder, frames: Frames, useful: int, sample: int) -> None:
        self.embedder, self.frames = embedder, frames
        size = BYTES * int(embedder.form["features"]) * float(np.prod(frames.shape)) / 2**20
        room = int((embedder.memory_mb or free_memory_mb()) // size)
        self.most = min(room, useful) if room >= sample else 0
        self.found: OrderedDict[int, F32] = OrderedDict()

    def pieces(self, sample: Sequence[int]) -> Iterator[Piece]:
        """Yield regions and, for each frame of the sample, their features (P, F)."""
        if self.most:
            for time in sample:
                self._describe(time)
            yield None, [_flat(self.found[time]) for time in sample]
            return
        shape = self.frames.shape
        parts = [self.embedder.regions(self._reader(time), shape) for time in sample]
        for several in zip(*parts, strict=True):
            yield several[0][0], [_flat(z) for _, z in several]

    def _describe(self, time: int) -> None:
        if time in self.found:
            self.found.move_to_end(time)
            return
        while len(self.found) >= self.most:
            self.found.popitem(last=False)
        self.found[time] = self.embedder.features(self.frames.frame(time))

    def _reader(self, time: int) -> Any:
        return lambda region: self.frames.region(time, region)


def _one(arrow: Arrow, kept: _Kept, sample: Sequence[int]) -> tuple[F32, float]:
    """Return map and score of a sample."""
    shape = kept.frames.shape
    kind = kept.embedder.config.attribution
    values = np.empty(shape, dtype=np.float32)
    said, total, pixels = _summed(arrow, kept.pieces(sample), values if kind == "evidence" else None)
    if kind != "evidence":
        alpha = (total / pixels).reshape(arrow.frames, -1).to(torch.float32)[: 1 if kind == "published" else None]
        for region, features in kept.pieces(sample[: len(alpha)]):
            part = values if region is None else values[region]
            added = sum(z @ a for z, a in zip(features, alpha, strict=True))
            part[...] = added.abs().view(part.shape).numpy()
    return values, said / pixels


def _summed(arrow: Arrow, pieces: Any, values: F32 | None) -> tuple[float, Tensor, int]:
    """Return what all pixels say, the sum of their gradients, and how many they are; write what each says into ``values``."""
    device = arrow.out.device
    said, total, pixels = 0.0, torch.zeros(arrow.layers[0][0].shape[1], dtype=torch.float64), 0
    for region, features in pieces:
        each = []
        for start in range(0, len(features[0]), AT_ONCE):
            z = torch.cat([one[start : start + AT_ONCE] for one in features], dim=1)
            one, gradient = arrow.see(z.to(device))
            total += gradient.to("cpu", torch.float64)
            said += float(one.sum(dtype=torch.float64))
            each.append(one.cpu())
        pixels += len(features[0])
        if values is not None:
            part = values if region is None else values[region]
            part[...] = torch.cat(each).view(part.shape).numpy()
    return said, total, pixels


def _flat(features: F32) -> Tensor:
    """Return (P, F) of features (F, Z, Y, X); without copying where the features of a pixel lie side by side."""
    return torch.from_numpy(features.transpose(1, 2, 3, 0).reshape(-1, len(features)))
