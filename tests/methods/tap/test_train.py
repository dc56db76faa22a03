"""Training: it learns, resumes exactly, stops when asked, and leaves usable weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from howdah.errors import DataError, WeightsError
from howdah.methods.tap.config import TapConfig
from howdah.methods.tap.judge import judged
from howdah.methods.tap.learned import settled
from howdah.methods.tap.losses import time_arrow_loss
from howdah.methods.tap.movies import Movie
from howdah.methods.tap.network import Tap
from howdah.methods.tap.train import train
from howdah.methods.tap.weights import network_of, read_weights
from howdah.nn.checkpoint import Weights
from howdah.nn.device import pick
from howdah.progress import Progress, finish

SMALL: dict[str, Any] = {
    "width": 4,
    "features": 4,
    "crop_size": 16,
    "batch_size": 4,
    "epoch_samples": 8,
    "n_epochs": 2,
    "validation_samples": 8,
    "precision": "float32",
    "device": "cpu",
}


def _movie(*, frames: int = 12, shape: tuple[int, int, int] = (1, 24, 24), seed: int = 0) -> Movie:
    """A movie whose only news is that bright stripes get wider."""
    rng = np.random.default_rng(seed)
    images = rng.normal(100, 2, (frames, 1, *shape)).astype(np.float32)
    rows = np.arange(shape[1])[:, None] % 12
    for t in range(frames):
        images[t] += 40 * (rows < 1 + 10 * t / frames)

    def read(time: int, region: Any = None) -> Any:
        return images[time] if region is None else images[time][(slice(None), *region)]

    return Movie("growing", frames, shape, (1.0, 1.0, 1.0), 1, read)


def _run(movies: Sequence[Movie], config: TapConfig, **options: Any) -> tuple[Weights, list[Progress]]:
    seen: list[Progress] = []
    return finish(train(movies, config, **options), seen.append), seen


def _same(a: Weights, b: Weights) -> bool:
    return all(torch.equal(a.members[0][key], b.members[0][key]) for key in b.members[0])


def test_a_resumed_training_is_the_uninterrupted_one(tmp_path: Path) -> None:
    config = TapConfig.of({**SMALL, "delta": [1, 2], "reject_background": 0.5})
    movies = [_movie(), _movie(frames=9, shape=(1, 30, 20), seed=1)]
    whole, seen = _run(movies, config)
    steps = train(movies, config, save_to=tmp_path / "w.safetensors")
    for _ in range(4):  # in the middle of the second pass
        next(steps)
    steps.close()
    assert (tmp_path / "w.safetensors.training").is_file()
    early = read_weights(tmp_path / "w.safetensors")
    assert network_of(early).training is False
    resumed, later = _run(movies, config, save_to=tmp_path / "w.safetensors")
    assert later[0].done == 3
    assert _same(resumed, whole)
    assert resumed.header["curve"] == whole.header["curve"]
    assert not (tmp_path / "w.safetensors.training").exists()
    assert [p.values for p in later if p.values] == [p.values for p in seen if p.values][3:]


def test_the_best_is_kept_where_training_breaks_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest, calls = time_arrow_loss, iter(range(9))
    monkeypatch.setattr(
        "howdah.methods.tap.run.time_arrow_loss",
        lambda logits, y: honest(logits, y) * (1.0 if next(calls) < 3 else float("nan")),
    )
    with pytest.raises(DataError, match="training broke down"):
        _run([_movie()], TapConfig.of(SMALL), save_to=tmp_path / "w.safetensors")
    kept = read_weights(tmp_path / "w.safetensors")
    assert [point["epoch"] for point in kept.header["curve"]] == [1]
    assert all(value.isfinite().all() for value in kept.members[0].values())


def test_a_state_of_another_training_is_left_alone(tmp_path: Path) -> None:
    steps = train([_movie()], TapConfig.of(SMALL), save_to=tmp_path / "w.safetensors")
    for _ in range(3):
        next(steps)
    steps.close()
    other = train([_movie()], TapConfig.of({**SMALL, "learning_rate": 3e-4}), save_to=tmp_path / "w.safetensors")
    first = next(other)
    other.close()
    assert first.done == 0
    assert "starting anew" in first.message


def test_it_learns_which_frame_comes_first_and_notes_what_prediction_needs(tmp_path: Path) -> None:
    learns = {
        "n_epochs": 2,
        "epoch_samples": 64,
        "batch_size": 8,
        "crop_size": 24,
        "augment": 0.0,
        "learning_rate": 5e-4,
    }
    config = TapConfig.of({**SMALL, **learns, "validation": [0.3, 0.6], "delta": [4]})
    epochs: list[tuple[int, int]] = []
    weights, seen = _run(
        [_movie(frames=16)],
        config,
        save_to=tmp_path / "w.safetensors",
        after_epoch=lambda epoch, best: epochs.append((epoch, len(best.header["curve"]))),
    )
    header = read_weights(tmp_path / "w.safetensors").header
    assert header["curve"][-1]["accuracy"] >= 0.9  # of 64 samples; 0.5 is chance
    assert epochs == [(1, 1), (2, 2)]
    assert header["resolved"]["dimensions"] == 2
    assert header["resolved"]["event_distance"] == 6.0
    assert header["data"]["movies"] == ["growing"]
    assert header["network"]["width"] == 4
    assert settled(weights).delta == (4,)
    assert {"loss", "decorrelation", "accuracy", "validation", "validation_accuracy", "rate"} <= set(seen[-1].values)


def test_volumes_three_frames_and_several_movies_are_learned_from() -> None:
    config = TapConfig.of({**SMALL, "n_epochs": 1, "frames": 3, "crop_depth": 4, "width": 2})
    movies = [_movie(shape=(4, 20, 20), seed=1), _movie(shape=(6, 24, 18), seed=2)]
    weights, _ = _run(movies, config)
    assert weights.header["resolved"]["dimensions"] == 3
    assert weights.members[0]["backbone.head.weight"].ndim == 5
    planes, _ = _run(movies, config.but(dimensions=2, crop_depth=None))
    assert planes.members[0]["backbone.head.weight"].ndim == 4


def test_it_stops_where_nothing_gets_better_or_the_time_is_up(tmp_path: Path) -> None:
    flat = TapConfig.of({**SMALL, "n_epochs": 50, "patience": 1, "learning_rate": 1e-12})
    weights, seen = _run([_movie()], flat)
    assert len(weights.header["curve"]) < 50
    assert "No better network" in seen[-1].message
    hurried = TapConfig.of({**SMALL, "n_epochs": 50, "minutes": 1e-6})
    weights, seen = _run([_movie()], hurried, save_to=tmp_path / "w.safetensors")
    assert len(weights.header["curve"]) == 1
    assert "minutes are over" in seen[-1].message
    longer, _ = _run([_movie()], hurried, save_to=tmp_path / "w.safetensors")
    assert len(longer.header["curve"]) == 2


def test_training_goes_on_from_weights_of_the_same_form_only() -> None:
    config = TapConfig.of({**SMALL, "n_epochs": 1})
    first, _ = _run([_movie()], config)
    second, _ = _run([_movie()], config.but(width=None), start=first)
    assert second.header["start"] == first.sha256
    assert second.header["network"] == first.header["network"]
    two = _movie()
    coloured = Movie("two", 12, two.shape, two.voxel_size, 2, lambda t, r: np.concatenate([two.read(t, r)] * 2))
    with pytest.raises(WeightsError, match="cannot go on from these weights"):
        next(train([coloured], config, start=first))


def test_nothing_to_learn_from_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no movie was given"):
        next(train([], TapConfig.of(SMALL)))
    with pytest.raises(WeightsError, match="no such folder"):
        next(train([_movie()], TapConfig.of(SMALL), save_to=tmp_path / "no" / "w.safetensors"))


def test_the_judge_uses_running_statistics_and_leaves_the_network_in_training() -> None:
    torch.manual_seed(0)
    network = Tap(width=2, features=4).train()
    batch = (torch.randn(3, 2, 1, 16, 16), torch.tensor([0, 1, 0]))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    together = judged(network, [batch], pick("cpu", precision="float32"))
    single = [(batch[0][i : i + 1], batch[1][i : i + 1]) for i in range(3)]
    apart = judged(network, single, pick("cpu", precision="float32"))
    assert together.loss == pytest.approx(apart.loss, abs=1e-5)
    assert together.samples == 3
    assert network.training
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
