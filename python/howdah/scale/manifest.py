"""The manifest of a run (SQLite): what is done, by which settings and weights, how often it was tried, and how long it took.

Only the process that runs the plan writes it, in batches about once a second (a kill in between loses no work: files of blocks that
are not recorded are found, checked and recorded by the next run). Rollback journal, no WAL: that works on network disks, too. Tables:

- ``run (name, value)``: identity, run (its short name), stages (blocks and cost of each), limits, state, times; JSON.
- ``blocks (key, stage, state, attempts, executions, worker, started, seconds, peak_mb, bytes, checksum, error)``: one row for each block
  that anything happened to. States: ``done``, ``gone`` (done, passing, its file removed), ``failed``. ``attempts`` in the present run,
  ``executions`` in all runs of this work folder, as far as known.
- ``running (key, started)``: handed out at the time of the last batch. ``events (number, time, kind, text)``.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from howdah.errors import ScaleError
from howdah.scale.plan import Json

__all__ = ["Manifest", "Row", "manifest_path", "read_manifest"]

NAME = "manifest.sqlite"
WAIT_S = 30.0
SCHEMA = """
CREATE TABLE IF NOT EXISTS run (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blocks (key TEXT PRIMARY KEY, stage TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL,
  executions INTEGER NOT NULL, worker TEXT NOT NULL, started REAL NOT NULL, seconds REAL NOT NULL, peak_mb REAL NOT NULL,
  bytes INTEGER NOT NULL, checksum TEXT NOT NULL, error TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS running (key TEXT PRIMARY KEY, started REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (number INTEGER PRIMARY KEY, time REAL NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL);
"""


@dataclass
class Row:
    """What is known of a block; see the table ``blocks``."""

    key: str
    stage: str
    state: str = "waiting"
    attempts: int = 0
    executions: int = 0
    worker: str = ""
    started: float = 0.0
    seconds: float = 0.0
    peak_mb: float = 0.0
    size: int = 0
    checksum: str = ""
    error: str = ""


def manifest_path(folder: Path) -> Path:
    """Return the manifest of a work folder."""
    return folder / NAME


class Manifest:
    """The manifest, open for writing; what is noted is on disk after :meth:`flush`.

    Raises:
        ScaleError: From every method: the disk is full or read-only, another program holds the file, or it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.path = manifest_path(folder)
        self._rows: dict[str, Row] = {}
        self._events: list[tuple[float, str, str]] = []
        self._said: dict[str, Json] = {}
        with self._sentences():
            self._database = sqlite3.connect(self.path, timeout=WAIT_S, isolation_level=None)
            try:
                self._database.execute("PRAGMA journal_mode=DELETE")
                self._database.execute("PRAGMA synchronous=NORMAL")
                self._database.executescript(SCHEMA)
            except sqlite3.Error:
                self._database.close()
                raise

    def facts(self) -> dict[str, Json]:
        """Return the table ``run``."""
        with self._sentences():
            return {name: json.loads(value) for name, value in self._database.execute("SELECT name, value FROM run")}

    def rows(self) -> dict[str, Row]:
        """Return the table ``blocks``, by key."""
        with self._sentences():
            return {values[0]: Row(*values) for values in self._database.execute("SELECT * FROM blocks")}

    def running(self) -> set[str]:
        """Return the keys that were handed out at the last batch."""
        with self._sentences():
            return {str(key) for (key,) in self._database.execute("SELECT key FROM running")}

    def say(self, **facts: Json) -> None:
        """Note facts about the run."""
        self._said.update(facts)

    def note(self, row: Row) -> None:
        """Note what is known of a block now."""
        self._rows[row.key] = row

    def event(self, kind: str, text: str) -> None:
        """Note that something happened: a worker died, a file was damaged."""
        self._events.append((time.time(), kind, text))

    def flush(self, running: Iterable[str] = ()) -> None:
        """Bring all notes to disk in one transaction, and which blocks are handed out now."""
        now = time.time()
        rows = [tuple(vars(row).values()) for row in self._rows.values()]
        with self._sentences():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                put = self._database.executemany
                put("INSERT OR REPLACE INTO blocks VALUES (?,?,?,?,?,?,?,?,?,?,?,?)", rows)
                put("INSERT INTO events (time, kind, text) VALUES (?,?,?)", self._events)
                said = {**self._said, "seen": now}
                put("INSERT OR REPLACE INTO run VALUES (?,?)", [(name, json.dumps(v)) for name, v in said.items()])
                self._database.execute("DELETE FROM running")
                put("INSERT INTO running VALUES (?,?)", [(key, now) for key in running])
                self._database.execute("COMMIT")
            except sqlite3.Error:
                with contextlib.suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")
                raise
        self._rows.clear()
        self._events.clear()
        self._said.clear()

    def close(self) -> None:
        """Close the file; notes since the last flush are lost."""
        self._database.close()

    @contextlib.contextmanager
    def _sentences(self) -> Iterator[None]:
        with _sentences(self.path):
            yield


def read_manifest(folder: Path) -> tuple[dict[str, Json], list[Mapping[str, Json]], list[Mapping[str, Json]]]:
    """Return what a manifest says now, also while a run writes it: facts of the run, a row a stage and state, and the last events.

    Raises:
        ScaleError: There is none, or it cannot be read.
    """
    path = manifest_path(folder)
    if not path.is_file():
        raise ScaleError(
            f"There is no run to look at: no {path}. A run that ended well has removed it (unless --keep was given)."
        )
    with (
        _sentences(path),
        contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=WAIT_S)) as database,
    ):
        facts = {name: json.loads(value) for name, value in database.execute("SELECT name, value FROM run")}
        facts["running"] = int(database.execute("SELECT count(*) FROM running").fetchone()[0])
        database.row_factory = sqlite3.Row
        rows = database.execute(
            "SELECT stage, state, count(*) AS blocks, sum(attempts) AS attempts, sum(executions) AS executions, sum(seconds) AS seconds, "
            "max(peak_mb) AS peak_mb, sum(bytes) AS bytes, min(started) AS first, max(started + seconds) AS last, max(error) AS error "
            "FROM blocks GROUP BY stage, state"
        ).fetchall()
        events = database.execute("SELECT time, kind, text FROM events ORDER BY number DESC LIMIT 20").fetchall()
    return facts, [dict(row) for row in rows], [dict(event) for event in events]


@contextlib.contextmanager
def _sentences(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise ScaleError(f"The manifest {path} {_reason(error, path)}") from error


def _reason(error: sqlite3.Error, path: Path) -> str:
    text, stay = str(error), "What is done stays: start the same command again and it goes on from there."
    if "full" in text:
        return f"cannot be written: no space is left on the disk. Free some. {stay}"
    if "readonly" in text or "unable to open" in text:
        return f"cannot be written: the disk or the folder is read-only. Make it writable. {stay}"
    if "locked" in text or "busy" in text:
        return f"is held by another program. Close it (a database viewer?). {stay}"
    if isinstance(error, sqlite3.OperationalError) and "no such" not in text:
        return f"cannot be read or written ({text}). Look at the disk. {stay}"
    return (
        f"is damaged ({text}). Remove this one file ({path.name}) and start the same command again: the run goes on from the files "
        "of its blocks, each of which is checked."
    )
