"""Writing OME-Zarr 0.4 on zarr version 2, which Fiji, Mastodon, BigStitcher, napari and most others read today.

One array (T, C, Z, Y, X) a level; blosc with zstd and byte shuffling, the codec that OME-Zarr files commonly have and
that Fiji brings its library for; one file a chunk. Frames are taken one at a time; chunks are compressed by threads.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs import Blosc
from zarr.storage import LocalStore

from bdv_io.errors import FormatError, UnsupportedError, WriteError
from bdv_io.image import Array, Factors, ImageSeries, Shape, Vector, WriteOptions
from bdv_io.ome_zarr.metadata import extras_of, ngff_entries
from bdv_io.ome_zarr.read import open_ome_zarr
from bdv_io.pyramid import downsample, propose_levels
from bdv_io.safe_write import replacing

__all__ = ["propose_chunks", "writing_ome_zarr"]

CHUNK_VOXELS = 64**3
TYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64")


def writing_ome_zarr(
    path: str | os.PathLike[str], image: ImageSeries, *, options: WriteOptions | None = None
) -> Iterator[int]:
    """Write a movie as an OME-Zarr folder, and yield the number of frames that are done.

    Nothing stands at ``path`` until the iterator is exhausted; what stood there before is kept as ``name~1~``. Memory
    stays below two frames of one setup. Missing views get no chunks; that they are missing, and all else that OME-Zarr
    cannot hold, is kept in an attribute of our own (:mod:`bdv_io.ome_zarr.metadata`).

    Args:
        path: The folder, by custom ``NAME.ome.zarr``.
        image: The movie.
        options: Levels, chunks, compression (blosc's level) and threads.

    Raises:
        FormatError: A frame differs in shape or type from the first, or an option is impossible.
        UnsupportedError: The setups differ in size or type, which one array cannot hold, or the type is no usual number.
        WriteError: The disk is full, or the folder is missing or may not be written to; the old files are intact.
        BusyError: Another Howdah is writing the same movie.
    """
    target, options = Path(path), options or WriteOptions()
    if target.is_file():
        raise WriteError(
            f"Writing {target} failed: there is a file of this name, and OME-Zarr is a folder. Choose another name."
        )
    _check_options(target, options)
    plan = _plan(target, image, options)
    with replacing(target, folder=True, verify=plan.verify) as temporary:
        plan.start(temporary)
        workers = options.workers or os.cpu_count() or 1
        with ThreadPoolExecutor(workers) as pool:
            for frame in range(image.n_frames):
                for setup in range(len(image.setups)):
                    if (frame, setup) not in plan.extras.missing:
                        plan.write(temporary, frame, setup, _frame(target, image, frame, setup), pool)
                yield frame + 1
        plan.finish(temporary)


def propose_chunks(shape: Shape, voxel_size: Vector) -> Shape:
    """Return chunks (z, y, x) of about 64³ voxels that are nearly cubes in the world; flat ones for flat images."""
    chunks = [1, 1, 1]
    while 2 * int(np.prod(chunks)) <= CHUNK_VOXELS:
        growing = [axis for axis in (2, 1, 0) if chunks[axis] < shape[axis]]
        if not growing:
            break
        axis = min(growing, key=lambda axis: chunks[axis] * voxel_size[axis])
        chunks[axis] *= 2
    z, y, x = (min(c, n) for c, n in zip(chunks, shape, strict=True))
    return (z, y, x)


def _check_options(target: Path, options: WriteOptions) -> None:
    start = f"Writing {target} failed:"
    levels, chunks, level = options.levels, options.chunks, options.compression
    if levels is not None and (
        not len(levels) or tuple(levels[0]) != (1, 1, 1) or any(len(f) != 3 or min(f) < 1 for f in levels)
    ):
        raise FormatError(f"{start} the levels are {levels}, expected whole factors (z, y, x), the first (1, 1, 1).")
    if chunks is not None and (len(chunks) != 3 or min(chunks) < 1):
        raise FormatError(f"{start} the chunks are {chunks}, expected three sizes (z, y, x) of at least 1.")
    if level is not None and not 0 <= level <= 9:
        raise FormatError(f"{start} the compression is {level}, expected 0 to 9, or None for uncompressed.")


def _plan(target: Path, image: ImageSeries, options: WriteOptions) -> _Plan:
    first = image.setups[0]
    kinds = {(setup.shape, np.dtype(setup.dtype).newbyteorder("=")) for setup in image.setups}
    if len(kinds) > 1:
        found = "; ".join(
            f"setup {index} has {'x'.join(map(str, s.shape))} of {s.dtype}" for index, s in enumerate(image.setups[:6])
        )
        raise UnsupportedError(
            f"Writing {target} failed: the setups differ in size or type ({found}), and OME-Zarr keeps all channels in one array. "
            "Write BigDataViewer XML/HDF5 instead, or each setup as an image of its own."
        )
    dtype = np.dtype(first.dtype).newbyteorder("=")
    if dtype.name not in TYPES:
        raise UnsupportedError(
            f"Writing {target} failed: its voxels are of type {dtype}. Convert the frames to one of {', '.join(TYPES)}."
        )
    if 0 in first.shape or not image.n_frames:
        raise FormatError(
            f"Writing {target} failed: the movie has {image.n_frames} frames of {first.shape} voxels; nothing to write."
        )
    levels = tuple(options.levels or propose_levels(first.shape, first.voxel_size))
    return _Plan(target, image, options, levels, dtype)


def _frame(target: Path, image: ImageSeries, frame: int, setup: int) -> Array:
    array, first = np.asarray(image.read(frame, setup)), image.setups[setup]
    if array.shape != first.shape or array.dtype.newbyteorder("=") != np.dtype(first.dtype).newbyteorder("="):
        raise FormatError(
            f"Writing frame {frame}, setup {setup} of {target} failed: it has {array.shape} voxels of type {array.dtype}, expected "
            f"{first.shape} of type {first.dtype}. OME-Zarr keeps all frames in one array; nothing was written."
        )
    return array


@dataclass
class _Plan:
    """What is written, and what is known of it while the frames come in."""

    target: Path
    image: ImageSeries
    options: WriteOptions
    levels: tuple[Factors, ...]
    dtype: np.dtype[Any]
    shapes: list[Shape] = field(default_factory=list)
    chunks: list[Shape] = field(default_factory=list)

    def __post_init__(self) -> None:
        setup = self.image.setups[0]
        for factors in self.levels:
            z, y, x = (n // min(f, n) for f, n in zip(factors, setup.shape, strict=True))
            voxel = [v * f for v, f in zip(setup.voxel_size, factors, strict=True)]
            self.shapes.append((z, y, x))
            self.chunks.append(self.options.chunks or propose_chunks((z, y, x), (voxel[0], voxel[1], voxel[2])))
        self.extras = extras_of(self.image)
        self.stored = self.dtype.newbyteorder("<")
        level = self.options.compression
        self.codec = None if level is None else Blosc("zstd", clevel=level, shuffle=Blosc.SHUFFLE)
        self.seen: list[tuple[float, float] | None] = [None] * len(self.image.setups)

    def start(self, folder: Path) -> None:
        """Write the metadata of the arrays."""
        store = LocalStore(folder)
        zarr.create_group(store=store, zarr_format=2)
        for level, (shape, chunks) in enumerate(zip(self.shapes, self.chunks, strict=True)):
            zarr.create_array(
                store=store,
                name=str(level),
                shape=(self.image.n_frames, len(self.image.setups), *shape),
                chunks=(1, 1, *chunks),
                dtype=self.stored,
                compressors=self.codec,
                fill_value=0,
                zarr_format=2,
                chunk_key_encoding={"name": "v2", "separator": "/"},
            )

    def write(self, folder: Path, frame: int, setup: int, array: Array, pool: ThreadPoolExecutor) -> None:
        """Write all levels of one view."""
        low, high = float(array.min()), float(array.max())
        seen = self.seen[setup]
        self.seen[setup] = (low, high) if seen is None else (min(low, seen[0]), max(high, seen[1]))
        for level, factors in enumerate(self.levels):
            pixels = downsample(array, factors)
            place = folder / str(level) / str(frame) / str(setup)
            for z, y in itertools.product(
                *(range(-(-n // c)) for n, c in zip(pixels.shape[:2], self.chunks[level], strict=False))
            ):
                (place / str(z) / str(y)).mkdir(parents=True, exist_ok=True)
            grid = [range(-(-n // c)) for n, c in zip(pixels.shape, self.chunks[level], strict=True)]
            list(pool.map(lambda at, p=pixels, n=level, d=place: self._chunk(p, n, d, at), itertools.product(*grid)))

    def _chunk(self, pixels: Array, level: int, place: Path, at: Sequence[int]) -> None:
        """Write one chunk; one of zeros only is left out, for that is what a chunk that is not there means."""
        size = self.chunks[level]
        part = pixels[tuple(slice(i * c, (i + 1) * c) for i, c in zip(at, size, strict=True))]
        if not part.any():
            return
        chunk = np.zeros(size, dtype=self.stored)  # chunks stand over the border
        chunk[tuple(slice(0, n) for n in part.shape)] = part
        content = chunk.tobytes() if self.codec is None else self.codec.encode(chunk)
        (place / str(at[0]) / str(at[1]) / str(at[2])).write_bytes(content)

    def finish(self, folder: Path) -> None:
        """Write NGFF's entries, now that the range of the values is known."""
        if self.dtype.kind == "f":
            limits = [self.seen_range(index) for index in range(len(self.seen))]
        else:
            info = np.iinfo(self.dtype)
            limits = [(float(info.min), float(info.max))] * len(self.seen)
        windows = [(*limits[index], *self.seen_range(index)) for index in range(len(self.seen))]
        name = self.target.name.removesuffix(".zarr").removesuffix(".ome")
        entries = ngff_entries(self.extras, name=name, shape=self.shapes[0], levels=self.levels, windows=windows)
        # Not NGFF, but what Mastodon's loader asks for; without it, all voxels are taken as unsigned 16-bit.
        entries["dataType"] = self.dtype.name
        zarr.open_group(LocalStore(folder), mode="r+").attrs.update(entries)

    def seen_range(self, setup: int) -> tuple[float, float]:
        """Return the least and largest value of a setup that are numbers; 0 and 1 where there are none."""
        low, high = self.seen[setup] or (0.0, 1.0)
        return (low, high) if np.isfinite([low, high]).all() else (0.0, 1.0)

    def verify(self, folder: Path) -> None:
        """Read back the metadata, and the first and last view at all levels."""
        back = open_ome_zarr(folder)
        views = [(frame, setup) for frame in range(back.n_frames) for setup in range(len(back.setups))]
        there = [view for view in views if not back.is_missing(*view)]
        for frame, setup in {*there[:1], *there[-1:]}:
            self._compare(back, frame, setup)

    def _compare(self, back: ImageSeries, frame: int, setup: int) -> None:
        """Compare what was written of a view with its source, row of chunks by row of chunks, to hold no second frame."""
        pixels = self.image.read(frame, setup)
        for level, factors in enumerate(self.levels):
            expected, (dz, dy, _) = downsample(pixels, factors), self.chunks[level]
            for z, y in itertools.product(range(0, expected.shape[0], dz), range(0, expected.shape[1], dy)):
                region = (slice(z, z + dz), slice(y, y + dy), slice(None))
                found = back.read(frame, setup, level, region=region)
                if not np.array_equal(found, expected[region], equal_nan=self.dtype.kind == "f"):
                    raise FormatError(
                        f"Reading frame {frame}, setup {setup}, level {level} of {self.target} back gave other pixels than were "
                        "written. The disk may be faulty; write elsewhere."
                    )
