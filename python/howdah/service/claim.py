"""A file that one process holds, so that two backends never run the same jobs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

from bdv_io.errors import BusyError

__all__ = ["claimed"]


def claimed(path: Path) -> IO[bytes]:
    """Hold a file until it is closed, or the process ends however it may.

    Raises:
        BusyError: Another process holds it.
        OSError: It cannot be made.
    """
    file = path.open("a+b")
    try:
        _lock(file)
    except OSError as error:
        file.close()
        raise BusyError(f"Another process holds {path}.") from error
    return file


if os.name == "nt":
    import msvcrt

    def _lock(file: IO[bytes]) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]

else:
    import fcntl

    def _lock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
