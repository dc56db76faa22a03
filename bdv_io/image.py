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

__all__ = ["ArrayImage", "ImageSeries", "Setup", "as_dask"]


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
    """A movie in memory, for scripts, notebooks and tests.

    Args:
        frames: (T, Z, Y, X) array, or a sequence of (Z, Y, X) arrays.
        voxel_size: Edge lengths (z, y, x) of a voxel.
        unit: Unit of length.
        interval: Time between frames and its unit.
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
    ) -> None:
        if not len(frames) or any(np.ndim(frame) != 3 for frame in frames):
            shape = np.shape(frames[0]) if len(frames) else ()
            raise FormatError(
                f"A movie in memory needs (Z, Y, X) frames, at least one; found {len(frames)} of shape {shape}."
            )
        self._frames = frames
        self.interval = interval
        self.n_frames = len(frames)
        self.timepoints = tuple(range(self.n_frames))
        z, y, x = frames[0].shape
        self.setups = (Setup(0, "", (z, y, x), voxel_size, unit, np.dtype(frames[0].dtype)),)

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
        if not 0 <= frame < self.n_frames or setup != 0 or level != 0:
            raise MissingDataError(
                f"Frame {frame}, setup {setup}, level {level} was asked for; this movie in memory has {self.n_frames} frames, "
                "one setup and one level."
            )
        return np.asarray(self._frames[frame])
