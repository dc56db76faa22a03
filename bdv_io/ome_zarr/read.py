"""Reading OME-Zarr movies, lazily: all channels, frames, levels, and what :mod:`bdv_io.ome_zarr.metadata` adds.

movie = open_ome_zarr("movie.ome.zarr", hints=Hints())
frame = movie.read(0, setup=1)            # (Z, Y, X), level 0 of the second channel
"""

from __future__ import annotations

import json
import logging
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bdv_io.errors import FormatError, MissingDataError, UnsupportedError
from bdv_io.image import F64, Array, Hints, Region, Setup, Shape, Vector
from bdv_io.ngff import image_attributes, length_in, short_unit
from bdv_io.ngff_image import NgffImage, ZarrFile, is_zip
from bdv_io.ome_zarr.metadata import Extras, displayed_unit, parse_extras, placement

__all__ = ["OmeZarr", "is_ome_zarr", "open_ome_zarr"]

METADATA = (".zattrs", "zarr.json")
MAX_METADATA_BYTES = 64 << 20
_KNOWN = ("multiscales", "bioformats2raw.layout", "plate", "well", "labels")
log = logging.getLogger(__name__)


def is_ome_zarr(path: str | os.PathLike[str]) -> bool:
    """Whether a folder or zip file has NGFF's entries in its zarr attributes."""
    target = Path(path)
    try:
        if target.is_dir():
            found = [_entries((target / name).read_bytes()) for name in METADATA if _is_small_file(target / name)]
        elif is_zip(target):
            with zipfile.ZipFile(target) as archive:
                names = [name for name in _roots(archive) if archive.getinfo(name).file_size <= MAX_METADATA_BYTES]
                found = [_entries(archive.read(name)) for name in names]
        else:
            return False
    except (OSError, ValueError, KeyError, RuntimeError, NotImplementedError, zipfile.BadZipFile):
        return False
    return any(name in entries for entries in found for name in _KNOWN)


def _is_small_file(path: Path) -> bool:
    return path.is_file() and path.stat().st_size <= MAX_METADATA_BYTES


def _roots(archive: zipfile.ZipFile) -> list[str]:
    """Return the names of the metadata files at the root of a zip, or in its only folder."""
    names = archive.namelist()
    here = [name for name in names if name in METADATA]
    return here or sorted(name for name in names if name.count("/") == 1 and name.split("/")[1] in METADATA)


def _entries(content: bytes) -> Mapping[str, Any]:
    found = json.loads(content)
    if isinstance(found, dict) and found.get("zarr_format") == 3:
        found = found.get("attributes")
    return image_attributes(found) if isinstance(found, dict) else {}


def open_ome_zarr(path: str | os.PathLike[str], *, hints: Hints | None = None) -> OmeZarr:
    """Open an OME-Zarr movie.

    Args:
        path: Its folder, or a zip file of it. Of a folder with several images in sub-folders "0", "1" ... (the layout of
            bioformats2raw) a single one is taken.
        hints: Interval, unit or voxel size where the file does not say; where it does, the hint wins with a word in the log.

    Raises:
        MissingDataError: There is no zarr.
        FormatError: The metadata is damaged or contradicts the arrays.
        UnsupportedError: It is a plate, holds several images, or has axes of another kind.
    """
    file = ZarrFile(Path(path))
    if is_zip(file.path):
        file = ZarrFile(file.path, _folder_in_zip(file.path))
    attributes = image_attributes(file.attributes())
    if "multiscales" not in attributes:
        file = ZarrFile(file.path, "/".join(part for part in (file.inside, _only_image(file, attributes)) if part))
    return OmeZarr(NgffImage(file), hints or Hints())


def _folder_in_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            roots = _roots(archive)
    except (OSError, zipfile.BadZipFile) as error:
        raise FormatError(
            f"Opening OME-Zarr {path} failed: it is no whole zip file ({error}). Copy it again."
        ) from error
    return roots[0].rpartition("/")[0] if roots else ""


