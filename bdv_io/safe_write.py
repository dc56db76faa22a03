"""Writing files so that nothing is ever lost: temporary file, fsync, read back, atomic replace, previous version kept.

A crash, a full disk or a second writer leaves either the old file or the new one, whole.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bdv_io.errors import BdvIoError, BusyError, WriteError

__all__ = ["previous_version", "replacing"]

UNSIGNED_S = 10.0


def previous_version(path: Path) -> Path:
    """Return where :func:`replacing` keeps the version that stood at ``path`` before: ``name~`` beside it."""
    return path.with_name(path.name + "~")


@contextlib.contextmanager
def replacing(
    path: str | os.PathLike[str],
    *,
    verify: Callable[[Path], object] | None = None,
    keep_previous: bool = True,
    folder: bool = False,
) -> Iterator[Path]:
    """Give a temporary path beside ``path`` to write to; put it in the place of ``path`` when the block ends well.

    Args:
        path: The target. Its folder must exist.
        verify: Called with the temporary path before it replaces the target; an error that it raises keeps the old file.
        keep_previous: Keep the former target as ``name~``.
        folder: The target may be a folder, which is then replaced as a whole.

    Raises:
        BusyError: Another Howdah is writing the same file, or another program holds it.
        WriteError: The disk is full, the folder is missing or may not be written to, the target is a folder or a
            device, or ``name~`` is a folder. What was there is intact.
    """
    target = Path(path)
    _check_target(target, folder=folder, keep_previous=keep_previous)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    with _lock(target), _as_sentences(target):
        try:
            yield temporary
            _sync(temporary)
            if verify is not None:
                verify(temporary)
            if target.is_dir():
                _swap_folder(temporary, target, keep_previous=keep_previous)
            else:
                if keep_previous and target.exists():
                    _keep(target)
                os.replace(temporary, target)
            _sync_folder(target.parent)
        finally:
            _remove(temporary)


def _check_target(target: Path, *, folder: bool, keep_previous: bool) -> None:
    with _as_sentences(target):
        if not target.name or target.name == "..":
            raise WriteError(f"Writing to '{target}' is not possible: it names no file.")
        try:
            kind = target.stat().st_mode
        except FileNotFoundError:
            return
        if stat.S_ISDIR(kind) and not folder:
            raise WriteError(f"Writing {target} failed: there is a folder of this name. Choose another name.")
        if not stat.S_ISDIR(kind) and not stat.S_ISREG(kind):
            raise WriteError(
                f"Writing {target} failed: it is no ordinary file but a device or the like. Choose another name."
            )
        if stat.S_ISREG(kind) and keep_previous and previous_version(target).is_dir():
            raise WriteError(
                f"Writing {target} failed: the version before it would be kept as {previous_version(target).name}, but there is "
                "a folder of this name. Move the folder away."
            )


@contextlib.contextmanager
def _lock(target: Path) -> Iterator[None]:
    lock = target.with_name(f".{target.name}.lock")
    with _as_sentences(target):
        try:
            handle = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            if _is_stale(lock):
                lock.unlink(missing_ok=True)
                handle = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            else:
                raise BusyError(
                    f"Writing {target} was not started: another Howdah is writing it (lock file {lock.name}). "
                    "Wait for it to end; if none runs, delete the lock file."
                ) from None
    try:
        with _as_sentences(target):
            try:
                os.write(handle, str(os.getpid()).encode())
            finally:
                os.close(handle)
        yield
    finally:
        lock.unlink(missing_ok=True)


def _is_stale(lock: Path) -> bool:
    """Whether the process that made the lock is gone (only sure on the same machine, for a process number)."""
    try:
        text = lock.read_text()
        if not text:  # its writer was stopped between making the lock and signing it
            return time.time() - lock.stat().st_mtime > UNSIGNED_S
        os.kill(int(text), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError, OverflowError):
        return False
    return False


@contextlib.contextmanager
def _as_sentences(target: Path) -> Iterator[None]:
    try:
        yield
    except BdvIoError:
        raise
    except OSError as error:
        reasons = {
            errno.ENOSPC: "no space is left on the disk. Free some, or write elsewhere",
            errno.EDQUOT: "the disk quota is used up. Free some space, or write elsewhere",
            errno.ENOENT: "its folder does not exist. Make the folder first",
            errno.ENOTDIR: "its folder is not a folder. Choose another place",
            errno.EACCES: "permission was denied. Choose another place, or close the program that holds the file",
            errno.EPERM: "permission was denied. Choose another place",
            errno.EROFS: "the disk is read-only. Choose another place",
            errno.ENAMETOOLONG: "the name is too long. Choose a shorter one",
        }
        reason = reasons.get(error.errno or 0, f"the system said: {error}")
        raise WriteError(f"Writing {target} failed: {reason}. What was there before is unchanged.") from error


def _swap_folder(temporary: Path, target: Path, *, keep_previous: bool) -> None:
    """Put a folder in the place of another by two renames; the old one is on the disk throughout."""
    aside = (
        previous_version(target) if keep_previous else target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    )
    _remove(aside)
    os.rename(target, aside)
    try:
        os.rename(temporary, target)
    except OSError:
        os.rename(aside, target)
        raise
    if not keep_previous:
        _remove(aside)


def _keep(target: Path) -> None:
    """Keep the current target as the previous version, by a hard link where the disk can, else by a copy."""
    previous = previous_version(target)
    fresh = previous.with_name(f".{previous.name}.{secrets.token_hex(4)}.part")
    try:
        try:
            os.link(target, fresh)
        except OSError:
            shutil.copy2(target, fresh)
        os.replace(fresh, previous)
    finally:
        _remove(fresh)


def _sync(path: Path) -> None:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    for file in files:
        with file.open("rb+") as handle:
            os.fsync(handle.fileno())


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
