"""Writing BigDataViewer XML/HDF5 movies, frame by frame, with a mipmap pyramid."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import h5py
import numpy as np

from bdv_io.bdv.hdf5_views import SetupPlan, ViewWriter, check_options, new_hdf5, plan_setup
from bdv_io.bdv.xml import FileRef, ImageLoader, SpimData, ViewSetup, ViewTransform
from bdv_io.bdv.xml_write import bdv_xml_bytes
from bdv_io.errors import FormatError
from bdv_io.image import Array, Factors, Shape, Vector, WriteOptions
from bdv_io.safe_write import replacing_together

__all__ = ["write_bdv"]

Frame: TypeAlias = "Array | Sequence[Array | None] | None"


def write_bdv(
    path: str | os.PathLike[str],
    frames: Iterable[Frame],
    *,
    voxel_size: Vector = (1.0, 1.0, 1.0),
    unit: str = "pixel",
    channels: Sequence[str] | None = None,
    levels: Sequence[Factors] | None = None,
    chunks: Shape | None = None,
    compression: int | None = 4,
) -> None:
    """Write a movie as ``NAME.xml`` and ``NAME.h5``; what stood there before is kept as ``name~1~``.

    Frames are taken one at a time; memory stays below two frames. Both files are
    put in place together when all is written.

    Type of voxels: unsigned 16-bit is stored as the same bits signed and *without* the ``dataType`` attribute, the
    legacy layout. It is the only one that every BigDataViewer reads with values above 32767: old versions know no
    attribute and fail on unsigned storage. All other types are stored as they are, with the attribute; they need
    BigDataViewer 10.6 or later.

    Args:
        path: The XML to write; the HDF5 file gets the same name with ``.h5``.
        frames: For each time point a (Z, Y, X) array, or a (C, Z, Y, X) array or sequence of C arrays for several
            channels; None for a missing time point, or for one channel missing in it.
        voxel_size: Edge lengths (z, y, x) of a voxel in ``unit``; it becomes the registration of every view.
        unit: Unit of length, for example ``"µm"``.
        channels: Names of the channels; default ``channel 1`` and so on.
        levels: Whole downsampling factors (z, y, x) a level, the first (1, 1, 1); default :func:`propose_levels`.
        chunks: Chunk (z, y, x) of every level; default about 64 KiB, flat for anisotropic voxels.
        compression: Level 0 to 9 of gzip, None for uncompressed.

    Raises:
        FormatError: No frame, or a frame differs in shape, type or channels from the first, or an option is impossible.
        UnsupportedError: BigDataViewer knows no such type of voxels.
        WriteError: The disk is full, or the folder is missing or may not be written to; the old files are intact.
        BusyError: Another Howdah is writing the same movie.
    """
    target = Path(path)
    hdf5 = target.with_suffix(".h5")
    if target.suffix.lower() != ".xml":
        raise FormatError(
            f"Writing a BigDataViewer movie to {target} failed: name the XML file; the name must end in .xml."
        )
    options = WriteOptions(levels=levels, chunks=chunks, compression=compression)
    check_options(target, voxel_size, options)
    movie = _Movie(target, voxel_size, options)
    with replacing_together([hdf5, target], verify=lambda there: movie.verify(there[0])) as (pixels, xml):
        with new_hdf5(pixels) as file:
            for number, frame in enumerate(frames):
                movie.write(file, number, frame)
            movie.finish()
        xml.write_bytes(bdv_xml_bytes(movie.spim(hdf5.name, unit, channels)))


@dataclass
class _Movie:
    """What is known of the movie while its frames come in; the first array fixes shape and type."""

    target: Path
    voxel_size: Vector
    options: WriteOptions
    plan: SetupPlan | None = None
    views: ViewWriter | None = None
    n_channels: int | None = None
    n_frames: int = 0

    def __post_init__(self) -> None:
        self.missing: set[tuple[int, int]] = set()

    def write(self, file: h5py.File, number: int, frame: Frame) -> None:
        """Write one time point."""
        self.n_frames = number + 1
        if frame is None:
            self.missing.add((number, -1))
            return
        rank = getattr(frame, "ndim", None)
        if rank not in (None, 3, 4):
            raise self._differs(number, f"an array with {rank} axes", "(Z, Y, X) or (C, Z, Y, X), with Z = 1 for 2D")
        views = [frame] if rank == 3 else list(frame)
        if self.n_channels is None:
            self.n_channels = len(views)
        if len(views) != self.n_channels:
            raise self._differs(number, f"{len(views)} channels", f"{self.n_channels}")
        for setup, view in enumerate(views):
            if view is None:
                self.missing.add((number, setup))
                continue
            array = np.asarray(view)
            plan, writer = self._checked(file, number, array)
            writer.write(number, setup, plan, slabs=[(0, array)])

    def _checked(self, file: h5py.File, number: int, array: Array) -> tuple[SetupPlan, ViewWriter]:
        if array.ndim != 3 or 0 in array.shape:
            raise self._differs(
                number, f"an array of shape {array.shape}", "(Z, Y, X) with Z = 1 for 2D, none of them 0"
            )
        z, y, x = array.shape
        if self.plan is None or self.views is None:
            self.plan = plan_setup(
                self.target, (z, y, x), array.dtype, voxel_size=self.voxel_size, options=self.options
            )
            self.views = ViewWriter(file, self.options.compression)
            for setup in range(self.n_channels or 0):
                self.views.start(setup, self.plan)
        plan = self.plan
        if (z, y, x) != plan.shape or array.dtype.newbyteorder("=") != plan.dtype:
            raise self._differs(
                number, f"{array.shape} voxels of type {array.dtype}", f"{plan.shape} of type {plan.dtype}"
            )
        return plan, self.views

    def finish(self) -> None:
        """Check that there was something to write."""
        if self.plan is None:
            raise FormatError(
                f"Writing {self.target} failed: {self.n_frames} frames came, none with pixels. Give at least one."
            )

    def verify(self, hdf5: Path) -> None:
        """Read back that all is in the file."""
        if self.views is not None:
            self.views.verify(hdf5)

    def _is_missing(self, number: int, setup: int) -> bool:
        return (number, setup) in self.missing or (number, -1) in self.missing

    def spim(self, hdf5: str, unit: str, channels: Sequence[str] | None) -> SpimData:
        """Describe what was written."""
        setups = range(self.n_channels or 0)
        names = [f"channel {setup + 1}" for setup in setups] if channels is None else list(channels)
        if len(names) != len(setups):
            raise FormatError(f"Writing {self.target} failed: {len(names)} channel names for {len(setups)} channels.")
        short = [str(setup + 1) for setup in setups] if channels is None else names
        place = (ViewTransform(np.diag([*self.voxel_size, 1.0]), "calibration"),)
        views = [(number, setup) for number in range(self.n_frames) for setup in setups]
        return SpimData(
            path=self.target,
            base_path=self.target.absolute().parent,
            loader=ImageLoader("bdv.hdf5", FileRef(hdf5)),
            setups=tuple(
                ViewSetup(
                    setup,
                    names[setup],
                    self.plan.shape if self.plan else None,
                    self.voxel_size,
                    unit,
                    {"channel": (setup + 1, short[setup])},
                )
                for setup in setups
            ),
            timepoints=tuple(range(self.n_frames)),
            missing=frozenset(view for view in views if self._is_missing(*view)),
            registrations=dict.fromkeys(views, place),
        )

    def _differs(self, number: int, found: str, expected: str) -> FormatError:
        return FormatError(
            f"Writing frame {number} of {self.target} failed: it is {found}, expected {expected}. Nothing was written."
        )
