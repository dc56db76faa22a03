"""Jobs, their log lines and their curves, in an SQLite file that survives a kill at any moment."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from howdah.errors import ServiceError

__all__ = ["Job", "Line", "Point", "State", "Store"]

State = Literal["queued", "running", "done", "failed", "cancelled"]
Line = tuple[int, float, str, str]
"""Number from 1, seconds since 1970, level, text."""
Point = tuple[str, int, float]
"""Curve (``"stage/name"``), steps done, value."""

VERSION = 2
MOST_CUTS = 3  # so often a job may have been running when the backend was killed; then it may be what kills it
TABLES = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, key TEXT UNIQUE, task TEXT NOT NULL, parameters TEXT NOT NULL,
    state TEXT NOT NULL, created REAL NOT NULL, started REAL, ended REAL, stage TEXT NOT NULL DEFAULT '',
    done INTEGER NOT NULL DEFAULT 0, total INTEGER NOT NULL DEFAULT 0, "values" TEXT NOT NULL DEFAULT '{}',
    result TEXT, error TEXT, kind TEXT, device TEXT, cuts INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS by_state ON jobs (state, number);
CREATE TABLE IF NOT EXISTS lines (
    job TEXT NOT NULL, number INTEGER NOT NULL, time REAL NOT NULL, level TEXT NOT NULL, text TEXT NOT NULL,
    PRIMARY KEY (job, number)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS points (job TEXT NOT NULL, curve TEXT NOT NULL, step INTEGER NOT NULL, value REAL);
CREATE INDEX IF NOT EXISTS by_job ON points (job);
"""
COLUMNS = (
    'id, task, parameters, state, created, started, ended, stage, done, total, "values", result, error, kind, device'
)
BUSY_S = 10.0


@dataclass(frozen=True)
class Job:
    """A job as it was when it was asked for; ask again for news.

    Attributes:
        id: Twelve hexadecimal digits.
        task: Name of the task.
        parameters: What it was told (JSON).
        state: queued, running, done, failed or cancelled.
        created: Seconds since 1970.
        folder: Its own folder, for results that nobody named.
        started: Seconds since 1970, or None.
        ended: Seconds since 1970, or None.
        stage: What is being done.
        done: Steps done.
        total: Steps in all.
        values: The latest numbers of its curves.
        result: What the task returned (images and tables as :func:`howdah.service.clean.stored` says), once it is done.
        error: A sentence, once it failed or was cancelled.
        kind: ``"input"``, ``"missing"``, ``"fault"`` or ``"cancelled"`` with the sentence.
        device: Where it runs: ``"cuda:0"``, ``"cpu"``, ``"quick"``.
    """

    id: str
    task: str
    parameters: Mapping[str, Any]
    state: State
    created: float
    folder: Path
    started: float | None = None
    ended: float | None = None
    stage: str = ""
    done: int = 0
    total: int = 0
    values: Mapping[str, float] = field(default_factory=dict)
    result: Mapping[str, Any] | None = None
    error: str | None = None
    kind: str | None = None
    device: str | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in ("done", "failed", "cancelled")

    def as_json(self) -> dict[str, Any]:
        """Return it for a client."""
        return {**vars(self), "folder": str(self.folder)}


