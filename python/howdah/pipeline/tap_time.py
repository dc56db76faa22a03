"""How long a training will take, said as soon as it is known: a person decides then whether she waits."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from howdah.progress import Steps

T = TypeVar("T")

FIRST = 5  # signs of progress until it is known; the first one also warms up

__all__ = ["in_words", "timed"]


def timed(steps: Steps[T], said: Callable[[float, int], str], *, stage: str = "train") -> Steps[T]:
    """Pass on the progress of a training, with one sentence more after its first steps.

    Args:
        steps: The training.
        said: Makes the sentence from the seconds that a step takes, and the number of steps of this stage that are left.
        stage: The stage that is measured, from its second sign of progress on.
    """
    seen: list[tuple[float, int]] = []
    with contextlib.closing(steps):
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                found: T = end.value
                return found
            if step.stage == stage and len(seen) <= FIRST:
                seen.append((time.monotonic(), step.done))
                if len(seen) > FIRST and step.done > seen[1][1]:
                    seconds = (seen[-1][0] - seen[1][0]) / (step.done - seen[1][1])
                    sentence = said(seconds, step.total - step.done)
                    step = replace(step, message=" ".join(part for part in (step.message, sentence) if part))
            yield step


def in_words(seconds: float) -> str:
    """Return a time as a person says it: "40 seconds", "3 minutes", "2.5 hours"."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} seconds"
    if seconds < 5400:
        return f"{round(seconds / 60)} minutes"
    return f"{seconds / 3600:.2g} hours" if seconds < 86400 * 2 else f"{round(seconds / 86400)} days"
