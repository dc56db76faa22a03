"""What the service refuses: wrong tokens, paths outside, files that name files outside, names as paths, floods, pickles, code."""

from __future__ import annotations

import http.client
import json
import os
import stat
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import h5py
import numpy as np
import pytest

from howdah.errors import ServiceError
from howdah.service.arrays import ArrayHeader, npy_offset
from howdah.service.backend import Backend
from howdah.service.http import create_app
from howdah.service.http_server import Address, Server, is_loopback, running
from howdah.service.roots import Roots, named_by
from howdah.service.security import Guard, Limits, Rate, Refused
from howdah.service.state import Running, forget, note, read_note
from howdah.service.tables import TableHeader, pack, unpack
from howdah.service.uploads import Uploads

TOKEN = "a-token-for-the-tests-0123456789"
SMALL = Limits(body=10_000, upload=1_000_000, wrong_tokens=3, per_second=0.0, burst=200, spare_disk=0)
BDV = """<SpimData version="0.2"><BasePath type="relative">.</BasePath><SequenceDescription><ImageLoader format="bdv.hdf5">
<hdf5 type="{kind}">{file}</hdf5></ImageLoader><ViewSetups><ViewSetup><id>0</id></ViewSetup></ViewSetups>
<Timepoints type="range"><first>0</first><last>0</last></Timepoints></SequenceDescription>
<ViewRegistrations></ViewRegistrations></SpimData>"""


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("security")
    (folder / "root").mkdir()
    (folder / "secret.h5").write_bytes(b"secret")
    with (
        Backend(folder / "state", roots=[folder / "root"]) as backend,
        running(lambda server: create_app(backend, token=TOKEN, limits=SMALL, hosts=("127.0.0.1",))) as server,
    ):
        yield folder, server


def ask(server, method, path, *, body=None, headers=None, token=TOKEN):
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
    try:
        said = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request(method, path, body=body, headers={**said, **(headers or {})})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def sentence(answer):
    return json.loads(answer[2])["error"]


# ---- the token -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/health", "/api/openapi.json", "/api/jobs", "/", "/tasks", "/nowhere"])
def test_nothing_is_said_without_the_token(served, path) -> None:
    status, headers, body = ask(served[1], "GET", path, token=None)
    assert status == 401
    assert headers["WWW-Authenticate"] == "Bearer"
    assert b"token" in body.lower()


def test_wrong_tokens_are_slowed_down_and_right_ones_still_pass(served) -> None:
    found = [ask(served[1], "GET", "/api/health", token="wrong")[0] for _ in range(8)]
    assert set(found) == {401, 429}
    assert ask(served[1], "GET", "/api/health")[0] == 200


def test_the_token_is_compared_in_constant_time(monkeypatch) -> None:
    seen = []
    monkeypatch.setattr("howdah.service.security.hmac.compare_digest", lambda a, b: seen.append((a, b)) or a == b)
    guard = Guard(TOKEN)
    assert guard.knows(TOKEN)
    assert not guard.admits("Bearer x", "")
    assert not guard.admits("", "howdah-1=2; broken")
    assert len(seen) == 3
    assert all(len(a) == len(b) == 32 for a, b in seen)  # hashes: their lengths tell nothing


@pytest.mark.parametrize("token", ["", "short", "with a space in the middle", "ümlaut-ümlaut-ümlaut"])
def test_a_weak_token_is_refused(token) -> None:
    with pytest.raises(ServiceError, match="at least 16 ASCII letters"):
        Guard(token)


def test_an_unknown_host_name_is_refused(served) -> None:
    status, _, body = ask(served[1], "GET", "/api/health", headers={"Host": "evil.example"})
    assert (status, b"not known under that name" in body) == (421, True)


# ---- paths ---------------------------------------------------------------------------------------------------------


def test_a_path_outside_the_roots_is_refused(served) -> None:
    folder, server = served
    (folder / "root" / "link.xml").symlink_to(folder / "secret.h5")
    for source in (str(folder / "secret.h5"), "../secret.h5", "link.xml", "/etc/passwd", "x\0y"):
        body = json.dumps({"task": "info", "parameters": {"source": source}})
        answer = ask(server, "POST", "/api/jobs", body=body, headers={"Content-Type": "application/json"})
        assert answer[0] in (400, 403), source
        assert any(word in sentence(answer) for word in ("outside", "zero byte")), sentence(answer)


@pytest.mark.parametrize("name", ["%2e%2e/%2e%2e/jobs.sqlite", "..%2fjobs.sqlite", "%2fetc%2fpasswd", "a//b", "..\\x"])
def test_a_file_of_a_job_is_never_a_way_out(served, name) -> None:
    job = json.dumps({"task": "formats", "parameters": {}})
    made = ask(served[1], "POST", "/api/jobs?wait=20", body=job, headers={"Content-Type": "application/json"})
    job_id = json.loads(made[2])["id"]
    assert ask(served[1], "GET", f"/api/jobs/{job_id}/files/{name}")[0] == 404


