"""Blocks done by a dask cluster: one of this computer, or that of a scheduler's address. Only this module knows dask.

A block travels as the name of its function and what JSON can say; its result stays on the disk, and only a small report comes back. So
the scheduler holds nothing that would be lost with it: after it was restarted, what was handed out is handed out once more.
Dask itself tries no block again: a worker's death is reported, and the loop decides.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import secrets
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from howdah import __version__
from howdah.errors import MissingExtraError, ScaleError
from howdah.scale.config import ScaleConfig
from howdah.scale.execute import Report, about_worker, execute
from howdah.scale.machine import check_memory, free_memory_mb, graphics_cards, threads_of, worker_number
from howdah.scale.plan import Json, Plan

__all__ = ["Cluster"]

LOOK_S = 5.0
CLOSE_S = 10.0
GRACE_S = 0.2
TERMINATE = 0.95  # of a worker's memory: there its nanny ends it, before the system ends something else
DASK = {
    "distributed.scheduler.allowed-failures": 0,
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.scheduler.work-stealing": False,
    "distributed.scheduler.active-memory-manager.start": False,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": TERMINATE,
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.admin.tick.limit": "1h",
    "distributed.comm.timeouts.connect": "10s",
    "distributed.deploy.lost-worker-timeout": "60s",
}


class Cluster:
    """Workers of a dask cluster.

    Args:
        plan: What they will do; its largest block must fit into their memory.
        config: Whose cluster; how many workers, with how much memory.
        folder: The work folder, which the workers must see.
        run: Name of the run.

    Raises:
        MissingExtraError: dask is not installed. ScaleError: The scheduler cannot be reached, or its workers do not see the files.
    """

    def __init__(self, plan: Plan, config: ScaleConfig, folder: Path, run: str) -> None:
        self._dask, self._distributed = _libraries(dashboard=config.dashboard)
        self._plan, self._config, self._folder, self._run = plan, config, folder, run
        self._ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._futures: dict[str, Any] = {}
        self._notes: list[str] = []
        self._resources = ExitStack()
        self._client: Any = None
        self._cluster: Any = None
        self._count = 0
        self._gone_since: float | None = None
        self._looked = 0.0
        self._seen: set[str] = set()
        self._waited = False
        self.slots = 1
        try:
            self._resources.enter_context(_quiet(self._dask))
            if config.scheduler is None:
                self._start()
            self._connect(config.patience_s)
        except BaseException:
            self.close(at_once=True)
            raise

    @property
    def most(self) -> int:
        """How many blocks may be handed out at a time: one more for each four workers, so that nobody waits for the next one."""
        return self.slots + max(1, self.slots // 4)

    def submit(self, task: Mapping[str, Json]) -> None:
        """Hand out a block."""
        key = str(task["key"])
        if self._client is None:  # it comes back as not sent when the scheduler is looked for
            self._futures[key] = None
            return
        name = f"{key.partition('/')[0]}-{key.replace('/', '_')}-{secrets.token_hex(4)}"
        try:
            future = self._client.submit(execute, dict(task), key=name, pure=False)
        except (OSError, RuntimeError, TimeoutError):
            self._lose_scheduler()
            self._futures[key] = None
            return
        self._futures[key] = future
        future.add_done_callback(lambda ended, key=key: self._ended.put((key, ended)))

    def wait(self, seconds: float) -> list[Report]:
        """Return what became of blocks since the last call."""
        if self._client is None:
            return self._reconnected(seconds)
        ended = {}
        try:
            key, future = self._ended.get(timeout=seconds)
            while True:
                if self._futures.get(key) is future:
                    ended[key] = future
                key, future = self._ended.get_nowait()
        except queue.Empty:
            pass
        if self._client.status != "running":
            self._lose_scheduler()
        now = time.monotonic()
        if now - self._looked > LOOK_S or not self._seen:
            self._look()
        return self._reports(ended)

    def notes(self) -> list[str]:
        """Return what happened to the cluster since the last call."""
        notes, self._notes = self._notes, []
        return notes

    def about(self) -> dict[str, Json]:
        """Return facts for the record."""
        facts: dict[str, Json] = {"workers": len(self._seen), "scheduler": self._config.scheduler or "local"}
        if self._config.dashboard and self._client is not None:
            facts["dashboard"] = self._client.dashboard_link
        return facts

    def close(self, *, at_once: bool) -> None:
        """Let go of the cluster; one of this computer ends."""
        if self._client is not None:
            if at_once and self._cluster is None:
                self._cancel()
            self._client.close(timeout=CLOSE_S)
            self._client = None
        if self._cluster is not None:
            # dask lets a worker finish its block for some seconds; when it is closing them it does not start them again
            pids = [nanny.pid for nanny in self._cluster.workers.values()] if at_once else []
            end = threading.Timer(GRACE_S, _kill, [[pid for pid in pids if pid is not None]])
            end.start()
            self._cluster.close(timeout=CLOSE_S)
            end.cancel()
            end.join()
            self._cluster = None
        self._resources.close()

    def _start(self) -> None:
        """Start a scheduler in this process and workers in processes of their own."""
        most = max((block.memory_mb for block in self._plan.blocks), default=0.0)
        count, cards = max(1, worker_number(self._config, needs_mb=most)), graphics_cards()
        free = free_memory_mb()
        limit = self._config.worker_memory_mb or (None if free is None else free / count)
        check_memory(self._plan, limit, whose=f"each of {count} workers" if count > 1 else "the worker")
        threads, self._count = threads_of(count), count
        workers = {}
        for number in range(count):
            card = {"CUDA_VISIBLE_DEVICES": cards[number % len(cards)]} if cards else {}
            options = {
                "nthreads": 1,
                "memory_limit": 0 if limit is None else int(limit * 2**20),
                "env": {**threads, **card},
                "host": "127.0.0.1",
                "dashboard": False,
                "preload": ["howdah.scale.worker_start"],
                "silence_logs": logging.CRITICAL,
            }
            workers[number] = {"cls": self._distributed.Nanny, "options": options}
        scheduler = {
            "cls": self._distributed.Scheduler,
            "options": {"host": "127.0.0.1", "dashboard": self._config.dashboard, "dashboard_address": "127.0.0.1:0"},
        }
        spawned = {f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in threads.items()}
        self._resources.enter_context(self._dask.config.set(spawned))
        try:
            with _without_warnings():
                self._cluster = self._distributed.SpecCluster(
                    workers=workers, scheduler=scheduler, silence_logs=logging.CRITICAL, name="howdah"
                )
        except (OSError, RuntimeError) as error:
            raise ScaleError(
                f"Starting workers on this computer failed ({count} of them; {error}). Try fewer (--workers), or none (--workers 0). A "
                "script of your own must begin the work under `if __name__ == '__main__':`, for workers load it, too."
            ) from error

    def _connect(self, patience: float) -> None:
        """Reach the scheduler and its workers."""
        address = self._config.scheduler
        begun = time.monotonic()
        while self._client is None:
            try:
                self._client = self._new_client(min(5.0, max(0.5, patience)))
            except (OSError, TimeoutError, ValueError) as error:
                if isinstance(error, ValueError) or time.monotonic() - begun >= patience:
                    raise ScaleError(
                        f"The dask scheduler {address} cannot be reached ({_first_line(error)}). Start it (`dask scheduler`), or give its "
                        "address or file; without --scheduler this computer does the work."
                    ) from error
                time.sleep(0.2)
        self._gone_since = None
        self._look()

    def _new_client(self, timeout: float) -> Any:
        where: dict[str, Any] = {"address": self._cluster}
        said = self._config.scheduler
        if said is not None:
            file = Path(said)
            where = {"address": said} if "://" in said or file.suffix != ".json" else {"scheduler_file": said}
            if "scheduler_file" in where and not file.is_file():
                raise FileNotFoundError(f"there is no file {file}")
        with _without_warnings():
            return self._distributed.Client(**where, timeout=timeout, set_as_default=False, heartbeat_interval="2s")

    def _look(self) -> None:
        """Count the workers, and try the new ones: do they see the files, have they the same Howdah, enough memory?"""
        self._looked = time.monotonic()
        if self._cluster is not None and len(self._cluster.workers) < self._count:
            self._cluster.scale(self._count)  # dask gives up a worker that dies while it is started; start it anew
        try:
            threads = self._client.nthreads()
            new = [worker for worker in threads if worker not in self._seen]
            answers = (
                self._client.run(_about, str(self._folder), self._inputs(), workers=new, on_error="return")
                if new
                else {}
            )
        except (OSError, RuntimeError, TimeoutError):
            self._lose_scheduler()
            return
        for worker, answer in answers.items():
            if isinstance(answer, OSError | TimeoutError):
                threads.pop(worker)  # died meanwhile
                continue
            self._check(worker, answer)
        self._seen = set(threads)
        self.slots = max(1, sum(threads.values()))
        if not threads and not self._waited and self._config.scheduler is not None:
            self._notes.append(f"The scheduler {self._config.scheduler} has no workers yet; the run waits for them.")
        self._waited = not threads

    def _inputs(self) -> list[str]:
        return [str(Path(path).absolute()) for path in self._plan.inputs.values()]

    def _check(self, worker: str, answer: Any) -> None:
        place = f"The worker {worker}"
        # dask wraps what it could not load on the worker in an exception of its own
        if isinstance(answer, ImportError | AttributeError) or "No module named" in str(answer):
            raise ScaleError(
                f"{place} has no Howdah, or another one ({answer}). Install howdah[scale] {__version__} there."
            )
        if isinstance(answer, BaseException):
            raise ScaleError(f"{place} cannot be used: {type(answer).__name__}: {_first_line(answer)}.") from answer
        if answer["version"] != __version__:
            raise ScaleError(f"{place} has Howdah {answer['version']}, this is {__version__}. Install the same there.")
        if answer["run"] != self._run:
            raise ScaleError(
                f"{place} ({answer['host']}) does not see the work folder {self._folder}. The folder of the result must be on a disk "
                "that all workers share, under the same path."
            )
        if answer["missing"]:
            raise ScaleError(
                f"{place} ({answer['host']}) does not see {', '.join(answer['missing'])}. Inputs must be on a disk that all workers "
                "share, under the same path."
            )
        if not answer["writes"]:
            raise ScaleError(f"{place} ({answer['host']}) may not write to the work folder {self._folder}.")
        if answer["memory_mb"]:
            check_memory(self._plan, answer["memory_mb"], whose=f"the worker {worker}")

    def _reports(self, ended: Mapping[str, Any]) -> list[Report]:
        reports, good = [], {}
        for key, future in ended.items():
            del self._futures[key]
            status = future.status
            if status == "finished":
                good[key] = future
            elif status == "error":
                reports.append(self._failed(key, future))
            else:
                reports.append(Report(key, "unsent", error="The scheduler has forgotten it."))
        if good:
            try:
                answers = self._client.gather(list(good.values()), errors="skip") if self._client is not None else []
            except (OSError, RuntimeError, TimeoutError):
                answers = []
            reports += [Report(**answer) for answer in answers]
            answered = {report.key for report in reports}
            reports += [Report(key, "unsent", error="Its report is lost.") for key in good if key not in answered]
        if self._client is None:
            reports += self._all_unsent()
        return reports

    def _failed(self, key: str, future: Any) -> Report:
        error = future.exception()
        if isinstance(error, self._distributed.KilledWorker):
            where = getattr(error.last_worker, "address", "?")
            return Report(
                key,
                "lost",
                error=f"its worker {where} died (killed from outside, out of memory, or crashed in a library)",
                worker=str(where),
            )
        if isinstance(error, OSError | TimeoutError | self._distributed.CancelledError):
            return Report(key, "lost", error=f"{type(error).__name__}: {_first_line(error)}")
        raise error

    def _lose_scheduler(self) -> None:
        if self._client is None:
            return
        client, self._client = self._client, None
        self._gone_since = time.monotonic()
        self._notes.append(
            f"The scheduler does not answer; it is looked for, for up to {self._config.patience_s:.0f} s. What is done stays."
        )
        client.close(timeout=1)

    def _reconnected(self, seconds: float) -> list[Report]:
        """Look for the scheduler a little; when it is there again, everything that was handed out comes back as not sent."""
        gone = time.monotonic() - (self._gone_since or time.monotonic())
        if self._config.scheduler is None or gone > self._config.patience_s:
            raise ScaleError(
                f"The dask scheduler {self._config.scheduler or 'of this computer'} has not answered for {gone:.0f} s. What is done stays: "
                "start it, and the same command goes on from there."
            )
        try:
            self._client = self._new_client(max(seconds, 0.5))
        except (OSError, TimeoutError, ValueError):
            time.sleep(min(seconds, 0.5))
            return []
        self._gone_since, self._seen = None, set()
        self._notes.append("The scheduler is there again; what it had is handed out once more.")
        self._look()
        return self._all_unsent()

    def _all_unsent(self) -> list[Report]:
        keys, self._futures = list(self._futures), {}
        return [Report(key, "unsent", error="The scheduler was lost.") for key in keys]

    def _cancel(self) -> None:
        try:
            self._client.cancel([future for future in self._futures.values() if future is not None], force=True)
        except (OSError, RuntimeError, TimeoutError):
            return


def _about(folder: str, inputs: Sequence[str], dask_worker: Any = None) -> dict[str, Json]:
    """Return what a worker is and sees, and its limit of memory; dask gives the worker."""
    limit = dask_worker.memory_manager.memory_limit
    return {**about_worker(folder, inputs), "memory_mb": limit / 2**20 if limit else 0.0}


def _libraries(*, dashboard: bool) -> tuple[Any, Any]:
    try:
        import dask
        import distributed

        if dashboard:
            import bokeh  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            f"Work by several processes needs dask ({error}): install howdah[scale], or use --workers 0 for this process alone."
        ) from error
    return dask, distributed


def _kill(pids: Sequence[int]) -> None:
    """End processes that this one has started."""
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))


def _quiet(dask: Any) -> ExitStack:
    """Set dask up for runs of blocks and keep its many lines from the terminal."""
    stack = ExitStack()
    stack.enter_context(dask.config.set(DASK))
    roots = ("distributed", "tornado", "asyncio", "bokeh")
    for name in [*roots, *(known for known in logging.root.manager.loggerDict if known.startswith("distributed."))]:
        logger = logging.getLogger(name)  # dask gives levels of their own to some
        stack.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.CRITICAL + 1)
    return stack


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Keep dask's warnings (another version elsewhere, a port that is taken) from the terminal; what matters is checked."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"distributed(\.|$)")
        yield


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
