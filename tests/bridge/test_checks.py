"""What is checked before a JVM starts: every failure is one sentence, and nothing is started."""

import http.server
import os
import socket
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest
from bridge.in_java import run_python

from howdah.bridge import checks, java_home
from howdah.bridge.checks import Finding, demand, examine, folder_of, reaches
from howdah.bridge.fiji_folder import NEEDED, read_fiji
from howdah.bridge.java_home import find_java
from howdah.bridge.memory import heap_bytes, physical_memory
from howdah.errors import BridgeError, MissingExtraError

posix = pytest.mark.skipif(os.name != "posix", reason="needs a shell script as java")


def jar(path: Path, *, java: int = 8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/A.class", b"\xca\xfe\xba\xbe\x00\x00" + (java + 44).to_bytes(2, "big"))
    return path


def folder_with(path: Path, *more: str, without: str = "") -> Path:
    """A folder with the names of Fiji's jars; they hold nothing, and no JVM ever sees them."""
    for name in NEEDED:
        if name != without:
            jar(path / "jars" / f"{name}-2.0.0.jar")
    for name in more:
        jar(path / "jars" / name)
    return path


def java_that(path: Path, script: str) -> str:
    (path / "bin").mkdir(parents=True)
    (path / "bin" / "java").write_text(f"#!/bin/sh\n{script}\n")
    (path / "bin" / "java").chmod(0o755)
    return str(path)


def failing(findings: list[Finding]) -> str:
    with pytest.raises(BridgeError) as caught:
        demand(findings)
    return str(caught.value)


@pytest.fixture(autouse=True)
def _no_fiji_named(monkeypatch):
    monkeypatch.delenv("HOWDAH_FIJI", raising=False)


def test_no_java_is_a_sentence(monkeypatch, tmp_path):
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(java_home.sys, "prefix", str(tmp_path))
    folder = folder_with(tmp_path / "Fiji", "imglib2-imglyb-2.0.1.jar")
    sentence = failing(examine(folder))
    assert "No Java found (looked in JAVA_HOME, this Python's environment and PATH, and" in sentence
    assert "or set JAVA_HOME" in sentence


@posix
def test_fijis_own_java_is_used_where_there_is_no_other(monkeypatch, tmp_path):
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(java_home.sys, "prefix", str(tmp_path))
    home = tmp_path / "Fiji" / "java" / "linux64" / "jdk-21"
    java_that(home, f"echo '    java.home = {home}' >&2; echo '    java.version = 21.0.2' >&2")
    (home / "lib" / "server").mkdir(parents=True)
    (home / "lib" / "server" / "libjvm.so").touch()
    java = find_java(tmp_path / "Fiji")
    assert (java.major, java.found_by, java.home) == (21, "Fiji's own", home)


@posix
@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("echo '    java.version = 1.8.0_312' >&2", r"Java 1\.8\.0_312 .*Install Java 11 or newer"),
        (
            "echo 'no Java runtime present' >&2; exit 1",
            r"does not say its version \(exit code 1; it says: no Java runtime present\)",
        ),
        ("echo '    java.version = 17.0.1' >&2", "has no JVM library"),
    ],
    ids=["too old", "does not answer", "half a Java"],
)
def test_a_java_that_will_not_do_is_a_sentence(monkeypatch, tmp_path, script, sentence):
    monkeypatch.setenv("JAVA_HOME", java_that(tmp_path / "jdk", script))
    with pytest.raises(BridgeError, match=sentence):
        demand(examine(folder_with(tmp_path / "Fiji", "imglib2-imglyb-2.0.1.jar")))


def test_a_java_home_without_java_is_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(BridgeError, match=r"JAVA_HOME is .*but there is no .*java"):
        find_java()


