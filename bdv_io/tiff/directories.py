"""The skeleton of a TIFF file: its chain of image directories, read with bounds, for a file may be damaged or meant to hurt.

A directory (IFD) is a list of tags; each directory is one page. What the tags of the first page mean is tifffile's
business; here it is found out how many pages there are, which of them are alike, and where the bytes of each lie.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from bdv_io.errors import FormatError, MissingDataError
from bdv_io.untrusted import refuse_special

I64 = npt.NDArray[np.int64]
Alike = dict[int, tuple[int, ...]]

__all__ = ["HEIGHT", "WIDTH", "Page", "Skeleton", "Values", "damaged", "is_tiff_file", "read_skeleton"]

SUBFILE, WIDTH, HEIGHT, STRIPS, STRIP_BYTES = 254, 256, 257, 273, 279
TILES, TILE_BYTES, SUB_DIRECTORIES = 324, 325, 330
# width, height, bits, compression, photometric, fill order, samples, rows a strip, planes, predictor, tiles, format, depth
ALIKE = frozenset((256, 257, 258, 259, 262, 266, 277, 278, 284, 317, 322, 323, 339, 32997, 32998))
PLACES = frozenset((SUBFILE, STRIPS, STRIP_BYTES, TILES, TILE_BYTES, SUB_DIRECTORIES))
BYTES_OF_TYPE = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
NUMPY_OF_TYPE = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}
STRUCT_OF_TYPE = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
MAX_TAGS, MAX_LEVELS = 4096, 64


class Values(NamedTuple):
    """Where the numbers of a tag are: its TIFF type, how many numbers, the place in the file."""

    kind: int
    number: int
    at: int

    @property
    def n_bytes(self) -> int:
        """How many bytes they take; 0 for a type that TIFF does not know."""
        return BYTES_OF_TYPE.get(self.kind, 0) * self.number


class Page(NamedTuple):
    """One image directory.

    Attributes:
        offset: Where it is in the file.
        profile: Index into ``Skeleton.profiles``: pages of one profile have the same size, type and compression.
        reduced: Whether it is marked as a smaller version of another page.
        offsets: Places of its strips or tiles; None if it lists none.
        counts: Their sizes in bytes.
        smaller: Places of the directories of its smaller versions (a pyramid); None if there are none.
    """

    offset: int
    profile: int
    reduced: bool
    offsets: Values | None
    counts: Values | None
    smaller: Values | None


@dataclass(frozen=True, eq=False)
class Skeleton:
    """The image directories of one TIFF file.

    Attributes:
        path: The file.
        size: Its size in bytes.
        order: ``"<"`` or ``">"``, its byte order.
        pages: The pages of the main chain.
        smaller: For each page its smaller versions, the largest first.
        profiles: For each profile the tags that its pages share, tag -> numbers.
    """

    path: Path
    size: int
    order: Literal["<", ">"]
    pages: tuple[Page, ...]
    smaller: tuple[tuple[Page, ...], ...]
    profiles: tuple[Alike, ...]

    def size_of(self, page: Page) -> tuple[int, int]:
        """Rows and columns of a page."""
        alike = self.profiles[page.profile]
        return alike[HEIGHT][0], alike[WIDTH][0]


def damaged(path: Path, found: str) -> FormatError:
    """Return the error of a file that is not whole."""
    return FormatError(
        f"Reading the TIFF file {path} failed: {found}. The file is damaged or cut off; copy it again from where it came."
    )


def numbers(order: str, values: Values, read: bytes) -> I64 | None:
    """Turn the bytes of a tag into its numbers; None if they are none."""
    kind = NUMPY_OF_TYPE.get(values.kind)
    if kind is None or len(read) < values.n_bytes:
        return None
    return np.frombuffer(read, order + kind, values.number).astype(np.int64)


def is_tiff_file(path: Path) -> bool:
    """Whether a file begins as a TIFF or BigTIFF does."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            head = file.read(4)
    except (OSError, ValueError):
        return False
    return head in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_skeleton(path: Path) -> Skeleton:
    """Read the image directories of a file; the last few that were read are kept as long as the file is the same.

    Raises:
        MissingDataError: There is no such file, or it may not be read.
        FormatError: It is no TIFF, its pages run in a circle, or it is cut off.
    """
    try:
        refuse_special(path)
        state = os.stat(path)
        return _read_skeleton(path, state.st_size, state.st_mtime_ns)
    except (OSError, ValueError) as error:
        if isinstance(error, FormatError | MissingDataError):
            raise
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else f"the system said: {error}"
        raise MissingDataError(f"Reading the TIFF file {path} failed: {reason}. Check the path.") from None


@lru_cache(maxsize=16)
def _read_skeleton(path: Path, size: int, changed: int) -> Skeleton:
    with path.open("rb", buffering=1 << 14) as file:
        return _Walker(path, size, file).walk()


