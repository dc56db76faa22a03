"""How far a run is, from its manifest; also while it runs, and after it was stopped."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from howdah.scale.folder import work_folder
from howdah.scale.manifest import read_manifest

__all__ = ["status_of"]

SILENT_S = 30.0


def status_of(target: Path) -> dict[str, Any]:
    """Return how far the run of a target is.

    Returns:
        task, state (begun, running, gathering, stopped, done, or "killed" where it says nothing any more), blocks (done of all),
        running (blocks handed out), rate (blocks a second in this run), eta_s, stages (a row each), events (the last ones).

    Raises:
        ScaleError: There is no run of this target, or its manifest cannot be read.
    """
    folder = target if target.name.endswith(".blocks") and target.is_dir() else work_folder(target)
    facts, rows, events = read_manifest(folder)
    planned: Mapping[str, Any] = facts.get("stages", {})
    stages = [_stage(name, said, [row for row in rows if row["stage"] == name]) for name, said in planned.items()]
    total, done = sum(row["blocks"] for row in stages), sum(row["done"] for row in stages)
    seen = float(facts.get("seen", 0))
    state = str(facts.get("state", "?"))
    if state in ("begun", "running") and time.time() - seen > SILENT_S:
        state = "killed, or its disk does not answer"
    seconds = max(seen - float(facts.get("begun", seen)), 1e-9)
    now = done - int(facts.get("done_before", 0))
    cost = sum(float(said["cost"]) for said in planned.values())
    left = sum(float(planned[row["stage"]]["cost"]) * (1 - row["done"] / row["blocks"]) for row in stages)
    report: dict[str, Any] = {
        "task": facts.get("task"),
        "target": facts.get("target"),
        "state": state,
        "blocks": f"{done} of {total}",
        "done": done,
        "total": total,
        "share": 1 - left / cost if cost else 1.0,
        "running": facts["running"],
        "blocks_per_s": now / seconds,
        "last_seen": _when(seen),
        "seconds_of_work": sum(stage["seconds"] for stage in stages),
        "peak_mb": max((stage["peak_mb"] for stage in stages), default=0.0),
        "executions": sum(stage["executions"] for stage in stages),
        "failed": sum(stage["failed"] for stage in stages),
        "workers": facts.get("workers"),
        "scheduler": facts.get("scheduler"),
        "dashboard": facts.get("dashboard"),
        "passing_files_at_most": facts.get("passing_at_most"),
        "stages": stages,
    }
    if events:
        report["events"] = [
            {"time": _when(event["time"]), "what": event["kind"], "said": event["text"]} for event in reversed(events)
        ]
    return report


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat(timespec="seconds")


def _stage(name: str, said: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what is known of the blocks of one stage: a row of a table."""

    def total(column: str, *states: str) -> Any:
        return sum(row[column] or 0 for row in rows if not states or row["state"] in states)

    done = total("blocks", "done", "gone")
    return {
        "stage": name,
        "blocks": said["blocks"],
        "done": done,
        "failed": total("blocks", "failed"),
        "executions": total("executions"),
        "seconds": total("seconds"),
        "s_per_block": total("seconds", "done", "gone") / max(done, 1),
        "peak_mb": max((row["peak_mb"] for row in rows), default=0.0),
        "mb_on_disk": total("bytes", "done") / 2**20,
        "last_error": next((row["error"] for row in rows if row["state"] == "failed"), ""),
    }
