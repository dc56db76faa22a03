"""The store of an OME-Zarr movie under construction: what is planned, and how parts of frames are written into it.

One folder, arrays (T, C, Z, Y, X) a level. A whole frame is a part, too: the plain writer and one that works in parts, in any
order and by many processes, make the same files. A chunk of zeros only is left out, for that is what a chunk that is not there means.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import zarr
from numcodecs import Blosc
from zarr.storage import LocalStore

from bdv_io._unpack import unpack_blosc
from bdv_io.errors import FormatError, UnsupportedError
from bdv_io.image import Array, Factors, ImageSeries, Region, Shape, Vector, WriteOptions
from bdv_io.ome_zarr.metadata import extras_of, ngff_entries
from bdv_io.ome_zarr.read import open_ome_zarr
from bdv_io.pyramid import downsample, propose_levels
from bdv_io.zarr_chunks import ChunkReader

I64 = npt.NDArray[np.int64]
View = tuple[int, int]
Span = tuple[int, int]
Limits = tuple[float, float]

__all__ = ["NOT_THERE", "Chunk", "Store", "check_options", "propose_chunks"]

CHUNK_VOXELS = 64**3
TYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64")
NOT_THERE = -1  # the size of a chunk that was left out
METADATA = (".zgroup", ".zattrs", ".zarray")


class Chunk(NamedTuple):
    """What was written of a chunk: its place (level, frame, setup, z, y, x), its bytes in the file, and their checksum."""

    place: tuple[int, ...]
    size: int
    checksum: int


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


def check_options(target: Path, options: WriteOptions) -> None:
    """Raise a FormatError if the levels, chunks or compression are impossible."""
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


@dataclass
class Store:
    """What is written of a movie: levels, chunks, codec, and all beside the pixels.

    Attributes:
        target: What it will be called (for its name, and for errors).
        image: The movie.
        options: Levels, chunks, compression.
        levels: Whole factors (z, y, x) of each level that were asked for; ``factors`` are those that the frame allows.
        dtype: Type of the voxels, native byte order.
        shapes: Voxels (Z, Y, X) of each level. chunks: Chunk (z, y, x) of each level.
    """

    target: Path
    image: ImageSeries
    options: WriteOptions
    levels: tuple[Factors, ...]
    dtype: np.dtype[Any]
    shapes: list[Shape] = field(default_factory=list)
    chunks: list[Shape] = field(default_factory=list)
    factors: list[Factors] = field(default_factory=list)

    @classmethod
    def planned(cls, target: Path, image: ImageSeries, options: WriteOptions) -> Store:
        """Decide on levels and chunks.

        Raises:
            FormatError: An option is impossible, or the movie is empty.
            UnsupportedError: The setups differ in size or type, which one array cannot hold, or the type is no usual number.
        """
        check_options(target, options)
        first = image.setups[0]
        kinds = {(setup.shape, np.dtype(setup.dtype).newbyteorder("=")) for setup in image.setups}
        if len(kinds) > 1:
            found = "; ".join(
                f"setup {index} has {'x'.join(map(str, s.shape))} of {s.dtype}"
                for index, s in enumerate(image.setups[:6])
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
        return cls(target, image, options, levels, dtype)

    def __post_init__(self) -> None:
        setup = self.image.setups[0]
        for asked in self.levels:
            f_z, f_y, f_x = (min(f, n) for f, n in zip(asked, setup.shape, strict=True))
            z, y, x = (n // f for f, n in zip((f_z, f_y, f_x), setup.shape, strict=True))
            voxel = [v * f for v, f in zip(setup.voxel_size, asked, strict=True)]
            self.factors.append((f_z, f_y, f_x))
            self.shapes.append((z, y, x))
            self.chunks.append(self.options.chunks or propose_chunks((z, y, x), (voxel[0], voxel[1], voxel[2])))
        self.extras = extras_of(self.image)
        self.stored = self.dtype.newbyteorder("<")
        level = self.options.compression
        self.codec = None if level is None else Blosc("zstd", clevel=level, shuffle=Blosc.SHUFFLE)

    @property
    def views(self) -> list[View]:
        """The views (frame, setup) that are there, in the order in which they are written."""
        every = itertools.product(range(self.image.n_frames), range(len(self.image.setups)))
        return [view for view in every if view not in self.extras.missing]

    def unit(self, levels: Iterable[int]) -> Shape:
        """Return the smallest part (z, y, x) of level 0 that holds whole chunks, and whole factors, of all these levels.

        An axis that has but one chunk at one of them is not cut: then it is the length of the frame.
        """
        shape, unit = self.image.setups[0].shape, [1, 1, 1]
        for level in levels:
            for axis in range(3):
                only = self.chunks[level][axis] >= self.shapes[level][axis]
                step = shape[axis] if only else self.chunks[level][axis] * self.factors[level][axis]
                unit[axis] = shape[axis] if only else math.lcm(unit[axis], step)
                unit[axis] = min(unit[axis], shape[axis])
        z, y, x = unit
        return (z, y, x)

    def region_of(self, level: int, region: Region) -> Region:
        """Return what a level holds of a part of level 0 that begins and ends at :meth:`unit` or the border; may be empty."""
        z, y, x = (
            slice(min(part.start // f, n), n if part.stop >= whole else min(part.stop // f, n))
            for part, f, n, whole in zip(
                region, self.factors[level], self.shapes[level], self.image.setups[0].shape, strict=True
            )
        )
        return (z, y, x)

    # ---- writing

    def start(self, folder: Path) -> None:
        """Write the metadata of the arrays; that of an earlier start is removed."""
        for place in (folder, *(folder / str(level) for level in range(len(self.levels)))):
            for name in METADATA:
                (place / name).unlink(missing_ok=True)
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

    def read(self, frame: int, setup: int, region: Region | None = None) -> Array:
        """Read a view, or a part of it, of the source.

        Raises:
            FormatError: It has another size or type than the first.
        """
        first = self.image.setups[0]
        array = np.asarray(self.image.read(frame, setup, region=region))
        shape = array.shape if region is None else self.image.shape(frame, setup)
        if shape != first.shape or array.dtype.newbyteorder("=") != self.dtype:
            raise FormatError(
                f"Writing frame {frame}, setup {setup} of {self.target} failed: it has {shape} voxels of type {array.dtype}, expected "
                f"{first.shape} of type {first.dtype}. OME-Zarr keeps all frames in one array; nothing was written."
            )
        return array

    def part(self, array: Array, level: int, region: Region) -> Array:
        """Return what a level holds of a part of level 0: means of whole blocks; a rest at the far border is left out."""
        inner, factors = self.region_of(level, region), self.factors[level]
        return downsample(
            array[tuple(slice(0, (s.stop - s.start) * f) for s, f in zip(inner, factors, strict=True))], factors
        )

    def write(
        self,
        folder: Path,
        view: View,
        level: int,
        region: Region,
        pixels: Array,
        *,
        pool: Executor,
        aside: Path | None = None,
    ) -> list[Chunk]:
        """Write the chunks of a part of a level.

        Args:
            folder: The store.
            view: Frame and setup.
            level: Of the pyramid.
            region: Of the level, in its voxels; begins at chunks, ends at chunks or the border.
            pixels: (Z, Y, X) its voxels.
            pool: Threads that compress.
            aside: Folder of the same disk where a chunk is written before it takes its place at one stroke, where others may read
                or write it, or it may be there already; None for a store that nobody else knows.
        """
        size = self.chunks[level]
        grid = [range(s.start // c, -(-s.stop // c)) for s, c in zip(region, size, strict=True)]

        def one(at: Sequence[int]) -> Chunk:
            part = pixels[
                tuple(slice(i * c - s.start, (i + 1) * c - s.start) for i, c, s in zip(at, size, region, strict=True))
            ]
            place = (level, *view, *at)
            return self._chunk(part, place, folder.joinpath(*map(str, place)), aside)

        return list(pool.map(one, itertools.product(*grid))) if pixels.size else []

    def _chunk(self, part: Array, place: tuple[int, ...], file: Path, aside: Path | None) -> Chunk:
        if not part.any():
            if aside is not None:
                file.unlink(missing_ok=True)
            return Chunk(place, NOT_THERE, 0)
        size = self.chunks[place[0]]
        chunk = np.zeros(size, dtype=self.stored)  # chunks stand over the border
        chunk[tuple(slice(0, n) for n in part.shape)] = part
        content = chunk.tobytes() if self.codec is None else self.codec.encode(chunk)
        _written(file, content, aside)
        return Chunk(place, len(content), checksum(content) if aside is not None else 0)

    def stored_chunks(self, folder: Path, level: int) -> ChunkReader:
        """Return how chunks of a level, that are written already, are read from a store that has no metadata yet."""

        def fetch(key: str) -> bytes | None:
            try:
                return (folder / str(level) / key).read_bytes()
            except FileNotFoundError:
                return None

        unpack = None if self.codec is None else unpack_blosc
        return ChunkReader(fetch, f"{folder}/{level}", (1, 1, *self.chunks[level]), self.stored, unpack, "", "/")

    def finish(self, folder: Path, limits: Mapping[View, Limits]) -> None:
        """Write NGFF's entries, now that the least and largest value of each view (frame, setup) is known."""
        seen: list[Limits | None] = [None] * len(self.image.setups)
        for view in self.views:
            (low, high), setup = limits[view], view[1]
            before = seen[setup]
            seen[setup] = (low, high) if before is None else (min(low, before[0]), max(high, before[1]))
        shown = [_shown(found) for found in seen]
        if self.dtype.kind == "f":
            possible = shown
        else:
            info = np.iinfo(self.dtype)
            possible = [(float(info.min), float(info.max))] * len(seen)
        windows = [(*most, *found) for most, found in zip(possible, shown, strict=True)]
        name = self.target.name.removesuffix(".zarr").removesuffix(".ome")
        entries = ngff_entries(self.extras, name=name, shape=self.shapes[0], levels=self.levels, windows=windows)
        # Not NGFF, but what Mastodon's loader asks for; without it, all voxels are taken as unsigned 16-bit.
        entries["dataType"] = self.dtype.name
        zarr.open_group(LocalStore(folder), mode="r+").attrs.update(entries)

    # ---- reading back

    def verify(self, folder: Path) -> None:
        """Read back the metadata, and the first and last view at all levels, plane of chunks by plane of chunks."""
        back = open_ome_zarr(folder)
        views = [(frame, setup) for frame in range(back.n_frames) for setup in range(len(back.setups))]
        there = [view for view in views if not back.is_missing(*view)]
        for view in {*there[:1], *there[-1:]}:
            self._compare(back, view)

    def _compare(self, back: ImageSeries, view: View) -> None:
        """Compare what was written of a view with its source, row of chunks by row of chunks, to hold no second frame."""
        pixels = self.image.read(*view)
        for level, factors in enumerate(self.levels):
            expected, (dz, dy, _) = downsample(pixels, factors), self.chunks[level]
            for z, y in itertools.product(range(0, expected.shape[0], dz), range(0, expected.shape[1], dy)):
                region = (slice(z, z + dz), slice(y, y + dy), slice(None))
                self.compare(back.read(*view, level, region=region), expected[region], view, level)

    def compare(self, found: Array, expected: Array, view: View, level: int) -> None:
        """Raise a FormatError if what was read back is not what was written."""
        if not np.array_equal(found, expected, equal_nan=self.dtype.kind == "f"):
            raise FormatError(
                f"Reading frame {view[0]}, setup {view[1]}, level {level} of {self.target} back gave other pixels than were "
                "written. The disk may be faulty; write elsewhere."
            )


