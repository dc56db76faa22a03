"""The outside of a project: a zip file, or a folder, with the same entries. Entries of a zip are untrusted input."""

from __future__ import annotations

import mmap
import os
import shutil
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from bdv_io.errors import BdvIoError, BusyError, FormatError, MissingDataError
from bdv_io.threads import check_size

__all__ = ["Data", "is_project", "read_entries", "write_entries"]

Data = bytes | memoryview

PROJECT, MODEL = "project.xml", "model.raw"
MOST_ENTRIES = 10_000
MOST_BYTES = 64 * 2**30
MAPPED_FROM = 2**20
# what zipfile raises on damaged archives
DAMAGED = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    struct.error,
    NotImplementedError,
    RuntimeError,
    EOFError,
    ValueError,
    OverflowError,
)
LOCAL_HEADER, ENCRYPTED = 30, 1
MOST_RATIO = 1100  # deflate cannot do better than about 1030


def is_project(path: Path) -> bool:
    """Whether a zip file or a folder holds a project (looks at the names of its entries only)."""
    if path.is_dir():
        return (path / PROJECT).is_file() and (path / MODEL).is_file()
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except (OSError, *DAMAGED):
        return False
    return PROJECT in names or MODEL in names


def read_entries(path: Path) -> dict[str, Data]:
    """Read all entries, in the order in which they are stored.

    Raises:
        MissingDataError: There is nothing at ``path``.
        FormatError: It is no zip file and no folder, lacks a needed entry, or is damaged.
    """
    if not path.exists():
        raise MissingDataError(f"Opening the Mastodon project {path} failed: there is no such file. Check the path.")
    try:
        entries = _from_folder(path) if path.is_dir() else _from_zip(path)
    except (BlockingIOError, PermissionError) as error:
        raise BusyError(
            f"Opening the Mastodon project {path} failed: {error.strerror}; another program may hold it."
        ) from None
    except (OSError, *DAMAGED) as error:
        if isinstance(error, BdvIoError):
            raise
        raise FormatError(
            f"Opening {path} failed: it is no zip file, or a damaged one ({error}), so no Mastodon project. "
            "If it is damaged, look for the version before it, which ends in '~1~'."
        ) from None
    for needed in (PROJECT, MODEL):
        if needed not in entries:
            raise FormatError(
                f"Opening {path} failed: the entry {needed} is missing, so it is no whole Mastodon project."
            )
    return entries


def _from_zip(path: Path) -> dict[str, Data]:
    with zipfile.ZipFile(path) as archive:
        entries = [entry for entry in archive.infolist() if not entry.filename.endswith("/")]
        total = sum(entry.file_size for entry in entries)
        packed = max(path.stat().st_size, 1)
        if len(entries) > MOST_ENTRIES or total > MOST_BYTES or total > MOST_RATIO * packed:
            raise FormatError(
                f"Opening {path} was refused: it claims {len(entries)} entries of {total} bytes in a file of {packed} bytes, "
                "which no Mastodon project does."
            )
        for entry in entries:
            _check_name(entry.filename, path)
        names = Counter(entry.filename for entry in entries)
        twice = [name for name, count in names.items() if count > 1]
        if twice:
            raise FormatError(
                f"Opening {path} was refused: the entry '{twice[0]}' is in it {names[twice[0]]} times, so it is not clear which one "
                "counts. Save the project again with Mastodon."
            )
        squeezed = sum(entry.file_size for entry in entries if entry.compress_type != zipfile.ZIP_STORED)
        check_size((squeezed,), 1, f"Opening {path}")
        return {entry.filename: _content(archive, entry, path) for entry in entries}


def _content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> Data:
    """Read an entry; a large one that is not compressed is mapped, not copied."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size < MAPPED_FROM or entry.flag_bits & ENCRYPTED:
        return archive.read(entry)
    mapped = _mapped(path)
    head = bytes(mapped[entry.header_offset : entry.header_offset + LOCAL_HEADER])
    if len(head) < LOCAL_HEADER or head[:4] != b"PK\x03\x04":
        raise zipfile.BadZipFile(f"the header of {entry.filename} is missing")
    start = entry.header_offset + LOCAL_HEADER + sum(struct.unpack("<HH", head[26:30]))
    content = mapped[start : start + entry.file_size]
    if zlib.crc32(content) != entry.CRC:
        raise zipfile.BadZipFile(f"the checksum of {entry.filename} is wrong")
    return content


def _mapped(path: Path) -> memoryview:
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _from_folder(path: Path) -> dict[str, Data]:
    files = _files_of_project(path)
    if len(files) > MOST_ENTRIES:
        raise FormatError(f"Opening {path} was refused: it holds {len(files)} files, which no Mastodon project does.")
    return {
        file.relative_to(path).as_posix(): file.read_bytes() if file.stat().st_size < MAPPED_FROM else _mapped(file)
        for file in files
    }


def _files_of_project(path: Path) -> list[Path]:
    files = sorted(file for file in path.rglob("*") if file.is_file() and not file.is_symlink())
    return [
        file for file in files if file.relative_to(path).parts[0] in ("features", PROJECT, MODEL) or _own(file, path)
    ]


def _own(file: Path, folder: Path) -> bool:
    """Whether a file directly in the folder belongs to the project (an image may lie beside the entries)."""
    return file.parent == folder and (file.suffix in (".raw", ".backup") or file.name in ("gui.xml", "howdah.bin"))


def _take_along(old: Path, new: Path) -> None:
    own = set(_files_of_project(old))
    for file in old.rglob("*"):
        if file in own or file.is_dir():
            continue
        place = new / file.relative_to(old)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file, place, follow_symlinks=False)
        except OSError:
            shutil.copy2(file, place, follow_symlinks=False)


def _check_name(name: str, path: Path) -> None:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or ".." in parts or parts[0].startswith("/") or ":" in parts[0]:
        raise FormatError(f"Opening {path} was refused: its entry '{name}' points out of the project.")


def write_entries(path: Path, entries: Mapping[str, bytes], *, instead_of: Path) -> None:
    """Write entries as a zip file (stored, as Mastodon does), or as a folder where ``instead_of`` is one.

    Files in that folder that do not belong to the project (its image, say) are taken along, by hard links.
    """
    if instead_of.is_dir():
        path.mkdir()
        for name, content in entries.items():
            file = path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        _take_along(instead_of, path)
        return
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
