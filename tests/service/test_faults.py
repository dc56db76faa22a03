"""What breaks between a client and a real server, and what a client may send that it must not: one test a finding."""

from __future__ import annotations

import http.client
import json
import os
import socket
import struct
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from bdv_io.formats import write_image, write_tracks
from bdv_io.image import ArrayImage
from bdv_io.tracks import Tracks
from howdah.errors import DataError, ServiceError
from howdah.service.backend import Backend
from howdah.service.client import Client
from howdah.service.http import create_app
from howdah.service.http_server import Server, running
from howdah.service.roots import Roots
from howdah.service.security import Guard, Limits

TOKEN = "a-token-for-the-tests-0123456789"
LIMITS = Limits(silence_s=0.5, spare_disk=0, queued=40, keep_uploads_s=100)


class Cut:
    """A network between a client and a server that is cut after some bytes: ``"reset"`` or silently."""

    def __init__(self, port: int, after: int, how: str) -> None:
        self._to, self._after, self._how = port, after, how
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()
        self.healed = threading.Event()

    def _carry(self) -> None:
        near, _ = self._listening.accept()
        far = socket.create_connection(("127.0.0.1", self._to))
        seen = 0
        while seen < self._after and (data := near.recv(65_536)):
            far.sendall(data)
            seen += len(data)
        if self._how == "reset":
            for end in (near, far):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            self.healed.wait(10)
        for end in (near, far):
            end.close()

    def close(self) -> None:
        self.healed.set()
        self._thread.join(10)
        self._listening.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, misbehaving: None) -> Iterator[tuple[Server, Backend, Any, Path]]:
    folder = tmp_path_factory.mktemp("faults")
    (folder / "root").mkdir()
    (folder / "outside").mkdir()
    write_image(folder / "outside" / "secret.ome.tif", ArrayImage(np.ones((1, 2, 8, 8), np.uint8)))
    with (
        Backend(folder / "state", roots=[folder / "root"], devices=["cpu"], quick=1) as backend,
        running(lambda server: create_app(backend, token=TOKEN, limits=LIMITS, hosts=("127.0.0.1",))) as server,
    ):
        service = server._service
        yield server, backend, service, folder


@pytest.fixture
def client(served: Any) -> Iterator[Client]:
    with Client(served[0].url, TOKEN, timeout=60) as made:
        yield made


