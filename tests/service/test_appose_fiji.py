"""The Appose worker with Appose's real Java library, in real Jython, started by SciJava's own `--headless --run`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "fiji-scripts" / "jars" / "Lib"
MEMORY = Path("/dev/shm")

pytestmark = pytest.mark.skipif(not MEMORY.is_dir(), reason="looks at shared memory where Linux keeps it")


def java(classpath: str, folder: Path, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """Return command and environment of a Java of its own: fresh home, fresh preferences, this checkout's Python."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "python"), str(ROOT)]),
        "HOWDAH_HOME": str(folder / "howdah"),
        "OMP_NUM_THREADS": "1",
    }
    options = ["-Xmx512m", "-XX:TieredStopAtLevel=1", f"-Djava.util.prefs.userRoot={folder}", f"-Duser.home={folder}"]
    options += [
        "-Djava.awt.headless=true",
        "--add-opens=java.base/java.lang=ALL-UNNAMED",
        "-Dpython.cachedir.skip=true",
    ]
    return ["java", *options, "-cp", classpath, *arguments], environment


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone_within(seconds: float, *, pids: list[int], blocks: list[str]) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(map(is_alive, pids)) and not any((MEMORY / name).exists() for name in blocks):
            return True
        time.sleep(0.05)
    return False


def all_checks(classpath: str, folder: Path, *main: str) -> None:
    """Run appose_checks.py by `--headless --run`; each check is ok, and Java's end leaves neither worker nor memory."""
    script, out = folder / "appose_checks.py", folder / "results.json"
    header = "#@ String python\n#@ String lib\n#@ String out\n"
    script.write_text(header + Path(__file__).with_name("appose_checks.py").read_text())
    told = f'python="{sys.executable}",lib="{LIBRARY}",out="{out}"'
    command, environment = java(classpath, folder, *main, "--headless", "--run", str(script), told)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(out.read_text())
    left = results.pop("left")
    assert {name: text for name, text in results.items() if name != "appose" and not text.startswith("ok")} == {}
    assert len(results) > 20
    assert gone_within(8, pids=[left["pid"]], blocks=left["blocks"])


def test_what_fiji_meets(java_classpath: str, tmp_path: Path) -> None:
    all_checks(java_classpath, tmp_path, "Launcher")


@pytest.mark.fiji
def test_what_a_whole_fiji_meets(real_fiji: Path, tmp_path: Path) -> None:
    all_checks(f"{real_fiji}/jars/*{os.pathsep}{real_fiji}/plugins/*", tmp_path, "net.imagej.Main")


def test_fiji_that_is_killed_leaves_nothing(java_classpath: str, tmp_path: Path) -> None:
    facts = tmp_path / "facts.json"
    script = tmp_path / "wait.py"
    script.write_text(KILLED.format(lib=str(LIBRARY), python=sys.executable, out=str(facts)))
    command, environment = java(java_classpath, tmp_path, "org.python.util.jython", str(script))
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line == "ready\n", line + process.stdout.read()
        found = json.loads(facts.read_text())
        assert all((MEMORY / name).exists() for name in found["blocks"])
        os.kill(found["pids"][1], signal.SIGKILL)  # this worker has no time to tidy up
    finally:
        process.kill()
        process.communicate(timeout=30)
    assert gone_within(12, pids=found["pids"], blocks=found["blocks"])


KILLED = """
import json, sys, time
sys.path.insert(0, {lib!r})
from howdah_fiji import appose_backend
backends = [appose_backend.connect({python!r}) for _ in range(2)]
rooms = [backend._room(3, 1 << 20, []) for backend in backends]
busy = appose_backend.Call(backends[0], "import time\\ntime.sleep(60)", {{}}, None, None)
facts = {{"pids": [b.facts["pid"] for b in backends], "blocks": [name for room in rooms for name in room.names()]}}
with open({out!r}, "w") as file:
    json.dump(facts, file)
print("ready")
sys.stdout.flush()
time.sleep(60)
"""
