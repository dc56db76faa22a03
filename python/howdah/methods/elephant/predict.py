"""From a frame to nuclei: the network over a frame, or over a box in it (paper: prediction; Algorithm for detection, part i)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from howdah.errors import DataError, WeightsError
from howdah.methods import Spots
from howdah.methods.elephant import defaults
from howdah.methods.elephant.box import Box, Region, in_box
from howdah.methods.elephant.calibration import DEFAULT, FEATURES, Calibration
from howdah.methods.elephant.config import ElephantConfig
from howdah.methods.elephant.extract import denoised, spots_and_features, spots_from_probability
from howdah.methods.elephant.guesses import lift_missed
from howdah.methods.elephant.layout import BYTES_PER_VOXEL, Layout, layout_of, seen_for, touches
from howdah.methods.elephant.network import BACKGROUND, CENTRE, UNet, with_depth
from howdah.methods.elephant.network import shapes as network_shapes
from howdah.methods.elephant.parts import FINITE
from howdah.methods.elephant.preprocess import Prepared, prepare
from howdah.methods.elephant.stream import STRIPS_MB, bytes_per_voxel, stream
from howdah.methods.elephant.train import METHOD
from howdah.nn import tiles
from howdah.nn.checkpoint import Weights, load_weights
from howdah.nn.device import free_memory_mb, pick

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

__all__ = ["Detector", "read_weights", "spots_from_probability"]

LEARNED = (
    "guess_height",
    "normalisation",
    "nucleus_size",
    "rescale",
    "r_min",
    "r_max",
    "r_usual",
    "size_factor",
    "suppression_distance",
    "n_keep_axials",
    "background_threshold",
    "crop_size",
)
PREPARING = ("temporal_mean", "normalisation", "slice_median", "rescale", "centre_ratio", "n_keep_axials")
COMPUTING = ("device", "precision", "memory_mb", "tile_size")

log = logging.getLogger("howdah")


def read_weights(path: Any) -> Weights:
    """Read a weights file of this method, ours or published (3D or 2D, one network or an ensemble).

    Raises:
        WeightsError: See :func:`howdah.nn.checkpoint.load_weights`.
    """
    return load_weights(path, method=METHOD, expected=network_shapes(), adapt=with_depth)


def settled(weights: Weights, config: ElephantConfig | None = None) -> ElephantConfig:
    """Return the settings that weights are used with: those that are given, and what they leave open as it was trained."""
    learned = _learned(weights)
    if config is None:
        # where and how to compute is this machine's affair, not that of the machine that trained
        learned = {name: value for name, value in learned.items() if name not in COMPUTING}
        return ElephantConfig.of(learned, source="the header of the weights")
    unset = [name for name in LEARNED if getattr(config, name) is None and learned.get(name) is not None]
    config = config.but(**{name: learned[name] for name in unset})
    _tell_differences(config, learned)
    return config


class Detector:
    """A trained network, ready to find nuclei in frames.

    Args:
        weights: From training or :func:`read_weights`.
        config: Settings; what is ``None`` there is taken from the weights' header.
    """

    def __init__(self, weights: Weights, config: ElephantConfig | None = None) -> None:
        self.config = settled(weights, config)
        self.place = pick(self.config.device, precision=self.config.precision)
        self.networks = []
        for state in weights.members:
            network = UNet()
            network.load_state_dict(state)
            network.to(self.place.device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
            self.networks.append(network.eval())
        if not self.networks:
            raise WeightsError("The weights hold no network.")
        self.weights = weights
        self.calibration = Calibration.from_header(weights.header) or DEFAULT
        self._told = False

    def predict_centre(self, frame: npt.NDArray[Any], affine: F64) -> Prepared:
        """Return the probability, float32, that a voxel belongs to the centre part of a nucleus.

        It is (Z, Y, X) on the working grid, and comes with the affine of that grid (see :mod:`preprocess`).

        Args:
            frame: (Z, Y, X), any type.
            affine: 4x4, voxels to world; only the ratio of the voxel's edges matters.

        Memory: about 12 bytes a voxel of the frame, plus ``memory_mb`` of the settings.
        """
        image, grid = self._prepared(frame, affine)
        found = self._probabilities(image, self.layout(frame.shape, affine), (CENTRE,))
        return Prepared(self._lifted(found, frame, affine, (0, 0, 0))[0], grid)

    def predict_spots(self, frame: npt.NDArray[Any], affine: F64, *, box: Box | None = None) -> Spots:
        """Find the nuclei of a frame, in world coordinates.

        Args:
            frame: (Z, Y, X), any type. The whole frame, also where only a box of it is looked at: it is normalised as a whole.
                Where ``temporal_mean`` was set in training, the mean with its neighbours (:meth:`pipeline.sources.Source.reader`).
            affine: 4x4, voxels to world.
            box: World corners (low, high), each (z, y, x), see :func:`howdah.methods.elephant.box.box_around`. Only nuclei
                with their centre in it are returned, and only what they need is computed. Where the frame is cut into
                tiles, those are the tiles that touch the box, and the result is just that of the whole frame. Else it is the box
                with a margin; the norms of the network then see that part only, so a few nuclei may differ.
        """
        spots, seen = self.predict_seen(frame, affine, box=box)
        return replace(spots, quality=self.calibration.quality(seen))

    def predict_seen(self, frame: npt.NDArray[Any], affine: F64, *, box: Box | None = None) -> tuple[Spots, F64]:
        """Find the nuclei like :meth:`predict_spots`; quality is the mean centre probability, not calibrated.

        Returns:
            The spots, and (N, F) what the calibration looks at (see :mod:`calibration`).
        """
        image, grid = self._prepared(frame, affine)
        layout = self.layout(frame.shape, affine)
        start = (0, 0, 0)
        if box is None:
            found = self._probabilities(image, layout, self.classes)
        else:
            seen = seen_for(box, grid, layout.working, layout.unit)
            if seen is None:
                return Spots.none(), np.empty((0, len(FEATURES)))
            found, start = self._around(image, layout, seen), (seen[0].start, seen[1].start, seen[2].start)
        if self.config.denoise_edges:  # before nuclei are lifted to just above the threshold
            found = denoised(*found)[None]
        found = self._lifted(found, frame, affine, start)
        grid = grid.copy()
        grid[:3, 3] += grid[:3, :3] @ start
        spots, features = spots_and_features(found[0], self.config, affine=grid)
        if box is None:
            return spots, features
        inside = np.flatnonzero(in_box(spots.centre, box))
        return spots.take(inside), features[inside]

    @property
    def classes(self) -> tuple[int, ...]:
        """The classes of the network whose probabilities are needed, that of centres first."""
        return (CENTRE, BACKGROUND) if self.config.denoise_edges else (CENTRE,)

    def layout(self, shape: Sequence[int], affine: F64) -> Layout:
        """Return how a frame of this size goes through the network, with the memory that is free now."""
        return layout_of(
            shape,
            affine,
            self.config,
            memory_mb=self._memory(),
            strips_mb=STRIPS_MB,
            stream_bytes=bytes_per_voxel(self.place),
        )

    def _lifted(self, found: F32, frame: npt.NDArray[Any], affine: F64, start: tuple[int, int, int]) -> F32:
        """Raise what the network half sees in the first of the classes (C, z, y, x), from the voxel ``start`` on."""
        if not self.config.guess_height or self.config.nucleus_size is None:
            return found
        plain, grid = prepare(frame, affine, self.config.but(normalisation="minmax"))
        here = tuple(slice(first, first + n) for first, n in zip(start, found.shape[1:], strict=True))
        reach = np.asarray(self.config.nucleus_size) / defaults.voxel_size(grid)
        lifted = lift_missed(found[0], plain[here], reach, self.config)
        return np.concatenate([lifted[None], found[1:]])

    def _prepared(self, frame: npt.NDArray[Any], affine: F64) -> Prepared:
        if frame.ndim != 3 or 0 in frame.shape:
            raise DataError(f"Detection needs a frame (Z, Y, X); found shape {frame.shape}.")
        if not np.isfinite(frame.min()) or not np.isfinite(frame.max()):
            raise DataError(FINITE)
        return prepare(frame, affine, self.config)

    def _around(self, image: F32, layout: Layout, seen: Region) -> F32:
        """Probabilities (C, z, y, x) of a region."""
        if layout.tile is not None:
            whole = self._probabilities(image, layout, self.classes, only=seen)
            return np.ascontiguousarray(whole[(slice(None), *seen)])
        part = np.ascontiguousarray(image[seen])
        return self._probabilities(part, replace(layout, working=part.shape), self.classes)

    def _probabilities(
        self, image: F32, layout: Layout, classes: tuple[int, ...], *, only: Region | None = None
    ) -> F32:
        """Probabilities (C, Z, Y, X) of some classes; with ``only``, right in that region only."""
        depth, height, width = image.shape
        image = padded(image, layout.unit)
        if layout.tile is None:
            whole = self.probabilities(image, layout.flags, classes)
        else:
            plan = layout.tiles()
            self._tell(len(plan), layout.tile, image.size)
            if only is not None:
                plan = [tile for tile in plan if touches(tile, only)]

            def compute(region: tuple[slice, ...]) -> F32:
                return self.probabilities(np.ascontiguousarray(image[region]), layout.flags, classes)

            *_, whole = tiles.blend(plan, compute, shape=(len(classes), *image.shape))
        return whole[:, :depth, :height, :width]

    def probabilities(self, image: F32, flags: tuple[bool, ...], classes: tuple[int, ...]) -> F32:
        """Return mean probabilities (C, Z, Y, X) of the networks, and of the mirrored frames if asked for.

        Args:
            image: (Z, Y, X) float32, prepared: a whole frame or a tile of it. Sizes are multiples of what the network pools.
            flags: At which levels pooling leaves z alone.
            classes: Which of the network's outputs.
        """
        whole = torch.from_numpy(image)
        at_once = image.size * BYTES_PER_VOXEL <= self._memory() * 2**20
        mirrors = [(), (1,), (2,), (1, 2)] if self.config.test_time_flips else [()]
        total = torch.zeros((len(classes), *image.shape))
        for network in self.networks:
            for mirror in mirrors:
                x = whole.flip(mirror)
                if at_once:
                    given = x[None, None].to(self.place.device).contiguous(memory_format=torch.channels_last_3d)
                    with torch.inference_mode(), self.place.autocast():
                        log_p = network(given, flags)[0, list(classes)].cpu()
                else:
                    log_p = stream(network, x, flags, self.place)[list(classes)]
                total += log_p.exp().flip([axis + 1 for axis in mirror])
        mean: F32 = (total / (len(self.networks) * len(mirrors))).numpy()
        return mean

    def _memory(self) -> float:
        return self.config.memory_mb or free_memory_mb(self.place.device)

    def _tell(self, n_tiles: int, size: tuple[int, ...], n_voxels: int) -> None:
        """Warn once where a frame is cut: the network's norms take the mean and variance of a tile for those of the frame."""
        if n_tiles == 1 or self._told:
            return
        self._told = True
        log.warning(
            "Frames are predicted in %d overlapping tiles of %s voxels (z, y, x). The network normalises by what it sees at once, "
            "so results differ from those of a whole frame and change with the size of tiles. To avoid it, leave "
            "tile_size unset and allow about %d MiB (memory_mb).",
            n_tiles,
            " x ".join(str(n) for n in size),
            STRIPS_MB + -(-n_voxels * bytes_per_voxel(self.place) // 2**20),
        )


def _learned(weights: Weights) -> dict[str, Any]:
    """Return the settings that the weights were trained with, none for published files."""
    learned = weights.header.get("resolved", {})
    if not isinstance(learned, Mapping):
        raise WeightsError(
            f"The header of the weights is damaged: 'resolved' shall hold the settings of the training, but is {learned!r:.80}. "
            "Train again, or use another file."
        )
    return dict(learned)


def _tell_differences(config: ElephantConfig, learned: Mapping[str, Any]) -> None:
    """Warn where the image is prepared, or nuclei are enlarged, otherwise than in training."""
    for name in PREPARING:
        if name in learned and learned[name] != config.model_dump(mode="json")[name]:
            log.warning(
                "The weights were trained with %s = %s, but %s is set; nuclei may be missed or have wrong sizes. "
                "Leave the setting out to use that of the training.",
                name,
                learned[name],
                getattr(config, name),
            )


def padded(image: F32, multiple: tuple[int, int, int]) -> F32:
    """Repeat the far edges up to the next multiple: then tiles are pooled in step with one another."""
    missing = [(0, -n % m) for n, m in zip(image.shape, multiple, strict=True)]
    return np.pad(image, missing, mode="edge") if any(pad for _, pad in missing) else image
