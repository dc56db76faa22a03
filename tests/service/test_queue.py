"""Who gets a slot, and when."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from howdah.service.backend import Backend

CRAMPED = 30.0


@pytest.fixture(scope="module")
def two(misbehaving: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    with Backend(tmp_path_factory.mktemp("two"), roots=[], devices=["cpu", "cpu"], quick=2) as made:
        yield made


def test_jobs_run_in_order_and_side_by_side(two: Backend, until: Callable[..., float]) -> None:
    two.warm_up()
    long = two.submit("nap", {"seconds": 30, "steps": 3000})
    until(lambda: two.job(long.id).state == "running", CRAMPED)
    short = [two.submit("nap", {"seconds": 0.02}) for _ in range(5)]
    ended = [two.wait(job.id, CRAMPED) for job in short]
    assert [job.state for job in ended] == ["done"] * 5
    starts = [job.started for job in ended]
    assert starts == sorted(starts)
    assert two.job(long.id).state == "running"
    two.cancel(long.id)


def test_a_warm_slot_is_preferred(two: Backend) -> None:
    two.wait(two.submit("nap", {}).id, CRAMPED)
    before = set(two.workers)
    for _ in range(10):
        assert two.wait(two.submit("nap", {}).id, CRAMPED).state == "done"
    assert set(two.workers) <= before


def test_who_waits_for_less_time_is_told_how_far_it_is(two: Backend) -> None:
    job = two.submit("nap", {"seconds": 30, "steps": 3000})
    start = time.monotonic()
    seen = two.wait(job.id, 0.2)
    assert 0.2 <= time.monotonic() - start < 1.0
    assert seen.state in ("queued", "running")
    two.delete(job.id)


def test_many_cancelled_jobs_block_nothing(two: Backend) -> None:
    jobs = [two.submit("nap", {"seconds": 30, "steps": 3000}) for _ in range(10)]
    for job in jobs:
        assert two.cancel(job.id).state == "cancelled"
    assert two.wait(two.submit("nap", {}).id, CRAMPED).state == "done"
    assert [two.job(job.id).state for job in jobs] == ["cancelled"] * 10


def test_a_folder_with_an_odd_name(misbehaving: None, tmp_path: Path) -> None:
    folder = tmp_path / "Ünal's jobs %20 #1"
    with Backend(folder, roots=[], devices=["cpu"], quick=1) as backend:
        assert backend.wait(backend.submit("nap", {}).id, CRAMPED).state == "done"
