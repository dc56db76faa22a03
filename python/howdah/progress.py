"""Progress of long work: what a generator yields so that a terminal, Fiji or a service can show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Progress"]


@dataclass(frozen=True)
class Progress:
    """One step of long work is done.

    Attributes:
        stage: What is being done, one or two words: ``"train"``, ``"detect"``, ``"link"``.
        done: Steps done so far. total: Steps in all.
        values: Numbers worth a curve, for example ``{"loss": 0.31}``.
        message: A sentence for the log; may be empty.
    """

    stage: str
    done: int
    total: int
    values: Mapping[str, float] = field(default_factory=dict)
    message: str = ""
