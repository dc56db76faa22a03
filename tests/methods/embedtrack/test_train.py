from dataclasses import replace

import numpy as np
import pytest
import torch
from methods.embedtrack.cells import movie

from howdah.errors import ConfigError, DataError, WeightsError
from howdah.methods.embedtrack import train as module
from howdah.methods.embedtrack.config import EmbedTrackConfig
from howdah.methods.embedtrack.network import BranchedERFNet
from howdah.methods.embedtrack.train import METHOD, one_cycle, train
from howdah.methods.embedtrack.weights import read_weights
from howdah.nn.checkpoint import Weights

SMALL = EmbedTrackConfig(
    crop_size=(24, 24),
    enlarge=1,
    n_crops=4,
    batch_size=2,
    n_epochs=2,
    validation_share=0.25,
    precision="float32",
    device="cpu",
)


def finish(run):
    seen = []
    while True:
        try:
            seen.append(next(run))
        except StopIteration as end:
            return seen, end.value


def same(one, other):
    return all(torch.equal(one.members[0][key], other.members[0][key]) for key in one.members[0])


def test_a_training_counts_its_steps_and_returns_weights():
    seen, weights = finish(train(movie(), SMALL))
    assert [p.done for p in seen] == [0, 1, 2, 3, 4]
    assert seen[0].message.startswith("Computing on the CPU")
    assert "10 cells in 4 frames, crops of 24 x 24, 4 steps of 2 pairs" in seen[0].message
    assert set(seen[1].values) == {"loss", "instance", "variance", "seed", "tracking", "guide"}
    assert 0 <= seen[2].values["validation"] <= 1  # at the end of each pass
    assert 0 <= seen[4].values["validation"] <= 1
    header = weights.header
    assert header["method"] == METHOD
    assert header["network"] == {"n_dims": 2, "n_channels": 1, "keep_axials": 0}
    assert header["resolved"]["min_size"] == 24
    assert header["resolved"]["annotation"] == "complete"
    assert header["config"]["min_size"] is None
    assert header["data"]["validation_frames"] == [3]
    best = max(p.values["validation"] for p in seen if "validation" in p.values)
    assert header["metrics"]["validation"] == pytest.approx(best, abs=1e-6)


def test_the_same_seed_gives_the_same_weights():
    first = finish(train(movie(), SMALL))[1]
    assert same(first, finish(train(movie(), SMALL))[1])
    assert not same(first, finish(train(movie(), SMALL.but(seed=1)))[1])


def test_a_cancelled_training_goes_on_as_if_it_had_not_been(tmp_path):
    whole = finish(train(movie(), SMALL, save_to=tmp_path / "whole.safetensors"))[1]
    file = tmp_path / "part.safetensors"
    run = train(movie(), SMALL, save_to=file)
    for _ in range(4):  # the first progress, and three steps
        next(run)
    run.close()
    assert file.with_name("part.safetensors.training").is_file()
    seen, resumed = finish(train(movie(), SMALL, save_to=file))
    assert "Resumed after 3 of 4 steps" in seen[0].message
    assert len(seen) == 2
    assert same(whole, resumed)
    assert resumed.header["metrics"]["validation"] == whole.header["metrics"]["validation"]
    assert [p.name for p in tmp_path.glob("*.training*")] == []
    assert same(read_weights(file), resumed)


def test_a_state_of_other_cells_is_not_continued(tmp_path):
    file = tmp_path / "w.safetensors"
    run = train(movie(), SMALL, save_to=file)
    next(run), next(run)
    run.close()
    seen, _ = finish(train(movie(3), SMALL, save_to=file))
    assert "with other cells or settings was found" in seen[0].message
    assert seen[0].done == 0


def test_training_goes_on_from_weights():
    before = finish(train(movie(), SMALL))[1]
    slow = SMALL.but(learning_rate=1e-9, n_epochs=1, validation_share=0)
    after = finish(train(movie(), slow, start=before))[1]
    key = "decoders.0.output_conv.weight"
    assert torch.allclose(before.members[0][key], after.members[0][key], atol=1e-6)
    assert after.header["start"] == before.sha256


