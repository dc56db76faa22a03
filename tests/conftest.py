"""Fixtures shared by all tests."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.testing

REPOSITORY = Path(__file__).resolve().parent.parent

# The tests start some hundred Python processes. Where bytecode may not be kept, each of them compiles Howdah anew: a third of its start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real movies with ground truth; tests that need it skip where it is not there."""
    named = os.environ.get("HOWDAH_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not (folder / "README.md").is_file():
        pytest.skip(f"needs the real movies: no folder {folder} (set HOWDAH_DATA to it)")
    return folder


@pytest.fixture(scope="session", autouse=True)
def command_line_built_once() -> Iterator[None]:
    """Tests that run the command line in their own process build its hundred commands once, not with each line."""
    patch = pytest.MonkeyPatch()
    patch.setattr(typer.testing, "_get_command", functools.cache(typer.testing._get_command))
    yield
    patch.undo()


@pytest.fixture(scope="session")
def java_classpath() -> str:
    """Class path of real ImageJ, SciJava, Jython, ImgLib2 and Appose, and of the launcher (`make java`)."""
    folder = Path(os.environ.get("HOWDAH_TEST_JAVA", REPOSITORY / ".venv" / "java"))
    if not (folder / ".ready").is_file():
        pytest.skip("needs the Java programs of the tests: run `make java` (a JDK and Maven), or set HOWDAH_TEST_JAVA")
    return os.pathsep.join([str(folder / "classes"), *sorted(map(str, (folder / "jars").glob("*.jar")))])


@pytest.fixture(scope="session")
def virtual_display() -> str:
    """Path of `xvfb-run`, for tests that open windows."""
    found = shutil.which("xvfb-run")
    if found is None:
        pytest.skip("needs a virtual display: install xvfb and xauth")
    return found


@pytest.fixture(scope="session")
def real_fiji() -> Path:
    """A real Fiji (or a folder of its jars), named by HOWDAH_FIJI."""
    named = os.environ.get("HOWDAH_FIJI")
    if not named or not (Path(named) / "jars").is_dir():
        pytest.skip("needs a real Fiji: set HOWDAH_FIJI to its folder")
    return Path(named)
