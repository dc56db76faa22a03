"""Who runs what, when: slots with a warm worker each, one a GPU for jobs that use a network, some more for quick ones."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from howdah.errors import ServiceError
from howdah.service.journal import Journal
from howdah.service.parameters import Within
from howdah.service.process import Process, died, message
from howdah.service.store import Job, Store

__all__ = ["QUICK", "STOPPED", "Queue"]

QUICK = "quick"
STOPPED = "The job was cancelled. The last good state is kept, nothing was half-written; a training goes on from there."
RETRY_S, PATIENCE_S = 0.5, 60.0
WARM_UP = ""  # in the place of a job's id
RESTARTS = 2  # of a worker that ends before it has loaded


class Slot:
    """A place where one job runs at a time, in a worker that stays warm.

    Args:
        device: What the worker computes on: ``"cuda:0"``, ``"cpu"``, or ``"quick"`` for jobs without a network.
        owner: The queue that it belongs to.
    """

    def __init__(self, device: str, owner: Queue) -> None:
        self.device, self._owner = device, owner
        self._inbox: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._process: Process | None = None
        self._journal: Journal | None = None
        self.job_id: str | None = None
        self._cancelled = False
        self._thread = threading.Thread(target=self._serve, name=f"slot-{device}", daemon=True)
        self._thread.start()

    @property
    def warm(self) -> bool:
        """Whether a worker is there."""
        return self._process is not None and self._process.alive

    def give(self, job_id: str | None) -> None:
        """Hand over a job; None ends the slot."""
        self._inbox.put(job_id)

    def cancel(self, job_id: str) -> None:
        """Stop the worker if it runs this job."""
        with self._lock:
            if self.job_id == job_id:
                self._cancelled = True
                if self._process is not None:
                    self._process.stop()

    def flush(self, job_id: str) -> None:
        """Store what is known of a running job."""
        with self._lock:
            journal = self._journal if self.job_id == job_id else None
        if journal is not None:
            journal.flush()

    def pid(self) -> int | None:
        """Number of the worker's process."""
        process = self._process
        return None if process is None or not process.alive else process.pid

    def end(self) -> None:
        """Stop the worker now, and the slot; what ran is still noted as running."""
        self.give(None)
        with self._lock:
            if self._process is not None:
                self._process.stopping = True
                self._process.kill()
        self._thread.join()

    # ---- in the slot's own thread ------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while (job_id := self._inbox.get()) is not None:
            try:
                if job_id == WARM_UP:
                    self._warm()
                else:
                    self._run(job_id)
            except ServiceError as error:  # the store, or the system has no process left
                self._owner.trouble(job_id, str(error))
            self._owner.free(self)  # first, so that who waits for the job finds a warm slot for the next one
            self._owner.tell(job_id)
        self._drop()

    def _run(self, job_id: str) -> None:
        store = self._owner.store
        job = store.job(job_id)
        with self._lock:
            self.job_id, self._cancelled = job_id, False
            self._journal = Journal(store, job_id)
        try:
            if job is not None and store.claim(job_id, self.device):
                self._end(job, self._answer(job))
        finally:
            with self._lock:
                self._journal, self.job_id = None, None

    def _answer(self, job: Job) -> Mapping[str, Any]:
        """Give the job to the worker; return its last answer, or what became of the worker."""
        for _ in range(RESTARTS):
            with self._lock:
                if self._cancelled or self._owner.closing:
                    return {}
                process = self._warm()
            process.forget_lines()
            process.send(message(job.task, job.parameters, folder=job.folder, within=self._owner.within(job.folder)))
            for answer in process.answers():
                if "ready" in answer:
                    process.served = True
                elif self._heard(answer):
                    if answer.get("last"):
                        self._drop(wait=True)
                    return answer
            code, lines = process.end()
            stopped = process.stopping
            self._drop()
            if stopped or process.served:
                break
        return {} if stopped else {"error": ["fault", died(job.task, code, lines, self._where())]}

    def _where(self) -> str:
        return "" if self._journal is None else self._journal.where()

    def _heard(self, answer: Mapping[str, Any]) -> bool:
        """Note what a worker says; return whether it is the end of the job."""
        journal = self._journal
        if "progress" in answer and journal is not None:
            journal.progress(*answer["progress"])
        elif "log" in answer and journal is not None:
            journal.line(*answer["log"])
        return "result" in answer or "error" in answer

    def _end(self, job: Job, answer: Mapping[str, Any]) -> None:
        """Note how the job ended; where the disk is full, try for a while."""
        if not answer:
            return  # cancelled, which is noted; or the backend closes, and the job is queued again
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                if self._journal is not None:
                    self._journal.flush()
                if "result" in answer:
                    self._owner.store.end(job.id, "done", result=answer["result"])
                else:
                    kind, sentence = answer["error"]
                    state = "cancelled" if kind == "cancelled" else "failed"
                    self._owner.store.end(job.id, state, error=sentence, kind=kind)  # type: ignore[arg-type]
                return
            except ServiceError:
                if time.monotonic() > until or self._owner.closing:
                    raise
                time.sleep(RETRY_S)

    def _warm(self) -> Process:
        """Return the worker, started if need be."""
        if self._process is not None and (self._process.stopping or not self._process.alive):
            self._drop()
        if self._process is None:
            self._process = Process(self.device, self._hear)
        return self._process

    def _hear(self, line: str) -> None:
        journal = self._journal
        if journal is not None:
            journal.line("output", line)

    def _drop(self, *, wait: bool = False) -> None:
        process, self._process = self._process, None
        if process is not None:
            if wait:
                process.end()
            process.close()


