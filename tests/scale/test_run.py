from scale.toy_plan import toy_plan

from howdah.progress import finish
from howdah.scale.config import ScaleConfig
from howdah.scale.folder import work_folder
from howdah.scale.run import run_plan

SERIAL = ScaleConfig(workers=0)


def run(plan, config=SERIAL, show=None, **how):
    return finish(run_plan(plan, config, **how), show)


def test_a_run_does_each_block_once_and_leaves_only_the_result(tmp_path):
    log = tmp_path / "log"
    plan = toy_plan(tmp_path / "result", log=str(log))
    facts = run(plan)
    assert facts["blocks"] == {"all": 29, "done_now": 29, "done_before": 0, "repeated": 0, "workers": 0}
    assert sorted(log.read_text().split()) == sorted(block.key for block in plan.blocks)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "result"]
    assert not work_folder(plan.target).exists()
