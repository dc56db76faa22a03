"""Where a running service is noted so that clients on this computer find it: ``service.json``, readable by its user alone."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from howdah.errors import ServiceError

__all__ = ["Running", "forget", "home", "note", "read_note"]

NAME = "service.json"
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
    return running if isinstance(running.pid, int) and _lives(running.pid) else None


def forget(pid: int) -> None:
    """Remove ``service.json`` if it is that of this process."""
    path = home() / NAME
    try:
        if json.loads(path.read_text(encoding="ascii")).get("pid") == pid:
            path.unlink(missing_ok=True)
    except (OSError, ValueError, AttributeError):
        return


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
