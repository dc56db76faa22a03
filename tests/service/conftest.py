"""A backend whose workers have some more tasks, which misbehave on purpose."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from howdah.service import process, table
from howdah.service.backend import Backend

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def extra_tasks() -> Any:
    """The module of these tasks."""
    spec = importlib.util.spec_from_file_location("extra_tasks", HERE / "extra_tasks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["extra_tasks"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def misbehaving(extra_tasks: Any) -> Iterator[None]:
    """The tasks are in the table, here and in the workers."""
    patch = pytest.MonkeyPatch()
    for name, task in extra_tasks.EXTRA.items():
        patch.setitem(table.TASKS, name, task)
    patch.setattr(process, "COMMAND", [sys.executable, str(HERE / "extra_tasks.py")])
    yield
    patch.undo()


@pytest.fixture(scope="module")
def backend(misbehaving: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """A backend that the tests of a module share, so that its workers stay warm."""
    folder = tmp_path_factory.mktemp("backend")
    (folder / "root").mkdir()
    with Backend(folder / "own", roots=[folder / "root"], devices=["cpu"], quick=1) as made:
        yield made


@pytest.fixture
def until() -> Callable[..., float]:
    """Wait until something is so; return the seconds that it took."""

    def waiting(condition: Callable[[], bool], timeout: float = 5.0) -> float:
        start = time.monotonic()
        while not condition():
            if time.monotonic() - start > timeout:
                raise AssertionError(f"not so within {timeout} s")
            time.sleep(0.005)
        return time.monotonic() - start

    return waiting


@pytest.fixture
def alive() -> Callable[[int], bool]:
    """Whether a process runs (a zombie does not)."""

    def runs(pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        status = Path(f"/proc/{pid}/stat")
        return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")

    return runs
