import sys

import pytest
import torch

from howdah.errors import ConfigError
from howdah.nn import amx
from howdah.nn.device import pick


@pytest.fixture
def announces(monkeypatch, tmp_path):
    """A processor that announces AMX; returns how often a child process was started."""
    monkeypatch.setenv("HOWDAH_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True, "avx512_bf16": True, "cores": 2})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    started = []
    run = amx.subprocess.run

    def counted(command, **options):
        started.append(command)
        return run(command, **options)

    monkeypatch.setattr(amx.subprocess, "run", counted)
    amx.bfloat16_works.cache_clear()
    yield started
    amx.bfloat16_works.cache_clear()


def test_a_child_that_dies_means_float32_and_a_sentence(announces, monkeypatch):
    monkeypatch.setattr(amx, "TRIAL", "import os; os.kill(os.getpid(), 4)" if sys.platform != "win32" else "exit(1)")
    place = pick("auto")
    assert place.precision == torch.float32
    assert "announces AMX" in place.sentence
    with pytest.raises(ConfigError, match="announces AMX, but a trial of bfloat16 ended"):
        pick("cpu", precision="bfloat16")
    assert len(announces) == 1
    amx.bfloat16_works.cache_clear()  # another process of Howdah
    assert pick("cpu").precision == torch.float32
    assert len(announces) == 1


def test_a_child_that_comes_to_its_end_means_bfloat16(announces, monkeypatch):
    monkeypatch.setattr(amx, "TRIAL", "")
    assert pick("cpu").precision == torch.bfloat16
    assert pick("cpu", precision="bfloat16").precision == torch.bfloat16
    assert len(announces) == 1


def test_a_trial_without_an_answer_is_not_kept(announces, monkeypatch):
    monkeypatch.setattr(amx, "TRIAL", "import time; time.sleep(9)")
    monkeypatch.setattr(amx, "TRIAL_S", 0.05)
    for tries in (1, 2):
        assert pick("cpu").precision == torch.float32
        assert len(announces) == tries
        amx.bfloat16_works.cache_clear()


def test_a_cache_that_cannot_be_written_is_no_failure(announces, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOWDAH_WEIGHTS", str(tmp_path / "file" / "inside"))
    monkeypatch.setattr(amx, "TRIAL", "")
    assert amx.bfloat16_works()


def test_without_amx_nothing_is_tried(announces, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": False, "avx512_bf16": True})
    assert pick("cpu").precision == torch.bfloat16
    assert pick("cpu", precision="float32").precision == torch.float32
    assert not announces


def test_float32_needs_no_trial(announces):
    assert pick("cpu", precision="float32").precision == torch.float32
    assert not announces


def test_the_trial_itself_is_sound():
    exec(amx.TRIAL, {})