def _only_image(file: ZarrFile, attributes: Mapping[str, Any]) -> str:
    """Return the sub-group of the one image, or say which there are."""
    start = f"Opening OME-Zarr {file} failed:"
    if "plate" in attributes or "well" in attributes:
        raise UnsupportedError(
            f"{start} it is a plate with many images. Give the folder of one field of view, for example {file.path / 'A' / '1' / '0'}."
        )
    if "labels" in attributes and isinstance(attributes["labels"], list):
        names = ", ".join(str(name)[:40] for name in attributes["labels"][:8])
        raise UnsupportedError(
            f"{start} it is the list of an image's labels ({names}). Give the folder of one of them."
        )
    series = attributes.get("series")
    names_found = [str(name) for name in series] if isinstance(series, list) else []
    if not names_found:
        names_found = [name for name in file.groups() if name.isdigit()]
    if len(names_found) == 1:
        return names_found[0]
    if not names_found:
        raise FormatError(f"{start} its metadata names no image ('multiscales'). It is zarr of another kind.")
    listed = ", ".join(str(file.path / name) for name in names_found[:8])
    raise UnsupportedError(f"{start} it holds {len(names_found)} images. Give the folder of one: {listed}.")


class OmeZarr:
    """An OME-Zarr movie; implements :class:`bdv_io.image.ImageSeries`. Open one with :func:`open_ome_zarr`.

    It may be read from several threads, pickled, and used after a fork. Channels are its setups.

    Args:
        image: The arrays and their metadata.
        hints: See :func:`open_ome_zarr`.
    """

    format = "OME-Zarr"

    def __init__(self, image: NgffImage, hints: Hints) -> None:
        self.path: Path | None = image.file.path
        self._image = image
        self._extras = self._own_extras(image)
        meta, self.n_frames = image.metadata, image.n_frames
        stretch = self._stretch(hints)
        self._mipmaps = tuple(self._mipmap(level, stretch) for level in range(len(meta.levels)))
        self.timepoints = tuple(range(self.n_frames)) if self._extras is None else self._extras.timepoints
        self.interval = self._interval(hints)
        self.setups: tuple[Setup, ...] = tuple(self._setup(index, hints) for index in range(image.n_channels))

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the label images that the file keeps in its sub-group ``labels``; each opens as an image of its own."""
        file = self._image.file
        return tuple(ZarrFile(file.path, f"{file.inside}/labels").groups()) if "labels" in file.groups() else ()

    def is_missing(self, frame: int, setup: int = 0) -> bool:
        """Whether Howdah noted this view as missing when it wrote the file; of other programs' files none is."""
        self._check(frame, setup)
        return self._extras is not None and (frame, setup) in self._extras.missing

    def shape(self, frame: int, setup: int = 0, level: int = 0) -> Shape:
        """Voxels (Z, Y, X) of a view at a level."""
        self._check(frame, setup, level)
        return self._image.shape(level)

    def affine(self, frame: int, setup: int = 0, level: int = 0) -> F64:
        """4x4 matrix that takes voxel indices (z, y, x, 1) of a level to world coordinates (z, y, x, 1)."""
        self._check(frame, setup, level)
        if self._extras is None or not self._extras.affines:
            return self._mipmaps[level].copy()
        own = self._extras.affines[self._extras.registrations[frame][setup]]
        return own if level == 0 else own @ np.linalg.inv(self._mipmaps[0]) @ self._mipmaps[level]

    def read(self, frame: int, setup: int = 0, level: int = 0, *, region: Region | None = None) -> Array:
        """Read a view, or a region (three slices z, y, x) of it, as a (Z, Y, X) array in native byte order.

        Raises:
            MissingDataError: No such frame, setup or level, or the view is missing.
            FormatError: The pixels are damaged, or a slice of the region goes backwards.
            UnsupportedError: It is larger than the memory.
        """
        if self.is_missing(frame, setup):
            raise MissingDataError(
                f"Reading frame {frame}, setup {setup} of {self.path} failed: the file notes this view as missing. Ask "
                "is_missing() first, and leave it out."
            )
        self._check(frame, setup, level)
        return self._image.read(frame, setup, level, region)

    def close(self) -> None:
        """Let go of open files. Reading afterwards opens them again."""
        self._image.file.close()

    def _own_extras(self, image: NgffImage) -> Extras | None:
        found = image.attributes.get("howdah")
        if found is None:
            return None
        extras = parse_extras(found, image.n_frames, image.n_channels, str(image.file))
        meta = image.metadata
        scale = meta.spatial(meta.levels[0].scale, 1.0)
        if (scale, meta.spatial(meta.levels[0].translation, 0.0)) != (extras.scale, extras.translation):
            log.warning(
                "%s: another program has changed the voxel size from %s to %s; the registrations that Howdah stored are left out.",
                image.file, extras.scale, scale,
            )  # fmt: skip
            return extras.at_voxel_size(scale)
        return extras

    def _stretch(self, hints: Hints) -> Vector:
        """Return by what to multiply the file's lengths (z, y, x), so that the voxel size is the one that was given."""
        if hints.voxel_size is None:
            return (1.0, 1.0, 1.0)
        meta = self._image.metadata
        stored = meta.spatial(meta.levels[0].scale, 1.0)
        if stored != hints.voxel_size and (meta.unit or stored != (1.0, 1.0, 1.0)):
            log.warning(
                "%s says voxel size %s %s; %s was given and is taken.", self.path, stored, meta.unit, hints.voxel_size
            )
            self._extras = None if self._extras is None else self._extras.at_voxel_size(hints.voxel_size)
        z, y, x = (given / old for given, old in zip(hints.voxel_size, stored, strict=True))
        return (z, y, x)

    def _mipmap(self, level: int, stretch: Vector) -> F64:
        """Return the placement of a level's voxels (z, y, x, 1) as NGFF's entries say it."""
        meta = self._image.metadata
        entry = meta.levels[level]
        if entry.scale:
            model = placement(meta.spatial(entry.scale, 1.0), meta.spatial(entry.translation, 0.0))
        else:  # before version 0.4 nothing is said; the shapes tell the factors, and blocks have their centre in the middle
            fine, coarse = np.asarray(self._image.shape(0)), np.asarray(self._image.shape(level))
            factors = np.maximum(np.rint(fine / coarse), 1.0)
            model = placement((1.0, 1.0, 1.0), (0.0, 0.0, 0.0)) @ _block(factors)
        return np.diag([*stretch, 1.0]) @ model

    def _interval(self, hints: Hints) -> tuple[float, str] | None:
        stored = self._image.metadata.interval
        found = None if stored is None or (not stored[1] and stored[0] == 1.0) else (stored[0], short_unit(stored[1]))
        own = None if self._extras is None else self._extras.interval
        if own is not None and found is not None and own[0] == found[0]:
            found = own  # the same, with the unit as its source spelled it
        if hints.interval is not None:
            if found is not None and found != hints.interval:
                log.warning("%s says interval %s; %s was given and is taken.", self.path, found, hints.interval)
            return hints.interval
        if found is not None and not found[1]:
            log.warning(
                "%s says interval %g without a unit, so it is left out; give one with --interval.", self.path, found[0]
            )
            return None
        return found

    def _setup(self, index: int, hints: Hints) -> Setup:
        image, meta = self._image, self._image.metadata
        name = meta.channels[index] if index < len(meta.channels) else ""
        first = np.diag(self._mipmaps[0])[:3]
        z, y, x = first.tolist()
        levels = tuple(tuple((np.diag(model)[:3] / first).tolist()) for model in self._mipmaps)
        unit = displayed_unit(meta.unit)
        if hints.unit is not None:
            if meta.unit and length_in(meta.unit, hints.unit) != 1.0:
                log.warning("%s says unit %s; %s was given and is taken.", self.path, unit, hints.unit)
            unit = hints.unit
        setup = Setup(
            index, name, image.shape(0), (z, y, x), unit, image.dtype, levels,
            {"channel": (index, name)} if image.n_channels > 1 else {},
        )  # fmt: skip
        if self._extras is None:
            return setup
        own = self._extras.setups[index]
        return Setup(
            own.id, own.name, setup.shape, own.voxel_size,
            own.unit if hints.unit is None else unit, setup.dtype, levels, own.attributes,
        )  # fmt: skip

    def _check(self, frame: int, setup: int, level: int = 0) -> None:
        counts = (self.n_frames, self._image.n_channels, len(self._image.metadata.levels))
        if not all(0 <= number < count for number, count in zip((frame, setup, level), counts, strict=True)):
            raise MissingDataError(
                f"Frame {frame}, setup {setup}, level {level} of {self.path} was asked for; it has {counts[0]} frames, {counts[1]} "
                f"setups and {counts[2]} levels, all counted from 0."
            )


def _block(factors: F64) -> F64:
    """Return the placement of the centres of blocks of this many voxels."""
    model = np.diag([*factors, 1.0])
    model[:3, 3] = (factors - 1) / 2
    return model