def test_folders_that_are_no_fiji(tmp_path):
    with pytest.raises(BridgeError, match=r"There is no folder .*nowhere"):
        read_fiji(tmp_path / "nowhere")
    folder_with(tmp_path / "around" / "Fiji.app")
    with pytest.raises(BridgeError, match=r"has no folder 'jars', so it is no Fiji\. Did you mean .*Fiji\.app\?"):
        read_fiji(tmp_path / "around")
    (tmp_path / "around" / "Fiji.app" / "plugins").mkdir()
    with pytest.raises(BridgeError, match=r"Did you mean .*Fiji\.app\?"):
        read_fiji(tmp_path / "around" / "Fiji.app" / "plugins")
    (tmp_path / "empty" / "jars").mkdir(parents=True)
    with pytest.raises(BridgeError, match="holds no jar"):
        read_fiji(tmp_path / "empty")


def test_a_fiji_without_legacy_is_a_sentence(tmp_path):
    folder = folder_with(tmp_path, "imglib2-imglyb-2.0.1.jar", without="imagej-legacy")
    assert "lacks imagej-legacy (ImagePlus, macros and the ROI manager inside ImageJ2). Update this Fiji" in failing(
        examine(folder)
    )


def test_a_fiji_that_needs_a_newer_java_is_a_sentence(tmp_path):
    folder = folder_with(tmp_path, "imglib2-imglyb-2.0.1.jar")
    jar(folder / "jars" / "mastodon-1.0.0-beta-40.jar", java=99)
    assert "mastodon in" in (sentence := failing(examine(folder)))
    assert "needs Java 99, but Java" in sentence


def test_versions_and_doubles_are_read_from_the_names(tmp_path):
    folder = folder_with(
        tmp_path, "imglib2-imglyb-2.0.1.jar", "mastodon-1.0.0-beta-35.jar", "imglib2-7.1.5.jar", "imglib2-6.0.0.jar"
    )
    jar(folder / "plugins" / "TrackMate_-7.11.1.jar")
    jar(folder / "jars" / "linux64" / "jogl.jar")
    fiji = read_fiji(folder)
    assert (fiji.version("mastodon"), fiji.version("TrackMate"), fiji.version("jogl")) == (
        "1.0.0-beta-35",
        "7.11.1",
        "unknown version",
    )
    assert fiji.version("bdv") is None
    assert fiji.doubles == {"imglib2": ("6.0.0", "7.1.5")}
    assert "In several versions: imglib2 6.0.0 and 7.1.5" in next(
        f.advice for f in examine(folder) if f.what == "parts of Fiji"
    )


def test_what_fiji_means(tmp_path, monkeypatch):
    assert folder_of(None) is None
    assert folder_of("sc.fiji:fiji") is None
    assert folder_of("net.imagej:imagej:2.17.0+org.mastodon:mastodon") is None
    assert folder_of("2.17.0") is None
    assert folder_of("/opt/Fiji") == Path("/opt/Fiji")
    assert folder_of("Fiji.app") == Path("Fiji.app")
    monkeypatch.setenv("HOWDAH_FIJI", str(tmp_path))
    assert folder_of(None) == tmp_path


