"""``python -m benchmarks.suite``: measure all cases, and write the table."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.suite import peers
from benchmarks.suite.case import MODULES, all_cases
from benchmarks.suite.machine import machine
from benchmarks.suite.measure import How, measure
from benchmarks.suite.table import HEAD, RULE, machine_text, row_text, write

RESULTS = Path(__file__).resolve().parent.parent / "results"


def main() -> None:
    """Run the suite."""
    asked = _arguments().parse_args()
    modules = tuple(asked.modules.split(","))
    words = [word for word in asked.only.split(",") if word]
    cases = [
        one
        for one in all_cases(modules).values()
        if not words or any(word == one.group or word in one.name for word in words)
    ]
    if asked.list:
        for one in cases:
            print(f"{one.group}: {one.name}")
        return
    if not cases:
        sys.exit(f"No case has {asked.only!r} in its name or as its group. See them with --list.")
    folder = Path(asked.folder) if asked.folder else Path(tempfile.gettempdir())
    how = How(
        quick=asked.quick,
        peers=Path(asked.peers).resolve() if asked.peers else None,
        folder=folder,
        seconds=asked.seconds,
        modules=modules,
    )
    facts = {"quick": asked.quick, "seconds": asked.seconds, "machine": machine(folder), "took_s": 0.0}
    facts["peers"] = peers.installed(how.peers)
    began, rows = time.perf_counter(), []
    print(f"{HEAD}\n{RULE}", flush=True)
    for row in measure(cases, how):
        rows.append(row)
        print(row_text(row), flush=True)
        facts["took_s"] = round(time.perf_counter() - began, 1)
        write(Path(asked.out), facts, rows)
    print(f"\n{machine_text(facts)}\nWritten: {asked.out}")
    failed = [row["name"] for row in rows if any("failed" in size for size in row["sizes"])]
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}")


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.suite", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the two smaller sizes, and few repetitions")
    parser.add_argument("--only", default="", help="groups, or parts of names, comma-separated")
    parser.add_argument("--list", action="store_true", help="name the cases and stop")
    parser.add_argument("--peers", default=os.environ.get("HOWDAH_PEERS", ""), help="folder of peers, see peers.md")
    parser.add_argument("--folder", default="", help="where files are written while measuring: decides the disk")
    parser.add_argument("--seconds", type=float, default=1.0, help="of repetitions, a size")
    parser.add_argument("--out", default=str(RESULTS), help="folder of the tables")
    parser.add_argument("--modules", default=",".join(MODULES), help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()
