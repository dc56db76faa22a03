"""The list of jobs in its file."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from howdah.errors import ServiceError
from howdah.service.journal import MOST_LINES, Journal
from howdah.service.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path)
    yield made
    made.close()


def test_a_job_ends_once(store: Store) -> None:
    store.add("a", "track", {"source": "x"})
    assert store.claim("a", "cpu")
    assert not store.claim("a", "cpu")
    assert store.end("a", "cancelled", error="Stopped.", kind="cancelled")
    assert not store.end("a", "done", result={"x": 1})
    job = store.job("a")
    assert job is not None
    assert (job.state, job.result, job.error, job.over) == ("cancelled", None, "Stopped.", True)
    assert store.again("a")
    assert not store.again("a")
    assert store.job("nix") is None


def test_what_was_running_is_queued_again_in_order(store: Store, tmp_path: Path) -> None:
    for name in "abcd":
        store.add(name, "track", {})
    store.claim("b", "cpu")
    store.claim("a", "cpu")
    store.end("a", "done", result={})
    store.close()
    again = Store(tmp_path)
    assert again.requeue() == ["b", "c", "d"]
    assert [job.id for job in again.jobs(state="queued")] == ["d", "c", "b"]
    again.close()


def test_lines_and_curves(store: Store) -> None:
    store.add("a", "track", {})
    journal = Journal(store, "a")
    for step in range(1000):
        journal.progress("train", step, 1000, {"loss": 1.0 / (step + 1), "odd": None}, "")
    journal.progress("detect", 1, 2, {}, "a word")
    journal.flush()
    job = store.job("a")
    assert job is not None
    assert (job.stage, job.done, job.total) == ("detect", 1, 2)
    curve = store.curves("a")["train/loss"]
    assert curve[-1] == (999, 0.001)
    assert len(curve) < 1000  # a point a tenth of a second
    assert [line["text"] for line in store.lines("a")] == ["a word"]
    store.note(
        "a", points=[("train/loss", 500, 9.0), ("train/loss", 501, 8.0)]
    )  # stopped, and gone on from an earlier state
    assert store.curves("a")["train/loss"][-2:] == [(500, 9.0), (501, 8.0)]
    store.remove("a")
    assert (store.job("a"), store.lines("a"), store.curves("a")) == (None, [], {})


def test_a_job_that_prints_for_ever_fills_no_disk(store: Store) -> None:
    store.add("a", "track", {})
    store.note("a", lines=[(MOST_LINES - 1, 0.0, "info", "x")])
    journal = Journal(store, "a")
    for _ in range(5):
        journal.line("info", "more")
    journal.flush()
    texts = [line["text"] for line in store.lines("a", after=MOST_LINES - 1)]
    assert texts == ["more", f"More than {MOST_LINES} lines; the others are left out."]


def test_a_full_disk_is_a_sentence_and_nothing_is_lost(store: Store) -> None:
    store.add("a", "track", {})
    (pages,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    journal = Journal(store, "a")
    for number in range(200):
        journal.line("info", f"{number} " + "x" * 1000)
    with pytest.raises(ServiceError, match=r"cannot be used: .*full.*Is there space left"):
        journal.flush()
    store._db.execute("PRAGMA max_page_count = 100000")
    journal.flush()
    assert [line["number"] for line in store.lines("a")] == list(range(1, 201))


def test_a_file_that_is_no_list_of_jobs(tmp_path: Path) -> None:
    (tmp_path / "jobs.sqlite").write_bytes(b"This is no database, whatever its name says." * 100)
    with pytest.raises(ServiceError, match="not a database"):
        Store(tmp_path)


def test_a_list_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    Store(tmp_path).close()
    database = sqlite3.connect(tmp_path / "jobs.sqlite")
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(ServiceError, match="later Howdah"):
        Store(tmp_path)


def test_a_job_that_may_be_what_kills_the_backend_is_given_up(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.add("a", "track", {})
    for _ in range(2):  # ended as it should: that does not count
        store.claim("a", "cpu")
        store.release()
    for _ in range(2):
        store.claim("a", "cpu")
        assert store.requeue() == ["a"]
    store.claim("a", "cpu")
    assert store.requeue() == []
    job = store.job("a")
    assert job is not None
    assert (job.state, job.kind) == ("failed", "fault")
    assert "ended 3 times while this job was running" in (job.error or "")
    assert store.again("a")  # a person asks for it: it counts from the start
    store.claim("a", "cpu")
    assert store.requeue() == ["a"]
    store.close()


def test_a_list_of_the_first_version_is_taken_up(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.add("a", "track", {})
    store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "jobs.sqlite")) as db:
        db.execute("ALTER TABLE jobs DROP COLUMN cuts")
        db.execute("PRAGMA user_version = 1")
    store = Store(tmp_path)
    assert store.requeue() == ["a"]
    store.close()
