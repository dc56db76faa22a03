"""Bounds for files that nobody vouches for. A pipe would be waited for without end, a device read without end."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal, TextIO

from bdv_io.errors import FormatError

__all__ = [
    "MOST_TEXT",
    "Head",
    "bounded_lines",
    "check_tiff_pages",
    "first_line",
    "look_at",
    "looked_at_by",
    "refuse_special",
]

MOST_TEXT = 64 << 20  # bytes of metadata, far more than any program writes
LONGEST_HEADER = 1 << 20
LONGEST_LINE = 64 << 20

_LOOKS: list[Callable[[Path], object]] = []


@contextlib.contextmanager
def looked_at_by(look: Callable[[Path], object]) -> Iterator[None]:
    """While the block lasts, in every thread of this process, ``look`` sees each movie and annotation before it is opened.

    Who opens files for somebody else refuses in it, by raising, what that one may not have: one file names another.
    """
    _LOOKS.append(look)
    try:
        yield
    finally:
        _LOOKS.remove(look)


def look_at(path: Path) -> None:
    """Show a file that is about to be opened to those who want to see it."""
    for look in tuple(_LOOKS):
        look(path)


def refuse_special(path: Path, most: int | None = None) -> None:
    """Refuse to open what is no ordinary file, or is larger than such a file ever is. What is not there is left to the opening.

    Args:
        path: Of what is about to be opened; links are followed.
        most: Bytes that it may have.

    Raises:
        FormatError: It is a folder, a pipe, a device or the like, or too large.
    """
    try:
        state = path.stat()
    except (OSError, ValueError):
        return
    if not stat.S_ISREG(state.st_mode):
        what = "a folder" if stat.S_ISDIR(state.st_mode) else "a device, a pipe or the like"
        raise FormatError(f"Reading {path} was refused: it is not a file but {what}. Put the file itself in its place.")
    if most is not None and state.st_size > most:
        raise FormatError(
            f"Reading {path} was refused: it has {state.st_size:,} bytes, and such a file never has more than {most:,}. It is damaged; "
            "copy it again from where it came."
        )


def first_line(path: Path) -> str:
    """Return the first line of a text file, or as much of it as a header may have.

    Raises:
        OSError: It cannot be opened.
        UnicodeDecodeError: It is no text.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        return file.readline(LONGEST_HEADER)


def check_tiff_pages(path: Path) -> None:
    """See that the chain of a TIFF's pages stays in the file and comes to an end: libraries follow it without end.

    Raises:
        OSError: The file cannot be read.
        FormatError: It is no TIFF, or the chain leaves the file or runs in a circle.
    """
    with path.open("rb") as file:
        size, head = path.stat().st_size, file.read(16)
        order: Literal["little", "big"] = "big" if head[:2] == b"MM" else "little"
        big = int.from_bytes(head[2:4], order) == 43
        if head[:2] not in (b"II", b"MM") or len(head) < 8 or (big and len(head) < 16):
            raise FormatError(
                f"Reading {path} failed: the file is damaged or no TIFF, its first bytes are {head[:4]!r}."
            )
        width, counted, entry = (8, 8, 20) if big else (4, 2, 12)
        at, seen = int.from_bytes(head[8:16] if big else head[4:8], order), set[int]()
        while at:
            file.seek(min(at, size))
            count = int.from_bytes(file.read(counted), order)
            end = at + counted + count * entry + width
            if at in seen or not count or end > size:
                what = (
                    "its pages run in a circle"
                    if at in seen
                    else f"a page at byte {at} does not fit into its {size} bytes"
                )
                raise FormatError(
                    f"Reading {path} failed: the file is damaged, {what}. Copy it again from where it came."
                )
            seen.add(at)
            file.seek(end - width)
            at = int.from_bytes(file.read(width), order)


class Head:
    """The beginning of an open file as a file of its own, nameless: a parser that looks for a root element reads no more.

    It has no name because lxml stumbles over those that the locale cannot spell.
    """

    def __init__(self, file: BinaryIO, most: int = LONGEST_HEADER) -> None:
        self._file, self._left = file, most

    def read(self, count: int = -1) -> bytes:
        """Return the next bytes, none at the end of the beginning."""
        data = self._file.read(min(count, self._left) if count >= 0 else self._left)
        self._left -= len(data)
        return data


def bounded_lines(file: TextIO, path: Path) -> Iterator[str]:
    """Yield the lines of an open text file.

    Raises:
        FormatError: A line is longer than any that a program writes; without this it would be read to the end of the file.
    """
    while line := file.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE:
            raise FormatError(
                f"Reading {path} was refused: a line has more than {LONGEST_LINE:,} letters, so it is no text, or damaged."
            )
        yield line
