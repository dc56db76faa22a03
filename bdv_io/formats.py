"""Finds the format of a file by its content, and reads or writes with it.

This is the only module of :mod:`bdv_io` that knows all formats. Adding one is one entry in ``FORMATS``. The functions
that an entry names have these shapes; all raise :class:`bdv_io.errors.BdvIoError` with a sentence:

============================  ========================================================================================
``recognise(path) -> bool``   looks into a file or folder; False for what cannot be read, never an error
image ``read``                ``(path, *, hints: Hints) -> ImageSeries``, lazily (``hints`` only where ``hints`` names some)
image ``write``               ``(path, image, *, options: WriteOptions) -> Iterator[int]``: a generator that yields the
                              number of frames that are done; nothing is at ``path`` until it is exhausted
annotation ``read``           ``(path) -> Tracks``, or ``(path, *, hints: Hints) -> Tracks``
annotation ``write``          ``(path, tracks)``, or ``(path, tracks, *, image: ImageSeries | None)`` where ``names_image``
``files(path)``               the files that a target's name stands for, the one to read again first
``lost(image or tracks)``     sentences about what of it the format cannot hold, empty if all of it
============================  ========================================================================================
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from bdv_io.errors import FormatError, MissingDataError, UnsupportedError, ValidationError
from bdv_io.image import Hints, ImageSeries, WriteOptions
from bdv_io.safe_write import stamp_of
from bdv_io.tracks import Tracks
from bdv_io.untrusted import look_at

PathLike = str | os.PathLike[str]
Kind = Literal["image", "annotation"]
LOOKED_AT = 20  # of a folder that is no format itself

__all__ = [
    "FORMATS",
    "Format",
    "format_named",
    "identify",
    "open_image",
    "read_tracks",
    "write_image",
    "write_tracks",
    "writer_for",
    "writing_image",
]


@dataclass(frozen=True, kw_only=True)
class Format:
    """One file format: where its code is. Modules are imported when a file needs them.

    Attributes:
        key: Short name, by which a user may choose it.
        name: For people.
        kind: Whether files hold images or annotations.
        module: Where the functions are.
        recognise: Name of the function that looks into a file; empty where only the user can say that it is this.
        read: Name of the function that opens or reads it.
        write: Name of the function that writes it; empty if it cannot be written.
        lost: Name of the function that says what of a given content the format cannot hold; empty if it holds all.
        suffixes: Endings of names by which a target's format is chosen when writing; the longest that fits wins.
        names_image: Whether files of this annotation format name the movie that they belong to.
        hints: The hints that its reader understands.
        lenient: Whether its reader can be asked to let pass what can be mended.
        files: Name of the function that says which files a target's name stands for; empty where it is one file or folder.
    """

    key: str
    name: str
    kind: Kind
    module: str
    recognise: str
    read: str
    write: str = ""
    lost: str = ""
    suffixes: tuple[str, ...] = ()
    names_image: bool = False
    hints: tuple[str, ...] = ()
    lenient: bool = False
    files: str = ""

    def function(self, name: str) -> Callable[..., Any]:
        """Return one of the format's functions."""
        function: Callable[..., Any] = getattr(import_module(self.module), name)
        return function

    def files_of(self, path: Path) -> tuple[Path, ...]:
        """Return the files that writing to ``path`` makes or replaces; the first is the one to read again."""
        return tuple(self.function(self.files)(path)) if self.files else (path,)

    def losses(self, content: ImageSeries | Tracks) -> tuple[str, ...]:
        """Return sentences about what of ``content`` this format cannot hold."""
        return tuple(self.function(self.lost)(content)) if self.lost else ()


