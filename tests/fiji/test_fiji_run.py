"""`howdah fiji run`: what is refused before Java starts, which launcher is taken, and how it ends with a real Java."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import tifffile
from fiji.conftest import PATIENCE_S, RealJava
from typer.testing import CliRunner

from howdah.bridge import headless
from howdah.bridge.headless import Order, command_of, launcher_of, order_of, run_script
from howdah.bridge.installation import Fiji, install, scripts_folder
from howdah.cli import app
from howdah.errors import BridgeError, Cancelled, ConfigError

POSIX = pytest.mark.skipif(os.name != "posix", reason="needs programs that are marked as such")


@pytest.fixture
def fiji(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fiji:
    folder = tmp_path / "Fiji.app"
    (folder / "jars").mkdir(parents=True)
    for name in ("ij-1.54p.jar", "jython-slim-2.7.4.jar"):
        (folder / "jars" / name).write_bytes(b"")
    install(folder)
    monkeypatch.setenv("HOWDAH_HOME", str(tmp_path / "home"))
    return Fiji(folder, "ij-1.54p.jar", "jython-slim-2.7.4.jar", None)


def launcher(fiji: Fiji, name: str) -> Path:
    path = fiji.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "Batch over a folder",
        "batch_over_a_folder.py",
        "Find events",
        "Time arrow > Find events",
        "Time_arrow/Find_events.py",
    ],
)
def test_scripts_are_found_by_their_names(fiji: Fiji, name: str) -> None:
    assert order_of(fiji, name, []).script.is_relative_to(fiji.folder / "scripts" / "Plugins" / "Howdah")


@pytest.mark.parametrize(
    ("script", "given", "sentence"),
    [
        ("Find event", [], "no script 'Find event'.*Did you mean 'Find events'"),
        ("Convert a file", ["sorce=x.tif"], "has no parameter 'sorce'. Did you mean 'source'"),
        ("Convert a file", ["x.tif"], "'x.tif' was not understood.*image=/data/movie.tif"),
        ("Convert a file", ["repair=maybe"], "'repair' must be true or false; it is 'maybe'"),
        ("Convert a file", ["result=/no/such/folder/x.json"], "there is no folder /no/such/folder"),
    ],
)
def test_mistakes_are_told_before_java_starts(fiji: Fiji, script: str, given: list[str], sentence: str) -> None:
    with pytest.raises((BridgeError, ConfigError), match=sentence):
        order_of(fiji, script, given)


def test_files_become_absolute_and_texts_stay(fiji: Fiji, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    order = order_of(fiji, "Find events", ["image=a b.tif", "frames=0-4,9", "weights="])
    assert dict(order.parameters) == {"image": str(tmp_path / "a b.tif"), "frames": "0-4,9", "weights": ""}
    assert (order.record.parent, order.record.suffix) == (tmp_path / "home" / "fiji-logs", ".json")


def test_every_shipped_script_can_be_run(fiji: Fiji) -> None:
    for path in sorted((scripts_folder() / "scripts").rglob("*.py")):
        order = order_of(fiji, path.stem, [])
        assert order.script.name == path.name


def test_a_script_that_writes_no_record_is_refused(fiji: Fiji, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("#@ String name\n")
    with pytest.raises(BridgeError, match="has no parameter 'result'"):
        order_of(fiji, str(tmp_path / "own.py"), [])


@POSIX
@pytest.mark.parametrize(
    ("system", "machine", "there", "taken"),
    [
        ("linux", "x86_64", ["ImageJ-linux64"], "ImageJ-linux64"),
        ("linux", "x86_64", ["ImageJ-linux64", "fiji", "fiji-linux-x64"], "fiji-linux-x64"),
        ("linux", "x86_64", ["fiji-windows-x64.exe", "fiji-linux-arm64", "fiji.bat"], None),
        ("linux", "aarch64", ["fiji-linux-x64", "fiji-linux-arm64"], "fiji-linux-arm64"),
        (
            "darwin",
            "arm64",
            ["Fiji.app/Contents/MacOS/fiji-macos-arm64", "fiji"],
            "Fiji.app/Contents/MacOS/fiji-macos-arm64",
        ),
        ("darwin", "arm64", ["Contents/MacOS/ImageJ-macosx"], "Contents/MacOS/ImageJ-macosx"),
        ("win32", "x86_64", ["fiji", "fiji-windows-x64.exe", "fiji.bat"], "fiji-windows-x64.exe"),
        ("win32", "x86_64", ["fiji", "fiji.bat"], "fiji.bat"),
    ],
)
def test_the_launcher_of_this_computer_is_taken(
    fiji: Fiji, monkeypatch: pytest.MonkeyPatch, system: str, machine: str, there: list[str], taken: str | None
) -> None:
    for name in there:
        launcher(fiji, name)
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(headless, "machine", lambda: machine)
    found = launcher_of(fiji)
    assert (None if found is None else found.relative_to(fiji.folder).as_posix()) == taken


@POSIX
def test_values_are_quoted_for_scijava(fiji: Fiji, tmp_path: Path) -> None:
    program = launcher(fiji, "fiji")
    order = Order(tmp_path / "x.py", {"image": 'C:\\a "b", c=é.tif'}, tmp_path / "r.json")
    command = command_of(fiji, order, memory="8g")
    assert command[:-1] == [str(program), "--mem=8g", "--headless", "--run", str(tmp_path / "x.py")]
    assert command[-1] == f'image="C:\\\\a \\"b\\", c=é.tif",result="{tmp_path / "r.json"}"'


OWN = """#@ String (value="", persist=false) what
#@ File (persist=false, required=false) result
import time
from java.lang import System
if what == "leave":
    System.exit(0)
time.sleep(60)
"""


@POSIX
def test_with_a_real_java(
    real_java: RealJava, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A launcher that starts ImageJ 1.54p as Fiji's would; the record decides."""
    work = real_java.work
    jars, own = f"{real_java.classes}:{real_java.fiji}/jars/*", f"-Djava.util.prefs.userRoot={work}"
    program = real_java.fiji / "fiji"
    program.write_text(
        f"#!/bin/sh\nexec java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC {own} -cp '{jars}' Launcher \"$@\"\n"
    )
    program.chmod(0o755)
    for name, value in real_java.environment().items():
        monkeypatch.setenv(name, value)
    movie, events = work / 'a "b", c.tif', work / "events.csv"
    three = [[[1] * 8] * 8] * 3  # frames, which ImageJ takes for slices: the file does not say
    tifffile.imwrite(movie, three, dtype="uint8", metadata=None, photometric="minisblack")
    events.write_text("rank,t,z,y,x,quality\n1,2,0,3,4,0.5\n")
    given = [f"image={movie}", f"events={events}", "number=1"]
    called = CliRunner().invoke(
        app, ["fiji", "run", str(real_java.fiji), "Jump to event", *given, "--json", "--timeout", str(PATIENCE_S)]
    )
    assert called.exit_code == 0, (called.output, capfd.readouterr())
    record = json.loads(called.stdout.splitlines()[-1])
    assert record["result"] == {"t": 2, "z": 0.0, "y": 3.0, "x": 4.0, "shown": 3}
    script = work / "own.py"
    script.write_text(OWN)
    ended = run_script(real_java.fiji, str(script), ["what=leave"], timeout=PATIENCE_S)
    assert (ended.code, ended.record) == (1, {})
    assert "as if all were well (exit code 0), but own.py left no record" in ended.sentence
    with pytest.raises(Cancelled, match=r"own.py did not end within 4 s and was stopped"):
        run_script(real_java.fiji, str(script), ["what=wait"], timeout=4)
