"""The pixels of a BigDataViewer HDF5 file as it is written: groups of setups, views with their pyramid, the proof that all is there."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from bdv_io._axes import reverse_axes
from bdv_io.bdv.hdf5_chunks import stored_checksum, write_chunked
from bdv_io.bdv.hdf5_store import open_hdf5
from bdv_io.errors import FormatError, UnsupportedError
from bdv_io.image import Array, Factors, Shape, Vector, WriteOptions
from bdv_io.pyramid import downsample, propose_levels

__all__ = ["TYPES", "SetupPlan", "ViewWriter", "check_options", "new_hdf5", "plan_setup"]

TYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64")


@dataclass(frozen=True)
class SetupPlan:
    """How the views of one setup are stored: shape (Z, Y, X) and type, levels, chunk (z, y, x)."""

    shape: Shape
    dtype: np.dtype[Any]
    levels: tuple[Factors, ...]
    chunks: Shape

    def shape_at(self, level: int) -> Shape:
        """Voxels (Z, Y, X) at a level; a rest that fills no block is left out, as in BigDataViewer."""
        z, y, x = (max(1, n // f) for n, f in zip(self.shape, self.levels[level], strict=True))
        return (z, y, x)


def plan_setup(
    target: Path, shape: Shape, dtype: np.dtype[Any], *, voxel_size: Vector, options: WriteOptions
) -> SetupPlan:
    """Choose levels and chunks.

    Raises:
        UnsupportedError: BigDataViewer has no voxels of this type.
    """
    dtype = dtype.newbyteorder("=")
    if dtype.name not in TYPES:
        raise UnsupportedError(
            f"Writing {target} failed: BigDataViewer has no voxels of type {dtype}. Convert the frames to one of "
            f"{', '.join(TYPES)}."
        )
    chunks = options.chunks
    if chunks is None:
        flat = max(voxel_size) / min(voxel_size) > np.sqrt(8)  # where 64 x 64 x 8 is nearer to a cube
        chunks = (8, 64, 64) if flat or shape[0] < 16 else (32, 32, 32)
    return SetupPlan(shape, dtype, tuple(options.levels or propose_levels(shape, voxel_size)), chunks)


@contextlib.contextmanager
def new_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open a new HDF5 file; what the library says of a full disk becomes an OSError with its number."""
    try:
        with h5py.File(path, "w", locking="best-effort") as file:
            yield file
    except (OSError, RuntimeError) as error:
        number = re.search(r"errno = (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


class ViewWriter:
    """Writes the groups and views of one file.

    Args:
        file: Open for writing.
        compression: Level of gzip, None for none.
    """

    def __init__(self, file: h5py.File, compression: int | None) -> None:
        self._file, self._compression = file, compression
        self._written: dict[str, tuple[Shape, int]] = {}

    def start(self, setup: int, plan: SetupPlan) -> None:
        """Write the group of a setup.

        Unsigned 16-bit gets no ``dataType`` attribute: without it, signed storage means unsigned for every BigDataViewer.
        """
        group = self._file.create_group(f"s{setup:02d}")
        group.create_dataset("resolutions", data=reverse_axes(plan.levels))
        group.create_dataset("subdivisions", data=reverse_axes([plan.chunks] * len(plan.levels)).astype(np.int32))
        if plan.dtype != np.uint16:
            group.attrs["dataType"] = np.bytes_(plan.dtype.name)

    def write(self, timepoint: int, setup: int, plan: SetupPlan, *, slabs: Iterable[tuple[int, Array]]) -> None:
        """Write one view with all its levels.

        Args:
            timepoint: Number of the time point in the file.
            setup: Number of the setup in the file.
            plan: How it is stored.
            slabs: (first plane, planes) in order; a slab begins at a multiple of :func:`slab_depth`.
        """
        place = f"t{timepoint:05d}/s{setup:02d}"
        coarse = [np.empty(plan.shape_at(level), plan.dtype) for level in range(1, len(plan.levels))]
        self._store(f"{place}/0/cells", plan.shape, plan, _while_shrinking(slabs, plan, coarse))
        for level, array in enumerate(coarse, start=1):
            self._store(f"{place}/{level}/cells", array.shape, plan, [(0, array)])

    def _store(self, place: str, shape: Shape, plan: SetupPlan, slabs: Iterable[tuple[int, Array]]) -> None:
        # BigDataViewer fetches whole chunks, so they may stand over the border, but never by a whole chunk.
        z, y, x = (min(c, n) for c, n in zip(plan.chunks, shape, strict=True))
        stored = np.dtype(np.int16) if plan.dtype == np.uint16 else plan.dtype
        packed: dict[str, Any] = {}
        if self._compression is not None:
            packed = {"compression": "gzip", "compression_opts": self._compression, "shuffle": True}
        dataset = self._file.create_dataset(place, shape, stored, chunks=(z, y, x), track_times=False, **packed)
        bits = ((first, planes.astype(plan.dtype, copy=False).view(stored)) for first, planes in slabs)
        self._written[place] = (shape, write_chunked(dataset, bits, compression=self._compression))

    def verify(self, path: Path) -> None:
        """Read back that every view and level is in the file, with its shape and the bytes that were written.

        Raises:
            FormatError: Something differs.
        """
        with open_hdf5(path) as file:
            for place, (shape, checksum) in self._written.items():
                if place not in file or file[place].shape != shape or stored_checksum(file[place]) != checksum:
                    raise FormatError(
                        f"Reading {place} back from {path} failed. The disk may be faulty; write elsewhere."
                    )


def slab_depth(plan: SetupPlan, bytes_aimed_at: int) -> int:
    """Return a number of planes that holds whole chunks and whole blocks of every level, near a size in bytes."""
    step = int(np.lcm.reduce([plan.chunks[0], *(factors[0] for factors in plan.levels)]))
    plane = plan.shape[1] * plan.shape[2] * plan.dtype.itemsize
    return step * max(1, bytes_aimed_at // (step * plane))


def _while_shrinking(
    slabs: Iterable[tuple[int, Array]], plan: SetupPlan, coarse: list[Array]
) -> Iterator[tuple[int, Array]]:
    """Pass slabs on, and put what they contribute to the coarser levels in its place."""
    for first, planes in slabs:
        yield first, planes  # its chunks are being compressed meanwhile
        for factors, out in zip(plan.levels[1:], coarse, strict=True):
            if plan.shape[0] < factors[0]:
                part, row = planes, 0
            else:
                part, row = planes[: len(planes) // factors[0] * factors[0]], first // factors[0]
            if len(part):
                small = downsample(part, factors)
                out[row : row + len(small)] = small


def check_options(target: Path, voxel_size: Vector, options: WriteOptions) -> None:
    """Refuse impossible options.

    Raises:
        FormatError: Says which.
    """
    start, levels, chunks = f"Writing {target} failed:", options.levels, options.chunks
    if len(voxel_size) != 3 or not (np.isfinite(voxel_size).all() and min(voxel_size) > 0):
        raise FormatError(f"{start} the voxel size is {voxel_size}, expected three positive lengths (z, y, x).")
    if levels is not None and (
        not levels or tuple(levels[0]) != (1, 1, 1) or any(len(f) != 3 or min(f) < 1 for f in levels)
    ):
        raise FormatError(f"{start} the levels are {levels}, expected whole factors (z, y, x), the first (1, 1, 1).")
    if chunks is not None and (len(chunks) != 3 or min(chunks) < 1):
        raise FormatError(f"{start} the chunks are {chunks}, expected three sizes (z, y, x) of at least 1.")
    if options.compression is not None and not 0 <= options.compression <= 9:
        raise FormatError(f"{start} the compression is {options.compression}, expected a level from 0 to 9, or none.")
