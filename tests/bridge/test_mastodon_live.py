"""A project in a real Mastodon: read, changed in one step, undone, saved, opened again; with windows and without."""

import json
from pathlib import Path

import pytest
from bridge.in_java import run_python

CHILD = Path(__file__).with_name("mastodon_child.py")
NO_CHANGE = {}
COUNTS = {
    "spots_added": 30,
    "spots_removed": 10,
    "spots_moved": 10,
    "spots_reshaped": 10,
    "spots_relabelled": 5,
    "spots_retagged": 30,
    "links_added": 28,
    "links_removed": 4,
    "links_retagged": 2,
    "features_written": 2,
}
EXPECTED = {
    "read as the file": "",
    "nothing to do": 0,
    "counts": COUNTS,
    "written": NO_CHANGE,
    "ids stay": True,
    "branches": True,
    "again": 0,
    "undone": NO_CHANGE,
    "redone": NO_CHANGE,
    "saved before": False,
    "saved": True,
    "file": NO_CHANGE,
    "files": ["a.mastodon", "a.mastodon~1~"],
    "other spots": {"spots_moved": 1, "features_written": 2},
    "both kept": NO_CHANGE,
    "from a file": 0,
    "tagged": [5, 2],
    "plain loops": NO_CHANGE,
    "plain undone": NO_CHANGE,
}
SENTENCES = {
    "same spot": "changed or removed in Mastodon since they were read",
    "no such spot": "1 of 1 spots are not in what was read last",
    "no such file": "there is no such file",
    "not closed": "changes are not saved",
}
WINDOWS = {"opened": ["a.mastodon"], "views": ["MamutViewBdv", "MamutViewTrackScheme"]}


@pytest.fixture(scope="module", params=["headless", "interactive"])
def found(request, real_fiji, tmp_path_factory):
    home, folder = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("project")
    before = (request.getfixturevalue("virtual_display"), "-a") if request.param == "interactive" else ()
    done = run_python([str(CHILD), str(real_fiji), request.param, str(folder)], home, before=before, timeout=500)
    lines = [line[6:] for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(lines[0])


@pytest.mark.fiji
@pytest.mark.parametrize("name", EXPECTED)
def test_live(found, name):
    assert found[name] == EXPECTED[name]


@pytest.mark.fiji
@pytest.mark.parametrize("name", SENTENCES)
def test_sentences(found, name):
    assert SENTENCES[name] in found[name]


@pytest.mark.fiji
def test_windows_come_back(found):
    if "views" in found:  # with a display
        assert {name: found[name] for name in WINDOWS} == WINDOWS
