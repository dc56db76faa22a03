"""Weights files: published ones give what the published network computes, restated here with numpy alone; bad ones a sentence."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from howdah.errors import WeightsError
from howdah.methods.tap.network import Tap, pooling
from howdah.methods.tap.weights import head_of, network_of, read_task, read_weights
from howdah.nn.checkpoint import Weights, save_weights

State = dict[str, Any]


def published(folder: Path, *, seed: int = 0, **form: Any) -> tuple[Path, State]:
    """A ``model_state.pt`` with random numbers everywhere, also in the statistics of the normalisations."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        state = Tap(**{"width": 2, "features": 3, **form}).state_dict()
    for key, value in state.items():
        if key.endswith("running_var") or (value.ndim == 1 and key.endswith("weight")):
            value.uniform_(0.5, 2, generator=generator)
        elif value.is_floating_point():
            value.add_(0.3 * torch.randn(value.shape, generator=generator))
    file = folder / "model_state.pt"
    torch.save(state, file)
    return file, state


class Restated:
    """The published network in evaluation, one formula after the other, float64 (fact sheet 2.1 to 2.3)."""

    def __init__(self, state: State) -> None:
        self.p = {key: value.double().numpy() for key, value in state.items()}

    def norm(self, x: Any, key: str, axis: int) -> Any:
        w, b, m, v = (self.p[f"{key}.{name}"] for name in ("weight", "bias", "running_mean", "running_var"))
        shape = [-1 if i == axis else 1 for i in range(x.ndim)]
        return (x - m.reshape(shape)) / np.sqrt(v.reshape(shape) + 1e-5) * w.reshape(shape) + b.reshape(shape)

    def block(self, x: Any, key: str) -> Any:
        for number in (0, 3):
            w = self.p[f"{key}.conv_block.{number}.weight"]
            wide = np.pad(x, ((0, 0), (1, 1), (1, 1)), mode="edge")
            seen = np.lib.stride_tricks.sliding_window_view(wide, (3, 3), axis=(1, 2))
            y = np.einsum("ocij,cyxij->oyx", w, seen) + self.p[f"{key}.conv_block.{number}.bias"][:, None, None]
            y = self.norm(y, f"{key}.conv_block.{number + 1}", 0)
            x = np.where(y > 0, y, 0.01 * y)
        return x

    def features(self, x: Any) -> Any:
        """(F, Y, X) of one frame (C, Y, X)."""
        _, h, w = x.shape
        (top, left), (more_y, more_x) = ((-h % 8) // 2, (-w % 8) // 2), (-h % 8, -w % 8)
        x = np.pad(x, ((0, 0), (top, more_y - top), (left, more_x - left)), mode="edge")
        skips = []
        for level in range(3):
            x = self.block(x, f"backbone.l_conv.{level}")
            skips.append(x)
            x = x.reshape(len(x), x.shape[1] // 2, 2, x.shape[2] // 2, 2).max((2, 4))
        x = self.block(x, "backbone.l_conv.3")
        for level in (2, 1, 0):
            x = np.concatenate([skips[level], x.repeat(2, 1).repeat(2, 2)])
            x = self.block(x, f"backbone.r_conv.{level}")
        for key in ("backbone.head", "projection_head.layers.0"):
            x = np.einsum("oc,cyx->oyx", self.p[f"{key}.weight"][:, :, 0, 0], x) + self.p[f"{key}.bias"][:, None, None]
        return self.norm(x, "projection_head.layers.1", 0)[:, top : top + h, left : left + w]

    def logits(self, z: Any) -> Any:
        """(T) of the features (T, F, Y, X) of a sample."""
        if "classification_head.layers.0.weight" in self.p:
            return self.plain(z.reshape(-1, *z.shape[2:]))
        for number in (0, 1):
            key = f"classification_head.layers.{number}.layers.0"
            y = self.norm(self.mixed(z, key), f"{key}.norm", 1)
            z = np.where(y > 0, y, 0.01 * y)
        return self.mixed(z.mean((2, 3)), "classification_head.head.1.layers.0")[:, 0]

    def mixed(self, z: Any, key: str) -> Any:
        own, joint = (
            np.einsum("of,tf...->to...", self.p[f"{key}.{part}.weight"], z)
            + self.p[f"{key}.{part}.bias"].reshape(-1, *(1,) * (z.ndim - 2))
            for part in ("L", "G")
        )
        return own + joint.mean(0)

    def plain(self, stacked: Any) -> Any:
        x = stacked
        for number in (0, 2):
            key = f"classification_head.layers.{number}"
            x = np.einsum("oc,cyx->oyx", self.p[f"{key}.weight"][:, :, 0, 0], x) + self.p[f"{key}.bias"][:, None, None]
            x = np.where(x > 0, x, 0.01 * x) if number == 0 else x
        return self.p["classification_head.head.2.weight"] @ x.mean((1, 2))


@pytest.mark.parametrize(("head", "frames"), [("equivariant", 2), ("equivariant", 3), ("plain", 2)])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_published_file_gives_what_the_published_network_computes(
    tmp_path: Path, head: str, frames: int, channels: int
) -> None:
    file, state = published(tmp_path, seed=frames, head=head, channels=channels)
    network = network_of(read_weights(file)).double()  # rounding of float32 is another matter
    x = np.random.default_rng(0).normal(size=(frames, channels, 19, 13))
    with torch.no_grad():
        logits, z = network(torch.from_numpy(x[None]))
    known = Restated(state)
    expected = np.stack([known.features(frame) for frame in x])
    np.testing.assert_allclose(z[0].numpy(), expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(logits[0].numpy(), known.logits(expected), rtol=1e-9, atol=1e-9)


def test_the_header_of_a_published_file_says_what_its_code_does(tmp_path: Path) -> None:
    header = read_weights(published(tmp_path, channels=2)[0]).header
    assert header["kind"] == "network"
    assert header["network"] == Tap(channels=2, width=2, features=3).form
    assert header["resolved"]["percentiles"] == [1.0, 99.8]
    assert header["resolved"]["channels"] == [0, 1]
    assert "delta" not in header["resolved"]


def test_a_file_of_ours_says_how_volumes_are_pooled(tmp_path: Path) -> None:
    network = Tap(width=2, features=3, frames=3, pools=pooling(3, (5.0, 1.0, 1.0)))
    file = ours(tmp_path, network)
    read = network_of(read_weights(file))
    assert read.form == network.form
    torch.testing.assert_close(read.state_dict(), network.state_dict())
    assert not read.training


def test_the_head_of_a_task_is_read_where_it_is_wanted(tmp_path: Path) -> None:
    network = Tap(width=2, features=3)
    file = ours(tmp_path, network, kind="classifier", head={"head.weight": torch.ones(2, 3)})
    assert network_of(read_weights(file)).form == network.form
    assert not head_of(read_weights(file).members[0])
    task = read_task(file, kind="classifier")
    assert head_of(task.members[0])["weight"].shape == (2, 3)
    assert network_of(task).form == network.form
    with pytest.raises(WeightsError, match="of kind 'classifier'; expected 'events'"):
        read_task(file, kind="events")
    with pytest.raises(WeightsError, match="of kind 'network'; expected 'classifier'"):
        read_task(ours(tmp_path, network), kind="classifier")


@pytest.mark.parametrize(
    "wrong",
    [
        {"pools": [[2, 2]] * 2},
        {"pools": [[2, 3]] * 3},
        {"pools": 5},
        {"frames": 99},
        {"width": 4},
        {"head": "plain"},
        {"more": 1},
    ],
)
def test_a_header_that_contradicts_the_numbers_is_a_sentence(tmp_path: Path, wrong: dict[str, Any]) -> None:
    network = Tap(width=2, features=3)
    with pytest.raises(WeightsError, match="its header speaks of a network"):
        read_weights(ours(tmp_path, network, form={**network.form, **wrong}))


def test_a_file_of_ours_without_the_form_is_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    save_weights(file, Weights((Tap(width=2, features=3).state_dict(),), {"method": "tap"}))
    with pytest.raises(WeightsError, match="'network' is missing"):
        read_weights(file)


def test_other_networks_are_a_sentence(tmp_path: Path) -> None:
    file, state = published(tmp_path)
    del state["projection_head.layers.1.weight"]
    torch.save(state, file)
    with pytest.raises(WeightsError, match=r"1 entries are missing \(projection_head.layers.1.weight\)"):
        read_weights(file)
    torch.save(torch.nn.Linear(2, 2).state_dict(), file)
    with pytest.raises(WeightsError, match="belongs to another network"):
        read_weights(file)
    torch.save({**state, "backbone.l_conv.0.conv_block.0.weight": torch.ones(2)}, file)
    with pytest.raises(WeightsError, match="belongs to another network"):
        read_weights(file)
    with pytest.raises(WeightsError, match="no file"):
        read_weights(tmp_path / "none.pt")


def test_a_whole_pickled_network_is_never_run_but_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "model_full.pt"
    with zipfile.ZipFile(file, "w") as opened:
        opened.writestr("model_full/data.pkl", b"\x80\x02ctarrow.models.model\nTimeArrowNet\n.")
    with pytest.raises(WeightsError, match=r"whole pickled network.*model_state\.pt"):
        read_weights(file)


def test_two_members_of_different_networks_are_a_sentence(tmp_path: Path) -> None:
    states = tuple(Tap(width=2, features=n).state_dict() for n in (3, 4))
    file = tmp_path / "w.safetensors"
    save_weights(file, Weights(states, {"method": "tap", "network": Tap(width=2, features=3).form}))
    with pytest.raises(WeightsError, match="members are of different networks"):
        read_weights(file)


def ours(
    folder: Path, network: Tap, *, kind: str = "network", head: State | None = None, form: State | None = None
) -> Path:
    file = folder / f"{kind}.safetensors"
    header = {"method": "tap", "kind": kind, "network": form or network.form}
    save_weights(file, Weights(({**network.state_dict(), **(head or {})},), header))
    return file
