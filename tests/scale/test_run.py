import itertools
import json
from collections import Counter

import pytest
from scale.toy_plan import executions, toy_plan

from howdah.errors import ConfigError, ScaleError
from howdah.progress import finish
from howdah.scale.config import ScaleConfig
from howdah.scale.folder import block_path, hold, work_folder
from howdah.scale.machine import check_memory, graphics_cards, threads_of, worker_memory_mb, worker_number
from howdah.scale.manifest import Manifest, manifest_path
from howdah.scale.run import run_plan
from howdah.scale.status import status_of

SERIAL = ScaleConfig(workers=0)


def run(plan, config=SERIAL, show=None, **how):
    return finish(run_plan(plan, config, **how), show)


def stopped_after(plan, steps, config=SERIAL, **how):
    """Run some steps, then close the run as Ctrl-C does."""
    running = run_plan(plan, config, **how)
    for _ in itertools.islice(running, steps):
        pass
    running.close()


@pytest.fixture
def expected(tmp_path):
    plan = toy_plan(tmp_path / "expected")
    run(plan)
    return plan.target.read_bytes()


def test_a_run_does_each_block_once_and_leaves_only_the_result(tmp_path):
    log = tmp_path / "log"
    plan = toy_plan(tmp_path / "result", log=str(log))
    facts = run(plan)
    assert facts["blocks"] == {"all": 29, "done_now": 29, "done_before": 0, "repeated": 0, "workers": 0}
    assert sorted(executions(log)) == sorted(block.key for block in plan.blocks)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "result"]


def test_progress_counts_to_the_end(tmp_path):
    steps = []
    run(toy_plan(tmp_path / "result"), show=steps.append)
    blocks = [step for step in steps if step.stage == "blocks"]
    assert [step.done for step in blocks] == list(range(1, 30))
    assert blocks[-1].values["share"] == 1.0
    assert blocks[10].values["eta_s"] > 0
    assert steps[-1].stage == "gather"


@pytest.mark.parametrize("steps", [1, 5, 13, 28, 31])
def test_a_stopped_run_goes_on_and_does_nothing_twice(tmp_path, expected, steps):
    log = tmp_path / "log"
    plan = toy_plan(tmp_path / "result", log=str(log))
    stopped_after(plan, steps)
    assert not plan.target.exists()
    before = status_of(plan.target)["done"]
    facts = run(plan)
    assert facts["blocks"]["done_before"] == before == min(steps, 29)
    assert facts["blocks"]["done_now"] == 29 - before
    assert max(Counter(executions(log)).values()) == 1
    assert plan.target.read_bytes() == expected


def test_passing_files_go_as_soon_as_nobody_needs_them(tmp_path):
    plan = toy_plan(tmp_path / "result")
    most = 0

    def look(step):
        nonlocal most
        most = max(most, len(list(work_folder(plan.target).glob("tiles/*/*.block"))))

    run(plan, show=look)
    assert most == 3


def test_a_finished_block_that_was_not_recorded_is_used(tmp_path, expected):
    log = tmp_path / "log"
    plan = toy_plan(tmp_path / "result", log=str(log))
    stopped_after(plan, 12)
    manifest_path(work_folder(plan.target)).unlink()
    run(plan)
    assert set(Counter(executions(log)).values()) == {1}
    assert plan.target.read_bytes() == expected


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 4}, "seed was 0, now 4"),
        ({"frames": 7}, r"the work is cut differently \(29 blocks before, 34 now\)"),
        ({"threshold": 0.4}, "threshold was not set, now 0.4"),
    ],
)
def test_other_settings_are_another_run(tmp_path, change, said):
    stopped_after(toy_plan(tmp_path / "result"), 9)
    with pytest.raises(ScaleError, match=rf"belongs to another run: {said}.*--restart"):
        run(toy_plan(tmp_path / "result", **change))
    assert run(toy_plan(tmp_path / "result", **change), restart=True)["blocks"]["done_before"] == 0


def test_a_changed_input_is_another_run_but_a_touched_one_is_not(tmp_path):
    movie = tmp_path / "movie.tif"
    movie.write_bytes(b"one")
    plan = toy_plan(tmp_path / "result", inputs={"image": movie})
    stopped_after(plan, 9)
    movie.write_bytes(b"one")
    stopped_after(plan, 2)
    movie.write_bytes(b"two")
    with pytest.raises(ScaleError, match="image is another file, or was changed"):
        run(plan)


def test_a_changed_folder_is_another_run(tmp_path):
    movie = tmp_path / "movie.zarr"
    movie.mkdir()
    plan = toy_plan(tmp_path / "result", inputs={"image": movie})
    stopped_after(plan, 3)
    (movie / "0").write_bytes(b"chunk")
    with pytest.raises(ScaleError, match="image is another file, or was changed"):
        run(plan)


def test_kept_folders_can_be_gathered_again_at_once(tmp_path, expected):
    plan = toy_plan(tmp_path / "result")
    run(plan, keep=True)
    plan.target.unlink()
    assert run(plan, keep=True)["blocks"] == {"all": 29, "done_now": 0, "done_before": 29, "repeated": 0}
    assert plan.target.read_bytes() == expected
    report = status_of(plan.target)
    assert (report["state"], report["blocks"], report["executions"], report["failed"]) == ("done", "29 of 29", 29, 0)
    assert [(row["stage"], row["done"]) for row in report["stages"]] == [("tiles", 18), ("frames", 6), ("links", 5)]
    assert all(row["peak_mb"] > 1 for row in report["stages"])
    json.dumps(report)


@pytest.mark.parametrize("harm", ["cut", "flip", "delete"])
@pytest.mark.parametrize("key", ["frames/t0002", "links/t0003", "tiles/t0003/b00"])
def test_a_damaged_file_is_made_again_and_said_once(tmp_path, expected, harm, key, caplog):
    log = tmp_path / "log"
    plan = toy_plan(tmp_path / "result", log=str(log))
    messages, done = [], False

    def hurt(step):
        nonlocal done
        messages.extend([step.message] if step.message else [])
        path = block_path(work_folder(plan.target), key)
        if not done and path.exists():
            done = True
            content = bytearray(path.read_bytes())
            content[-3] ^= 1
            path.write_bytes(content[:-5] if harm == "cut" else content)
            if harm == "delete":
                path.unlink()

    run(plan, show=hurt)
    assert done
    assert plan.target.read_bytes() == expected
    assert len([text for text in messages if "the block is done again" in text]) == 1
    assert Counter(executions(log))[key] == 2


def test_a_failure_that_passes_is_tried_again(tmp_path, expected):
    plan = toy_plan(tmp_path / "result", trouble={"frames/t0002": f"once:{tmp_path / 'flag'}"})
    messages = []
    facts = run(plan, show=lambda step: messages.append(step.message))
    assert facts["blocks"]["repeated"] == 1
    assert "Block 'frames/t0002' is tried again: OSError: the disk did not answer" in messages
    assert plan.target.read_bytes() == expected


def test_a_failure_that_stays_is_given_up_with_a_sentence(tmp_path):
    plan = toy_plan(tmp_path / "result", trouble={"frames/t0002": "always"})
    said = r"Block 'frames/t0002' \(frame 2\) was tried 3 times and failed; the last time: OSError: the disk did not answer\."
    with pytest.raises(ScaleError, match=said):
        run(plan, ScaleConfig(workers=0, retries=2))
    report = status_of(plan.target)
    assert (report["state"], report["failed"]) == ("stopped", 1)
    assert report["stages"][1]["last_error"] == "OSError: the disk did not answer"


def test_bad_input_is_not_tried_again(tmp_path):
    plan = toy_plan(tmp_path / "result", trouble={"tiles/t0001/b00": "bad"})
    with pytest.raises(ScaleError, match=r"\(frame 1\) cannot be done; .* This frame has no image\."):
        run(plan)
    assert status_of(plan.target)["stages"][0]["executions"] == 4


def test_a_fault_in_the_code_is_no_sentence(tmp_path):
    with pytest.raises(KeyError, match="a fault in the code"):
        run(toy_plan(tmp_path / "result", trouble={"tiles/t0001/b00": "fault"}))


def test_two_runs_of_one_target(tmp_path):
    plan = toy_plan(tmp_path / "result")
    with hold(work_folder(plan.target)), pytest.raises(ScaleError, match="another run is working"):
        run(plan)


def test_a_full_disk_at_the_manifest_stops_with_a_sentence_and_the_run_goes_on(tmp_path, expected, monkeypatch):
    log = tmp_path / "log"
    plan = toy_plan(tmp_path / "result", log=str(log))
    monkeypatch.setattr("howdah.scale.run.FLUSH_S", 0.0)
    flush = Manifest.flush

    def full(self, running=()):
        if len(list(work_folder(plan.target).glob("frames/*"))) >= 3:
            self._database.execute("PRAGMA max_page_count = 1")
            for number in range(2000):
                self.event("noise", "x" * 100 + str(number))
        flush(self, running)

    monkeypatch.setattr(Manifest, "flush", full)
    with pytest.raises(ScaleError, match="no space is left on the disk"):
        run(plan)
    monkeypatch.setattr(Manifest, "flush", flush)
    run(plan)
    assert plan.target.read_bytes() == expected
    assert max(Counter(executions(log)).values()) == 1


def test_a_clock_that_goes_back_changes_nothing(tmp_path, expected, monkeypatch):
    plan = toy_plan(tmp_path / "result")
    clock = itertools.count(2_000_000_000, -3600)
    monkeypatch.setattr("time.time", lambda: float(next(clock)))
    stopped_after(plan, 10)
    run(plan, keep=True)
    assert plan.target.read_bytes() == expected
    assert status_of(plan.target)["blocks"] == "29 of 29"


def test_a_block_that_is_too_large_is_refused_before_the_run(tmp_path):
    plan = toy_plan(tmp_path / "result")
    with pytest.raises(ScaleError, match=r"takes about 601 MiB .* has 300 MiB\. Cut frames"):
        run(plan, ScaleConfig(workers=0, worker_memory_mb=300))
    with pytest.raises(ScaleError, match="each of 4 workers has 10 MiB"):
        check_memory(plan, 10, whose="each of 4 workers")


def test_workers_of_this_computer(monkeypatch):
    assert graphics_cards({"CUDA_VISIBLE_DEVICES": "2,GPU-7"}) == ["2", "GPU-7"]
    assert graphics_cards({"CUDA_VISIBLE_DEVICES": "-1"}) == graphics_cards({"CUDA_VISIBLE_DEVICES": ""}) == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    monkeypatch.setattr("howdah.scale.machine.free_memory_mb", lambda: 4000.0)
    assert worker_number(ScaleConfig()) == 3
    assert worker_number(ScaleConfig(), needs_mb=1300) == 2
    assert worker_number(ScaleConfig(workers=5)) == 5
    assert worker_memory_mb(ScaleConfig(workers=5)) == 800
    assert worker_memory_mb(ScaleConfig(scheduler="tcp://x:1")) == 4096
    assert threads_of(1, {"OMP_NUM_THREADS": "7"})["MKL_NUM_THREADS"] == "7"
    assert int(threads_of(1000, {})["OMP_NUM_THREADS"]) == 1


def test_a_block_reads_only_what_it_says_it_needs(tmp_path):
    plan = toy_plan(tmp_path / "result")
    from dataclasses import replace

    blocks = [replace(block, needs=block.needs[:1]) if block.stage == "links" else block for block in plan.blocks]
    with pytest.raises(ValueError, match="not enough values"):
        run(replace(plan, blocks=blocks))


def test_settings_out_of_range():
    with pytest.raises(ConfigError, match="workers"):
        ScaleConfig.of({"workers": -1})
