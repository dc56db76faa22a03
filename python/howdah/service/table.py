"""The table of tasks: what a client may ask for, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from howdah.progress import Steps
from howdah.service.parameters import Parameters

__all__ = ["TASKS", "Task"]


@dataclass(frozen=True)
class Task:
    """One thing that a client may ask for.

    Attributes:
        name: The verb as on the command line, its parts joined by a dot: ``"track"``, ``"tap.events"``.
        summary: One sentence for people.
        parameters: What it is told.
        start: Begins the work; returns its steps (:class:`howdah.progress.Progress`), whose result is a mapping.
        learns: Whether it uses a network, so that one runs at a time on a device.
        results: Parameter that names a result -> how that file's name ends where the client gave none:
            ``{"out": "tracked.mastodon"}``.
    """

    name: str
    summary: str
    parameters: type[Parameters]
    start: Callable[[Any], Steps[dict[str, Any]]]
    learns: bool = True
    results: Mapping[str, str] = field(default_factory=dict)


TASKS: dict[str, Task] = {}
"""Every task by its name."""
