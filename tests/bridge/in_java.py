"""Run the `check_*` functions of a module in one child process with Java: `python in_java.py MODULE.py HOW JSON-OF-ARGUMENTS`.

HOW is `imagej` (ImageJ 1 alone) or `fiji`. Each result is one line, `check: NAME ok` or
`check: NAME TRACEBACK-AS-JSON`; the process ends with 7.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import json
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
REPOSITORY = HERE.parent.parent.parent
ENDS_WITH = 7


def child_environment(home: Path, **more: str) -> dict[str, str]:
    """Environment of a child process: nothing of the user's Java preferences, caches or settings."""
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith(("HOWDAH", "XDG", "_JAVA", "JAVA_TOOL"))
    }
    paths = os.pathsep.join([str(REPOSITORY / "python"), str(REPOSITORY)])
    return {**kept, "HOME": str(home), "PYTHONPATH": paths, "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1", **more}


def run_python(
    arguments: list[str], home: Path, *, before: tuple[str, ...] = (), timeout: float = 120, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run Python in a child process that is killed when it takes too long."""
    command = [*before, sys.executable, *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command,
        stdout=pipe,
        stderr=pipe,
        text=True,
        env=child_environment(home, **more),
        cwd=home,
        start_new_session=True,
    ) as child:
        try:
            out, err = child.communicate(timeout=timeout)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)  # also what a display's wrapper has started
    return subprocess.CompletedProcess(command, child.returncode, out, err)


def names_of(module: str) -> list[str]:
    """Names of the checks in a module of this folder, read without importing it."""
    lines = (HERE.parent / module).read_text(encoding="utf-8").splitlines()
    return [line[4 : line.index("(")] for line in lines if line.startswith("def check_")]


def run_checks(module: str, how: str, home: Path, *, before: tuple[str, ...] = (), **arguments: Any) -> dict[str, str]:
    """Run all checks of a module in one child process; name -> "ok" or what went wrong."""
    done = run_python(
        [str(HERE), str(HERE.parent / module), how, json.dumps(arguments)], home, before=before, timeout=500
    )
    results = {}
    for line in done.stdout.splitlines():
        if line.startswith("check: "):
            name, result = line[7:].split(" ", 1)
            results[name] = "ok" if result == "ok" else json.loads(result)
    results["the process ends"] = (
        "ok"
        if done.returncode == ENDS_WITH
        else f"exit code {done.returncode}: {done.stdout[-500:]}{done.stderr[-1500:]}"
    )
    return results


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    path, how, arguments = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    specification = importlib.util.spec_from_file_location("checks", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    from howdah.bridge import start, start_imagej

    mode = arguments.get("mode", "headless")
    fiji = (
        start_imagej(arguments["classpath"], mode=mode, memory="300m")
        if how == "imagej"
        else start(arguments["fiji"], mode=mode, memory="1g")
    )
    for name, check in list(vars(module).items()):
        if not name.startswith("check_"):
            continue
        try:
            check(fiji) if len(inspect.signature(check).parameters) == 1 else check(fiji, Path.cwd())
            say(f"check: {name} ok")
        except BaseException:  # noqa: BLE001 - whatever a check raises is its result
            say(f"check: {name} {json.dumps(traceback.format_exc())}")
    sys.exit(ENDS_WITH)


if __name__ == "__main__":
    main()
