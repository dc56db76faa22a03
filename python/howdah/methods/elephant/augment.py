"""Random crops of a frame and its labels (paper: random crop, scaling, rotation, flip, contrast).

Scaling and rotation are one resampling of the frame, so nothing is interpolated twice and no corner is empty where the
frame has voxels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from howdah.methods.elephant.targets import BACKGROUND, FALSE_OFFSET

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Labels = npt.NDArray[np.uint8]
Size = tuple[int, int, int]
Range = tuple[float, float]

__all__ = ["Augmentation", "random_crop", "scales"]


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a crop.

    Attributes:
        flip: Mirror along each axis with probability 1/2.
        scale: (z, y, x), each the least and the largest factor by which things grow.
        rotation_degrees: Largest turn in xy.
        contrast: Smallest factor of contrast; 1 = off.
    """

    flip: bool = True
    scale: tuple[Range, Range, Range] = ((1.0, 1.0), (1.0, 1.0), (1.0, 1.0))
    rotation_degrees: float = 0.0
    contrast: float = 1.0


def scales(setting: float | Range, voxel_size: F64) -> tuple[Range, Range, Range]:
    """Return the least and largest factor along z, y and x that a setting means.

    Coarse axes change by less, so that crops do not become thin.

    Args:
        setting: Up to 1 ± this, or the least and largest factor, along the finest axis.
        voxel_size: (3,) edges of a voxel, world units.
    """
    low, high = setting if isinstance(setting, tuple) else (1 - setting, 1 + setting)
    z, y, x = voxel_size.min() / voxel_size
    return _part(low, high, z), _part(low, high, y), _part(low, high, x)


def _part(low: float, high: float, share: float) -> tuple[float, float]:
    """Return the range of factors, brought nearer to 1."""
    return 1 + (low - 1) * share, 1 + (high - 1) * share


def random_crop(
    image: F32, labels: Labels, size: Size, *, around: F64 | None, how: Augmentation, rng: np.random.Generator
) -> tuple[F32, Labels]:
    """Cut a random crop.

    Args:
        image: (Z, Y, X) intensity 0..1.
        labels: (Z, Y, X) labels 0..6.
        size: Voxels (z, y, x) of the crop.
        around: (z, y, x) voxel that lies somewhere in the crop; None: anywhere.
        how: What may happen to it.
        rng: Where randomness comes from.

    Returns:
        (z, y, x) float32 image, edges of the frame repeated outside; (z, y, x) uint8 labels, 0 outside.
    """
    zoom = np.array([1 / rng.uniform(low, high) if low < high else 1 / low for low, high in how.scale])
    angle = np.deg2rad(rng.uniform(-how.rotation_degrees, how.rotation_degrees)) if how.rotation_degrees else 0.0
    turn = np.eye(3)
    turn[1:, 1:] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix = turn @ np.diag(zoom)  # crop voxels -> frame voxels
    extent = np.asarray(size) - 1.0
    if around is None:
        middle = _between(extent / 2, np.asarray(image.shape) - 1 - extent / 2, rng)
    else:
        shift = (rng.uniform(size=3) - 0.5) * extent
        reach = np.abs(matrix) @ extent  # of the turned crop along the axes of the frame
        middle = _keep_inside(np.asarray(around) - matrix @ shift, np.asarray(image.shape), reach)
        middle = _keep_held(middle, np.asarray(around), matrix=matrix, extent=extent)
    start = middle - matrix @ (extent / 2)
    if angle or not np.all(zoom == 1):
        crop, marks = _resample(image, labels, size, matrix=matrix, start=start)
    else:
        crop, marks = _cut(image, labels, size, np.rint(start).astype(np.int64))
    if how.flip:
        mirrored = tuple(slice(None, None, -1 if flip else 1) for flip in rng.integers(0, 2, size=3))
        crop, marks = crop[mirrored], marks[mirrored]
    if how.contrast < 1:
        crop = _less_contrast(crop, marks, rng.uniform(how.contrast, 1))
    return np.ascontiguousarray(crop, dtype=np.float32), np.ascontiguousarray(marks)


def _between(low: F64, high: F64, rng: np.random.Generator) -> F64:
    spread = np.maximum(high - low, 0)
    drawn: F64 = np.where(high > low, low, (low + high) / 2) + rng.uniform(size=3) * spread
    return drawn


def _keep_inside(middle: F64, shape: npt.NDArray[np.int64], extent: F64) -> F64:
    """Move the middle of a crop so that little of it hangs over the edge; centre it where the frame is smaller."""
    low, high = extent / 2, shape - 1 - extent / 2
    moved: F64 = np.where(high >= low, np.clip(middle, low, np.maximum(low, high)), (shape - 1) / 2)
    return moved


def _keep_held(middle: F64, around: F64, *, matrix: F64, extent: F64) -> F64:
    """Move the middle of a crop back as far as needed for a place of the frame to lie in the crop.

    The outer half voxel is left out, so that rounding does not push the place over the edge.
    """
    within = np.maximum(extent / 2 - 0.5, 0)
    held: F64 = around - matrix @ np.clip(np.linalg.solve(matrix, around - middle), -within, within)
    return held


def _cut(image: F32, labels: Labels, size: Size, start: npt.NDArray[np.int64]) -> tuple[F32, Labels]:
    places = [np.arange(first, first + n) for first, n in zip(start, size, strict=True)]
    held = [np.clip(place, 0, n - 1) for place, n in zip(places, image.shape, strict=True)]
    box = tuple(slice(int(h[0]), int(h[-1]) + 1) for h in held)
    if all(np.array_equal(place, h) for place, h in zip(places, held, strict=True)):
        return image[box], labels[box]
    marks = labels[np.ix_(*held)]
    outside = [place != h for place, h in zip(places, held, strict=True)]
    for axis, gone in enumerate(outside):
        marks[(slice(None),) * axis + (gone,)] = 0
    return image[np.ix_(*held)], marks


def _resample(image: F32, labels: Labels, size: Size, *, matrix: F64, start: F64) -> tuple[F32, Labels]:
    corners = np.stack(np.meshgrid(*[[0, n - 1] for n in size], indexing="ij"), axis=-1).reshape(-1, 3)
    reached = corners @ matrix.T + start
    low = np.clip(np.floor(reached.min(axis=0)).astype(int), 0, np.asarray(image.shape) - 1)
    high = np.clip(np.ceil(reached.max(axis=0)).astype(int) + 1, low + 1, image.shape)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    crop = ndimage.affine_transform(
        image[box], matrix, start - low, output_shape=size, output=np.float32, order=1, mode="nearest", prefilter=False
    )
    marks = ndimage.affine_transform(
        labels[box], matrix, start - low, output_shape=size, order=0, mode="constant", cval=0, prefilter=False
    )
    return crop, marks


def _less_contrast(crop: F32, marks: Labels, factor: float) -> F32:
    """Pull intensities towards the background: that of voxels labelled so, else the darkest tenth of the crop."""
    dark = crop[(marks == BACKGROUND) | (marks == BACKGROUND + FALSE_OFFSET)]
    level = np.float32(dark.mean() if dark.size else np.percentile(crop, 10))
    return level + (crop - level) * np.float32(factor)
