"""Opening BigDataViewer movies: which file holds the pixels, and what describes a file without XML.

    movie = open_bdv("dataset.xml")
    frame = movie.read(0)                      # (Z, Y, X), level 0 of the first setup
    movie.read(3, setup=1, level=2, region=(slice(0, 8), slice(0, 64), slice(0, 64)))

Pixels come out as BigDataViewer shows them (:func:`bdv_io.bdv.hdf5_store.meant_dtype` has the rules for HDF5), and only
the chunks that a region touches are read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from bdv_io.bdv.hdf5_store import Hdf5Store, open_hdf5
from bdv_io.bdv.movie import BdvMovie, PixelStore
from bdv_io.bdv.xml import (
    FileRef,
    ImageLoader,
    SpimData,
    ViewSetup,
    ViewTransform,
    ZarrGroup,
    is_spimdata,
    read_bdv_xml,
)
from bdv_io.errors import FormatError, MissingDataError, UnsupportedError
from bdv_io.image import Vector

__all__ = ["is_bdv", "open_bdv"]

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".he5")
ZARR_METADATA = (".zgroup", ".zattrs", "zarr.json")
ZARR_LOADERS = ("bdv.multimg.zarr", "bdv.ome.zarr")


def is_bdv(path: str | os.PathLike[str]) -> bool:
    """Whether this is a BigDataViewer dataset: XML with SpimData at its root, any HDF5 file (a damaged one too), an N5 folder."""
    source = Path(path)
    if source.is_dir():
        return _is_n5(source) and bool(_spim_views(source))
    return source.is_file() and (source.suffix.lower() in HDF5_SUFFIXES or is_spimdata(source))


def open_bdv(path: str | os.PathLike[str]) -> BdvMovie:
    """Open a BigDataViewer movie.

    Args:
        path: The dataset's XML, or its HDF5 file or N5 folder. For these the XML beside it that names it is used; where
            there is none, it is opened alone: HDF5 with voxels of 1 pixel, N5 with the resolution that it may state.

    Raises:
        MissingDataError: The XML, or the file that it names, is not there.
        FormatError: One of them is damaged.
        UnsupportedError: The XML keeps its pixels elsewhere than in HDF5, N5 or OME-Zarr on a disk of this machine.
        BusyError: Another program holds the HDF5 file open for writing.
    """
    source = Path(path)
    if source.is_dir() and _is_n5(source):
        spim = _xml_beside(source) or _spim_from_n5(source)
    elif not source.is_file():
        what = "it is a folder, not a file" if source.is_dir() else "there is no such file"
        raise MissingDataError(f"Opening the BigDataViewer dataset {source} failed: {what}. Name its .xml file.")
    elif source.suffix.lower() in HDF5_SUFFIXES:
        spim = _xml_beside(source) or _spim_from_hdf5(source)
    else:
        spim = read_bdv_xml(source)
    movie = BdvMovie(spim, spim.path or source, _store_of(spim))
    movie.check()
    return movie


def _store_of(spim: SpimData) -> PixelStore:
    """Return the pixels of a dataset, or say why they cannot be read."""
    loader = spim.loader
    advice = (
        "Read are HDF5, N5 and OME-Zarr on a disk of this machine; in Fiji, Plugins > BigDataViewer > Export Current Image as "
        "XML/HDF5 makes such a file."
    )
    if loader.file is None or "://" in loader.file.written:
        where = "names no file" if loader.file is None else f"points to '{loader.file.written}'"
        raise UnsupportedError(f"Opening {spim.path} failed: its image loader '{loader.format}' {where}. {advice}")
    if loader.format == "bdv.hdf5":
        return Hdf5Store(spim.find(loader.file), spim)
    if loader.format == "bdv.n5":
        return _n5_store(spim.find(loader.file), loader.dataset)
    if loader.format in ZARR_LOADERS:
        return _zarr_store(spim.find(loader.file), loader.dataset, loader.groups)
    if loader.format == "bdv.n5.universe":  # Mastodon's, for all of them
        found = spim.find(loader.file)
        if found.suffix.lower() in HDF5_SUFFIXES or (found.is_file() and h5py.is_hdf5(found)):
            return Hdf5Store(found, spim)
        if _is_n5(found):
            return _n5_store(found, loader.dataset)
        if found.is_dir() and any((found / name).is_file() for name in ZARR_METADATA):
            return _zarr_store(found, loader.dataset, {})
        raise UnsupportedError(f"Opening {spim.path} failed: {found} is neither HDF5 nor N5 nor zarr. {advice}")
    raise UnsupportedError(
        f"Opening {spim.path} failed: its image loader is '{loader.format}' on '{loader.file.written}', which is not known. {advice}"
    )


# zarr and the codecs take a third of a second to import, which those who have HDF5 need not wait for.


def _is_n5(path: Path) -> bool:
    if not path.is_dir() or not (path.suffix.lower() == ".n5" or (path / "attributes.json").is_file()):
        return False
    from bdv_io.bdv.n5_store import is_n5

    return is_n5(path)


def _spim_views(path: Path) -> dict[tuple[int, int], Vector | None]:
    from bdv_io.bdv.n5_store import views_in_n5

    return views_in_n5(path)


def _n5_store(path: Path, dataset: str) -> PixelStore:
    from bdv_io.bdv.n5_store import N5Store

    return N5Store(path, dataset)


def _zarr_store(path: Path, dataset: str, groups: Mapping[tuple[int, int], ZarrGroup]) -> PixelStore:
    from bdv_io.bdv.zarr_store import ZarrStore

    return ZarrStore(path, dataset, groups)


def _xml_beside(pixels: Path) -> SpimData | None:
    """Return the dataset of the XML in the same folder that names these pixels, the one of the same name first."""
    twin = pixels.with_suffix(".xml")
    others = sorted(path for path in pixels.parent.glob("*.xml") if path != twin)
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
        if named is not None and os.path.samefile(named, pixels):
            return spim
    return None


def _spim_from_hdf5(hdf5: Path) -> SpimData:
    """Describe an HDF5 file that has no XML: voxels of one pixel, no registration."""
    with open_hdf5(hdf5) as file:
        try:
            names = list(file)
        except (RuntimeError, OSError, ValueError, KeyError) as error:  # what h5py raises on damage
            raise FormatError(
                f"Opening {hdf5} failed: its groups cannot be listed ({str(error)[:200]}). It is damaged; copy it again from where it "
                "came."
            ) from error
        setups = sorted(int(name[1:]) for name in names if re.fullmatch(r"s\d{2,5}", name))
        timepoints = sorted(int(name[1:]) for name in names if re.fullmatch(r"t\d{5,8}", name))
    if not setups or not timepoints:
        raise FormatError(
            f"Opening {hdf5} as a BigDataViewer dataset failed: it has the groups {names[:8]}, expected s00 ... and t00000 .... "
            "It is HDF5 of another program."
        )
    views = dict.fromkeys((timepoint, number) for timepoint in timepoints for number in setups)
    return _spim(hdf5, "bdv.hdf5", views)


def _spim_from_n5(n5: Path) -> SpimData:
    """Describe an N5 folder that has no XML, with the resolution that BigDataViewer's export notes for each view."""
    views = _spim_views(n5)
    if not views:
        raise FormatError(
            f"Opening {n5} as a BigDataViewer dataset failed: it has no folders setup0/timepoint0/s0. It is N5 of another program."
        )
    return _spim(n5, "bdv.n5", views)


def _spim(pixels: Path, loader: str, views: Mapping[tuple[int, int], Vector | None]) -> SpimData:
    """Describe views (time point, setup) that have no XML, with their voxel size where it is known."""
    numbers = sorted({setup for _, setup in views})
    setups = []
    for number in numbers:
        known = next((size for (_, setup), size in views.items() if setup == number and size is not None), None)
        setups.append(
            ViewSetup(number, voxel_size=known or (1.0, 1.0, 1.0), unit="pixel" if known is None else "unknown")
        )
    places = {s.id: (ViewTransform(np.diag([*(s.voxel_size or ()), 1.0])),) for s in setups}
    timepoints = sorted({timepoint for timepoint, _ in views})
    return SpimData(
        path=pixels,
        base_path=pixels.absolute().parent,
        loader=ImageLoader(loader, FileRef(pixels.name)),
        setups=tuple(setups),
        timepoints=tuple(timepoints),
        registrations={(timepoint, number): places[number] for timepoint in timepoints for number in numbers},
    )
