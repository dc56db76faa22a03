"""Blocks done by this process, one after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Protocol

from howdah.scale.execute import Report, execute, forget
from howdah.scale.plan import Json

__all__ = ["Executor", "Serial"]


class Executor(Protocol):
    """Who does blocks.

    Attributes:
        slots: How many blocks can be done at the same time. most: How many may be handed out at a time.
    """

    slots: int

    @property
    def most(self) -> int:
        """How many blocks may be handed out at a time."""

    def submit(self, task: Mapping[str, Json]) -> None:
        """Hand out a block (:func:`howdah.scale.execute.task_of`)."""

    def wait(self, seconds: float) -> list[Report]:
        """Return what became of blocks since the last call; wait at most so long for the first."""

    def notes(self) -> list[str]:
        """Return sentences worth showing since the last call: a worker joined, the scheduler is waited for."""

    def about(self) -> dict[str, Json]:
        """Return facts for the record: workers, scheduler, dashboard."""

    def close(self, *, at_once: bool) -> None:
        """Let go of the workers; ``at_once``: cancel what they are doing."""


class Serial:
    """This process."""

    slots = most = 1

    def __init__(self) -> None:
        self._tasks: deque[Mapping[str, Json]] = deque()
        self._runs: set[str] = set()

    def submit(self, task: Mapping[str, Json]) -> None:
        """Hand out a block."""
        self._tasks.append(task)

    def wait(self, seconds: float) -> list[Report]:
        """Do one block."""
        if not self._tasks:
            return []
        task = self._tasks.popleft()
        self._runs.add(str(task["run"]))
        return [Report(**execute(task))]

    def notes(self) -> list[str]:
        """Return nothing: nothing happens beside the blocks."""
        return []

    def about(self) -> dict[str, Json]:
        """Return facts for the record."""
        return {"workers": 0}

    def close(self, *, at_once: bool) -> None:
        """Let go of what the blocks have kept."""
        for run in self._runs:
            forget(run)
