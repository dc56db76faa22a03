"""BigDataViewer XML/HDF5 movies: all setups, time points, mipmap levels, registrations, missing views and partitions.

    movie = open_bdv("dataset.xml")
    frame = movie.read(0)                      # (Z, Y, X), level 0 of the first setup
    movie.read(3, setup=1, level=2, region=(slice(0, 8), slice(0, 64), slice(0, 64)))

Pixels come out as BigDataViewer shows them (:func:`bdv_io.bdv.hdf5_store.meant_dtype` has the rules), and only the
chunks that a region touches are read. :func:`bdv_io.bdv.hdf5_write.write_bdv` writes such movies.
"""

from __future__ import annotations

import os
import re
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np

from bdv_io.bdv.hdf5_store import Hdf5Store, meant_dtype, open_hdf5
from bdv_io.bdv.hdf5_write import write_bdv
from bdv_io.bdv.xml import FileRef, ImageLoader, SpimData, ViewSetup, ViewTransform, is_spimdata, read_bdv_xml
from bdv_io.errors import FormatError, MissingDataError, UnsupportedError
from bdv_io.image import F64, Array, Region, Setup, Shape, Vector

__all__ = ["BdvHdf5", "is_bdv", "open_bdv", "write_bdv"]

FLATTEST, LARGEST = 1e-9, 1e12  # of a registration: volume of a unit cube of its edges, edge of a voxel
HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".he5")


