"""Progress of long work: what a generator yields so that a terminal, Fiji or a service can show it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from types import FrameType
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

    Ctrl-C takes effect between two steps: the work is closed there and leaves its last good state. A second Ctrl-C stops
    at once. An error in ``show`` closes the work, too.

    Raises:
        KeyboardInterrupt: The user pressed Ctrl-C.
    """
    with _between_steps() as asked_to_stop:
        try:
            while True:
                step = next(steps)
                if show is not None:
                    show(step)
                if asked_to_stop():
                    raise KeyboardInterrupt
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            steps.close()


@contextlib.contextmanager
def _between_steps() -> Iterator[Callable[[], bool]]:
    """Note the first Ctrl-C instead of raising it; the second one is raised at once. Signals reach the main thread only."""
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    former = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, former)
