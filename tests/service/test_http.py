"""The service as a client sees it: jobs, images, tables, files, parts of files, and what happens when something breaks."""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import numpy as np
import pytest

from howdah.errors import Cancelled, DataError, ServiceError
from howdah.service.backend import Backend
from howdah.service.client import Client, connect
from howdah.service.http import create_app
from howdah.service.http_server import running
from howdah.service.parameters import Image
from howdah.service.security import Limits

TOKEN = "a-token-for-the-tests-0123456789"


class Served:
    def __init__(self, folder, backend, server) -> None:
        self.folder, self.backend, self.server, self.url = folder, backend, server, server.url
        self.host, self.port = urlsplit(server.url).hostname, server.port
        self.uploads = folder / "state" / "uploads"

    def client(self) -> Client:
        return Client(self.url, TOKEN, timeout=60)

    def begin(self, request: str) -> socket.socket:
        """Send the beginning of a request."""
        sock = socket.create_connection((self.host, self.port), timeout=20)
        head = f"{request}\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        sock.sendall(head.encode())
        return sock

    def left(self) -> list[str]:
        """Names of half-written uploads, once the service had time to remove them."""
        until = time.monotonic() + 5
        while (
            names := [p.name for p in self.uploads.iterdir() if p.name.startswith(".")]
        ) and time.monotonic() < until:
            time.sleep(0.01)
        return names


@pytest.fixture(scope="module")
def served(tmp_path_factory, misbehaving):
    folder = tmp_path_factory.mktemp("http")
    (folder / "root").mkdir()
    limits = Limits(silence_s=0.5, spare_disk=0)
    with Backend(folder / "state", roots=[folder / "root"], devices=["cpu"]) as backend:
        backend.warm_up()
        with running(lambda server: create_app(backend, token=TOKEN, limits=limits, stop=server.stop)) as server:
            yield Served(folder, backend, server)


@pytest.fixture
def client(served):
    with served.client() as made:
        yield made


# ---- jobs ------------------------------------------------------------------------------------------------------------


def test_the_tasks_are_those_of_the_table(client) -> None:
    tasks = {task["name"]: task for task in client.tasks()}
    assert {"check", "info", "track", "link.table"} <= set(tasks)
    schema = client.task("track")["parameters"]
    assert schema["properties"]["source"]["role"] == "read"
    with pytest.raises(ServiceError, match=r"There is no task 'nothing'"):
        client.task("nothing")


def test_an_image_goes_there_and_comes_back(client) -> None:
    image = Image(np.arange(3 * 4 * 5, dtype=np.uint16).reshape(3, 4, 5), "TYX", (2.0, 0.5, 0.5), "µm", 30.0)
    name = client.send_array(image)
    back = client.array(name)
    assert (back.axes, back.voxel_size, back.unit, back.interval) == ("TYX", (2.0, 0.5, 0.5), "µm", 30.0)
    assert (back.data == image.data).all()
    job = client.run("check", {"image": name})
    result = client.array(job["result"]["image"]["array"])
    assert (result.axes, result.unit, result.interval) == ("TYX", "µm", 30.0)
    assert (result.data == image.data.max() - image.data).all()
    again = client.run("check", {"image": job["result"]["image"]["array"]})
    assert again["result"]["sum"] == int(result.data.sum())


@pytest.mark.parametrize("dtype", ["u1", "i1", "<i2", "<u4", "<f4", ">f8", "?"])
def test_every_type_of_voxel_is_kept(client, dtype) -> None:
    data = np.arange(12).reshape(3, 4).astype(dtype)
    back = client.array(client.send_array(data, axes="YX")).data
    assert (back == data).all()


def test_a_table_goes_there_and_comes_back(client) -> None:
    table = {
        "t": np.repeat(np.arange(3, dtype=np.int32), 2),
        "z": np.zeros(6),
        "y": np.tile([0.0, 9.0], 3),
        "x": np.zeros(6),
    }
    name = client.send_table(table)
    assert all((client.table(name)[key] == column).all() for key, column in table.items())
    job = client.run("link.table", {"table": name})
    links = client.table(next(v["table"] for v in job["result"].values() if isinstance(v, dict) and "table" in v))
    assert sorted(zip(*(column.tolist() for column in links.values()), strict=True)) == [(0, 2), (1, 3), (2, 4), (3, 5)]


