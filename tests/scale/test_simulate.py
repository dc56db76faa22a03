"""Simulated runs against what can be said without a simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from howdah.errors import ConfigError
from howdah.scale.simulate import Site, Work, simulate

FAST = {"storage_mb_s": 1e9, "line_mb_s": 1e9, "handing_s": 0.0, "latency_s": 0.0}


def test_one_worker_takes_the_sum():
    found = simulate([Work("a", seconds=2.0), Work("a", seconds=3.0)], Site(1, **FAST))
    assert found.seconds == pytest.approx(5.0)
    assert found.computing == pytest.approx(1.0)
    assert found.bound == "workers"


def test_many_workers_take_the_longest_chain():
    works = [Work("a", seconds=2.0), Work("b", needs=(0,), seconds=3.0), Work("a", seconds=1.0)]
    found = simulate(works, Site(10, **FAST))
    assert found.seconds == pytest.approx(5.0)
    assert found.stages == {"a": (0.0, pytest.approx(2.0)), "b": (pytest.approx(2.0), pytest.approx(5.0))}
    assert found.bound == "order"


def test_storage_is_shared():
    works = [Work("a", read_mb=100.0) for _ in range(4)]
    assert simulate(works, Site(4, 100.0, 100.0, 0.0, 0.0)).seconds == pytest.approx(4.0)
    assert simulate(works, Site(4, 400.0, 100.0, 0.0, 0.0)).seconds == pytest.approx(1.0)
    found = simulate(works, Site(4, 400.0, 50.0, 0.0, 0.0))
    assert found.seconds == pytest.approx(2.0)
    assert (found.storage, found.moved_mb) == (pytest.approx(0.5), 400.0)


def test_a_short_transfer_leaves_its_share_to_the_others():
    works = [Work("a", read_mb=10.0), Work("a", read_mb=90.0)]
    assert simulate(works, Site(2, 100.0, 100.0, 0.0, 0.0)).seconds == pytest.approx(1.0)


def test_the_coordinator_hands_out_one_after_the_other():
    found = simulate([Work("a", seconds=0.01)] * 100, Site(50, 1e9, 1e9, 0.1, 0.0))
    assert found.seconds == pytest.approx(100 * 0.1 + 0.01)
    assert found.bound == "coordinator"


def test_passing_files_are_removed():
    works = [Work("a", write_mb=5.0, passing=True), Work("b", needs=(0,), write_mb=1.0)]
    works += [Work("a", write_mb=5.0, passing=True), Work("b", needs=(2,), write_mb=1.0)]
    assert simulate(works, Site(1, **FAST)).disk_mb == pytest.approx(7.0)


def test_a_killed_worker_begins_its_block_anew():
    works = [Work("a", seconds=100.0)] * 50
    calm, killed = (simulate(works, Site(5, **FAST, kills_per_day=kills, restart_s=10.0)) for kills in (0, 200))
    assert killed.kills > 0
    assert killed.lost_s > 0
    assert killed.seconds > calm.seconds == pytest.approx(1000.0)


def test_the_same_seed_gives_the_same_run():
    works = [Work("a", seconds=100.0)] * 50
    assert simulate(works, Site(5, **FAST, kills_per_day=200)) == simulate(works, Site(5, **FAST, kills_per_day=200))


def test_no_block_is_no_time():
    assert simulate([], Site(1, **FAST)).seconds == 0


def test_a_block_needs_what_comes_before_it():
    with pytest.raises(ConfigError, match="Block 0 needs block 0, which does not come before it"):
        simulate([Work("a", needs=(0,))], Site(1, **FAST))


def test_a_site_has_workers():
    with pytest.raises(ConfigError, match="A site needs a worker"):
        Site(0, 1.0, 1.0)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 8), st.floats(1.0, 100.0))
def test_no_run_is_faster_than_its_limits(seed, workers, storage):
    random = np.random.default_rng(seed)
    works = []
    for place in range(int(random.integers(1, 40))):
        needs = random.choice(place, min(place, int(random.integers(0, 3))), replace=False) if place else []
        read, seconds, written = random.uniform(0, 10, 3)
        works.append(Work("a", tuple(int(need) for need in needs), read, seconds, written))
    found = simulate(works, Site(workers, storage, 20.0, 0.001, 0.0))
    moved = sum(work.read_mb + work.write_mb for work in works)
    alone = [work.seconds + (work.read_mb + work.write_mb) / min(20.0, storage) for work in works]
    until = [0.0] * len(works)
    for place, work in enumerate(works):
        until[place] = alone[place] + max((until[need] for need in work.needs), default=0.0)
    least = max(max(until), moved / storage, sum(work.seconds for work in works) / workers)
    assert found.seconds >= least * (1 - 1e-9)
    assert found.seconds <= sum(alone) * max(1.0, workers * 20.0 / storage) + 1.0
    assert found.moved_mb == pytest.approx(moved)
