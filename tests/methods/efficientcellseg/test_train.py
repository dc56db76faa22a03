import numpy as np
import pytest
import torch
from methods.efficientcellseg.disks import annotation

from howdah.errors import ConfigError, WeightsError
from howdah.methods.efficientcellseg import run as running
from howdah.methods.efficientcellseg.config import EfficientCellSegConfig
from howdah.methods.efficientcellseg.predict import Network
from howdah.methods.efficientcellseg.train import train
from howdah.nn.checkpoint import Weights

SMALL = EfficientCellSegConfig(
    encoder="lite0",
    pretrained="none",
    filters=(8, 8, 8, 8),
    enlarge=1,
    crop_size=32,
    n_crops=4,
    batch_size=2,
    n_epochs=2,
    precision="float32",
    device="cpu",
)


def finish(generator):
    seen = []
    while True:
        try:
            seen.append(next(generator))
        except StopIteration as end:
            return seen, end.value


def same(one, other):
    assert len(one.members) == len(other.members)
    return all(torch.equal(a[key], b[key]) for a, b in zip(one.members, other.members, strict=True) for key in a)


def test_a_training_counts_its_steps_and_returns_weights_that_predict():
    seen, weights = finish(train(annotation(3), SMALL))
    steps = [p for p in seen if p.stage == "train"]
    assert [p.done for p in steps] == [0, 1, 2, 3, 4]
    assert "12 cells in 3 frames, crops of 32 x 32, 4 steps of 2 at most" in seen[0].message
    assert set(steps[1].values) == {"loss", "dice", "focal"}
    assert {"validation", "mean_iou", "centres"} < set(steps[2].values)
    header = weights.header
    assert header["method"] == "efficientcellseg"
    assert header["network"] == {
        "encoder": "lite0",
        "filters": [8, 8, 8, 8],
        "outputs": [["cell", "centre"]],
        "scaling": [],
    }
    assert header["resolved"]["min_size"] == 74
    assert header["config"]["min_size"] is None
    assert header["cells"]["diameter"] == pytest.approx(13.8, abs=0.2)
    assert header["data"]["validation_frames"] == [2]
    assert header["steps"] == 4
    maps = Network(weights, EfficientCellSegConfig(device="cpu")).maps(annotation().read(0)[0])
    assert maps.cell.shape == (1, 64, 64)
    assert maps.centre is not None


def test_the_same_seed_gives_the_same_weights():
    first = finish(train(annotation(3), SMALL))[1]
    assert same(first, finish(train(annotation(3), SMALL))[1])
    assert not same(first, finish(train(annotation(3), SMALL.but(seed=1)))[1])


@pytest.mark.parametrize("centres", ["joint", "second"])
def test_a_cancelled_training_goes_on_as_if_it_had_not_been(tmp_path, centres):
    config = SMALL.but(centres=centres, plateau=1, n_epochs=3, search=False)
    whole = finish(train(annotation(3), config, save_to=tmp_path / "whole.safetensors"))[1]
    file = tmp_path / "part.safetensors"
    broken = train(annotation(3), config, save_to=file)
    for _ in range(4):  # the first progress, and three steps
        next(broken)
    broken.close()
    assert file.with_name("part.safetensors.training").is_file()
    seen, resumed = finish(train(annotation(3), config, save_to=file))
    assert "Resumed after 3 of 6 steps" in seen[0].message
    assert same(whole, resumed)
    assert whole.header["metrics"]["validation"] == resumed.header["metrics"]["validation"]
    assert [p.name for p in tmp_path.glob("*.training*")] == []
    assert file.is_file()


def test_a_state_of_other_cells_is_not_continued(tmp_path):
    file = tmp_path / "w.safetensors"
    broken = train(annotation(3), SMALL, save_to=file)
    next(broken), next(broken)
    broken.close()
    seen, _ = finish(train(annotation(4), SMALL, save_to=file))
    assert "with other cells or settings was found" in seen[0].message
    assert seen[0].done == 0


