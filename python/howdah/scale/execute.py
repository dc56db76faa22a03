"""A block in a worker: finds its function, calls it, writes its file, says what it took.

What travels to a worker is a table that JSON can say (:func:`task_of`), what travels back is another (a :class:`Report`). What the plan
says to all blocks is read once a worker from ``run.json`` in the work folder, so it does not travel with every block.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from bdv_io.errors import BdvIoError
from bdv_io.safe_write import replacing
from howdah import __version__
from howdah.errors import ConfigError, DataError, HowdahError, MissingExtraError, ScaleError, WeightsError
from howdah.scale.folder import DamagedBlock, block_path, read_checked, read_result, reason_of, write_result
from howdah.scale.plan import Block, Json, Result

T = TypeVar("T")

RUN_FILE = "run.json"
CLEAR_PEAK = Path("/proc/self/clear_refs")

__all__ = ["Report", "WorkerCall", "about_worker", "execute", "forget", "task_of", "write_run_file"]

FINAL = (ConfigError, DataError, WeightsError, MissingExtraError)
"""Errors that come again however often a block is tried."""

_lock = threading.RLock()
_shared: dict[tuple[str, str, int], Mapping[str, Json]] = {}
_kept: dict[tuple[str, int, str], Any] = {}


@dataclass(frozen=True)
class Report:
    """What became of one execution of a block.

    Attributes:
        key: The block.
        state: ``done``; ``found`` (it was done before, and the report lost); ``failed`` (worth another try); ``refused`` (comes again
            however often it is tried); ``damaged`` (the file of a block that it needs cannot be used); ``lost`` (its worker died);
            ``unsent`` (perhaps never begun; no try is counted).
        error: Why, as a sentence.
        damaged: Key of the block whose file cannot be used.
        checksum: Of its file. size: Bytes of its file.
        started: When, seconds since 1970 by the worker's clock. seconds: How long. peak_mb: Most memory of the worker meanwhile, MiB.
        worker: Host and process.
    """

    key: str
    state: str
    error: str = ""
    damaged: str = ""
    checksum: str = ""
    size: int = 0
    started: float = 0.0
    seconds: float = 0.0
    peak_mb: float = 0.0
    worker: str = ""

    def to_json(self) -> dict[str, Json]:
        """Return a table that JSON can say."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class WorkerCall:
    """What a block's function is called with; see :class:`howdah.scale.plan.Call`."""

    key: str
    arguments: Mapping[str, Json]
    shared: Mapping[str, Json]
    folder: Path
    run: str
    needs: frozenset[str]

    def read(self, key: str) -> Result:
        """Return the result of a block that this one needs.

        Raises:
            DamagedBlock: Its file is missing or damaged; the run does that block again, and then this one.
            ValueError: The plan does not say that this block needs it.
        """
        if key not in self.needs:
            raise ValueError(f"Block '{self.key}' reads block '{key}', but the plan does not say that it needs it.")
        return read_result(self.folder, key, run=self.run)

    def kept(self, name: str, make: Callable[[], T]) -> T:
        """Return what ``make`` returned when this worker (this thread of it) was first asked for this name in this run.

        When another run uses the worker, or the run is over, what has a ``close`` is closed.
        """
        place = (self.run, threading.get_ident(), name)
        with _lock:
            for run in {other for other, _, _ in _kept} - {self.run}:
                forget(run)
        if place not in _kept:
            made = make()
            with _lock:
                _kept[place] = made
        value: T = _kept[place]
        return value


def forget(run: str) -> None:
    """Let go of what blocks of a run have kept in this process."""
    with _lock:
        for place in [place for place in _kept if place[0] == run]:
            close = getattr(_kept.pop(place), "close", None)
            if callable(close):
                close()
        for other in [known for known in _shared if known[1] == run]:
            del _shared[other]


def write_run_file(folder: Path, run: str, shared: Mapping[str, Json]) -> None:
    """Write what all blocks are told, for workers to read."""
    text = json.dumps({"run": run, "shared": dict(shared)})
    with replacing(folder / RUN_FILE, keep_previous=False) as temporary:
        temporary.write_text(text, encoding="utf-8")


def task_of(block: Block, folder: Path, run: str) -> dict[str, Json]:
    """Return what travels to a worker."""
    return {
        "folder": str(folder),
        "run": run,
        "howdah": __version__,
        "key": block.key,
        "does": block.does,
        "arguments": block.arguments,
        "needs": list(block.needs),
    }


