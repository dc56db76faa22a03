"""One task, run to its end in this process."""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bdv_io import BdvIoError
from bdv_io import MissingExtraError as MissingFormatExtra
from howdah.errors import Cancelled, HowdahError, MissingExtraError
from howdah.progress import Progress, finish
from howdah.service.clean import plain
from howdah.service.parameters import Parameters, Within
from howdah.service.preparing import find, told
from howdah.service.roots import confined
from howdah.service.table import TASKS
from howdah.service.tasks import Task

__all__ = ["prepare", "run_task", "sentence_of"]

log = logging.getLogger("howdah")

FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
LONGEST = 2000
STOPPED = "The job was cancelled. The last good state is kept, nothing was half-written."


def prepare(
    name: str, parameters: Mapping[str, Any], *, folder: Path | None = None, within: Within | None = None
) -> tuple[Task, Parameters]:
    """Find a task and check what it is told; results that nobody named go into ``folder`` (None: beside their source).

    Raises:
        ServiceError: There is no such task (the nearest known one is named), or a file lies outside of ``within``.
        ConfigError: A parameter or a setting is unknown, missing or out of range.
    """
    task = find(TASKS, name)
    return task, told(task, parameters, folder=folder, within=within)


def run_task(
    name: str,
    parameters: Mapping[str, Any],
    *,
    show: Callable[[Progress], object] | None = None,
    cancelled: Callable[[], bool] | None = None,
    folder: Path | None = None,
    within: Within | None = None,
) -> dict[str, Any]:
    """Run a task to its end in this process.

    Args:
        name: Name of the task.
        parameters: What it is told; images as :class:`Image`, tables as mappings of columns, files as paths.
        show: Called with each progress.
        cancelled: Asked between steps; once it says yes the work is closed and leaves its last good state.
        folder: Where results go that nobody named.
        within: Folders that it may use; None: all.

    Returns:
        Plain JSON values, and beside them :class:`Image` and tables (mappings of numpy columns) as the task gives them.

    Raises:
        HowdahError, BdvIoError: What is the user's to mend.
        Cancelled: ``cancelled`` said so.
    """
    task, given = prepare(name, parameters, folder=folder, within=within)
    with contextlib.ExitStack() as stack:
        if within is not None:
            stack.enter_context(confined(given, within))
        return _run(task, given, show, cancelled)


def _run(
    task: Task,
    given: Parameters,
    show: Callable[[Progress], object] | None,
    cancelled: Callable[[], bool] | None,
) -> dict[str, Any]:
    def each(step: Progress) -> None:
        if show is not None:
            show(step)
        if cancelled is not None and cancelled():
            raise Cancelled(STOPPED)

    if cancelled is not None and cancelled():
        raise Cancelled(STOPPED)
    result: dict[str, Any] = plain(dict(finish(task.start(given), each)))
    return result


def sentence_of(error: BaseException) -> tuple[str, str]:
    """Return the kind of an error and a sentence for people.

    Returns:
        ``"input"``: what was asked for cannot be done as it is (the disk and the memory belong to it); ``"missing"``: an optional part
        is not installed; ``"cancelled"``; ``"fault"``: a fault in Howdah. The command line's exit codes 2, 3, 130 and 1.
    """
    text = (str(error).strip() or type(error).__name__)[:LONGEST]
    if isinstance(error, Cancelled):
        return "cancelled", text
    if isinstance(error, KeyboardInterrupt):
        return "cancelled", STOPPED
    if isinstance(error, MissingExtraError | MissingFormatExtra):
        return "missing", text
    if isinstance(error, BdvIoError | HowdahError):
        return "input", text
    if is_out_of_gpu_memory(error):
        return "input", (
            "The memory of the GPU is full. Give the method smaller pieces: in its settings a smaller batch_size and crop_size for a "
            "training, a smaller memory_mb or tile_size for a prediction; or close what else uses the GPU, or set device to cpu. "
            f"The GPU said: {text.splitlines()[0][:300]}"
        )
    if isinstance(error, MemoryError):
        return "input", (
            "The memory of this computer is full. Work on fewer frames, set a smaller memory_mb or batch_size in the settings of "
            f"the method, or close other programs. ({text.splitlines()[0][:300]})"
        )
    if isinstance(error, OSError) and error.errno in FULL:
        where = f" while writing {error.filename}" if error.filename else ""
        return (
            "input",
            f"The disk is full{where} ({error.strerror}). Make space, or name another folder, and run it again.",
        )
    if isinstance(error, OSError) and error.filename:
        return (
            "input",
            f"{error.filename} cannot be used: {error.strerror or text}. Look at its rights, and run it again.",
        )
    return "fault", f"A fault in Howdah, please report it: {type(error).__name__}: {text}"


def is_out_of_gpu_memory(error: BaseException) -> bool:
    """Whether a GPU had no memory left; told by the name, for the service does not import torch."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return "OutOfMemoryError" in names or (isinstance(error, RuntimeError) and "CUDA out of memory" in str(error))
