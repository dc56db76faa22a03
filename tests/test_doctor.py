"""`howdah doctor` names what is missing and the way out, in text that can be pasted into a forum."""

import json
import socket
import sys
import time
import zipfile
from dataclasses import asdict
from pathlib import Path

import pytest
from typer.testing import CliRunner

from howdah import __version__, doctor
from howdah.bridge import checks, installation
from howdah.cli import app
from howdah.pipeline import health
from howdah.service.state import Running


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    """Nothing of this computer's user, no network, no Fiji."""
    monkeypatch.setenv("HOME", str(tmp_path / "anna"))
    monkeypatch.setenv("HOWDAH_HOME", str(tmp_path / "anna" / ".howdah"))
    monkeypatch.delenv("HOWDAH_FIJI", raising=False)
    monkeypatch.setattr(checks, "reaches", lambda *_, **__: "no network in a test")
    (tmp_path / "anna" / ".howdah").mkdir(parents=True)
    return tmp_path / "anna"


def fiji_in(folder: Path, *more: str) -> Path:
    for name in (
        "imagej-2.17.0",
        "imagej-common-2.1.1",
        "imagej-legacy-2.0.3",
        "ij-1.54p",
        "scijava-common-2.100.1",
        *more,
    ):
        path = folder / "jars" / f"{name}.jar"
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("nothing", "")
    return folder


def rows(report, what):
    return [row for row in report["findings"] if row["what"].split(" (")[0] == what]


def test_the_report_keeps_what_scripts_read_and_names_each_part():
    report = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)
    assert {"python", "device", "java", "ready", "advice", "platform", "findings"} <= report.keys()
    for what in (
        "Python",
        "base packages",
        "learn",
        "device",
        "Java",
        "repository",
        "heap",
        "display",
        "folder",
        "service",
        "disk, here",
    ):
        assert rows(report, what), what
    assert {row["state"] for row in report["findings"]} <= {"ok", "hint", "wrong"}
    assert all(row["advice"] for row in report["findings"] if row["state"] == "hint")


def test_the_text_has_no_name_of_the_user_and_no_token(home):
    running = Running("http://127.0.0.1:9", "secret-token", 1, __version__, time.time(), str(home / "serve.log"))
    (home / ".howdah" / "service.json").write_text(json.dumps(asdict(running)))
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 0
    assert "secret-token" not in done.stdout
    assert str(home) not in done.stdout
    assert "Nothing is wrong." in done.stdout or "To mend: " in done.stdout


def test_missing_packages_name_their_extra(monkeypatch):
    monkeypatch.setattr(health, "find_spec", lambda name: None if name in ("torch", "appose") else object())
    report = doctor.examine()
    (learn,), (fiji,) = rows(report, "learn"), rows(report, "fiji")
    assert (learn["state"], learn["advice"]) == ("wrong", "pip install 'howdah[learn]'")
    assert (fiji["state"], fiji["advice"]) == ("hint", "pip install 'howdah[fiji]'")
    assert "missing: appose" in fiji["found"]
    assert "To mend: learn" in doctor.as_text(report)


def test_a_fiji_without_jython_and_without_mastodon(home):
    folder = fiji_in(home / "Fiji", "imglib2-imglyb-2.0.1", "TrackMate-8.1.6", "TrackMate-7.0.0")
    done = CliRunner().invoke(app, ["doctor", "--fiji", str(folder)])
    assert done.exit_code == 2  # Jython is not there
    assert "[!!] Jython: not in this Fiji" in done.stdout
    assert "[--] mastodon: not in this Fiji; needed for live Mastodon projects." in done.stdout
    assert "-> Help > Update... > Manage update sites: tick Mastodon" in done.stdout
    assert "[ok] jars: imglib2-imglyb 2.0.1, TrackMate 8.1.6" in done.stdout
    assert "In several versions: TrackMate 7.0.0 and 8.1.6. Remove the old ones." in done.stdout
    assert "howdah fiji install ~/Fiji" in done.stdout  # no quotes: the shell knows ~


def test_installed_scripts_are_compared(home):
    folder = fiji_in(home / "Fiji", "jython-slim-2.7.4", "imglib2-imglyb-2.0.1")
    installation.install(folder, python=sys.executable)
    (scripts,) = rows(doctor.examine(folder), "Howdah's scripts")
    assert (scripts["state"], scripts["found"].split(",")[0]) == ("ok", f"version {__version__}")
    next((folder / "scripts").rglob("*.py")).unlink()
    (scripts,) = rows(doctor.examine(folder), "Howdah's scripts")
    assert scripts["state"] == "wrong"
    assert "is missing. Install again." in scripts["found"]


def test_no_such_fiji_is_wrong_and_the_exit_code_says_so():
    done = CliRunner().invoke(app, ["doctor", "--fiji", "/nowhere/Fiji"])
    assert done.exit_code == 2
    assert "[!!] Fiji: There is no folder /nowhere/Fiji" in done.stdout


def test_a_service_that_does_not_answer(monkeypatch):
    import os

    monkeypatch.setattr(doctor, "ANSWER_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        note = Running(url, "t", os.getpid(), "0.0.1", time.time(), "/var/log/howdah.log")
        monkeypatch.setattr(doctor, "read_note", lambda: note)
        (row,) = rows(doctor.examine(), "service")
    assert row["state"] == "wrong"
    assert f"noted at {url}" in row["found"]
    assert "Look into /var/log/howdah.log" in row["advice"]


def test_little_room_is_a_hint(monkeypatch):
    from collections import namedtuple

    monkeypatch.setattr(
        doctor.shutil, "disk_usage", lambda _: namedtuple("Usage", "total used free")(10, 10, 64 * 2**20)
    )
    report = doctor.examine()
    assert rows(report, "disk, here")[0]["state"] == "hint"
    if doctor.SHM.is_dir():
        assert "--shm-size=2g" in rows(report, "/dev/shm")[0]["advice"]


def test_neither_names_nor_passwords_are_in_any_part_of_the_report(monkeypatch, home):
    monkeypatch.setenv("USER", "anna-maria")
    found = [
        f"{home} is full",
        f"{home}/Fiji and {home}2",
        "/media/anna-maria/disk and /media/anna-maria2",
        r"D:\Users\anna-maria\Fiji",
        "https://anna:secret@proxy:8080/maven",
        "/opt/anna/Fiji",
    ]
    monkeypatch.setattr(doctor, "_machine", lambda: [doctor.Row("This computer", "x", text) for text in found])
    known = health.examine()
    monkeypatch.setattr(health, "examine", lambda: {**known, "python": f"3.11 at {home}/venv"})
    report = doctor.examine()
    assert [row["found"] for row in rows(report, "x")] == [
        "~ is full",
        f"~/Fiji and {home.parent}/anna2",
        "/media/USER/disk and /media/anna-maria2",
        r"D:\Users\USER\Fiji",
        "https://proxy:8080/maven",
        "/opt/USER/Fiji",
    ]
    assert report["python"] == "3.11 at ~/venv"


def test_an_odd_note_of_a_service_is_a_finding(monkeypatch):
    for url in ("http://127.0.0.1:99999", None, 5, "nonsense"):
        monkeypatch.setattr(doctor, "read_note", lambda url=url: Running(url, "t", 1, "0.0.1", 0.0, "serve.log"))
        (row,) = rows(doctor.examine(), "service")
        assert row["state"] == "wrong"
