"""From a frame to nuclei: the network over a frame, or over a box in it (paper: prediction; Algorithm for detection, part i)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from howdah.errors import DataError, WeightsError
from howdah.methods import Spots
from howdah.methods.elephant import defaults
from howdah.methods.elephant.box import Box, Region, grown, in_box, region_of
from howdah.methods.elephant.calibration import DEFAULT, FEATURES, Calibration
from howdah.methods.elephant.config import ElephantConfig
from howdah.methods.elephant.extract import denoised, spots_and_features, spots_from_probability
from howdah.methods.elephant.guesses import lift_missed
from howdah.methods.elephant.network import BACKGROUND, CENTRE, UNet, multiples, with_depth
from howdah.methods.elephant.network import shapes as network_shapes
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

BYTES_PER_VOXEL = 700.0  # of a forward pass at once, float32; measured in benchmarks/bench_elephant.py
MARGIN = 32  # voxels along y and x around a box; more changes little, see benchmarks/bench_box.py


def read_weights(path: Any) -> Weights:
    """Read a weights file of this method, ours or published (3D or 2D, one network or an ensemble).

    Raises:
        WeightsError: See :func:`howdah.nn.checkpoint.load_weights`.
    """
    return load_weights(path, method=METHOD, expected=network_shapes(), adapt=with_depth)


class Detector:
    """A trained network, ready to find nuclei in frames.

    Args:
        weights: From training or :func:`read_weights`.
        config: Settings; what is ``None`` there is taken from the weights' header.
    """

    def __init__(self, weights: Weights, config: ElephantConfig | None = None) -> None:
        learned = _learned(weights)
        if config is None:
            # where and how to compute is this machine's affair, not that of the machine that trained
            learned = {name: value for name, value in learned.items() if name not in COMPUTING}
            self.config = ElephantConfig.of(learned, source="the header of the weights")
        else:
            unset = [name for name in LEARNED if getattr(config, name) is None and learned.get(name) is not None]
            self.config = config.but(**{name: learned[name] for name in unset})
            _tell_differences(self.config, learned)
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
        found = self._probabilities(image, self._flags(image, grid), (CENTRE,))
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
        flags = self._flags(image, grid)
        classes = (CENTRE, BACKGROUND) if self.config.denoise_edges else (CENTRE,)
        start = (0, 0, 0)
        if box is None:
            found = self._probabilities(image, flags, classes)
        else:
            region = region_of(box, grid, image.shape)
            if region is None:
                return Spots.none(), np.empty((0, len(FEATURES)))
            found, start = self._around(image, flags, classes, region)
        if self.config.denoise_edges:  # before nuclei are lifted to just above the threshold
            found = denoised(*found)[None]
        found = self._lifted(found, frame, affine, start)
        grid = grid.copy()
        grid[:3, 3] += grid[:3, :3] @ start
        spots, seen = spots_and_features(found[0], self.config, affine=grid)
        if box is None:
            return spots, seen
        inside = np.flatnonzero(in_box(spots.centre, box))
        return spots.take(inside), seen[inside]

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
            raise DataError(
                "Detection failed: the frame holds values that are no numbers (NaN or infinite), so it cannot be normalised. "
                "Replace them in the image, by 0 for example, and detect again."
            )
        return prepare(frame, affine, self.config)

    def _flags(self, image: F32, grid: F64) -> tuple[bool, ...]:
        return defaults.keep_axials(grid, image.shape, n_keep=self.config.n_keep_axials)

    def _around(
        self, image: F32, flags: tuple[bool, ...], classes: tuple[int, ...], region: Region
    ) -> tuple[F32, tuple[int, int, int]]:
        """Probabilities (C, Z, Y, X) of a region with a margin, and the voxel where they start."""
        unit = multiples(flags)
        margin = (unit[0] if unit[0] > 1 else 4, MARGIN, MARGIN)
        seen = grown(region, margin, image.shape, multiple=unit)
        start = (seen[0].start, seen[1].start, seen[2].start)
        if self._tile(tuple(-(-n // m) * m for n, m in zip(image.shape, unit, strict=True)), unit) is not None:
            whole = self._probabilities(image, flags, classes, only=seen)
            return np.ascontiguousarray(whole[(slice(None), *seen)]), start
        return self._probabilities(np.ascontiguousarray(image[seen]), flags, classes), start

    def _probabilities(
        self, image: F32, flags: tuple[bool, ...], classes: tuple[int, ...], *, only: Region | None = None
    ) -> F32:
        """Probabilities (C, Z, Y, X) of some classes; with ``only``, right in that region only."""
        depth, height, width = image.shape
        image = _padded(image, multiples(flags))
        size = self._tile(image.shape, multiples(flags))
        if size is None:
            whole = self._computed(image, flags, classes)
        else:
            plan = tiles.plan(image.shape, size, multiple=multiples(flags))
            self._tell(len(plan), size, image.size)
            if only is not None:
                plan = [tile for tile in plan if _touches(tile, only)]

            def compute(region: tuple[slice, ...]) -> F32:
                return self._computed(np.ascontiguousarray(image[region]), flags, classes)

            *_, whole = tiles.blend(plan, compute, shape=(len(classes), *image.shape))
        return whole[:, :depth, :height, :width]

    def _computed(self, image: F32, flags: tuple[bool, ...], classes: tuple[int, ...]) -> F32:
        """Mean probabilities (C, Z, Y, X) of the networks, and of the mirrored frames if asked for, over all of the image."""
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

    def _tile(self, shape: tuple[int, ...], multiple: tuple[int, int, int]) -> tuple[int, ...] | None:
        """Size of tiles for a padded frame, None where it goes through as a whole."""
        if self.config.tile_size is not None:
            asked = [-(-n // m) * m for n, m in zip(self.config.tile_size, multiple, strict=True)]
            return None if all(n >= m for n, m in zip(asked, shape, strict=True)) else tuple(asked)
        memory = self._memory()
        if np.prod(shape) * BYTES_PER_VOXEL <= memory * 2**20:
            return None
        for_layers = max(memory - STRIPS_MB, memory / 2)
        size = tiles.size_for_memory(
            shape, multiple=multiple, bytes_per_voxel=bytes_per_voxel(self.place), memory_mb=for_layers
        )
        return None if size == tuple(shape) else size

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


def _touches(tile: tiles.Tile, region: Region) -> bool:
    """Tell whether a tile has any weight in a region."""
    for mine, weights, wanted in zip(tile.region, tile.weights, region, strict=True):
        low, high = max(mine.start, wanted.start) - mine.start, min(mine.stop, wanted.stop) - mine.start
        if low >= high or not weights[low:high].any():
            return False
    return True


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


def _padded(image: F32, multiple: tuple[int, int, int]) -> F32:
    """Repeat the far edges up to the next multiple: then tiles are pooled in step with one another."""
    missing = [(0, -n % m) for n, m in zip(image.shape, multiple, strict=True)]
    return np.pad(image, missing, mode="edge") if any(pad for _, pad in missing) else image
