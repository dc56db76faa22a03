"""The beginning of a run: a new work folder, or one that an earlier run of the same plan has left."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from howdah.errors import ScaleError
from howdah.scale.execute import write_run_file
from howdah.scale.folder import LOCK, DamagedBlock, block_path, check_key, contents, read_checked, reason_of
from howdah.scale.identity import differences, identity_of, name_of
from howdah.scale.manifest import Manifest, Row
from howdah.scale.plan import Json, Plan
from howdah.scale.schedule import Schedule

__all__ = ["Begun", "begin"]


@dataclass
class Begun:
    """A run that can go on. Attributes: run: Its short name. rows: What is known of blocks, by key."""

    run: str
    manifest: Manifest
    schedule: Schedule
    rows: dict[str, Row]


def begin(plan: Plan, folder: Path, *, restart: bool) -> Begun:
    """Open the work folder, which this process holds, for a plan.

    Raises:
        ScaleError: It belongs to another run, its manifest cannot be used, or the plan contradicts itself.
    """
    for block in plan.blocks:
        check_key(block.key)
    identity = identity_of(plan)
    run = name_of(identity)
    try:
        if restart:
            _empty(folder)
        found = contents(folder, {block.stage for block in plan.blocks})
    except OSError as error:
        raise ScaleError(f"The work folder {folder} cannot be used: {reason_of(error)}.") from error
    manifest = Manifest(folder)
    try:
        known = manifest.facts()
        if known and known.get("run") != run:
            _refuse(folder, known, identity)
        rows = manifest.rows()
        for row in rows.values():
            row.attempts = 0
        _count_interrupted(plan, manifest, rows)
        done = _usable(plan, folder, run, found, manifest, rows)
        schedule = Schedule(plan.blocks, done)
        for number in schedule.stale:
            with contextlib.suppress(OSError):
                block_path(folder, plan.blocks[number].key).unlink(missing_ok=True)
            schedule.here[number] = False
        manifest.say(identity=identity, run=run, task=plan.task, target=str(plan.target), stages=_stages(plan))
        manifest.say(state="begun", begun=time.time(), done_before=len(plan.blocks) - schedule.left)
        manifest.event("begin", f"{schedule.left} of {len(plan.blocks)} blocks are to be done")
        manifest.flush()
        write_run_file(folder, run, plan.shared)
    except BaseException:
        manifest.close()
        raise
    return Begun(run, manifest, schedule, rows)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()


def _refuse(folder: Path, known: dict[str, Json], identity: dict[str, Json]) -> None:
    found = differences(known.get("identity") or {}, identity)
    rest = f", and {len(found) - 3} more" if len(found) > 3 else ""
    raise ScaleError(
        f"The work folder {folder} belongs to another run: {'; '.join(found[:3])}{rest}. Give the same settings to go on with it, "
        "--restart to forget what it has done, or choose another target."
    )


def _count_interrupted(plan: Plan, manifest: Manifest, rows: dict[str, Row]) -> None:
    """Count the executions that a killed run had begun and could not record."""
    stages = {block.key: block.stage for block in plan.blocks}
    for key in manifest.running():
        if key in stages and (key not in rows or rows[key].state != "done"):
            row = rows.setdefault(key, Row(key, stages[key]))
            row.executions += 1
            manifest.note(row)


def _usable(plan: Plan, folder: Path, run: str, found: set[str], manifest: Manifest, rows: dict[str, Row]) -> set[str]:
    """Return the keys of blocks whose files are there; those that are not recorded are looked at and recorded."""
    done: set[str] = set()
    for block in plan.blocks:
        if block.key not in found:
            continue
        row = rows.get(block.key)
        if row is None or row.state != "done":
            try:
                _, written = read_checked(folder, block.key, run=run)
            except DamagedBlock:
                continue
            row = rows.setdefault(block.key, Row(block.key, block.stage))
            row.state, row.size, row.checksum, row.error = "done", written.size, written.checksum, ""
            row.executions = max(row.executions, 1)
            manifest.note(row)
        done.add(block.key)
    return done


def _stages(plan: Plan) -> dict[str, Json]:
    count, cost = Counter[str](), Counter[str]()
    for block in plan.blocks:
        count[block.stage] += 1
        cost[block.stage] += block.cost  # type: ignore[assignment]
    return {stage: {"blocks": count[stage], "cost": cost[stage]} for stage in count}
