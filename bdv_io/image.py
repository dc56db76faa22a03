"""Images as Howdah sees them: setups, time points, levels, and where a voxel lies in the world.

Arrays of one frame are (Z, Y, X). World coordinates are (z, y, x) in the unit of the image. A 2D image has Z = 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from bdv_io.errors import FormatError, MissingDataError, MissingExtraError

if TYPE_CHECKING:
    import dask.array as da

F64 = npt.NDArray[np.float64]
Array = npt.NDArray[Any]
Region = tuple[slice, slice, slice]
Shape = tuple[int, int, int]
Vector = tuple[float, float, float]
Factors = tuple[int, int, int]

__all__ = ["ArrayImage", "Hints", "ImageSeries", "Setup", "WriteOptions", "as_dask"]


LEAST = 1e-30  # of a voxel size or interval; its inverse is the most
LONGEST_UNIT = 64


@dataclass(frozen=True)
class Hints:
    """What a user knows about a file that does not say it itself, or says it ambiguously. Nothing is guessed silently.

    A reader takes a hint where the file is silent. Where the file says something else, the hint wins, and the reader
    says so in a log line.

    Attributes:
        axes: Meaning of the axes of the stored array, slowest first, of the letters T, C, Z, Y, X: ``"TZYX"``.
        voxel_size: Edge lengths (z, y, x) of a voxel in ``unit``; z counts for nothing in 2D.
        unit: Unit of length, for example ``"µm"``.
        interval: Time between frames and its unit, for example ``(30.0, "s")``.
    """

    axes: str | None = None
    voxel_size: Vector | None = None
    unit: str | None = None
    interval: tuple[float, str] | None = None

    def __post_init__(self) -> None:
        if self.axes is not None:
            letters = self.axes.upper()
            if not letters or set(letters) - set("TCZYX") or len(set(letters)) != len(letters) or "YX" not in letters:
                raise FormatError(
                    f"The axes '{self.axes[:LONGEST_UNIT]}' were given; expected the letters T, C, Z, Y, X at most once each, slowest "
                    "first, with Y before X, for example TZYX."
                )
            object.__setattr__(self, "axes", letters)
        for what, size in (
            *(("voxel size", v) for v in self.voxel_size or ()),
            ("interval", (self.interval or (1.0,))[0]),
        ):
            if not LEAST < size < 1 / LEAST:
                raise FormatError(f"The {what} {size:g} was given; it must be a positive number. Check the option.")
        for what, text in (("unit", self.unit), ("unit of the interval", self.interval[1] if self.interval else None)):
            if text is not None and not (text.strip() and text.isprintable() and len(text) <= LONGEST_UNIT):
                raise FormatError(
                    f"The {what} {text[:LONGEST_UNIT]!r} was given; expected a short name such as µm or s."
                )

    @property
    def given(self) -> tuple[str, ...]:
        """Names of the hints that are given."""
        return tuple(name for name, value in vars(self).items() if value is not None)


@dataclass(frozen=True)
class WriteOptions:
    """How an image is written. A format ignores what it has no use for.

    Attributes:
        levels: Whole downsampling factors (z, y, x) a level, the first (1, 1, 1); None for what the format proposes.
        chunks: Chunk (z, y, x) of every level; None for what the format proposes.
        compression: Level 0 to 9, None for uncompressed.
        workers: Threads that compress; None for one a core.
    """

    levels: Sequence[Factors] | None = None
    chunks: Shape | None = None
    compression: int | None = 4
    workers: int | None = None


@dataclass(frozen=True)
class Setup:
    """One view setup: a channel seen from an angle under an illumination.

    Attributes:
        id: The number that the file gives the setup.
        name: Its name; may be empty.
        shape: Voxels (Z, Y, X) at level 0.
        voxel_size: Edge lengths (z, y, x) of a voxel at level 0 in ``unit``.
        unit: Unit of length as the file spells it.
        dtype: Type of the voxels as they are meant (unsigned 16-bit for BigDataViewer's signed storage).
        levels: Downsampling factors (z, y, x) of each mipmap level, level 0 first.
        attributes: Name of attribute -> (id, text), for example ``{"channel": (0, "DAPI")}``.
    """

    id: int
    name: str
    shape: Shape
    voxel_size: Vector
    unit: str
    dtype: np.dtype[Any]
    levels: tuple[Vector, ...] = ((1.0, 1.0, 1.0),)
    attributes: Mapping[str, tuple[int, str]] = field(default_factory=dict)


@runtime_checkable
class ImageSeries(Protocol):
    """A movie: what every image reader of :mod:`bdv_io` offers. Frames are counted from 0 (the index, not the name)."""

    @property
    def path(self) -> Path | None:
        """The file that was opened, or None for an image in memory."""

    @property
    def format(self) -> str:
        """Name of the format, for example ``"BigDataViewer XML/HDF5"``."""

    @property
    def setups(self) -> tuple[Setup, ...]:
        """All view setups, in the order of the file; other methods name them by position in this tuple."""

    @property
    def n_frames(self) -> int:
        """Number of time points."""

    @property
    def timepoints(self) -> tuple[int, ...]:
        """The number that the file gives each frame."""

    @property
    def interval(self) -> tuple[float, str] | None:
        """Time between frames and its unit, or None if the file does not say."""

    def is_missing(self, frame: int, setup: int = 0) -> bool:
        """Whether the file declares this view missing."""

    def shape(self, frame: int, setup: int = 0, level: int = 0) -> Shape:
        """Voxels (Z, Y, X) of a view at a level."""

    def affine(self, frame: int, setup: int = 0, level: int = 0) -> F64:
        """4x4 matrix that takes voxel indices (z, y, x, 1) of a level to world coordinates (z, y, x, 1)."""

    def read(self, frame: int, setup: int = 0, level: int = 0, *, region: Region | None = None) -> Array:
        """Read a view, or a region (three slices z, y, x) of it, as a (Z, Y, X) array in native byte order."""

    def close(self) -> None:
        """Let go of open files. Reading afterwards opens them again."""


def as_dask(image: ImageSeries, setup: int = 0, level: int = 0) -> da.Array:
    """Return a lazy (T, Z, Y, X) dask array of one setup, one chunk a frame; missing views are zeros.

    Raises:
        MissingExtraError: dask is not installed.
        FormatError: Frames differ in shape.
    """
    try:
        import dask
        import dask.array as da
    except ImportError as error:
        message = "A dask array was asked for, but dask is not installed. Install it with: pip install 'howdah[scale]'"
        raise MissingExtraError(message) from error
    shape = image.shape(0, setup, level)
    dtype = image.setups[setup].dtype
    frames = []
    for frame in range(image.n_frames):
        if image.is_missing(frame, setup):
            frames.append(da.zeros(shape, dtype=dtype, chunks=shape))
            continue
        found = image.shape(frame, setup, level)
        if found != shape:
            raise FormatError(
                f"Stacking the frames of {image.path} failed: frame {frame} has {found} voxels, frame 0 has {shape}. "
                "Read the frames one by one instead."
            )
        block = dask.delayed(image.read)(frame, setup, level)  # type: ignore[attr-defined]
        frames.append(da.from_delayed(block, shape=shape, dtype=dtype))  # type: ignore[no-untyped-call]
    stacked: da.Array = da.stack(frames)  # type: ignore[no-untyped-call]
    return stacked


class ArrayImage:
    """A movie in memory, or one whose frames a sequence hands out, for scripts, notebooks and tests.

    Args:
        frames: (T, Z, Y, X) or (T, C, Z, Y, X) array, or a sequence of (Z, Y, X) or (C, Z, Y, X) arrays.
        voxel_size: Edge lengths (z, y, x) of a voxel.
        unit: Unit of length.
        interval: Time between frames and its unit.
        channels: Names of the channels.
        display_range: What is shown black and white, the same in all channels, where brightness is compared across them; None for
            what the pixels of each channel suggest.
    """

    format = "array in memory"
    path: Path | None = None

    def __init__(
        self,
        frames: Array | Sequence[Array],
        *,
        voxel_size: Vector = (1.0, 1.0, 1.0),
        unit: str = "pixel",
        interval: tuple[float, str] | None = None,
        channels: Sequence[str] | None = None,
        display_range: tuple[float, float] | None = None,
    ) -> None:
        first = np.asarray(frames[0]) if len(frames) else np.empty(0)
        if first.ndim not in (3, 4) or (
            isinstance(frames, list | tuple) and any(np.ndim(f) != first.ndim for f in frames)
        ):
            raise FormatError(
                "A movie in memory needs (Z, Y, X) or (C, Z, Y, X) frames, at least one; found "
                f"{len(frames)} of shape {first.shape}."
            )
        self._frames = frames
        self._has_channels = first.ndim == 4
        self.interval = interval
        self.display_range = display_range
        self.n_frames = len(frames)
        self.timepoints = tuple(range(self.n_frames))
        shape = tuple(first.shape)
        z, y, x = shape[-3:]
        count = len(first) if self._has_channels else 1
        if channels is not None and len(channels) != count:
            raise FormatError(f"A movie in memory has {count} channels, but {len(channels)} names were given.")
        names = (
            list(channels)
            if channels is not None
            else [f"channel {i + 1}" for i in range(count)]
            if count > 1
            else [""]
        )
        self.setups = tuple(
            Setup(
                i,
                name,
                (z, y, x),
                voxel_size,
                unit,
                first.dtype,
                attributes={"channel": (i, name)} if count > 1 else {},
            )
            for i, name in enumerate(names)
        )

    def is_missing(self, frame: int, setup: int = 0) -> bool:
        """Return False: nothing is missing in memory."""
        return False

    def shape(self, frame: int, setup: int = 0, level: int = 0) -> Shape:
        """Voxels (Z, Y, X) of a frame."""
        z, y, x = self._frame(frame, setup, level).shape
        return (z, y, x)

    def affine(self, frame: int, setup: int = 0, level: int = 0) -> F64:
        """4x4 matrix from voxel indices to world coordinates: a scaling by the voxel size."""
        return np.diag([*self.setups[0].voxel_size, 1.0])

    def read(self, frame: int, setup: int = 0, level: int = 0, *, region: Region | None = None) -> Array:
        """Return a frame, or a region of it, as a (Z, Y, X) array."""
        array = self._frame(frame, setup, level)
        return array if region is None else array[region]

    def close(self) -> None:
        """Do nothing: there is no file."""

    def _frame(self, frame: int, setup: int, level: int) -> Array:
        if not 0 <= frame < self.n_frames or not 0 <= setup < len(self.setups) or level != 0:
            raise MissingDataError(
                f"Frame {frame}, setup {setup}, level {level} was asked for; this movie in memory has {self.n_frames} frames, "
                f"{len(self.setups)} setups and one level."
            )
        array = np.asarray(self._frames[frame])
        return array[setup] if self._has_channels else array