def is_bdv(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a BigDataViewer dataset: XML with SpimData at its root, or any HDF5 file (a damaged one too)."""
    source = Path(path)
    return source.is_file() and (source.suffix.lower() in HDF5_SUFFIXES or is_spimdata(source))


def open_bdv(path: str | os.PathLike[str]) -> BdvHdf5:
    """Open a BigDataViewer movie.

    Args:
        path: The dataset's XML, or its HDF5 file. For an HDF5 file the XML beside it that names it is used; where
            there is none, the HDF5 file is opened alone, with a voxel size of 1 pixel and no registration.

    Raises:
        MissingDataError: The XML, or the HDF5 file that it names, is not there.
        FormatError: One of them is damaged.
        UnsupportedError: The XML keeps its pixels in N5, OME-Zarr or elsewhere, not in HDF5.
        BusyError: Another program holds the HDF5 file open for writing.
    """
    source = Path(path)
    if not source.is_file():
        what = "it is a folder, not a file" if source.is_dir() else "there is no such file"
        raise MissingDataError(f"Opening the BigDataViewer dataset {source} failed: {what}. Name its .xml file.")
    alone = source.suffix.lower() in HDF5_SUFFIXES
    movie = BdvHdf5((_xml_beside(source) or _spim_from_hdf5(source)) if alone else read_bdv_xml(source), source)
    movie.check()
    return movie


class BdvHdf5:
    """A BigDataViewer movie in HDF5; implements :class:`bdv_io.image.ImageSeries`. Open one with :func:`open_bdv`.

    It may be read from several threads (the HDF5 library lets one in at a time), pickled, and used after a fork.

    Args:
        spim: The dataset as its XML describes it.
        path: The file that was asked for.
    """

    format = "BigDataViewer XML/HDF5"

    def __init__(self, spim: SpimData, path: Path) -> None:
        self.path: Path | None = path
        self.spim = spim
        self._store = Hdf5Store(_hdf5_of(spim), spim)
        self._levels: dict[int, tuple[Vector, ...]] = {}

    @property
    def hdf5_path(self) -> Path:
        """The HDF5 file that the XML names."""
        return self._store.master

    @property
    def interval(self) -> tuple[float, str] | None:
        """Time between frames and its unit, where Howdah wrote the XML: BigDataViewer's own has no place for it."""
        return self.spim.interval

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
        """Open the HDF5 file. Raises what :func:`open_bdv` lists."""
        self._store.open()

    def is_missing(self, frame: int, setup: int = 0) -> bool:
        """Whether a view is declared missing in the XML, or simply not in the HDF5 file."""
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
        model: F64 = self.spim.model(timepoint, number) @ mipmap
        edges = np.linalg.norm(model[:3, :3], axis=0)
        flat = not np.isfinite(model).all() or abs(np.linalg.det(model[:3, :3])) < FLATTEST * edges.prod()
        if flat or not 0 < edges.min() <= edges.max() < LARGEST:
            raise FormatError(
                f"Placing frame {frame} of {self.path} in the world failed: its registration is {model[:3].round(6).tolist()} "
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
        return view.read(() if region is None else _bounded(region, view.shape))

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
            dtype = meant_dtype(np.dtype(np.int16), self._store.declared_type(declared.id))
        voxel_size = declared.voxel_size or self._registered_voxel_size(declared.id)
        return Setup(declared.id, declared.name, shape, voxel_size, declared.unit, dtype, levels, declared.attributes)

    def _registered_voxel_size(self, number: int) -> Vector:
        for timepoint in self.timepoints:
            if (timepoint, number) in self.spim.registrations:
                z, y, x = np.linalg.norm(self.spim.model(timepoint, number)[:3, :3], axis=0).tolist()
                return (z, y, x)
        return (1.0, 1.0, 1.0)

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


def _bounded(region: Region, shape: Shape) -> Region:
    """Cut a region to the array as numpy would, since HDF5 is stricter."""
    bounds = [part.indices(size) for part, size in zip(region, shape, strict=True)]
    if any(step < 1 for _, _, step in bounds):
        raise FormatError(
            f"The region {region} was asked for; its slices must go forwards. Read it forwards and flip the array."
        )
    z, y, x = (slice(start, max(start, stop), step) for start, stop, step in bounds)
    return (z, y, x)


def _hdf5_of(spim: SpimData) -> Path:
    """Return the HDF5 file of a dataset, or say why there is none."""
    loader = spim.loader
    advice = (
        "Only HDF5 is read here; in Fiji, Plugins > BigDataViewer > Export Current Image as XML/HDF5 makes such a file."
    )
    if loader.file is None or "://" in loader.file.written:
        where = "names no file" if loader.file is None else f"points to '{loader.file.written}'"
        raise UnsupportedError(f"Opening {spim.path} failed: its image loader '{loader.format}' {where}. {advice}")
    if loader.format == "bdv.hdf5":
        return spim.find(loader.file)
    if loader.format == "bdv.n5.universe":
        found = spim.find(loader.file)
        if found.suffix.lower() in HDF5_SUFFIXES or (found.is_file() and h5py.is_hdf5(found)):
            return found
    raise UnsupportedError(
        f"Opening {spim.path} failed: its image loader is '{loader.format}' on '{loader.file.written}', which is not HDF5. {advice}"
    )


def _xml_beside(hdf5: Path) -> SpimData | None:
    """Return the dataset of the XML in the same folder that names this HDF5 file, the one of the same name first."""
    twin = hdf5.with_suffix(".xml")
    others = sorted(path for path in hdf5.parent.glob("*.xml") if path != twin)
    for path in [twin, *others]:
        if not path.is_file() or not is_spimdata(path):
            continue
        try:
            spim = read_bdv_xml(path)
        except FormatError:
            if path == twin:
                raise  # going on without it would lose the calibration without a word
            continue
        places = spim.places(spim.loader.file) if spim.loader.file is not None else []
        named = next((place for place in places if os.path.exists(place)), None)
        if named is not None and os.path.samefile(named, hdf5):
            return spim
    return None


def _spim_from_hdf5(hdf5: Path) -> SpimData:
    """Describe an HDF5 file that has no XML: voxels of one pixel, no registration."""
    with open_hdf5(hdf5) as file:
        names = list(file)
        setups = sorted(int(name[1:]) for name in names if re.fullmatch(r"s\d{2,5}", name))
        timepoints = sorted(int(name[1:]) for name in names if re.fullmatch(r"t\d{5,8}", name))
    if not setups or not timepoints:
        raise FormatError(
            f"Opening {hdf5} as a BigDataViewer dataset failed: it has the groups {names[:8]}, expected s00 ... and t00000 .... "
            "It is HDF5 of another program."
        )
    identity = (ViewTransform(np.eye(4)),)
    return SpimData(
        path=hdf5,
        base_path=hdf5.absolute().parent,
        loader=ImageLoader("bdv.hdf5", FileRef(hdf5.name)),
        setups=tuple(ViewSetup(number, voxel_size=(1.0, 1.0, 1.0)) for number in setups),
        timepoints=tuple(timepoints),
        registrations={(timepoint, number): identity for timepoint in timepoints for number in setups},
    )
