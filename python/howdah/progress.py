"""Progress of long work: what a generator yields so that a terminal, Fiji or a service can show it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

__all__ = ["Progress", "Steps", "finish"]

T = TypeVar("T")

Steps = Generator["Progress", None, T]
"""Long work: yields :class:`Progress` after each step and returns its result; closing it cancels the work."""


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


def finish(steps: Steps[T], show: Callable[[Progress], object] | None = None) -> T:
    """Run long work to its end and return its result; ``show`` is called with each :class:`Progress`.

    An error in ``show`` (a KeyboardInterrupt, say) closes the work, which then leaves its last good state.
    """
    try:
        while True:
            step = next(steps)
            if show is not None:
                show(step)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        steps.close()
