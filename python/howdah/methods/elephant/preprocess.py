"""A frame as the networks see it: even slices, intensity 0..1, and voxels of the size that the network works in.

Paper: "Dataset preparation" (0..1 by minimum and maximum of a time point), "Detection and tracking in the CE datasets" (slice
medians shifted to the volume's median). Training and prediction both come through :func:`prepare`, so that they agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from howdah.errors import ConfigError

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Vector = tuple[float, float, float]
Size = tuple[int, int, int]

__all__ = [
    "Prepared",
    "Preparing",
    "level_slices",
    "local_contrast",
    "normalise",
    "prepare",
    "resample",
    "scaled",
    "working_grid",
]

FLAT, LIMIT = 0.01, 8.0
SMOOTH, MEAN, SPREAD = 0.4, 1.5, 1.0  # of normalisation "local", see local_contrast
SHOWN = 3.0  # usual differences on either side that 0..1 stands for
TRUNCATE = 3.0  # sigmas


class Preparing(Protocol):
    """The settings that say how a frame is prepared; every network's settings have them."""

    @property
    def normalisation(self) -> str | None: ...  # noqa: D102
    @property
    def percentiles(self) -> tuple[float, float]: ...  # noqa: D102
    @property
    def slice_median(self) -> bool: ...  # noqa: D102
    @property
    def rescale(self) -> Vector | None: ...  # noqa: D102


@runtime_checkable
class Sized(Protocol):
    """Settings that know how large nuclei are; normalisation ``"local"`` needs them."""

    @property
    def nucleus_size(self) -> Vector | None: ...


class Prepared(NamedTuple):
    """A frame ready for a network.

    Attributes:
        image: (Z, Y, X) float32, intensity 0..1, on the working grid.
        affine: 4x4 float64, voxels of the working grid to world.
    """

    image: F32
    affine: F64


def prepare(frame: npt.NDArray[Any], affine: F64, config: Preparing) -> Prepared:
    """Bring a frame to what the networks work on.

    Args:
        frame: (Z, Y, X), any real type, finite.
        affine: 4x4, voxels of the frame to world.
        config: ``slice_median``, ``normalisation``, ``percentiles``, ``rescale``.
    """
    level = level_slices(frame) if config.slice_median else frame
    how = config.normalisation or "minmax"
    image = normalise(level, "minmax" if how == "local" else how, percentiles=config.percentiles)
    prepared = resample(image, affine, config.rescale or (1.0, 1.0, 1.0))
    if how != "local":
        return prepared
    contrast = local_contrast(
        prepared.image, local_reach(config, prepared.affine), smooth=SMOOTH, mean=MEAN, spread=SPREAD
    )
    return Prepared(shown(contrast), prepared.affine)


def local_reach(config: Preparing, affine: F64) -> F64:
    """Return the usual half-extents (z, y, x) of nuclei in voxels of the working grid, for normalisation ``"local"``.

    Raises:
        ConfigError: The settings do not say how large nuclei are.
    """
    size = config.nucleus_size if isinstance(config, Sized) else None
    if size is None:
        raise ConfigError(
            "Normalisation 'local' compares a voxel with what is around it, and needs to know how large nuclei are: set "
            "nucleus_size, the half-extents (z, y, x) in world units. Training takes them from the marks."
        )
    reach: F64 = np.asarray(size) / np.linalg.norm(affine[:3, :3], axis=0)
    return reach


def shown(contrast: F32) -> F32:
    """Bring local contrast to 0..1; float32."""
    image: F32 = np.clip(contrast / (2 * SHOWN) + np.float32(0.5), 0, 1)
    return image


def level_slices(frame: npt.NDArray[Any]) -> F32:
    """Shift each slice of a (Z, Y, X) frame so that its median is that of the whole frame; float32."""
    even = frame.astype(np.float32)
    even -= np.median(even, axis=(1, 2), keepdims=True) - np.median(even)
    return even


def normalise(frame: npt.NDArray[Any], how: str = "minmax", *, percentiles: tuple[float, float] = (0.1, 99.9)) -> F32:
    """Bring a frame to 0..1 by its minimum and maximum, or by percentiles (clipped); float32. A flat frame becomes 0."""
    if how == "minmax":
        low, high = float(frame.min()), float(frame.max())
    else:
        low, high = (float(value) for value in np.percentile(frame, percentiles))
    return scaled(frame, low, high, clip=how != "minmax")


