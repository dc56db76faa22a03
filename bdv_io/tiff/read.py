"""TIFF movies: ImageJ hyperstacks, OME-TIFF, and plain TIFF whose axes the user names.

    movie = open_file(Path("movie.tif"), hints=Hints())             # ImageJ's or OME's header says what the axes are
    movie = open_file(Path("pages.tif"), hints=Hints(axes="TYX"))   # nothing says it but you
    frame = movie.read(0, setup=1)                                  # (Z, Y, X) of the second channel

Only the strips or tiles that a region touches are read. A folder of numbered TIFFs has :mod:`bdv_io.tiff.folder`.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from bdv_io.errors import FormatError, MissingDataError, UnsupportedError
from bdv_io.image import F64, Array, Hints, Region, Setup, Shape, Vector
from bdv_io.tiff.axes import Calibration, calibration, in_order, letters_of
from bdv_io.tiff.directories import I64, Page, Skeleton, damaged, read_skeleton
from bdv_io.tiff.metadata import Said, imagej_said, plain_said, shaped_header, shaped_said
from bdv_io.tiff.ome import OmePlanes, is_ome, ome_said
from bdv_io.tiff.pixels import LIBRARY_ERRORS, Part, TiffPixels

__all__ = ["TiffImage", "allocated", "bounded", "open_file"]

log = logging.getLogger(__name__)

COLOURS = ("red", "green", "blue", "alpha")
OTHERS = ("lsm", "stk", "fluoview", "ndpi", "svs", "scn", "bif", "eer", "philips", "avs", "qpi")


@dataclass(frozen=True, eq=False)
class Content:
    """What is known of a file before its pixels are read.

    Attributes:
        format: Name of the kind of TIFF.
        letters: The axes that have more than one plane, as stored, with YX.
        files: The files that it lies in.
        file: (T, C, Z) index into ``files`` of each plane.
        page: (T, C, Z) page of each plane there, -1 where there is none; with ``block`` the plane in the block of bytes
            that the first page describes.
        block: Whether that is so.
        samples: Numbers a pixel; each is a channel.
        dtype: Type of a voxel.
        shapes: Voxels (Z, Y, X) of each level.
        calibration: Voxel size, unit, interval.
        names: Names of the channels.
        signed: Whether the 16-bit values on the disk are meant minus 32768.
        unread: What else the file holds that a movie has no place for, as sentences.
    """

    format: str
    letters: str
    files: tuple[Path, ...]
    file: I64
    page: I64
    block: bool
    samples: int
    dtype: np.dtype[Any]
    shapes: tuple[Shape, ...]
    calibration: Calibration
    names: tuple[str, ...]
    signed: bool = False
    unread: tuple[str, ...] = ()


class TiffImage:
    """A TIFF movie; implements :class:`bdv_io.image.ImageSeries`. Each channel is a setup.

    It may be read from several threads, pickled, and used after a fork.

    Args:
        path: The file that was opened.
        content: What is known of it.
    """

    def __init__(self, path: Path, content: Content) -> None:
        self.path: Path | None = path
        self.format = content.format
        self.interval = content.calibration.interval
        self.content = content
        self.unread = content.unread
        self.n_frames = content.page.shape[0]
        self.timepoints = tuple(range(self.n_frames))
        self._missing = np.any(content.page < 0, axis=2)
        self._pixels = [TiffPixels(file) for file in content.files]
        self._factors = tuple(_factors(content.shapes[0], shape) for shape in content.shapes)
        several = len(content.names) > 1 or bool(content.names[0])
        self.setups = tuple(
            Setup(
                index,
                name,
                content.shapes[0],
                content.calibration.voxel_size,
                content.calibration.unit,
                np.dtype(np.int16) if content.signed else content.dtype,
                self._factors,
                {"channel": (index, name)} if several else {},
            )
            for index, name in enumerate(content.names)
        )

    def is_missing(self, frame: int, setup: int = 0) -> bool:
        """Whether the file has no pixels, or not all planes, of a view."""
        self._check(frame, setup, 0)
        return bool(self._missing[frame, setup // self.content.samples])

    def shape(self, frame: int, setup: int = 0, level: int = 0) -> Shape:
        """Voxels (Z, Y, X) of a view at a level."""
        self._check(frame, setup, level)
        return self.content.shapes[level]

    def affine(self, frame: int, setup: int = 0, level: int = 0) -> F64:
        """4x4 matrix from voxel indices (z, y, x, 1) of a level to the world: a scaling by the voxel size.

        A voxel of a smaller level stands in the middle of those that it is the mean of.
        """
        self._check(frame, setup, level)
        factors, size = np.asarray(self._factors[level]), np.asarray(self.content.calibration.voxel_size)
        found = np.diag([*(factors * size), 1.0])
        found[:3, 3] = (factors - 1) / 2 * size
        return found

    def read(self, frame: int, setup: int = 0, level: int = 0, *, region: Region | None = None) -> Array:
        """Read a view, or a region (three slices z, y, x) of it, as a (Z, Y, X) array in native byte order.

        Raises:
            MissingDataError: No such frame, setup or level, or the view is missing.
            FormatError: The pixels are damaged or cut off, or a slice of the region goes backwards.
        """
        self._check(frame, setup, level)
        channel, sample = divmod(setup, self.content.samples)
        if self._missing[frame, channel]:
            raise MissingDataError(
                f"Reading frame {frame}, setup {setup} of {self.path} failed: the file does not hold all planes of it. Ask "
                "is_missing() first, and leave it out."
            )
        z, y, x = bounded(region, self.content.shapes[level])
        part = Part((y.start, max(y.start, y.stop)), (x.start, max(x.start, x.stop)), sample)
        numbers, files = self.content.page[frame, channel][z], self.content.file[frame, channel][z]
        size = (len(numbers), part.rows[1] - part.rows[0], part.columns[1] - part.columns[0])
        out = allocated(size, self.content.dtype, self.path)
        for index in np.unique(files).tolist() if out.size else ():
            self._read_planes(self._pixels[index], numbers, np.flatnonzero(files == index), level, part, out)
        if self.content.signed:
            out ^= 0x8000
            out = out.view(np.int16)
        return out if (y.step, x.step) == (1, 1) else out[:, :: y.step, :: x.step]

    def _read_planes(self, pixels: TiffPixels, numbers: I64, rows: I64, level: int, part: Part, out: Array) -> None:
        """Fill the planes ``rows`` of ``out``, runs of them in one go."""
        whole = len(rows) == len(out)
        target = out if whole else np.empty((len(rows), *out.shape[1:]), dtype=out.dtype)
        wanted = numbers[rows]
        if self.content.block:
            first = pixels.page(0)
            step = int(wanted[1] - wanted[0]) if len(wanted) > 1 else 1
            if step == 1 and (np.diff(wanted) == 1).all():
                pixels.read([first], part, target, first=int(wanted[0]))
            else:
                for index, number in enumerate(wanted.tolist()):
                    pixels.read([first], part, target[index : index + 1], first=number)
        else:
            pages = [pixels.page(number, level) for number in wanted.tolist()]
            _same_kind(pixels, pages, level, self.content)
            pixels.read(pages, part, target)
        if not whole:
            out[rows] = target

    def close(self) -> None:
        """Let go of open files. Reading afterwards opens them again."""
        for pixels in self._pixels:
            pixels.close()

    def _check(self, frame: int, setup: int, level: int) -> None:
        if not (0 <= frame < self.n_frames and 0 <= setup < len(self.setups) and 0 <= level < len(self._factors)):
            raise MissingDataError(
                f"Frame {frame}, setup {setup}, level {level} of {self.path} was asked for; it has {self.n_frames} frames, "
                f"{len(self.setups)} setups and {len(self._factors)} levels, all counted from 0."
            )


def open_file(path: Path, *, hints: Hints, unmarked: str = "") -> TiffImage:
    """Open one TIFF file (or one OME-TIFF of several files).

    Args:
        path: The file.
        hints: What the user knows.
        unmarked: The axis that pages count where the file does not say it; empty where that is an error.

    Raises:
        MissingDataError: There is no such file, or one that its OME-XML names is not there.
        FormatError: It is damaged, or neither the file nor the hints say what its axes are.
        UnsupportedError: It is the TIFF of a microscope's or scanner's own kind, or holds several images.
    """
    skeleton = read_skeleton(path)
    pixels = TiffPixels(path)
    try:
        kind = pixels.kind(skeleton.pages[0])
        name, said, planes = _said(path, skeleton, kind.samples, trust=hints.axes is None)
        size = (kind.rows, kind.columns)
        letters = letters_of(path, said, size, hint=hints.axes, unmarked=unmarked, colours=kind.samples > 1)
        sizes = tuple(n for _, n in said.axes)
        page = in_order(planes.page if planes else np.arange(math.prod(sizes)).reshape(sizes), letters)
        file = in_order(planes.file, letters) if planes else np.zeros_like(page)
        _check_ends(pixels, skeleton, page, said.block)
        n_planes = page.shape[2]
        content = Content(
            format=name,
            letters="".join(letter for letter, n in zip(letters, sizes, strict=True) if n > 1) + "YX",
            files=planes.files if planes else (path,),
            file=file,
            page=page,
            block=said.block,
            samples=kind.samples,
            dtype=kind.dtype,
            shapes=((n_planes, *size), *_smaller(skeleton, n_planes)),
            calibration=calibration(path, said, hints, n_planes=n_planes),
            names=_names(said, page.shape[1], kind.samples),
            signed=said.signed,
            unread=said.unread,
        )
    finally:
        pixels.close()
    for sentence in said.unread:
        log.info("%s: %s", path.name, sentence)
    _tell_missing(path, page)
    return TiffImage(path, content)


def _said(path: Path, skeleton: Skeleton, samples: int, *, trust: bool) -> tuple[str, Said, OmePlanes | None]:
    """Return the kind of TIFF, what it says, and for OME-TIFF where the planes lie."""
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            description = page.description
            other = next((name for name in OTHERS if getattr(page, f"is_{name}", False)), None)
            header = file.imagej_metadata if page.is_imagej else None
            shaped = shaped_header(page)
    except LIBRARY_ERRORS as error:
        raise damaged(path, f"its header makes no sense ({error})") from error
    if other is not None:
        raise UnsupportedError(
            f"Opening {path} failed: it is a TIFF of the kind '{other}', whose metadata are not read here. Save it as OME-TIFF in "
            "Fiji with Bio-Formats, so that axes and calibration are kept."
        )
    if is_ome(description):
        said, planes = ome_said(path, skeleton, description, samples)
        return "OME-TIFF", said, planes
    if header is not None:
        return "ImageJ TIFF", imagej_said(path, skeleton, page, header, trust=trust), None
    if shaped is not None:
        return "TIFF", shaped_said(path, skeleton, page, shaped), None
    return "TIFF", plain_said(path, skeleton, page), None


def _check_ends(pixels: TiffPixels, skeleton: Skeleton, page: I64, block: bool) -> None:
    """See that the first and the last page are whole, so that a file that is cut off is told when it is opened."""
    if block:
        pixels.check(skeleton.pages[0], page.size)
        return
    for number in (0, len(skeleton.pages) - 1):
        pixels.check(skeleton.pages[number])


def _same_kind(pixels: TiffPixels, pages: list[Page], level: int, content: Content) -> None:
    """See that pages are as the first one: a TIFF may hold pages of all sizes."""
    for page in {page.profile: page for page in pages}.values():
        kind = pixels.kind(page)
        if (
            (kind.rows, kind.columns) != content.shapes[level][1:]
            or kind.dtype != content.dtype
            or page.profile != pages[0].profile
        ):
            raise FormatError(
                f"Reading {pixels.path} failed: the page at byte {page.offset} is {kind.rows} x {kind.columns} {kind.dtype}, expected "
                f"{content.shapes[level][1]} x {content.shapes[level][2]} {content.dtype}, stored as the others are."
            )


def _smaller(skeleton: Skeleton, n_planes: int) -> tuple[Shape, ...]:
    """Return the shapes of the smaller levels that all pages have."""
    first = skeleton.smaller[0]
    if any(len(found) != len(first) for found in skeleton.smaller):
        return ()
    return tuple((n_planes, *skeleton.size_of(page)) for page in first)


def _factors(full: Shape, level: Shape) -> Vector:
    """Return how many voxels (z, y, x) one of a level stands for; a whole number where a border was cut or filled up."""
    factors = [1.0, 1.0, 1.0]
    for axis, (large, small) in enumerate(zip(full, level, strict=True)):
        whole = max(1, round(large / small))
        factors[axis] = float(whole) if small in (large // whole, -(-large // whole)) else large / small
    return (factors[0], factors[1], factors[2])


def _names(said: Said, n_channels: int, samples: int) -> tuple[str, ...]:
    """Return a name for each channel, and for each colour of it."""
    names = said.channels if len(said.channels) == n_channels else ("",) * n_channels
    if samples > 1:
        colours = COLOURS[:samples] if samples <= len(COLOURS) else tuple(f"sample {i + 1}" for i in range(samples))
        start = [f"{name or f'channel {i + 1}'} " if n_channels > 1 else "" for i, name in enumerate(names)]
        return tuple(f"{name}{colour}" for name in start for colour in colours)
    return tuple(name or (f"channel {i + 1}" if n_channels > 1 else "") for i, name in enumerate(names))


def _tell_missing(path: Path, page: I64) -> None:
    gaps = (page < 0).any(axis=2) & (page >= 0).any(axis=2)
    if gaps.any():
        frame, channel = (int(n) for n in np.argwhere(gaps)[0])
        log.warning(
            "%s: %d views lack some of their planes and count as missing, the first is frame %d, channel %d.",
            path.name, int(gaps.sum()), frame, channel,
        )  # fmt: skip


def bounded(region: Region | None, shape: Shape) -> Region:
    """Cut a region to the array as numpy would.

    Raises:
        FormatError: A slice goes backwards.
    """
    parts = [part.indices(size) for part, size in zip(region or (slice(None),) * 3, shape, strict=True)]
    if any(step < 1 for _, _, step in parts):
        raise FormatError(
            f"The region {region} was asked for; its slices must go forwards. Read it forwards and flip the array."
        )
    z, y, x = (slice(start, max(start, stop), step) for start, stop, step in parts)
    return (z, y, x)


def allocated(shape: tuple[int, ...], dtype: np.dtype[Any], path: Path | None) -> Array:
    """Return an array to read into.

    Raises:
        FormatError: There is no memory for it.
    """
    try:
        return np.empty(shape, dtype=dtype)
    except (MemoryError, ValueError):
        raise FormatError(
            f"Reading {path} failed: {' x '.join(map(str, shape))} pixels of type {dtype} do not fit the memory. Read a region."
        ) from None