class _Walker:
    """Goes through the directories of an open file."""

    def __init__(self, path: Path, size: int, file: BinaryIO) -> None:
        self.path, self.size, self.file = path, size, file
        self.profiles: list[Alike] = []
        self.known: dict[tuple[tuple[int, tuple[int, ...]], ...], int] = {}
        head = self.bytes(0, 16)
        self.order: Literal["<", ">"] = ">" if head[:2] == b"MM" else "<"
        version = struct.unpack(f"{self.order}H", head[2:4])[0] if head[:2] in (b"II", b"MM") and len(head) >= 8 else 0
        big = version == 43
        if version not in (42, 43) or (big and len(head) < 16):
            raise damaged(path, f"its first bytes, {head[:4]!r}, are not those of a TIFF")
        order = self.order
        self.count, self.tag, self.offset = (struct.Struct(order + code) for code in _sizes(big))
        self.inline = self.offset.size
        self.first = int(self.offset.unpack(head[8:16] if big else head[4:8])[0])

    def walk(self) -> Skeleton:
        pages: list[Page] = []
        smaller: list[tuple[Page, ...]] = []
        seen: set[int] = set()
        offset = self.first
        while offset:
            if offset in seen:
                raise damaged(
                    self.path, f"its pages run in a circle: after page {len(pages) - 1} comes byte {offset} again"
                )
            seen.add(offset)
            page, offset = self.directory(offset, f"page {len(pages)}", check_all=not pages)
            pages.append(page)
            smaller.append(self.levels(page, len(pages) - 1))
        if not pages:
            raise damaged(self.path, "it holds no page")
        return Skeleton(self.path, self.size, self.order, tuple(pages), tuple(smaller), tuple(self.profiles))

    def levels(self, page: Page, number: int) -> tuple[Page, ...]:
        if page.smaller is None:
            return ()
        offsets = numbers(self.order, page.smaller, self.bytes(page.smaller.at, page.smaller.n_bytes))
        if offsets is None or len(offsets) > MAX_LEVELS:
            raise damaged(self.path, f"the list of smaller versions of page {number} makes no sense")
        return tuple(self.directory(int(o), f"a smaller version of page {number}")[0] for o in offsets)

    def directory(self, offset: int, name: str, *, check_all: bool = False) -> tuple[Page, int]:
        """Read the directory at an offset; return it and the offset of the next."""
        start = self.bytes(offset, self.count.size)
        if len(start) < self.count.size:
            raise damaged(self.path, f"{name} would be at byte {offset}, but the file ends at byte {self.size}")
        n_tags = int(self.count.unpack(start)[0])
        size = self.tag.size * n_tags
        body = self.file.read(size + self.offset.size) if n_tags <= MAX_TAGS else b""
        if len(body) < size + self.offset.size or n_tags > MAX_TAGS:
            raise damaged(self.path, f"{name} at byte {offset} claims {n_tags} tags, which do not fit the file")
        alike: Alike = {}
        places: dict[int, Values] = {}
        for code, values, inline in self.tags(body[:size], offset + self.count.size):
            wanted = code in ALIKE or code in PLACES
            if (wanted or check_all) and values.at + values.n_bytes > self.size:
                raise damaged(
                    self.path,
                    f"tag {code} of {name} claims {values.n_bytes} bytes at byte {values.at}, but the file ends at byte {self.size}",
                )
            if code in ALIKE or code == SUBFILE:
                alike[code] = self.few(values, inline, f"tag {code} of {name}")
            elif wanted:
                places[code] = values
        reduced = bool(alike.pop(SUBFILE, (0,))[0] & 1)
        if min(alike.get(WIDTH, (0,))[0], alike.get(HEIGHT, (0,))[0]) < 1:
            raise damaged(self.path, f"{name} says neither width nor height")
        page = Page(
            offset,
            self.profile(alike),
            reduced,
            places.get(TILES, places.get(STRIPS)),
            places.get(TILE_BYTES, places.get(STRIP_BYTES)),
            places.get(SUB_DIRECTORIES),
        )
        return page, int(self.offset.unpack(body[size:])[0])

    def tags(self, body: bytes, position: int) -> Iterator[tuple[int, Values, bytes | None]]:
        """Tag, where its values are, and their bytes where they are few enough to lie in the directory itself."""
        for code, kind, count, value in self.tag.iter_unpack(body):
            if BYTES_OF_TYPE.get(kind, 0) * count > self.inline:
                yield code, Values(kind, count, int(self.offset.unpack(value)[0])), None
            else:
                yield code, Values(kind, count, position + self.tag.size - self.inline), value
            position += self.tag.size

    def few(self, values: Values, inline: bytes | None, name: str) -> tuple[int, ...]:
        if values.kind not in NUMPY_OF_TYPE or not 0 < values.number <= MAX_TAGS:
            raise damaged(self.path, f"{name} has {values.number} values of type {values.kind}")
        if inline is None:
            inline = self.bytes(values.at, values.n_bytes)
        return struct.unpack_from(f"{self.order}{values.number}{STRUCT_OF_TYPE[values.kind]}", inline)

    def profile(self, alike: Alike) -> int:
        key = tuple(sorted(alike.items()))
        number = self.known.setdefault(key, len(self.profiles))
        if number == len(self.profiles):
            self.profiles.append(alike)
        return number

    def bytes(self, at: int, count: int) -> bytes:
        if at >= self.size:
            return b""
        self.file.seek(at)
        return self.file.read(min(count, self.size - at))


def _sizes(big: bool) -> tuple[str, str, str]:
    """Struct codes of the number of tags, of a tag, and of an offset."""
    return ("Q", "HHQ8s", "Q") if big else ("H", "HHI4s", "I")