def ask(served: Any, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", served[0].port, timeout=20)
    try:
        connection.request(method, path, body=body, headers={name.replace("_", "-"): v for name, v in headers.items()})
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text[:1] in (b"{", b"[") else text
    finally:
        connection.close()


# ---- the network -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["reset", "silent"])
def test_a_network_cut_in_the_middle_of_an_upload(served: Any, how: str, until: Callable[..., float]) -> None:
    server, backend, _, _ = served
    cut = Cut(server.port, 3_000_000, how)
    before = set(os.listdir(backend.uploads))
    timeout = 60 if how == "reset" else 1.0
    with (
        Client(f"http://127.0.0.1:{cut.port}", TOKEN, timeout=timeout) as client,
        pytest.raises(ServiceError, match=r"does not answer \(.*(cut|reset|too long)"),
    ):
        client.send_array(np.zeros((20, 1024, 1024), np.uint8), axes="ZYX")
    until(lambda: set(os.listdir(backend.uploads)) == before, 10)  # nothing half-written stays
    cut.close()
    with Client(server.url, TOKEN) as client:
        assert client.send_array(np.zeros((8, 8), np.uint8), axes="YX")


def test_a_request_that_stops_half_way_is_ended_with_a_sentence(served: Any) -> None:
    with socket.create_connection(("127.0.0.1", served[0].port), timeout=20) as sock:
        head = f"POST /api/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n"
        sock.sendall(f'{head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{"task"'.encode())
        answer = http.client.HTTPResponse(sock)
        answer.begin()
        assert (answer.status, b"No byte of the request came" in answer.read()) == (408, True)


def test_a_full_disk_and_a_full_gpu_are_sentences_over_http(client: Client, served: Any) -> None:
    with pytest.raises(DataError, match=r"memory of the GPU is full.*smaller batch_size"):
        client.run("memory", {})
    noise = np.random.default_rng(0).integers(0, 65535, (64, 128, 128), dtype=np.uint16)
    with pytest.raises(DataError, match=r"(?i)large|full"):
        client.run("full", {"source": client.send_array(noise, axes="ZYX")})
    assert client.run("formats", {})["state"] == "done"


# ---- what is kept ----------------------------------------------------------------------------------------------------


def test_an_image_of_a_result_goes_into_a_task_that_takes_files(client: Client) -> None:
    image = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
    first = client.run("check", {"image": client.send_array(image, axes="TYX", voxel_size=[1, 0.5, 0.5], unit="µm")})
    name = first["result"]["image"]["array"]
    about = client.run("info", {"source": name})["result"]
    assert "2" in json.dumps(about)
    client.run("convert", {"source": name, "out": "back.tif"})
    again = client.run("check", {"image": "back.tif"})["result"]
    assert (again["sum"], again["voxel_size"][1:]) == (int((23 - image).sum()), [0.5, 0.5])


def test_uploads_stay_as_long_as_a_job_needs_them(client: Client, served: Any) -> None:
    _, backend, service, _ = served
    nap = client.submit("nap", {"seconds": 30, "steps": 300})
    used = client.send_array(np.ones((2, 2), np.uint8), axes="YX")
    idle = client.send_array(np.ones((2, 2), np.uint8), axes="YX")
    job = client.submit("check", {"image": used})
    for name in (used, idle):
        os.utime(backend.uploads / name.partition(":")[2], (1, 1))
    status, said = ask(served, "DELETE", f"/api/uploads/{used[7:]}", Authorization=f"Bearer {TOKEN}")
    assert (status, "needs the upload" in said["error"]) == (409, True)
    service.tidy()
    left = set(os.listdir(backend.uploads))
    assert used[7:] in left
    assert idle[7:] not in left
    client.cancel(nap["id"])
    assert client.job(job["id"], wait=30)["result"]["sum"] == 4
    assert ask(served, "DELETE", f"/api/uploads/{used[7:]}", Authorization=f"Bearer {TOKEN}")[0] == 204


def test_old_jobs_go_with_their_folders(client: Client, served: Any) -> None:
    _, backend, _, _ = served
    old = client.run("check", {"image": client.send_array(np.ones((2, 2), np.uint8), axes="YX")})
    folder = backend.job(old["id"]).folder
    assert folder.is_dir()
    running = client.submit("nap", {"seconds": 30, "steps": 300})
    assert backend.forget_old(3600) == 0
    time.sleep(0.01)
    assert backend.forget_old(0) >= 1
    assert not folder.exists()
    assert client.job(running["id"])["state"] in ("queued", "running")
    client.cancel(running["id"])


def test_the_queue_has_an_end(client: Client) -> None:
    jobs = [client.submit("nap", {"seconds": 30, "steps": 300})["id"]]
    with pytest.raises(ServiceError, match="40 jobs are waiting already"):
        for _ in range(42):
            jobs.append(client.submit("nap", {"seconds": 30})["id"])
    assert 40 <= len(jobs) <= 41
    for job in jobs[::-1]:
        client.cancel(job)
    assert client.run("formats", {})["state"] == "done"


# ---- what a client must not ------------------------------------------------------------------------------------------


def test_the_cookie_lets_look_and_never_starts_anything(served: Any) -> None:
    guard = Guard(TOKEN)
    cookie = f"{guard.cookie}={guard.session}"
    assert ask(served, "GET", "/api/jobs", Cookie=cookie)[0] == 200
    body = json.dumps({"task": "formats"})
    for path in ("/api/jobs", "/api/shutdown", "/api/tables", "/api/files?name=a.tif"):
        status, said = ask(served, "POST", path, body, Cookie=cookie, Content_Type="application/json")
        assert (status, "send 'Authorization: Bearer TOKEN'" in said["error"]) == (403, True), path
    for host in ("evil.example", "127.0.0.1.evil.example", "evil.example:80", "[::1", ""):
        assert ask(served, "GET", "/api/health", Host=host, Authorization=f"Bearer {TOKEN}")[0] == 421, host


def test_json_in_json_without_end_is_refused_and_spoils_no_list(client: Client) -> None:
    deep: Any = []
    for _ in range(400):
        deep = {"x": deep}
    with pytest.raises(ServiceError, match="deeper than 20"):
        client.submit("batch", {"task": "info", "inputs": ["."], "parameters": deep})
    assert isinstance(client.jobs(), list)


BDV = """<SpimData version="0.2"><BasePath type="relative">.</BasePath><SequenceDescription><ImageLoader format="bdv.hdf5">
<hdf5 type="absolute">{file}</hdf5></ImageLoader><ViewSetups><ViewSetup><id>0</id></ViewSetup></ViewSetups>
<Timepoints type="range"><first>0</first><last>0</last></Timepoints></SequenceDescription>
<ViewRegistrations></ViewRegistrations></SpimData>"""


def test_what_is_two_files_at_once_does_not_pass_as_the_harmless_one(tmp_path: Path) -> None:
    """XML in UTF-16 may hold the mark of a zip's end in a comment, in letters that XML allows."""
    text = BDV.format(file="/etc/movie.h5").encode("utf-16-le")
    mark = b"PK\x05\x06" + b"aa" * 9
    trick = tmp_path / "both.xml"
    trick.write_bytes(b"\xff\xfe" + text + "<!--".encode("utf-16-le") + mark + "-->".encode("utf-16-le"))
    assert zipfile.is_zipfile(trick)
    with pytest.raises(ServiceError, match=r"/etc/movie\.h5"):
        Roots([tmp_path]).check_source(trick)


def test_a_movie_that_an_annotation_names_is_held_against_the_roots_where_it_is_opened(
    client: Client, served: Any
) -> None:
    _, _, _, folder = served
    (folder / "root" / "many").mkdir()
    (folder / "root" / "many" / "a.xml").write_text(BDV.format(file=folder / "outside" / "secret.h5"))
    job = client.run("batch", {"task": "info", "inputs": ["many"], "out": "results"})
    assert job["result"]["failed"] == 1
    assert "lies outside the folders" in job["result"]["failures"][0]["error"]

    movie = folder / "outside" / "secret.ome.tif"
    write_tracks(folder / "root" / "b.mastodon", Tracks.build([0], [[0.0, 4, 4]], radius=2.0, attributes={}))
    sequence = folder / "outside" / "01"
    sequence.mkdir()
    movie.rename(sequence / "t000.tif")
    (folder / "root" / "01").symlink_to(sequence)  # only who has the disk makes such a link; a file still must not lead through it
    with pytest.raises(ServiceError, match="outside"):
        client.run("info", {"source": "01"})


def test_a_file_that_changes_between_the_check_and_the_run(client: Client, served: Any) -> None:
    _, _, _, folder = served
    path = folder / "root" / "swapped.xml"
    inside = folder / "root" / "inside.h5"
    with h5py.File(inside, "w"):
        pass
    path.write_text(BDV.format(file=inside))
    nap = client.submit("nap", {"seconds": 30, "steps": 300})
    job = client.submit("info", {"source": "swapped.xml"})
    path.write_text(BDV.format(file=folder / "outside" / "secret.h5"))
    client.cancel(nap["id"])
    ended = client.job(job["id"], wait=30)
    assert ended["state"] == "failed"
    assert "lies outside the folders" in ended["error"]


def test_an_uploaded_hdf5_that_links_elsewhere_is_refused_by_the_worker(client: Client, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["t00000"] = h5py.ExternalLink("/etc/other.h5", "/")
    with pytest.raises(DataError, match=r"names '/etc/other\.h5', which lies outside"):
        client.run("info", {"source": client.send_file(tmp_path / "f.h5")})


def test_a_setting_that_names_a_file_is_held_against_the_roots(client: Client) -> None:
    told = {"source": "a.tif", "settings": {"efficientcellseg": {"encoder_weights": "/etc"}}}
    with pytest.raises(ServiceError, match=r"'efficientcellseg\.encoder_weights' is /etc, which lies outside"):
        client.submit("efficientcellseg.train", told)


def test_an_archive_is_never_unpacked(client: Client, served: Any, tmp_path: Path) -> None:
    _, backend, _, folder = served
    with zipfile.ZipFile(tmp_path / "slip.mastodon", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../../slipped", "x")
        archive.writestr("project.xml", b"<a>" + b" " * (80 << 20) + b"</a>")
        archive.writestr("model.raw", b"x")
    with pytest.raises(DataError, match=r"."):
        client.run("info", {"source": client.send_file(tmp_path / "slip.mastodon")})
    assert not list(folder.rglob("slipped"))
    assert not list(backend.folder.rglob("slipped"))