class Store:
    """The jobs of one backend. All methods may be called from any thread; each is one transaction.

    Args:
        folder: Where ``jobs.sqlite`` is, or will be; jobs have their folders in ``jobs/`` there.

    Raises:
        ServiceError: The file cannot be opened, or is no list of jobs, or of a later version.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "jobs.sqlite"
        self._lock, self._reading = threading.Lock(), threading.Lock()
        with self._telling():
            self._db = self._connected()
            try:
                self._prepare()
                self._reader = self._connected()  # a read need not wait until a write has reached the disk
            except BaseException:
                self._db.close()
                raise

    def _prepare(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise ServiceError(f"The jobs in {self.file} were written by a later Howdah. Use that, or another folder.")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")  # a kill loses nothing; loss of power the last moments at most
        self._db.executescript(TABLES)
        if version == 1:
            self._db.execute("ALTER TABLE jobs ADD COLUMN cuts INTEGER NOT NULL DEFAULT 0")
        self._db.execute(f"PRAGMA user_version = {VERSION}")

    def _connected(self) -> sqlite3.Connection:
        return sqlite3.connect(self.file, timeout=BUSY_S, isolation_level=None, check_same_thread=False)

    def close(self) -> None:
        """Let go of the file."""
        with self._lock, self._reading:
            self._reader.close()
            self._db.close()

    # ---- jobs ------------------------------------------------------------------------------------------------------

    def add(self, job_id: str, task: str, parameters: Mapping[str, Any], *, key: str | None = None) -> str:
        """Note a job as queued; return its id, or that of the job which has this key already."""
        text = json.dumps(parameters, allow_nan=False)
        with self._writing() as db:
            if key is not None:
                found = db.execute("SELECT id FROM jobs WHERE key = ?", (key,)).fetchone()
                if found is not None:
                    return str(found[0])
            db.execute(
                "INSERT INTO jobs (id, key, task, parameters, state, created) VALUES (?, ?, ?, ?, 'queued', ?)",
                (job_id, key, task, text, time.time()),
            )
        return job_id

    def job(self, job_id: str) -> Job | None:
        """Return a job, or None."""
        found = self._read(f"SELECT {COLUMNS} FROM jobs WHERE id = ?", (job_id,))
        return self._job(found[0]) if found else None

    def jobs(self, *, state: State | None = None, limit: int = 100, oldest_first: bool = False) -> list[Job]:
        """Return jobs, the newest first unless asked otherwise."""
        where, values = ("WHERE state = ?", (state,)) if state else ("", ())
        order = "ASC" if oldest_first else "DESC"
        rows = self._read(f"SELECT {COLUMNS} FROM jobs {where} ORDER BY number {order} LIMIT ?", (*values, limit))
        return [self._job(row) for row in rows]

    def count(self, state: State) -> int:
        """Return how many jobs are in a state."""
        return int(self._read("SELECT COUNT(*) FROM jobs WHERE state = ?", (state,))[0][0])

    def ended_before(self, moment: float, *, limit: int = 1000) -> list[str]:
        """Return the ids of jobs that were over before a moment (seconds since 1970), the oldest first."""
        over = "state IN ('done', 'failed', 'cancelled') AND ended < ?"
        return [
            row[0] for row in self._read(f"SELECT id FROM jobs WHERE {over} ORDER BY number LIMIT ?", (moment, limit))
        ]

    def claim(self, job_id: str, device: str) -> bool:
        """Note that a queued job runs now; False if it is no longer queued."""
        with self._writing() as db:
            done = db.execute(
                "UPDATE jobs SET state = 'running', started = ?, device = ?, stage = '', done = 0, total = 0 "
                "WHERE id = ? AND state = 'queued'",
                (time.time(), device, job_id),
            )
            return done.rowcount == 1

    def end(
        self, job_id: str, state: State, *, result: Any = None, error: str | None = None, kind: str | None = None
    ) -> bool:
        """Note how a job ended; False if it was over before, and then nothing changes."""
        text = None if result is None else json.dumps(result, allow_nan=False)
        with self._writing() as db:
            done = db.execute(
                "UPDATE jobs SET state = ?, ended = ?, result = ?, error = ?, kind = ? "
                "WHERE id = ? AND state IN ('queued', 'running')",
                (state, time.time(), text, error, kind, job_id),
            )
            return done.rowcount == 1

    def again(self, job_id: str, *, states: Sequence[State] = ("failed", "cancelled")) -> bool:
        """Queue a job anew that is in one of these states; False if it is in another one."""
        marks = ", ".join("?" * len(states))
        with self._writing() as db:
            done = db.execute(
                "UPDATE jobs SET state = 'queued', ended = NULL, started = NULL, result = NULL, error = NULL, kind = NULL, "
                f"device = NULL, cuts = 0 WHERE id = ? AND state IN ({marks})",
                (job_id, *states),
            )
            return done.rowcount == 1

    def release(self) -> None:
        """Queue jobs anew that run now, for the backend ends as it should."""
        with self._writing() as db:
            db.execute("UPDATE jobs SET state = 'queued', started = NULL, device = NULL WHERE state = 'running'")

    def requeue(self) -> list[str]:
        """Queue jobs anew that were running when the backend was killed; return the ids of all queued ones, the oldest first.

        A job that was running at three such ends has failed: it may be the reason.
        """
        given_up = (
            f"The service, or this computer, ended {MOST_CUTS} times while this job was running, so it is not begun once more by itself. "
            "If the job needs more memory than there is: work on fewer frames, or set a smaller memory_mb or batch_size."
        )
        with self._writing() as db:
            db.execute("UPDATE jobs SET cuts = cuts + 1 WHERE state = 'running'")
            db.execute(
                "UPDATE jobs SET state = 'failed', ended = ?, error = ?, kind = 'fault' WHERE state = 'running' AND cuts >= ?",
                (time.time(), given_up, MOST_CUTS),
            )
            db.execute("UPDATE jobs SET state = 'queued', started = NULL, device = NULL WHERE state = 'running'")
            return [row[0] for row in db.execute("SELECT id FROM jobs WHERE state = 'queued' ORDER BY number")]

    def remove(self, job_id: str) -> None:
        """Forget a job, its lines and its curves."""
        with self._writing() as db:
            for table, column in (("points", "job"), ("lines", "job"), ("jobs", "id")):
                db.execute(f"DELETE FROM {table} WHERE {column} = ?", (job_id,))

    # ---- what happens in a job ---------------------------------------------------------------------------------------

    def note(
        self,
        job_id: str,
        *,
        step: tuple[str, int, int, Mapping[str, float]] | None = None,
        lines: Sequence[Line] = (),
        points: Sequence[Point] = (),
    ) -> None:
        """Note progress (stage, done, total, values), log lines and points of curves."""
        with self._writing() as db:
            if step is not None:
                stage, done, total, values = step
                db.execute(
                    'UPDATE jobs SET stage = ?, done = ?, total = ?, "values" = ? WHERE id = ?',
                    (stage, done, total, json.dumps(dict(values), allow_nan=False), job_id),
                )
            db.executemany("INSERT OR REPLACE INTO lines VALUES (?, ?, ?, ?, ?)", [(job_id, *line) for line in lines])
            db.executemany("INSERT INTO points VALUES (?, ?, ?, ?)", [(job_id, *point) for point in points])

    def last_line(self, job_id: str) -> int:
        """Return the number of the last log line, 0 if there is none."""
        found = self._read("SELECT COALESCE(MAX(number), 0) FROM lines WHERE job = ?", (job_id,))
        return int(found[0][0])

    def lines(self, job_id: str, after: int = 0, *, limit: int = 10_000) -> list[dict[str, Any]]:
        """Return log lines with a number above ``after``, at most ``limit``."""
        rows = self._read(
            "SELECT number, time, level, text FROM lines WHERE job = ? AND number > ? ORDER BY number LIMIT ?",
            (job_id, after, limit),
        )
        return [dict(zip(("number", "time", "level", "text"), row, strict=True)) for row in rows]

    def curves(self, job_id: str) -> dict[str, list[tuple[int, float]]]:
        """Return the curves: ``"stage/name"`` -> points (steps done, value).

        Where a job went back, because it was stopped and went on from an earlier state, what it did again takes the place of what it did
        before.
        """
        found: dict[str, list[tuple[int, float]]] = {}
        query = "SELECT curve, step, value FROM points WHERE job = ? ORDER BY rowid"
        for curve, step, value in self._read(query, (job_id,)):
            points = found.setdefault(curve, [])
            while points and points[-1][0] >= step:
                points.pop()
            points.append((step, value))
        return found

    # ---- the file ----------------------------------------------------------------------------------------------------

    def _job(self, row: Sequence[Any]) -> Job:
        names = [name.strip(' "') for name in COLUMNS.split(",")]
        values = dict(zip(names, row, strict=True))
        for name in ("parameters", "values", "result"):
            values[name] = None if values[name] is None else json.loads(values[name])
        return Job(folder=self.folder / "jobs" / values["id"], **values)

    def _read(self, query: str, values: Sequence[Any]) -> list[Any]:
        with self._telling(), self._reading:
            return self._reader.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._telling(), self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise ServiceError(
                f"The list of jobs {self.file} cannot be used: {error}. Is there space left on that disk, and may it be written?"
            ) from error
