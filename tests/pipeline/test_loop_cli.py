"""The verb ``howdah loop``: its options arrive, and its words leave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from howdah import cli_loop
from howdah.cli import app
from howdah.errors import DataError
from howdah.pipeline.loop import Loop
from howdah.progress import Progress, Steps


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Loop, dict[str, Any]]]:
    """What the command asks the pipeline for."""
    calls = []

    def once(loop: Loop) -> Steps[dict[str, Any]]:
        calls.append((loop, {}))
        yield Progress("train", 1, 1)
        if loop.link:
            raise DataError("nothing to train on")
        return {"cycle": 3}

    def watch(loop: Loop, **options: Any) -> Steps[dict[str, Any]]:
        calls.append((loop, options))
        yield Progress("wait", 0, 0, message="Watching")
        yield Progress("cycle", 1, 0, values={"precision": 0.5}, message="Cycle 1: fine.")
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_loop, "once", once)
    monkeypatch.setattr(cli_loop, "watch", watch)
    return calls


def test_one_cycle_with_all_options(asked: list[tuple[Loop, dict[str, Any]]]) -> None:
    line = "loop a.mastodon --once --json -w w.safetensors --start s.pth --frames 0-3 --predict-frames 4,5 --all-frames"
    result = CliRunner().invoke(app, [*line.split(), "-o", "b.mastodon", "--seconds", "12", "--n-epochs", "3"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"cycle": 3}
    loop, _ = asked[0]
    assert (loop.weights, loop.start, loop.out) == (Path("w.safetensors"), Path("s.pth"), Path("b.mastodon"))
    assert (loop.job.frames, loop.predict_frames, loop.all_frames, loop.link) == ("0-3", "4,5", True, False)
    assert loop.settings == {"elephant": {"n_epochs": 3}, "loop": {"seconds": 12}, "linking": {}, "flow": {}}


def test_a_flow_means_that_links_are_made(asked: list[tuple[Loop, dict[str, Any]]]) -> None:
    CliRunner().invoke(app, ["loop", "a.mastodon", "--once", "--flow", "f.pth"])
    assert (asked[0][0].flow, asked[0][0].link) == (Path("f.pth"), True)


def test_watching_tells_each_cycle_and_ends_with_ctrl_c(asked: list[tuple[Loop, dict[str, Any]]]) -> None:
    result = CliRunner().invoke(app, ["loop", "a.mastodon", "--every", "5"])
    assert result.exit_code == 130
    assert "Watching\nCycle 1: fine.\n" in result.stdout
    assert asked[0][1] == {"every": 5.0}
    lines = CliRunner().invoke(app, ["loop", "a.mastodon", "--json"]).stdout.splitlines()
    assert json.loads(lines[0]) == {"cycle": 1, "precision": 0.5, "message": "Cycle 1: fine."}


def test_errors_are_sentences(asked: list[tuple[Loop, dict[str, Any]]], tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["loop", "a.mastodon", "--once", "--link"])
    assert result.exit_code == 2
    assert "nothing to train on" in result.output
    config = tmp_path / "settings.toml"
    config.write_text("[loop]\nahed = 3\n")
    assert "Did you mean 'ahead'" in CliRunner().invoke(app, ["loop", "a.mastodon", "--config", str(config)]).output
