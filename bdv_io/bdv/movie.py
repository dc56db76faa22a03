"""BigDataViewer movies: all setups, time points, mipmap levels, registrations and missing views, wherever the pixels lie.

Everything that the XML says is the same for HDF5, N5 and OME-Zarr and lives in :class:`BdvMovie`; the pixels come from a
:class:`PixelStore` behind it. Open a movie with :func:`bdv_io.bdv.open_bdv`.
"""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bdv_io._region import bounded, check_memory
from bdv_io.bdv.xml import SpimData
from bdv_io.errors import FormatError, MissingDataError
from bdv_io.image import F64, Array, Region, Setup, Shape, Vector

__all__ = ["BdvMovie", "PixelStore", "PixelView"]

log = logging.getLogger(__name__)

FLATTEST, LARGEST = 1e-9, 1e12  # of a registration: volume of a unit cube of its edges, edge of a voxel


class PixelView(Protocol):
    """The pixels of one view at one level."""

    @property
    def shape(self) -> Shape:
        """Voxels (Z, Y, X)."""

    @property
    def meant(self) -> np.dtype[Any]:
        """Type of the voxels as they come out, in native byte order."""

    def read(self, where: Region | tuple[()]) -> Array:
        """Return a part of the view, () for all of it. Slices go forwards and end within the view."""


class PixelStore(Protocol):
    """Where the pixels of a BigDataViewer dataset are. Views are named by the XML's numbers of time point and setup.

    A store opens on first use, again after :meth:`close`, a fork and pickling, and may be read from several threads.
    """

    format: str

    @property
    def master(self) -> Path:
        """The file or folder that the XML names."""

    @property
    def interval(self) -> tuple[float, str] | None:
        """Time between frames and its unit, where the pixels' file knows it."""

    def open(self) -> object:
        """Open it, so that an error comes now."""

    def close(self) -> None:
        """Let go of open files."""

    def levels(self, setup: int) -> tuple[Vector, ...]:
        """Downsampling factors (z, y, x) of each level of a setup."""

    def missing_dtype(self, setup: int) -> np.dtype[Any]:
        """Type of the voxels of a setup none of whose views is there, as far as the file says it."""

    def has(self, timepoint: int, setup: int) -> bool:
        """Whether a view is there."""

    def view(self, timepoint: int, setup: int, level: int) -> PixelView:
        """Open the pixels of a view at a level."""


