"""From what a client sent to what a task is told: checked, with settings of all its sections, and with names of results."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from howdah.errors import ConfigError, ServiceError
from howdah.pipeline.sections import SECTIONS
from howdah.pipeline.sources import default_target
from howdah.service.parameters import Parameters, Within, input_of, placed
from howdah.service.tasks import Task

__all__ = ["find", "told"]

OWN = "job:"
NAME = re.compile(r"[\w(+-][\w .()+-]{0,199}")

PATHS = (("efficientcellseg", "encoder_weights"),)  # settings that name a file or folder


def find(tasks: Mapping[str, Task], name: str) -> Task:
    """Return a task by its name.

    Raises:
        ServiceError: There is no such task; the nearest known one is named.
    """
    task = tasks.get(name) if isinstance(name, str) else None
    if task is None:
        near = difflib.get_close_matches(str(name), list(tasks), n=1, cutoff=0.4)
        hint = f"Did you mean '{near[0]}'?" if near else f"Known are: {', '.join(tasks)}."
        raise ServiceError(f"There is no task '{name}'. {hint}")
    return task


def told(
    task: Task, parameters: Mapping[str, Any], *, folder: Path | None = None, within: Within | None = None
) -> Parameters:
    """Check what a task is told; results that nobody named go into ``folder`` (None: beside their source).

    Raises:
        ConfigError: A parameter or a setting is unknown, missing or out of range.
        ServiceError: A file lies outside of the folders that are allowed.
    """
    source = f"the parameters of '{task.name}'"
    if not isinstance(parameters, Mapping):
        raise ConfigError(f"'{task.name}' was given {type(parameters).__name__}; expected parameters by name.")
    for name, field in task.parameters.model_fields.items():
        if field.is_required() and parameters.get(name) is None:
            raise ConfigError(f"Parameter '{name}' of '{task.name}' is missing: {field.description or 'it is needed.'}")
    given = task.parameters.of(_in_own_folder(parameters, folder), source=source)
    for name, values in given.settings.items():
        if name not in SECTIONS:
            near = difflib.get_close_matches(name, SECTIONS, n=1, cutoff=0.5)
            hint = f"Did you mean '{near[0]}'?" if near else f"Known are: {', '.join(SECTIONS)}."
            raise ConfigError(f"There is no section '{name}' in the settings of '{task.name}'. {hint}")
        SECTIONS[name].of(values, source=f"section '{name}' of the settings of '{task.name}'")
    used = {name: dict(given.settings.get(name, {})) for name in task.sections}
    if within is not None:
        for section, name in PATHS:
            path = used.get(section, {}).get(name)
            if path is not None:
                used[section][name] = str(within.place(f"{section}.{name}", "read", Path(path)))
    return placed(given.model_copy(update={"settings": used, **_results(task, given, folder)}), within)


def _in_own_folder(parameters: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
    """Put the job's own folder before the names of files in it: ``"job:cells.xml"``, for clients that do not know the folder."""

    def placed(value: Any) -> Any:
        if isinstance(value, list):
            return [placed(item) for item in value]
        if folder is None or not isinstance(value, str) or not value.startswith(OWN):
            return value
        name = value.removeprefix(OWN)
        if not NAME.fullmatch(name):
            raise ConfigError(
                f"'{value}' is no name of a file in the job's folder: letters, digits, blanks and . _ ( ) + - only."
            )
        return str(folder / name)

    return {name: placed(value) for name, value in parameters.items()}


def _results(task: Task, given: Parameters, folder: Path | None) -> dict[str, Path]:
    """Name the results that the client did not name."""
    named: dict[str, Path] = {}
    for name, default in task.results.items():
        if getattr(given, name) is not None:
            continue
        value = getattr(given, input_of(task.parameters) or "source")
        source: Path = value[0] if isinstance(value, list) else value
        if not isinstance(default, str):
            named[name] = default(source, folder)
        else:
            beside = default_target(source, default)
            named[name] = beside if folder is None else folder / beside.name
    return named
