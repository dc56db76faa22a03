"""A worker with tasks that misbehave on purpose: run as a program it is the real worker, with these in its table."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from howdah import pipeline
from howdah.progress import Progress, Steps
from howdah.service.parameters import Image, InFile, OutFile, Parameters
from howdah.service.table import TASKS
from howdah.service.table_fields import at_once
from howdah.service.tasks import Task


class Nap(Parameters):
    seconds: float = 0.0
    steps: int = 1


class Note(Parameters):
    file: OutFile
    text: str = "x"


class Copy(Parameters):
    source: InFile
    out: OutFile | None = None


class OutOfMemoryError(RuntimeError):
    """Called as torch's."""


def nap(p: Nap) -> Steps[dict[str, Any]]:
    for step in range(p.steps):
        time.sleep(p.seconds / p.steps)
        yield Progress("nap", step + 1, p.steps, values={"loss": 1 / (step + 1)}, message=f"step {step + 1}")
    return {"slept": p.seconds}


def deaf(p: Nap) -> dict[str, Any]:
    sys.stderr.write("falling asleep\n")
    time.sleep(p.seconds)  # goes on after a signal that raises nothing
    return {}


def note(p: Note) -> dict[str, Any]:
    with p.file.open("a") as file:
        file.write(p.text + "\n")
    return {"written": p.text}


def noisy(p: Parameters) -> dict[str, Any]:
    sys.stdout.write("a print\n")
    os.write(1, b"bytes to descriptor 1\n")
    warnings.warn("a warning", stacklevel=1)
    logging.getLogger("howdah").warning("a log line")
    values = {
        "nan": float("nan"),
        "infinite": np.float32(np.inf),
        "numpy": np.int64(7),
        "path": Path("a"),
        "pair": (1, 2),
    }
    return {**values, "image": Image(np.arange(6, dtype=">u2").reshape(2, 3), "YX"), "table": {"t": np.arange(3)}}


def memory(p: Parameters) -> dict[str, Any]:
    raise OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def fault(p: Parameters) -> dict[str, Any]:
    raise ZeroDivisionError("nobody thought of that")


def die(p: Parameters) -> dict[str, Any]:
    sys.stderr.write("last words\n")
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def die_for_a(p: Copy) -> dict[str, Any]:
    if p.source.name.startswith("a"):
        os.kill(os.getpid(), signal.SIGKILL)
    return {"size": p.source.stat().st_size}


def full(p: Copy) -> Steps[dict[str, Any]]:
    import resource  # not on Windows

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        return (yield from pipeline.convert(p.source, p.out or ""))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def full_log(p: Note) -> dict[str, Any]:
    import resource  # not on Windows

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with p.file.open("wb", buffering=0) as file:
            while True:
                file.write(b"0" * 800)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


EXTRA = {
    task.name: task
    for task in [
        Task("nap", "", Nap, nap, learns=False),
        Task("learn", "", Nap, nap),
        Task("deaf", "", Nap, lambda p: at_once(lambda: deaf(p)), learns=False),
        Task("note", "", Note, lambda p: at_once(lambda: note(p)), learns=False),
        Task("noisy", "", Parameters, lambda p: at_once(lambda: noisy(p)), learns=False),
        Task("memory", "", Parameters, lambda p: at_once(lambda: memory(p)), learns=False),
        Task("fault", "", Parameters, lambda p: at_once(lambda: fault(p)), learns=False),
        Task("die", "", Parameters, lambda p: at_once(lambda: die(p)), learns=False),
        Task("full", "", Copy, full, learns=False, results={"out": "copy.ome.zarr"}),
        Task("full.die", "", Copy, lambda p: at_once(lambda: die_for_a(p)), learns=False),
        Task("full.log", "", Note, lambda p: at_once(lambda: full_log(p)), learns=False),
    ]
}

if __name__ == "__main__":
    from howdah.service.worker import main

    TASKS.update(EXTRA)
    main()
