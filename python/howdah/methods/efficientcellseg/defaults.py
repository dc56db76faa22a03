"""What settings leave open is decided from the outlined cells: enlarging, crops, the ring, the smallest cell, the share of colours."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from howdah.methods.efficientcellseg.config import STRIDE

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = ["colour_area", "crop_size", "enlargement", "min_size", "n_crops", "ring_width", "widths"]

WIDE, LARGEST = 32.0, 4  # pixels across a cell at least; most that frames are enlarged, or made smaller
CELLS_ACROSS = 4.0  # of a crop
LEAST_EDGE, MOST_EDGE = 96, 256
SEEN = 2.0  # a pass shows each pixel so often ...
LEAST_PIXELS, MOST_PIXELS = 40 * 256**2, 160 * 256**2  # ... but so many pixels at least, and at most
ADVISED = 2.0  # share of a neighbour that is coloured, by the share of outlined cells (the reference code's advice)
USUAL_AREA, MOST_AREA = 0.03, 0.5


def widths(areas: I64) -> F64:
    """Return the diameters of disks as large as the largest section of each cell; (N,) pixels from (N,) pixels."""
    return 2 * np.sqrt(np.asarray(areas, dtype=np.float64) / math.pi)


def enlargement(areas: I64) -> float:
    """Return how many times frames are enlarged along y and x, or one over how many times they are made smaller.

    Cells become 32 to 64 pixels wide. On phase-contrast stills with cells of 56 pixels, trained for the same time, frames as they are
    gave a mean IoU of 0.878, frames of half the size 0.869.

    Args:
        areas: (N,) pixels of the largest section of each cell.
    """
    across = float(np.median(widths(areas)))
    if across > WIDE:
        return 1 / min(int(across / WIDE), LARGEST)
    return float(min(max(round(WIDE / across), 1), LARGEST))


def crop_size(areas: I64, shapes: Sequence[Sequence[int]], most: int) -> int:
    """Return the edge of a crop: four cells, no larger than the largest frame, 256 pixels or ``most``; a multiple of 16.

    Args:
        areas: (N,) of the cells, in enlarged pixels.
        shapes: (..., Y, X) of the enlarged frames.
        most: The setting ``input_size``.
    """
    wanted = max(
        CELLS_ACROSS * float(np.median(widths(areas))), 2 * float(np.percentile(widths(areas), 95)), LEAST_EDGE
    )
    room = max(max(shape[-2:]) for shape in shapes)
    edge = math.ceil(min(wanted, MOST_EDGE, room) / STRIDE) * STRIDE
    return max(min(edge, most), 2 * STRIDE)


def n_crops(pixels: int, crop: int) -> int:
    """Return how many crops a pass takes, for so many annotated pixels (of planes with cells, as enlarged)."""
    return max(round(min(max(SEEN * pixels, LEAST_PIXELS), MOST_PIXELS) / crop**2), 1)


def min_size(sizes: I64) -> int:
    """Return half of the 1 % percentile of the sizes of the cells, (N,) voxels."""
    return int(np.percentile(sizes, 1) / 2)


def ring_width(areas: I64) -> float:
    """Return how far around a cell is background if annotation is sparse: a quarter of a diameter."""
    return float(np.median(widths(areas))) / 4


def colour_area(share: float, *, complete: bool) -> float:
    """Return the share of a neighbour that is coloured: twice that of the outlined cells, where all are.

    Args:
        share: Of the annotated planes that outlined cells take.
        complete: Whether all cells are outlined; else the reference code's 0.03 at least.
    """
    least = 0.0 if complete else USUAL_AREA
    return min(max(ADVISED * share, least, 1e-4), MOST_AREA)
