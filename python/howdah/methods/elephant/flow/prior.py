"""Learning to match before there are links: a frame and itself, moved in a known way (not in the paper).

A flow network that starts from nothing must first find out that it shall look for the same nucleus in both channels, and some tens
of links say little about that: the paper's took 30 hours on a GPU with 1,162 links. Here the frames of the links teach it: the
later frame of a crop is the earlier one, moved by a smooth random flow, made a little brighter or darker, with fresh noise.
Every bright voxel is then a label.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from howdah.methods.elephant.flow.augment import Crop

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Size = tuple[int, int, int]

__all__ = ["moved_pair", "smooth_flow"]

TURN_DEGREES = 15.0
STRETCH = 0.07
COARSE = (2, 4, 4)  # places (z, y, x) at which the flow bends
BENDING = 0.25  # of the largest shift
BRIGHTNESS, NOISE = 0.15, 0.02


def smooth_flow(size: Size, largest: F64, rng: np.random.Generator) -> F64:
    """Return a random smooth flow, (z, y, x, 3) in voxels: a shift of up to ``largest`` (3,), a turn in xy, stretching, bending."""
    middle = (np.asarray(size) - 1) / 2
    places = np.stack(np.meshgrid(*[np.arange(n) for n in size], indexing="ij"), axis=-1) - middle
    angle = np.deg2rad(rng.uniform(-TURN_DEGREES, TURN_DEGREES))
    linear = np.diag(rng.uniform(1 - STRETCH, 1 + STRETCH, 3))
    linear[1:, 1:] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]] @ linear[1:, 1:]
    flow = rng.uniform(-1, 1, 3) * largest + places @ (linear - np.eye(3)).T
    at = np.stack(np.meshgrid(*[np.linspace(0, c - 1, n) for c, n in zip(COARSE, size, strict=True)], indexing="ij"))
    for axis in range(3):
        bent = rng.normal(0, BENDING * largest[axis], COARSE)
        flow[..., axis] += ndimage.map_coordinates(bent, at, order=1)
    if size[0] == 1:
        flow[..., 0] = 0
    return flow


def moved_pair(frame: F32, crop: Crop, flow: F64, rng: np.random.Generator) -> tuple[F32, I64, F32]:
    """Make a pair of crops with known flow from one frame.

    Args:
        frame: (Z, Y, X), intensity 0..1.
        crop: Where to cut.
        flow: (z, y, x, 3) from voxels of the later crop to their places in the earlier one.
        rng: Where randomness comes from.

    Returns:
        (2, z, y, x) earlier and later crop; (K,) the brighter half of the voxels whose place lies in the crop; (K, 3) flow there.
    """
    places = np.stack(np.meshgrid(*[np.arange(n) for n in crop.size], indexing="ij"), axis=-1) + flow
    inside = ((places >= 0) & (places <= np.asarray(crop.size) - 1)).all(axis=-1)
    there = places @ crop.matrix[:3, :3].T + crop.matrix[:3, 3]
    later = ndimage.map_coordinates(frame, np.moveaxis(there, -1, 0), order=1, mode="nearest")
    pair = np.stack([crop.image(frame), later * rng.uniform(1 - BRIGHTNESS, 1 + BRIGHTNESS)])
    bright = inside & (later >= np.median(later[inside]) if inside.any() else False)
    voxel = np.flatnonzero(bright)
    pair = pair + rng.normal(0, NOISE, pair.shape)
    return pair.astype(np.float32), voxel, flow.reshape(-1, 3)[voxel].astype(np.float32)
