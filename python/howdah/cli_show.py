"""How the command line shows progress, results and errors, and what its exit codes mean.

0 done · 1 a fault in Howdah (please report it) · 2 bad input, file or setting · 3 an optional part is not installed ·
130 stopped by Ctrl-C, the last good state is kept.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from bdv_io import BdvIoError
from bdv_io import MissingExtraError as MissingFormatExtra
from howdah.errors import Cancelled, HowdahError, MissingExtraError
from howdah.progress import Progress, Steps, finish

T = TypeVar("T")

EVERY_S = 30.0  # between two lines of progress in a log
WIDE = 10_000  # columns where nobody looks at a screen

DONE, FAULT, BAD_INPUT, MISSING_PART, INTERRUPTED = 0, 1, 2, 3, 130

__all__ = [
    "BAD_INPUT",
    "DONE",
    "FAULT",
    "INTERRUPTED",
    "MISSING_PART",
    "console",
    "guarded",
    "run",
    "run_verb",
    "show_result",
    "warn",
]

console = Console(stderr=True, highlight=False, soft_wrap=True)


def run(steps: Steps[T], *, quiet: bool = False) -> T:
    """Run long work with a progress bar on the terminal; where there is none, with a line now and then (none if ``quiet``)."""
    if quiet:
        return finish(steps)
    if not console.is_terminal:
        return finish(steps, _lines())
    columns = (
        TextColumn("{task.description:>8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[values]}"),
    )
    with Bars(*columns, console=console) as bars:
        return finish(steps, _bar_for(bars))


def _lines() -> Callable[[Progress], None]:
    """Progress for a log: a line every half minute, so that short work says nothing and silence is no riddle."""
    last = time.monotonic()

    def show(step: Progress) -> None:
        nonlocal last
        if time.monotonic() - last >= EVERY_S:
            last = time.monotonic()
            values = "  ".join(f"{name} {value:.3g}" for name, value in step.values.items())
            sys.stderr.write(f"{step.stage} {step.done}/{step.total}  {values}".rstrip() + "\n")
            sys.stderr.flush()

    return show


def _bar_for(bars: Bars) -> Callable[[Progress], None]:
    tasks: dict[str, Any] = {}

    def show(step: Progress) -> None:
        if step.stage not in tasks:
            tasks[step.stage] = bars.add_task(step.stage, values="")
        values = "  ".join(f"{name} {value:.3g}" for name, value in step.values.items())
        bars.update(tasks[step.stage], completed=step.done, total=step.total, values=values)
        if step.message:
            bars.console.print(step.message, markup=False)

    return show


def run_verb(steps: Callable[[], Steps[Mapping[str, Any]]], *, as_json: bool) -> None:
    """Run a pipeline function with progress, show its result, and leave with the right exit code."""
    code = guarded(lambda: show_result(run(steps(), quiet=as_json), as_json=as_json), as_json=as_json)
    if code:
        raise typer.Exit(code)


def show_result(result: Mapping[str, Any], *, as_json: bool) -> None:
    """Print a result to standard output: one JSON line, or a table for people."""
    if as_json:
        print(json.dumps(result, default=str))
        return
    out = Console(highlight=False, markup=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDE)
    plain = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    plain.add_column(no_wrap=True)
    plain.add_column(overflow="fold")  # a path is never cut short
    for key, value in result.items():
        if not (isinstance(value, list) and value and isinstance(value[0], Mapping)):
            plain.add_row(Text(key.replace("_", " ")), Text(_text(value)))
    out.print(plain)
    for key, value in result.items():
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            out.print(_rows(key, value))


def _rows(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """A table of things of one kind: a column a fact, a row a thing."""
    table = Table(
        title=title.replace("_", " "), title_justify="left", box=None, padding=(0, 2, 0, 0), header_style="bold"
    )
    for key in rows[0]:
        table.add_column(key.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(Text(_text(value)) for value in row.values()))
    return table


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        nested = any(isinstance(item, Mapping) for item in value.values())
        return ("\n" if nested else ", ").join(
            f"{key}{':' if nested else ''} {_text(item)}" for key, item in value.items()
        ) or "-"
    if isinstance(value, list | tuple):
        if any(isinstance(item, str) and item.endswith(".") for item in value):
            return "\n".join(map(_text, value))  # sentences
        inner = any(isinstance(item, list | tuple) for item in value)
        return ("; " if inner else ", ").join(_text(item) for item in value) or "-"
    return "-" if value is None else str(value)


def warn(sentence: str) -> None:
    """Print a warning to standard error."""
    console.print(f"howdah: warning: {sentence}", markup=False, style="yellow")


class Warnings(logging.Handler):
    """Shows what the packages log as warnings."""

    def emit(self, line: logging.LogRecord) -> None:
        """Print one line."""
        warn(line.getMessage())


def listen() -> AbstractContextManager[None]:
    """Show warnings of Howdah and of the formats on the terminal, once."""
    for name in ("howdah", "bdv_io"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
        if not any(isinstance(handler, Warnings) for handler in logger.handlers):
            logger.addHandler(Warnings(logging.WARNING))
    return nullcontext()


def guarded(command: Callable[[], object], *, as_json: bool = False, facts: Mapping[str, Any] | None = None) -> int:
    """Run a command; turn errors with a sentence into that sentence on standard error, and return the exit code."""
    with listen():
        try:
            command()
        except (BdvIoError, HowdahError) as error:
            missing = isinstance(error, MissingExtraError | MissingFormatExtra)
            sentence = str(error)
            code = INTERRUPTED if isinstance(error, Cancelled) else MISSING_PART if missing else BAD_INPUT
        except KeyboardInterrupt:
            sentence, code = (
                "Stopped. The last good state is kept, nothing was half-written; the same command goes on from there.",
                INTERRUPTED,
            )
        else:
            return DONE
    if as_json:
        print(json.dumps({**(facts or {}), "error": sentence}))
    console.print(f"howdah: {sentence}", markup=False, style="red" if code == BAD_INPUT else "yellow")
    sys.stdout.flush()
    return code