def test_files_and_their_parts(client, served, tmp_path) -> None:
    content = os.urandom(100_000)
    (tmp_path / "a.tif").write_bytes(content)
    assert client.send_file(tmp_path / "a.tif").startswith("upload:")
    job = client.run("check", {"image": client.send_array(np.zeros((64, 64), np.uint8), axes="YX")})
    (file,) = [f for f in client.files(job["id"]) if f["name"].endswith(".npy")]
    whole = client.save_file(job["id"], file["name"], tmp_path / "b").read_bytes()
    assert len(whole) == file["bytes"]
    connection = http.client.HTTPConnection(served.host, served.port, timeout=20)
    for asked, wanted, status in [
        ("bytes=0-9", whole[:10], 206), ("bytes=100-", whole[100:], 206), ("bytes=-7", whole[-7:], 206),
        ("bytes=10-99999999", whole[10:], 206), ("bytes=1-2,5-6", whole, 200), ("lines=1", whole, 200),
        ("bytes=99999999-", None, 416), ("bytes=9-3", None, 416),
    ]:  # fmt: skip
        connection.request(
            "GET",
            f"/api/jobs/{job['id']}/files/{file['name']}",
            headers={"Authorization": f"Bearer {TOKEN}", "Range": asked},
        )
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == status, asked
        assert wanted is None or body == wanted
    connection.close()


def test_a_chunk_of_an_ome_zarr_result(client, served) -> None:
    from bdv_io.formats import write_image
    from bdv_io.image import ArrayImage

    write_image(served.folder / "root" / "m.tif", ArrayImage(np.zeros((1, 2, 8, 8), np.uint8)))
    job = client.run("convert", {"source": "m.tif", "out": "z.ome.zarr"})
    folder = served.backend.job(job["id"]).folder
    folder.mkdir(exist_ok=True)
    (served.folder / "root" / "z.ome.zarr").rename(folder / "z.ome.zarr")
    names = [file["name"] for file in client.files(job["id"])]
    assert all(name.startswith("z.ome.zarr/") for name in names)
    path = client.save_file(job["id"], names[-1], served.folder / "chunk")
    assert path.stat().st_size == (folder / names[-1]).stat().st_size


def test_a_key_makes_one_job_of_two_requests(client) -> None:
    first = client.submit("formats", {}, key="once")
    assert client.submit("formats", {}, key="once")["id"] == first["id"]
    assert client.submit("formats", {}, key="twice")["id"] != first["id"]


def test_progress_lines_curves_cancel_and_delete(client) -> None:
    job = client.submit("nap", {"seconds": 30, "steps": 300})
    assert client.cancel(job["id"])["state"] == "cancelled"
    assert isinstance(client.lines(job["id"]), list)
    assert isinstance(client.curves(job["id"]), dict)
    client.delete(job["id"])
    with pytest.raises(ServiceError, match="There is no job"):
        client.job(job["id"])


def test_errors_are_sentences(client) -> None:
    with pytest.raises(ServiceError, match=r"whatt.*Did you mean 'what'"):
        client.run("check", {"image": "x.tif", "whatt": "inverse"})
    with pytest.raises(ServiceError, match="no upload"):
        client.run("check", {"image": "upload:0123456789abcdef"})
    with pytest.raises(DataError, match=r"failed|none of the known"):
        client.run("check", {"image": client.send_table({"a": np.zeros(2)})})
    with pytest.raises(ServiceError, match="'axes' must have"):
        client.send_array(np.zeros((2, 3)), axes="XY")


# ---- many at once ----------------------------------------------------------------------------------------------------


def test_32_clients_at_once(served) -> None:
    def one(number: int) -> bool:
        with served.client() as client:
            data = np.full((4, 5), number, np.uint16)
            job = client.run("check", {"image": client.send_array(data, axes="YX")})
            return bool(job["result"]["sum"] == number * 20)

    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(one, range(32)))


