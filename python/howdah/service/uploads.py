"""What clients sent: each upload in a folder of its own under a name that we chose, written as it arrives.

The name that a client gives is a suffix at most, never a path. Before the first byte is taken its number and the room on the disk
are known; an upload that is cut off, or for which the disk is full, leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Callable, Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from howdah.service.arrays import NOTE
from howdah.service.security import Limits, Refused

__all__ = ["Upload", "Uploads"]

Kind = Literal["array", "file", "table"]
IDENTITY = re.compile(r"[0-9a-f]{16}")
SUFFIX = re.compile(r"((?:\.[A-Za-z0-9_]{1,12}){1,2})$")
BLOCK = 4 << 20
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Upload:
    """One upload.

    Attributes:
        id: Sixteen hexadecimal digits. kind: What it is. path: Its file.
        header: What the client said of it (array, table). offset: Where its bytes begin in the file.
    """

    id: str
    kind: Kind
    path: Path
    header: Mapping[str, Any]
    offset: int = 0


class Uploads:
    """The folder of uploads; what was left half-written, or is too old, goes when it is opened."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.folder, self.limits = folder, limits
        self._promised = 0
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob(".*"):
            shutil.rmtree(path, ignore_errors=True)

    def clean(self, needed: Container[str]) -> int:
        """Remove uploads that nobody used for long, and return how many; those that are ``needed`` (their ids) stay."""
        removed = 0
        for path in self.folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                old = time.time() - path.stat().st_mtime > self.limits.keep_uploads_s
                if old and IDENTITY.fullmatch(path.name) and path.name not in needed:
                    shutil.rmtree(path, ignore_errors=True)
                    removed += 1
        return removed

    def use(self, upload_id: str) -> Upload:
        """Return an upload that a job will read: its age counts from now on.

        Raises:
            Refused: 404.
        """
        upload = self.find(upload_id)
        with contextlib.suppress(OSError):
            os.utime(upload.path.parent)
        return upload

    def find(self, upload_id: str) -> Upload:
        """Return an upload.

        Raises:
            Refused: 404.
        """
        if IDENTITY.fullmatch(upload_id):
            try:
                said = json.loads((self.folder / upload_id / NOTE).read_text(encoding="ascii"))
            except (OSError, ValueError):
                said = None
            if said is not None:
                path = self.folder / upload_id / said["file"]
                return Upload(upload_id, said["kind"], path, said["header"], said["offset"])
        raise Refused(f"There is no upload {upload_id[:80]!r}. It may have been deleted; send it again.", 404)

    def delete(self, upload_id: str) -> None:
        """Remove an upload.

        Raises:
            Refused: 404.
        """
        shutil.rmtree(self.find(upload_id).path.parent, ignore_errors=True)

    def adopt(
        self,
        path: Path,
        header: Mapping[str, Any],
        offset: int,
        *,
        begin: Callable[[Path], int] | None = None,
    ) -> Upload:
        """Make an array that a job returned an upload, without a copy where the disk knows hard links.

        Args:
            path: Its file.
            header: What it is.
            offset: Where its bytes begin.
            begin: Writes what stands before the bytes in a movie and returns the offset at which they begin: a file that every task
                opens, as a copy.

        Raises:
            Refused: 507: the disk refuses.
        """
        upload_id = secrets.token_hex(8)
        target = self.folder / upload_id / (f"array{path.suffix}" if begin is None else "array.ome.tif")
        try:
            target.parent.mkdir()
            if begin is not None:
                start = begin(target)
                with path.open("rb") as read, target.open("r+b") as written:
                    read.seek(offset)
                    written.seek(start)
                    shutil.copyfileobj(read, written, BLOCK)
                offset = start
            else:
                try:
                    target.hardlink_to(path)
                except OSError:
                    shutil.copyfile(path, target)
            note = {"kind": "array", "file": target.name, "header": dict(header), "offset": offset}
            (target.parent / NOTE).write_text(json.dumps(note), encoding="ascii")
        except OSError as error:
            shutil.rmtree(target.parent, ignore_errors=True)
            raise Refused(f"Taking {path.name} from the result failed: {error.strerror}.", 507) from error
        return Upload(upload_id, "array", target, header, offset)

    def expect(self, length: str | None, needed: int | None = None) -> int:
        """Return how many bytes will come, if there is room for them.

        Args:
            length: The header ``Content-Length``.
            needed: Bytes that another header says.

        Raises:
            Refused: 411 without a length, 413 above the limit, 400 for another number than needed, 507 for a full disk.
        """
        if length is None or not (length.isascii() and length.isdigit() and len(length) < 19):
            raise Refused("The request does not say its length (Content-Length), which an upload must.", 411)
        size = int(length)
        if size > self.limits.upload:
            raise Refused(
                f"The upload has {size:,} bytes; at most {self.limits.upload:,} are taken (--max-upload).", 413
            )
        if needed is not None and size != needed:
            raise Refused(f"The upload has {size:,} bytes; its header says {needed:,}. Check shape and type.")
        free = shutil.disk_usage(self.folder).free - self._promised - self.limits.spare_disk
        if size > free:
            raise Refused(
                f"The disk of the service has no room for {size:,} bytes: {max(free, 0):,} are free. Delete old jobs and uploads, or "
                "start the service with --state on another disk.",
                507,
            )
        return size

    async def take(
        self,
        chunks: AsyncIterator[bytes],
        size: int,
        *,
        kind: Kind,
        name: str,
        header: Mapping[str, Any],
        begin: Callable[[Path], int] | None = None,
    ) -> Upload:
        """Write an upload as it arrives.

        Args:
            chunks: Its bytes.
            size: How many there will be (:meth:`expect`).
            kind: What it is.
            name: The client's name of it; only its suffix is kept.
            header: What the client said of it.
            begin: Writes what stands before the bytes and returns the offset at which they begin.

        Raises:
            Refused: 400 for fewer or more bytes than announced, 408 for silence, 507 for a full disk. Nothing is left then.
        """
        upload_id = secrets.token_hex(8)
        found = SUFFIX.search(name)
        file_name = f"{kind}{found[1].lower() if found else ''}"
        part, target = self.folder / f".{upload_id}.part", self.folder / upload_id
        promise = _Promise(self, size)
        try:
            part.mkdir()
            offset = await asyncio.to_thread(begin, part / file_name) if begin is not None else 0
            with (part / file_name).open("r+b" if begin is not None else "xb", buffering=0) as file:
                file.seek(offset)
                await self._write(file, chunks, size, promise)
            note = {"kind": kind, "file": file_name, "header": dict(header), "offset": offset}
            (part / NOTE).write_text(json.dumps(note), encoding="ascii")
            part.rename(target)
        except OSError as error:
            if error.errno in FULL:
                raise Refused("The disk of the service is full. Nothing of the upload was kept.", 507) from None
            raise Refused(f"Writing the upload failed: {error.strerror}. Nothing of it was kept.", 507) from error
        finally:
            promise.keep(size)
            shutil.rmtree(part, ignore_errors=True)
        return Upload(upload_id, kind, target / file_name, header, offset)

    async def _write(self, file: BinaryIO, chunks: AsyncIterator[bytes], size: int, promise: _Promise) -> None:
        """Write what comes, several chunks at a time and in another thread, so that other clients are served meanwhile."""
        held: list[bytes] = []
        total = waiting = 0
        iterator = aiter(chunks)
        while True:
            try:
                chunk = await asyncio.wait_for(anext(iterator), self.limits.silence_s)
            except StopAsyncIteration:
                break
            except TimeoutError:
                raise Refused(
                    f"No byte came for {self.limits.silence_s:g} s. Nothing of the upload was kept.", 408
                ) from None
            total += len(chunk)
            waiting += len(chunk)
            held.append(chunk)
            if total > size:
                raise Refused(f"More bytes came than the {size:,} that were announced. Nothing of the upload was kept.")
            if waiting >= BLOCK:
                await asyncio.to_thread(_write_all, file, held)
                promise.keep(total)
                held, waiting = [], 0
        if total != size:
            raise Refused(f"Only {total:,} of {size:,} bytes came. Nothing of the upload was kept; send it again.")
        if held:
            await asyncio.to_thread(_write_all, file, held)


class _Promise:
    """Room on the disk that an upload will need; what is written no longer counts, for the disk counts it."""

    def __init__(self, uploads: Uploads, size: int) -> None:
        self._uploads, self._left, self._size = uploads, size, size
        uploads._promised += size

    def keep(self, written: int) -> None:
        """Say how much is written by now."""
        left = max(self._size - written, 0)
        self._uploads._promised -= self._left - left
        self._left = left


def _write_all(file: BinaryIO, blocks: list[bytes]) -> None:
    for block in blocks:
        view = memoryview(block)
        while view:
            view = view[file.write(view) :]
