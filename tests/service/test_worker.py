"""The worker as a process: its protocol, its streams, and that it never outlives who started it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from howdah.service import process
from howdah.service.process import Process, died, message

HERE = Path(__file__).parent
Worker = Any


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    monkeypatch.setattr(process, "COMMAND", [sys.executable, str(HERE / "extra_tasks.py")])
    heard: list[str] = []
    made: Worker = Process("quick", heard.append)
    made.heard = heard
    yield made
    made.close()


def answers_of(worker: Worker, task: str, parameters: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    worker.send(message(task, parameters, folder=folder))
    found = []
    for answer in worker.answers():
        found.append(answer)
        if "result" in answer or "error" in answer:
            break
    return found


def test_the_protocol(worker: Worker, tmp_path: Path, until: Callable[..., float]) -> None:
    found = answers_of(worker, "nap", {"steps": 2}, tmp_path)
    assert found == [
        {"ready": worker.pid},
        {"progress": ["nap", 1, 2, {"loss": 1.0}, "step 1"]},
        {"progress": ["nap", 2, 2, {"loss": 0.5}, "step 2"]},
        {"result": {"slept": 0.0}},
    ]
    found = answers_of(worker, "noisy", {}, tmp_path)
    assert {"log": ["warning", "a log line"]} in found
    assert found[-1]["result"]["nan"] is None
    until(
        lambda: {"a print", "bytes to descriptor 1"} <= set(worker.heard)
    )  # on standard error, not between the answers
    assert answers_of(worker, "nix", {}, tmp_path)[-1]["error"][0] == "input"
    assert answers_of(worker, "memory", {}, tmp_path)[-1]["last"] is True
    assert worker.end()[0] == 130


def test_a_fault_ends_it_with_its_traceback(worker: Worker, tmp_path: Path) -> None:
    assert answers_of(worker, "fault", {}, tmp_path) == [{"ready": worker.pid}]
    code, lines = worker.end()
    assert code == 1
    assert lines[-1] == "ZeroDivisionError: nobody thought of that"
    assert any("extra_tasks.py" in line for line in lines)
    assert died("fault", code, lines).startswith("A fault in Howdah ended 'fault', please report it: ZeroDivisionError")


@pytest.mark.parametrize("task", ["nap", "deaf"])
def test_it_ends_with_its_parent(task: str, tmp_path: Path) -> None:
    program = subprocess.Popen(
        [sys.executable, str(HERE / "extra_tasks.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=process._environment("cpu"),
    )
    with program:
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write(json.dumps(message(task, {"seconds": 30, "steps": 1000}, folder=tmp_path)).encode() + b"\n")
        program.stdin.flush()
        assert "ready" in json.loads(program.stdout.readline())
        if task == "nap":
            assert "progress" in json.loads(program.stdout.readline())
        start = time.monotonic()
        program.stdin.close()  # what the system does when the parent is killed
        assert program.wait(5) == 130
        assert time.monotonic() - start < 1.0


def test_stopping_between_two_steps(worker: Worker, tmp_path: Path) -> None:
    worker.send(message("nap", {"seconds": 30, "steps": 3000}, folder=tmp_path))
    answers = worker.answers()
    assert "ready" in next(answers)
    assert "progress" in next(answers)
    start = time.monotonic()
    worker.stop()
    assert list(answers)[-1]["error"][0] == "cancelled"
    assert worker.end()[0] in (130, -signal.SIGKILL)  # it says so and ends; whoever reads to the end kills what is left
    assert time.monotonic() - start < 1.0


def test_what_a_device_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    def seen(device: str) -> str | None:
        return process._environment(device).get("CUDA_VISIBLE_DEVICES")

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert (seen("cuda:1"), seen("cpu"), seen("quick"), seen(process.INHERIT)) == ("1", "", "", None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-abc")
    assert (seen("cuda:1"), seen(process.INHERIT)) == ("GPU-abc", "4,GPU-abc")


def test_a_death_is_told_with_its_signal() -> None:
    assert "(signal SIGSEGV)" in died("track", -11, ["a", "b"], " at train 3/40")
    assert "took" not in died("track", -11, [])
    assert "(exit code 3)" in died("track", 3, [])