FORMATS = (
    Format(
        key="mastodon",
        name="Mastodon project",
        kind="annotation",
        module="bdv_io.mastodon",
        recognise="is_mastodon",
        read="read_mastodon",
        write="write_mastodon",
        lost="lost_in_mastodon",
        suffixes=(".mastodon",),
        names_image=True,
    ),
    Format(
        key="trackmate",
        name="TrackMate XML",
        kind="annotation",
        module="bdv_io.trackmate",
        recognise="is_trackmate",
        read="read_trackmate",
        write="write_trackmate",
        lost="lost_in_trackmate",
        suffixes=(".xml",),
        names_image=True,
        lenient=True,
    ),
    Format(
        key="mamut",
        name="MaMuT XML",
        kind="annotation",
        module="bdv_io.trackmate",
        recognise="",  # read as TrackMate XML, which it is
        read="read_trackmate",
        write="write_mamut",
        lost="lost_in_mamut",
        suffixes=("-mamut.xml", "_mamut.xml"),
        names_image=True,
        lenient=True,
    ),
    Format(
        key="geff",
        name="GEFF",
        kind="annotation",
        module="bdv_io.geff_graph",
        recognise="is_geff",
        read="read_geff",
        write="write_geff",
        lost="lost_in_geff",
        suffixes=(".geff", ".geff.zarr", "_geff.zarr"),
        hints=("unit", "interval"),
        lenient=True,
    ),
    Format(
        key="exported-csv",
        name="table exported by TrackMate or Mastodon",
        kind="annotation",
        module="bdv_io.exported_csv",
        recognise="is_exported_csv",
        read="read_exported_csv",
        hints=("unit", "interval"),
    ),
    Format(
        key="csv",
        name="CSV tables",
        kind="annotation",
        module="bdv_io.csv_table",
        recognise="is_csv",
        read="read_csv",
        write="write_csv",
        lost="lost_in_csv",
        suffixes=(".csv",),
        files="csv_files",
        lenient=True,
    ),
    Format(
        key="ctc",
        name="Cell Tracking Challenge folder",
        kind="annotation",
        module="bdv_io.ctc",
        recognise="is_ctc",
        read="read_ctc",
        write="write_ctc",
        lost="lost_in_ctc",
        suffixes=("_RES", "_GT"),
        names_image=True,
        hints=("voxel_size", "unit", "interval"),
    ),
    Format(
        key="rois",
        name="ImageJ ROI set",
        kind="annotation",
        module="bdv_io.roi_set",
        recognise="is_roi_set",
        read="read_rois",
        write="write_rois",
        lost="lost_in_rois",
        suffixes=(".zip", ".roi"),
        names_image=True,
        hints=("axes", "voxel_size", "unit", "interval"),
    ),
    Format(
        key="labels",
        name="label image",
        kind="annotation",
        module="bdv_io.label_image",
        recognise="",
        read="read_labels",
        write="write_labels",
        lost="lost_in_labels",
        suffixes=(".tif", ".tiff", ".ome.zarr"),
        names_image=True,
        hints=("axes", "voxel_size", "unit", "interval"),
    ),
    Format(
        key="parquet",
        name="Parquet tables",
        kind="annotation",
        module="bdv_io.parquet_table",
        recognise="is_parquet",
        read="read_parquet",
        write="write_parquet",
        lost="lost_in_parquet",
        suffixes=(".parquet",),
        files="parquet_files",
        lenient=True,
    ),
    Format(
        key="bdv",
        name="BigDataViewer XML",
        kind="image",
        module="bdv_io.bdv",
        recognise="is_bdv",
        read="open_bdv",
        write="writing_bdv",
        files="bdv_files",
        suffixes=(".xml", ".h5"),
    ),
    Format(
        key="ome-zarr",
        name="OME-Zarr",
        kind="image",
        module="bdv_io.ome_zarr",
        recognise="is_ome_zarr",
        read="open_ome_zarr",
        write="writing_ome_zarr",
        lost="lost_in_ome_zarr",
        suffixes=(".ome.zarr", ".zarr"),
        hints=("voxel_size", "unit", "interval"),
    ),
    Format(
        key="tiff",
        name="TIFF",
        kind="image",
        module="bdv_io.tiff",
        recognise="is_tiff",
        read="open_tiff",
        write="writing_tiff",
        lost="lost_in_tiff",
        suffixes=(".tif", ".tiff"),
        hints=("axes", "voxel_size", "unit", "interval"),
    ),
    Format(
        key="picture",
        name="PNG or JPEG",
        kind="image",
        module="bdv_io.pictures",
        recognise="is_picture",
        read="open_picture",
        hints=("voxel_size", "unit", "interval"),
    ),
)


def format_named(key: str, kind: Kind | None = None) -> Format:
    """Return the format of this key.

    Raises:
        UnsupportedError: There is none of this key (and kind).
    """
    for known in FORMATS:
        if known.key == key and kind in (None, known.kind):
            return known
    keys = ", ".join(f"{f.key} ({f.name})" for f in FORMATS if kind in (None, f.kind))
    other = next((f for f in FORMATS if f.key == key), None)
    if other is not None:
        held, wanted = ("an image", "annotations") if other.kind == "image" else ("annotations", "an image")
        raise UnsupportedError(f"'{key}' ({other.name}) holds {held}, and this is {wanted}. Choose one of: {keys}.")
    raise UnsupportedError(f"There is no {kind or 'file'} format called '{key}'. Choose one of: {keys}.")


