"""A real Fiji as a program: a copy of its folder with Howdah's scripts, started as its launcher starts Java."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.in_java import child_environment

from howdah.bridge import installation

# What config/fiji.toml of Fiji 2.18.0 gives to Java. By hand, Java 17 cannot patch ImageJ without the first.
OPTIONS = (
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
    "-Dscijava.app.unlock-modules=true",
    "-Dpython.cachedir.skip=true",
    "-Dpython.console.encoding=UTF-8",
    "-Dscijava.context.strict=false",
    "-Dscijava.app.name=Fiji",
)
PLACES = ("plugins.dir", "imagej.dir", "ij.dir", "fiji.dir", "scijava.app.directory")


@dataclass(frozen=True)
class Ended:
    """How headless Fiji ended: its exit code, the lines it printed, its errors and the record that the script wrote (None: none)."""

    code: int
    lines: list[str]
    errors: str
    record: dict[str, Any] | None


def copy_with_scripts(fiji: Path, folder: Path) -> Path:
    """A copy of a Fiji (jars as hard links where the disk allows it) with Howdah's scripts in it; the Fiji itself is not touched."""

    def linked(source: str, target: str) -> None:
        try:
            os.link(source, target) if source.endswith(".jar") else shutil.copy2(source, target)
        except OSError:
            shutil.copy2(source, target)

    shutil.copytree(fiji.resolve(), folder, copy_function=linked)
    installation.install(folder)
    return folder


def java_command(fiji: Path, home: Path, *arguments: str, headless: bool = True) -> list[str]:
    """The command that starts Fiji's main class with the launcher's options."""
    native = fiji / "lib" / "linux64"
    return [
        "java",
        *OPTIONS,
        *(f"-D{name}={fiji}" for name in PLACES),
        *((f"-Djava.library.path={native}", f"-Djna.library.path={native}") if native.is_dir() else ()),
        f"-Djava.util.prefs.userRoot={home}",
        f"-Duser.home={home}",
        f"-Djava.awt.headless={str(headless).lower()}",
        "-cp",
        os.pathsep.join([f"{fiji}/jars/*", f"{fiji}/plugins/*"]),
        "org.scijava.launcher.ClassLauncher",
        "net.imagej.Main",
        *(["--headless"] if headless else []),
        *arguments,
    ]


def run_headless(fiji: Path, home: Path, script: str, *, seconds: float = 120, **given: Any) -> Ended:
    """`--headless --run SCRIPT 'a=1,b="x"'`: a script of the menu Howdah by its place there, or any script by its path."""
    path = Path(script) if Path(script).is_absolute() else fiji / "scripts" / "Plugins" / "Howdah" / script
    told = {"result": home / "record.json", **given} if path.is_relative_to(fiji) else given
    text = ",".join(f"{name}={json.dumps(str(value))}" for name, value in told.items())
    command = java_command(fiji, home, "--run", str(path), *([text] if text else []))
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        env=child_environment(home, HOWDAH_HOME=str(home / ".howdah")),
        cwd=home,
    )
    record = home / "record.json"
    kept = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else None
    record.unlink(missing_ok=True)
    return Ended(done.returncode, done.stdout.splitlines(), done.stderr, kept)
