"""One OME-Zarr image on disk: its metadata and lazy, thread-safe access to its arrays, in a folder or a zip file.

What the numbers mean in the world is up to the formats that use it: :mod:`bdv_io.ome_zarr` and BigDataViewer's XML.
"""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr
import zarr.errors
from zarr.storage import LocalStore, ZipStore

from bdv_io._blocks import BlockCache, gather
from bdv_io._region import bounded, check_memory
from bdv_io.errors import BdvIoError, FormatError, MissingDataError, UnsupportedError
from bdv_io.image import Array, Region, Shape
from bdv_io.ngff import MAX_CHANNELS, NgffMetadata, parse_image
from bdv_io.untrusted import MOST_TEXT, refuse_special
from bdv_io.zarr_chunks import ChunkReader, chunk_reader

__all__ = ["NgffImage", "ZarrFile", "is_zip"]

MAX_CHUNK_BYTES = 2 << 30  # what compressors and other programs can take
METADATA_FILES = (".zattrs", ".zarray", ".zgroup", ".zmetadata", "zarr.json")
MAX_FRAMES = 10_000_000
_KINDS = "iufb"
# All that zarr, its codecs and the file system raise on damaged files, as found by damaging files at random.
_LIBRARY_ERRORS = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    RuntimeError,
    NotImplementedError,
    AttributeError,
    IndexError,
    AssertionError,
    ArithmeticError,
    MemoryError,
    zlib.error,
    zipfile.BadZipFile,
    zarr.errors.BaseZarrError,
)


def is_zip(path: Path) -> bool:
    """Whether a path is a zip file."""
    return path.is_file() and zipfile.is_zipfile(path)


