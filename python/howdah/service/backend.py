"""The backend: takes jobs, runs each in a process that can be killed, and remembers all of them."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from bdv_io.errors import BusyError
from howdah.errors import ConfigError, ServiceError
from howdah.service.claim import claimed
from howdah.service.parameters import Parameters, Within, files_of
from howdah.service.queue import STOPPED, Queue
from howdah.service.running import prepare
from howdah.service.store import Job, State, Store
from howdah.service.table import TASKS

__all__ = ["Backend", "cuda_devices"]

LONGEST = 16 * 2**20  # of the parameters of a job, as JSON


class Backend:
    """Runs tasks as jobs; all methods may be called from any thread. A context manager; leaving it stops the workers.

    Args:
        folder: Its own folder, made if need be: ``jobs.sqlite``, ``jobs/<id>/``, ``uploads/``. One backend a folder.
        roots: Folders in which jobs may read and write, besides those two; relative paths are taken from the first one.
        devices: Names of the devices on which one learning job runs at a time; None: each CUDA device, else ``["cpu"]``.
        quick: How many jobs that use no network run at a time.

    Raises:
        ServiceError: Another backend has the folder, or it cannot be written.
    """

    def __init__(
        self, folder: Path, *, roots: Sequence[Path], devices: Sequence[str] | None = None, quick: int = 2
    ) -> None:
        self.folder = Path(os.path.realpath(folder))
        self.roots = tuple(Path(os.path.realpath(root)) for root in roots)
        self.uploads, self._jobs = self.folder / "uploads", self.folder / "jobs"
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # results and uploads are nobody else's business
            for made in (self.uploads, self._jobs):
                made.mkdir(exist_ok=True)
            self._claim: IO[bytes] | None = claimed(self.folder / "backend.lock")
        except BusyError as error:
            raise ServiceError(
                f"Another Howdah service uses {self.folder}. Stop it, or give this one another folder."
            ) from error
        except OSError as error:
            raise ServiceError(
                f"The folder {self.folder} cannot be used: {error.strerror}. Name another one."
            ) from error
        try:
            self.store = Store(self.folder)
            waiting = self.store.requeue()
        except ServiceError:
            self._claim.close()
            raise
        self._queue = Queue(
            self.store,
            lambda task: task not in TASKS or TASKS[task].learns,
            within=self._within,
            devices=cuda_devices() or ["cpu"] if devices is None else devices,
            quick=quick,
        )
        for job_id in waiting:
            job = self.job(job_id)
            self._queue.put(job_id, job.task)

    def warm_up(self) -> None:
        """Start a worker before the first job asks for it; returns at once."""
        self._queue.warm_up()

    def submit(self, task: str, parameters: Mapping[str, Any], *, key: str | None = None) -> Job:
        """Queue a job. The same ``key`` again returns the job that it has, so that a client may ask twice.

        Args:
            task: Name of the task.
            parameters: What it is told, as JSON: files, images and tables as paths.
            key: Chosen by the client, at random.

        Raises:
            ServiceError: There is no such task, a path lies outside the roots, or the backend is closed.
            ConfigError: A parameter or a setting is unknown, missing or out of range.
        """
        if self._queue.closing:
            raise ServiceError("The service is being stopped, and takes no more jobs.")
        plain = self._checked(parameters)
        job_id = secrets.token_hex(6)
        folder = self._jobs / job_id
        _, given = prepare(task, plain, folder=folder, within=self._within(folder))
        found = self.store.add(job_id, task, _places(plain, given), key=key)
        if found == job_id:
            self._queue.put(job_id, task)
        return self.job(found)

    def job(self, job_id: str) -> Job:
        """Return a job as it is now.

        Raises:
            ServiceError: There is no such job.
        """
        self._queue.flush(job_id)
        job = self.store.job(job_id)
        if job is None:
            raise ServiceError(f"There is no job '{job_id}'. It may have been deleted.")
        return job

    def jobs(self, *, state: State | None = None, limit: int = 100) -> list[Job]:
        """Return jobs, the newest first."""
        return self.store.jobs(state=state, limit=limit)

    def wait(self, job_id: str, timeout: float | None = None) -> Job:
        """Return a job when it is over, or as it is after ``timeout`` seconds.

        Raises:
            ServiceError: There is no such job, or it was deleted meanwhile.
        """
        until = None if timeout is None else time.monotonic() + timeout
        event = threading.Event()
        with self.watching(job_id, event.set):
            while True:
                job = self.job(job_id)
                left = None if until is None else until - time.monotonic()
                if job.over or self._queue.closing or (left is not None and left <= 0):
                    return job
                event.wait(left)
                event.clear()

    @contextlib.contextmanager
    def watching(self, job_id: str, call: Callable[[], object]) -> Iterator[None]:
        """Have something called, from any thread, each time when a job may be over; it must neither wait nor raise."""
        self._queue.watch(job_id, call)
        try:
            yield
        finally:
            self._queue.unwatch(job_id, call)

    def cancel(self, job_id: str) -> Job:
        """Stop a job at once; one that is over stays as it is.

        Raises:
            ServiceError: There is no such job.
        """
        self.job(job_id)
        if self.store.end(job_id, "cancelled", error=STOPPED, kind="cancelled"):
            self._queue.cancel(job_id)
        return self.job(job_id)

    def again(self, job_id: str) -> Job:
        """Queue a job anew that failed or was cancelled; a training goes on where it was. Any other one stays as it is.

        Raises:
            ServiceError: There is no such job.
        """
        job = self.job(job_id)
        if self.store.again(job_id):
            self._queue.put(job_id, job.task)
        return self.job(job_id)

    def delete(self, job_id: str) -> None:
        """Forget a job and remove its folder; a running one is cancelled first. Files that a client named stay.

        Raises:
            ServiceError: There is no such job.
        """
        folder = self.cancel(job_id).folder
        self._queue.settle(job_id)
        self.store.remove(job_id)
        self._queue.tell(job_id)
        shutil.rmtree(folder, ignore_errors=True)

    def forget_old(self, seconds: float) -> int:
        """Delete jobs that were over so many seconds ago, with their folders, and return how many; at most 1000 at a time."""
        old = self.store.ended_before(time.time() - seconds)
        for job_id in old:
            with contextlib.suppress(ServiceError):  # somebody else deleted it meanwhile
                self.delete(job_id)
        return len(old)

    def lines(self, job_id: str, after: int = 0) -> list[dict[str, Any]]:
        """Return log lines with a number above ``after``: ``{"number", "time", "level", "text"}``, at most 10,000 at a time.

        Raises:
            ServiceError: There is no such job.
        """
        self.job(job_id)
        return self.store.lines(job_id, after)

    def curves(self, job_id: str) -> dict[str, list[tuple[int, float]]]:
        """Return the curves: ``"stage/name"`` -> points (steps done, value), in the order of time.

        Raises:
            ServiceError: There is no such job.
        """
        self.job(job_id)
        return self.store.curves(job_id)

    @property
    def workers(self) -> list[tuple[str, int]]:
        """The worker processes that are there now: device (or ``"quick"``), number of the process."""
        return self._queue.workers()

    def close(self) -> None:
        """Stop the workers. Jobs that were running are queued again when a backend opens the folder next."""
        if self._claim is None:
            return
        self._queue.close()
        with contextlib.suppress(ServiceError):  # a full disk: then the next start finds them running, and queues them
            self.store.release()
        self.store.close()
        self._claim.close()
        self._claim = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _checked(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """See that parameters are JSON, and of a bearable size."""
        try:
            text = json.dumps(dict(parameters), allow_nan=False, default=os.fspath)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"The parameters are no JSON: {error}. Images and tables go into files, whose paths are given."
            ) from None
        if len(text) > LONGEST:
            raise ConfigError(f"The parameters have {len(text)} characters; at most {LONGEST} are taken.")
        plain: dict[str, Any] = json.loads(text)
        return plain

    def _within(self, folder: Path) -> Within:
        """Folders that a job may use: the roots, its own folder, and for reading the results of others and what was uploaded."""
        base = self.roots[0] if self.roots else folder
        return Within((*self.roots, self._jobs, self.uploads), (*self.roots, folder), base, self.uploads)


def _places(plain: Mapping[str, Any], given: Parameters) -> dict[str, Any]:
    """Return the parameters that a client sent, with the absolute paths that were checked."""
    names = {name for name, _, _ in files_of(given) if name in plain}
    found = {name: getattr(given, name) for name in names}
    return {**plain, **{name: [*map(str, v)] if isinstance(v, list | tuple) else str(v) for name, v in found.items()}}


def cuda_devices() -> list[str]:
    """Return ``["cuda:0", ...]``, the GPUs of NVIDIA that this process may use; empty where there is none."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if seen is not None:
        return [
            f"cuda:{i}" for i, name in enumerate(part for part in seen.split(",") if part.strip() not in ("", "-1"))
        ]
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        listed = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=10, check=False).stdout
        return [f"cuda:{i}" for i in range(sum(line.startswith("GPU ") for line in listed.splitlines()))]
    return []
