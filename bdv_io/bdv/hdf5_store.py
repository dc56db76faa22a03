"""The HDF5 file, or files, of a BigDataViewer dataset: groups, partitions, types of voxels, open handles.

Layout: ``sNN/resolutions`` (levels x 3, in x y z), ``sNN`` attribute ``dataType``, ``tNNNNN/sNN/LEVEL/cells`` (Z, Y, X).
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from bdv_io._axes import reverse_axes
from bdv_io.bdv.hdf5_chunks import read_chunks
from bdv_io.bdv.xml import SpimData
from bdv_io.errors import BdvIoError, BusyError, FormatError, MissingDataError, UnsupportedError
from bdv_io.image import Array, Region, Shape, Vector
from bdv_io.threads import check_size
from bdv_io.untrusted import refuse_special

__all__ = ["Hdf5Store", "OpenView", "meant_dtype", "open_hdf5"]

OPEN_DATASETS = 8
MAX_LEVELS = 1000
DECLARED = frozenset(f"{kind}{bits}" for kind in ("int", "uint", "float") for bits in (8, 16, 32, 64)) - {"float8"}
MAX_CACHE_BYTES = 32 << 20  # of each open dataset
_LIBRARY_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError)  # all that h5py raises on damaged files


def open_hdf5(path: Path) -> h5py.File:
    """Open an HDF5 file for reading.

    Raises:
        MissingDataError: There is no such file, or it may not be read.
        BusyError: Another program holds it open for writing.
        FormatError: It is not HDF5, or it is cut off.
    """
    refuse_special(path)
    try:
        return h5py.File(path, "r", locking="best-effort")
    except OSError as error:
        raise _error(path, error, "Opening it") from error


def _error(path: Path, error: Exception, action: str) -> BdvIoError:
    """Turn what the HDF5 library says into an error of our tree, with a sentence."""
    text, number = str(error), getattr(error, "errno", None)
    start = f"Reading HDF5 file {path} failed: {action} was not possible because"
    if "unable to lock file" in text or number in (errno.EAGAIN, errno.EDEADLK) or "already open for write" in text:
        return BusyError(f"{start} another program has it open for writing. Close it there, or wait until it is done.")
    if isinstance(error, FileNotFoundError) or number == errno.ENOENT or "No such file" in text:
        return MissingDataError(f"{start} there is no such file.")
    if isinstance(error, PermissionError) or number in (errno.EACCES, errno.EPERM) or "Permission denied" in text:
        return MissingDataError(f"{start} permission was denied. Ask its owner for the right to read it.")
    if "truncated file" in text:
        size = path.stat().st_size
        return FormatError(f"{start} it is cut off after {size} bytes. Copy it again from where it came.")
    if "signature not found" in text:
        return FormatError(
            f"{start} it is not HDF5. Choose the .h5 file that belongs to the XML, or restore it from a copy."
        )
    if "required filter" in text or "filter is not registered" in text:
        return UnsupportedError(
            f"{start} it is compressed in a way that is not installed ({text}). Try: pip install hdf5plugin"
        )
    return FormatError(f"{start} the HDF5 library said: {text}. It is damaged; copy it again from where it came.")


def meant_dtype(stored: np.dtype[Any], declared: str | None) -> np.dtype[Any]:
    """Return the type of voxels that a dataset means, in native byte order.

    Args:
        stored: The type in the file.
        declared: The ``dataType`` attribute of the setup, None where it is absent.

    Without the attribute a file is legacy, and stored signed 16-bit means unsigned 16-bit (the same bits). All else
    is taken as stored, also where BigDataViewer would fail (unsigned 16-bit above 32767, floats). With the attribute,
    integers of the declared width are reinterpreted, narrower numbers are widened; where the declared type could not
    hold every stored value, the stored type is kept, so that nothing is lost.
    """
    native = stored.newbyteorder("=")
    if declared is None:
        return np.dtype(np.uint16) if native == np.int16 else native
    if declared not in DECLARED:
        return native
    asked = np.dtype(declared)
    if asked.kind in "iu" and native.kind in "iu" and asked.itemsize == native.itemsize:
        return asked
    return asked if np.can_cast(native, asked, "safe") else native


@dataclass(frozen=True, eq=False, slots=True)
class OpenView:
    """An open dataset of one view at one level, with what would be slow to ask HDF5 for at every read.

    Attributes:
        dataset: The open dataset, its cache as large as a layer of chunks.
        shape: Voxels (Z, Y, X).
        stored: Type of voxels in the file, in native byte order.
        meant: Type of voxels that they mean (:func:`meant_dtype`).
        swapped: Whether the file has the other byte order.
    """

    dataset: h5py.Dataset
    shape: Shape
    stored: np.dtype[Any]
    meant: np.dtype[Any]
    swapped: bool

    def read(self, where: Region | tuple[()]) -> Array:
        """Return a part of the view, () for all of it, as what it means.

        Raises:
            FormatError: The pixels are damaged.
            UnsupportedError: They are compressed in a way that is not installed.
        """
        file, name = Path(self.dataset.file.filename), self.dataset.name
        wanted = [len(range(*part.indices(n))) for part, n in zip(where or (slice(None),) * 3, self.shape, strict=True)]
        check_size(wanted, self.meant.itemsize, f"Reading {name} of {file}")
        try:
            decoded = None if self.swapped else read_chunks(self.dataset, where)
            if decoded is None:
                decoded = self.dataset.astype(self.stored)[where] if self.swapped else self.dataset[where]
        except _LIBRARY_ERRORS as error:
            raise _error(file, error, f"decoding {name}") from error
        array: Array = decoded
        if self.meant.itemsize == self.stored.itemsize and self.meant.kind in "iu" and self.stored.kind in "iu":
            return array.view(self.meant)
        return array.astype(self.meant, copy=False)


class Hdf5Store:
    """Open handles on the HDF5 files of one dataset; opens on first use, again after :meth:`close` and after a fork.

    Args:
        master: The HDF5 file that the XML names.
        spim: The dataset; its partitions are used where the links of the master file lead nowhere.
    """

    format = "BigDataViewer XML/HDF5"
    interval: tuple[float, str] | None = None  # there is no place for it

    def __init__(self, master: Path, spim: SpimData) -> None:
        self.master = master
        self._spim = spim
        self._prefix = spim.loader.dataset.strip("/")
        self._lock = threading.RLock()
        self._files: dict[Path, h5py.File] = {}
        self._views: OrderedDict[tuple[int, int, int], OpenView] = OrderedDict()
        self._types: dict[int, str | None] = {}
        self._process = os.getpid()

    def __getstate__(self) -> tuple[Path, SpimData]:
        return self.master, self._spim

    def __setstate__(self, state: tuple[Path, SpimData]) -> None:
        Hdf5Store.__init__(self, *state)

    def open(self, path: Path | None = None) -> h5py.File:
        """Return the master file, or another one, opened once."""
        with self._lock:
            if self._process != os.getpid():  # a forked child must not share file positions with its parent
                self._views, self._files, self._process = OrderedDict(), {}, os.getpid()
            path = path or self.master
            file = self._files.get(path)
            if file is None:
                file = self._files[path] = open_hdf5(path)
            return file

    def close(self) -> None:
        """Let go of all handles."""
        with self._lock:
            self._views.clear()
            while self._files:
                self._files.popitem()[1].close()

    def levels(self, setup: int) -> tuple[Vector, ...]:
        """Return the downsampling factors (z, y, x) of each level; one level of factor 1 where the file names none.

        Raises:
            FormatError: They are not a table of positive numbers with three columns.
        """
        with self._sentences(f"finding the levels of setup {setup}"):
            table = self.open().get(self._path(f"s{setup:02d}/resolutions"))
            if not isinstance(table, h5py.Dataset):
                return ((1.0, 1.0, 1.0),)
            fits = table.ndim == 2 and table.shape[1] == 3 and len(table) <= MAX_LEVELS and table.dtype.kind in "iuf"
            factors = reverse_axes(table[()]) if fits else np.zeros(1)
        if not len(factors) or not (np.isfinite(factors) & (factors > 0)).all():
            raise FormatError(
                f"Reading HDF5 file {self.master} failed: {table.name} has shape {table.shape} and type {table.dtype}; expected "
                "one row of three positive numbers (x, y, z) a level."
            )
        return tuple((z, y, x) for z, y, x in factors.tolist())

    def declared_type(self, setup: int) -> str | None:
        """Return the ``dataType`` attribute of a setup, None where it is absent."""
        if setup not in self._types:
            with self._sentences(f"finding the type of setup {setup}"):
                group = self.open().get(self._path(f"s{setup:02d}"))
                value = None if group is None else group.attrs.get("dataType")
            text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
            self._types[setup] = None if value is None else text
        return self._types[setup]

    def missing_dtype(self, setup: int) -> np.dtype[Any]:
        """Return the type of voxels that a setup declares; unsigned 16-bit where it declares none."""
        return meant_dtype(np.dtype(np.int16), self.declared_type(setup))

    def has(self, timepoint: int, setup: int) -> bool:
        """Whether the files hold a view; true also where a partition file that should hold it is not there."""
        place = self._path(f"t{timepoint:05d}/s{setup:02d}/0/cells")
        with self._sentences(f"finding {place}"):
            file = self.open()
            return place in file or self._external(file, place) is not None or any(self._partitions(timepoint, setup))

    def view(self, timepoint: int, setup: int, level: int) -> OpenView:
        """Return the open (Z, Y, X) dataset of a view at a level.

        Raises:
            MissingDataError: It is not in the file, or a partition file that should hold it is not there.
            FormatError: It is not a stack of numbers.
        """
        key = (timepoint, setup, level)
        with self._lock:
            self.open()
            view = self._views.get(key)
            if view is not None:
                self._views.move_to_end(key)
                return view
            with self._sentences(f"opening time point {timepoint}, setup {setup}, level {level}"):
                dataset = self._open_dataset(timepoint, setup, level)
                if not isinstance(dataset, h5py.Dataset) or dataset.ndim != 3 or dataset.dtype.kind not in "iuf":
                    raise FormatError(
                        f"Reading HDF5 file {self.master} failed: t{timepoint:05d}/s{setup:02d}/{level}/cells is {dataset!r}, "
                        "expected a 3D array of numbers."
                    )
                stored, (z, y, x) = dataset.dtype, dataset.shape
                meant = meant_dtype(stored, self.declared_type(setup))
                view = OpenView(_with_cache(dataset), (z, y, x), stored.newbyteorder("="), meant, not stored.isnative)
            self._views[key] = view
            if len(self._views) > OPEN_DATASETS:
                self._views.popitem(last=False)
            return view

    @contextlib.contextmanager
    def _sentences(self, action: str) -> Iterator[None]:
        try:
            yield
        except BdvIoError:
            raise
        except _LIBRARY_ERRORS as error:
            raise _error(self.master, error, action) from error

    def _open_dataset(self, timepoint: int, setup: int, level: int) -> Any:
        place = self._path(f"t{timepoint:05d}/s{setup:02d}/{level}/cells")
        try:
            return self.open()[place]
        except _LIBRARY_ERRORS as error:
            return self._from_partition(timepoint, setup, level, error)

    def _from_partition(self, timepoint: int, setup: int, level: int, error: Exception) -> Any:
        """Find a view, that the master file does not lead to, in the partition files that the XML names."""
        place = self._path(f"t{timepoint:05d}/s{setup:02d}/{level}/cells")
        view = (
            f"Reading time point {timepoint}, setup {setup}, level {level} of {self._spim.path or self.master} failed: "
        )
        link = self._external(self.open(), place)
        for path, there in self._partitions(timepoint, setup):
            file = self.open(path)
            inside = f"t{there[0]:05d}/s{there[1]:02d}/{level}/cells"
            if inside in file:
                return file[inside]
            raise MissingDataError(
                f"{view}the partition file {path} has no {inside}. The dataset is incomplete."
            ) from error
        if link is not None:
            partition = self.master.parent / link
            if partition.exists():
                self.open(partition)  # says what is wrong with it
            raise MissingDataError(
                f"{view}the master file {self.master} refers to the partition file {link}, and {partition} "
                f"{'lacks the data' if partition.exists() else 'is not there'}. Copy it there from where the dataset came."
            ) from error
        if place in self.open():
            raise FormatError(
                f"{view}{place} is damaged ({error}). Copy {self.master} again from where it came."
            ) from error
        raise MissingDataError(f"{view}there is no {place} in {self.master}.") from error

    def _partitions(self, timepoint: int, setup: int) -> Iterator[tuple[Path, tuple[int, int]]]:
        for partition in self._spim.loader.partitions:
            if timepoint in partition.timepoints and setup in partition.setups:
                yield self._spim.find(partition.file), (partition.timepoints[timepoint], partition.setups[setup])

    def _external(self, file: h5py.File, place: str) -> str | None:
        """Return the file that the first external link along a path leads to, None if there is none."""
        group: Any = file
        for name in place.split("/"):
            encoded = name.encode()
            if not isinstance(group, h5py.Group) or not group.id.links.exists(encoded):
                return None
            if group.id.links.get_info(encoded).type == h5py.h5l.TYPE_EXTERNAL:
                target: bytes = group.id.links.get_val(encoded)[0]
                return os.fsdecode(target)
            group = group.get(name)
        return None

    def _path(self, inside: str) -> str:
        return f"{self._prefix}/{inside}" if self._prefix else inside


def _with_cache(dataset: h5py.Dataset) -> h5py.Dataset:
    """Reopen a chunked dataset with a cache that holds one layer of chunks, so that slice by slice decodes each once."""
    if dataset.chunks is None:
        return dataset
    z = min(dataset.chunks[0], dataset.shape[0])
    layer = (
        z
        * np.prod([-(-n // c) * c for n, c in zip(dataset.shape[1:], dataset.chunks[1:], strict=True)])
        * dataset.dtype.itemsize
    )
    access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
    access.set_chunk_cache(12_421, int(min(max(layer, 1 << 20), MAX_CACHE_BYTES)), 1.0)
    # Only a dataset that knows that it cannot change keeps its fast reader; without, small reads take ten times as long.
    return h5py.Dataset(h5py.h5d.open(dataset.file.id, dataset.name.encode(), access), readonly=True)
