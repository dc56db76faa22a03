"""Where a running service is noted so that clients on this computer find it: ``service.json``, readable by its user alone."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bdv_io.errors import BusyError
from howdah.errors import ServiceError
from howdah.service.claim import claimed

__all__ = ["Running", "claim_home", "forget", "home", "note", "read_note"]

NAME, LOCK = "service.json", "service.lock"
PATIENCE_S = 0.5
MOST_BYTES = 65_536


@dataclass(frozen=True)
class Running:
    """A service that was started.

    Attributes:
        url: Without a slash at its end. token: See :mod:`howdah.service.security`. pid: Its process.
        version: Of Howdah. started: Seconds since 1970. log: Its log file.
        certificate: The certificate that clients shall trust, None without TLS.
    """

    url: str
    token: str
    pid: int
    version: str
    started: float
    log: str
    certificate: str | None = None


def home() -> Path:
    """Return Howdah's own folder: the environment variable HOWDAH_HOME, else ``.howdah`` in the user's folder."""
    named = os.environ.get("HOWDAH_HOME")
    return Path(named) if named else Path.home() / ".howdah"


@contextlib.contextmanager
def claim_home() -> Iterator[None]:
    """Be the one service of this user on this computer, as long as the block lasts; a process that is killed lets go.

    Raises:
        ServiceError: Another one runs, or the folder cannot be made or written.
    """
    folder, until = home(), time.monotonic() + PATIENCE_S
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        while True:
            try:
                held = claimed(folder / LOCK)
                break
            except BusyError:  # also while another process looks whether it is held
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
    except BusyError:
        other = read_note()
        where = "" if other is None else f" at {other.url} (process {other.pid})"
        raise ServiceError(f"A service runs already{where}. Stop it: howdah serve --stop") from None
    except OSError as error:
        raise ServiceError(f"The folder {folder} cannot be used: {error}. Set HOWDAH_HOME to another one.") from error
    with held:
        yield


def note(running: Running) -> Path:
    """Write ``service.json`` (mode 0600 from its first byte on) and return its path.

    Raises:
        ServiceError: The folder cannot be made or written.
    """
    folder = home()
    target = folder / NAME
    fresh = folder / f".{NAME}.{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        number = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(number, "w", encoding="ascii") as file:
            json.dump(asdict(running), file)
        os.replace(fresh, target)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise ServiceError(f"Noting the running service in {target} failed: {error}. Set HOWDAH_HOME.") from error
    return target


def read_note() -> Running | None:
    """Return what ``service.json`` says, or None where there is none, it is damaged, or its process has gone."""
    try:
        text = (home() / NAME).read_text(encoding="ascii")
        said: Any = json.loads(text[:MOST_BYTES])
        running = Running(**said)
    except (OSError, ValueError, TypeError):
        return None
    return running if isinstance(running.pid, int) and _is_held() is not False and _lives(running.pid) else None


def forget(pid: int) -> None:
    """Remove ``service.json`` if it is that of this process."""
    path = home() / NAME
    try:
        if json.loads(path.read_text(encoding="ascii")).get("pid") == pid:
            path.unlink(missing_ok=True)
    except (OSError, ValueError, AttributeError):
        return


def _is_held() -> bool | None:
    """Whether a service holds the lock; None where there is none. Numbers of processes are given again; Windows tells nothing of them."""
    path = home() / LOCK
    if not path.exists():
        return None
    try:
        claimed(path).close()
    except (BusyError, OSError):
        return True
    return False


def _lives(pid: int) -> bool:
    """Whether there is such a process; on Windows a signal would end it, so there the answer is always yes."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True
