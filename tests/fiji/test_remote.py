"""A backend on another computer: its own home, its own folders; what the scripts send there and bring back."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fiji.conftest import RealJava
from fiji.test_headless import Runs
from pipeline import growing

from bdv_io.formats import read_tracks

EVENTS = """#@ String (value="", persist=false) image
#@ String (value="", persist=false) weights
#@ String (value="", persist=false) out
#@ String (value="", persist=false) result
from howdah_fiji import script


def body(run):
    done = run.do("tap.events", image, weights=weights, out=out, also=[out[:-4] + ".xml"], settings={"tap": {"device": "cpu"}})
    return "found", done


script.main("Own events", body, image=image, weights=weights, out=out, result=result)
"""


@pytest.fixture
def server(real_java: RealJava) -> Iterator[dict[str, str]]:
    """A service that does not know this user's home, as on another computer: `root` is its folder; {"url", "token"}."""
    folder = real_java.work / "server"
    (folder / "root").mkdir(parents=True)
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    words = ["-m", "howdah", "serve", "--root", str(folder / "root"), "--token-file", str(token), "--json"]
    environment = {**real_java.environment(), "HOWDAH_HOME": str(folder / "home")}
    with subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            yield {"url": json.loads(process.stdout.readline())["url"], "token": token.read_text()}
        finally:
            process.terminate()
            process.wait(30)


def test_all_results_come_back_from_another_computer(real_java: RealJava, server: dict[str, str]) -> None:
    work, root = real_java.work, real_java.work / "server/root"
    (work / "records").mkdir()
    (work / "night").mkdir()
    movie = growing.movie(work)
    for name in ("one.tif", "two.tif"):
        shutil.copyfile(movie, work / "night" / name)
    (work / "night/broken.tif").write_bytes(b"II*\0 no more")
    spots = growing.project(work, movie)
    (work / "mnt").symlink_to(root)  # the same folder by another name
    growing.project(root, growing.movie(root))
    own = real_java.script("Own_events.py")
    own.write_text(EVENTS)
    runs = Runs(real_java)
    runs.add("choose", "Backend/Choose_backend.py", backend="other", **server)
    runs.add("colour", "Cells_(2D)/Pseudocolour_(EfficientCellSeg).py", image=movie, neighbours="time")
    runs.add("events", own.name, image=movie, weights=growing.network(work), out=work / "found.csv")
    runs.add("a project alone", "Mastodon/Link_spots.py", project=spots)
    runs.add("night", "Batch_over_a_folder.py", folder=work / "night", task="convert", ending=".ome.tif")
    runs.add("half", "Backend/Choose_backend.py", backend="other", here=work / "mnt", **server)
    runs.add("share", "Backend/Choose_backend.py", backend="other", here=work / "mnt", there=root, **server)
    runs.add("link", "Mastodon/Link_spots.py", project=work / "mnt/spots.mastodon")
    runs.go()
    runs.check("choose", server["url"], "on another computer")
    assert server["token"] not in Path(runs.outcome("choose")["log"]).read_text()
    runs.check("colour", str(work / "movie-colour.tif"))
    found = runs.check("events", "found")
    assert (found["out"], found["also"]) == (str(work / "found.csv"), [str(work / "found.xml")])
    assert (work / "found.csv").is_file()
    assert f'filename="movie.tif" folder="{work}/"' in (work / "found.xml").read_text()
    runs.check("a project alone", "names its movie", "Shared folder here", code=2)
    runs.check("night", "1 of 3 movies failed", "broken.tif", code=2)
    assert len(list((work / "night/howdah-results").glob("*.ome.tif"))) == 2
    runs.check("half", "Give both names", code=2)
    linked = runs.check("link", str(work / "mnt/spots-linked.mastodon"))
    assert linked["out"] == str(work / "mnt/spots-linked.mastodon")
    assert read_tracks(root / "spots-linked.mastodon").n_spots == read_tracks(spots).n_spots
