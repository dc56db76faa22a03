"""Jobs, their log lines and their curves, in an SQLite file that survives a kill at any moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

__all__ = ["Job", "State"]

State = Literal["queued", "running", "done", "failed", "cancelled"]


@dataclass(frozen=True)
class Job:
    """A job as it was when it was asked for; ask again for news.

    Attributes:
        id: Twelve hexadecimal digits.
        task: Name of the task. parameters: What it was told (JSON).
        state: queued, running, done, failed or cancelled.
        created: Seconds since 1970. started: The same, or None. ended: The same, or None.
        stage: What is being done. done: Steps done. total: Steps in all. values: The latest numbers of its curves.
        result: What the task returned (images and tables as :func:`howdah.service.clean.stored` says), once it is done.
        error: A sentence, once it failed or was cancelled. kind: ``"input"``, ``"missing"``, ``"fault"`` or ``"cancelled"`` with it.
        device: Where it runs: ``"cuda:0"``, ``"cpu"``, ``"quick"``.
        folder: Its own folder, for results that nobody named.
    """

    id: str
    task: str
    parameters: Mapping[str, Any]
    state: State
    created: float
    folder: Path
    started: float | None = None
    ended: float | None = None
    stage: str = ""
    done: int = 0
    total: int = 0
    values: Mapping[str, float] = field(default_factory=dict)
    result: Mapping[str, Any] | None = None
    error: str | None = None
    kind: str | None = None
    device: str | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in ("done", "failed", "cancelled")

    def as_json(self) -> dict[str, Any]:
        """Return it for a client."""
        return {**vars(self), "folder": str(self.folder)}
