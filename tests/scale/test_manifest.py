import sqlite3

import pytest

from howdah.errors import ScaleError
from howdah.scale.manifest import Manifest, Row, manifest_path, read_manifest


@pytest.fixture
def manifest(tmp_path):
    manifest = Manifest(tmp_path)
    yield manifest
    manifest.close()


def test_notes_are_there_after_a_flush(manifest, tmp_path):
    manifest.say(task="toy", stages={"a": {"blocks": 3, "cost": 3.0}})
    manifest.note(Row("a/1", "a", "done", 1, 2, "host:1", 100.0, 2.5, 70.0, 900, "c0ffee"))
    manifest.event("lost", "a/1: its worker died")
    manifest.flush(["a/2"])
    assert manifest.rows()["a/1"] == Row("a/1", "a", "done", 1, 2, "host:1", 100.0, 2.5, 70.0, 900, "c0ffee")
    assert manifest.running() == {"a/2"}
    facts, rows, events = read_manifest(tmp_path)
    assert (facts["task"], facts["running"]) == ("toy", 1)
    assert (rows[0]["stage"], rows[0]["executions"], rows[0]["bytes"]) == ("a", 2, 900)
    assert events[0]["text"] == "a/1: its worker died"


def test_a_full_disk_is_a_sentence_and_what_was_there_stays(manifest):
    manifest.note(Row("a/0", "a", "done"))
    manifest.flush()
    manifest._database.execute("PRAGMA max_page_count = 12")
    for number in range(5000):
        manifest.note(Row(f"a/{number}", "a", "done", error="x" * 100))
    with pytest.raises(ScaleError, match=r"no space is left on the disk.*start the same command again"):
        manifest.flush()
    assert set(manifest.rows()) == {"a/0"}


def test_a_locked_file_is_a_sentence(manifest, monkeypatch):
    manifest._database.execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(manifest.path, isolation_level=None)
    try:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ScaleError, match="held by another program"):
            manifest.flush()
    finally:
        other.close()
    manifest.flush()


@pytest.mark.parametrize("content", [b"this is no database" * 100, b"SQLite format 3\0" + b"\1" * 4000])
def test_a_damaged_file_is_a_sentence_that_says_what_to_do(tmp_path, content):
    manifest_path(tmp_path).write_bytes(content)
    with pytest.raises(ScaleError, match=r"is damaged .* Remove this one file"):
        Manifest(tmp_path)
    with pytest.raises(ScaleError, match="is damaged"):
        read_manifest(tmp_path)


def test_no_manifest_is_a_sentence(tmp_path):
    with pytest.raises(ScaleError, match="no run to look at"):
        read_manifest(tmp_path)


def test_a_folder_that_is_gone_is_a_sentence(tmp_path):
    with pytest.raises(ScaleError, match="read-only"):
        Manifest(tmp_path / "gone")
