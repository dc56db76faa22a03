"""The record beside every result: what went in, with which settings, versions and weights, and how long it took."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from bdv_io import BdvIoError
from bdv_io.safe_write import replacing
from howdah import __version__
from howdah.errors import Cancelled, HowdahError

__all__ = ["Record", "fingerprint", "recorded"]

WHOLE_BELOW = 64 * 2**20
SAMPLE = 4 * 2**20
LIBRARIES = ("numpy", "scipy", "h5py", "torch", "scikit-image")


def fingerprint(path: Path) -> dict[str, Any]:
    """Return size, time of change and SHA-256 of a file; of a large one the hash is of its first and last 4 MiB."""
    facts: dict[str, Any] = {"path": str(path.resolve())}
    if not path.is_file():
        return facts
    status = path.stat()
    digest = hashlib.sha256()
    with path.open("rb") as file:
        if status.st_size <= WHOLE_BELOW:
            while block := file.read(2**20):
                digest.update(block)
        else:
            digest.update(file.read(SAMPLE))
            file.seek(-SAMPLE, os.SEEK_END)
            digest.update(file.read())
    kind = "sha256" if status.st_size <= WHOLE_BELOW else "sha256_of_first_and_last_4_MiB"
    changed = datetime.fromtimestamp(status.st_mtime, tz=UTC).isoformat(timespec="seconds")
    return {**facts, "bytes": status.st_size, "changed": changed, kind: digest.hexdigest()}


@dataclass
class Record:
    """What will be written beside the result; fill ``facts`` while the work goes on."""

    facts: dict[str, Any] = field(default_factory=dict)


@contextlib.contextmanager
def recorded(result: Path, task: str, *, inputs: Mapping[str, Path], settings: Mapping[str, Any]) -> Iterator[Record]:
    """Keep a log and a record of the work in the block, as ``<result>.log`` and ``<result>.howdah.json``.

    Bad input (an error with a sentence) leaves nothing behind; a fault or a cancelled run leaves the log.
    """
    handler = _Lines()
    roots = [logging.getLogger(name) for name in ("howdah", "bdv_io")]
    for root in roots:
        root.addHandler(handler)
    record, started = Record(), time.time()
    facts: dict[str, Any] = {
        "task": task,
        "howdah": __version__,
        "started": datetime.now(tz=UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "inputs": {name: fingerprint(path) for name, path in inputs.items()},
        "settings": dict(settings),
        "versions": versions(),
    }
    logging.getLogger("howdah").debug("%s of %s starts", task, ", ".join(map(str, inputs.values())))
    keep_log = True
    try:
        yield record
        facts.update(record.facts, seconds=round(time.time() - started, 3))
        _beside(result, ".howdah.json", json.dumps(facts, indent=2, default=str) + "\n")
    except (BdvIoError, HowdahError) as error:
        keep_log = isinstance(error, Cancelled)
        raise
    finally:
        for root in roots:
            root.removeHandler(handler)
        if keep_log and result.parent.is_dir():
            _beside(result, ".log", "".join(handler.lines))


def versions() -> dict[str, str]:
    """Return the versions of Python, of the system and of the libraries that results depend on."""
    found = {"python": platform.python_version(), "system": platform.platform()}
    for name in LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _beside(result: Path, ending: str, text: str) -> None:
    """Write a text beside the result; the result stands even where that fails."""
    path = result.with_name(result.name + ending)
    try:
        with replacing(path, keep_previous=False) as temporary:
            temporary.write_bytes(text.encode("utf-8", "backslashreplace"))
    except BdvIoError as error:
        logging.getLogger("howdah").warning("%s stands, but its record could not be written. %s", result, error)


class _Lines(logging.Handler):
    """Collects log lines in memory until it is known that they are wanted."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def emit(self, line: logging.LogRecord) -> None:
        """Keep the line."""
        self.lines.append(self.format(line) + "\n")
