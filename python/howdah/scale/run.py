"""The loop: begins or resumes a run, hands out blocks whose needs are done, keeps the manifest, gathers the result."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from howdah.errors import ScaleError
from howdah.progress import Progress, Steps
from howdah.scale.begin import Begun, begin
from howdah.scale.config import ScaleConfig
from howdah.scale.execute import Report, task_of
from howdah.scale.folder import DamagedBlock, block_path, hold, read_checked, read_result, remove, work_folder
from howdah.scale.machine import check_memory, free_memory_mb
from howdah.scale.manifest import Row
from howdah.scale.plan import Json, Plan, Result
from howdah.scale.serial import Executor, Serial

__all__ = ["run_plan"]

log = logging.getLogger(__name__)

FLUSH_S = 1.0
WAIT_S = 0.5
SHOWN_S = 0.2


def run_plan(plan: Plan, config: ScaleConfig, *, restart: bool = False, keep: bool = False) -> Steps[dict[str, Any]]:
    """Do the blocks of a plan that are not done yet, and make the result.

    Workers of this computer are new processes that load the program's main file, as of Python's multiprocessing (spawn): a script that
    calls this stands under ``if __name__ == "__main__":``. In a notebook nothing is needed. SIGTERM and SIGHUP end this process at once
    as they do any; its workers end with it, and the next run goes on from the files of blocks.

    Args:
        plan: What to do.
        config: Who does it.
        restart: Forget what an earlier run of this target has done.
        keep: Leave the work folder where it is when all is done (else it is removed).

    Returns:
        What the plan's ``gather`` returns, and ``blocks``: how many there are, how many were done by this run and how many before, how
        many executions failed or were lost, and who did it.

    Raises:
        ScaleError: A block failed more often than ``retries``, the scheduler is gone, the manifest cannot be written, or the work
            folder belongs to another run. The sentence says what to do; the blocks that are done stay.
    """
    folder = work_folder(plan.target).absolute()  # workers may stand elsewhere
    with hold(folder):
        begun = begin(plan, folder, restart=restart)
        with contextlib.closing(begun.manifest):
            run = _Run(plan, config, folder, begun)
            result = yield from run.all()
        if not keep:
            remove(folder)
    return result


@dataclass
class _Run:
    """One run of a plan: the loop and its counts."""

    plan: Plan
    config: ScaleConfig
    folder: Path
    begun: Begun
    running: dict[str, int] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)
    done: int = 0
    again: int = 0
    who: dict[str, Json] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.schedule, self.manifest, self.rows = self.begun.schedule, self.begun.manifest, self.begun.rows
        self.before = len(self.plan.blocks) - self.schedule.left
        self.cost_before = self.schedule.cost - self.schedule.cost_left
        self.clock = self.flushed = self.shown = time.monotonic()

    def all(self) -> Steps[dict[str, Any]]:
        """Do what is to be done and gather, until no file turns out damaged."""
        while True:
            if self.schedule.left:
                yield from self.blocks()
            self.manifest.say(state="gathering")
            self.manifest.flush()
            try:
                facts = yield from self.plan.gather(self)
            except DamagedBlock as error:
                yield from self.verify(error)
                continue
            self.manifest.say(state="done", ended=time.time())
            self.manifest.flush()
            return {**facts, "blocks": self.facts["blocks"]}

    @property
    def facts(self) -> Mapping[str, Json]:
        """What the record of the result is to say about the run."""
        blocks = {
            "all": len(self.plan.blocks),
            "done_now": self.done,
            "done_before": self.before,
            "repeated": self.again,
        }
        return {"blocks": {**blocks, **self.who}}

    def read(self, key: str) -> Result:
        """Return the result of a block that is done, for ``gather``."""
        if key not in self.schedule.place:
            raise ValueError(f"The plan has no block '{key}'.")
        return read_result(self.folder, key, run=self.begun.run)

    def blocks(self) -> Generator[Progress, None, None]:
        """Do all blocks that are to be done."""
        executor = _executor(self.plan, self.config, self.folder, self.begun.run)
        ended = False
        try:
            self.who = executor.about()
            self.manifest.say(state="running", **self.who)
            ahead = (
                None  # how far beyond the first block that is not done others may be begun: bounds the passing files
            )
            if any(self.schedule.passing):
                ahead = 0 if executor.most == 1 else max(16, 4 * executor.slots)
            self.manifest.say(passing_at_most=self.schedule.passing_serial + (ahead or 0))
            while self.schedule.left:
                self.hand_out(executor, ahead)
                for report in executor.wait(WAIT_S):
                    yield from self.take(report)
                for sentence in executor.notes():
                    self.manifest.event("cluster", sentence)
                    yield self.progress(sentence)
                now = time.monotonic()
                if now - self.flushed > FLUSH_S:
                    self.manifest.flush(self.running)
                    self.flushed = now
                if now - self.shown > SHOWN_S or executor.most == 1 or not self.schedule.left:
                    self.shown = now
                    yield self.progress()
            ended = True
        finally:
            executor.close(at_once=not ended)
            if (
                not ended
            ):  # stopped or failed: keep what is known; the reason of the stop matters more than a second one
                with contextlib.suppress(ScaleError):
                    self.manifest.say(state="stopped", ended=time.time())
                    self.manifest.flush(self.running)
        self.manifest.flush()

    def hand_out(self, executor: Executor, ahead: int | None) -> None:
        """Give the workers enough to do, but little more than they do at the time: what waits here can be chosen better later."""
        while len(self.running) < executor.most:
            number = self.schedule.next(ahead)
            if number is None:
                if not self.running and self.schedule.left:
                    raise ScaleError(
                        "No block can be begun though some are left; this is a fault in Howdah. Please report it."
                    )
                return
            block = self.plan.blocks[number]
            self.running[block.key] = number
            executor.submit(task_of(block, self.folder, self.begun.run))

    def take(self, report: Report) -> Generator[Progress, None, None]:
        """Note what became of an execution."""
        number = self.running.pop(report.key)
        block = self.plan.blocks[number]
        row = self.rows.get(report.key) or Row(report.key, block.stage)
        self.rows[report.key] = row
        if report.state == "unsent":
            self.schedule.again(number)
            return
        if report.state != "found":
            row.attempts += 1
            row.worker, row.started, row.seconds = report.worker, report.started, report.seconds
            row.peak_mb, row.error = max(row.peak_mb, report.peak_mb), report.error
        row.executions = max(1, row.executions + (report.state != "found"))
        self.manifest.note(row)
        if report.state in ("done", "found"):
            row.state, row.size, row.checksum = "done", report.size, report.checksum
            self.done += 1
            for gone in self.schedule.finished(number):
                self.drop(gone)
            return
        row.state = "failed"
        self.again += 1
        self.manifest.event(report.state, f"{block.key}: {report.error}")
        if report.state == "damaged":
            yield from self.repair(report.damaged, report.error)
        if report.state == "refused" or row.attempts > self.config.retries + (report.state == "damaged"):
            raise ScaleError(_given_up(block.key, block.arguments, row, report))
        if report.key not in self.told:
            self.told.add(report.key)
            yield self.progress(f"Block '{block.key}' is tried again: {report.error}")
        self.schedule.again(number)

    def drop(self, number: int) -> None:
        """Remove the file of a passing block that nobody needs any more."""
        key = self.plan.blocks[number].key
        with contextlib.suppress(OSError):
            block_path(self.folder, key).unlink(missing_ok=True)
        row = self.rows.get(key)
        if row is not None:
            row.state = "gone"
            self.manifest.note(row)

    def repair(self, key: str, reason: str) -> Generator[Progress, None, None]:
        """Have a block done again whose file cannot be used, unless it can be read here and now."""
        with contextlib.suppress(DamagedBlock):
            read_checked(self.folder, key, run=self.begun.run)
            return
        row = self.rows.get(key)
        if row is not None and row.attempts > self.config.retries + 1:
            raise ScaleError(
                f"The file of block '{key}' was made {row.attempts} times and cannot be used ({reason}). Look at the disk; what is done "
                "stays, and the same command goes on from there."
            )
        self.schedule.damaged(self.schedule.place[key])
        with contextlib.suppress(OSError):
            block_path(self.folder, key).unlink(missing_ok=True)
        sentence = f"The file of block '{key}' could not be used ({reason}); the block is done again."
        self.manifest.event("damaged", sentence)
        if key not in self.told:
            self.told.add(key)
            log.warning("%s", sentence)
            yield self.progress(sentence)

    def verify(self, error: DamagedBlock) -> Generator[Progress, None, None]:
        """Look at all files after ``gather`` met one that cannot be used, so that it need not begin anew for each."""
        if error.key not in self.schedule.place:
            raise error
        yield from self.repair(error.key, error.reason)
        for number, block in enumerate(self.plan.blocks):
            if number % 100 == 0:
                yield Progress("verify", number, len(self.plan.blocks))
            if self.schedule.here[number] and block.key != error.key:
                try:
                    read_checked(self.folder, block.key, run=self.begun.run)
                except DamagedBlock as other:
                    yield from self.repair(other.key, other.reason)

    def progress(self, message: str = "") -> Progress:
        """Return how far the run is: blocks a second in this run, share of the cost, seconds to go."""
        schedule, seconds = self.schedule, time.monotonic() - self.clock
        share = 1 - schedule.cost_left / schedule.cost if schedule.cost else 1.0
        values = {"blocks/s": self.done / max(seconds, 1e-9), "share": share}
        here = schedule.cost - schedule.cost_left - self.cost_before
        if here > 0:
            values["eta_s"] = seconds * schedule.cost_left / here
        count = len(self.plan.blocks)
        return Progress("blocks", count - schedule.left, count, values, message)


def _given_up(key: str, arguments: Mapping[str, Json], row: Row, report: Report) -> str:
    frame = f" (frame {arguments['frame']})" if "frame" in arguments else ""
    tried = "cannot be done" if report.state == "refused" else f"was tried {row.attempts} times and failed"
    return (
        f"Block '{key}'{frame} {tried}; the last time: {report.error.rstrip('.')}. What is done stays: when the cause is removed, the "
        "same command goes on from there."
    )


def _executor(plan: Plan, config: ScaleConfig, folder: Path, run: str) -> Executor:
    if config.workers == 0 and config.scheduler is None:
        check_memory(plan, config.worker_memory_mb or free_memory_mb(), whose="this process")
        return Serial()
    from howdah.scale.cluster import Cluster

    return Cluster(plan, config, folder, run)
