"""One task in Appose's worker: progress, cancelling, errors and images, without Java; and the guard against stray output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from howdah.errors import Cancelled, ConfigError, MissingExtraError
from howdah.progress import Progress, Steps
from howdah.service import appose_worker as worker
from howdah.service.parameters import Image, Parameters
from howdah.service.shared import image_of, pack_image, table_of
from howdah.service.table import TASKS, Task

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-c", "from howdah.service import appose_worker; appose_worker.main()"]


class Recorder:
    """Stands for Appose's task: keeps what Fiji would be told."""

    def __init__(self, *, cancel_after: int | None = None) -> None:
        self.updates: list[dict[str, Any]] = []
        self.answers: list[str] = []
        self.cancel_after = cancel_after
        self.fail: Any = lambda text=None: self.answers.append(f"failed: {text}")

    @property
    def cancel_requested(self) -> bool:
        return self.cancel_after is not None and len(self.updates) >= self.cancel_after

    def update(self, message: str | None = None, current: Any = None, maximum: Any = None, info: Any = None) -> None:
        self.updates.append({"message": message, "current": current, "maximum": maximum, "info": info})

    def cancel(self) -> None:
        self.answers.append("cancelled")

    def ended(self, *arguments: Any, error: type[BaseException]) -> str:
        """Run a task that ends in an error, as Appose does, and return its one answer."""
        with pytest.raises(error, match=r"\w"):
            worker.run(self, *arguments)
        self.fail("a trace")
        (answer,) = self.answers
        return answer


class Count(Parameters):
    n: int = 3


@pytest.fixture
def tasks() -> Iterator[None]:
    """Tasks that count, that want something, and that are faulty."""

    def count(p: Count) -> Steps[dict[str, Any]]:
        for i in range(p.n):
            yield Progress("count", i + 1, p.n, {"loss": float("nan")}, f"step {i}")
        return {"n": np.int64(p.n), "nothing": float("nan")}

    def want(p: Count) -> Steps[dict[str, Any]]:
        yield Progress("want", 0, 1)
        raise MissingExtraError("This needs something. Install it.")

    def fault(p: Count) -> Steps[dict[str, Any]]:
        yield Progress("fault", 0, 1)
        return {"n": 1 // 0}

    added = {f"test.{f.__name__}": Task(f"test.{f.__name__}", "", Count, f) for f in (count, want, fault)}
    TASKS.update(added)
    yield
    for name in added:
        del TASKS[name]


@pytest.fixture(autouse=True)
def no_block_is_left() -> Iterator[None]:
    yield
    assert len(worker._blocks) == 0


def block_names(message: dict[str, Any]) -> list[str]:
    return [block["shm"]["name"] for block in message["blocks"].values()]


def sent(image: Image) -> dict[str, Any]:
    """Put an image into shared memory as Fiji does: into blocks that the worker made for it."""
    message = pack_image(image, worker._blocks)
    return {"header": message["header"], "blocks": block_names(message)}


@pytest.mark.usefixtures("tasks")
def test_progress_and_result_are_plain() -> None:
    task = Recorder()
    assert worker.run(task, "test.count", {"n": 2}) == {"result": {"n": 2, "nothing": None}}
    assert [(u["message"], u["current"], u["maximum"]) for u in task.updates] == [("step 0", 1, 2), ("step 1", 2, 2)]
    assert task.updates[0]["info"] == {"stage": "count", "values": {"loss": None}}
    assert task.answers == []


@pytest.mark.usefixtures("tasks")
def test_cancelling_takes_effect_between_steps() -> None:
    task = Recorder(cancel_after=2)
    assert task.ended("test.count", {"n": 1000}, error=Cancelled) == "cancelled"
    assert task.updates[-1]["info"]["exit_code"] == 130


@pytest.mark.usefixtures("tasks")
@pytest.mark.parametrize(
    ("name", "parameters", "error", "kind", "code", "words"),
    [
        ("test.count", {"many": 3}, ConfigError, "input", 2, "no setting 'many'"),
        ("test.want", {}, MissingExtraError, "missing", 3, "This needs something. Install it."),
        ("test.fault", {}, ZeroDivisionError, "fault", 1, "ZeroDivisionError"),
    ],
)
def test_an_error_is_one_answer_with_kind_and_exit_code(
    name: str, parameters: dict[str, Any], error: type[BaseException], kind: str, code: int, words: str
) -> None:
    task = Recorder()
    answer = task.ended(name, parameters, error=error)
    info = task.updates[-1]["info"]
    assert (info["kind"], info["exit_code"]) == (kind, code)
    assert words in info["sentence"]
    assert answer == f"failed: {info['sentence']}"


def test_an_image_goes_through_shared_memory() -> None:
    data = np.arange(24, dtype="u2").reshape(1, 2, 1, 3, 4)
    task = Recorder()
    result = worker.run(task, "check", {}, {"image": sent(Image(data, "TZCYX", (2.0, 0.5, 0.5), "µm", 3.0))})["result"]
    message = result["image"]["image"]
    assert result["sum"] == data.sum()
    back = image_of({"header": message["header"], "blocks": block_names(message)}, worker._blocks)
    np.testing.assert_array_equal(back.data, 23 - data)
    assert back.voxel_size == (2.0, 0.5, 0.5)
    del back
    assert len(worker._blocks) == 1  # the result took the place of what was sent
    worker.release(block_names(message))


def test_an_image_for_a_task_on_files_is_written_to_one() -> None:
    data = np.arange(60, dtype="u1").reshape(3, 4, 5)
    result = worker.run(Recorder(), "info", {}, {"image": sent(Image(data, "TYX", (1.0, 0.5, 0.5), "µm", 3.0))})
    assert "0.5" in json.dumps(result)


def test_a_table_goes_through_shared_memory() -> None:
    made = worker.make_blocks(1, 4 * 8 * 2)
    (name,) = block_names(made)
    worker._blocks.bytes_of(name)[:] = np.array([[0, 1], [5, 5], [1, 1], [2, 3]], "<f8").view("u1").ravel()
    header = {"rows": 2, "columns": [["t", "<f8"], ["z", "<f8"], ["y", "<f8"], ["x", "<f8"]]}
    result = worker.run(Recorder(), "link.table", {}, {"table": {"header": header, "blocks": [name]}})["result"]
    message = result["table"]["table"]
    table = table_of({"header": message["header"], "blocks": block_names(message)}, worker._blocks)
    assert (table["source"].tolist(), table["target"].tolist()) == ([0], [1])
    worker.release(block_names(message))


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("check", {"image": "a.tif"}, "was given 'image' twice"),
        ("doctor", {}, "'doctor' takes no image"),
        ("chek", {}, "Did you mean 'check'"),
    ],
)
def test_images_that_a_task_does_not_take(name: str, parameters: dict[str, Any], words: str) -> None:
    task = Recorder()
    message = sent(Image(np.zeros((3, 4), "u1"), "YX"))
    assert words in task.ended(name, parameters, {"image": message}, error=Exception)


