"""The verb ``howdah batch``: one task for many files."""

from __future__ import annotations

import json as json_text
from pathlib import Path
from typing import Annotated, Any

import typer

from howdah.cli_hints import grouped
from howdah.cli_options import CONFIG, Json, settings_in
from howdah.cli_show import BAD_INPUT, guarded, run, show_result
from howdah.errors import ConfigError
from howdah.pipeline.sections import SECTIONS

__all__ = ["add_to"]

CHOICES: dict[str, tuple[Any, Any]] = {
    "parameters": (
        Annotated[
            list[str],
            typer.Option(
                "--set",
                metavar="NAME=VALUE",
                help="A parameter of the task, the same for all: weights=w.safetensors, setup=1; or a setting: "
                "elephant.n_epochs=20. {stem}, {name} and {folder} are the input's: truth={folder}/{stem}_GT",
            ),
        ],
        [],
    ),
    "config": (CONFIG, None),
    "ending": (
        Annotated[
            str | None, typer.Option("--ending", metavar="ENDING", help="How results end: .mastodon, .ome.zarr.")
        ],
        None,
    ),
    "pattern": (
        Annotated[
            str | None, typer.Option("--pattern", metavar="*.tif", help="Of folders only files with such names.")
        ],
        None,
    ),
    "whole": (
        Annotated[bool, typer.Option("--whole", help="A folder is one input, and is not looked into.")],
        False,
    ),
    "again": (Annotated[bool, typer.Option("--again", help="Do again what is done, too.")], False),
}


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(batch)


@grouped("choices", CHOICES)
def batch(
    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK", help="What is done with each file: track, embedtrack.track, tap.events, convert ..."
        ),
    ],
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Movies and projects, or folders of these.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", help="Results, batch.csv and batch.txt (what failed).")
    ],
    choices: dict[str, Any],
    json: Json = False,
) -> None:
    """Run a task for each file of a folder. Goes on after a failure, and does not do again what is done and unchanged.

    Exit code 2 if something failed; batch.txt says what.
    """
    from howdah.service.batch import Batch  # the table of all tasks takes a moment, that the other verbs do without
    from howdah.service.batch import batch as run_batch
    from howdah.service.table import TASKS

    found: dict[str, Any] = {}

    def work() -> None:
        config = choices.pop("config")
        parameters, settings = _parameters(choices.pop("parameters")), settings_in(config, SECTIONS)
        for name in [name for name in parameters if name.partition(".")[0] in SECTIONS and "." in name]:
            section, _, field = name.partition(".")
            settings.setdefault(section, {})[field] = parameters.pop(name)
        told = {"task": task, "inputs": inputs, "out": out, "parameters": parameters, "settings": settings, **choices}
        what = Batch.of(told, source="the options")
        found.update(run(run_batch(what, TASKS), quiet=json))
        show_result(found, as_json=json)

    code = guarded(work, as_json=json) or (BAD_INPUT if found.get("failed") else 0)
    if code:
        raise typer.Exit(code)


def _parameters(given: list[str]) -> dict[str, Any]:
    """Turn ``NAME=VALUE`` into parameters: numbers, true, false, lists and null as in JSON, else texts."""
    parameters: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"'{text}' was not understood. Write a parameter and its value: --set setup=1")
        try:
            parameters[name.strip().replace("-", "_")] = json_text.loads(value)
        except ValueError:
            parameters[name.strip().replace("-", "_")] = value
    return parameters
