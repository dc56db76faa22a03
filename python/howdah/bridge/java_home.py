"""Where Java is and which one: asked before a JVM starts. No JVM needed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from howdah.errors import BridgeError

__all__ = ["LEAST_JAVA", "Java", "find_java"]

LEAST_JAVA = 11  # what scyjava and JPype start
SETTING = re.compile(r"^\s*([\w.]+) = (.*)$", re.MULTILINE)
LIBRARIES = ("lib/server/libjvm.so", "lib/server/libjvm.dylib", "bin/server/jvm.dll", "lib/libjvm.so")


@dataclass(frozen=True)
class Java:
    """A Java that answered.

    Attributes:
        home: Its folder, as in JAVA_HOME.
        version: As it says itself, for example ``"17.0.15"``. major: Its first number, for example 17.
        found_by: Where it was found: ``"JAVA_HOME"``, ``"PATH"`` ...
        windows: Whether it can open windows (a headless package cannot).
    """

    home: Path
    version: str
    major: int
    found_by: str
    windows: bool


def find_java(fiji: Path | None = None) -> Java:
    """Find the Java that a start would use: JAVA_HOME, this Python's environment, PATH, then Fiji's own.

    Raises:
        BridgeError: None is found, or the one found does not answer or is not whole.
    """
    for found_by, binary in _places(fiji):
        if binary.is_file():
            return _ask(binary, found_by)
        if found_by == "JAVA_HOME":
            raise BridgeError(
                f"JAVA_HOME is {os.environ['JAVA_HOME']}, but there is no {binary}. Set JAVA_HOME to the folder of a Java {LEAST_JAVA} or "
                "newer, or unset it."
            )
    looked = "JAVA_HOME, this Python's environment and PATH" + (f", and {fiji / 'java'}" if fiji else "")
    raise BridgeError(
        f"No Java found (looked in {looked}). Install Java {LEAST_JAVA} or newer (mamba install openjdk=21, or your system's package), "
        "or set JAVA_HOME to its folder."
    )


def _places(fiji: Path | None) -> Iterator[tuple[str, Path]]:
    name = "java.exe" if sys.platform == "win32" else "java"
    home = os.environ.get("JAVA_HOME")
    if home:
        yield "JAVA_HOME", Path(home) / "bin" / name
    for inside in (Path(sys.prefix) / "bin", Path(sys.prefix) / "Library" / "bin"):
        yield "this Python's environment", inside / name
    on_path = shutil.which("java")
    if on_path:
        yield "PATH", Path(on_path)
    if fiji is not None:
        for depth in ("*/*/bin", "*/*/jre/bin", "*/*/Contents/Home/bin"):
            for folder in sorted((fiji / "java").glob(depth)):
                yield "Fiji's own", folder / name


def _ask(binary: Path, found_by: str) -> Java:
    command = [str(binary), "-XshowSettings:properties", "-version"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, errors="replace")
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BridgeError(
            f"The Java at {binary} ({found_by}) does not answer: {error}. Set JAVA_HOME to another one."
        ) from error
    said = dict(SETTING.findall(answer.stderr + answer.stdout))
    version = said.get("java.version", "")
    number = re.match(r"(?:1\.)?(\d+)", version)
    if answer.returncode or number is None:
        words = (answer.stderr or answer.stdout).strip().splitlines()
        raise BridgeError(
            f"The Java at {binary} ({found_by}) does not say its version (exit code {answer.returncode}; it says: "
            f"{words[0][:200] if words else 'nothing'}). Set JAVA_HOME to another one."
        )
    home = Path(said.get("java.home", str(binary.parent.parent)))
    whole = any((home / library).exists() for library in LIBRARIES)
    if not whole and int(number[1]) >= LEAST_JAVA:
        raise BridgeError(
            f"The Java in {home} ({found_by}) has no JVM library (libjvm). Install a whole Java, or set JAVA_HOME to another one."
        )
    windows = sys.platform != "linux" or any((home / "lib").glob("libawt_xawt.so"))
    return Java(home, version, int(number[1]), found_by, windows)
