"""The work folder of a run: ``<target>.blocks/`` with the manifest and one file a block.

A block's file is ``<key>.block``: magic (8 bytes), BLAKE2b-128 of what follows, length of what follows (u64, little-endian), then
facts and arrays as :mod:`bdv_io.packed` lays them out. The facts name the run and the key, so a file is never taken for that of
another run, and a file that was finished but not recorded can be used. It is written under a temporary name, synced and renamed:
whole or absent, whenever the writer is killed. Names of temporary files end in ``.part``; the next run removes them.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from bdv_io.errors import FormatError
from bdv_io.packed import pack, unpack
from bdv_io.safe_write import locked
from howdah.errors import ScaleError
from howdah.scale.plan import Result

__all__ = [
    "DamagedBlock",
    "Written",
    "block_path",
    "contents",
    "hold",
    "read_result",
    "work_folder",
    "write_result",
]

MAGIC = b"HOWDAHB1"
DIGEST = 16
HEAD = len(MAGIC) + DIGEST + 8
ENDING = ".block"
LOCK = "run.lock"
KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")


class DamagedBlock(ScaleError):
    """A block's file is missing, cut short, of another run, or not what was written; the run does the block again.

    Attributes:
        key: The block.
    """

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"The file of block '{key}' cannot be used: {reason}. The block is done again.")
        self.key, self.reason = key, reason


@dataclass(frozen=True)
class Written:
    """A block's file. Attributes: checksum: 32 hexadecimal digits. size: Bytes."""

    checksum: str
    size: int


def work_folder(target: Path) -> Path:
    """Return where the blocks of a target lie: ``name.blocks`` beside it."""
    target = target if target.name else target.absolute()  # "." is a folder, too
    if not target.name:
        raise ScaleError(f"{target} cannot be the target of a run: it has no name.")
    return target.with_name(f"{target.name}.blocks")


def block_path(folder: Path, key: str) -> Path:
    """Return the file of a block.

    Raises:
        ScaleError: The key cannot be a path: letters, digits, ``_ - .`` and ``/`` between parts.
    """
    check_key(key)
    return folder / f"{key}{ENDING}"


def check_key(key: str) -> None:
    """Raise a ScaleError if a key cannot be a path."""
    if not KEY.fullmatch(key):
        raise ScaleError(
            f"A block is named '{key}', which cannot be a file; use letters, digits, '_', '-' and '.', with '/' between parts."
        )


def write_result(folder: Path, key: str, result: Result, *, run: str = "") -> Written:
    """Write a block's file: temporary file, fsync, rename.

    Args:
        folder: The work folder.
        key: The block.
        result: What it found.
        run: Name of the run; who reads the file must give the same.

    Raises:
        ScaleError: The disk is full, read-only, or the folder is gone; nothing is left of the file.
    """
    data = pack({"run": run, "key": key, "facts": dict(result.facts)}, result.arrays)
    digest = hashlib.blake2b(data, digest_size=DIGEST)
    path = block_path(folder, key)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        try:
            handle = _created(temporary)
            try:
                head = b"".join([MAGIC, digest.digest(), len(data).to_bytes(8, "little")])
                _write_all(handle, head, data)
                os.fsync(handle)
            finally:
                os.close(handle)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ScaleError(f"Writing the block '{key}' to {path} failed: {reason_of(error)}.") from error
    return Written(digest.hexdigest(), HEAD + len(data))


def read_result(folder: Path, key: str, checksum: str | None = None, *, run: str = "") -> Result:
    """Return a block's result, checked against the checksum in its file, and against ``checksum`` where given.

    Raises:
        DamagedBlock: The file is missing or damaged, or of another run.
    """
    return read_checked(folder, key, checksum, run=run)[0]


