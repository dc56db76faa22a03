"""Faults in the middle of a run: the result is that of an undisturbed run, or the run stops with a sentence and goes on later.

``long_faults.py`` beside this file does the same for longer, with more kills.
"""

import os
import resource
import signal
import threading
from collections import Counter

import pytest
from scale.toy_plan import executions, processes, toy_plan
from scale.toy_run import alive, coordinator, process, wait_for

from howdah.errors import ScaleError
from howdah.progress import finish
from howdah.scale.config import ScaleConfig
from howdah.scale.folder import work_folder
from howdah.scale.run import run_plan
from howdah.scale.status import status_of

pytest.importorskip("distributed")
SERIAL = ScaleConfig(workers=0)
TWO = {"workers": 2, "worker_memory_mb": 2000}


def run(plan, config=SERIAL, show=None, **how):
    return finish(run_plan(plan, config, **how), show)


@pytest.fixture
def expected(tmp_path):
    plan = toy_plan(tmp_path / "expected")
    run(plan)
    return plan.target.read_bytes()


def test_workers_are_killed(tmp_path, expected):
    log = tmp_path / "log"
    plan = toy_plan(tmp_path / "result", log=str(log), seconds=0.05)
    killed, over = [], threading.Event()

    def kill():
        for count in (2, 8, 14):
            wait_for(lambda count=count: len(executions(log)) >= count or over.is_set())
            victim = next((pid for pid in reversed(processes(log)) if alive(pid) and not over.is_set()), None)
            if victim is not None:
                os.kill(victim, signal.SIGKILL)
                killed.append(victim)

    killer = threading.Thread(target=kill)
    killer.start()
    messages = []
    try:
        facts = run(plan, ScaleConfig(**TWO), show=lambda step: messages.append(step.message))
    finally:
        over.set()
        killer.join()
    assert len(killed) == 3
    assert plan.target.read_bytes() == expected
    assert any("is tried again: its worker" in text for text in messages)
    assert len(executions(log)) <= 29 + facts["blocks"]["repeated"] <= 29 + 2 * 3


def test_a_block_that_kills_its_worker_is_given_up(tmp_path):
    plan = toy_plan(tmp_path / "result", frames=2, trouble={"frames/t0001": "die"})
    with pytest.raises(ScaleError, match=r"Block 'frames/t0001' \(frame 1\) was tried 2 times .* its worker .* died"):
        run(plan, ScaleConfig(workers=1, worker_memory_mb=2000, retries=1))


def test_the_coordinator_is_killed_and_its_workers_end(tmp_path, expected):
    log, target = tmp_path / "log", tmp_path / "result"
    fast = tmp_path / "fast"
    how = {"log": str(log), "seconds": 0.1, "fast": str(fast)}
    with coordinator(target, plan=how, config=TWO) as first:
        wait_for(lambda: len(executions(log)) >= 9)
        with pytest.raises(ScaleError, match="another run is working in"):
            run(toy_plan(target, **how))
        os.kill(first.pid, signal.SIGKILL)
        wait_for(lambda: not any(map(alive, processes(log))), seconds=10)
    before = len(executions(log))
    fast.touch()
    facts = run(toy_plan(target, **how), SERIAL, keep=True)
    assert target.read_bytes() == expected
    assert facts["blocks"]["done_before"] >= before - 3
    assert len(executions(log)) <= 29 + 3
    assert max(Counter(executions(log)).values()) <= 2


def test_ctrl_c_stops_cleanly_and_at_once(tmp_path, expected):
    log, target = tmp_path / "log", tmp_path / "result"
    fast = tmp_path / "fast"
    how = {"log": str(log), "seconds": 0.3, "fast": str(fast)}
    with coordinator(target, plan=how, config=TWO) as running:
        wait_for(lambda: len(executions(log)) >= 4)
        os.killpg(running.pid, signal.SIGINT)  # as a terminal does: all of the group
        said = running.communicate(timeout=20)[0]
    assert running.returncode == 130
    assert "Stopped. The last good state is kept" in said
    assert "Traceback" not in said
    assert not any(map(alive, processes(log)))
    assert status_of(target)["state"] == "stopped"
    fast.touch()
    run(toy_plan(target, **how))
    assert target.read_bytes() == expected
    assert max(Counter(executions(log)).values()) <= 2


SCHEDULER = """
import asyncio, sys
from distributed import Scheduler
async def main():
    async with Scheduler(host="127.0.0.1", port=0, dashboard=False, scheduler_file=sys.argv[1]) as scheduler:
        await scheduler.finished()
asyncio.run(main())
"""
WORKER = """
import asyncio, sys
from distributed import Worker
async def main():
    async with Worker(scheduler_file=sys.argv[1], nthreads=1, host="127.0.0.1", dashboard=False) as worker:
        await worker.finished()
asyncio.run(main())
"""


def test_the_scheduler_is_killed_and_started_again(tmp_path, expected):
    log, target, file = tmp_path / "log", tmp_path / "result", tmp_path / "scheduler.json"
    plan = toy_plan(target, log=str(log), seconds=0.05)
    messages = []
    with process("-c", SCHEDULER, str(file)) as first, process("-c", WORKER, str(file)):
        steps = run_plan(plan, ScaleConfig(scheduler=str(file), patience_s=30))
        for step in steps:
            messages.append(step.message)
            if step.done >= 8:
                break
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        file.unlink()
        with process("-c", SCHEDULER, str(file)), process("-c", WORKER, str(file)):
            for step in steps:
                messages.append(step.message)
    assert target.read_bytes() == expected
    assert any("does not answer" in text for text in messages)
    assert any("is there again" in text for text in messages)
    assert len(executions(log)) <= 29 + 3


def test_the_scheduler_is_gone_for_good(tmp_path, expected):
    log, target, file = tmp_path / "log", tmp_path / "result", tmp_path / "scheduler.json"
    plan = toy_plan(target, log=str(log), seconds=0.02)
    with process("-c", SCHEDULER, str(file)) as first, process("-c", WORKER, str(file)):
        wait_for(file.exists)
        steps = run_plan(plan, ScaleConfig(scheduler=str(file), patience_s=0.5))
        next(step for step in steps if step.done >= 4)
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        file.unlink()
        with pytest.raises(ScaleError, match=r"has not answered for .* s\. What is done stays"):
            finish(steps)
    run(plan)
    assert target.read_bytes() == expected
    assert len(executions(log)) <= 29 + 2


def test_the_disk_is_full_at_a_block(tmp_path):
    plan = toy_plan(tmp_path / "result", frames=3, size=40_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))  # tiles are smaller, frames larger
    try:
        with pytest.raises(ScaleError, match=r"Block 'frames/t0000' .* Writing the block .* failed"):
            run(plan)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, former)
    assert run(plan)["blocks"]["done_before"] == 3
    alone = toy_plan(tmp_path / "alone", frames=3, size=40_000)
    run(alone)
    assert plan.target.read_bytes() == alone.target.read_bytes()


@pytest.mark.skipif(os.geteuid() == 0, reason="the system lets root write everywhere")
def test_the_folder_is_read_only(tmp_path, expected):
    plan = toy_plan(tmp_path / "result")
    steps = run_plan(plan, SERIAL)
    next(step for step in steps if step.done >= 9)
    steps.close()
    folder = work_folder(plan.target)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        with pytest.raises(ScaleError, match=r"permission was denied|read-only"):
            run(plan)
    finally:
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
    run(plan)
    assert plan.target.read_bytes() == expected
