"""A Fiji folder with Howdah's scripts installed, and real Java to run them: ImageJ 1.54p, SciJava's `--headless --run`, Jython."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from howdah.bridge import installation

ROOT = Path(__file__).resolve().parents[2]
QUICK_START = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx2500m", "-Dfile.encoding=UTF-8"]
PATIENCE_S = 120


@dataclass
class RealJava:
    """A Fiji folder and how its Java is run.

    Attributes:
        fiji: The folder, with Howdah's scripts. home: HOWDAH_HOME of the runs. work: A folder for files.
    """

    fiji: Path
    home: Path
    work: Path
    classes: str

    def script(self, name: str) -> Path:
        return self.fiji / "scripts/Plugins/Howdah" / name

    def run(
        self, *words: str, java: tuple[str, ...] = (), before: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run the launcher as Fiji is run: `--headless --run SCRIPT 'a=1,b="x"'`."""
        path = os.pathsep.join([self.classes, str(self.fiji / "jars" / "*")])
        own = f"-Djava.util.prefs.userRoot={self.work}"
        command = [*before, "java", *QUICK_START, own, *java, "-cp", path, "Launcher", *words]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            env=self.environment(),
            check=False,
            encoding="utf-8",
        )

    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "JAVA_HOME", "TMPDIR") if name in os.environ}
        own = {
            "HOWDAH_HOME": str(self.home),
            "HOME": str(self.work),
            "PYTHONPATH": f"{ROOT / 'python'}{os.pathsep}{ROOT}",
        }
        return {**kept, **own, "OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"}


@pytest.fixture
def real_java(java_classpath: str, tmp_path: Path) -> Iterator[RealJava]:
    classes, *jars = java_classpath.split(os.pathsep)
    fiji = tmp_path / "Fiji.app"
    (fiji / "jars").mkdir(parents=True)
    for jar in map(Path, jars):
        target = fiji / "jars" / jar.name
        if not jar.name.startswith("jython"):
            target.symlink_to(jar)
            continue
        try:  # Jython takes jars/Lib beside the file that a link leads to, so it has to be here in person
            os.link(jar, target)
        except OSError:
            shutil.copyfile(jar, target)
    installation.install(fiji, python=sys.executable)
    real = RealJava(fiji, tmp_path / "home", tmp_path, classes)
    yield real
    note = real.home / "service.json"
    if note.is_file():  # a test failed before it stopped the backend
        os.kill(int(json.loads(note.read_text())["pid"]), signal.SIGTERM)
