"""From two frames to where nuclei were (paper: Algorithm for linking, the estimated coordinate at the previous time point)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from howdah.ellipsoids import runs_of, transform
from howdah.errors import DataError, WeightsError
from howdah.methods.elephant import defaults
from howdah.methods.elephant.flow.config import FlowConfig
from howdah.methods.elephant.flow.network import FlowNet, with_depth
from howdah.methods.elephant.flow.network import shapes as network_shapes
from howdah.methods.elephant.flow.targets import MIN_VOXELS
from howdah.methods.elephant.flow.train import METHOD, learned_settings
from howdah.methods.elephant.network import multiples
from howdah.methods.elephant.preprocess import prepare
from howdah.nn import tiles
from howdah.nn.checkpoint import Weights, load_weights
from howdah.nn.device import free_memory_mb, pick

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Array = npt.NDArray[Any]
Box = tuple[npt.ArrayLike, npt.ArrayLike]

__all__ = ["Flow", "FlowMap", "read_flow_weights"]

COMPUTING = ("device", "precision", "memory_mb", "tile_size")
BYTES_PER_VOXEL = 900.0  # of a tile in a forward pass, float32; measured in benchmarks/bench_flow.py
VOXELS_AT_ONCE = 4_000_000

log = logging.getLogger("howdah")


def read_flow_weights(path: Any) -> Weights:
    """Read a file of flow weights, ours or published (3D or 2D, one network or an ensemble).

    Raises:
        WeightsError: See :func:`howdah.nn.checkpoint.load_weights`.
    """
    return load_weights(path, method=METHOD, expected=network_shapes(), adapt=with_depth)


@dataclass(frozen=True, eq=False)
class FlowMap:
    """The flow between two frames.

    Attributes:
        flow: (3, Z, Y, X) float32 (z, y, x), voxels: from each voxel of the later frame to its place in the earlier one.
        affine: 4x4, voxels of the map to world, of the later frame.
        earlier_affine: 4x4, voxels of the map to world, of the earlier frame.
    """

    flow: F32
    affine: F64
    earlier_affine: F64

    def positions(self, centre: F64, covariance: F64) -> F64:
        """Return where ellipsoids of the later frame were: the centre moved by the mean flow over the ellipsoid (paper).

        Args:
            centre: (N, 3) world.
            covariance: (N, 3, 3), squared world units.

        Returns:
            (N, 3) world; NaN for what is no ellipsoid, or has no voxel in the map.
        """
        found = np.full((len(centre), 3), np.nan)
        rows = np.flatnonzero(np.isfinite(centre).all(axis=1) & np.isfinite(covariance).all(axis=(1, 2)))
        rows = rows[np.linalg.eigvalsh(covariance[rows])[:, 0] > 0]
        middle, shape_of = transform(centre[rows], covariance[rows], np.linalg.inv(self.affine))
        size = (self.flow.shape[1], self.flow.shape[2], self.flow.shape[3])
        flat = self.flow.reshape(3, -1)
        total, count = np.zeros((len(rows), 3)), np.zeros(len(rows))
        for part in runs_of(middle, shape_of, size, min_voxels=MIN_VOXELS).parts(VOXELS_AT_ONCE):
            voxel, owner = part.voxels()
            count += np.bincount(owner, minlength=len(rows))
            for axis in range(3):
                total[:, axis] += np.bincount(owner, weights=flat[axis, voxel], minlength=len(rows))
        seen = count > 0
        there = middle[seen] + total[seen] / count[seen, None]
        found[rows[seen]] = there @ self.earlier_affine[:3, :3].T + self.earlier_affine[:3, 3]
        return found


class Flow:
    """A trained flow network, ready to say where things were one frame earlier.

    Args:
        weights: From training or :func:`read_flow_weights`.
        config: Settings; what is ``None`` there is taken from the weights' header. ``max_displacement`` is always that of the
            weights: it says what the network's output means. Published files do not tell it: there the settings may, and the
            paper's is taken if they do not.
    """

    def __init__(self, weights: Weights, config: FlowConfig | None = None) -> None:
        learned = learned_settings(weights)
        if config is None:
            own = {name: FlowConfig.model_fields[name].default for name in COMPUTING}  # this machine's affair
            config = learned.but(**own)
        if config.n_keep_axials is None:
            config = config.but(n_keep_axials=learned.n_keep_axials)
        meant = learned.max_displacement
        if config.max_displacement is not None and "resolved" not in weights.header:
            meant = config.max_displacement
        elif config.max_displacement not in (None, meant):
            log.warning(
                "max_displacement = %s is not used: these flow weights were trained with %s voxels (z, y, x), and that is what "
                "their output means.",
                config.max_displacement,
                meant,
            )
        self.config = config.but(max_displacement=meant)
        self.place = pick(self.config.device, precision=self.config.precision)
        self.networks = [_network(state, self.place.device) for state in weights.members]
        if not self.networks:
            raise WeightsError("The flow weights hold no network.")

    def predict_flow(self, earlier: Array, later: Array, affine: F64) -> F32:
        """Return the displacement from each voxel of ``later`` to its place in ``earlier``.

        Args:
            earlier: (Z, Y, X), any type.
            later: (Z, Y, X), any type.
            affine: 4x4, voxels to world; only the ratio of the voxel's edges matters.

        Returns:
            (3, Z, Y, X) float32 (z, y, x), in voxels of the frames.
        """
        flow = self.map(earlier, later, affine).flow
        if flow.shape[1:] == later.shape:
            return flow
        steps = np.asarray(later.shape) / flow.shape[1:]  # voxels of the frame per voxel of the working grid
        start = (1 / steps - 1) / 2
        grown = [
            ndimage.affine_transform(part * step, 1 / steps, start, output_shape=later.shape, order=1, mode="nearest")
            for part, step in zip(flow, steps, strict=True)
        ]
        return np.stack(grown).astype(np.float32)

    def positions(
        self,
        earlier: Array,
        later: Array,
        affine: F64,
        centre: F64,
        covariance: F64,
        *,
        box: Box | None = None,
        earlier_affine: F64 | None = None,
    ) -> F64:
        """Return where ellipsoids of the later frame were one frame earlier.

        Args:
            earlier: (Z, Y, X), any type.
            later: (Z, Y, X), any type.
            affine: 4x4, voxels to world.
            centre: (N, 3) (z, y, x), world.
            covariance: (N, 3, 3), squared world units.
            box: Corners (low, high), each (3,) world, around the spots of interest; only that part of the frames is computed,
                with what the network needs around it. Spots outside get NaN.
            earlier_affine: The same as ``affine`` of the earlier frame, where a movie is registered frame by frame.

        Returns:
            (N, 3) world; NaN where nothing is known.
        """
        found = self.map(earlier, later, affine, box=box, earlier_affine=earlier_affine)
        estimated = found.positions(np.asarray(centre, dtype=np.float64), np.asarray(covariance, dtype=np.float64))
        if box is not None:
            low, high = (np.asarray(corner, dtype=np.float64) for corner in box)
            estimated[~((centre >= low) & (centre <= high)).all(axis=1)] = np.nan
        return estimated

    def map(
        self,
        earlier: Array,
        later: Array,
        affine: F64,
        *,
        box: Box | None = None,
        earlier_affine: F64 | None = None,
    ) -> FlowMap:
        """Return the flow on the working grid; arguments as in :meth:`positions`.

        Memory: about 24 bytes a voxel of the frame, plus ``memory_mb`` of the settings for a tile.
        """
        _check(earlier, later)
        before = prepare(earlier, affine if earlier_affine is None else earlier_affine, self.config)
        after = prepare(later, affine, self.config)
        pair, inner = np.stack([before.image, after.image]), after.image.shape
        flags = defaults.keep_axials(after.affine, inner, n_keep=self.config.n_keep_axials)
        multiple = multiples(flags)
        missing = [(0, -n % m) for n, m in zip(inner, multiple, strict=True)]
        if any(pad for _, pad in missing):
            pair = np.pad(pair, [(0, 0), *missing], mode="edge")
        region = _region(box, after.affine, inner, multiple=multiple, reach=self.config.max_displacement or (0, 0, 0))
        pair = pair[(slice(None), *region)]
        flow = self._compute(pair, flags, multiple)
        flow = flow[(slice(None), *(slice(0, min(r.stop, n) - r.start) for r, n in zip(region, inner, strict=True)))]
        shift = np.eye(4)
        shift[:3, 3] = [r.start for r in region]
        return FlowMap(flow, after.affine @ shift, before.affine @ shift)

    def _compute(self, pair: F32, flags: tuple[bool, ...], multiple: tuple[int, int, int]) -> F32:
        shape = pair.shape[1:]
        if self.config.tile_size is None:
            memory = self.config.memory_mb or free_memory_mb(self.place.device)
            size = tiles.size_for_memory(shape, multiple=multiple, bytes_per_voxel=BYTES_PER_VOXEL, memory_mb=memory)
        else:
            size = tuple(-(-n // m) * m for n, m in zip(self.config.tile_size, multiple, strict=True))
        scale = np.asarray(self.config.max_displacement, dtype=np.float32).reshape(3, 1, 1, 1)

        def compute(region: tuple[slice, ...]) -> F32:
            x = torch.from_numpy(np.ascontiguousarray(pair[(slice(None), *region)]))[None].to(self.place.device)
            x = x.contiguous(memory_format=torch.channels_last_3d)
            with torch.inference_mode(), self.place.autocast():
                flows = [network(x, flags)[0] for network in self.networks]
            mean: F32 = torch.stack(flows).mean(dim=0).cpu().numpy()
            return mean * scale

        whole: F32 = np.zeros((3, 0, 0, 0), dtype=np.float32)
        plan = tiles.plan(shape, size, multiple=multiple)
        for whole in tiles.blend(plan, compute, shape=(3, *shape)):  # noqa: B007  the last one is complete
            pass
        return whole


def _network(state: Mapping[str, torch.Tensor], device: torch.device) -> FlowNet:
    network = FlowNet()
    network.load_state_dict(state)
    network.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return network.eval()


def _check(earlier: Array, later: Array) -> None:
    if earlier.ndim != 3 or earlier.shape != later.shape or 0 in later.shape:
        raise DataError(
            f"The flow needs two frames (Z, Y, X) of one size; found shapes {earlier.shape}, {later.shape}."
        )
    for frame, name in ((earlier, "earlier"), (later, "later")):
        if not np.isfinite(frame.min()) or not np.isfinite(frame.max()):
            raise DataError(
                f"Estimating the flow failed: the {name} frame holds values that are no numbers (NaN or infinite), so it cannot "
                "be normalised. Replace them in the image, by 0 for example."
            )


def _region(
    box: Box | None,
    affine: F64,
    shape: tuple[int, ...],
    *,
    multiple: tuple[int, int, int],
    reach: tuple[float, float, float],
) -> tuple[slice, ...]:
    """Return the voxels to compute: those of the box, as far around it as things move and the network looks, in whole multiples."""
    whole = tuple(slice(0, -(-n // m) * m) for n, m in zip(shape, multiple, strict=True))
    if box is None:
        return whole
    low, high = (np.asarray(corner, dtype=np.float64) for corner in box)
    if low.shape != (3,) or high.shape != (3,) or not (low <= high).all():
        raise DataError(f"A box needs a low and a high corner (z, y, x); found {low.tolist()} and {high.tolist()}.")
    corners = np.stack(np.meshgrid(*zip(low, high, strict=True), indexing="ij"), axis=-1).reshape(-1, 3)
    inverse = np.linalg.inv(affine)
    voxels = corners @ inverse[:3, :3].T + inverse[:3, 3]
    around = np.maximum(np.asarray(reach), 2 * np.asarray(multiple))
    first = np.floor((voxels.min(axis=0) - around) / multiple).astype(int) * multiple
    last = np.ceil((voxels.max(axis=0) + around + 1) / multiple).astype(int) * multiple
    if (voxels.max(axis=0) < -0.5).any() or (voxels.min(axis=0) > np.asarray(shape) - 0.5).any():
        raise DataError(f"The box from {low.tolist()} to {high.tolist()} (z, y, x) lies outside of the frame.")
    return tuple(slice(max(a, 0), min(b, w.stop)) for a, b, w in zip(first.tolist(), last.tolist(), whole, strict=True))