def test_a_second_network_for_centres():
    weights = finish(train(annotation(3), SMALL.but(centres="second", n_epochs=1)))[1]
    assert weights.header["network"]["outputs"] == [["cell"], ["centre"]]
    assert [len(member["last.bias"]) for member in weights.members] == [1, 1]
    assert not torch.equal(weights.members[0]["last.weight"], weights.members[1]["last.weight"])


def test_masks_alone():
    seen, weights = finish(train(annotation(3), SMALL.but(centres="none", n_epochs=1)))
    assert set(seen[1].values) == {"loss", "dice"}
    assert weights.header["network"]["outputs"] == [["cell"]]


def test_training_goes_on_from_weights():
    before = finish(train(annotation(3), SMALL.but(n_epochs=1)))[1]
    slow = SMALL.but(learning_rate=1e-9, n_epochs=1, validation_share=0, filters=(64, 48, 32, 16))
    after = finish(train(annotation(3), slow, start=before))[1]  # the form of the network comes from the weights
    assert torch.allclose(before.members[0]["last.weight"], after.members[0]["last.weight"], atol=1e-6)
    assert after.header["start"] == before.sha256


def test_weights_of_another_network_cannot_be_gone_on_from():
    before = finish(train(annotation(3), SMALL.but(n_epochs=1)))[1]
    other = Weights(({"x": torch.zeros(1)},), before.header)
    with pytest.raises(WeightsError, match="no EfficientCellSeg of the same encoder"):
        next(train(annotation(3), SMALL, start=other))


def test_it_stops_early_where_nothing_gets_better(monkeypatch):
    monkeypatch.setattr(running, "_score", lambda *_: 0.5)
    seen, weights = finish(train(annotation(3), SMALL.but(n_epochs=50, patience=2, search=False)))
    assert seen[-1].message == "No better network for 2 passes: stopped after 6 of 100 steps."
    assert (seen[-1].done, seen[-1].total) == (100, 100)
    assert weights.header["steps"] == 6


def test_the_step_size_falls_at_a_plateau(monkeypatch):
    monkeypatch.setattr(running, "_score", lambda *_: 0.5)
    rates = []
    plain = running.descend
    monkeypatch.setattr(
        running, "descend", lambda loss, net, adam: (rates.append(adam.param_groups[1]["lr"]), plain(loss, net, adam))
    )
    finish(train(annotation(3), SMALL.but(n_epochs=24, patience=25, plateau=10, batch_size=4, search=False)))
    assert rates[0] == pytest.approx(3e-3 / 20)
    assert max(rates) == pytest.approx(3e-3 * 11 / 20)
    assert rates[-1] == pytest.approx(0.75e-3)


def test_a_volume_and_the_search():
    volume = annotation(1, shape=(5, 48, 48), centres=((12, 12), (12, 36), (36, 24)), voxel_size=(3.0, 1.0, 1.0))
    seen, weights = finish(train(volume, SMALL.but(n_epochs=1)))
    assert seen[-1].stage == "search"
    assert weights.header["resolved"]["colour_area"] > 0
    assert weights.header["cells"]["diameter_planes"] == 3


def test_one_image_with_three_outlined_cells_learns_them():
    few = annotation(1, centres=((16, 16), (16, 46), (44, 20)), complete=False)
    seen, weights = finish(train(few, SMALL.but(n_epochs=6, n_crops=8, learning_rate=5e-3, drop_connect=0.0)))
    losses = [p.values["dice"] for p in seen if "dice" in p.values]
    assert np.mean(losses[-4:]) < 0.7 * losses[0]
    assert "validation" not in weights.header["metrics"]


def test_training_is_not_started_where_it_cannot_end(tmp_path):
    with pytest.raises(WeightsError, match="there is no such folder"):
        next(train(annotation(), SMALL, save_to=tmp_path / "none" / "w.safetensors"))
    with pytest.raises(ConfigError, match="float16"):
        next(train(annotation(), SMALL.but(precision="float16")))


def test_a_state_of_another_network_is_not_continued(tmp_path):
    file = tmp_path / "w.safetensors"
    broken = train(annotation(3), SMALL, save_to=file)
    next(broken), next(broken)
    broken.close()
    other = train(annotation(3), SMALL.but(filters=(4, 4, 4, 6)), save_to=file)
    assert "with other cells or settings was found" in next(other).message
    other.close()
