"""Watching a project: what counts as a save, and what does not stop the watch. The clock is the test's."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bdv_io import BusyError, FormatError
from howdah.errors import DataError
from howdah.pipeline import Job, loop_watch
from howdah.pipeline.loop import Loop
from howdah.pipeline.loop_state import Files, State, digest
from howdah.pipeline.loop_watch import summary, watch
from howdah.progress import Progress, Steps, finish

FACTS = {
    "nuclei": 12,
    "frames": [3],
    "predictions": 40,
    "steps": 40,
    "train_s": 8.0,
    "total_s": 11.0,
    "last_predictions": {},
    "out": "work.mastodon",
}
FIRST, SECOND = b"first save", b"second save, longer"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return tmp_path / "work.mastodon"


@pytest.fixture
def cycles(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Stands in for the work of a cycle: notes what it read, and replaces the project; or raises what ``errors`` holds."""
    done: list[bytes] = []

    def cycle(loop: Loop) -> Steps[dict[str, Any]]:
        files = loop.files
        content = files.project.read_bytes()
        if content.startswith(b"half"):
            raise FormatError("it is no zip file")
        if content.startswith(b"no marks"):
            raise DataError("There is nothing to train on")
        yield Progress("train", 1, 1)
        if files.project.read_bytes() != content:
            raise BusyError("saved again")
        done.append(content)
        before = digest(files.project)
        files.project.write_bytes(b"result of " + content)
        State(number=len(done), read=before, written=digest(files.project)).save(files.state)
        return {"cycle": len(done), **FACTS}

    monkeypatch.setattr(loop_watch, "cycle", cycle)
    return done


def clock(project: Path, *events: Callable[[], object] | bytes | None) -> Callable[[float], None]:
    """Each sleep lets one event happen: something is saved, or done; None: nothing happens. Then she goes home."""
    queue = list(events)

    def sleep(seconds: float) -> None:
        if not queue:
            raise KeyboardInterrupt
        event = queue.pop(0)
        if isinstance(event, bytes):
            project.write_bytes(event)
            os.utime(project, ns=(0, 10**9 * (100 - len(queue))))
        elif event is not None:
            event()

    return sleep


def run(project: Path, *events: Callable[[], object] | bytes | None, **options: Any) -> list[str]:
    messages = []
    with pytest.raises(KeyboardInterrupt):
        for step in watch(Loop(Job(project)), sleep=clock(project, *events), **options):
            if step.message:
                messages.append(step.message)
    return messages


def test_each_save_is_one_cycle_and_the_result_is_none(project: Path, cycles: list[bytes]) -> None:
    project.write_bytes(FIRST)
    messages = run(project, *[None] * 5, SECOND, *[None] * 5)
    assert cycles == [FIRST, SECOND]
    assert [m.partition(":")[0] for m in messages[1:]] == ["Cycle 1", "Cycle 2"]


def test_a_file_that_still_grows_is_left_alone(project: Path, cycles: list[bytes]) -> None:
    assert len(run(project, b"ha", b"half", b"half w", SECOND, None, None, None)) == 2
    assert cycles == [SECOND]


def test_a_half_written_file_is_read_again_and_told_only_if_it_stays(project: Path, cycles: list[bytes]) -> None:
    messages = run(project, b"half", *[None] * 4, SECOND, *[None] * 4)
    assert cycles == [SECOND]
    assert len(messages) == 2
    messages = run(project, b"half again", *[None] * 40)
    assert [m for m in messages if "no zip" in m] == ["Nothing was done. it is no zip file"]


def test_a_file_that_is_away_for_a_moment_is_waited_for(project: Path, cycles: list[bytes]) -> None:
    project.write_bytes(FIRST)
    run(project, None, None, project.unlink, None, None, SECOND, None, None)
    assert cycles == [FIRST, SECOND]


def test_an_error_is_told_once_and_the_watch_goes_on(project: Path, cycles: list[bytes]) -> None:
    messages = run(project, b"no marks", *[None] * 5, FIRST, None, None, None)
    assert [m for m in messages if "nothing to train on" in m] == ["Nothing was done. There is nothing to train on"]
    assert cycles == [FIRST]


def test_a_touch_is_no_save(project: Path, cycles: list[bytes]) -> None:
    project.write_bytes(FIRST)
    run(project, None, None, None, lambda: os.utime(project), None, None, None)
    assert cycles == [FIRST]


def test_restoring_is_no_save(project: Path, cycles: list[bytes]) -> None:
    """Who undoes the predictions does not want them again at once."""
    project.write_bytes(FIRST)
    run(project, None, None, None, FIRST, None, None, None)
    assert cycles == [FIRST]


def test_a_result_that_is_there_at_the_beginning_is_waited_on(project: Path, cycles: list[bytes]) -> None:
    project.write_bytes(FIRST)
    run(project, None, None, None)
    run(project, None, None, None)
    assert cycles == [FIRST]


def test_a_save_during_a_cycle_begins_it_anew(
    project: Path, cycles: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write_bytes(FIRST)
    saves = [SECOND]
    seen = []
    with pytest.raises(KeyboardInterrupt):
        for step in watch(Loop(Job(project)), sleep=clock(project, *[None] * 6)):
            seen.append(step.message)
            if step.stage == "train" and saves:
                project.write_bytes(saves.pop())
    assert cycles == [SECOND]
    assert not [m for m in seen if "Nothing was done" in m]


def test_two_loops_on_one_project_are_refused(project: Path, cycles: list[bytes]) -> None:
    project.write_bytes(FIRST)
    first = watch(Loop(Job(project)), sleep=clock(project))
    next(first)
    with pytest.raises(BusyError, match="another loop watches it"):
        next(watch(Loop(Job(project)), sleep=clock(project)))
    first.close()
    second = watch(Loop(Job(project)), sleep=clock(project))
    next(second)
    second.close()


def test_it_ends_after_so_many_cycles(project: Path, cycles: list[bytes]) -> None:
    project.write_bytes(FIRST)
    steps = watch(Loop(Job(project)), cycles=1, sleep=clock(project, *[None] * 9))
    assert finish(steps)["cycle"] == 1


def test_files_lie_beside_the_project(tmp_path: Path) -> None:
    files = Files.of(tmp_path / "embryo.mastodon")
    assert files.in_place
    assert files.weights.name == "embryo-loop.safetensors"
    assert not Files.of(tmp_path / "embryo.mastodon", out=tmp_path / "b.mastodon").in_place


def test_a_cycle_is_told_in_sentences() -> None:
    said = {
        "validated": 8,
        "moved": 1,
        "rejected": 2,
        "deleted": 1,
        "untouched": 9,
        "missed": 3,
        "precision": 0.75,
        "recall": 0.75,
    }
    text = summary({**FACTS, "cycle": 2, "last_predictions": said})
    assert "9 were right, 3 wrong, 3 nuclei were missed (precision 0.75, recall 0.75)" in text
    assert "40 new predictions in frame 3" in text
    assert "Of the last" not in summary({**FACTS, "cycle": 1})