class BdvMovie:
    """A BigDataViewer movie; implements :class:`bdv_io.image.ImageSeries`. Open one with :func:`bdv_io.bdv.open_bdv`.

    It may be read from several threads (the HDF5 library lets one in at a time), pickled, and used after a fork.

    Args:
        spim: The dataset as its XML describes it.
        path: The file that was asked for.
        store: The pixels.
    """

    def __init__(self, spim: SpimData, path: Path, store: PixelStore) -> None:
        self.path: Path | None = path
        self.spim = spim
        self._store = store
        self._levels: dict[int, tuple[Vector, ...]] = {}
        self._dtypes: dict[int, np.dtype[Any]] = {}

    @property
    def format(self) -> str:
        """Name of the format, with the kind of file that holds the pixels."""
        return self._store.format

    @property
    def pixel_path(self) -> Path:
        """The file or folder that the XML names."""
        return self._store.master

    @property
    def interval(self) -> tuple[float, str] | None:
        """Time between frames and its unit: from the XML where Howdah wrote it (BigDataViewer's own has no place), or from the pixels."""
        return self.spim.interval or self._store.interval

    @property
    def timepoints(self) -> tuple[int, ...]:
        """The number that the XML gives each frame."""
        return self.spim.timepoints

    @property
    def n_frames(self) -> int:
        """Number of time points."""
        return len(self.spim.timepoints)

    @cached_property
    def setups(self) -> tuple[Setup, ...]:
        """All view setups, in the order of the XML.

        ``shape`` and ``dtype`` are those of the first view that is there: where the XML's size disagrees, the pixels
        are right. Without ``voxelSize`` in the XML the voxel size is that of the first registration.
        """
        return tuple(self._setup(index) for index in range(len(self.spim.setups)))

    def check(self) -> None:
        """Open the file of the pixels. Raises what :func:`bdv_io.bdv.open_bdv` lists."""
        self._store.open()

    def is_missing(self, frame: int, setup: int = 0) -> bool:
        """Whether a view is declared missing in the XML, or simply not in the file of the pixels."""
        timepoint, number = self._view(frame, setup)
        return (timepoint, number) in self.spim.missing or not self._store.has(timepoint, number)

    def shape(self, frame: int, setup: int = 0, level: int = 0) -> Shape:
        """Voxels (Z, Y, X) of a view at a level; for a missing view those of the first one that is there."""
        timepoint, number = self._view(frame, setup)
        self._factors(setup, level)
        if self.is_missing(frame, setup):
            other = self._first_frame(setup)
            if other is None:
                factors = self._factors(setup, level)
                z, y, x = (max(1, int(n // f)) for n, f in zip(self.setups[setup].shape, factors, strict=True))
                return (z, y, x)
            timepoint = self.timepoints[other]
        return self._store.view(timepoint, number, level).shape

    def affine(self, frame: int, setup: int = 0, level: int = 0) -> F64:
        """4x4 matrix that takes voxel indices (z, y, x, 1) of a level to world coordinates (z, y, x, 1).

        It is the registration after the mipmap transform: scale r, shift (r - 1) / 2.

        Raises:
            FormatError: The registration cannot be inverted.
        """
        timepoint, number = self._view(frame, setup)
        factors = np.asarray(self._factors(setup, level))
        mipmap = np.diag([*factors, 1.0])
        mipmap[:3, 3] = (factors - 1) / 2
        with np.errstate(over="ignore", invalid="ignore"):
            model: F64 = self.spim.model(timepoint, number) @ mipmap
            edges = np.linalg.norm(model[:3, :3], axis=0)
            flat = not np.isfinite(model).all() or abs(np.linalg.det(model[:3, :3])) < FLATTEST * edges.prod()
        if flat or not 0 < edges.min() <= edges.max() < LARGEST:
            numbers = [[float(f"{number:.6g}") for number in row] for row in model[:3].tolist()]
            raise FormatError(
                f"Placing frame {frame} of {self.path} in the world failed: its registration is {numbers} "
                "(z, y, x), which flattens the image or is beyond all measure. Mend the ViewRegistration in the XML."
            )
        return model

    def read(self, frame: int, setup: int = 0, level: int = 0, *, region: Region | None = None) -> Array:
        """Read a view, or a region (three slices z, y, x) of it, as a (Z, Y, X) array in native byte order.

        Raises:
            MissingDataError: No such frame, setup or level, or the view is missing.
            FormatError: The pixels are damaged, or a slice of the region goes backwards.
            UnsupportedError: They are compressed in a way that is not installed.
        """
        timepoint, number = self._view(frame, setup)
        if level:  # level 0 is there without looking
            self._factors(setup, level)
        if (timepoint, number) in self.spim.missing:
            raise MissingDataError(
                f"Reading frame {frame} (time point {timepoint}), setup {setup} of {self.path} failed: the XML declares this "
                "view missing. Ask is_missing() first, and leave it out."
            )
        view = self._store.view(timepoint, number, level)
        part = None if region is None else bounded(region, view.shape)
        if view.meant != self._dtype(setup):
            raise FormatError(
                f"Reading frame {frame}, setup {setup} of {self.path} failed: its voxels are {view.meant}, those of the first frame "
                f"{self._dtype(setup)}. The file is damaged, or put together from several; export it again."
            )
        span = view.shape if part is None else [p.stop - p.start for p in part]
        check_memory(span, view.meant, f"frame {frame}, setup {setup} of {self.path}")
        return view.read(() if part is None else part)

    def close(self) -> None:
        """Let go of open files. Reading afterwards opens them again."""
        self._store.close()

    def _setup(self, index: int) -> Setup:
        declared = self.spim.setups[index]
        levels = self._levels_of(declared.id)
        first = self._first_frame(index)
        if first is not None:
            view = self._store.view(self.timepoints[first], declared.id, 0)
            shape, dtype = view.shape, view.meant
        else:
            shape = declared.size or (0, 0, 0)
            dtype = self._store.missing_dtype(declared.id)
        voxel_size = declared.voxel_size
        if voxel_size is not None and not all(0 < edge < LARGEST for edge in voxel_size):
            log.warning(
                "%s: the voxel size %s of setup %d is no size; that of its registration is taken.",
                self.path,
                voxel_size,
                declared.id,
            )
            voxel_size = None
        voxel_size = voxel_size or self._registered_voxel_size(declared.id)
        return Setup(declared.id, declared.name, shape, voxel_size, declared.unit, dtype, levels, declared.attributes)

    def _registered_voxel_size(self, number: int) -> Vector:
        for timepoint in self.timepoints:
            if (timepoint, number) in self.spim.registrations:
                with np.errstate(over="ignore", invalid="ignore"):
                    z, y, x = np.linalg.norm(self.spim.model(timepoint, number)[:3, :3], axis=0).tolist()
                return (z, y, x) if all(0 < edge < LARGEST for edge in (z, y, x)) else (1.0, 1.0, 1.0)
        return (1.0, 1.0, 1.0)

    def _dtype(self, setup: int) -> np.dtype[Any]:
        """Type of the voxels of all frames of a setup."""
        if setup not in self._dtypes:
            self._dtypes[setup] = self._setup(setup).dtype
        return self._dtypes[setup]

    def _first_frame(self, setup: int) -> int | None:
        return next((frame for frame in range(self.n_frames) if not self.is_missing(frame, setup)), None)

    def _levels_of(self, number: int) -> tuple[Vector, ...]:
        if number not in self._levels:
            self._levels[number] = self._store.levels(number)
        return self._levels[number]

    def _view(self, frame: int, setup: int) -> tuple[int, int]:
        """Turn a frame and a position among the setups into the numbers of the file."""
        if not 0 <= frame < self.n_frames or not 0 <= setup < len(self.spim.setups):
            raise MissingDataError(
                f"Frame {frame}, setup {setup} of {self.path} was asked for; it has {self.n_frames} frames and "
                f"{len(self.spim.setups)} setups, both counted from 0."
            )
        return self.timepoints[frame], self.spim.setups[setup].id

    def _factors(self, setup: int, level: int) -> Vector:
        levels = self._levels_of(self.spim.setups[setup].id)
        if not 0 <= level < len(levels):
            raise MissingDataError(
                f"Level {level} of setup {setup} of {self.path} was asked for; it has {len(levels)} levels, counted from 0."
            )
        return levels[level]
