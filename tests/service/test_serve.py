"""``howdah serve`` as people start it: a process that is found, asked, stopped, killed and started again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from howdah.cli import app
from howdah.errors import HowdahError, ServiceError
from howdah.service import state
from howdah.service.client import Client, client_of, connect, find
from howdah.service.http_server import Address, Server

PROGRAM = Path(__file__).with_name("serve_process.py")
CRAMPED = 60.0


class Started:
    """A service in a process of its own, with a home of its own."""

    def __init__(self, folder: Path) -> None:
        self.home, self.root = folder / "home", folder / "root"
        for made in (self.home, self.root):
            made.mkdir(exist_ok=True)
        self.process: subprocess.Popen[str] | None = None

    def start(self, *options: str) -> dict[str, Any]:
        path = os.pathsep.join(part for part in sys.path if part)
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), "--json", "--root", str(self.root), "--device", "cpu", *options],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "HOWDAH_HOME": str(self.home), "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.process.stdout.close()  # as Fiji does
        assert line, "the service did not start"
        said: dict[str, Any] = json.loads(line)
        return said

    def end(self, number: int = signal.SIGKILL) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(timeout=CRAMPED)
        return self.process.returncode


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Started]:
    made = Started(tmp_path)
    monkeypatch.setenv("HOWDAH_HOME", str(made.home))
    yield made
    if made.process is not None:
        made.process.kill()
        made.process.wait(timeout=CRAMPED)


def howdah(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["serve", *words])
    return done.exit_code, done.output


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate that a user made for another name than the one under which the service is asked here, with its key."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("needs the program openssl")
    folder = tmp_path_factory.mktemp("tls")
    for name, host in (("gpu", "DNS:gpu.example"), ("here", "IP:127.0.0.1")):
        command = [program, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=howdah"]
        files = ["-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.pem")]
        subprocess.run([*command, *files, "-addext", f"subjectAltName={host}"], check=True, capture_output=True)
    locked = [program, "pkey", "-in", str(folder / "gpu.key"), "-aes256", "-passout", "pass:x"]
    subprocess.run([*locked, "-out", str(folder / "locked.key")], check=True, capture_output=True)
    return folder


def test_a_kill_loses_nothing_and_every_client_gets_a_sentence(
    started: Started, certificate: Path, until: Callable[..., float]
) -> None:
    said = started.start("--token-file", _token(started))
    assert said["page"] == f"{said['url']}/login"  # a token that was given is not printed
    found = find()
    assert found is not None
    assert found.url == said["url"]
    code, text = howdah("--status", "--json")
    assert (code, json.loads(text)["state"]) == (0, "ready")
    code, text = howdah("--root", str(started.root))
    assert code == 2
    assert f"A service runs already at {said['url']} (process {found.pid})" in " ".join(text.split())

    sentences: list[str] = []

    def ask(number: int) -> None:
        with connect() as client:
            try:
                client.run("nap", {"seconds": 30, "steps": 3000})
            except HowdahError as error:
                sentences.append(str(error))

    clients = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in clients:
        thread.start()
    with connect() as client:
        upload = client.send_array(np.ones((3, 4), np.uint8), axes="YX")
        waiting = [client.submit("check", {"image": upload}, key=f"k{number}")["id"] for number in range(5)]
        until(lambda: len(client.jobs(limit=100)) == 11, CRAMPED)
        time.sleep(1.2)  # now all know the name of their job, and wait for it
    started.end()
    for thread in clients:
        thread.join(CRAMPED)
    assert len(sentences) == 6
    assert all("does not answer" in text and "goes on when the service runs again" in text for text in sentences), sentences

    assert (started.home / "service.json").exists()  # what a kill leaves
    assert find() is None
    assert howdah("--status")[0] == 2
    tls = certificate / "gpu.pem"
    said = started.start("--certificate", str(tls), "--key", str(certificate / "gpu.key"))
    assert said["url"].startswith("https://127.0.0.1:")
    with connect() as client:
        jobs = {job["id"]: job for job in client.jobs(limit=100)}
        assert len(jobs) == 11
        for job in jobs.values():
            if job["task"] == "nap":
                client.cancel(job["id"])
        done = [client.job(job_id, wait=30) for job_id in waiting]
        assert [(job["state"], job["result"]["sum"]) for job in done] == [("done", 12)] * 5
        assert client.submit("check", {"image": upload}, key="k0")["id"] == waiting[0]
    assert json.loads(howdah("--status", "--json")[1])["queued"] == 0
    with pytest.raises(ServiceError, match=r"could not be trusted, or speaks no TLS"):
        connect(said["url"], "x" * 16)
    with pytest.raises(ServiceError, match=r"could not be trusted, or speaks no TLS"):  # made for another name
        connect(said["url"], "x" * 16, certificate=tls)
    code, text = howdah("--stop")
    assert (code, "stopped" in text) == (0, True)
    assert started.process is not None
    assert started.process.wait(CRAMPED) == 0
    assert not (started.home / "service.json").exists()
    assert "no service was running" in howdah("--stop")[1]


def _token(started: Started) -> str:
    path = started.home / "token"
    path.write_text("a-token-for-the-tests-0123456789\n")
    path.chmod(0o600)
    return str(path)


def test_a_service_that_nobody_asks_ends_and_a_signal_ends_it_cleanly(started: Started) -> None:
    started.start("--idle", "0.01")
    found = find()
    assert found is not None
    with client_of(found) as client:
        job = client.submit("nap", {"seconds": 1.5, "steps": 3})
    assert started.process is not None
    assert started.process.wait(CRAMPED) == 0  # not before the job was over
    assert find() is None
    started.start()
    with connect() as client:
        assert client.job(job["id"])["state"] == "done"
        held = client.submit("nap", {"seconds": 30, "steps": 300})
        seen: list[str] = []
        with connect() as other:
            thread = threading.Thread(target=lambda: seen.append(other.job(held["id"], wait=30)["state"]))
            thread.start()
            client.health()
            assert started.end(signal.SIGTERM) == 0
            thread.join(CRAMPED)
        assert seen == ["running"]  # who waits is answered before the end


def test_tls_with_the_right_name_and_what_is_wrong_with_a_certificate(certificate: Path, tmp_path: Path) -> None:
    from howdah.service.backend import Backend
    from howdah.service.http import create_app
    from howdah.service.http_server import running

    token = "a-token-for-the-tests-0123456789"
    address = Address(certificate=certificate / "here.pem", key=certificate / "here.key")
    with (
        Backend(tmp_path / "state", roots=[tmp_path], devices=["cpu"]) as backend,
        running(lambda server: create_app(backend, token=token), address) as server,
    ):
        with connect(server.url, token, certificate=certificate / "here.pem") as client:
            image = np.arange(2_000_000, dtype=np.uint16).reshape(2, 1000, 1000)
            assert (client.array(client.send_array(image, axes="ZYX")).data == image).all()
        with pytest.raises(ServiceError, match="could not be trusted"):
            connect(server.url.replace("https", "https"), token)
        with pytest.raises(ServiceError, match="does not answer"):
            connect(server.url.replace("https", "http"), token)
        with pytest.raises(ServiceError, match="cannot be used"):
            Client(server.url, token, certificate=certificate / "here.key")
    with pytest.raises(ServiceError, match="has a password"):
        Server(Address(certificate=certificate / "gpu.pem", key=certificate / "locked.key"))
    with pytest.raises(ServiceError, match="TLS cannot be used"):
        Server(Address(certificate=certificate / "gpu.pem", key=certificate / "here.key"))
    with pytest.raises(ServiceError, match="there is no file"):
        Server(Address(certificate=certificate / "no.pem", key=certificate / "here.key"))


def test_everything_is_served_only_if_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOWDAH_HOME", str(tmp_path / "howdah"))
    monkeypatch.setenv("HOME", str(tmp_path / "users" / "me"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "users" / "me"))
    (tmp_path / "users" / "me").mkdir(parents=True)
    for folder in (Path(tmp_path.anchor), tmp_path / "users"):
        monkeypatch.chdir(folder)
        code, text = howdah()
        assert (code, "Shall clients read and write all of" in text) == (2, True), folder
    for words, sentence in [
        (["--host", "0.0.0.0", "--root", str(tmp_path)], "needs TLS"),
        (["--root", str(tmp_path / "nowhere")], "there is no such folder"),
        (["--root", str(tmp_path), "--certificate", str(tmp_path / "c.pem")], "both --certificate and --key"),
        (["--root", str(tmp_path), "--token-file", str(tmp_path / "t")], "Reading the token"),
    ]:
        code, text = howdah(*words)
        assert (code, sentence in " ".join(text.split())) == (2, True), text
    assert not (tmp_path / "howdah" / "service.json").exists()


def test_one_service_a_home_and_a_note_whose_process_number_was_given_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOWDAH_HOME", str(tmp_path))
    said = state.Running("http://127.0.0.1:1", "t", os.getpid(), "0", 1.0, "log")
    with state.claim_home():
        state.note(said)
        assert state.read_note() == said
        with pytest.raises(ServiceError, match=r"runs already at http://127\.0\.0\.1:1"), state.claim_home():
            pass
    assert state.read_note() is None  # this process lives, but it serves no more
    with state.claim_home():
        pass