def identify(path: PathLike, *, key: str | None = None) -> Format:
    """Return the format of a file or folder, from its content.

    Args:
        path: The file or folder.
        key: The format, where the user says which (a label image looks like any TIFF).

    Raises:
        MissingDataError: There is nothing at ``path``.
        FormatError: No known format recognises it.
        UnsupportedError: There is no format of this key.
    """
    target = Path(path)
    look_at(target)
    asked = format_named(key) if key is not None else None
    try:
        kind = target.stat().st_mode
    except (OSError, ValueError) as error:
        gone = isinstance(error, FileNotFoundError | NotADirectoryError)
        reason = "there is no such file or folder" if gone else str(error)
        advice = _tables_of(target) if gone else ""
        raise MissingDataError(f"Opening {target} failed: {reason}. {advice or 'Check the path.'}") from None
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise FormatError(
            f"Opening {target} failed: it is neither a file nor a folder, but a device, a pipe or the like."
        )
    if asked is not None:
        return asked
    for known in FORMATS:
        if known.recognise and known.function(known.recognise)(target):
            return known
    if target.suffix == ".mastodon":
        raise FormatError(
            f"Opening {target} failed: it is no Mastodon project (a zip file, or folder, with project.xml and model.raw). "
            "If the file is damaged, look for the version before it, which ends in '~1~'."
        )
    inside = _known_inside(target) if target.is_dir() else []
    if inside:
        raise FormatError(
            f"Opening {target} failed: it is a folder of several things. Name one of them: {', '.join(inside)}."
        )
    if not (any(target.iterdir()) if target.is_dir() else target.stat().st_size):
        raise FormatError(f"Opening {target} failed: it is empty.")
    if target.name == "project.xml" and (target.parent / "model.raw").is_file():
        raise FormatError(
            f"Opening {target} failed: it is a part of a Mastodon project. Name the folder: {target.parent}"
        )
    said = [name for name in (".zattrs", ".zgroup", "zarr.json") if (target / name).is_file()]
    if said:
        raise FormatError(
            f"Opening {target} failed: it is a Zarr folder, but what it says of itself ({', '.join(said)}) is damaged, or names "
            "neither an image (OME-Zarr) nor a graph (GEFF). Copy it again from where it came."
        )
    names = ", ".join(dict.fromkeys(known.name for known in FORMATS))
    raise FormatError(f"Opening {target} failed: its content is none of the known formats ({names}).")


def _tables_of(missing: Path) -> str:
    """Advice where tables were asked for by the name under which they were written: ``a.csv`` for ``a-spots.csv``."""
    for known in FORMATS:
        if known.files and missing.suffix and missing.suffix in known.suffixes:
            first = known.files_of(missing)[0]
            if first != missing and first.is_file():
                return f"There is {first.name} beside it: give that."
    return ""


def _known_inside(folder: Path) -> list[str]:
    """Return what the first files and folders of a folder are, as ``01_GT (Cell Tracking Challenge folder)``."""
    found = []
    for path in sorted(folder.iterdir())[:LOOKED_AT]:
        if path.name.startswith(".") or not (path.is_file() or path.is_dir()):
            continue
        known = next((f for f in FORMATS if f.recognise and f.function(f.recognise)(path)), None)
        if known is not None:
            found.append(f"{path.name} ({known.name})")
    return found


def open_image(path: PathLike, *, hints: Hints | None = None, key: str | None = None) -> ImageSeries:
    """Open a movie lazily, whatever its format.

    Args:
        path: The file or folder.
        hints: What the user knows and the file does not say.
        key: The format, where the user says which.

    Raises:
        FormatError: The file holds annotations, not an image, or is damaged, or a hint means nothing to its format.
    """
    found = identify(path, key=key)
    if found.kind != "image":
        raise FormatError(
            f"Opening {path} as an image failed: it is a {found.name}, which holds annotations. Give the image."
        )
    image: ImageSeries = found.function(found.read)(Path(path), **_hints(found, path, hints))
    return image