def test_links_are_followed_before_a_path_is_judged(tmp_path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (inside / "way").symlink_to(outside)
    (inside / "circle").symlink_to(inside / "circle")
    roots = Roots([inside])
    assert roots.holds(inside / "deep" / "new.tif")
    assert not roots.holds(inside / "way" / "x.tif")
    assert not roots.holds(inside / ".." / "out")
    with pytest.raises(ServiceError, match="leads outside the folders"):
        roots.place(Path("way/x.tif"))
    with pytest.raises(ServiceError, match="zero byte"):
        roots.place(Path("a\0b"))
    with pytest.raises(ServiceError, match="no such folder"):
        Roots([tmp_path / "nowhere"])


@pytest.mark.parametrize(("kind", "file"), [("absolute", "/etc/secret.h5"), ("relative", "../secret.h5")])
def test_an_xml_that_names_pixels_outside_is_refused(tmp_path, kind, file) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    (tmp_path / "secret.h5").write_bytes(b"x")
    (inside / "a.xml").write_text(BDV.format(kind=kind, file=file))
    with pytest.raises(ServiceError, match=r"secret\.h5'?, which lies outside"):
        Roots([inside]).check_source(inside / "a.xml")


def test_a_project_that_names_its_movie_outside_is_refused(tmp_path) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    with zipfile.ZipFile(inside / "p.mastodon", "w") as archive:
        archive.writestr(
            "project.xml", '<MamutProject><SpimDataFile type="absolute">/etc/movie.xml</SpimDataFile></MamutProject>'
        )
        archive.writestr("model.raw", b"")
    with pytest.raises(ServiceError, match=r"/etc/movie\.xml"):
        Roots([inside]).check_source(inside / "p.mastodon")
    (inside / "t.xml").write_text(
        '<TrackMate><Settings><ImageData filename="m.tif" folder="/etc"/></Settings></TrackMate>'
    )
    with pytest.raises(ServiceError, match=r"/etc/m\.tif"):
        Roots([inside]).check_source(inside / "t.xml")


def test_an_uploaded_hdf5_that_links_elsewhere_is_refused(tmp_path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "up" / "x").mkdir(parents=True)
    path = tmp_path / "up" / "x" / "file.h5"
    with h5py.File(path, "w") as file:
        file["deep/er"] = h5py.ExternalLink("/etc/other.h5", "/")
        file.create_dataset("raw", (4,), "u1", external=[("/etc/hostname", 0, 4)])
    assert {str(p) for p in named_by(path)} == {"/etc/other.h5", "/etc/hostname"}
    with pytest.raises(ServiceError, match=r"lies outside the folders"):
        Roots([tmp_path / "root", tmp_path / "up"], uploads=tmp_path / "up").check_source(path)


# ---- sizes and rates -----------------------------------------------------------------------------------------------


def test_large_requests_are_refused_before_they_are_read(served) -> None:
    server = served[1]
    kind = {"Content-Type": "application/json"}
    assert ask(server, "POST", "/api/jobs", body=b" " * 20_000, headers=kind)[0] == 413
    assert ask(server, "POST", "/api/jobs", body=iter([b" " * 9_000] * 3), headers=kind)[0] == 413  # chunked
    assert ask(server, "POST", "/api/files?name=a.xml", headers={"Content-Length": "2000000"})[0] == 413
    assert ask(server, "POST", "/api/files?name=a.xml", body=iter([b"x"]))[0] == 411
    header = {"X-Howdah-Array": '{"shape": [70000, 70000], "dtype": "<u2", "axes": "YX"}'}
    answer = ask(server, "POST", "/api/arrays", body=b"1234", headers=header)
    assert (answer[0], "its header says 9,800,000,000" in sentence(answer)) == (400, True)


def test_a_flood_is_slowed_down() -> None:
    rate = Rate(10, 5)
    assert [rate.allows("a", now=0.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert rate.allows("b", now=0.0)
    assert rate.allows("a", now=0.2)
    for number in range(10_000):
        rate.allows(f"address {number}", now=1.0)
    assert len(rate._buckets) <= 4096


def test_deep_and_odd_json_is_no_fault(served) -> None:
    kind = {"Content-Type": "application/json"}
    bodies = ["[" * 5000, "{", '"x"', "", '{"task": "info", "parameters": {"source": NaN}}', '{"task": "\\ud800"}',
              '{"task": "info", "parameters": {"source": 1e999}}', '{"task": "formats", "key": "../x"}']  # fmt: skip
    for body in bodies:
        status, _, answer = ask(served[1], "POST", "/api/jobs", body=body, headers=kind)
        assert 400 <= status < 500, body
        assert json.loads(answer)["error"]


# ---- names, pickles, code --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kept"),
    [("../../x.mastodon", "file.mastodon"), ("a.ome.tif", "file.ome.tif"), ("/etc/passwd", "file"), ("x.a/b", "file"),
     ("x.\0", "file"), ("", "file"), ("..", "file"), ("a." + "b" * 99, "file")],
)  # fmt: skip
def test_a_name_is_a_suffix_at_most(served, name, kept) -> None:
    from urllib.parse import quote

    folder, server = served
    answer = ask(server, "POST", f"/api/files?name={quote(name)}", body=b"hello")
    upload = json.loads(answer[2])["file"].removeprefix("upload:")
    found = sorted(path.name for path in (folder / "state" / "uploads" / upload).iterdir())
    assert found == [kept, "upload.json"]


def test_pickles_are_never_read(tmp_path) -> None:
    np.save(tmp_path / "evil.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ServiceError, match="Reading the result"):
        npy_offset(tmp_path / "evil.npy")
    with pytest.raises(ServiceError, match="'dtype' must be one of"):
        ArrayHeader.parse('{"shape": [2, 2], "dtype": "|O", "axes": "YX"}')
    with pytest.raises(ServiceError, match="a short name and a type"):
        TableHeader.parse('{"rows": 1, "columns": [["a", "|O"]]}')


def test_no_request_reaches_code() -> None:
    """Nothing in the HTTP side evaluates, imports by name or unpickles."""
    import ast

    import howdah.service

    folder = Path(howdah.service.__file__).parent
    ours = [*folder.glob("http*.py"), *folder.glob("page/*.py")]
    ours += [folder / f"{name}.py" for name in ("uploads", "roots", "arrays", "tables")]
    nodes = [node for path in ours for node in ast.walk(ast.parse(path.read_text()))]
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    assert len(ours) >= 12
    assert not names & {"eval", "exec", "compile", "__import__"}
    assert not imported & {"pickle", "importlib", "subprocess", "marshal", "shelve"}


# ---- headers of arrays and tables ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (None, "is missing"),
        ("[]", "no JSON object"),
        ("{", "no JSON object"),
        ('{"shape": [2, 2], "dtype": "<u2"}', "lacks axes"),
        ('{"shape": [2, 2], "dtype": "<u2", "axes": "YX", "x": 1}', "unknown key 'x'"),
        ('{"shape": [2, 0], "dtype": "<u2", "axes": "YX"}', "'shape' must be"),
        ('{"shape": [2, true], "dtype": "<u2", "axes": "YX"}', "'shape' must be"),
        ('{"shape": [2, 2], "dtype": ">u2", "axes": "YX"}', "'dtype' must be one of"),
        ('{"shape": [2, 2], "dtype": "<u2", "axes": "XY"}', "'axes' must have"),
        ('{"shape": [2, 2, 2], "dtype": "<u2", "axes": "YX"}', "'axes' must have"),
        ('{"shape": [2, 2], "dtype": "<u2", "axes": "YX", "unit": "furlong"}', "no unit of length 'furlong'"),
        ('{"shape": [2, 2], "dtype": "<u2", "axes": "YX", "voxel_size": [1, 0, 1]}', "positive number"),
        ('{"shape": [2, 2], "dtype": "<u2", "axes": "YX", "interval_s": "x"}', "'interval_s' must be"),
        ('{"shape": [9999999, 2, 2], "dtype": "<u2", "axes": "TYX"}', "planes; at most"),
    ],
)  # fmt: skip
def test_a_wrong_array_header_is_a_sentence(text, match) -> None:
    with pytest.raises(ServiceError, match=match):
        ArrayHeader.parse(text)


def test_tables_come_back_as_they_went() -> None:
    table = {"t": np.arange(5, dtype=">i4"), "z": np.linspace(0, 1, 5), "ok": np.array([True, False] * 2 + [True])}
    header, data = pack(table)
    back = unpack(TableHeader.parse(header.to_text()), data)
    assert header.to_text() == '{"rows": 5, "columns": [["t", "<i4"], ["z", "<f8"], ["ok", "|u1"]]}'
    assert all((back[name] == table[name]).all() for name in table)
    with pytest.raises(ServiceError, match=r"has 9 bytes; its header says 65"):
        unpack(header, b"123456789")


# ---- the note, the address -------------------------------------------------------------------------------------------


def test_the_note_is_private_and_a_stale_one_is_known(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOWDAH_HOME", str(tmp_path / "home"))
    assert read_note() is None
    said = Running("http://127.0.0.1:1", TOKEN, os.getpid(), "0", 1.0, "log")
    path = note(said)
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_note() == said
    forget(os.getpid() + 1)
    assert path.exists()
    forget(os.getpid())
    assert not path.exists()
    note(Running("http://127.0.0.1:1", TOKEN, 2**22 + 12345, "0", 1.0, "log"))
    assert read_note() is None
    path.write_text("{broken")
    assert read_note() is None


def test_addresses(tmp_path) -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "gpu.example")] == [True] * 3 + [
        False
    ] * 2
    with pytest.raises(ServiceError, match="both --certificate and --key"):
        Server(Address(certificate=tmp_path / "c.pem"))
    with pytest.raises(ServiceError, match="Choose another --host"):
        Server(Address(host="no-such-host.invalid"))


def test_what_was_half_written_goes(tmp_path) -> None:
    (tmp_path / ".0123.part").mkdir()
    uploads = Uploads(tmp_path, Limits())
    assert not list(tmp_path.iterdir())
    with pytest.raises(Refused, match="no upload"):
        uploads.find("../../etc")
