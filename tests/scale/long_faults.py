"""Faults for minutes, by hand: ``python -m scale.long_faults [KILLS]`` in the folder ``tests`` (PYTHONPATH: python, the repository, tests).

1. one run during which at least KILLS (20) workers are killed at random times; 2. a run whose coordinator is killed again and again,
with workers being killed, too, until it ends; 3. a run on a scheduler of its own process that is killed and started again, three
times; 4. a disk of a few MiB that is full, then larger, and one that becomes read-only (needs root and mount). Each result must be, byte
for byte, that of an undisturbed run in one process. Prints a Markdown table.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from scale.test_faults import SCHEDULER, WORKER
from scale.toy_plan import executions, processes, toy_plan
from scale.toy_run import alive, coordinator, process, say, wait_for

from howdah.errors import ScaleError
from howdah.progress import finish
from howdah.scale.config import ScaleConfig
from howdah.scale.run import run_plan

SERIAL = ScaleConfig(workers=0)
FRAMES = 60
TWO = {"workers": 2, "worker_memory_mb": 2000, "retries": 20}


class Killer(threading.Thread):
    """Kills a process that has begun a block lately, at random times, until it is told to end."""

    def __init__(self, log: Path, most: int, mean_s: float) -> None:
        super().__init__(daemon=True)
        self.log, self.most, self.mean_s = log, most, mean_s
        self.killed: list[int] = []
        self.over = threading.Event()

    def run(self) -> None:
        chance = random.Random(5)
        while len(self.killed) < self.most and not self.over.wait(chance.expovariate(1 / self.mean_s)):
            victims = [pid for pid in set(processes(self.log)[-4:]) if alive(pid) and pid != os.getpid()]
            if victims:
                victim = chance.choice(victims)
                os.kill(victim, signal.SIGKILL)
                self.killed.append(victim)


def row(name: str, log: Path, total: int, seconds: float, **facts: object) -> None:
    """Print a row of the table."""
    begun = executions(log)
    said = ", ".join(f"{value} {key}" for key, value in facts.items())
    say(f"| {name} | {said} | {total} | {len(begun)} | {max(Counter(begun).values())} | {seconds:.0f} |")


def workers_killed(folder: Path, expected: bytes, kills: int) -> None:
    log = folder / "log1"
    plan = toy_plan(folder / "one", frames=FRAMES, log=str(log), seconds=0.25, fast=str(folder / "fast1"))
    killer = Killer(log, kills, 0.8)
    killer.start()
    begun = time.monotonic()
    facts = finish(run_plan(plan, ScaleConfig(**TWO)))
    killer.over.set()
    killer.join()
    assert len(killer.killed) >= kills, f"the run ended after {len(killer.killed)} kills"
    assert plan.target.read_bytes() == expected
    row(
        "workers killed in one run",
        log,
        len(plan.blocks),
        time.monotonic() - begun,
        kills=len(killer.killed),
        repeated=facts["blocks"]["repeated"],
    )


def coordinator_killed(folder: Path, expected: bytes) -> None:
    log, target = folder / "log2", folder / "two"
    how = {"frames": FRAMES, "log": str(log), "seconds": 0.1}
    chance, begun, runs, killed = random.Random(7), time.monotonic(), 0, 0
    while True:
        runs += 1
        with coordinator(target, plan=how, config=TWO) as running:
            begin, most = len(executions(log)), chance.randint(30, 60)

            def reached(count: int, running: Any = running, begin: int = begin) -> bool:
                return running.poll() is not None or len(executions(log)) >= begin + count

            wait_for(lambda reached=reached, most=most: reached(most // 2), 60)
            if running.poll() is None:
                os.kill(processes(log)[-1], signal.SIGKILL)
            wait_for(lambda reached=reached, most=most: reached(most), 60)
            if running.poll() is not None:
                assert running.returncode == 0, running.communicate()[0]
                break
            os.kill(running.pid, signal.SIGKILL)
            died = time.monotonic()
            wait_for(lambda: not any(map(alive, set(processes(log)))), 20)
            killed += 1
            say(f"<!-- coordinator killed: its workers had ended {time.monotonic() - died:.2f} s later -->")
    assert target.read_bytes() == expected
    row(
        "coordinator (and workers) killed",
        log,
        len(toy_plan(target, frames=FRAMES).blocks),
        time.monotonic() - begun,
        kills=killed,
        runs=runs,
    )


def scheduler_killed(folder: Path, expected: bytes) -> None:
    log, file = folder / "log3", folder / "scheduler.json"
    plan = toy_plan(folder / "three", frames=FRAMES, log=str(log), seconds=0.05)
    begun, restarts, done = time.monotonic(), 0, 0
    with ExitStack() as stack:
        scheduler = stack.enter_context(process("-c", SCHEDULER, str(file)))
        for _ in range(2):
            stack.enter_context(process("-c", WORKER, str(file)))
        for step in run_plan(plan, ScaleConfig(scheduler=str(file), patience_s=60)):
            if step.done >= done + 60 and restarts < 3:
                done, restarts = step.done, restarts + 1
                os.kill(scheduler.pid, signal.SIGKILL)
                scheduler.wait()
                file.unlink()
                scheduler = stack.enter_context(process("-c", SCHEDULER, str(file)))
                for _ in range(2):
                    stack.enter_context(process("-c", WORKER, str(file)))
    assert plan.target.read_bytes() == expected
    assert restarts == 3
    row("scheduler killed and started again", log, len(plan.blocks), time.monotonic() - begun, kills=restarts)


def disk_full(folder: Path) -> None:
    disk, log = folder / "disk", folder / "log4"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk)], capture_output=True, check=False
    ).returncode:
        say("<!-- the disk was not filled: mounting one needs root -->")
        return
    try:
        plan, alone = toy_plan(disk / "four", frames=40, log=str(log)), toy_plan(folder / "alone", frames=40)
        finish(run_plan(alone, SERIAL))
        begun, stops = time.monotonic(), []
        for change in ("size=600k", "size=700k", "size=900k", "ro", "rw,size=4m"):
            subprocess.run(["mount", "-o", f"remount,{change}", str(disk)], check=True)
            try:
                finish(run_plan(plan, SERIAL))
            except ScaleError as error:
                stops.append(f"{change}: {error}")
                say(f"<!-- {re.sub(str(folder), 'FOLDER', str(error))} -->")
        assert plan.target.read_bytes() == alone.target.read_bytes()
        assert len(stops) >= 2
        row("disk full, then read-only", log, len(plan.blocks), time.monotonic() - begun, stops=len(stops))
    finally:
        subprocess.run(["umount", str(disk)], check=False)


def main() -> None:
    """Run all."""
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        alone = toy_plan(folder / "expected", frames=FRAMES)
        finish(run_plan(alone, SERIAL))
        expected = alone.target.read_bytes()
        say("| fault | | blocks | executions | most of one block | s |\n|---|---|---|---|---|---|")
        disk_full(folder)
        scheduler_killed(folder, expected)
        coordinator_killed(folder, expected)
        workers_killed(folder, expected, kills)


if __name__ == "__main__":
    main()
