"""The layout is a test: import contracts, size limits, and what an import may cost."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted([*(ROOT / "python").rglob("*.py"), *(ROOT / "bdv_io").rglob("*.py")])
MAX_LINES_FILE = 500
MAX_LINES_FUNCTION = 80
MAX_PARAMETERS = 8
FORBIDDEN_NAMES = {"utils", "util", "helpers", "common", "misc"}


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def test_there_are_sources_to_check() -> None:
    assert len(SOURCES) > 10


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_stays_within_the_limits(path: Path) -> None:
    assert path.stem not in FORBIDDEN_NAMES
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES_FILE
    for function in functions(path):
        name = f"{path.name}:{function.name}"
        assert function.end_lineno is not None
        assert function.end_lineno - function.lineno < MAX_LINES_FUNCTION, name
        arguments = function.args
        count = len(arguments.posonlyargs + arguments.args + arguments.kwonlyargs)
        assert count - (arguments.args[:1] != [] and arguments.args[0].arg in ("self", "cls")) <= MAX_PARAMETERS, name


def test_import_contracts_hold() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    environment = {"PYTHONPATH": f"{ROOT / 'python'}:{ROOT}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("package", ["howdah", "bdv_io", "howdah.pipeline", "howdah.cli"])
def test_import_loads_neither_torch_nor_a_jvm(package: str) -> None:
    heavy = ["torch", "timm", "jpype", "scyjava", "imagej", "dask", "fastapi", "matplotlib.pyplot"]
    code = f"import sys, {package}; print([name for name in {heavy} if name in sys.modules])"
    assert run_python(code) == "[]"


@pytest.mark.parametrize("package", ["howdah.service.worker", "howdah.cli"])
def test_a_start_loads_no_part_of_scipy(package: str) -> None:
    """They are half of a start's time, and most jobs need one or none."""
    heavy = ["scipy.ndimage", "scipy.spatial", "scipy.optimize", "scipy.sparse", "scipy.special", "skimage", "zarr"]
    code = f"import sys, {package}; print([name for name in {heavy} if name in sys.modules])"
    assert run_python(code) == "[]"


@pytest.mark.parametrize("package", ["howdah", "bdv_io"])
def test_import_takes_under_half_a_second(package: str) -> None:
    code = f"import time; start = time.process_time(); import {package}; print(time.process_time() - start)"
    assert min(float(run_python(code)) for _ in range(3)) < 0.5


@pytest.mark.parametrize("package", ["howdah", "bdv_io", "howdah.linking", "howdah.metrics", "howdah.pipeline"])
def test_public_names_exist(package: str) -> None:
    code = f"import {package} as p; print([name for name in p.__all__ if not hasattr(p, name)])"
    assert run_python(code) == "[]"


def run_python(code: str) -> str:
    environment = {"PYTHONPATH": f"{ROOT / 'python'}:{ROOT}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
