"""Writing files so that nothing is ever lost: temporary file, fsync, read back, atomic replace, previous versions kept.

A crash, a full disk or a second writer leaves either the old file or the new one, whole. The version before is kept as
``name~1~``, the one before that as ``name~2~`` and so on, as many as the environment variable ``HOWDAH_KEEP`` says
(default 1; 0 keeps none). :func:`restore` brings a version back. A file that another program changed after it was read
is not overwritten: see :class:`Stamp`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import glob
import hashlib
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bdv_io.errors import BdvIoError, BusyError, MissingDataError, WriteError

__all__ = [
    "Stamp",
    "locked",
    "previous_version",
    "put_in_place",
    "replacing",
    "replacing_together",
    "restore",
    "stamp_of",
]

KEEP = "HOWDAH_KEEP"
BLOCK = 1 << 20
HASHED_BYTES = 64 << 20


def previous_version(path: Path, number: int = 1) -> Path:
    """Return where :func:`replacing` keeps the version that stood at ``path`` before: ``name~1~`` beside it."""
    return path.with_name(f"{path.name}~{number}~")


@dataclass(frozen=True)
class Stamp:
    """What a file, or the files of a folder, looked like when it was read.

    Attributes:
        path: The file, resolved.
        changed_ns: Times of change and sizes, of every file.
        digest: Hash of the content, so that a file that was only touched counts as unchanged. None above 64 MiB, where hashing
            would take as long as reading: then any change of times counts.
    """

    path: Path
    changed_ns: tuple[tuple[str, int, int], ...]
    digest: str | None

    def check(self, target: Path) -> None:
        """Raise a BusyError if ``target`` is this file, and its content is no longer what was read."""
        if target.resolve() != self.path or not target.exists():
            return
        now = _times(self.path)
        if now != self.changed_ns and (self.digest is None or _digest(self.path, now) != self.digest):
            raise BusyError(
                f"Writing {target} was not done: another program has changed it since it was read. Nothing is lost: write to "
                "another name, then compare the two with `howdah diff` and join them with `howdah merge`."
            )


def stamp_of(path: str | os.PathLike[str]) -> Stamp:
    """Return the stamp of a file or folder as it is now. Take it before reading."""
    resolved = Path(path).resolve()
    times = _times(resolved)
    large = sum(size for _, _, size in times) > HASHED_BYTES
    return Stamp(resolved, times, None if large else _digest(resolved, times))


def _times(path: Path) -> tuple[tuple[str, int, int], ...]:
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    states = [(file, file.stat()) for file in files]
    return tuple((str(file.relative_to(path)), state.st_mtime_ns, state.st_size) for file, state in states)


def _digest(path: Path, times: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.blake2b()
    for name, _, size in times:
        digest.update(f"{name}\0{size}\0".encode("utf-8", "surrogateescape"))
        with (path if name == "." else path / name).open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
    return digest.hexdigest()


def versions_to_keep() -> int:
    """Return how many former versions are kept.

    Raises:
        WriteError: ``HOWDAH_KEEP`` is no whole number from 0 on.
    """
    text = os.environ.get(KEEP, "1")
    if not text.isdecimal():
        raise WriteError(f"Nothing was written: the environment variable {KEEP} is '{text}', expected 0, 1, 2 ...")
    return int(text)


def restore(path: str | os.PathLike[str], number: int = 1) -> Path:
    """Put a former version back in its place; what stands there now becomes ``name~1~``, so that this can be undone, too.

    Args:
        path: The file or folder.
        number: Which version, 1 for the last one before.

    Returns:
        The restored path.

    Raises:
        MissingDataError: There is no such version.
        BusyError, WriteError: As for :func:`replacing`.
    """
    target = Path(path)
    if not target.name or target.name == "..":
        raise MissingDataError(f"Restoring '{target}' is not possible: it names no file.")
    former = previous_version(target, number)
    if not former.exists():
        kept = ", ".join(sorted(p.name for p in target.parent.glob(f"{glob.escape(target.name)}~*~"))) or "none"
        raise MissingDataError(
            f"Restoring {target} failed: there is no {former.name} beside it; kept versions: {kept}."
        )
    with _lock(target), _as_sentences(target):
        aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        os.rename(former, aside)
        for older in range(number - 1, 0, -1):
            os.rename(previous_version(target, older), previous_version(target, older + 1))
        if target.exists():
            os.rename(target, previous_version(target))
        os.rename(aside, target)
        _sync_folder(target.parent)
    return target


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
        keep_previous: Keep the former target as ``name~1~``, and older ones as ``HOWDAH_KEEP`` says.
        folder: The target may be a folder, which is then replaced as a whole.

    Raises:
        BusyError: Another Howdah is writing the same file, or another program holds it.
        WriteError: The disk is full, the folder is missing or may not be written to, the target is a folder or a
            device, or ``name~1~`` is a folder. What was there is intact.
    """
    with _replacing([Path(path)], keep_previous=keep_previous, folder=folder) as (temporaries, before):
        if verify is not None:
            before.append(lambda: verify(temporaries[0]))
        yield temporaries[0]


@contextlib.contextmanager
def replacing_together(
    paths: Sequence[str | os.PathLike[str]], *, verify: Callable[[Sequence[Path]], object] | None = None
) -> Iterator[Sequence[Path]]:
    """Give temporary paths for files that belong together; put all in place at once when the block ends well.

    All are written, synced and verified before the first of them is replaced; then they are renamed one directly after the
    other, in the order given. Only a crash in the instant between two renames can leave the new version of the first and
    the old one of the second; the old version of the first is then ``name~1~``.

    Args:
        paths: The targets.
        verify: Called with the temporary paths before they replace the targets.

    Raises:
        BusyError, WriteError: As for :func:`replacing`.
    """
    with _replacing([Path(path) for path in paths], keep_previous=True, folder=False) as (temporaries, before):
        if verify is not None:
            before.append(lambda: verify(temporaries))
        yield temporaries


def put_in_place(made: Path, path: str | os.PathLike[str]) -> None:
    """Put a folder that is complete, on the same disk, in the place of ``path``; what stood there is kept as ``name~1~``.

    At any time the new folder is whole at one of the two names: a kill on the way loses nothing.

    Raises:
        BusyError, WriteError: As for :func:`replacing`.
    """
    target, keep = Path(path), versions_to_keep()
    _check_target(target, folder=True, keep=keep)
    with _lock(target), _as_sentences(target):
        _sync(made)
        if keep and target.exists():
            _make_room(target, keep)
        if target.is_dir():
            _swap_folder(made, target, keep_previous=keep > 0)
        else:
            os.rename(made, target)
        _sync_folder(target.parent)


@contextlib.contextmanager
def _replacing(
    targets: Sequence[Path], *, keep_previous: bool, folder: bool
) -> Iterator[tuple[list[Path], list[Callable[[], object]]]]:
    """Yield the temporary paths, and a list for what shall be called when they are written."""
    keep, before = versions_to_keep() if keep_previous else 0, list[Callable[[], object]]()
    for target in targets:
        _check_target(target, folder=folder, keep=keep)
    temporaries = [target.with_name(f".{target.name}.{secrets.token_hex(4)}.part") for target in targets]
    with contextlib.ExitStack() as stack:
        for target in targets:
            stack.enter_context(_lock(target))
        stack.enter_context(_as_sentences(targets[0]))
        try:
            yield temporaries, before
            for temporary in temporaries:
                _sync(temporary)
            for check in before:
                check()
            for target in targets:
                if keep and target.exists():
                    _make_room(target, keep)
                    if not target.is_dir():
                        _keep(target)
            for temporary, target in zip(temporaries, targets, strict=True):
                if target.is_dir():
                    _swap_folder(temporary, target, keep_previous=keep > 0)
                else:
                    os.replace(temporary, target)
            _sync_folder(targets[0].parent)
        finally:
            for temporary in temporaries:
                _remove(temporary)


def _check_target(target: Path, *, folder: bool, keep: int) -> None:
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
        for former in (previous_version(target, number + 1) for number in range(keep)):
            if stat.S_ISREG(kind) and former.is_dir():
                raise WriteError(
                    f"Writing {target} failed: the version before it would be kept as {former.name}, but there is a folder of "
                    "this name. Move the folder away."
                )


@contextlib.contextmanager
def _lock(target: Path) -> Iterator[None]:
    """Hold the lock file of a target; the system lets go of it when the process dies, however it dies."""
    lock = target.with_name(f".{target.name}.lock")
    with _as_sentences(target):
        handle = locked(lock)
    if handle is None:
        raise BusyError(
            f"Writing {target} was not started: another Howdah is writing it (it holds {lock.name}). Wait for it to end."
        )
    try:
        for stale in target.parent.glob(f".{glob.escape(target.name)}.????????.part"):
            _remove(stale)  # of a writer that was killed
        yield
    finally:
        if os.name == "posix":
            lock.unlink(missing_ok=True)
        os.close(handle)
        if os.name != "posix":
            with contextlib.suppress(OSError):  # another may have opened it in the meantime
                lock.unlink()


def locked(lock: Path) -> int | None:
    """Open and lock a file; None if another holds it. A file that was removed while we waited is tried anew."""
    while True:
        handle = os.open(lock, os.O_CREAT | os.O_RDWR)
        try:
            if not _take(handle):
                os.close(handle)
                return None
            same = os.fstat(handle).st_ino == lock.stat().st_ino
        except FileNotFoundError:
            same = False
        except BaseException:
            os.close(handle)
            raise
        if same:
            return handle
        os.close(handle)


def _take(handle: int) -> bool:
    if sys.platform == "win32":
        import msvcrt

        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
            raise  # else a disk without locks: go on without
    return True


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


def _make_room(target: Path, keep: int) -> None:
    """Number the former versions on, so that ``name~1~`` is free; the oldest beyond ``keep`` goes."""
    last = next((n for n in range(1, keep + 1) if not previous_version(target, n).exists()), keep + 1)
    if last > keep:
        last = keep
        if last > 1:
            _remove(previous_version(target, last))
    for number in range(last - 1, 0, -1):
        os.rename(previous_version(target, number), previous_version(target, number + 1))


def _swap_folder(temporary: Path, target: Path, *, keep_previous: bool) -> None:
    """Put a folder in the place of another, at one stroke where the system can; the old one is on the disk throughout."""
    aside = previous_version(target) if keep_previous else temporary.with_name(f"{temporary.name}.old")
    _remove(aside)
    if _exchange(temporary, target):
        os.rename(temporary, aside)
    else:
        os.rename(target, aside)
        try:
            os.rename(temporary, target)
        except OSError:
            os.rename(aside, target)
            raise
    if not keep_previous:
        _remove(aside)


def _exchange(first: Path, second: Path) -> bool:
    """Swap the names of two folders in one step (Linux's renameat2); False where the system or the disk cannot."""
    if sys.platform != "linux":
        return False
    at_working_folder, exchange = -100, 2
    try:
        function = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:  # an old C library
        return False
    done = function(at_working_folder, os.fsencode(first), at_working_folder, os.fsencode(second), exchange)
    return int(done) == 0


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
