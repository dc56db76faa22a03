"""The backend: takes jobs, runs each in a process that can be killed, and remembers all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from howdah.service.store import Job, State

__all__ = ["Backend"]


class Backend:
    """Runs tasks as jobs; all methods may be called from any thread. A context manager; leaving it stops the workers.

    Args:
        folder: Its own folder, made if need be: ``jobs.sqlite``, ``jobs/<id>/``, ``uploads/``. One backend a folder.
        roots: Folders in which jobs may read and write, besides ``folder``; relative paths are taken from the first one.
        devices: Names of the devices on which one learning job runs at a time; None: each CUDA device, else ``["cpu"]``.
        quick: How many jobs that use no network run at a time.

    Raises:
        ServiceError: Another backend has the folder, or it cannot be written.
    """

    def __init__(
        self, folder: Path, *, roots: Sequence[Path], devices: Sequence[str] | None = None, quick: int = 2
    ) -> None:
        raise NotImplementedError

    def submit(self, task: str, parameters: Mapping[str, Any], *, key: str | None = None) -> Job:
        """Queue a job. The same ``key`` again returns the job that it has, so that a client may ask twice.

        Raises:
            ServiceError: There is no such task, a path lies outside the roots, or the backend is closed.
            ConfigError: A parameter or a setting is unknown, missing or out of range.
        """
        raise NotImplementedError

    def job(self, job_id: str) -> Job:
        """Return a job as it is now.

        Raises:
            ServiceError: There is no such job.
        """
        raise NotImplementedError

    def jobs(self, *, state: State | None = None, limit: int = 100) -> list[Job]:
        """Return jobs, the newest first."""
        raise NotImplementedError

    def wait(self, job_id: str, timeout: float | None = None) -> Job:
        """Return a job when it is over, or as it is after ``timeout`` seconds."""
        raise NotImplementedError

    def cancel(self, job_id: str) -> Job:
        """Stop a job at once; one that is over stays as it is."""
        raise NotImplementedError

    def delete(self, job_id: str) -> None:
        """Forget a job and remove its folder; a running one is cancelled first. Files that a client named stay."""
        raise NotImplementedError

    def lines(self, job_id: str, after: int = 0) -> list[dict[str, Any]]:
        """Return log lines with a number above ``after``: ``{"number", "time", "level", "text"}``."""
        raise NotImplementedError

    def curves(self, job_id: str) -> dict[str, list[tuple[int, float]]]:
        """Return the curves: ``"stage/name"`` -> points (steps done, value), in the order of time."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop the workers. Jobs that were running are queued again when a backend opens the folder next."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
