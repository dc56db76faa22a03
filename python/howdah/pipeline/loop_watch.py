"""Watching a project: a cycle of the loop after each save, for as long as a person works."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bdv_io import BdvIoError, BusyError, FormatError, MissingDataError
from bdv_io.safe_write import _lock
from howdah.errors import HowdahError
from howdah.pipeline.loop import Loop, cycle
from howdah.pipeline.loop_state import State, digest
from howdah.progress import Progress, Steps

__all__ = ["summary", "watch"]

PATIENCE_S = 20.0  # so long a file may be half-written before that is worth a sentence


def watch(
    loop: Loop, *, every: float = 2.0, cycles: int | None = None, sleep: Callable[[float], object] = time.sleep
) -> Steps[dict[str, Any]]:
    """Do a cycle whenever the project has been saved; it ends when it is closed, or after so many cycles.

    A save counts once the file looks the same in two looks, so that half-written files are left alone; one that cannot be
    read is looked at again. The loop's own writing and ``howdah restore`` of what it replaced are no saves. What goes wrong
    in a cycle (no marks yet, a movie that is not there) is told once, and the watch goes on.

    Args:
        loop: What to do.
        every: Seconds between two looks at the file.
        cycles: End after this many cycles; None: never.
        sleep: Waits so many seconds.

    Returns:
        The facts of the last cycle.

    Raises:
        BusyError: Another loop watches this project.
        FormatError: The state of the loop is damaged.
    """
    files, eye = loop.files, _Eye(loop.files.project, max(int(PATIENCE_S / max(every, 1e-3)), 2))
    result: dict[str, Any] = {"cycle": 0}
    done = 0
    with _alone(loop):
        State.load(files.state)
        known = _known(loop, started=False)
        yield Progress("wait", 0, 0, message=f"Watching {files.project}. Save it in Mastodon to begin; Ctrl-C ends.")
        while cycles is None or done < cycles:
            if eye.sees_a_save(known):
                try:
                    result = yield from cycle(loop)
                except (BusyError, FormatError, MissingDataError) as error:
                    if eye.gives_up():
                        yield Progress("cycle", result["cycle"], 0, message=f"Nothing was done. {error}")
                except (BdvIoError, HowdahError) as error:
                    eye.is_done()
                    yield Progress("cycle", result["cycle"], 0, message=f"Nothing was done. {error}")
                else:
                    done += 1
                    known = _known(loop, started=True)
                    yield Progress("cycle", result["cycle"], 0, values=_values(result), message=summary(result))
                    continue
            yield Progress("wait", 0, 0)
            sleep(every)
    return result


@dataclass
class _Eye:
    """Looks at a file, and tells when there is a whole new version of it."""

    file: Path
    patience: int
    last: tuple[int, int] | None = None
    finished: tuple[int, int] | None = None
    failures: int = 0

    def sees_a_save(self, known: set[str]) -> bool:
        """Whether the file has changed, looks as it did the last time, and is none of the known versions."""
        now, before = self._look(), self.last
        self.last = now
        if now != before:
            self.failures = 0
        if now is None or now != before or now == self.finished:
            return False
        if digest(self.file) in known:
            self.is_done()
            return False
        return True

    def is_done(self) -> None:
        """Do not report this version again."""
        self.finished, self.failures = self.last, 0

    def gives_up(self) -> bool:
        """Count a failure to read; True once the file has stayed unreadable for too long (this version is then done)."""
        self.failures += 1
        lasts = self.failures >= self.patience
        if lasts:
            self.is_done()
        return lasts

    def _look(self) -> tuple[int, int] | None:
        try:
            facts = self.file.stat()
        except OSError:
            return None
        return facts.st_mtime_ns, facts.st_size


def _known(loop: Loop, *, started: bool) -> set[str]:
    """The versions that are no saves: what the loop wrote, and, once it runs, what it replaced (restoring is undoing)."""
    state = State.load(loop.files.state)
    own = {state.written} if loop.files.in_place else {state.read}
    return own | ({state.read} if started else set())


@contextlib.contextmanager
def _alone(loop: Loop) -> Iterator[None]:
    """Hold a lock: two loops would take each other's writing for saves."""
    guard = loop.files.project.with_name(f"{loop.files.project.stem}.loop")
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_lock(guard))
        except BusyError:
            raise BusyError(
                f"Watching {loop.files.project} was not started: another loop watches it. End that one first."
            ) from None
        yield


def _values(result: dict[str, Any]) -> dict[str, float]:
    judged = result["last_predictions"]
    return {name: judged[name] for name in ("precision", "recall") if judged.get(name) is not None}


def summary(result: dict[str, Any]) -> str:
    """Return a cycle as sentences for a person."""
    judged = result["last_predictions"]
    said = ""
    if judged:
        right, wrong = judged["validated"] + judged["moved"], judged["rejected"] + judged["deleted"]
        shares = [f"{name} {judged[name]:.2f}" for name in ("precision", "recall") if judged[name] is not None]
        said = f"Of the last predictions {right} were right, {wrong} wrong, {judged['missed']} nuclei were missed"
        said += f" ({', '.join(shares)}). " if shares else ". "
    frames = result["frames"]
    where = f"frame {frames[0]}" if len(frames) == 1 else f"{len(frames)} frames ({frames[0]} to {frames[-1]})"
    return (
        f"Cycle {result['cycle']}: {said}{result['nuclei']} nuclei learned in {result['train_s']:.0f} s "
        f"({result['steps']} steps); {result['predictions']} new predictions in {where}, {result['total_s']:.0f} s in all. "
        f"Reopen {result['out']} in Mastodon."
    )
