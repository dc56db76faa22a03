"""What settings leave open is decided from the outlined cells: sizes of crops, of the smallest cell, of the ring, and poolings in z.

Axes D are (y, x) or (z, y, x); lengths are in pixels of the finest axis unless said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from howdah.methods.embedtrack.network import N_POOLINGS

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = ["crop_size", "diameter", "enlargement", "keep_axials", "min_size", "ring_width"]

CELLS_ACROSS = 6.0
LEAST_EDGE, MOST_EDGE = 64, 256
MOST_VOXELS = 2**18  # of a crop in 3D: as many as 512 x 512 pixels
WIDE, LARGEST = (
    24.0,
    4,
)  # pixels across a cell that are enough for the network; most that frames are enlarged, or made smaller
THIN = 2  # planes that are left after all poolings, at least


def keep_axials(voxel_size: Sequence[float], planes: int) -> int:
    """Return how many of the poolings leave z alone: until the voxels are about cubes, and more in a thin stack.

    Args:
        voxel_size: (z, y, x).
        planes: Of the thinnest frame.
    """
    ratio = voxel_size[0] / min(voxel_size[1:])
    by_size = min(max(round(math.log2(ratio)), 0), N_POOLINGS)
    by_planes = N_POOLINGS - min(max(int(math.log2(max(planes / THIN, 1.0))), 0), N_POOLINGS)
    return max(by_size, by_planes)


def diameter(sizes: I64, voxel_size: Sequence[float]) -> float:
    """Return the median diameter of a disk, in 3D a ball, as large as each cell.

    Args:
        sizes: (N,) pixels of each cell.
        voxel_size: Of the D axes.
    """
    finest = min(voxel_size)
    volume = float(np.median(sizes)) * float(np.prod([s / finest for s in voxel_size]))
    return 2 * math.sqrt(volume / math.pi) if len(voxel_size) == 2 else 2 * (0.75 * volume / math.pi) ** (1 / 3)


def enlargement(sizes: I64, voxel_size: Sequence[float]) -> float:
    """Return how many times frames are enlarged, or one over how many times they are made smaller; 1 in 3D.

    Cells, (N,) pixels, become wide enough for the network, and hardly wider: that would cost time.
    """
    if len(voxel_size) == 3:
        return 1.0
    across = diameter(sizes, voxel_size)
    if across > WIDE:
        return 1 / min(int(across / WIDE), LARGEST)
    return float(min(round(WIDE / across), LARGEST))


def crop_size(
    sizes: I64,
    extents: I64,
    *,
    reach: float,
    shape: Sequence[int],
    voxel_size: Sequence[float],
    multiple: Sequence[int],
) -> tuple[int, ...]:
    """Return the size of a crop: six cells wide, room for a large one and its way, no larger than a frame or 256 pixels.

    Args:
        sizes: (N,) pixels of each cell.
        extents: (N, D) lengths of the box around each, in pixels.
        reach: How far a cell goes in a frame (95 % of them go less far).
        shape: Of the largest frame, D axes.
        voxel_size: Of the D axes.
        multiple: What the network needs each length to be a multiple of.
    """
    steps = [s / min(voxel_size) for s in voxel_size]
    large = float(np.percentile((extents * steps).max(axis=1), 95))
    width = max(CELLS_ACROSS * diameter(sizes, voxel_size), 1.25 * large + 2 * reach, LEAST_EDGE)
    while True:
        edges = [
            max(_up(min(width / step, MOST_EDGE, n), m), m) for n, step, m in zip(shape, steps, multiple, strict=True)
        ]
        if len(shape) == 2 or math.prod(edges) <= MOST_VOXELS or width <= LEAST_EDGE / 2:
            return tuple(edges)
        width *= 0.9


def min_size(sizes: I64) -> int:
    """Return half of the 1 % percentile of the sizes of the cells, (N,) pixels (paper, section 4.4)."""
    return int(np.percentile(sizes, 1) / 2)


def ring_width(sizes: I64, voxel_size: Sequence[float]) -> float:
    """Return how far around a cell is background if annotation is sparse: a quarter of a diameter."""
    return diameter(sizes, voxel_size) / 4


def _up(length: float, multiple: int) -> int:
    return math.ceil(length / multiple) * multiple