def test_a_held_answer_does_not_hold_others_back(served) -> None:
    with served.client() as client:
        job = client.submit("nap", {"seconds": 30, "steps": 300})

        def hold() -> None:
            with served.client() as other:
                other.job(job["id"], wait=30)

        holders = [threading.Thread(target=hold) for _ in range(60)]
        for holder in holders:
            holder.start()
        start = time.perf_counter()
        for _ in range(20):
            client.health()
        assert time.perf_counter() - start < 2
        client.cancel(job["id"])
        for holder in holders:
            holder.join(30)
        assert not any(holder.is_alive() for holder in holders)


# ---- what breaks -------------------------------------------------------------------------------------------------------


def test_a_client_that_goes_away_leaves_nothing(served) -> None:
    header = 'X-Howdah-Array: {"shape": [1000, 1000], "dtype": "<u2", "axes": "YX"}'
    sock = served.begin(f"POST /api/arrays HTTP/1.1\r\nContent-Length: 2000000\r\n{header}")
    sock.sendall(b"x" * 300_000)
    time.sleep(0.05)
    sock.close()
    assert served.left() == []
    with served.client() as client:
        assert client.health()["state"] == "ready"


def test_a_silent_client_gets_a_sentence(served) -> None:
    sock = served.begin("POST /api/files?name=a.tif HTTP/1.1\r\nContent-Length: 1000")
    sock.sendall(b"x" * 10)
    answer = http.client.HTTPResponse(sock)
    answer.begin()
    assert (answer.status, "No byte came for 0.5 s" in json.loads(answer.read())["error"]) == (408, True)
    sock.close()
    assert served.left() == []


def test_too_few_bytes_are_no_upload(served) -> None:
    sock = served.begin("POST /api/files?name=a.tif HTTP/1.1\r\nContent-Length: 1000")
    sock.sendall(b"x" * 10)
    sock.shutdown(socket.SHUT_WR)
    sock.close()
    assert served.left() == []


def test_a_full_disk_is_a_sentence(served) -> None:
    """No file of this process may grow beyond a megabyte: what a full disk looks like to it."""
    resource = pytest.importorskip("resource", reason="needs limits on the size of files, which Windows lacks")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with served.client() as client:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
        try:
            with pytest.raises(ServiceError, match=r"disk of the service is full"):
                client.send_array(np.zeros((2000, 2000), np.uint16), axes="YX")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert served.left() == []
        assert client.send_array(np.zeros((2000, 2000), np.uint16), axes="YX")


def test_no_room_is_said_before_the_first_byte(served, monkeypatch) -> None:
    import shutil

    usage = shutil.disk_usage(served.folder)
    monkeypatch.setattr("howdah.service.uploads.shutil.disk_usage", lambda path: usage._replace(free=1000))
    with served.client() as client, pytest.raises(ServiceError, match=r"no room for 8,000,000 bytes: 1,000 are free"):
        client.send_array(np.zeros((2000, 2000), np.uint16), axes="YX")


def test_a_service_that_ends_is_a_sentence(tmp_path, monkeypatch) -> None:
    with Backend(tmp_path / "state", roots=[tmp_path], devices=["cpu"]) as backend:
        with running(lambda server: create_app(backend, token=TOKEN, stop=server.stop)) as server:
            client = Client(server.url, TOKEN, timeout=10)
            client.shutdown()
        with pytest.raises(ServiceError, match=r"does not answer .* howdah serve --status"):
            client.health()
        client.close()
    monkeypatch.setenv("HOWDAH_HOME", str(tmp_path))
    with pytest.raises(ServiceError, match="No Howdah service runs on this computer"):
        connect()


def test_a_job_can_be_stopped_by_its_time(client) -> None:
    with pytest.raises(Cancelled, match=r"took more than 0\.2 s"):
        client.run("nap", {"seconds": 30, "steps": 300}, timeout=0.2, show=lambda job: None)
