"""``python -m benchmarks.suite.page``: put the tables of ``results/`` into ``docs/benchmarks.md``, between its marks.

What people wrote around the marks stays. A part begins with ``<!-- NAME: made by benchmarks/suite/page.py -->`` and ends with
``<!-- end of NAME -->``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import end_to_end
from benchmarks.suite import table
from benchmarks.suite.reasons import reason_of

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
WORST = 6

__all__ = ["PAGE", "RESULTS", "filled", "parts_of"]


def parts_of(measured: Mapping[str, Any], whole: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the generated parts by name: machine, tables, worst, end-to-end."""
    rows = measured["cases"]
    peers = ", ".join(f"{name} {version}" for name, version in measured["peers"].items()) or "none"
    libraries = ", ".join(f"{name} {version}" for name, version in measured["machine"]["libraries"].items())
    return {
        "machine": f"{table.machine_text(measured)}\n\nPeers installed: {peers}.\n\nLibraries: {libraries}.",
        "worst": _worst(rows),
        "tables": table.markdown(rows),
        "end-to-end": "Not measured yet." if whole is None else _end_to_end(whole),
    }


def filled(page: str, parts: Mapping[str, str]) -> str:
    """Return the page with its parts replaced.

    Raises:
        ValueError: A part has no place in the page.
    """
    for name, text in parts.items():
        begin, end = f"<!-- {name}: made by benchmarks/suite/page.py -->", f"<!-- end of {name} -->"
        place = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        if not place.search(page):
            raise ValueError(f"The page has no place for {name!r}: it needs the lines {begin} and {end}.")
        page = place.sub(lambda _, text=text, begin=begin, end=end: f"{begin}\n{text}\n{end}", page)
    return page


def _worst(rows: list[Mapping[str, Any]]) -> str:
    lines = ["| farthest from the limit | × limit | limit | why |", "|---|---:|---|---|"]
    for row in table.worst(rows, "over_limit", WORST):
        lines.append(
            f"| {row['name']} | {table.ratio_text(row['over_limit'])} | {row['limit']} | {reason_of(row['name'])} |"
        )
    lines += ["", "| slower than a peer | × peer | peer | why |", "|---|---:|---|---|"]
    for row in table.worst([row for row in rows if (row["over_peer"] or 0) > 1], "over_peer", WORST):
        lines.append(
            f"| {row['name']} | {table.ratio_text(row['over_peer'])} | {row['peer']} | {reason_of(row['name'])} |"
        )
    lines += ["", "| grows fastest | exponent | why |", "|---|---:|---|"]
    for row in table.worst(rows, "growth", 3):
        lines.append(f"| {row['name']} | {row['growth']:.2f} | {reason_of(row['name'])} |")
    failed = [row["name"] for row in rows if any("failed" in size for size in row["sizes"])]
    if failed:
        lines += ["", f"Not measured in full, the table says why: {'; '.join(failed)}."]
    return "\n".join(lines)


def _end_to_end(whole: Mapping[str, Any]) -> str:
    at = whole["machine"]
    busy = " **The machine was busy.**" if at["busy"] else ""
    quick = " Quick run: small movies, little training." if whole["quick"] else ""
    head = (
        f"{at['date']}, commit {at['commit']}; {at['processor']}, {at['cores']} cores, GPU: {at['gpu']}.{quick}{busy}"
    )
    return "\n".join([head, "", end_to_end.HEAD, *map(end_to_end.row_text, whole["rows"])])


def main() -> None:
    """Write the page again."""
    whole = RESULTS / "end_to_end.json"
    parts = parts_of(
        table.read(RESULTS / "table.json"), json.loads(whole.read_text(encoding="utf-8")) if whole.exists() else None
    )
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), parts), encoding="utf-8")


if __name__ == "__main__":
    main()
