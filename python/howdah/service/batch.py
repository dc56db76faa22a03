"""One task for many files: goes on after a failure, says clearly what failed, and does not do again what is done."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from bdv_io import WriteError
from bdv_io.safe_write import replacing
from howdah.errors import ConfigError
from howdah.pipeline.sections import SECTIONS
from howdah.progress import Progress, Steps
from howdah.service.batch_items import Item, items_of
from howdah.service.parameters import InFile, OutFile, Parameters, Within
from howdah.service.preparing import find, told
from howdah.service.process import INHERIT, Process, died, message
from howdah.service.tasks import Task

__all__ = ["Batch", "batch", "batch_task"]

log = logging.getLogger("howdah")

TABLE, STATE, SUMMARY = "batch.csv", "batch.json", "batch.txt"
FIRST = ("input", "state", "seconds", "error")


class Batch(Parameters):
    """What `batch` is told."""

    task: str = Field(description="The task that is run for each input: track, efficientcellseg.segment, convert ...")
    inputs: list[InFile] = Field(min_length=1, description="Movies and projects, and folders of these.")
    out: OutFile | None = Field(
        default=None, description="Folder of the results; batch.csv and batch.txt in it say what became of each input."
    )
    parameters: dict[str, Any] = Field(
        default={}, description="What each job is told, besides its input; {name}, {stem}, {folder} are its input's."
    )
    ending: str | None = Field(
        default=None, description="How the results end: .mastodon, .xml; none: as the task has it."
    )
    pattern: str | None = Field(default=None, description="Only files of folders with such names: *.tif.")
    whole: bool = Field(default=False, description="Folders are inputs themselves, and are not looked into.")
    again: bool = Field(default=False, description="Do again what is done, too.")


@dataclass
class _Row:
    """What became of an input."""

    item: Item
    state: str = "waiting"
    seconds: float = 0.0
    error: str = ""
    result: Mapping[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it for ``batch.json``."""
        facts = {"input": str(self.item.source), "state": self.state, "seconds": self.seconds, "error": self.error}
        return {**facts, "key": self.item.key, "result": self.result}


def batch_task(tasks: Mapping[str, Task]) -> Task:
    """Return the task ``batch``, that runs one of these."""
    summary = "Run a task for each movie or project of a folder."
    every = tuple(SECTIONS)  # of whatever task it runs
    return Task("batch", summary, Batch, lambda p: batch(p, tasks), sections=every, results={"out": _beside})


def _beside(source: Path, folder: Path | None) -> Path:
    return source.parent / "howdah-batch" if folder is None else folder / "batch"


def batch(what: Batch, tasks: Mapping[str, Task]) -> Steps[dict[str, Any]]:
    """Run a task for each input, one after the other, in a worker process; a failure, even of the process, ends only that input.

    What was done before with the same input and parameters is left out; what failed is done again.

    Args:
        what: The task, the inputs and the parameters.
        tasks: By name.

    Returns:
        Counts of inputs ``done``, ``skipped`` (done before) and ``failed``; ``failures``: input and sentence; the files.

    Raises:
        ConfigError: A parameter is wrong for all inputs, or there is no input. WriteError: The folder cannot be written.
    """
    task = find({name: known for name, known in tasks.items() if name != "batch"}, what.task)
    given = {section: values for section, values in what.settings.items() if values}
    common = {**what.parameters, **({"settings": {**what.parameters.get("settings", {}), **given}} if given else {})}
    made = _made(Path(os.path.abspath(what.out or _beside(what.inputs[0], None))))
    items = items_of(
        task,
        what.inputs,
        made,
        parameters=common,
        ending=what.ending,
        pattern=what.pattern,
        whole=what.whole,
    )
    told(task, items[0].told, within=what._within)  # what is wrong for all is said before any work
    before = {} if what.again else _read_state(made / STATE)
    rows = [_Row(item) for item in items]
    for row in rows:
        known = before.get(str(row.item.source))
        if known is not None and known["key"] == row.item.key and _there(task, row.item):
            row.state, row.seconds, row.result = "skipped", known["seconds"], known["result"]
    yield Progress("batch", sum(row.state == "skipped" for row in rows), len(rows))
    runner = _Runner(task, made, what._within)
    try:
        for number, row in enumerate(rows, start=1):
            if row.state == "waiting":
                yield from _run(row, runner)
                _write(made, task, rows)
            yield Progress("batch", number, len(rows), message=_said(row))
    finally:
        runner.close()
        _write(made, task, rows)
    failures = [{"input": str(row.item.source), "error": row.error} for row in rows if row.state == "failed"]
    counts = {state: sum(row.state == state for row in rows) for state in ("done", "skipped", "failed")}
    files = {"table": str(made / TABLE), "summary": str(made / SUMMARY)}
    return {"task": task.name, "inputs": len(rows), **counts, **files, "failures": failures}