class Answers(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_HEAD(self):
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def site():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_repository_that_answers(site, monkeypatch):
    for status, said in ((200, None), (404, None), (503, "it answers 503 Service Unavailable")):
        monkeypatch.setattr(Answers, "status", status)
        assert reaches(site) == said


def test_a_repository_that_does_not_answer_costs_its_time_and_no_more():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        began = time.monotonic()
        assert "timed out" in (said := str(reaches(address, timeout_s=0.3))) or "no answer within 0.3 s" in said
        assert time.monotonic() - began < 1.0
    assert "refused" in str(reaches(address))


def test_coordinates_need_the_repository_and_a_whole_local_fiji_does_not(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(checks, "reaches", lambda address, **_: asked.append(address) or "Connection refused")
    sentence = failing(examine("sc.fiji:fiji"))
    assert "Fiji's Java parts are not named as a folder, and the repository https://" in sentence
    assert (
        "cannot be reached (Connection refused; asked for 3 s). Give a local Fiji with fiji=..., or run once with network."
        in sentence
    )
    asked.clear()
    demand(examine(folder_with(tmp_path / "whole", "imglib2-imglyb-2.0.1.jar")))
    demand(examine("sc.fiji:fiji", offline=True))
    assert asked == []
    half = folder_with(tmp_path / "half")
    assert "imglib2-imglyb is not in" in failing(examine(half))
    assert asked
    assert "the network may not be used" in failing(examine(half, offline=True))


def test_the_repository_is_the_one_that_scyjava_is_told(site, monkeypatch):
    scyjava = pytest.importorskip("scyjava")

    def about(**repositories):
        monkeypatch.setattr(scyjava.config, "_repositories", repositories)
        return next(found for found in examine("sc.fiji:fiji") if found.what == "repository")

    assert about(lab=site).found == f"{site} answers."
    assert about(gone="http://127.0.0.1:9/", lab=site).found == f"{site} answers."
    lost = about(gone="http://me:secret@127.0.0.1:9/maven")
    assert not lost.ok
    assert "the repository http://127.0.0.1:9/maven cannot be reached" in lost.found
    assert "only Maven Central" in about().found
    assert not checks.jvm_runs()


def test_the_heap_is_held_against_the_memory(tmp_path):
    assert heap_bytes("2g") == 2**31
    assert heap_bytes("512m") == heap_bytes(2**29) == 2**29
    assert abs((heap_bytes("50%") or 0) * 2 - physical_memory()) < 4
    for wrong in ("lots", "-3g", "2x", ""):
        with pytest.raises(BridgeError, match="expected for example '8g'"):
            heap_bytes(wrong)
    with pytest.raises(BridgeError, match="at least 64 MB"):
        heap_bytes(8)
    folder = folder_with(tmp_path, "imglib2-imglyb-2.0.1.jar")
    assert "Java's heap of 900000.0 GB was asked for, but this computer has" in failing(
        examine(folder, memory="900000g")
    )
    with pytest.raises(BridgeError, match="known are headless, interactive and gui"):
        examine(folder, "windowed")  # type: ignore[arg-type]


@pytest.mark.skipif(sys.platform != "linux", reason="X displays")
def test_windows_need_a_display(monkeypatch, tmp_path):
    folder = folder_with(tmp_path, "imglib2-imglyb-2.0.1.jar")
    real = find_java()
    monkeypatch.setattr(checks, "find_java", lambda _: java_home.Java(real.home, "17.0.1", 17, "PATH", True))
    monkeypatch.delenv("DISPLAY", raising=False)
    assert "There is no display (DISPLAY is not set)." in failing(examine(folder, "interactive"))
    for name in (":7351", "127.0.0.1:59000"):
        monkeypatch.setenv("DISPLAY", name)
        assert f"The display {name} does not answer" in failing(examine(folder, "gui"))
    demand(examine(folder, "headless"))
    monkeypatch.setattr(checks, "find_java", lambda _: java_home.Java(real.home, "17.0.1", 17, "PATH", False))
    assert "is a headless one: it cannot open windows" in failing(examine(folder, "interactive"))


def test_missing_packages_name_the_extra(monkeypatch, tmp_path):
    monkeypatch.setattr(checks, "find_spec", lambda name: None if name in ("imagej", "imglyb") else object())
    with pytest.raises(MissingExtraError, match=r"needs pyimagej, imglyb\. Install with: pip install 'howdah\[fiji\]'"):
        demand(examine(tmp_path))


def test_checking_starts_and_loads_nothing(tmp_path):
    folder = folder_with(tmp_path / "Fiji", "imglib2-imglyb-2.0.1.jar")
    code = (
        "import sys, howdah.bridge, howdah.bridge.checks as c, howdah.bridge.images, howdah.bridge.imglib, howdah.bridge.bdv\n"
        f"c.demand(c.examine({str(folder)!r}))\n"
        "print([m for m in ('jpype', 'scyjava', 'imagej', 'imglyb', 'jgo') if m in sys.modules])"
    )
    done: subprocess.CompletedProcess[str] = run_python(["-c", code], tmp_path, timeout=60)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr
