"""One task, run to its end in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from howdah.progress import Progress
from howdah.service.parameters import Parameters
from howdah.service.table import Task

__all__ = ["prepare", "run_task", "sentence_of"]


def prepare(name: str, parameters: Mapping[str, Any], *, folder: Path | None = None) -> tuple[Task, Parameters]:
    """Find a task and check what it is told; results that nobody named go into ``folder`` (None: beside their source).

    Raises:
        ServiceError: There is no such task; the nearest known one is named.
        ConfigError: A parameter or a setting is unknown, missing or out of range.
    """
    raise NotImplementedError


def run_task(
    name: str,
    parameters: Mapping[str, Any],
    *,
    show: Callable[[Progress], object] | None = None,
    cancelled: Callable[[], bool] | None = None,
    folder: Path | None = None,
) -> dict[str, Any]:
    """Run a task to its end in this process.

    Args:
        name: Name of the task.
        parameters: What it is told; images as :class:`Image`, tables as mappings of columns, files as paths.
        show: Called with each progress.
        cancelled: Asked between steps; once it says yes the work is closed and leaves its last good state.
        folder: Where results go that nobody named.

    Returns:
        Plain JSON values, and beside them :class:`Image` and tables (mappings of numpy columns) as the task gives them.

    Raises:
        HowdahError, BdvIoError: What is the user's to mend. Cancelled: ``cancelled`` said so.
    """
    raise NotImplementedError


def sentence_of(error: BaseException) -> tuple[str, str]:
    """Return the kind of an error (``"input"``, ``"missing"``, ``"cancelled"``, ``"fault"``) and a sentence for people."""
    raise NotImplementedError
