"""A run of the toy plan in a process of its own, that tests can kill: ``python -m scale.toy_run TARGET JSON`` in the folder ``tests``.

JSON: ``plan`` (arguments of the plan), ``config`` (settings of scale), ``keep``. Prints the facts as JSON; an error with a sentence is
printed and makes exit code 2, Ctrl-C 130.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def environment() -> dict[str, str]:
    """Return that of processes which find Howdah and the toy plan."""
    path = os.pathsep.join([str(ROOT / "python"), str(ROOT), str(ROOT / "tests")])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


@contextlib.contextmanager
def process(*command: str) -> Iterator[subprocess.Popen[str]]:
    """Run Python with these arguments in a process group of its own, which is killed at the end."""
    with subprocess.Popen(
        [sys.executable, *command],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as running:
        try:
            yield running
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)


def coordinator(target: Path, *, plan=None, config=None, keep=False) -> contextlib.AbstractContextManager:
    """Run the toy plan in a process of its own."""
    told = json.dumps({"plan": plan or {}, "config": config or {}, "keep": keep})
    return process("-m", "scale.toy_run", str(target), told)


def wait_for(condition, seconds=30.0, every=0.02) -> None:
    """Wait until something is so."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError("it did not happen in time")
        time.sleep(every)


def alive(pid: int) -> bool:
    """Is there such a process (that is no zombie)?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """Run."""
    from scale.toy_plan import toy_plan

    from howdah.cli_show import guarded
    from howdah.progress import finish
    from howdah.scale.config import ScaleConfig
    from howdah.scale.run import run_plan

    target, told = Path(sys.argv[1]), json.loads(sys.argv[2])

    def run() -> None:
        steps = run_plan(toy_plan(target, **told["plan"]), ScaleConfig(**told["config"]), keep=told["keep"])
        facts = finish(steps, lambda step: step.message and say(step.message))
        say(json.dumps(facts))

    return guarded(run)


if __name__ == "__main__":
    sys.exit(main())
