"""What happens in a running job, on its way to the store: gathered, so that a step a millisecond does not mean a write a millisecond."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from howdah.errors import ServiceError
from howdah.service.store import Line, Point, Store

__all__ = ["Journal"]

EVERY_S = 0.1  # between two writes, and between two points of a curve
MOST_LINES = 20_000  # of a job


class Journal:
    """Progress, lines and curves of one job. All methods may be called from any thread.

    Args:
        store: Where they go.
        job_id: The job.
    """

    def __init__(self, store: Store, job_id: str) -> None:
        self._store, self._job_id, self._lock = store, job_id, threading.Lock()
        self._step: tuple[str, int, int, Mapping[str, float]] | None = None
        self._now: tuple[str, int, int] = ("", 0, 0)
        self._lines: list[Line] = []
        self._points: dict[str, Point] = {}
        self._written = 0.0
        self._number = -1

    def progress(self, stage: str, done: int, total: int, values: Mapping[str, float | None], message: str) -> None:
        """Note a step; of a curve the last point of each tenth of a second is kept, and the last one of each stage."""
        known = {name: value for name, value in values.items() if value is not None}
        with self._lock:
            if stage != self._now[0]:
                self._write()
            self._now = (stage, done, total)
            self._step = (stage, done, total, known)
            for name, value in known.items():
                curve = f"{stage}/{name}"
                self._points[curve] = (curve, done, float(value))
            if message:
                self._add("info", message)
            self._write_now_and_then()

    def line(self, level: str, text: str) -> None:
        """Note a log line."""
        with self._lock:
            self._add(level, text)
            self._write_now_and_then()

    def flush(self) -> None:
        """Store what is not yet stored.

        Raises:
            ServiceError: The store cannot be written.
        """
        with self._lock:
            self._write(strict=True)

    def where(self) -> str:
        """Say how far the job is: ``" at train 3/40"``; nothing where it has not said."""
        stage, done, total = self._now
        return f" at {stage} {done}/{total}" if stage else ""

    def _add(self, level: str, text: str) -> None:
        if self._number < 0:
            try:
                self._number = self._store.last_line(self._job_id)  # a job that was queued again has lines already
            except ServiceError:
                return
        if self._number > MOST_LINES:
            return
        self._number += 1
        if self._number > MOST_LINES:
            level, text = "warning", f"More than {MOST_LINES} lines; the others are left out."
        self._lines.append((self._number, time.time(), level, text))

    def _write_now_and_then(self) -> None:
        if time.monotonic() - self._written >= EVERY_S:
            self._write()

    def _write(self, *, strict: bool = False) -> None:
        if self._step is None and not self._lines and not self._points:
            return
        try:
            self._store.note(self._job_id, step=self._step, lines=self._lines, points=list(self._points.values()))
        except ServiceError:  # a full disk; what is gathered is tried again with the next write
            if strict:
                raise
            return
        finally:
            self._written = time.monotonic()
        self._step, self._lines, self._points = None, [], {}
