"""The pixels of one TIFF file: only the strips or tiles that a region touches are read, by any number of threads at once.

Uncompressed pages are read straight into the result; consecutive ones in one go. All else is decoded by tifffile and
imagecodecs, segment by segment, several at a time.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import tifffile

from bdv_io.errors import FormatError, MissingDataError, UnsupportedError
from bdv_io.image import Array
from bdv_io.tiff.directories import I64, Page, Skeleton, Values, damaged, numbers, read_skeleton

__all__ = ["LIBRARY_ERRORS", "PageKind", "Part", "TiffPixels"]

# All that tifffile and the codecs raise on damaged files.
LIBRARY_ERRORS = (
    tifffile.TiffFileError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    RuntimeError,
    OSError,
    MemoryError,
    struct.error,
)
JPEG = frozenset((6, 7, 34892, 33007))
MOST_PACKED = 1 << 16  # pixels' bytes a stored byte: beyond what zstd can do
ALWAYS_FINE = 64 << 20  # bytes of a page that are not suspicious
WORKERS = min(8, os.cpu_count() or 1)
IN_PARALLEL = 1 << 20  # bytes from which threads pay
KEPT_PLACES = 512


class Part(NamedTuple):
    """What is wanted of each page: rows and columns (start, stop), and which sample of a pixel."""

    rows: tuple[int, int]
    columns: tuple[int, int]
    sample: int = 0


class _Handle:
    """An open file that closes when the last reader lets go of it."""

    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self.lock = threading.Lock()

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)

    def read(self, count: int, at: int) -> bytes:
        """Return at most ``count`` bytes; fewer where the file ends."""
        if hasattr(os, "pread") and count < 1 << 30:
            return os.pread(self.number, count, at)
        data = bytearray(count)
        return bytes(data[: self.read_into(memoryview(data), at)])

    def read_into(self, target: memoryview, at: int) -> int:
        """Fill ``target`` from the file; return how many bytes there were."""
        done = 0
        while done < len(target):
            if hasattr(os, "preadv"):
                got = os.preadv(self.number, [target[done:]], at + done)
            else:  # Windows: one reader at a time
                with self.lock:
                    os.lseek(self.number, at + done, os.SEEK_SET)
                    block = os.read(self.number, min(len(target) - done, 1 << 26))
                got = len(block)
                target[done : done + got] = block
            if not got:
                break
            done += got
        return done


class PageKind:
    """How the pages of one profile are stored; made from the first of them by tifffile.

    Attributes:
        rows, columns, samples: Size of a page, and numbers a pixel.
        dtype: Type of a number as it is handed out, in native byte order; 1-bit pages become 8-bit 0 and 1.
        n_bytes: Bytes of a page without compression.
        raw: Whether bytes on the disk are the pixels.
    """

    def __init__(self, path: Path, page: tifffile.TiffPage, order: Literal["<", ">"]) -> None:
        self.page = page
        separate, depth, self.rows, self.columns, contiguous = page.shaped
        stored = page.dtype
        if stored is None or stored.kind not in "biuf" or depth != 1:
            what = (
                f"{page.bitspersample} bits of kind {page.sampleformat}"
                if depth == 1
                else f"blocks {depth} planes deep"
            )
            raise UnsupportedError(f"Reading the TIFF file {path} failed: its pixels are {what}. Convert it in Fiji.")
        self.samples, self.separate = separate * contiguous, separate > 1
        self.dtype = np.dtype(np.uint8) if stored.kind == "b" else stored.newbyteorder("=")
        self.stored = self.dtype.newbyteorder(order)
        self.row_bytes = self.columns * contiguous * self.dtype.itemsize
        self.n_bytes = self.rows * self.row_bytes * separate
        whole = page.bitspersample == 8 * self.dtype.itemsize and stored.kind != "b"
        self.raw = (
            page.compression == 1 and page.predictor == 1 and page.fillorder == 1 and whole and not page.is_tiled
            and not self.separate and page.sampleformat in (1, 2, 3)
        )  # fmt: skip
        self.tile = (
            (page.tilelength, page.tilewidth) if page.is_tiled else (min(page.rowsperstrip, self.rows), self.columns)
        )
        if min(self.tile) < 1:
            raise damaged(path, f"its tiles or strips are {self.tile[0]} x {self.tile[1]} pixels")
        self.across = -(-self.columns // self.tile[1])
        self.n_segments = separate * self.across * -(-self.rows // self.tile[0])
        self.decode = page.decode
        self.extra = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader} if page.compression in JPEG else {}

    def segments(self, part: Part) -> list[int]:
        """Return the numbers of the strips or tiles that a part of a page touches."""
        height, width = self.tile
        first = part.sample * (self.n_segments // self.samples) if self.separate else 0
        down = range(part.rows[0] // height, -(-part.rows[1] // height))
        across = range(part.columns[0] // width, -(-part.columns[1] // width))
        return [first + row * self.across + column for row in down for column in across]


class TiffPixels:
    """The pixels of one TIFF file. May be read from several threads, pickled, and used after a fork or a close."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._skeleton: Skeleton | None = None
        self._handle: _Handle | None = None
        self._kinds: dict[int, PageKind] = {}
        self._places: dict[int, tuple[I64, I64]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path = state["path"]
        self._reset()

    @property
    def skeleton(self) -> Skeleton:
        """The pages of the file."""
        if self._skeleton is None:
            self._skeleton = read_skeleton(self.path)
        return self._skeleton

    def close(self) -> None:
        """Let go of the open file."""
        self._handle = None

    def page(self, number: int, level: int = 0) -> Page:
        """Return a page, or a smaller version of it."""
        skeleton = self.skeleton
        if number >= len(skeleton.pages):
            raise damaged(self.path, f"page {number} was asked for, but it has {len(skeleton.pages)} pages now")
        return skeleton.pages[number] if level == 0 else skeleton.smaller[number][level - 1]

    def kind(self, page: Page) -> PageKind:
        """Return how a page is stored."""
        with self._lock:
            if page.profile not in self._kinds:
                try:
                    with tifffile.TiffFile(self.path, is_shaped=False) as file:
                        file.filehandle.seek(page.offset)
                        self._kinds[page.profile] = PageKind(
                            self.path, tifffile.TiffPage(file, index=0), self.skeleton.order
                        )
                except LIBRARY_ERRORS as error:
                    if isinstance(error, FormatError | MissingDataError | UnsupportedError):
                        raise
                    raise damaged(self.path, f"the page at byte {page.offset} makes no sense ({error})") from error
            return self._kinds[page.profile]

    def check(self, page: Page, count: int = 1) -> None:
        """See that a page, or ``count`` pages one after the other from there, can be within the file."""
        kind = self.kind(page)
        offsets, counts = self._segments(page, kind)
        stored = int(counts.sum())
        if self._block(page, kind) is not None:
            offset = int(offsets[0])
            if offset + count * kind.n_bytes > self.skeleton.size:
                raise damaged(
                    self.path,
                    f"{count} planes of {kind.rows} x {kind.columns} {kind.dtype} from byte {offset} would end at byte "
                    f"{offset + count * kind.n_bytes}, but it ends at byte {self.skeleton.size}",
                )
        elif kind.n_bytes > ALWAYS_FINE + MOST_PACKED * stored:
            raise damaged(
                self.path,
                f"the page at byte {page.offset} claims {kind.rows} x {kind.columns} pixels in {stored} stored bytes",
            )
        elif len(counts) and int((offsets + counts).max()) > self.skeleton.size:
            raise damaged(self.path, f"the pixels of the page at byte {page.offset} go beyond its end")

    def read(self, pages: Sequence[Page], part: Part, out: Array, *, first: int | None = None) -> None:
        """Read a part of some pages of one profile.

        Args:
            pages: The pages.
            part: What is wanted of each; within the page.
            out: (pages, rows, columns) C-contiguous array of the pages' type; filled.
            first: Where the pixels are one block that only ``pages[0]`` describes, as in large ImageJ stacks: number
                of the plane in the block that is wanted first; ``out`` then takes as many as it has room for.

        Raises:
            FormatError: The pixels are damaged or cut off.
        """
        if not out.size:
            return
        kind = self.kind(pages[0])
        if part.sample >= kind.samples:
            raise damaged(
                self.path,
                f"the page at byte {pages[0].offset} has {kind.samples} numbers a pixel, not {part.sample + 1} as the first has",
            )
        if first is not None:
            start = int(self._segments(pages[0], kind)[0][0]) + first * kind.n_bytes
            blocks: list[int | None] = [start + index * kind.n_bytes for index in range(len(out))]
        else:
            blocks = [self._block(page, kind) for page in pages]
        if None in blocks:
            self._decode_all(pages, kind, part, out)
        else:
            self._copy_all([block for block in blocks if block is not None], kind, part, out)

    def _copy_all(self, blocks: list[int], kind: PageKind, part: Part, out: Array) -> None:
        (top, bottom), (left, right) = part.rows, part.columns
        whole = right - left == kind.columns and kind.samples == 1
        joined = whole and bottom - top == kind.rows
        raw = out.view(kind.stored)
        index = 0
        while index < len(blocks):
            last = index + 1
            while joined and last < len(blocks) and blocks[last] == blocks[last - 1] + kind.n_bytes:
                last += 1
            at = blocks[index] + top * kind.row_bytes
            if whole:
                self._fill(raw[index:last], at)
            else:
                rows = np.empty((bottom - top, kind.columns, kind.samples), dtype=kind.stored)
                self._fill(rows, at)
                raw[index] = rows[:, left:right, part.sample]
            index = last
        if not kind.stored.isnative:
            out.byteswap(inplace=True)

    def _fill(self, target: Array, at: int) -> None:
        got = self._open().read_into(target.reshape(-1).view(np.uint8).data, at)
        if got < target.nbytes:
            raise damaged(self.path, f"{target.nbytes} bytes of pixels were expected at byte {at}, there are {got}")

    def _decode_all(self, pages: Sequence[Page], kind: PageKind, part: Part, out: Array) -> None:
        jobs = [(page, out[index], segment) for index, page in enumerate(pages) for segment in kind.segments(part)]

        def decode(job: tuple[Page, Array, int]) -> None:
            self._decode(kind, part, *job)

        if len(jobs) > 1 and WORKERS > 1 and out.nbytes > IN_PARALLEL:
            with ThreadPoolExecutor(WORKERS) as pool:
                list(pool.map(decode, jobs))
        else:
            for job in jobs:
                decode(job)

    def _decode(self, kind: PageKind, part: Part, page: Page, out: Array, segment: int) -> None:
        offsets, counts = self._segments(page, kind)
        count = int(counts[segment])
        data = self._open().read(count, int(offsets[segment])) if count else b""
        if len(data) < count:
            raise damaged(self.path, f"the pixels at byte {int(offsets[segment])} are cut off")
        try:
            pixels, place, shape = kind.decode(data or None, segment, **kind.extra)
        except LIBRARY_ERRORS as error:
            raise damaged(
                self.path,
                f"strip or tile {segment} of the page at byte {page.offset} cannot be decoded "
                f"(compression {str(kind.page.compression)[:40]}: {str(error)[:200]})",
            ) from error
        row, column = int(place[2]), int(place[3])
        (top, bottom), (left, right) = part.rows, part.columns
        y0, y1 = max(row, top), min(row + int(shape[1]), bottom)
        x0, x1 = max(column, left), min(column + int(shape[2]), right)
        target = out[y0 - top : y1 - top, x0 - left : x1 - left]
        if pixels is None:  # a sparse file has no bytes where all is background
            target[...] = kind.page.nodata
        else:
            sample = 0 if kind.separate else part.sample
            target[...] = pixels[0, y0 - row : y1 - row, x0 - column : x1 - column, sample]

    def _block(self, page: Page, kind: PageKind) -> int | None:
        """Return where the pixels of a page begin if they lie on the disk as they are, in one piece."""
        if not kind.raw:
            return None
        offsets, _ = self._segments(page, kind)
        step = kind.tile[0] * kind.row_bytes
        if len(offsets) > 1 and not (np.diff(offsets) == step).all():
            return None
        return int(offsets[0]) or None

    def _segments(self, page: Page, kind: PageKind) -> tuple[I64, I64]:
        """Return offsets and sizes of the strips or tiles of a page."""
        found = self._places.get(page.offset)
        if found is None:
            offsets, counts = (self._numbers(values) for values in (page.offsets, page.counts))
            if kind.raw and offsets is not None and counts is None:  # old files of one strip leave the size out
                counts = np.full(len(offsets), kind.n_bytes // max(1, len(offsets)), dtype=np.int64)
            if offsets is None or counts is None or min(len(offsets), len(counts)) < kind.n_segments:
                listed = 0 if offsets is None or counts is None else min(len(offsets), len(counts))
                raise damaged(
                    self.path, f"the page at byte {page.offset} lists {listed} of {kind.n_segments} strips or tiles"
                )
            found = offsets[: kind.n_segments], counts[: kind.n_segments]
            if (found[0] < 0).any() or (found[1] < 0).any() or (found[1] > self.skeleton.size).any():
                raise damaged(self.path, f"the page at byte {page.offset} lists strips or tiles of impossible size")
            if len(self._places) >= KEPT_PLACES:
                self._places.clear()
            self._places[page.offset] = found
        return found

    def _numbers(self, values: Values | None) -> npt.NDArray[np.int64] | None:
        if values is None:
            return None
        return numbers(self.skeleton.order, values, self._open().read(values.n_bytes, values.at))

    def _open(self) -> _Handle:
        handle = self._handle
        if handle is None:
            with self._lock:
                try:
                    handle = self._handle = self._handle or _Handle(self.path)
                except OSError as error:
                    raise MissingDataError(f"Reading the TIFF file {self.path} failed: {error}.") from error
        return handle
