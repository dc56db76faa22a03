"""From a frame to nuclei (paper: post-processing; Algorithm for detection, parts ii and iii)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from howdah.ellipsoids import covariance_from, ellipsoids_from_probability, radii_and_axes, transform
from howdah.errors import DataError, WeightsError
from howdah.methods import Spots
from howdah.methods.elephant import defaults
from howdah.methods.elephant.config import ElephantConfig
from howdah.methods.elephant.guesses import lift_missed
from howdah.methods.elephant.network import CENTRE, UNet, multiples, with_depth
from howdah.methods.elephant.network import shapes as network_shapes
from howdah.methods.elephant.preprocess import Prepared, prepare
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
    "suppression_distance",
    "n_keep_axials",
    "background_threshold",
    "crop_size",
)
PREPARING = ("normalisation", "slice_median", "rescale", "centre_ratio", "n_keep_axials")
COMPUTING = ("device", "precision", "memory_mb", "tile_size")

log = logging.getLogger("howdah")

BYTES_PER_VOXEL = 700.0  # of a tile in a forward pass, float32; measured in benchmarks/bench_elephant.py


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
        self._told = False

    def predict_centre(self, frame: npt.NDArray[Any], affine: F64) -> Prepared:
        """Return the probability, float32, that a voxel belongs to the centre part of a nucleus.

        It is (Z, Y, X) on the working grid, and comes with the affine of that grid (see :mod:`preprocess`).

        Args:
            frame: (Z, Y, X), any type.
            affine: 4x4, voxels to world; only the ratio of the voxel's edges matters.

        Memory: about 12 bytes a voxel of the frame, plus ``memory_mb`` of the settings for a tile.
        """
        if frame.ndim != 3 or 0 in frame.shape:
            raise DataError(f"Detection needs a frame (Z, Y, X); found shape {frame.shape}.")
        if not np.isfinite(frame.min()) or not np.isfinite(frame.max()):
            raise DataError(
                "Detection failed: the frame holds values that are no numbers (NaN or infinite), so it cannot be normalised. "
                "Replace them in the image, by 0 for example, and detect again."
            )
        image, grid = prepare(frame, affine, self.config)
        inner = image.shape
        flags = defaults.keep_axials(grid, inner, n_keep=self.config.n_keep_axials)
        image = _padded(image, multiples(flags))
        size = self._tile(image.shape, multiples(flags))
        plan = tiles.plan(image.shape, size, multiple=multiples(flags))
        self._tell(len(plan), size, image.size)

        def compute(region: tuple[slice, ...]) -> F32:
            x = torch.from_numpy(image[region])[None, None].to(self.place.device)
            x = x.contiguous(memory_format=torch.channels_last_3d)
            with torch.inference_mode(), self.place.autocast():
                centres = [network(x, flags)[0, CENTRE].exp() for network in self.networks]
            mean: F32 = torch.stack(centres).mean(dim=0).cpu().numpy()
            return mean[None]

        whole: F32 = np.zeros((1, 0, 0, 0), dtype=np.float32)
        for whole in tiles.blend(plan, compute, shape=(1, *image.shape)):  # noqa: B007  the last one is complete
            pass
        depth, height, width = inner
        centre = whole[0, :depth, :height, :width]
        if self.config.guess_height and self.config.nucleus_size is not None:
            plain = prepare(frame, affine, self.config.but(normalisation="minmax")).image
            reach = np.asarray(self.config.nucleus_size) / defaults.voxel_size(grid)
            centre = lift_missed(centre, plain, reach, self.config)
        return Prepared(centre, grid)

    def predict_spots(self, frame: npt.NDArray[Any], affine: F64) -> Spots:
        """Find the nuclei of a frame, in world coordinates."""
        centre, grid = self.predict_centre(frame, affine)
        return spots_from_probability(centre, self.config, affine=grid)

    def _tile(self, shape: tuple[int, ...], multiple: tuple[int, int, int]) -> tuple[int, ...]:
        if self.config.tile_size is None:
            memory = self.config.memory_mb or free_memory_mb(self.place.device)
            return tiles.size_for_memory(shape, multiple=multiple, bytes_per_voxel=BYTES_PER_VOXEL, memory_mb=memory)
        return tuple(-(-n // m) * m for n, m in zip(self.config.tile_size, multiple, strict=True))

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
            -(-n_voxels * BYTES_PER_VOXEL // 2**20),
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


def _padded(image: F32, multiple: tuple[int, int, int]) -> F32:
    """Repeat the far edges up to the next multiple: then tiles are pooled in step with one another."""
    missing = [(0, -n % m) for n, m in zip(image.shape, multiple, strict=True)]
    return np.pad(image, missing, mode="edge") if any(pad for _, pad in missing) else image


def spots_from_probability(probability: F32, config: ElephantConfig, *, affine: F64) -> Spots:
    """Turn centre probabilities into ellipsoids.

    Voxels above the threshold, in 26-connected components; each becomes the ellipsoid of its central moments, enlarged by
    1 / ``centre_ratio``, since the component is the centre part of a nucleus only.

    Args:
        probability: (Z, Y, X) float32.
        config: threshold, centre_ratio, r_min, r_max.
        affine: 4x4, voxels to world.

    Returns:
        Spots in world coordinates; quality is the mean centre probability of the component.
    """
    found = ellipsoids_from_probability(probability, config.threshold)
    if not len(found.centre):
        return Spots.none()
    cores = found.covariance
    if probability.shape[0] == 1:  # an image of one slice: as thick as wide, so that the spot is seen as a ball
        cores, affine = _made_round(cores, affine)
    centre, covariance = transform(found.centre, cores / config.centre_ratio**2, affine)
    radii, axes = radii_and_axes(covariance)
    kept = radii[:, 0] >= (config.r_min or 0.0)
    if config.r_max is not None:
        radii = np.minimum(radii, config.r_max)
    return Spots(centre[kept], covariance_from(radii[kept], axes[kept]), found.quality[kept])


def _made_round(discs: F64, affine: F64) -> tuple[F64, F64]:
    """Give discs in one slice (z = 0) a thickness: their mean half-axis in world units, across the plane of the slice.

    The edge of a voxel along z means nothing where there is one slice, so the affine that is returned has the unit normal in
    its place, and the thickness is in world units.
    """
    plane = affine[:3, 1:3]  # a step along y and x
    normal = np.cross(plane[:, 0], plane[:, 1])
    upright = affine.copy()
    upright[:3, 0] = normal / np.linalg.norm(normal)
    balls = discs.copy()
    balls[:, 0, 0] = np.sqrt(np.linalg.det(discs[:, 1:, 1:]) * np.linalg.det(plane.T @ plane))
    return balls, upright
