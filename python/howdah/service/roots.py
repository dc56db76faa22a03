"""The folders that a service may touch: every path of a client, and every path that its files name, is held against them.

A path is resolved first, links and ``..`` included. A project names its movie, a BigDataViewer XML its pixels, and those
further files (partitions, external links of HDF5): all of them must lie inside, or a small uploaded file would open any other.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
from lxml import etree

from bdv_io import BdvIoError
from bdv_io.bdv.xml import SpimData, is_spimdata, read_bdv_xml
from bdv_io.mastodon.project_file import PARSER, read_project_file
from bdv_io.trackmate import is_trackmate
from bdv_io.untrusted import MOST_TEXT, looked_at_by
from howdah.errors import ServiceError
from howdah.service.parameters import Parameters, Within, files_of

__all__ = ["Roots", "confined", "named_by"]

MOST_NAMED = 10_000  # files that are looked into: project -> XML -> HDF5 -> partitions
MOST_SCANNED = 16 << 20
MOST_LINKS = 1_000_000  # of an uploaded HDF5 file; one with more is refused
HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".he5")
DAMAGED = (
    BdvIoError,
    OSError,
    ValueError,
    KeyError,
    RuntimeError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
    etree.LxmlError,
    zipfile.BadZipFile,
)


class Roots:
    """Folders inside which a client may read and write.

    Args:
        folders: The folders; they must exist. Relative paths of a client are taken from the first one.
        uploads: That folder among them into which clients put files; these are looked into more closely.

    Raises:
        ServiceError: None is given, or one is no folder.
    """

    def __init__(self, folders: Sequence[Path], *, uploads: Path | None = None) -> None:
        for folder in folders:
            if not folder.is_dir():
                raise ServiceError(f"The folder {folder} cannot be served: there is no such folder. Name another one.")
        if not folders:
            raise ServiceError("No folder is served. Name at least one: --root FOLDER")
        self.folders = tuple(folder.resolve() for folder in folders)
        self.uploads = None if uploads is None else uploads.resolve()

    def holds(self, path: Path) -> bool:
        """Whether a path, resolved, lies in one of the folders."""
        try:
            resolved = path.resolve()
        except (OSError, ValueError, RuntimeError):  # no name that a file may have, or a circle of links
            return False
        return any(resolved == folder or folder in resolved.parents for folder in self.folders)

    def place(self, path: Path) -> Path:
        """Return the absolute path that a client means.

        Raises:
            ServiceError: It lies outside the folders, or is no path at all.
        """
        text = str(path)
        if not text or "\0" in text:
            raise ServiceError("A path is empty or holds a zero byte. Give the path of a file.")
        placed = Path(os.path.normpath(self.folders[0] / path))
        if not self.holds(placed):
            served = ", ".join(str(folder) for folder in self.folders)
            raise ServiceError(
                f"The path {text!r} is not served: it leads outside the folders {served}. Put the file there, or start the "
                "service with --root for its folder."
            )
        return placed

    def check(self, parameters: Parameters) -> None:
        """Hold every file of a task's parameters, and every file that these name, against the folders.

        Raises:
            ServiceError: One lies outside, is not there though it is to be read, or is no ordinary file.
        """
        for name, role, path in files_of(parameters):
            placed = self.place(path)
            if role == "read":
                self.check_source(placed, parameter=name)
            elif not placed.parent.is_dir():
                raise ServiceError(f"The parameter '{name}' names {path}, but there is no folder {placed.parent}.")

    def check_source(self, path: Path, *, parameter: str = "source") -> None:
        """See that a file is there, is one, and names only files inside the folders.

        Raises:
            ServiceError: See :meth:`check`.
        """
        try:
            kind = path.stat().st_mode
        except OSError as error:
            raise ServiceError(
                f"The parameter '{parameter}' names {path}, which cannot be opened: {error.strerror}."
            ) from None
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            raise ServiceError(f"The parameter '{parameter}' names {path}, which is a device, a pipe or the like.")
        self.check_named(path)

    def check_named(self, path: Path) -> None:
        """See that a file names only files inside the folders, and these as well.

        Raises:
            ServiceError: It names one outside.
        """
        waiting, seen = [path], set[Path]()
        while waiting:
            file = waiting.pop()
            real = file.resolve()
            if real in seen:
                continue
            seen.add(real)
            uploaded = self.uploads is not None and self.uploads in real.parents
            for named in named_by(file, links=uploaded):
                if not self.holds(named):
                    raise ServiceError(
                        f"The file {file.name} names {str(named)!r}, which lies outside the folders that are served. Put that "
                        "file beside it, or start the service with --root for its folder."
                    )
                if named.is_file() and len(seen) < MOST_NAMED:
                    waiting.append(named)


@contextlib.contextmanager
def confined(parameters: Parameters, within: Within) -> Iterator[None]:
    """While the block lasts, only files in the folders of ``within`` are opened as movies and annotations.

    In the process of the job, immediately before the work: what was checked when the job was asked for may have changed meanwhile,
    and only who reads an annotation knows which movie it names.

    Raises:
        ServiceError: A file of the parameters names one outside. In the block, whatever opens a file outside.
    """
    folders = [folder for folder in (*within.readable, *within.writable) if folder.is_dir()]
    roots = Roots(folders, uploads=within.uploads)
    fine = set[tuple[object, ...]]()

    def look(path: Path) -> None:
        if not roots.holds(path):
            raise ServiceError(
                f"The file {path} was not opened: it lies outside the folders that this service may read. Put it there, or "
                "start the service with a further --root."
            )
        try:
            state = path.stat()
        except OSError:
            return  # who opens it says so
        key = (path, state.st_mtime_ns, state.st_size, state.st_ino)
        if key not in fine:
            roots.check_named(path)
            fine.add(key)

    for _, role, path in files_of(parameters):
        if role == "read":
            look(path)
    with looked_at_by(look):
        yield


def named_by(path: Path, *, links: bool = True) -> Iterator[Path]:
    """Yield the places at which the files that a file names would be looked for; none for what cannot be read as such.

    Known are projects of Mastodon (zip or folder), XML of BigDataViewer, TrackMate and MaMuT, and HDF5 (with ``links``: its
    links to other files, which takes a while in a long movie). A file is looked at as each of these, whatever its name: one that is two
    things at once must not pass as the harmless one.
    """
    ways = [_named_by_project, _named_by_spimdata_file, _named_by_trackmate, *([_named_by_hdf5] if links else [])]
    for way in ways:
        try:
            yield from way(path)
        except DAMAGED:
            continue  # the task says so, in its own words


def _named_by_project(path: Path) -> Iterator[Path]:
    if not path.is_dir() and not zipfile.is_zipfile(path):
        return
    data = b""
    if path.is_dir():
        header = path / "project.xml"
        if header.is_file() and header.stat().st_size <= MOST_TEXT:
            data = header.read_bytes()
    else:
        with zipfile.ZipFile(path) as archive:
            if "project.xml" in archive.namelist() and archive.getinfo("project.xml").file_size <= MOST_TEXT:
                data = archive.read("project.xml")
    image = read_project_file(data, "project.xml").image_path(path) if data else None
    if image is not None:
        yield image


def _named_by_spimdata_file(path: Path) -> Iterator[Path]:
    if path.is_file() and is_spimdata(path):
        yield from _named_by_spimdata(read_bdv_xml(path))
    elif path.suffix.lower() in (*HDF5_SUFFIXES, ".n5") or path.is_dir():
        for twin in path.parent.glob("*.xml"):  # opened beside its pixels, see bdv_io.bdv.open
            spim = None
            with contextlib.suppress(BdvIoError):
                spim = read_bdv_xml(twin) if is_spimdata(twin) else None
            if spim is not None and spim.loader.file is not None:
                places = [place for place in spim.places(spim.loader.file) if place.exists()]
                if any(place.samefile(path) for place in places):
                    yield from _named_by_spimdata(spim)


def _named_by_spimdata(spim: SpimData) -> Iterator[Path]:
    loader = spim.loader
    for file in [loader.file, *(partition.file for partition in loader.partitions)]:
        if file is None or "://" in file.written:
            continue
        there = [place for place in spim.places(file) if os.path.lexists(place)]
        for place in there or spim.places(file)[:1]:
            yield place
            for inside in {loader.dataset, *(group.path for group in loader.groups.values())}:
                yield Path(os.path.normpath(place / inside.lstrip("/")))


def _named_by_trackmate(path: Path) -> Iterator[Path]:
    if not path.is_file() or path.stat().st_size > MOST_SCANNED or not is_trackmate(path):
        return  # a long one is looked at by who reads it, see confined
    with path.open("rb") as file:
        for _, element in etree.iterparse(file, events=("end",), **PARSER):
            if element.tag == "ImageData" and element.get("filename"):
                yield path.parent / element.get("folder", "") / element.get("filename", "")
                yield path.parent / element.get("filename", "")
            elif element.tag == "SpimDataFile" and element.text:
                yield path.parent / element.text
            if element.getparent() is not None and element.tag in ("Spot", "Edge", "Track", "SpotsInFrame"):
                element.clear()


def _named_by_hdf5(path: Path) -> Iterator[Path]:
    """Yield the targets of external links, external storage and virtual datasets."""
    if not path.is_file() or not h5py.is_hdf5(path):
        return
    with h5py.File(path, "r") as file:
        found: list[str] = []
        seen = 0

        def look(name: str, link: object) -> bool | None:
            nonlocal seen
            seen += 1
            if isinstance(link, h5py.ExternalLink):
                found.append(str(link.filename))
            elif isinstance(link, h5py.HardLink):
                dataset = file.get(name)
                if isinstance(dataset, h5py.Dataset):
                    found.extend(str(os.fsdecode(entry[0])) for entry in dataset.external or ())
                    if dataset.is_virtual:
                        found.extend(source.file_name for source in dataset.virtual_sources())
            if seen > MOST_LINKS:
                raise ServiceError(f"The file {path.name} was refused: it has more than {MOST_LINKS} links.")
            return None

        file.visititems_links(look)
    for name in found:
        if name != ".":
            yield path.parent / name
