"""What of a movie a TIFF cannot hold, and whether it can be written at all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bdv_io.errors import BdvIoError, UnsupportedError
from bdv_io.image import F64, ImageSeries, Shape, Vector

__all__ = ["Plan", "lost_in_tiff", "plan"]

NEAR = 1e-6  # relative


@dataclass(frozen=True)
class Plan:
    """What all views of a movie have in common, as a TIFF needs it."""

    n_frames: int
    n_channels: int
    shape: Shape
    dtype: np.dtype[Any]
    voxel_size: Vector
    unit: str
    interval: tuple[float, str] | None
    names: tuple[str, ...]


def plan(path: Path, image: ImageSeries) -> Plan:
    """Return what all views have in common.

    Raises:
        UnsupportedError: There is no frame or no setup, or the setups differ in shape, type, voxel size or unit.
    """
    start = f"Writing {path} failed:"
    if not image.setups or not image.n_frames:
        raise UnsupportedError(f"{start} the movie has {image.n_frames} frames and {len(image.setups)} setups.")
    first = image.setups[0]
    for index, setup in enumerate(image.setups):
        mine, others = (
            [s.shape, s.dtype, s.unit, *np.round(_voxel_size(image, i), 9)] for i, s in ((index, setup), (0, first))
        )
        if mine != others:
            raise UnsupportedError(
                f"{start} setup {index} ('{setup.name}') has {setup.shape} voxels of {setup.dtype}, size {_voxel_size(image, index)} "
                f"{setup.unit}; setup 0 has {first.shape} of {first.dtype}, size {_voxel_size(image, 0)} {first.unit}. A TIFF holds "
                "channels of one kind. Write one file for each setup, or BigDataViewer's format."
            )
    size = _voxel_size(image, 0)
    names = tuple(setup.name for setup in image.setups)
    return Plan(image.n_frames, len(names), first.shape, first.dtype, size, first.unit, image.interval, names)


def lost_in_tiff(image: ImageSeries) -> tuple[str, ...]:
    """Return sentences about what of a movie a TIFF cannot hold; empty if it holds all.

    Smaller levels are not named, for they are made anew from the pixels.
    """
    unread: tuple[str, ...] = getattr(image, "unread", ())
    found = [*unread, *_lost_places(image), *_lost_views(image)]
    if len({(s.shape, s.dtype.str, s.unit) for s in image.setups}) > 1:
        found.append(
            "Setups differ in shape, type or unit; a TIFF holds channels of one kind, so it will not be written."
        )
    names = [s.name for s in image.setups]
    if len(set(names)) < len(names) and any(names):
        found.append("Several channels have the same name; a TIFF for ImageJ names none of them then (OME-TIFF does).")
    others = sorted({name for s in image.setups for name, (_, text) in s.attributes.items() if name != "channel"})
    for name in others:
        values = [s.attributes.get(name, (0, ""))[1] for s in image.setups]
        if len(set(values)) > 1:
            found.append(
                f"Setups differ in their {name} ({', '.join(dict.fromkeys(values))}); they become channels of one image."
            )
        elif any(values) and values[0] != "0":
            found.append(f"The {name} of the setups, '{values[0]}', is not kept.")
    if tuple(image.timepoints) != tuple(range(image.n_frames)):
        found.append(
            f"Time points are numbered from {image.timepoints[0]} to {image.timepoints[-1]}; in a TIFF they count from 0."
        )
    if tuple(s.id for s in image.setups) != tuple(range(len(image.setups))):
        found.append(
            f"The numbers of the setups, {', '.join(str(s.id) for s in image.setups)}, become 0 to {len(image.setups) - 1}."
        )
    return tuple(found)


def _lost_places(image: ImageSeries) -> list[str]:
    """Sentences about registrations that are more than a voxel size."""
    turned = moved = broken = 0
    sizes = set()
    for setup in range(len(image.setups)):
        for frame in range(image.n_frames):
            try:
                affine = image.affine(frame, setup)
            except BdvIoError:
                broken += 1
                continue
            scale = _scale(affine)
            turned += scale is None
            moved += bool(np.abs(affine[:3, 3]).max() > NEAR * np.abs(affine[:3, :3]).max())
            if scale is not None:
                sizes.add(tuple(np.round(scale, 9)))
    n_views, found = image.n_frames * len(image.setups), []
    if turned:
        found.append(
            f"The rotation or shear of {turned} of {n_views} views is lost; pixels are written as they were recorded."
        )
    if moved:
        found.append(f"The position in the world of {moved} of {n_views} views is lost; the first voxel will be at 0.")
    if broken:
        found.append(f"The registration of {broken} of {n_views} views is missing or damaged.")
    if len(sizes) > 1:
        found.append(f"Views have {len(sizes)} voxel sizes; that of the first is written for all.")
    return found


def _lost_views(image: ImageSeries) -> list[str]:
    missing = [(t, s) for t in range(image.n_frames) for s in range(len(image.setups)) if image.is_missing(t, s)]
    if not missing:
        return []
    return [
        f"{len(missing)} missing views, the first is frame {missing[0][0]}, setup {missing[0][1]}, are written as zeros."
    ]


def _scale(affine: F64) -> F64 | None:
    """Return the voxel size (z, y, x) of a registration that neither turns nor shears, else None."""
    linear = affine[:3, :3]
    diagonal = np.diag(linear)
    if np.abs(linear - np.diag(diagonal)).max() > NEAR * np.abs(linear).max() or (diagonal <= 0).any():
        return None
    return np.array(diagonal)


def _voxel_size(image: ImageSeries, setup: int) -> Vector:
    """Voxel size by the registration of the first frame, where that is only a scaling; else the nominal one."""
    try:
        scale = _scale(image.affine(0, setup))
    except BdvIoError:
        scale = None
    if scale is None:
        return image.setups[setup].voxel_size
    z, y, x = scale.tolist()
    return (z, y, x)
