import dataclasses
from collections import Counter

import pytest
from scale.toy_plan import executions, toy_plan

from howdah.errors import ScaleError
from howdah.progress import finish
from howdah.scale.cluster import Cluster
from howdah.scale.config import ScaleConfig
from howdah.scale.run import run_plan
from howdah.scale.status import status_of

distributed = pytest.importorskip("distributed")
ANY_PORT = {"dashboard_address": "127.0.0.1:0"}  # else its HTTP server warns where another has the usual one


def run(plan, config, show=None, **how):
    return finish(run_plan(plan, config, **how), show)


@pytest.fixture(scope="module")
def scheduler():
    """A cluster that other programs have started, as far as Howdah knows: two workers in this process."""
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=False,
        dashboard_address=None,
        scheduler_kwargs=ANY_PORT,
        protocol="tcp",
        host="127.0.0.1",
    ) as cluster:
        yield cluster.scheduler_address


def test_a_cluster_of_this_computer_gives_the_same_result_and_each_worker_a_card(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    log = tmp_path / "log"
    plan, alone = toy_plan(tmp_path / "result", log=str(log), seconds=0.02), toy_plan(tmp_path / "alone")
    run(alone, ScaleConfig(workers=0))
    facts = run(plan, ScaleConfig(worker_memory_mb=700), keep=True)
    assert plan.target.read_bytes() == alone.target.read_bytes()
    assert (facts["blocks"]["workers"], facts["blocks"]["repeated"]) == (2, 0)
    assert Counter(Counter(executions(log)).values()) == {1: 29}
    assert status_of(plan.target)["executions"] == 29
    assert sorted(card for _, card in {tuple(line.split()[1:]) for line in log.read_text().splitlines()}) == ["4", "7"]


def test_a_cluster_elsewhere_by_its_address(tmp_path, scheduler):
    plan, alone = toy_plan(tmp_path / "result"), toy_plan(tmp_path / "alone")
    run(alone, ScaleConfig(workers=0))
    facts = run(plan, ScaleConfig(scheduler=scheduler))
    assert facts["blocks"]["workers"] == 2
    assert plan.target.read_bytes() == alone.target.read_bytes()


def test_a_fault_in_a_block_comes_back_as_it_is(tmp_path, scheduler):
    plan = toy_plan(tmp_path / "result", trouble={"frames/t0001": "fault"})
    with pytest.raises(KeyError, match="a fault in the code"):
        run(plan, ScaleConfig(scheduler=scheduler))


def test_workers_that_do_not_see_the_inputs(tmp_path, scheduler):
    plan = toy_plan(tmp_path / "result", inputs={"image": tmp_path / "movie.tif"})
    with pytest.raises(
        ScaleError, match=r"does not see .*movie\.tif\. Inputs must be on a disk that all workers share"
    ):
        run(plan, ScaleConfig(scheduler=scheduler))


def test_workers_that_do_not_see_the_work_folder(tmp_path, scheduler):
    plan = toy_plan(tmp_path / "result")
    with pytest.raises(ScaleError, match="does not see the work folder"):
        Cluster(plan, ScaleConfig(scheduler=scheduler), tmp_path / "elsewhere", "run")


def test_workers_of_another_version(tmp_path, scheduler, monkeypatch):
    monkeypatch.setattr("howdah.scale.cluster.__version__", "9.9")
    with pytest.raises(ScaleError, match=r"has Howdah .*, this is 9\.9\. Install the same there"):
        run(toy_plan(tmp_path / "result"), ScaleConfig(scheduler=scheduler))


def test_blocks_that_are_too_large_for_a_worker_elsewhere(tmp_path, scheduler):
    plan = toy_plan(tmp_path / "result")
    large = [dataclasses.replace(block, memory_mb=1e9) for block in plan.blocks]
    with pytest.raises(ScaleError, match="Cut frames into smaller blocks"):
        run(dataclasses.replace(plan, blocks=large), ScaleConfig(scheduler=scheduler))


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "missing.json", "what is this"])
def test_a_scheduler_that_is_not_there_is_a_sentence(tmp_path, address):
    with pytest.raises(ScaleError, match=f"The dask scheduler {address} cannot be reached .*Start it"):
        run(toy_plan(tmp_path / "result"), ScaleConfig(scheduler=address, patience_s=0.5))


def test_a_worker_without_howdah():
    said = Exception("ModuleNotFoundError(\"No module named 'howdah'\")")  # as dask wraps it
    with pytest.raises(ScaleError, match=r"worker tcp://x:1 has no Howdah, .*Install howdah\[scale\]"):
        Cluster.__new__(Cluster)._check("tcp://x:1", said)