class ZarrFile:
    """A zarr hierarchy in a folder or a zip file: opens on first use, again after :meth:`close`, a fork and pickling.

    Args:
        path: The folder, or the zip file.
        inside: Group below its root, for example ``"0"``.
    """

    def __init__(self, path: Path, inside: str = "") -> None:
        self.path = path
        self.inside = inside.strip("/")
        self._lock = threading.RLock()
        self._store: Any = None
        self._zip: zipfile.ZipFile | None = None
        self._nodes: dict[str, Any] = {}
        self._readers: dict[str, ChunkReader | None] = {}
        self._cache = BlockCache()
        self._process = os.getpid()

    def __getstate__(self) -> tuple[Path, str]:
        return self.path, self.inside

    def __setstate__(self, state: tuple[Path, str]) -> None:
        ZarrFile.__init__(self, *state)

    def __str__(self) -> str:
        return f"{self.path}/{self.inside}" if self.inside else str(self.path)

    def attributes(self) -> Mapping[str, Any]:
        """Return the attributes of the group.

        Raises:
            MissingDataError: There is no zarr group there.
            FormatError: Its metadata is damaged.
        """
        node = self._node("")
        if not isinstance(node, zarr.Group):
            raise FormatError(f"Reading zarr {self} failed: it is a single array; name the group above it.")
        return dict(node.attrs)

    def groups(self) -> list[str]:
        """Return the names of the groups and arrays below, sorted."""
        with self._sentences("listing it"):
            node = self._node("")
            with warnings.catch_warnings(action="ignore", category=UserWarning):  # of files that are not zarr's
                return sorted(node.keys()) if isinstance(node, zarr.Group) else []

    def array(self, path: str) -> zarr.Array[Any]:
        """Return an open array of numbers below the group.

        Raises:
            MissingDataError: It is not there.
            FormatError: Its metadata is damaged, or its chunks are absurd.
            UnsupportedError: It holds something else than numbers, or is compressed in a way that is not installed.
        """
        array = self._nodes.get(path) if self._process == os.getpid() else None
        if array is None:
            array = self._node(path)
            if not isinstance(array, zarr.Array):
                raise FormatError(f"Reading zarr {self} failed: its level '{path}' is a group, expected an array.")
            dtype = np.dtype(array.dtype)
            if dtype.kind not in _KINDS:
                raise UnsupportedError(
                    f"Reading zarr {self} failed: its array '{path}' holds {dtype}, expected whole or real numbers."
                )
            size = dtype.itemsize
            for n in array.chunks:
                size *= n
            if size > MAX_CHUNK_BYTES:
                raise FormatError(
                    f"Reading zarr {self} failed: the array '{path}' declares chunks of {'x'.join(map(str, array.chunks))} {dtype}, "
                    f"{size / 2**30:,.1f} GiB each; at most 2 GiB can be read. The metadata is damaged, or it must be rechunked."
                )
        return array

    def read(self, path: str, where: Sequence[slice]) -> Array:
        """Read a region of an array, of the same rank, in native byte order; truth values become 0 and 1.

        Raises:
            FormatError: The pixels are damaged.
        """
        array = self.array(path)
        dtype = np.dtype(array.dtype).newbyteorder("=")
        with self._sentences(f"decoding its array '{path}'"):
            reader = self._readers.get(path)
            if reader is None:
                found = np.asarray(array[tuple(where)]).astype(dtype, copy=False)
            else:
                found = np.empty([max(0, part.stop - part.start) for part in where], dtype=dtype)
                fill = array.fill_value
                gather(
                    where,
                    reader.chunks,
                    found,
                    reader.load,
                    fill=0 if fill is None else fill,
                    cache=self._cache,
                    name=path,
                )
                if any(part.step not in (None, 1) for part in where):
                    found = np.ascontiguousarray(found[tuple(slice(None, None, part.step) for part in where)])
        return found.view(np.uint8) if dtype.kind == "b" else found

    def close(self) -> None:
        """Let go of open files."""
        with self._lock:
            self._nodes.clear()
            self._readers.clear()
            self._cache.clear()
            if isinstance(self._store, ZipStore):
                self._store.close()
            if self._zip is not None:
                self._zip.close()
            self._store = self._zip = None

    def _node(self, path: str) -> Any:
        with self._lock:
            if self._process != os.getpid():  # a forked child must not share a zip's file position with its parent
                self._store, self._zip, self._nodes, self._readers = None, None, {}, {}
                self._process = os.getpid()
            if path not in self._nodes:
                with self._sentences(f"opening '{path}' in it" if path else "opening it"):
                    if self._store is None:
                        self._store = self._open_store()
                    place = "/".join(part for part in (self.inside, path) if part)
                    for name in METADATA_FILES:
                        refuse_special(self.path / place / name, MOST_TEXT)
                    node = zarr.open(self._store, mode="r", path=place)
                    if isinstance(node, zarr.Array):
                        fetch = partial(self._fetch, f"{place}/" if place else "")
                        self._readers[path] = chunk_reader(node, fetch, f"{self}/{path}")
                    self._nodes[path] = node
            return self._nodes[path]

    def _fetch(self, place: str, key: str) -> bytes | None:
        """Return the content of a file below an array, None if there is no such file."""
        if self._zip is None:
            refuse_special(self.path / place / key, 2 * MAX_CHUNK_BYTES)
            try:
                return (self.path / place / key).read_bytes()
            except FileNotFoundError:
                return None
        try:
            entry = self._zip.getinfo(place + key)
        except KeyError:
            return None
        if entry.file_size > MAX_CHUNK_BYTES:
            raise FormatError(
                f"Reading chunk {key} of {self} failed: it claims {entry.file_size:,} bytes. It is damaged."
            )
        return self._zip.read(entry)

    def _open_store(self) -> Any:
        if is_zip(self.path):
            self._zip = zipfile.ZipFile(self.path)
            return ZipStore(self.path, mode="r")
        if not self.path.is_dir():
            raise MissingDataError(f"Reading zarr {self.path} failed: there is no such folder or zip file.")
        return LocalStore(self.path, read_only=True)

    @contextlib.contextmanager
    def _sentences(self, action: str) -> Iterator[None]:
        """Turn what zarr and its codecs say into an error of our tree, with a sentence."""
        try:
            yield
        except BdvIoError:
            raise
        except _LIBRARY_ERRORS as error:
            text = str(error) or type(error).__name__
            start = f"Reading zarr {self} failed: {action} was not possible because"
            if isinstance(error, FileNotFoundError):
                raise MissingDataError(f"{start} there is no such zarr group or array.") from error
            if isinstance(error, PermissionError):
                raise MissingDataError(
                    f"{start} permission was denied. Ask its owner for the right to read it."
                ) from error
            if "codec" in text.lower() and ("not available" in text or "nknown" in text or "not found" in text):
                raise UnsupportedError(f"{start} it is compressed in a way that is not installed ({text}).") from error
            raise FormatError(
                f"{start} the zarr library said: {text[:300]}. It is damaged; copy it again from where it came."
            ) from error


class NgffImage:
    """The one multiscale image of a zarr group. Arrays may have their axes in any order.

    Args:
        file: Where the group is.
    """

    def __init__(self, file: ZarrFile) -> None:
        self.file = file
        self.attributes = file.attributes()
        self.metadata: NgffMetadata = parse_image(self.attributes, str(file))
        first = file.array(self.metadata.levels[0].path)
        self.dtype: np.dtype[Any] = np.dtype(np.uint8) if first.dtype.kind == "b" else first.dtype.newbyteorder("=")
        self._shapes: dict[int, tuple[int, ...]] = {}
        sizes = dict(zip(self.metadata.letters, self.stored_shape(0), strict=True))
        self.n_frames, self.n_channels = sizes.get("t", 1), sizes.get("c", 1)
        if self.n_frames > MAX_FRAMES or self.n_channels > MAX_CHANNELS:
            raise FormatError(
                f"Reading OME-Zarr {file} failed: it declares {self.n_frames:,} frames of {self.n_channels:,} channels, more than "
                f"{MAX_FRAMES:,} of {MAX_CHANNELS:,}. The metadata is damaged, or its axes are named wrongly."
            )

    def stored_shape(self, level: int) -> tuple[int, ...]:
        """Shape of a level's array, in the order of the file's axes.

        Raises:
            FormatError: It has not the axes that the metadata names, an axis is empty, or it has other channels, frames
                or another type than level 0.
        """
        if level not in self._shapes:
            letters, path = self.metadata.letters, self.metadata.levels[level].path
            array = self.file.array(path)
            shape = tuple(int(n) for n in array.shape)
            first = self._shapes.get(0, shape)
            same = len(shape) == len(letters) and all(
                a == b for a, b, letter in zip(shape, first, letters, strict=True) if letter in "tc"
            )
            if (
                not same
                or 0 in shape
                or np.dtype(array.dtype) != np.dtype(self.file.array(self.metadata.levels[0].path).dtype)
            ):
                raise FormatError(
                    f"Reading OME-Zarr {self.file} failed: its array '{path}' has shape {shape} and type {array.dtype}, which does "
                    f"not fit the axes {', '.join(letters)} and level 0. The metadata is damaged; restore it from a copy."
                )
            self._shapes[level] = shape
        return self._shapes[level]

    def shape(self, level: int) -> Shape:
        """Voxels (Z, Y, X) of a frame at a level."""
        z, y, x = (int(n) for n in self.metadata.spatial(self.stored_shape(level), 1))
        return (z, y, x)

    def read(self, frame: int, channel: int, level: int, region: Region | None) -> Array:
        """Read a frame of a channel at a level, or a region of it, as a (Z, Y, X) array; only the chunks it touches.

        Raises:
            FormatError: The pixels are damaged, or a slice of the region goes backwards.
            UnsupportedError: It is larger than the memory.
        """
        letters, shape = self.metadata.letters, self.shape(level)
        z, y, x = (slice(0, n, 1) for n in shape) if region is None else bounded(region, shape)
        extent = [len(range(part.start, part.stop, part.step)) for part in (z, y, x)]
        span = [part.stop - part.start for part in (z, y, x)]  # steps are taken after reading
        check_memory(span, self.dtype, f"frame {frame} of {self.file}")
        wanted = {"t": slice(frame, frame + 1, 1), "c": slice(channel, channel + 1, 1), "z": z, "y": y, "x": x}
        found = self.file.read(self.metadata.levels[level].path, [wanted[letter] for letter in letters])
        order = sorted(range(len(letters)), key=lambda axis: "tczyx".index(letters[axis]))
        planes = np.ascontiguousarray(found.transpose(order)).reshape(-1, *extent[1:])
        return planes[: extent[0]]  # none where an image without z is asked for none