def test_going_on_from_weights_their_numbers_keep_their_meaning():
    before = finish(train(movie(), SMALL.but(grid_size=64, enlarge=2, percentiles=(2.0, 98.0), n_epochs=1)))[1]
    resolved = finish(train(movie(), SMALL.but(enlarge=None, n_epochs=1), start=before))[1].header["resolved"]
    assert (resolved["grid_size"], resolved["enlarge"], resolved["percentiles"]) == (64, 2, [2.0, 98.0])
    asked = finish(train(movie(), SMALL.but(grid_size=128, n_epochs=1), start=before))[1].header["resolved"]
    assert (asked["grid_size"], asked["enlarge"]) == (128, 1)


def test_crops_with_two_planes_after_pooling_are_learned_in_float32_on_a_cpu():
    volume = movie(2, shape=(4, 16, 16), voxel_size=(3.0, 1.0, 1.0))
    config = SMALL.but(crop_size=(4, 16, 16), n_epochs=1, n_crops=1, batch_size=1, validation_share=0)
    for keep, expected in ((2, "torch.float32"), (3, "torch.bfloat16")):
        run = train(volume, config.but(precision="bfloat16", keep_axials=keep))
        assert finish(run)[1].header["precision"] == expected


def test_volumes_are_learned_by_the_same_code():
    volume = movie(2, shape=(6, 32, 32), voxel_size=(3.0, 1.0, 1.0))
    config = SMALL.but(crop_size=(4, 16, 16), n_epochs=1, n_crops=1, batch_size=1, validation_share=0)
    seen, weights = finish(train(volume, config))
    assert weights.header["network"]["n_dims"] == 3
    assert np.isfinite(seen[-1].values["loss"])


def test_it_learns():
    config = SMALL.but(
        n_epochs=6, n_crops=8, crop_size=(32, 32), learning_rate=2e-3, shift_probability=0, blur_probability=0
    )
    seen, _ = finish(train(movie(), config.but(noise_probability=0, clahe_probability=0, rotate=False)))
    losses = [p.values["seed"] for p in seen[1:]]
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4])


def test_the_step_size_grows_then_falls_and_the_momentum_does_the_opposite():
    plan = np.array([one_cycle(step, 100, 1.0) for step in range(100)])
    assert plan[0].tolist() == pytest.approx([1 / 25, 0.95])
    assert plan[29].tolist() == pytest.approx([1.0, 0.85])
    assert plan[99].tolist() == pytest.approx([1 / 25 / 1e4, 0.95])
    assert (np.diff(plan[:30, 0]) > 0).all()
    assert (np.diff(plan[29:, 0]) < 0).all()
    assert one_cycle(0, 1, 1.0)[0] > 0


def test_the_schedule_is_that_of_torch():
    weight = torch.nn.Parameter(torch.zeros(1))
    adam = torch.optim.Adam([weight], lr=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=5e-4, total_steps=50)
    for step in range(50):
        rate, momentum = one_cycle(step, 50, 5e-4)
        assert adam.param_groups[0]["lr"] == pytest.approx(rate, rel=1e-6)
        assert adam.param_groups[0]["betas"][0] == pytest.approx(momentum, rel=1e-6)
        adam.step()
        if step < 49:
            schedule.step()


def test_a_loss_that_is_no_number_is_told_before_it_reaches_the_weights(monkeypatch):
    true = module.embedtrack_loss

    def broken(*args):
        return {name: value * float("nan") for name, value in true(*args).items()}

    monkeypatch.setattr(module, "embedtrack_loss", broken)
    with pytest.raises(DataError, match="gradient is no longer a number"):
        finish(train(movie(), SMALL))


def test_what_cannot_be_is_said_first(tmp_path):
    with pytest.raises(WeightsError, match="no such folder"):
        next(train(movie(), SMALL, save_to=tmp_path / "no" / "w.safetensors"))
    with pytest.raises(ConfigError, match="gradients vanish"):
        next(train(movie(), SMALL.but(precision="float16")))
    other = Weights((BranchedERFNet(3).state_dict(),), {})
    with pytest.raises(WeightsError, match="no network of EmbedTrack for 2 axes"):
        next(train(movie(), SMALL, start=other))
    empty = replace(movie(), labels=lambda t: np.zeros((1, 48, 56), dtype=int))
    with pytest.raises(DataError, match="nothing to train on"):
        next(train(empty, SMALL))