def read_checked(folder: Path, key: str, checksum: str | None = None, *, run: str = "") -> tuple[Result, Written]:
    """Return a block's result and what is to be recorded about its file; see :func:`read_result`."""
    path = block_path(folder, key)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DamagedBlock(key, f"{path} is missing") from None
    except OSError as error:
        raise DamagedBlock(key, f"reading {path} failed ({reason_of(error)})") from error
    view = memoryview(data)
    if len(data) < HEAD or data[: len(MAGIC)] != MAGIC:
        raise DamagedBlock(key, f"{path} does not begin as a block does")
    length = int.from_bytes(view[HEAD - 8 : HEAD], "little")
    if len(data) != HEAD + length:
        raise DamagedBlock(key, f"{path} has {len(data)} bytes, expected {HEAD + length}")
    digest = hashlib.blake2b(view[HEAD:], digest_size=DIGEST)
    if digest.digest() != view[len(MAGIC) : HEAD - 8] or (checksum is not None and digest.hexdigest() != checksum):
        raise DamagedBlock(key, f"the checksum of {path} is not that of what was written")
    try:
        facts, arrays = unpack(view[HEAD:], str(path))
    except FormatError as error:
        raise DamagedBlock(key, str(error)) from error
    if facts.get("key") != key or facts.get("run") != run:
        raise DamagedBlock(key, f"{path} is of another run")
    return Result(arrays, facts["facts"]), Written(digest.hexdigest(), len(data))


def contents(folder: Path, stages: Collection[str]) -> set[str]:
    """Return the keys of all files of blocks in a work folder, by listing it; remove temporary files of writers that were killed.

    A list of names costs a million times less than opening them: what is in the files is checked when they are read.

    Args:
        folder: The work folder.
        stages: The stages of the plan. Other folders (the store of a conversion, with millions of chunks) are looked at, but not what
            is in their folders.
    """
    found: set[str] = set()
    open_folders = [(os.fspath(folder), "")]
    while open_folders:
        path, prefix = open_folders.pop()
        with os.scandir(path) as entries:
            for entry in entries:
                name = entry.name
                if name.endswith(ENDING) and not name.startswith("."):
                    found.add(prefix + name[: -len(ENDING)])
                elif name.endswith(".part") and name.startswith("."):
                    with contextlib.suppress(OSError):
                        os.unlink(entry.path)
                elif (not prefix or prefix.partition("/")[0] in stages) and entry.is_dir(follow_symlinks=False):
                    open_folders.append((entry.path, f"{prefix}{name}/"))
    return found


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold the work folder for one run; the system lets go of it when the process dies, however it dies.

    Raises:
        ScaleError: Another run holds it, or it cannot be made or written to.
    """
    if not folder.parent.is_dir():
        raise ScaleError(f"The run was not started: there is no folder {folder.parent} to put its blocks into.")
    try:
        folder.mkdir(exist_ok=True)
        handle = locked(folder / LOCK)
    except OSError as error:
        raise ScaleError(
            f"The run was not started: its work folder {folder} cannot be written to: {reason_of(error)}."
        ) from error
    if handle is None:
        raise ScaleError(
            f"The run was not started: another run is working in {folder}. Wait for it to end (`howdah scale status` shows how "
            "far it is), or choose another target."
        )
    try:
        yield
    finally:
        os.close(handle)


def remove(folder: Path) -> None:
    """Remove a work folder and all in it; what cannot be removed stays."""
    shutil.rmtree(folder, ignore_errors=True)


def reason_of(error: OSError) -> str:
    """Return why the system refused, and what to do, as the end of a sentence."""
    reasons = {
        errno.ENOSPC: "no space is left on the disk. Free some and start the same command again: it goes on from here",
        errno.EDQUOT: "the disk quota is used up. Free some space and start the same command again: it goes on from here",
        errno.EFBIG: "the system allows no file so large. Raise the limit (ulimit -f) and start the same command again",
        errno.EROFS: "the disk is read-only. Make it writable and start the same command again, or choose another target",
        errno.EACCES: "permission was denied. Allow it and start the same command again, or choose another target",
        errno.EPERM: "permission was denied. Allow it and start the same command again, or choose another target",
        errno.ENOENT: "its folder is gone",
        errno.ENOTDIR: "a file has the name of its folder. Move it away, or choose another target",
    }
    return reasons.get(error.errno or 0, f"the system said: {error}")


def _created(path: Path) -> int:
    flags = os.O_CREAT | os.O_WRONLY | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        return os.open(path, flags, 0o666)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, flags, 0o666)


def _write_all(handle: int, *parts: bytes) -> None:
    for part in parts:
        view = memoryview(part)
        while len(view):
            view = view[os.write(handle, view) :]
