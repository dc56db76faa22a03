"""One worker process as its parent sees it: started, given jobs, stopped at once, and its last lines when it died."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from howdah.errors import ServiceError
from howdah.service.parameters import Within

__all__ = ["GRACE_S", "INHERIT", "Process", "died", "message"]

GRACE_S = 1.5  # between asking a worker to stop and killing it
KEPT_LINES = 40
SHOWN_LINES = 8
COMMAND = [sys.executable, "-m", "howdah.service.worker"]
INHERIT = "inherit"
LONGEST_LINE = 4000
POSIX = os.name == "posix"


class Process:
    """A running worker.

    Args:
        device: What it computes on: ``"cuda:1"`` shows it only that GPU, ``"cpu"`` none, ``"inherit"`` those of this process.
        hear: Called with each line of its standard error, from another thread.

    Attributes:
        stopping: Somebody wants it to end. served: It has said that it is ready.

    Raises:
        ServiceError: The system could not start it.
    """

    def __init__(self, device: str, hear: Callable[[str], object]) -> None:
        self._hear, self._tail = hear, deque[str](maxlen=KEPT_LINES)
        self.stopping = self.served = False
        flags: dict[str, Any] = {} if POSIX else {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
        try:
            self._process = subprocess.Popen(
                COMMAND,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_environment(device),
                start_new_session=POSIX,  # a Ctrl-C in the terminal of the service is not for the workers
                **flags,
            )
        except OSError as error:
            raise ServiceError(f"A worker could not be started: {error}. Are there too many processes?") from error
        self._reader = threading.Thread(target=self._read_errors, name=f"worker-{self.pid}-lines", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def send(self, job: Mapping[str, Any]) -> None:
        """Give it a job. That it is dead shows when its answers end."""
        stdin = _there(self._process.stdin)
        with contextlib.suppress(OSError, ValueError):
            stdin.write(json.dumps(job, allow_nan=False).encode() + b"\n")
            stdin.flush()

    def answers(self) -> Iterator[dict[str, Any]]:
        """Yield its answers as they come; the end is the end of the process."""
        for line in _there(self._process.stdout):
            try:
                answer = json.loads(line)
            except ValueError:  # killed in the middle of a line
                break
            yield answer
        self.kill()

    def stop(self) -> None:
        """Ask it to end between two steps, and kill it after :data:`GRACE_S` if it has not; returns at once."""
        if self.stopping:
            return
        self.stopping = True
        if POSIX:
            self._signal(signal.SIGINT)
        else:
            self._process.terminate()
        timer = threading.Timer(GRACE_S, self.kill)
        timer.daemon = True
        timer.start()
        threading.Thread(target=self._until_gone, args=(timer,), name=f"worker-{self.pid}-end", daemon=True).start()

    def kill(self) -> None:
        """End it, and what it started, now."""
        if POSIX:
            self._signal(signal.SIGKILL)
        else:
            self._process.kill()

    def close(self) -> None:
        """Kill it if need be, wait until it is gone, and let go of the pipes."""
        self.kill()
        self._process.wait()
        self._reader.join(1.0)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            with contextlib.suppress(OSError):
                _there(pipe).close()

    def end(self) -> tuple[int, list[str]]:
        """Wait until it is gone; return its exit code (negative: the signal) and the last lines of its standard error."""
        self._process.wait()
        self._reader.join(1.0)
        return self._process.returncode, list(self._tail)

    def forget_lines(self) -> None:
        """Forget the lines so far; they were of another job."""
        self._tail.clear()

    def _until_gone(self, timer: threading.Timer) -> None:
        self._process.wait()
        timer.cancel()

    def _signal(self, number: int) -> None:
        """Send a signal to the process and to all that it started (its session), as long as it is not yet collected."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def _read_errors(self) -> None:
        with contextlib.suppress(ValueError):
            for raw in _there(self._process.stderr):
                line = raw.decode("utf-8", "replace").rstrip()[:LONGEST_LINE]
                if line:
                    self._tail.append(line)
                    self._hear(line)


def message(task: str, parameters: Mapping[str, Any], *, folder: Path, within: Within | None = None) -> dict[str, Any]:
    """Return a job as a worker takes it."""
    told: dict[str, Any] = {"task": task, "parameters": parameters, "folder": str(folder)}
    if within is not None:
        told["within"] = within.as_json()
    return told


def died(task: str, code: int, lines: Sequence[str], where: str = "") -> str:
    """Say that a worker died: how far it was (``" at train 3/40"``), and what its last lines were."""
    last = " / ".join(lines[-SHOWN_LINES:]) or "none"
    if code == 1 and lines:
        return f"A fault in Howdah ended '{task}'{where}, please report it: {lines[-1]} Last lines: {last}"
    how = f"exit code {code}"
    if code < 0:
        known = {int(number): number.name for number in signal.Signals}
        how = f"signal {known.get(-code, -code)}"
    advice = (
        " The system kills what takes too much memory: work on fewer frames, or set a smaller memory_mb or batch_size."
    )
    return (
        f"The worker that ran '{task}' died{where} ({how}).{advice if code == -9 else ''} The next job gets a new one; the same job can "
        f"be run again. Last lines: {last}"
    )


def _there(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise ServiceError("A worker has no pipe. It was not started by this class.")
    return pipe


def _environment(device: str) -> dict[str, str]:
    """Environment of a worker: Howdah as this process has it, UTF-8, and one GPU at most."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8:backslashreplace"}
    environment["PYTHONPATH"] = os.pathsep.join(part for part in sys.path if part)
    kind, _, number = device.partition(":")
    if kind == "cuda" and number:
        seen = [part for part in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if part]
        index = int(number)
        environment["CUDA_VISIBLE_DEVICES"] = seen[index] if index < len(seen) else number
    elif kind not in ("cuda", INHERIT):
        environment["CUDA_VISIBLE_DEVICES"] = ""
    return environment