def checksum(content: bytes) -> int:
    """Return a checksum of 63 bits."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little") >> 1


def limits_of(array: Array) -> Limits:
    """Return the least and largest value; no number where one of them is none."""
    return float(array.min()), float(array.max())


def planes(chunks: Shape, shape: Shape) -> Iterator[Region]:
    """Yield the regions of rows of chunks of a level, of its whole length in x."""
    for z, y in itertools.product(range(0, shape[0], chunks[0]), range(0, shape[1], chunks[1])):
        yield slice(z, min(z + chunks[0], shape[0])), slice(y, min(y + chunks[1], shape[1])), slice(0, shape[2])


def _shown(found: Limits | None) -> Limits:
    """The least and largest value of a setup that are numbers; 0 and 1 where there are none."""
    low, high = found or (0.0, 1.0)
    return (low, high) if np.isfinite([low, high]).all() else (0.0, 1.0)


def _written(file: Path, content: bytes, aside: Path | None) -> None:
    """Write a file, and make its folder where that is needed."""
    put: Callable[[], object]
    if aside is None:
        put = lambda: file.write_bytes(content)  # noqa: E731
    else:
        before = aside / f".{secrets.token_hex(8)}.part"
        before.write_bytes(content)
        put = lambda: os.replace(before, file)  # noqa: E731
    try:
        put()
    except FileNotFoundError:
        file.parent.mkdir(parents=True, exist_ok=True)
        put()
