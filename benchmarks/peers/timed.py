"""Times one job of a peer, in the peer's own environment; needs nothing but Python.

A peer's script hands over a table of jobs: each takes what the case gave it and returns the call to be timed; what it does before
that (loading the input) does not count. The answer is one line of JSON, as that of ``benchmarks/suite/child.py``.
"""

import json
import sys
import time

try:
    import resource
except ImportError:  # not on Windows
    resource = None

LEAST_TURNS, MOST_TURNS = 2, 9


def peak_mb():
    """Most memory that this process held, MB."""
    if resource is None:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most * (1 if sys.platform == "darwin" else 1024) / 1e6


def measured(jobs, version):
    """Read what is asked from standard input, and answer on standard output."""
    asked = json.load(sys.stdin)
    out, sys.stdout = sys.stdout, sys.stderr  # peers like to talk
    if asked["job"] == "version":
        out.write(json.dumps({"version": version()}) + "\n")
        return
    call = jobs[asked["job"]](asked["given"])
    before = peak_mb()
    call()
    after = peak_mb()
    wall, cpu, began = [], [], time.perf_counter()
    for turn in range(MOST_TURNS):
        if turn >= LEAST_TURNS and time.perf_counter() - began > asked["seconds"]:
            break
        spent, start = time.process_time(), time.perf_counter()
        call()
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - spent)
    peak = None if before is None else round(after - before, 1)
    out.write(json.dumps({"wall_s": min(wall), "cpu_s": min(cpu), "peak_mb": peak}) + "\n")