class Queue:
    """Hands queued jobs to slots, in the order in which they came; those that use a network wait for a device.

    Args:
        store: The jobs.
        learns: Says of a task whether it uses a network.
        within: Says of a job's folder which folders the job may use.
        devices: One slot each.
        quick: Slots for jobs that use none.
    """

    def __init__(
        self,
        store: Store,
        learns: Callable[[str], bool],
        *,
        within: Callable[[Path], Within],
        devices: Sequence[str],
        quick: int,
    ) -> None:
        self.within = within
        self.store, self._learns, self.closing = store, learns, False
        self._lock = threading.Lock()
        self._changed = threading.Lock()
        self._waiting: dict[bool, deque[str]] = {True: deque(), False: deque()}
        self._calls: dict[str, list[Callable[[], object]]] = {}
        self.slots = {
            True: [Slot(device, self) for device in devices],
            False: [Slot(QUICK, self) for _ in range(quick)],
        }
        self._idle = {kind: list(slots) for kind, slots in self.slots.items()}
        self._kind = {id(slot): kind for kind, slots in self.slots.items() for slot in slots}

    def put(self, job_id: str, task: str) -> None:
        """Run a job as soon as a slot is free; a warm one is preferred."""
        kind = self._learns(task)
        with self._lock:
            idle = self._idle[kind]
            if not idle or self.closing:
                self._waiting[kind].append(job_id)
                return
            slot = next((slot for slot in idle if slot.warm), idle[0])
            idle.remove(slot)
        slot.give(job_id)

    def warm_up(self) -> None:
        """Start a worker for quick jobs, so that the first one need not wait for it."""
        with self._lock:
            idle = [slot for slot in self._idle[False] if not slot.warm]
            if not idle or len(idle) < len(self.slots[False]):
                return
            self._idle[False].remove(idle[0])
        idle[0].give(WARM_UP)

    def free(self, slot: Slot) -> None:
        """Give a slot the next job."""
        kind = self._kind[id(slot)]
        with self._lock:
            if self.closing or not self._waiting[kind]:
                self._idle[kind].append(slot)
                return
            job_id = self._waiting[kind].popleft()
        slot.give(job_id)

    def cancel(self, job_id: str) -> None:
        """Stop the worker that runs a job."""
        for slot in self._all():
            slot.cancel(job_id)
        self.tell(job_id)

    def flush(self, job_id: str) -> None:
        """Store what is known of a running job."""
        for slot in self._all():
            slot.flush(job_id)

    def watch(self, job_id: str, call: Callable[[], object]) -> None:
        """Have something called, from any thread, when a job may be over; it must neither wait nor raise. See :meth:`unwatch`."""
        with self._changed:
            self._calls.setdefault(job_id, []).append(call)

    def unwatch(self, job_id: str, call: Callable[[], object]) -> None:
        """Forget what :meth:`watch` was given."""
        with self._changed:
            calls = self._calls.get(job_id, [])
            calls.remove(call)
            if not calls:
                self._calls.pop(job_id, None)

    def tell(self, job_id: str) -> None:
        """Wake those who wait for a job."""
        with self._changed:
            for call in self._calls.get(job_id, ()):
                call()

    def trouble(self, job_id: str, sentence: str) -> None:
        """A job could not be run or noted; say so where that is still possible."""
        with contextlib.suppress(ServiceError):  # then the next start of the backend runs it again
            self.store.end(job_id, "failed", error=sentence, kind="input")

    def settle(self, job_id: str, timeout: float = 5.0) -> None:
        """Wait until no slot is busy with a job that was cancelled."""
        until = time.monotonic() + timeout
        while any(slot.job_id == job_id for slot in self._all()) and time.monotonic() < until:
            time.sleep(0.01)

    def workers(self) -> list[tuple[str, int]]:
        """The workers that are there: device, number of the process."""
        return [(slot.device, pid) for slot in self._all() if (pid := slot.pid()) is not None]

    def close(self) -> None:
        """Stop all workers."""
        with self._lock:
            self.closing = True
        for slot in self._all():
            slot.end()
        with self._changed:
            for calls in self._calls.values():
                for call in calls:
                    call()

    def _all(self) -> list[Slot]:
        return [slot for slots in self.slots.values() for slot in slots]
