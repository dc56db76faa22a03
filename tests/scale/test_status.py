import json
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from scale.toy_plan import toy_plan
from typer.testing import CliRunner

from howdah.cli import app
from howdah.cli_options import with_settings
from howdah.cli_scale import Scale, with_scale
from howdah.pipeline.sections import SECTIONS
from howdah.scale.config import ScaleConfig
from howdah.scale.execute import execute, task_of
from howdah.scale.folder import work_folder
from howdah.scale.manifest import manifest_path
from howdah.scale.run import run_plan
from howdah.scale.status import status_of


@pytest.fixture
def target(tmp_path):
    """A run that was stopped after twelve blocks."""
    plan = toy_plan(tmp_path / "result", frames=5)
    steps = run_plan(plan, ScaleConfig(workers=0))
    for _ in range(12):
        next(steps)
    steps.close()
    return plan.target


def test_status_says_how_far_a_run_is(target):
    report = status_of(target)
    assert (report["state"], report["blocks"], report["executions"], report["failed"]) == ("stopped", "12 of 24", 12, 0)
    assert 0 < report["share"] < 1
    assert report["blocks_per_s"] > 0
    assert report["passing_files_at_most"] == 3
    assert sum(row["done"] for row in report["stages"]) == 12
    assert [row["stage"] for row in report["stages"]] == ["tiles", "frames", "links"]


def test_status_works_while_a_run_goes_on_and_names_it_by_its_folder_too(tmp_path):
    plan = toy_plan(tmp_path / "result")
    steps = run_plan(plan, ScaleConfig(workers=0))
    next(steps)
    assert status_of(work_folder(plan.target))["state"] == "begun"
    steps.close()


def test_the_command_shows_status_as_a_table_and_as_json(target):
    shown = CliRunner().invoke(app, ["scale", "status", str(target)])
    assert shown.exit_code == 0
    assert "12 of 24" in shown.stdout
    assert "s per block" in shown.stdout
    said = json.loads(CliRunner().invoke(app, ["scale", "status", str(target), "--json"]).stdout)
    assert (said["done"], said["total"]) == (12, 24)


def test_no_run_and_a_damaged_manifest_are_sentences(target, tmp_path):
    shown = CliRunner().invoke(app, ["scale", "status", str(tmp_path / "other")])
    assert shown.exit_code == 2
    assert "no run to look at" in " ".join(shown.stderr.split())
    manifest_path(work_folder(target)).write_bytes(b"no database" * 500)
    assert CliRunner().invoke(app, ["scale", "status", str(target)]).exit_code == 2


def test_verbs_of_scale_share_their_options(tmp_path):
    seen: list[tuple[Scale, dict[str, Any]]] = []
    verbs = typer.Typer()

    @verbs.command()
    @with_settings(SECTIONS, "linking", "scale")
    @with_scale()
    def link(source: Annotated[Path, typer.Argument()], settings: dict[str, dict[str, Any]], scale: Scale) -> None:
        """Link."""
        seen.append((scale, settings))

    file = tmp_path / "settings.toml"
    file.write_text("[scale]\nworkers = 3\nretries = 9\n[linking]\nmax_distance = 4.0\n")
    asked = ["here", "--config", str(file), "--workers", "2", "--block", "16,64,64", "--restart"]
    assert CliRunner().invoke(verbs, asked).exit_code == 0
    scale, settings = seen[0]
    assert scale == Scale(ScaleConfig(workers=2, retries=9, block=(16, 64, 64)), restart=True)
    assert settings == {"linking": {"max_distance": 4.0}}
    assert CliRunner().invoke(verbs, ["here", "--workers", "-2"]).exit_code == 2


def test_a_worker_of_another_version_refuses(tmp_path):
    plan = toy_plan(tmp_path / "result")
    task = {**task_of(plan.blocks[0], tmp_path, "run"), "howdah": "0.0.1"}
    report = execute(task)
    assert report["state"] == "refused"
    assert "the run has 0.0.1. Install the same there" in report["error"]