@pytest.mark.usefixtures("tasks")
def test_tasks_that_learn_run_one_at_a_time() -> None:
    worker._device.acquire()
    task, thread_results = Recorder(), []
    thread = threading.Thread(target=lambda: thread_results.append(worker.run(task, "test.count", {})))
    thread.start()
    end = time.monotonic() + 5
    while not task.updates and time.monotonic() < end:
        time.sleep(0.01)
    assert task.updates[0]["info"] == {"stage": "wait"}
    assert not thread_results
    impatient = Recorder(cancel_after=0)
    assert impatient.ended("test.count", {}, error=Cancelled) == "cancelled"
    worker._device.release()
    thread.join(5)
    assert thread_results[0]["result"]["n"] == 3


def test_the_guard_keeps_the_pipes_clean() -> None:
    """Appose's own worker, without Java: requests as lines, answers as lines, whatever the tasks print."""
    noise = 'import os\nos.write(1, b"no end")\nprint("x")\nos.system("echo shell; cat")\nfloat("nan")'
    requests = [{"task": str(i), "requestType": "EXECUTE", "script": noise, "inputs": {}} for i in range(20)]
    answers = answers_to(requests)
    ended = [answer for answer in answers if answer["responseType"] == "COMPLETION"]
    assert {answer["task"] for answer in ended} == {str(i) for i in range(20)}
    assert {answer["outputs"]["result"] for answer in ended} == {None}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM that a process can answer")
def test_told_to_end_it_leaves_as_when_fiji_ends() -> None:
    """A time-out of `howdah fiji run` tells Fiji and all that it started to end: the task shall stop, not die."""
    script = "import os, signal, time\nos.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(0.2)"
    request = {"task": "0", "requestType": "EXECUTE", "script": script, "inputs": {}}
    with subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment()) as process:
        try:
            assert process.stdin is not None
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            assert process.wait(60) == 0
        finally:
            process.kill()


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "python"), str(ROOT)])}


def answers_to(requests: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Start the guarded worker, send requests, close its input once all are answered, and return the answers."""
    pipe = subprocess.PIPE
    answers: list[dict[str, Any]] = []
    with subprocess.Popen(COMMAND, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=environment()) as process:
        clock = threading.Timer(60, process.kill)
        clock.start()
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("".join(json.dumps(request) + "\n" for request in requests).encode())
            process.stdin.flush()
            while sum(a["responseType"] in ("COMPLETION", "FAILURE") for a in answers) < len(requests):
                answers.append(json.loads(process.stdout.readline()))
            process.stdin.close()
            assert process.wait(10) == 0
        finally:
            clock.cancel()
            process.kill()
    return answers
