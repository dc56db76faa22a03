"""The web page: what it shows, that nothing foreign runs in it, and that no other site can press its buttons."""

from __future__ import annotations

import http.client
import re
import shutil
import time
from urllib.parse import urlencode, urlsplit

import imagecodecs
import numpy as np
import pytest

from bdv_io import Tracks
from bdv_io.formats import write_image, write_tracks
from bdv_io.image import ArrayImage
from howdah.service.backend import Backend
from howdah.service.client import Client
from howdah.service.http import create_app
from howdah.service.http_server import running
from howdah.service.page.curves import plots
from howdah.service.page.slices import ellipses

TOKEN = "a-token-for-the-tests-0123456789"


def movie(folder) -> None:
    """Three frames of twelve blobs that move, and the annotation of them."""
    rng = np.random.default_rng(1)
    z, y, x = np.mgrid[:12, :160, :220]
    start = np.column_stack([rng.uniform(3, 9, 12), rng.uniform(20, 140, 12), rng.uniform(20, 200, 12)])
    frames, t, centre = [], [], []
    for frame in range(3):
        places = start + frame * np.array([0.3, 4.0, 5.0])
        data = rng.normal(100, 6, z.shape)
        for place in places:
            data += 300 * np.exp(-(((z - place[0]) / 2) ** 2 + ((y - place[1]) / 6) ** 2 + ((x - place[2]) / 6) ** 2))
        frames.append(data.clip(0).astype(np.uint16))
        t += [frame] * 12
        centre += (places * [2.0, 0.5, 0.5]).tolist()
    image = ArrayImage(np.stack(frames), voxel_size=(2.0, 0.5, 0.5), unit="µm")
    write_image(folder / "movie.ome.tif", image)
    links = [(row, row + 12) for row in range(24)]
    tracks = Tracks.build(t, centre, radius=5.0, links=links, space_unit="µm")
    write_tracks(folder / "cells.mastodon", tracks)


@pytest.fixture(scope="module")
def served(tmp_path_factory, misbehaving):
    folder = tmp_path_factory.mktemp("page")
    movie(folder)
    with (
        Backend(folder / "state", roots=[folder], devices=["cpu"]) as backend,
        running(lambda server: create_app(backend, token=TOKEN)) as server,
        Client(server.url, TOKEN) as client,
    ):
        client.run("nap", {"seconds": 0.2, "steps": 40})
        client.run("convert", {"source": "movie.ome.tif", "out": "copy.tif"})
        yield server, client, backend


def ask(server, method, path, *, body=None, cookie=None, accept="text/html"):
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
    headers = {"Accept": accept, **({"Cookie": cookie} if cookie else {})}
    if body is not None:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    try:
        connection.request(method, path, body=urlencode(body) if body is not None else None, headers=headers)
        answer = connection.getresponse()
        return answer, answer.read().decode("utf-8", "replace")
    finally:
        connection.close()


def logged_in(server) -> str:
    answer, _ = ask(server, "POST", "/login", body={"token": TOKEN, "next": "/"})
    return answer.headers["Set-Cookie"].partition(";")[0]


def test_without_the_cookie_there_is_the_login_page(served) -> None:
    answer, _ = ask(served[0], "GET", "/jobs/0123456789ab")
    assert (answer.status, answer.headers["Location"]) == (303, "/login?next=/jobs/0123456789ab")
    answer, text = ask(served[0], "POST", "/login", body={"token": "wrong"})
    assert answer.status == 401
    assert "not the token" in text
    answer, _ = ask(served[0], "GET", f"/login?token={TOKEN}&next=//evil.example")
    assert answer.headers["Location"] == "/"
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie


@pytest.mark.parametrize("path", ["/", "/tasks", "/parts/jobs"])
def test_nothing_foreign_runs_in_a_page(served, path) -> None:
    answer, text = ask(served[0], "GET", path, cookie=logged_in(served[0]))
    assert answer.status == 200
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    once = re.search(r"script-src 'nonce-([^']+)'", policy)[1]
    assert re.findall(r"<script(?![^>]*nonce=\"" + re.escape(once) + ")", text) == []
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", text)
    assert not re.search(r"\son\w+=|\sstyle=", text)
    assert TOKEN not in text


def test_what_a_client_says_is_text(served) -> None:
    server, client, _ = served
    job = client.submit("note", {"file": "x.txt", "text": "<script>alert(1)</script>"}, wait=20)
    _, text = ask(server, "GET", f"/jobs/{job['id']}", cookie=logged_in(server))
    assert "<script>alert" not in text
    assert "&lt;script&gt;" in text


def test_no_other_site_presses_a_button(served) -> None:
    server, client, _ = served
    job = client.submit("nap", {"seconds": 30, "steps": 100})
    cookie = logged_in(server)
    for form in ({}, {"form": "guess"}):
        answer, _ = ask(server, "POST", f"/jobs/{job['id']}/cancel", body=form, cookie=cookie)
        assert answer.status == 403
    assert client.job(job["id"])["state"] != "cancelled"
    _, text = ask(server, "GET", f"/jobs/{job['id']}", cookie=cookie)
    token = re.search(r'name="form" value="([0-9a-f]+)"', text)[1]
    answer, _ = ask(server, "POST", f"/jobs/{job['id']}/cancel", body={"form": token}, cookie=cookie)
    assert answer.status == 303
    assert client.job(job["id"])["state"] == "cancelled"