def scaled(frame: npt.NDArray[Any], low: float, high: float, *, clip: bool) -> F32:
    """Bring a frame, or a part of it, to 0..1 by two intensities; float32. Where they are one, it becomes 0."""
    even = frame.astype(np.float32)
    even -= np.float32(low)
    even *= np.float32(1 / (high - low) if high > low else 0)
    return np.clip(even, 0, 1, out=even) if clip else even


def local_contrast(image: F32, reach: F64, *, smooth: float, mean: float, spread: float) -> F32:
    """Compare each voxel with its surroundings: minus their mean, by their usual difference from it; float32, within -8 to 8.

    Faint nuclei in haze then look like bright ones. A hundredth of the image's range is added to the usual difference, so that
    flat regions become 0 and their noise does not grow.

    Args:
        image: (Z, Y, X).
        reach: (z, y, x) usual half-extents of nuclei in voxels; unit of the other three.
        smooth: Sigma of the Gaussian that takes the noise away.
        mean: Sigma of the Gaussian that says what the surroundings are.
        spread: Sigma of the Gaussian over which differences are averaged.
    """
    fine = ndimage.gaussian_filter(image, smooth * reach, truncate=TRUNCATE)
    low, high = np.percentile(fine, (0, 99.9))
    return contrast_of(fine, reach, least=least_difference(low, high), mean=mean, spread=spread)


def least_difference(low: Any, high: Any) -> np.float32:
    """Return what is added to the usual differences, from the range of the smoothed image."""
    return np.float32(FLAT * (high - low) or 1.0)


def contrast_of(fine: F32, reach: F64, *, least: np.float32, mean: float, spread: float) -> F32:
    """Return the contrast of an image that was smoothed, or of a part of it; arguments as for :func:`local_contrast`."""
    less = fine - ndimage.gaussian_filter(fine, mean * reach, truncate=TRUNCATE)
    variance = ndimage.gaussian_filter(less * less, spread * reach, truncate=TRUNCATE)
    scale = np.sqrt(np.maximum(variance, 0)) + least
    contrast: F32 = np.clip(less / scale, -LIMIT, LIMIT).astype(np.float32, copy=False)
    return contrast


def resample(image: F32, affine: F64, factors: Vector) -> Prepared:
    """Change the number of voxels along each axis, linearly; what would alias is smoothed away before.

    Args:
        image: (Z, Y, X).
        affine: 4x4, voxels to world.
        factors: (z, y, x), new voxels per old one; 1 leaves an axis as it is. An axis keeps at least one voxel.

    Returns:
        The image on the new grid, which covers the same volume, and the affine of that grid.
    """
    size, grid = working_grid(image.shape, affine, factors)
    if size == image.shape:
        return Prepared(image, grid)
    step, start = steps(image.shape, size)
    wide = np.maximum(step - 1, 0) / 2
    smooth = ndimage.gaussian_filter(image, wide, mode="nearest") if wide.any() else image
    resampled = ndimage.affine_transform(
        smooth, step, start, output_shape=size, output=np.float32, order=1, mode="nearest", prefilter=False
    )
    return Prepared(resampled, grid)


def working_grid(shape: Sequence[int], affine: F64, factors: Vector) -> tuple[Size, F64]:
    """Return the size (Z, Y, X) of the working grid and its affine, for a frame and new voxels per old one (z, y, x)."""
    z, y, x = (int(n) for n in np.maximum(np.rint(np.multiply(shape, factors)).astype(int), 1))
    world = np.asarray(affine, dtype=np.float64)
    if (z, y, x) == tuple(shape):
        return (z, y, x), world
    step, start = steps(shape, (z, y, x))
    grid = np.eye(4)
    grid[:3, :3], grid[:3, 3] = np.diag(step), start
    return (z, y, x), world @ grid


def steps(shape: Sequence[int], size: Size) -> tuple[F64, F64]:
    """Return old voxels per new one, exactly, and the old voxel (not a whole one) in which the first new one has its middle."""
    step = np.asarray(shape) / np.asarray(size)
    return step, (step - 1) / 2  # voxel edges coincide, not voxel centres
