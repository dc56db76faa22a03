"""A process that stays warm and runs one job after the other: ``python -m howdah.service.worker``.

Each line of standard input is a job as JSON: ``{"task", "parameters", "folder", "within"}``. Answers are JSON lines on what was standard
output when the process began; whatever a library prints goes to standard error instead, so that no print can garble an answer::

    {"ready": PID}                                      once, when it has loaded
    {"progress": [stage, done, total, values, message]} of the job
    {"log": [level, text]}
    {"result": {...}}                                   the end of the job; or
    {"error": [kind, sentence], "last": false}          the same; "last": the process ends now

The process ends when standard input does, also in the middle of a job: it never outlives its parent. SIGINT ends the job between two
steps, and the process with it. A fault (an error that nobody foresaw) ends the process with
its traceback on standard error and exit code 1: whoever started it has those lines, and a fresh process for the next job.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bdv_io import BdvIoError
from howdah.errors import HowdahError
from howdah.progress import Progress
from howdah.service.clean import plain, stored
from howdah.service.parameters import Within
from howdah.service.running import run_task, sentence_of

__all__ = ["main"]

FAULT, STOPPED = 1, 130
LONGEST_LINE = 4000


class Channel:
    """Writes answers, whole lines only, from any thread."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._lock = descriptor, threading.Lock()

    def send(self, answer: Mapping[str, Any]) -> None:
        """Write one answer; where nobody reads any more, the process ends."""
        line = (json.dumps(answer, allow_nan=False) + "\n").encode()
        with self._lock:
            try:
                while line:
                    line = line[os.write(self._descriptor, line) :]
            except OSError:  # the parent is gone
                os._exit(STOPPED)


class Lines(logging.Handler):
    """Sends what the packages log."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(logging.INFO)
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        """Send one line."""
        self._channel.send({"log": [record.levelname.lower(), record.getMessage()[:LONGEST_LINE]]})


def main() -> None:
    """Run jobs until standard input ends."""
    channel, jobs = Channel(os.dup(1)), queue.SimpleQueue[dict[str, Any]]()
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    commands = os.dup(0)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    handler = Lines(channel)
    for name in ("howdah", "bdv_io"):
        logging.getLogger(name).setLevel(logging.INFO)
        logging.getLogger(name).addHandler(handler)
    logging.captureWarnings(True)
    threading.Thread(target=_listen, args=(commands, jobs), name="commands", daemon=True).start()
    channel.send({"ready": os.getpid()})
    code = FAULT
    try:
        code = _work(jobs, channel)
    except KeyboardInterrupt:
        code = STOPPED
    finally:
        if code == FAULT:
            sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        os._exit(code)  # threads of libraries, and what they do at exit, are not waited for


def _work(jobs: queue.SimpleQueue[dict[str, Any]], channel: Channel) -> int:
    """Run jobs until one says that it was the last; standard input's end ends the process from another thread."""
    while _run(jobs.get(), channel):
        pass
    return STOPPED


def _listen(commands: int, jobs: queue.SimpleQueue[dict[str, Any]]) -> None:
    """Read jobs; when the parent is gone, end at once."""
    with contextlib.suppress(OSError), os.fdopen(commands, "rb") as file:
        for line in file:
            jobs.put(json.loads(line))
    sys.stderr.flush()
    os._exit(STOPPED)


def _run(job: Mapping[str, Any], channel: Channel) -> bool:
    """Run one job and answer; return whether this process can run another one."""

    def show(step: Progress) -> None:
        values = {name: plain(value) for name, value in step.values.items()}
        channel.send({"progress": [step.stage, int(step.done), int(step.total), values, step.message[:LONGEST_LINE]]})

    folder = Path(job["folder"])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        result = stored(run_task(job["task"], job["parameters"], show=show, folder=folder, within=_within(job)), folder)
    except (BdvIoError, HowdahError, OSError) as error:
        _let_go()
        channel.send({"error": [*sentence_of(error)], "last": False})
        return True
    except (MemoryError, RuntimeError, KeyboardInterrupt) as error:
        if sentence_of(error)[0] == "fault":
            raise
        channel.send({"error": [*sentence_of(error)], "last": True})
        return False
    _let_go()
    channel.send({"result": result})
    return True


def _within(job: Mapping[str, Any]) -> Within | None:
    """Folders that the job may use."""
    said = job.get("within")
    return None if said is None else Within.of_json(said)


def _let_go() -> None:
    """Give memory of the GPU back that torch, if it is loaded, keeps for later."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