def read_tracks(path: PathLike, *, hints: Hints | None = None, key: str | None = None, lenient: bool = False) -> Tracks:
    """Read an annotation, whatever its format; arguments as in :func:`open_image`.

    ``lenient`` lets pass what :func:`bdv_io.repair.mended` can mend (spots without a centre, links to spots that are not there,
    ids that occur twice), and a reader would refuse.

    Raises:
        FormatError: The file holds an image, not annotations, or is damaged.
        ValidationError: The annotation contradicts itself.
    """
    found = identify(path, key=key)
    if found.kind != "annotation":
        raise FormatError(
            f"Reading annotations from {path} failed: it is {found.name}, an image. Give the project instead."
        )
    try:
        stamp = stamp_of(path)
    except OSError as error:
        raise MissingDataError(f"Reading {path} failed: the system said: {error}.") from error
    more = {"lenient": True} if lenient and found.lenient else {}
    tracks: Tracks = found.function(found.read)(Path(path), **_hints(found, path, hints), **more)
    if not lenient:
        try:
            tracks.validate(odd_is_fine=True)
        except ValidationError as error:
            raise ValidationError(
                f"Reading {path} failed: {error} The file is damaged; what can be mended is, with --repair."
            ) from error
    return replace(tracks, origin=stamp)


def _hints(found: Format, path: PathLike, hints: Hints | None) -> dict[str, Hints]:
    given = hints.given if hints is not None else ()
    useless = [name for name in given if name not in found.hints]
    if useless:
        known = f"only {', '.join(found.hints)} may be" if found.hints else "nothing needs to be"
        raise FormatError(
            f"Opening {path} failed: {' and '.join(useless).replace('_', ' ')} was given, but a {found.name} says that itself; "
            f"{known} given."
        )
    return {"hints": hints or Hints()} if found.hints else {}


def writer_for(path: PathLike, kind: Kind = "annotation", *, key: str | None = None) -> Format:
    """Return the format that a target's ending asks for, or the one that the user names.

    Raises:
        UnsupportedError: No format of this kind is written under that ending, or the named one is not written.
    """
    if key is not None:
        asked = format_named(key, kind)
        if not asked.write:
            raise UnsupportedError(f"Writing {path} is not possible: {asked.name} is read, not written.")
        return asked
    name, writable = Path(path).name.lower(), [f for f in FORMATS if f.kind == kind and f.write]
    fitting = [(len(s), f) for f in writable for s in f.suffixes if name.endswith(s.lower())]
    if fitting:
        return max(fitting, key=lambda item: item[0])[1]
    endings = ", ".join(f"{s} ({f.name})" for f in writable for s in f.suffixes)
    raise UnsupportedError(
        f"Writing {path} is not possible: no {kind} format ends in '{Path(path).suffix}'. Choose one of: {endings}."
    )


def write_tracks(path: PathLike, tracks: Tracks, *, image: ImageSeries | None = None, key: str | None = None) -> None:
    """Write an annotation in the format that the ending of ``path`` asks for; what was there before is kept as ``name~1~``.

    Args:
        path: The target.
        tracks: The annotation; nothing is written if it contradicts itself. Oddities that other programs wrote are kept.
        image: The movie that it belongs to, so that the file can name it.
        key: The format, where the user says which.

    Raises:
        BusyError: ``path`` is the file that the annotation was read from, and another program has changed it since.
        ValidationError: The annotation contradicts itself.
        WriteError: See :func:`bdv_io.safe_write.replacing`.
    """
    target = writer_for(path, key=key)
    tracks.validate(odd_is_fine=True)
    if tracks.origin is not None:
        tracks.origin.check(Path(path))
    write = target.function(target.write)
    if target.names_image:
        write(Path(path), tracks, image=image)
    else:
        write(Path(path), tracks)


def writing_image(
    path: PathLike, image: ImageSeries, *, options: WriteOptions | None = None, key: str | None = None
) -> Iterator[int]:
    """Write a movie in the format that the ending of ``path`` asks for, and yield the number of frames that are done.

    Nothing stands at ``path`` until the iterator is exhausted; one that is dropped leaves what was there before.
    """
    target = writer_for(path, "image", key=key)
    steps: Iterator[int] = target.function(target.write)(Path(path), image, options=options or WriteOptions())
    return steps


def write_image(
    path: PathLike, image: ImageSeries, *, options: WriteOptions | None = None, key: str | None = None
) -> None:
    """Write a movie in the format that the ending of ``path`` asks for; what was there before is kept as ``name~1~``."""
    for _ in writing_image(path, image, options=options, key=key):
        pass
