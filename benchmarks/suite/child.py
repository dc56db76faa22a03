"""One measurement, in a process of its own: ``python -m benchmarks.suite.child MODULES CASE SIZE FOLDER SECONDS``.

Prints one line of JSON. After preparation the work runs once: memory is the most that this first run needs above what the
process held before it, lazily loaded libraries included. Then work, limit and peer take turns for some seconds, so that another
program on the machine is unfair to none; what takes milliseconds runs several times a turn.
"""

from __future__ import annotations

import ctypes
import gc
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from benchmarks.suite.case import Work, all_cases

TURN_S = 0.02
LONG_S = 0.5  # what takes longer needs no warming up, its first turn counts
MOST_TURNS, LEAST_TURNS = 9, 3
STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")


def held_mb(field: str) -> float:
    """Return what the kernel says of this process's memory, MB; not a number where it says nothing."""
    if STATUS.exists():
        for line in STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024 / 1e6
    return float("nan")


def peak_mb(run: Callable[[], object]) -> float:
    """Run once, and return the most memory that this took above the memory before, MB; not a number where nobody tells."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    try:
        CLEAR.write_text("5", encoding="ascii")  # the peak starts anew
    except OSError:
        run()
        return float("nan")
    before = held_mb("VmRSS")
    run()
    return max(held_mb("VmHWM") - before, 0.0)


def timed(call: Callable[[], object], loops: int) -> tuple[float, float]:
    """Return wall and processor seconds of one call, the mean of some."""
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(loops):
        call()
    return (time.perf_counter() - wall) / loops, (time.process_time() - cpu) / loops


def measured(work: Work, budget_s: float) -> dict[str, float | int | None]:
    """Measure one size; keys as in the table."""
    peak = peak_mb(work.run)
    calls = {"ours": work.run, "limit": work.limit} | ({"peer": work.peer} if work.peer else {})
    loops, turns = {}, {}
    began = time.perf_counter()
    for name, call in calls.items():
        once, spent = timed(call, 1)
        loops[name] = max(1, min(1000, int(TURN_S / max(once, 1e-9))))
        turns[name] = [(once, spent)] if once > LONG_S else []
    for turn in range(MOST_TURNS):
        if turn >= LEAST_TURNS and time.perf_counter() - began > budget_s:
            break
        for name, call in list(calls.items())[:: -1 if turn % 2 else 1]:
            turns[name].append(timed(call, loops[name]))
    wall = [each for each, _ in turns["ours"]]
    return {
        "amount": work.amount,
        "wall_s": min(wall),
        "cpu_s": min(cpu for _, cpu in turns["ours"]),
        "spread": statistics.median(wall) / min(wall) - 1,
        "turns": len(wall),
        "peak_mb": None if peak != peak else round(peak, 1),
        "limit_s": work.limit_times * min(each for each, _ in turns["limit"]),
        "peer_s": min((each for each, _ in turns.get("peer", [])), default=None),
    }


def main() -> None:
    """Measure what the command line names."""
    modules, name, size, folder, budget_s = sys.argv[1:]
    warnings.simplefilter("ignore")
    place = Path(folder)
    work = all_cases(tuple(modules.split(",")))[name].prepare(int(size), place)
    found = measured(work, float(budget_s))
    if work.wrong is not None and (wrong := work.wrong()):
        sys.exit(f"The result is wrong: {wrong}")
    sys.stdout.write(json.dumps({**found, "outside": work.outside}) + "\n")


if __name__ == "__main__":
    main()