def test_a_slice_shows_the_cells(served) -> None:
    server, client, _ = served
    job = client.submit("train", {"source": "cells.mastodon", "image": "movie.ome.tif"})
    client.cancel(job["id"])
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
    connection.request("GET", f"/jobs/{job['id']}/slice.png?t=1&z=6", headers={"Cookie": logged_in(server)})
    answer = connection.getresponse()
    data = answer.read()
    assert (answer.status, answer.headers["Content-Type"]) == (200, "image/png")
    pixels = imagecodecs.png_decode(data)
    assert pixels.shape == (320, 440, 3)
    coloured = (pixels.max(axis=-1).astype(int) - pixels.min(axis=-1)) > 40
    assert 500 < coloured.sum() < 20_000
    for path in ("slice.png?t=3&z=0", "slice.png?t=0&z=12"):
        connection.request("GET", f"/jobs/{job['id']}/{path}", headers={"Cookie": logged_in(server)})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 404
    connection.close()


def test_the_cut_of_an_ellipsoid() -> None:
    covariance = np.diag([4.0, 9.0, 16.0])[None]
    points, kept = ellipses(np.array([[5.0, 20.0, 30.0]]), covariance, 6.0, corners=400)
    y, x = (points[0] - [20.0, 30.0]).T
    assert kept.tolist() == [0]
    assert (y / 3) ** 2 + (x / 4) ** 2 == pytest.approx(np.full(400, 1 - 1 / 4))
    assert len(ellipses(np.array([[5.0, 20.0, 30.0]]), covariance, 7.5, corners=4)[1]) == 0
    tilted = np.array([[[4.0, 2.0, 0.0], [2.0, 9.0, 0.0], [0.0, 0.0, 16.0]]])
    points, _ = ellipses(np.zeros((1, 3)), tilted, 1.0, corners=50)
    whole = np.concatenate([np.ones((50, 1)), points[0]], axis=1)
    assert np.einsum("ni,ij,nj->n", whole, np.linalg.inv(tilted[0]), whole) == pytest.approx(np.ones(50))


def test_curves() -> None:
    assert plots({"a": [(1, 2.0)], "b": [(1, None), (2, 3.0)]}) == []
    (plot,) = plots({"train/loss": [(step, 1 / step) for step in range(1, 2000)]})
    assert (plot.first, plot.last, plot.high) == (1, 1999, 1.0)
    assert plot.points.startswith("0.0,0.0 ")
    assert plot.points.endswith(" 360.0,130.0")
    assert len(plot.points.split()) <= 601
    (flat,) = plots({"x": [(1, 5.0), (2, 5.0)]})
    assert flat.points == "0.0,130.0 360.0,130.0"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install 'howdah[dev]'")
    driver = shutil.which("chromedriver")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if driver is None or program is None:
        pytest.skip("needs a browser: install chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    profile = tmp_path_factory.mktemp("chromium")
    flags = [
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
    ]
    flags += ["disable-component-update", "disable-sync", "disable-dev-shm-usage", "window-size=1200,1000"]
    for flag in flags:
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={profile}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    started.set_page_load_timeout(30)
    yield started
    started.quit()


@pytest.mark.filterwarnings("ignore")
def test_the_page_in_a_browser(served, browser) -> None:
    server, client, _ = served
    browser.get(f"{server.url}/login?token={TOKEN}")
    assert browser.current_url == f"{server.url}/"
    assert "nap" in browser.find_element("css selector", "table").text
    job = client.submit("nap", {"seconds": 40, "steps": 200})
    until = time.monotonic() + 15
    while f"{job['id']}" not in browser.page_source and time.monotonic() < until:
        time.sleep(0.1)  # the page renews itself
    browser.get(f"{server.url}/jobs/{job['id']}")
    until = time.monotonic() + 15
    while not browser.find_elements("css selector", "svg polyline") and time.monotonic() < until:
        time.sleep(0.1)
    assert "step 1" in browser.find_element("css selector", "pre").text
    browser.find_element("css selector", "form button").click()
    until = time.monotonic() + 15
    while "cancelled</span>" not in browser.page_source and time.monotonic() < until:
        time.sleep(0.1)  # the form leads back to the page
    assert "cancelled" in browser.find_element("css selector", ".state").text
    train = client.submit("train", {"source": "cells.mastodon", "image": "movie.ome.tif"})
    client.cancel(train["id"])
    browser.get(f"{server.url}/jobs/{train['id']}")
    slider = browser.find_element("name", "t")
    browser.execute_script("arguments[0].value = 2; arguments[0].dispatchEvent(new Event('input'))", slider)
    until = time.monotonic() + 10
    while "t=2" not in browser.find_element("id", "slice").get_attribute("src") and time.monotonic() < until:
        time.sleep(0.05)
    assert browser.execute_script(
        "var i = document.getElementById('slice'); return i.complete ? i.naturalWidth : -1"
    ) in (440, -1)
    assert [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []
