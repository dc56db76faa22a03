"""Writing BigDataViewer XML/HDF5 movies, frame by frame, with a mipmap pyramid."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np
import numpy.typing as npt

from bdv_io._axes import reverse_axes
from bdv_io.bdv.hdf5_store import open_hdf5
from bdv_io.bdv.xml import FileRef, ImageLoader, SpimData, ViewSetup, ViewTransform
from bdv_io.bdv.xml_write import bdv_xml_bytes
from bdv_io.errors import FormatError, UnsupportedError
from bdv_io.image import Array, Factors, Shape, Vector
from bdv_io.pyramid import downsample, propose_levels
from bdv_io.safe_write import replacing

__all__ = ["write_bdv"]

Frame: TypeAlias = "Array | Sequence[Array | None] | None"

TYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64")


def write_bdv(
    path: str | os.PathLike[str],
    frames: Iterable[Frame],
    *,
    voxel_size: Vector = (1.0, 1.0, 1.0),
    unit: str = "pixel",
    channels: Sequence[str] | None = None,
    levels: Sequence[Factors] | None = None,
    chunks: Shape | None = None,
    compression: int | None = 4,
) -> None:
    """Write a movie as ``NAME.xml`` and ``NAME.h5``; what stood there before is kept as ``name~``.

    Frames are taken one at a time; memory stays below two frames. The HDF5 file is put in place first, the XML last, so
    that an XML never points to a half-written movie.

    Type of voxels: unsigned 16-bit is stored as the same bits signed and *without* the ``dataType`` attribute, the
    legacy layout. It is the only one that every BigDataViewer reads with values above 32767: old versions know no
    attribute and fail on unsigned storage. All other types are stored as they are, with the attribute; they need
    BigDataViewer 10.6 or later.

    Args:
        path: The XML to write; the HDF5 file gets the same name with ``.h5``.
        frames: For each time point a (Z, Y, X) array, or a (C, Z, Y, X) array or sequence of C arrays for several
            channels; None for a missing time point, or for one channel missing in it.
        voxel_size: Edge lengths (z, y, x) of a voxel in ``unit``; it becomes the registration of every view.
        unit: Unit of length, for example ``"µm"``.
        channels: Names of the channels; default ``channel 1`` and so on.
        levels: Whole downsampling factors (z, y, x) a level, the first (1, 1, 1); default :func:`propose_levels`.
        chunks: Chunk (z, y, x) of every level; default about 64 KiB, flat for anisotropic voxels.
        compression: Level 0 to 9 of gzip, None for uncompressed.

    Raises:
        FormatError: No frame, or a frame differs in shape, type or channels from the first, or an option is impossible.
        UnsupportedError: BigDataViewer knows no such type of voxels.
        WriteError: The disk is full, or the folder is missing or may not be written to; the old files are intact.
        BusyError: Another Howdah is writing the same movie.
    """
    target = Path(path)
    hdf5 = target.with_suffix(".h5")
    if target.suffix.lower() != ".xml":
        raise FormatError(
            f"Writing a BigDataViewer movie to {target} failed: name the XML file; the name must end in .xml."
        )
    _check_options(target, voxel_size, levels, chunks)
    with replacing(target) as xml:
        movie = _Movie(target, voxel_size, levels, chunks, compression)
        with replacing(hdf5, verify=movie.verify) as temporary:
            with h5py.File(temporary, "w", locking="best-effort") as file:
                for number, frame in enumerate(frames):
                    movie.write(file, number, frame)
                movie.finish()
            content = bdv_xml_bytes(movie.spim(hdf5.name, unit, channels))
        xml.write_bytes(content)


@dataclass
class _Movie:
    """What is known of the movie while its frames come in; the first array fixes shape and type."""

    target: Path
    voxel_size: Vector
    asked_levels: Sequence[Factors] | None
    chunks: Shape | None
    compression: int | None
    shape: Shape | None = None
    dtype: np.dtype[Any] | None = None
    n_channels: int | None = None
    n_frames: int = 0

    def __post_init__(self) -> None:
        self.levels: tuple[Factors, ...] = ()
        self.missing: set[tuple[int, int]] = set()

    def write(self, file: h5py.File, number: int, frame: Frame) -> None:
        """Write one time point."""
        self.n_frames = number + 1
        if frame is None:
            self.missing.add((number, -1))
            return
        rank = getattr(frame, "ndim", None)
        if rank not in (None, 3, 4):
            raise self._differs(number, f"an array with {rank} axes", "(Z, Y, X) or (C, Z, Y, X), with Z = 1 for 2D")
        views = [frame] if rank == 3 else list(frame)
        if self.n_channels is None:
            self.n_channels = len(views)
        if len(views) != self.n_channels:
            raise self._differs(number, f"{len(views)} channels", f"{self.n_channels}")
        for setup, view in enumerate(views):
            if view is None:
                self.missing.add((number, setup))
                continue
            array = np.asarray(view)
            self._check(file, number, array)
            for level, factors in enumerate(self.levels):
                pixels = array if level == 0 else downsample(array, factors)
                self._store(file, f"t{number:05d}/s{setup:02d}/{level}/cells", pixels)

    def _check(self, file: h5py.File, number: int, array: Array) -> None:
        if array.ndim != 3 or 0 in array.shape:
            raise self._differs(
                number, f"an array of shape {array.shape}", "(Z, Y, X) with Z = 1 for 2D, none of them 0"
            )
        z, y, x = array.shape
        if self.shape is None or self.dtype is None:
            self.shape, self.dtype = (z, y, x), array.dtype.newbyteorder("=")
            self._start(file)
        if (z, y, x) != self.shape or array.dtype.newbyteorder("=") != self.dtype:
            raise self._differs(
                number, f"{array.shape} voxels of type {array.dtype}", f"{self.shape} of type {self.dtype}"
            )

    def _start(self, file: h5py.File) -> None:
        """Choose levels and chunks, and write the groups of the setups, now that shape and type are known."""
        if self.shape is None or self.dtype is None or self.n_channels is None:
            return
        if self.dtype.name not in TYPES:
            raise UnsupportedError(
                f"Writing {self.target} failed: BigDataViewer has no voxels of type {self.dtype}. Convert the frames to one of "
                f"{', '.join(TYPES)}."
            )
        self.levels = tuple(self.asked_levels or propose_levels(self.shape, self.voxel_size))
        if self.chunks is None:
            flat = max(self.voxel_size) / min(self.voxel_size) > np.sqrt(8)  # where 64 x 64 x 8 is nearer to a cube
            self.chunks = (8, 64, 64) if flat or self.shape[0] < 16 else (32, 32, 32)
        for setup in range(self.n_channels):
            group = file.create_group(f"s{setup:02d}")
            group.create_dataset("resolutions", data=reverse_axes(self.levels))
            group.create_dataset("subdivisions", data=reverse_axes([self.chunks] * len(self.levels)).astype(np.int32))
            if self.dtype != np.uint16:
                group.attrs["dataType"] = np.bytes_(self.dtype.name)

    def _store(self, file: h5py.File, place: str, pixels: Array) -> None:
        if self.chunks is None:
            return
        pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
        bits = pixels.view(np.int16) if pixels.dtype == np.uint16 else pixels
        # BigDataViewer fetches whole chunks, so they may stand over the border, but never by a whole chunk.
        chunks = tuple(min(c, n) for c, n in zip(self.chunks, bits.shape, strict=True))
        packed = (
            {}
            if self.compression is None
            else {"compression": "gzip", "compression_opts": self.compression, "shuffle": True}
        )
        file.create_dataset(place, data=bits, chunks=chunks, track_times=False, **packed)

    def finish(self) -> None:
        """Check that there was something to write."""
        if self.shape is None:
            raise FormatError(
                f"Writing {self.target} failed: {self.n_frames} frames came, none with pixels. Give at least one."
            )

    def verify(self, hdf5: Path) -> None:
        """Read back that every view and level is in the file with its shape."""
        with open_hdf5(hdf5) as file:
            for number in range(self.n_frames):
                for setup in range(self.n_channels or 0):
                    if self._is_missing(number, setup):
                        continue
                    for level in range(len(self.levels)):
                        place = f"t{number:05d}/s{setup:02d}/{level}/cells"
                        if place not in file or (level == 0 and file[place].shape != self.shape):
                            raise FormatError(
                                f"Reading {place} back from {hdf5} failed. The disk may be faulty; write elsewhere."
                            )

    def _is_missing(self, number: int, setup: int) -> bool:
        return (number, setup) in self.missing or (number, -1) in self.missing

    def spim(self, hdf5: str, unit: str, channels: Sequence[str] | None) -> SpimData:
        """Describe what was written."""
        setups = range(self.n_channels or 0)
        names = [f"channel {setup + 1}" for setup in setups] if channels is None else list(channels)
        if len(names) != len(setups):
            raise FormatError(f"Writing {self.target} failed: {len(names)} channel names for {len(setups)} channels.")
        short = [str(setup + 1) for setup in setups] if channels is None else names
        place = (ViewTransform(np.diag([*self.voxel_size, 1.0]), "calibration"),)
        views = [(number, setup) for number in range(self.n_frames) for setup in setups]
        return SpimData(
            path=self.target,
            base_path=self.target.absolute().parent,
            loader=ImageLoader("bdv.hdf5", FileRef(hdf5)),
            setups=tuple(
                ViewSetup(
                    setup, names[setup], self.shape, self.voxel_size, unit, {"channel": (setup + 1, short[setup])}
                )
                for setup in setups
            ),
            timepoints=tuple(range(self.n_frames)),
            missing=frozenset(view for view in views if self._is_missing(*view)),
            registrations=dict.fromkeys(views, place),
        )

    def _differs(self, number: int, found: str, expected: str) -> FormatError:
        return FormatError(
            f"Writing frame {number} of {self.target} failed: it is {found}, expected {expected}. Nothing was written."
        )


def _check_options(target: Path, voxel_size: Vector, levels: Sequence[Factors] | None, chunks: Shape | None) -> None:
    start = f"Writing {target} failed:"
    if len(voxel_size) != 3 or not (np.isfinite(voxel_size).all() and min(voxel_size) > 0):
        raise FormatError(f"{start} the voxel size is {voxel_size}, expected three positive lengths (z, y, x).")
    if levels is not None and (
        not levels or tuple(levels[0]) != (1, 1, 1) or any(len(f) != 3 or min(f) < 1 for f in levels)
    ):
        raise FormatError(f"{start} the levels are {levels}, expected whole factors (z, y, x), the first (1, 1, 1).")
    if chunks is not None and (len(chunks) != 3 or min(chunks) < 1):
        raise FormatError(f"{start} the chunks are {chunks}, expected three sizes (z, y, x) of at least 1.")