def execute(task: Mapping[str, Json]) -> dict[str, Json]:
    """Do a block, write its file, and return a :class:`Report` as JSON can say it.

    Errors that have a sentence, and those of the system and of libraries that may pass (no memory, a device that is lost), become
    reports; a fault in the code of a block is raised.
    """
    key, run, folder = str(task["key"]), str(task["run"]), Path(task["folder"])
    found = _found(folder, key, run)
    if found is not None:
        return found.to_json()
    started, clock = time.time(), time.perf_counter()
    _begin_peak()

    def report(state: str, **facts: Any) -> dict[str, Json]:
        seconds, worker = time.perf_counter() - clock, f"{socket.gethostname()}:{os.getpid()}"
        return Report(
            key, state, started=started, seconds=seconds, peak_mb=_peak_mb(), worker=worker, **facts
        ).to_json()

    if task["howdah"] != __version__:
        said = f"the worker {socket.gethostname()} has Howdah {__version__}, the run has {task['howdah']}. Install the same there"
        return report("refused", error=said)
    try:
        call = WorkerCall(
            key, task["arguments"], _shared_of(folder, run), folder, run, frozenset(map(str, task["needs"]))
        )
        written = write_result(folder, key, _function(str(task["does"]))(call), run=run)
    except DamagedBlock as error:
        return report("damaged", damaged=error.key, error=error.reason)
    except FINAL as error:
        return report("refused", error=str(error))
    except (HowdahError, BdvIoError) as error:
        return report("failed", error=str(error))
    except OSError as error:
        said = f"{reason_of(error)} ({error})" if error.errno else str(error)
        return report("failed", error=f"{type(error).__name__}: {said}")
    except (MemoryError, RuntimeError) as error:
        return report("failed", error=f"{type(error).__name__}: {error}")
    return report("done", checksum=written.checksum, size=written.size)


def _found(folder: Path, key: str, run: str) -> Report | None:
    """Return a report of a block whose file is there already: of an execution whose report was lost with its worker or scheduler."""
    if not block_path(folder, key).exists():
        return None
    try:
        written = read_checked(folder, key, run=run)[1]
    except DamagedBlock:
        return None
    return Report(key, "found", checksum=written.checksum, size=written.size)


def about_worker(folder: str, inputs: Sequence[str]) -> dict[str, Json]:
    """Return what this worker is and what it sees, before it gets its first block.

    Returns:
        version (of Howdah), run (the one whose work folder it sees, or ""), missing (inputs that it does not see), writes (may it write to
        the work folder?), host, memory_mb (its limit; 0 if none is known).
    """
    try:
        run = str(json.loads((Path(folder) / RUN_FILE).read_text(encoding="utf-8"))["run"])
    except (OSError, ValueError, KeyError):
        run = ""
    missing = [path for path in inputs if not os.path.exists(path)]
    return {
        "version": __version__,
        "run": run,
        "missing": missing,
        "writes": os.access(folder, os.W_OK),
        "host": socket.gethostname(),
    }


def _function(does: str) -> Callable[[WorkerCall], Result]:
    module, _, name = does.partition(":")
    try:
        function: Callable[[WorkerCall], Result] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise MissingExtraError(
            f"The worker {socket.gethostname()} has no function '{does}' ({error}). Install the same Howdah there, with the same "
            "extras."
        ) from error
    return function


def _shared_of(folder: Path, run: str) -> Mapping[str, Json]:
    file = folder / RUN_FILE
    with _lock:
        try:
            place = (str(folder), run, file.stat().st_mtime_ns)  # a run that goes on may have had its movie moved
            if place not in _shared:
                said = json.loads(file.read_text(encoding="utf-8"))
                if said["run"] != run:
                    raise ScaleError(
                        f"The work folder {folder} belongs to another run now; this block is of an older one."
                    )
                _shared[place] = said["shared"]
        except OSError as error:
            raise ScaleError(
                f"The worker {socket.gethostname()} cannot read {file} ({error}). Workers must see the folder of the result under the "
                "same path: put it on a disk that all share."
            ) from error
        return _shared[place]


def _begin_peak() -> None:
    """Set the system's note of the most memory of this process back to what it uses now, where that is possible (Linux)."""
    if sys.platform == "linux":
        try:
            CLEAR_PEAK.write_text("5")
        except OSError:
            return


def _peak_mb() -> float:
    if sys.platform == "linux":
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    if sys.platform == "win32":
        return 0.0
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1024**2 if platform.system() == "Darwin" else 1024)
