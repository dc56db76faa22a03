"""What a setting of ``None`` becomes: rules that look at the marks, the voxel size and the image, and nothing else.

What does not depend on a frame is written into the weights' header, so that prediction works without the marks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from howdah.ellipsoids import radii_and_axes, runs_of, voxel_distance

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Size = tuple[int, int, int]

__all__ = [
    "background_level",
    "contrast",
    "crop_size",
    "keep_axials",
    "multiples",
    "nucleus_size",
    "spot_limits",
    "uneven",
    "voxel_size",
    "working_scale",
]

LEVELS = 4  # poolings of the network
CROP_VOXELS = 16 * 64 * 64  # a training step on two CPU cores then takes well under a second
BACKGROUND_SHARE = 0.25
REACH = 2.5  # voxels
UNEVEN = 0.5
LEAST = 48  # voxels


def voxel_size(affine: F64) -> F64:
    """Return the edge lengths (z, y, x) of a voxel in world units."""
    size: F64 = np.linalg.norm(np.asarray(affine, dtype=np.float64)[:3, :3], axis=0)
    return size


def keep_axials(affine: F64, shape: Sequence[int], *, n_keep: int | None = None) -> tuple[bool, ...]:
    """Tell at which levels pooling leaves z alone.

    Automatic: as often as halving x and y brings voxels nearest to isotropic (power of two nearest to the ratio of z to
    x, the larger on a tie); always for an image of one slice.

    Args:
        affine: 4x4, voxels to world.
        shape: Voxels (Z, Y, X).
        n_keep: Number of levels if not automatic.
    """
    if n_keep is None:
        size = voxel_size(affine)
        ratio = max(float(size[0] / size[2]), 1.0)
        low = math.floor(math.log2(ratio))
        n_keep = low if ratio - 2**low < 2 ** (low + 1) - ratio else low + 1
    if shape[0] == 1:
        n_keep = LEVELS
    return tuple(level < n_keep for level in range(LEVELS))


def multiples(flags: Sequence[bool]) -> Size:
    """Return what the sizes (z, y, x) of a crop must be multiples of for these pooling flags."""
    return 2 ** sum(not flag for flag in flags), 2 ** len(flags), 2 ** len(flags)


def crop_size(covariance: F64, shape: Sequence[int], multiple: Size) -> Size:
    """Choose the size of training crops: about four nuclei along each axis, within a frame and a CPU's patience.

    Args:
        covariance: (N, 3, 3) of the marked nuclei, squared voxels.
        shape: Voxels (Z, Y, X) of the smallest frame.
        multiple: Sizes are multiples of this.
    """
    reach = np.median(np.sqrt(np.einsum("nii->ni", covariance)), axis=0)
    wanted = np.maximum(8 * reach, 2 * np.asarray(multiple))
    over = float(np.prod(np.minimum(wanted, shape))) / CROP_VOXELS
    if over > 1:
        wanted = np.maximum(wanted / over ** (1 / 3), np.maximum(4 * reach, multiple))
    sizes = [max(m, min(round(w / m) * m, -(-n // m) * m)) for w, m, n in zip(wanted, multiple, shape, strict=True)]
    return sizes[0], sizes[1], sizes[2]


def spot_limits(covariance: F64) -> dict[str, float]:
    """Choose r_min, r_max and the suppression distance from marked nuclei, (N, 3, 3) squared world units.

    r_min is half the smallest usual half-axis (5th percentile), r_max twice the largest (95th), r_usual the median radius of the
    spheres of the same volume. Two spots nearer than
    the median of the nuclei's shortest half-axis would lie inside one another.
    """
    axes, _ = radii_and_axes(covariance)
    return {
        "r_min": float(np.percentile(axes[:, 0], 5)) / 2,
        "r_max": float(np.percentile(axes[:, 2], 95)) * 2,
        "r_usual": float(np.median(np.prod(axes, axis=1) ** (1 / 3))),
        "suppression_distance": float(np.median(axes[:, 0])),
    }


def nucleus_size(covariance: F64) -> tuple[float, float, float]:
    """Return the median half-extents (z, y, x) of marked nuclei, (N, 3, 3) squared world units; world units."""
    z, y, x = np.sqrt(np.median(np.einsum("nii->ni", covariance), axis=0))
    return float(z), float(y), float(x)


def working_scale(size: Sequence[float], voxel: F64, shape: Sequence[int]) -> tuple[float, float, float]:
    """Choose working voxels per voxel of the movie, (z, y, x): half-extents of nuclei shall not be many voxels.

    Coarser voxels show the network more of the surroundings, take the noise away and compute faster. It is never finer than
    the movie, y and x stay alike, and what is small already, of less than 48 voxels along y or x, stays as it is.
    """
    reach = np.asarray(size) / voxel
    z = min(1.0, REACH / reach[0])
    yx = min(1.0, max(REACH / min(reach[1:]), LEAST / min(shape[1:])))
    steps = [1.0 if factor > 0.75 else round(factor, 3) for factor in (z, yx, yx)]
    return steps[0], steps[1], steps[2]


def contrast(image: F32, centre: F64, covariance: F64) -> F64:
    """Return how much brighter than its surroundings each marked nucleus is, (N,); parameters as background_level."""
    middle = _over_voxels(image, centre, covariance, outer=0.5, inner=0.0, percent=50)
    around = _over_voxels(image, centre, covariance, outer=2.0, inner=1.3, percent=25)
    found: F64 = np.asarray(middle - around, dtype=np.float64)
    return found


def uneven(contrasts: F64) -> bool:
    """Tell whether the contrast of nuclei differs so much that faint ones need help: below half the median for a tenth."""
    known = contrasts[np.isfinite(contrasts)]
    return len(known) >= 5 and bool(np.percentile(known, 10) < UNEVEN * np.median(known))


def background_level(image: F32, centre: F64, covariance: F64) -> float:
    """Choose the intensity below which a voxel is background, from marked nuclei.

    For each nucleus: how bright is its middle (median inside half its size), and how dark is it around it (lower quartile of
    the shell between 1.3 and 2 times its size, which may hold neighbours). The level lies a quarter of the way
    from the surroundings to the nuclei, both taken over the marks so that dim nuclei stay above it (10th percentile of the
    middles, median of the surroundings).

    Args:
        image: (Z, Y, X) normalised intensity.
        centre: (N, 3) of the marked nuclei in voxels; at least one.
        covariance: (N, 3, 3) in squared voxels.

    Returns:
        A level 0..1; 0 (no background) where nuclei are not brighter than their surroundings.
    """
    middle = _over_voxels(image, centre, covariance, outer=0.5, inner=0.0, percent=50)
    around = _over_voxels(image, centre, covariance, outer=2.0, inner=1.3, percent=25)
    bright, dark = float(np.nanpercentile(middle, 10)), float(np.nanmedian(around))
    return max(dark + BACKGROUND_SHARE * (bright - dark), 0.0) if bright > dark else 0.0


def _over_voxels(
    image: F32, centre: F64, covariance: F64, *, outer: float, inner: float, percent: float
) -> npt.NDArray[Any]:
    shape = (image.shape[0], image.shape[1], image.shape[2])
    flat, row = runs_of(centre, covariance, shape, scale=outer).voxels()
    if inner:
        outside = voxel_distance(flat, row, shape, centre, covariance) > inner**2
        flat, row = flat[outside], row[outside]
    values = image.reshape(-1)[flat]
    found = np.full(len(centre), np.nan)
    for i in np.unique(row):  # marks, not detections: few
        found[i] = np.percentile(values[row == i], percent)
    return found
