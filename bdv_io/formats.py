"""Finds the format of a file by its content, and reads or writes with it.

This is the only module of :mod:`bdv_io` that knows all formats. Adding one is one entry in ``FORMATS``.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from bdv_io.errors import FormatError, MissingDataError, UnsupportedError
from bdv_io.image import ImageSeries
from bdv_io.tracks import Tracks

PathLike = str | os.PathLike[str]
Kind = Literal["image", "annotation"]

__all__ = ["FORMATS", "Format", "identify", "open_image", "read_tracks", "write_tracks", "writer_for"]


@dataclass(frozen=True)
class Format:
    """One file format: where its code is. Modules are imported when a file needs them.

    Attributes:
        name: For people.
        kind: Whether files hold images or annotations.
        module: Where the functions are.
        recognise: Name of the function ``(path) -> bool`` that looks into the file.
        read: Name of the function that opens or reads it.
        write: Name of the function that writes it; empty if it cannot be written.
        suffixes: Endings by which a target's format is chosen when writing.
        names_image: Whether files of this format name the movie that they belong to.
    """

    name: str
    kind: Kind
    module: str
    recognise: str
    read: str
    write: str = ""
    suffixes: tuple[str, ...] = ()
    names_image: bool = True

    def function(self, name: str) -> Callable[..., Any]:
        """Return one of the format's functions."""
        function: Callable[..., Any] = getattr(import_module(self.module), name)
        return function


FORMATS = (
    Format(
        "Mastodon project",
        "annotation",
        "bdv_io.mastodon",
        "is_mastodon",
        "read_mastodon",
        "write_mastodon",
        (".mastodon",),
    ),
    Format(
        "TrackMate XML",
        "annotation",
        "bdv_io.trackmate",
        "is_trackmate",
        "read_trackmate",
        "write_trackmate",
        (".xml",),
    ),
    Format(
        "CSV tables", "annotation", "bdv_io.csv_table", "is_csv", "read_csv", "write_csv", (".csv",), names_image=False
    ),
    Format("BigDataViewer XML/HDF5", "image", "bdv_io.bdv_hdf5", "is_bdv", "open_bdv", "write_bdv", (".xml", ".h5")),
)


def identify(path: PathLike) -> Format:
    """Return the format of a file or folder, from its content.

    Raises:
        MissingDataError: There is nothing at ``path``.
        FormatError: No known format recognises it.
    """
    target = Path(path)
    try:
        kind = target.stat().st_mode
    except (OSError, ValueError) as error:
        reason = (
            "there is no such file or folder"
            if isinstance(error, FileNotFoundError | NotADirectoryError)
            else str(error)
        )
        raise MissingDataError(f"Opening {target} failed: {reason}. Check the path.") from None
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise FormatError(
            f"Opening {target} failed: it is neither a file nor a folder, but a device, a pipe or the like."
        )
    for known in FORMATS:
        if known.function(known.recognise)(target):
            return known
    if target.suffix == ".mastodon":
        raise FormatError(
            f"Opening {target} failed: it is no Mastodon project (a zip file, or folder, with project.xml and model.raw). "
            "If the file is damaged, look for the version before it, which ends in '~'."
        )
    names = ", ".join(known.name for known in FORMATS)
    raise FormatError(f"Opening {target} failed: its content is none of the known formats ({names}).")


def open_image(path: PathLike) -> ImageSeries:
    """Open a movie lazily, whatever its format.

    Raises:
        FormatError: The file holds annotations, not an image, or is damaged.
    """
    found = identify(path)
    if found.kind != "image":
        raise FormatError(
            f"Opening {path} as an image failed: it is a {found.name}, which holds annotations. Give the image."
        )
    image: ImageSeries = found.function(found.read)(Path(path))
    return image


def read_tracks(path: PathLike) -> Tracks:
    """Read an annotation, whatever its format.

    Raises:
        FormatError: The file holds an image, not annotations, or is damaged.
    """
    found = identify(path)
    if found.kind != "annotation":
        raise FormatError(
            f"Reading annotations from {path} failed: it is {found.name}, an image. Give the project instead."
        )
    tracks: Tracks = found.function(found.read)(Path(path))
    return tracks


def writer_for(path: PathLike, kind: Kind = "annotation") -> Format:
    """Return the format that a target's ending asks for.

    Raises:
        UnsupportedError: No format of this kind is written under that ending.
    """
    suffix = Path(path).suffix.lower()
    for known in FORMATS:
        if known.kind == kind and known.write and suffix in known.suffixes:
            return known
    endings = ", ".join(f"{s} ({f.name})" for f in FORMATS if f.kind == kind and f.write for s in f.suffixes)
    raise UnsupportedError(
        f"Writing {path} is not possible: no {kind} format ends in '{suffix}'. Choose one of: {endings}."
    )


def write_tracks(path: PathLike, tracks: Tracks, *, image: ImageSeries | None = None) -> None:
    """Write an annotation in the format that the ending of ``path`` asks for; what was there before is kept as ``name~``.

    Args:
        path: The target.
        tracks: The annotation; nothing is written if it contradicts itself. Oddities that other programs wrote are kept.
        image: The movie that it belongs to, so that the file can name it.
    """
    target = writer_for(path)
    tracks.validate(odd_is_fine=True)
    write = target.function(target.write)
    if target.names_image:
        write(Path(path), tracks, image=image)
    else:
        write(Path(path), tracks)
