"""``python -m benchmarks.suite``: measure all cases, and write the table."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.suite import peers
from benchmarks.suite.case import MODULES, all_cases
from benchmarks.suite.machine import machine
from benchmarks.suite.measure import How, measure
from benchmarks.suite.table import HEAD, RULE, machine_text, read, row_text, write

SHARES, LEAST_S = 3.0, 10.0  # a case may take three fair shares of the time that is left, and never has less than this
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
        most_s=asked.case_seconds,
        modules=modules,
    )
    began, out = time.perf_counter(), Path(asked.out)
    facts, kept = _begun(out, how, list(all_cases(modules)), resume=asked.resume)
    rows = {name: row for name, row in kept.items() if name not in {one.name for one in cases} or _whole(row)}
    wanted = [one for one in cases if one.name not in rows]
    earlier, late = facts["took_s"], False
    print(f"{HEAD}\n{RULE}", flush=True)
    for number, one in enumerate(wanted, 1):
        gone = time.perf_counter() - began
        if late := gone > 60 * asked.minutes:
            break
        sys.stderr.write(f"[{gone:4.0f} s, {number}/{len(wanted)}] {one.name}\n")
        fair = (60 * asked.minutes - gone) / (len(wanted) - number + 1)
        for row in measure([one], replace(how, most_s=min(how.most_s, max(SHARES * fair, LEAST_S)))):
            rows[one.name] = row
            print(row_text(row), flush=True)
        facts["took_s"] = round(earlier + time.perf_counter() - began, 1)
        write(out, facts, [rows[name] for name in all_cases(modules) if name in rows])
    print(f"\n{machine_text(facts)}\nWritten: {asked.out}")
    if late:
        sys.exit(
            f"Stopped after {asked.minutes:g} minutes with {len(wanted) - number + 1} cases to do; --resume does them."
        )
    failed = [name for name, row in rows.items() if not _whole(row)]
    if failed:
        sys.exit(f"Not measured in full: {', '.join(failed)}")


def _begun(out: Path, how: How, names: list[str], *, resume: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the facts of a run, and rows by name that an earlier one made; without ``--resume`` a new run and none."""
    file = out / "table.json"
    if not resume or not file.exists():
        facts = {"quick": how.quick, "seconds": how.seconds, "machine": machine(how.folder), "took_s": 0.0}
        return {**facts, "peers": peers.installed(how.peers)}, {}
    told = read(file)
    rows = {row["name"]: row for row in told.pop("cases") if row["name"] in names}
    commit = machine(how.folder)["commit"]
    if told["quick"] != how.quick or told["machine"]["commit"] != commit:
        sys.exit(
            f"{file} is of a{' quick' if told['quick'] else 'nother'} run, or of commit {told['machine']['commit']}; this is "
            f"{commit}. One table holds one state: run without --resume."
        )
    return told, rows


def _whole(row: dict[str, Any]) -> bool:
    return not any("failed" in size for size in row["sizes"])


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.suite", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the two smaller sizes, and few repetitions")
    parser.add_argument("--only", default="", help="groups, or parts of names, comma-separated")
    parser.add_argument("--list", action="store_true", help="name the cases and stop")
    parser.add_argument("--peers", default=os.environ.get("HOWDAH_PEERS", ""), help="folder of peers, see peers.md")
    parser.add_argument("--folder", default="", help="where files are written while measuring: decides the disk")
    parser.add_argument("--seconds", type=float, default=0.6, help="of repetitions, a size")
    parser.add_argument(
        "--case-seconds", type=float, default=60.0, help="most for a case, all sizes and peers together"
    )
    parser.add_argument(
        "--minutes", type=float, default=30.0, help="for all cases; no case begins later, and --resume goes on"
    )
    parser.add_argument(
        "--resume", action="store_true", help="measure the cases that the table in --out lacks, or has failed"
    )
    parser.add_argument("--out", default=str(RESULTS), help="folder of the tables")
    parser.add_argument("--modules", default=",".join(MODULES), help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()
