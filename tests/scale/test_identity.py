"""What makes two runs the same: what is in files, not where they lie."""

import os
import shutil
import stat
from types import SimpleNamespace

import pytest
from scale.toy_plan import toy_plan

from howdah.cli_options import settings_in
from howdah.errors import ConfigError, ScaleError
from howdah.pipeline.sections import SECTIONS
from howdah.progress import finish
from howdah.scale.config import ScaleConfig
from howdah.scale.folder import block_path, contents, work_folder, write_result
from howdah.scale.identity import identity_of, with_pixels
from howdah.scale.machine import graphics_cards
from howdah.scale.plan import Result
from howdah.scale.run import run_plan

SERIAL = ScaleConfig(workers=0)


def plan_in(folder):
    movie = folder / "movie.tif"
    return toy_plan(folder / "result", inputs={"image": movie}, movie=str(movie.absolute()), out=str(folder / "result"))


def stopped_in(folder):
    folder.mkdir()
    (folder / "movie.tif").write_bytes(b"pixels")
    steps = run_plan(plan_in(folder), SERIAL)
    next(step for step in steps if step.done >= 9)
    steps.close()


def test_a_folder_with_movie_and_stopped_run_can_be_moved(tmp_path):
    stopped_in(tmp_path / "here")
    shutil.move(tmp_path / "here", tmp_path / "there")
    facts = finish(run_plan(plan_in(tmp_path / "there"), SERIAL))
    assert facts["blocks"]["done_before"] >= 9


def test_a_movie_that_was_changed_is_another_one(tmp_path):
    stopped_in(tmp_path / "here")
    (tmp_path / "here" / "movie.tif").write_bytes(b"others")
    with pytest.raises(ScaleError, match="image is another file, or was changed"):
        finish(run_plan(plan_in(tmp_path / "here"), SERIAL))


def test_other_places_of_other_files_differ(tmp_path):
    plan = plan_in(tmp_path)
    (tmp_path / "movie.tif").write_bytes(b"pixels")
    assert identity_of(plan)["shared"]["movie"] == "<image>"
    assert identity_of(plan)["shared"]["out"] == "<target>"
    plan.shared["movie"] = "/another/movie.tif"
    assert identity_of(plan)["shared"]["movie"] == "/another/movie.tif"


def test_the_file_of_the_pixels_is_an_input(tmp_path):
    xml, h5 = tmp_path / "a.xml", tmp_path / "a.h5"
    assert with_pixels({"image": xml}, SimpleNamespace(pixel_path=h5)) == {"image": xml, "pixels": h5}
    assert with_pixels({"image": h5}, SimpleNamespace(pixel_path=h5)) == {"image": h5}
    assert with_pixels({"image": xml}, SimpleNamespace()) == {"image": xml}


def test_the_store_of_a_conversion_is_not_listed(tmp_path, monkeypatch):
    write_result(tmp_path, "parts/p0", Result(), run="r")
    chunk, left = tmp_path / "store" / "0" / "0" / "1.block", tmp_path / "aside" / ".1.part"
    for file in (chunk, left):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    listed, scan = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(os.path.relpath(path, tmp_path)) or scan(path))
    assert contents(tmp_path, {"parts"}) == {"parts/p0"}
    assert sorted(listed) == [".", "aside", "parts", "store"]
    assert not left.exists()


def test_targets_without_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert work_folder(type(tmp_path)()) == tmp_path.with_name(f"{tmp_path.name}.blocks")
    with pytest.raises(ScaleError, match="it has no name"):
        work_folder(type(tmp_path)("/"))


def test_cards_that_are_split_and_cards_after_an_end(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    text = "GPU 0: H200 (UUID: GPU-a)\n  MIG 1g.18gb Device  0: (UUID: MIG-b)\n  MIG 1g.18gb Device  1: (UUID: MIG-c)\nGPU 1: H200"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{text} (UUID: GPU-d)\nEND\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert graphics_cards({}) == ["MIG-b", "MIG-c", "1"]
    assert graphics_cards({"CUDA_VISIBLE_DEVICES": "0,-1,1"}) == ["0"]


def test_a_settings_file_of_any_command_may_have_a_section_scale(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text("[scale]\nworkers = 2\n[linking]\nframe_gap = 2\n")
    assert settings_in(file, SECTIONS) == {"linking": {"frame_gap": 2}}
    assert settings_in(None, SECTIONS) == {}
    file.write_text("[scale]\nworker = 2\n")
    with pytest.raises(ConfigError, match="Did you mean 'workers'"):
        settings_in(file, SECTIONS)


def test_a_full_disk_inside_a_block_says_what_to_do(tmp_path):
    plan = toy_plan(tmp_path / "result", trouble={"frames/t0001": "full"})
    with pytest.raises(ScaleError, match=r"no space is left on the disk\. Free some .*No space left"):
        finish(run_plan(plan, ScaleConfig(workers=0, retries=0)))
    assert not block_path(work_folder(plan.target), "frames/t0001").exists()
