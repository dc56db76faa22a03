"""PNG and JPEG pictures: single 2D images, as cameras and other segmentation programs write them. Read, not written.

They hold no voxel size: without hints a voxel is one pixel. Colours are setups (red, green, blue); transparency is left out.
"""

from __future__ import annotations

import os
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io.errors import FormatError, MissingDataError
from bdv_io.image import Hints, Region, Setup, Shape
from bdv_io.untrusted import refuse_special

Array = npt.NDArray[Any]
F64 = npt.NDArray[np.float64]

__all__ = ["Picture", "is_picture", "open_picture"]

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
COLOURS = {0: 1, 2: 3, 3: 3, 4: 1, 6: 3}  # of PNG's kinds of pixels, without transparency
JPEG_FRAMES = {0xC0, 0xC1, 0xC2}  # the kinds of JPEG that are in use
MOST_DENSE = 5000  # bytes of pixels a byte of the file; more than compression of a real picture reaches
MOST_FILE = 1 << 31


def is_picture(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as PNG or JPEG does."""
    try:
        if not Path(path).is_file():
            return False
        with Path(path).open("rb") as file:
            head = file.read(8)
        return head == PNG or head[:3] == JPEG
    except OSError:
        return False


def open_picture(path: str | os.PathLike[str], *, hints: Hints | None = None) -> Picture:
    """Open a PNG or JPEG as a movie of one frame; pixels are read when they are asked for.

    Raises:
        MissingDataError: There is no such file.
        FormatError: It is damaged, or claims to be absurdly large.
    """
    source, known = Path(path), hints or Hints()
    refuse_special(source, MOST_FILE)
    try:
        data = source.read_bytes()
    except FileNotFoundError:
        raise MissingDataError(f"Opening {source} failed: there is no such file. Check the path.") from None
    except OSError as error:
        raise MissingDataError(f"Opening {source} failed: the system said: {error}.") from error
    height, width, colours, bits = _said_by_png(data) if data[:8] == PNG else _said_by_jpeg(data)
    if not (height and width and colours):
        raise FormatError(
            f"Opening {source} failed: it is no PNG or JPEG, or damaged. Copy it again from where it came."
        )
    dtype = np.dtype(np.uint16 if bits == 16 else np.uint8)
    if height * width * colours * dtype.itemsize > MOST_DENSE * len(data):
        raise FormatError(
            f"Opening {source} was refused: it claims to have {width} x {height} pixels in a file of {len(data)} bytes."
        )
    size = known.voxel_size or (1.0, 1.0, 1.0)
    first = Setup(0, "", (1, height, width), size, known.unit or "pixel", dtype)
    names = ("red", "green", "blue") if colours == 3 else ("",)
    setups = tuple(
        replace(first, id=i, name=n, attributes={"channel": (i, n)} if n else {}) for i, n in enumerate(names)
    )
    return Picture(source, setups, known.interval)


class Picture:
    """A PNG or JPEG as a movie of one frame; implements :class:`bdv_io.image.ImageSeries`."""

    n_frames = 1
    timepoints: tuple[int, ...] = (0,)

    def __init__(self, path: Path, setups: tuple[Setup, ...], interval: tuple[float, str] | None) -> None:
        self.path: Path | None = path
        self.format = "PNG or JPEG"
        self.setups, self.interval = setups, interval

    def is_missing(self, frame: int, setup: int = 0) -> bool:
        """Return False: a picture is there as a whole."""
        self._check(frame, setup, 0)
        return False

    def shape(self, frame: int, setup: int = 0, level: int = 0) -> Shape:
        """Pixels (1, Y, X)."""
        self._check(frame, setup, level)
        return self.setups[setup].shape

    def affine(self, frame: int, setup: int = 0, level: int = 0) -> F64:
        """4x4 matrix from voxel indices (z, y, x, 1) to the world: a scaling by the voxel size."""
        self._check(frame, setup, level)
        return np.diag([*self.setups[setup].voxel_size, 1.0])

    def read(self, frame: int, setup: int = 0, level: int = 0, *, region: Region | None = None) -> Array:
        """Read a colour, or a region (three slices z, y, x) of it, as (1, Y, X).

        Raises:
            FormatError: The file is damaged.
        """
        self._check(frame, setup, level)
        pixels = _decoded(Path(str(self.path)))
        expected = self.setups[setup].shape
        planes = pixels if pixels.ndim == 3 else pixels[:, :, None]
        if planes.shape[:2] != expected[1:] or planes.shape[2] < len(self.setups):
            raise FormatError(
                f"Reading {self.path} failed: it says that it has (Y, X) = {expected[1:]} pixels of {len(self.setups)} colours, and "
                f"holds {pixels.shape}. Copy it again from where it came."
            )
        plane = np.ascontiguousarray(planes[None, :, :, setup])
        return plane if region is None else plane[region]

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _check(self, frame: int, setup: int, level: int) -> None:
        if frame or level or not 0 <= setup < len(self.setups):
            raise MissingDataError(
                f"Frame {frame}, setup {setup}, level {level} of {self.path} was asked for; a picture has one frame, "
                f"{len(self.setups)} setups and one level, all counted from 0."
            )


def _said_by_png(data: bytes) -> tuple[int, int, int, int]:
    """Return height, width, colours and bits of the header; zeros where it is damaged."""
    if len(data) < 26 or data[12:16] != b"IHDR":
        return 0, 0, 0, 0
    width, height, bits, kind = struct.unpack(">IIBB", data[16:26])
    return height, width, COLOURS.get(kind, 0), bits


def _said_by_jpeg(data: bytes) -> tuple[int, int, int, int]:
    """The same of a JPEG."""
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        if data[at + 1] in JPEG_FRAMES:
            height, width, colours = struct.unpack(">HHB", data[at + 5 : at + 10])
            return height, width, colours if colours in (1, 3) else 0, 8
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return 0, 0, 0, 0


def _decoded(path: Path) -> Array:
    """Return (Y, X) or (Y, X, colours)."""
    import imagecodecs  # as much time as all other imports together

    try:
        data = path.read_bytes()
        decode = imagecodecs.png_decode if data[:8] == PNG else imagecodecs.jpeg8_decode
        return np.asarray(decode(data))
    except OSError as error:
        raise MissingDataError(f"Reading {path} failed: the system said: {error}.") from error
    except (RuntimeError, ValueError, MemoryError) as error:  # what imagecodecs raises on damaged files
        raise FormatError(
            f"Reading {path} failed: the file is damaged ({error}). Copy it again from where it came."
        ) from error
