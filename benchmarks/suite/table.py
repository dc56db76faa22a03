"""The result as JSON and as Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.suite.case import GROUPS

__all__ = ["SCHEMA", "markdown", "read", "row_text", "seconds_text", "worst", "write"]

SCHEMA = 1
HEAD = "| what | sizes | time | a second | memory | grows as | × limit | limit | × peer | peer | noise |"
RULE = "|---|---|---|---:|---|---:|---:|---|---:|---|---:|"


def write(folder: Path, facts: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write ``table.json``, ``table.md`` and one ``table-GROUP.md`` a group."""
    folder.mkdir(parents=True, exist_ok=True)
    told = {"schema": SCHEMA, **facts, "cases": list(rows)}
    (folder / "table.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    (folder / "table.md").write_text(f"{machine_text(facts)}\n\n{markdown(rows)}\n", encoding="utf-8")
    for group in {str(row["group"]) for row in rows}:
        own = [row for row in rows if row["group"] == group]
        (folder / f"table-{group}.md").write_text(f"{machine_text(facts)}\n\n{markdown(own)}\n", encoding="utf-8")


def read(path: Path) -> dict[str, Any]:
    """Read ``table.json``."""
    told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if told.get("schema") != SCHEMA:
        raise ValueError(f"{path} has schema {told.get('schema')}; expected {SCHEMA}. Run `make bench` again.")
    return told


def machine_text(facts: Mapping[str, Any]) -> str:
    """Return a sentence or two on the machine."""
    at = facts["machine"]
    busy = " **The machine was busy: these figures are of no use for comparison.**" if at["busy"] else ""
    quick = " Quick run: two sizes only." if facts["quick"] else ""
    return (
        f"{at['date']}, commit {at['commit']}; {at['processor']}, {at['cores']} cores, {at['memory_gb']} GB; disk: {at['disk']}; "
        f"GPU: {at['gpu']}; {at['system']}, Python {at['python']}; threads: {at['threads']}; load at the start {at['load']}; the "
        f"run took {facts['took_s'] / 60:.0f} min.{quick}{busy}"
    )


def markdown(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return one table a group."""
    parts = []
    known = list(rows)
    for group, title in GROUPS.items():
        own = [row for row in known if row["group"] == group]
        if own:
            parts.append("\n".join([f"### {title}", "", HEAD, RULE, *map(row_text, own)]))
    return "\n\n".join(parts)


def row_text(row: Mapping[str, Any]) -> str:
    """Return one line of the table."""
    good = [size for size in row["sizes"] if "failed" not in size]
    failed = [size["failed"].replace("|", "/") for size in row["sizes"] if "failed" in size]
    if not good:
        return f"| {row['name']} | failed: {failed[0] if failed else 'nothing'} |" + " |" * 9
    peer = row["peer"] + (f" ({row['peer_says']})".replace("|", "/") if row["peer_says"] else "")
    if row["over_peer"] is not None and row.get("over_peer_at") not in (None, good[-1]["amount"]):
        peer += f" (at {count_text(row['over_peer_at'])})"
    cells = [
        row["name"],
        " · ".join(count_text(size["amount"]) for size in good)
        + f" {row['unit']}"
        + (f"; the next failed: {failed[0]}" if failed else ""),
        " · ".join(seconds_text(size["wall_s"]) for size in good),
        f"{count_text(row['per_second'])} {row['unit']}",
        " · ".join("-" if size["peak_mb"] is None else f"{size['peak_mb']:.0f}" for size in good) + " MB",
        "-" if row["growth"] is None else f"{row['growth']:.2f}",
        ratio_text(row["over_limit"]),
        row["limit"],
        ratio_text(row["over_peer"]),
        peer or "none known",
        f"{100 * max(size['spread'] for size in good):.0f} %",
    ]
    return "| " + " | ".join(cells) + " |"


def worst(rows: Iterable[Mapping[str, Any]], key: str, n: int) -> list[Mapping[str, Any]]:
    """Return the rows with the largest ratio, ``over_limit`` or ``over_peer``, the worst first."""
    known = [row for row in rows if row[key] is not None]
    return sorted(known, key=lambda row: -row[key])[:n]


def seconds_text(value: float) -> str:
    """Return a time with a unit, three digits."""
    for size, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if value >= size or name == "µs":
            return f"{value / size:.3g} {name}" if value / size < 1000 else f"{value / size:.0f} {name}"
    return ""


def count_text(value: float) -> str:
    """Return a number with k, M or G, three digits."""
    for size, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{name}"
    return f"{value:.3g}"


def ratio_text(value: float | None) -> str:
    """Return a ratio, two digits."""
    return "-" if value is None else f"{value:.2g}" if value < 100 else f"{value:.0f}"
