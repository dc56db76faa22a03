"""Files of weights come whole, or not at all."""

import hashlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from howdah.errors import WeightsError
from howdah.nn.download import cache_folder, download, sha256_of

CONTENT = bytes(range(256)) * 4096  # 1 MiB
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """A server that can misbehave; it notes what it was asked for."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.cut_after = []  # bytes that the next answers send before the connection breaks
        self.refuse = []  # codes of the next answers
        self.ranges = True
        self.asked = []

    def address(self, name="weights.pth"):
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        wanted = self.headers.get("Range")
        server.asked.append(wanted)
        if server.refuse:
            return self.send_error(server.refuse.pop(0))
        if self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("Location", "ftp://example.org/weights.pth")
            self.end_headers()
            return None
        if self.path != "/weights.pth":
            return self.send_error(404)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and server.ranges else 0
        if start >= len(server.content):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        body = server.content[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.cut_after.pop(0)] if server.cut_after else body)
        return None

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def fetch(address, target, sha256=DIGEST, **options):
    steps = download(address, target, sha256=sha256, pause_s=0.001, timeout_s=5, **options)
    seen = []
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as end:
            return end.value, seen


def test_a_file_comes_with_progress_and_only_once(server, tmp_path):
    target = tmp_path / "new" / "folder" / "weights.pth"
    path, seen = fetch(server.address(), target, DIGEST[:8])
    assert path == target
    assert target.read_bytes() == CONTENT
    assert (seen[-1].stage, seen[-1].done, seen[-1].total) == ("download", 1, 1)
    assert fetch(server.address(), target) == (target, [])
    assert server.asked == [None]
    assert [p.name for p in target.parent.iterdir()] == ["weights.pth"]


def test_a_cut_connection_is_resumed_where_it_broke(server, tmp_path):
    server.cut_after = [300_000, 100_000, 0]
    path, _ = fetch(server.address(), tmp_path / "weights.pth")
    assert path.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=400000-", "bytes=400000-"]


def test_the_next_call_goes_on_where_the_last_one_gave_up(server, tmp_path):
    server.cut_after = [300_000, 0, 0]
    with pytest.raises(WeightsError, match=r"failed after 3 tries.* 300000 bytes came and are kept"):
        fetch(server.address(), tmp_path / "weights.pth", tries=3)
    assert [p.name for p in tmp_path.iterdir()] == ["weights.pth.part"]
    server.asked.clear()
    path, _ = fetch(server.address(), tmp_path / "weights.pth")
    assert path.read_bytes() == CONTENT
    assert server.asked == ["bytes=300000-"]


def test_closing_keeps_what_came(server, tmp_path):
    steps = download(server.address(), tmp_path / "weights.pth", sha256=DIGEST)
    next(steps)
    steps.close()
    assert not (tmp_path / "weights.pth").exists()
    assert 0 < (tmp_path / "weights.pth.part").stat().st_size < len(CONTENT)


def test_a_server_without_ranges_sends_all_again(server, tmp_path):
    (tmp_path / "weights.pth.part").write_bytes(CONTENT[:1000])
    server.ranges = False
    path, _ = fetch(server.address(), tmp_path / "weights.pth")
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("part", [b"older half", CONTENT, CONTENT + b"more"], ids=["changed", "whole", "too long"])
def test_a_part_of_another_file_is_replaced(server, tmp_path, part):
    (tmp_path / "weights.pth.part").write_bytes(part)
    path, _ = fetch(server.address(), tmp_path / "weights.pth")
    assert path.read_bytes() == CONTENT


def test_another_checksum_is_refused_and_leaves_nothing(server, tmp_path):
    with pytest.raises(WeightsError, match=r"1048576 bytes\) has the SHA-256 .* expected 00000000"):
        fetch(server.address(), tmp_path / "weights.pth", "00000000")
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_that_stands_there_is_fetched_anew(server, tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"damaged")
    path, _ = fetch(server.address(), tmp_path / "weights.pth")
    assert path.read_bytes() == CONTENT


def test_a_busy_server_is_asked_again_but_a_missing_file_is_not(server, tmp_path):
    server.refuse = [503, 429]
    fetch(server.address(), tmp_path / "weights.pth")
    assert len(server.asked) == 3
    with pytest.raises(WeightsError, match="the server answered 404"):
        fetch(server.address("other.pth"), tmp_path / "other.pth")
    assert len(server.asked) == 4


def test_nobody_listens(tmp_path):
    began = time.monotonic()
    with pytest.raises(WeightsError, match="failed after 2 tries"):
        fetch("http://127.0.0.1:9/weights.pth", tmp_path / "weights.pth", tries=2)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("address", ["file:///etc/hostname", "ftp://example.org/x", "weights.pth"])
def test_only_web_addresses(tmp_path, address):
    with pytest.raises(WeightsError, match="neither https nor http"):
        fetch(address, tmp_path / "weights.pth")


def test_a_server_cannot_send_us_anywhere_else(server, tmp_path):
    with pytest.raises(WeightsError, match="sent us on to ftp:"):
        fetch(server.address("elsewhere"), tmp_path / "weights.pth")


def test_the_cache_is_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.setenv("HOWDAH_WEIGHTS", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("HOWDAH_WEIGHTS")
    assert cache_folder().parts[-2:] == ("howdah", "weights")


def test_sha256(tmp_path):
    (tmp_path / "x").write_bytes(CONTENT)
    assert sha256_of(tmp_path / "x") == DIGEST