def _made(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(
            f"The folder {out} for the results cannot be made: {error.strerror}. Name another one."
        ) from error
    return out


class _Runner:
    """A worker process that is started when it is needed, and anew when it has died."""

    def __init__(self, task: Task, folder: Path, within: Within | None) -> None:
        self.task, self._folder, self._within = task, folder, within
        self._process: Process | None = None

    def answers(self, item: Item) -> Iterator[Mapping[str, Any]]:
        """Yield what the worker says of an input; the last one has ``result`` or ``error``."""
        if self._process is None or not self._process.alive:
            self.close()
            self._process = Process(INHERIT, lambda line: log.debug("%s", line))
        process = self._process
        process.forget_lines()
        process.send(message(self.task.name, item.told, folder=self._folder, within=self._within))
        for answer in process.answers():
            yield answer
            if "result" in answer or "error" in answer:
                if answer.get("last"):
                    process.end()
                return
        code, lines = process.end()
        yield {"error": ["fault", died(self.task.name, code, lines)]}

    def close(self) -> None:
        """End the worker."""
        if self._process is not None:
            self._process.close()
            self._process = None


def _run(row: _Row, runner: _Runner) -> Steps[None]:
    """Run the job of an input, and note in its row what became of it."""
    began = time.monotonic()
    for answer in runner.answers(row.item):
        if "progress" in answer:
            stage, done, total, values, text = answer["progress"]
            known = {name: value for name, value in values.items() if value is not None}
            yield Progress(stage, done, total, values=known, message=text)
        elif "log" in answer and answer["log"][0] in ("warning", "error"):
            log.warning("%s: %s", row.item.source, answer["log"][1])
        elif "result" in answer:
            row.state, row.result = "done", answer["result"]
        elif "error" in answer:
            row.state, row.error = "failed", answer["error"][1]
    row.seconds = round(time.monotonic() - began, 3)


def _said(row: _Row) -> str:
    return f"{row.item.source}: {row.state}{f'. {row.error}' if row.error else ''}"


def _there(task: Task, item: Item) -> bool:
    """Whether the results of an input are still there."""
    names = [*task.results, "out"]
    return all(Path(item.told[name]).exists() for name in names if isinstance(item.told.get(name), str))


def _read_state(path: Path) -> dict[str, dict[str, Any]]:
    """Return what was done before, by input."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        return {row["input"]: row for row in rows if row["state"] in ("done", "skipped")}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path}, which says what was done before, cannot be read ({error}). Remove it, or use --again."
        ) from None


def _write(folder: Path, task: Task, rows: list[_Row]) -> None:
    """Write the table, the state and the summary."""
    state = {"task": task.name, "rows": [row.as_json() for row in rows]}
    texts: dict[str, Callable[[], str]] = {
        STATE: lambda: json.dumps(state, indent=1, default=str) + "\n",
        TABLE: lambda: _table(rows),
        SUMMARY: lambda: _summary(task, rows),
    }
    for name, text in texts.items():
        with replacing(folder / name, keep_previous=False) as temporary:
            temporary.write_text(text(), encoding="utf-8")


def _table(rows: list[_Row]) -> str:
    """A row an input: what became of it, and the plain facts of its result."""
    flat = [_flat(row.result or {}) for row in rows]
    columns = list(dict.fromkeys(name for facts in flat for name in facts))
    buffer = io.StringIO()
    lines = csv.writer(buffer, lineterminator="\n")
    lines.writerow([*FIRST, *columns])
    for row, facts in zip(rows, flat, strict=True):
        first = [str(row.item.source), row.state, row.seconds, row.error]
        lines.writerow([*first, *(facts.get(name, "") for name in columns)])
    return buffer.getvalue()


def _flat(facts: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Numbers and texts of a result, those of parts as ``part.name``; of rows (measures) as ``measures.spots.f1``."""
    found: dict[str, Any] = {}
    for name, value in facts.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{before}{name}.")
        elif isinstance(value, list) and value and all(isinstance(item, Mapping) and "of" in item for item in value):
            for item in value:
                found |= _flat({k: v for k, v in item.items() if k != "of"}, f"{before}{name}.{item['of']}.")
        elif isinstance(value, bool | int | float | str):
            column = f"{before}{name}"
            found["result_" + column if column in FIRST else column] = value
    return found


def _summary(task: Task, rows: list[_Row]) -> str:
    """What a person reads in the morning."""
    count = {state: sum(row.state == state for row in rows) for state in ("done", "skipped", "failed", "waiting")}
    lines = [
        f"{task.name}: {len(rows)} inputs, {count['done']} done, {count['skipped']} done before, {count['failed']} failed, "
        f"{count['waiting']} not begun."
    ]
    failed = [row for row in rows if row.state == "failed"]
    if failed:
        lines += ["", "Failed:", *(f"- {row.item.source}\n  {row.error}" for row in failed)]
        lines += ["", "Run the same command again when that is mended: what is done is not done again."]
    return "\n".join(lines) + "\n"
