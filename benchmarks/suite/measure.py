"""All cases: each size in a fresh process, then growth and ratios. A generator of rows, so that what is done is kept."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.suite import peers
from benchmarks.suite.case import MODULES, Case

__all__ = ["How", "growth", "measure", "row_of"]

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True, kw_only=True)
class How:
    """How is measured.

    Attributes:
        quick: The two smaller sizes only, and short.
        peers: Folder of peers, see :mod:`.peers`; None: they are not installed.
        folder: Where files are written, which decides the disk; None: the system's temporary folder.
        seconds: For how long work, limit and peer take turns, a size.
        most_s: A case that takes longer, all sizes and peers together, is given up; the table says so.
        modules: Where the cases are.
    """

    quick: bool = False
    peers: Path | None = None
    folder: Path | None = None
    seconds: float = 1.0
    most_s: float = 60.0
    modules: tuple[str, ...] = MODULES


class _Clock:
    """What is left of a case's time."""

    def __init__(self, most_s: float) -> None:
        self.most_s = most_s
        self._began = time.perf_counter()

    @property
    def gone(self) -> float:
        return time.perf_counter() - self._began

    @property
    def left(self) -> float:
        return max(self.most_s - self.gone, 0.1)


def measure(cases: Iterable[Case], how: How) -> Iterator[dict[str, Any]]:
    """Yield the row of each case."""
    for one in cases:
        clock, sizes = _Clock(how.most_s), []
        for size in one.sizes[:2] if how.quick else one.sizes:
            sizes.append(_size(one, size, how, clock))
        yield {**row_of(one, sizes), "took_s": round(clock.gone, 1)}


def row_of(one: Case, sizes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the row of a case from its measured sizes; what failed has ``failed`` in place of figures."""
    good = [size for size in sizes if "failed" not in size]
    last = good[-1] if good else None
    row: dict[str, Any] = {
        "name": one.name,
        "group": one.group,
        "unit": one.unit,
        "limit": one.limit,
        "peer": one.peer,
        "sizes": list(sizes),
        "growth": growth([(size["amount"], size["wall_s"]) for size in good]),
        "per_second": None if last is None else last["amount"] / last["wall_s"],
        "over_limit": None if last is None else last["wall_s"] / last["limit_s"],
        "over_peer": None,
        "peer_says": "",
    }
    beside = [size for size in good if size.get("peer_s")]
    if beside:
        row["over_peer"] = beside[-1]["wall_s"] / beside[-1]["peer_s"]
        row["over_peer_at"] = beside[-1]["amount"]
    elif one.peer:
        row["peer_says"] = next((size["peer_says"] for size in good if size.get("peer_says")), "not installed")
    return row


def growth(points: Sequence[tuple[float, float]]) -> float | None:
    """Return the exponent b of time = a * amount^b by least squares of logarithms; None for fewer than two sizes."""
    known = [(math.log(amount), math.log(taken)) for amount, taken in points if amount > 0 and taken > 0]
    if len({x for x, _ in known}) < 2:
        return None
    mean_x, mean_y = (sum(column) / len(known) for column in zip(*known, strict=True))
    return sum((x - mean_x) * (y - mean_y) for x, y in known) / sum((x - mean_x) ** 2 for x, _ in known)


def _size(one: Case, size: int, how: How, clock: _Clock) -> dict[str, Any]:
    """Measure one size, and its peer where it is a program of its own."""
    with tempfile.TemporaryDirectory(dir=how.folder, prefix="howdah-bench-") as folder:
        found = _child(one, size, Path(folder), how, clock)
        outside = found.pop("outside", None)
        if "failed" not in found and one.script:
            name, job = one.script.split(":")
            seconds = 0.0 if how.quick else how.seconds
            try:
                if outside is None:
                    raise peers.PeerFailed("not measured at this size")
                beside = peers.measured(name, job, outside, folder=how.peers, budget_s=seconds, most_s=clock.left)
                found |= {"peer_s": beside["wall_s"], "peer_cpu_s": beside["cpu_s"], "peer_peak_mb": beside["peak_mb"]}
            except peers.Absent:
                found["peer_says"] = "not installed"
            except peers.PeerFailed as failed:
                found["peer_says"] = f"{failed}"
        return {"size": size, **found}


def _child(one: Case, size: int, folder: Path, how: How, clock: _Clock) -> dict[str, Any]:
    paths = [str(ROOT / "python"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    seconds = 0.0 if how.quick else how.seconds
    arguments = [",".join(how.modules), one.name, str(size), str(folder), str(seconds)]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.suite.child", *arguments],
            capture_output=True,
            text=True,
            env=environment,
            timeout=clock.left,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"given up: this case has {clock.most_s:g} s"}
    if done.returncode:
        said = done.stderr.strip().splitlines()
        return {"failed": said[-1][:300] if said else f"exit code {done.returncode}"}
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer
