"""The network of TAP: as published, and blind to the order of frames."""

from __future__ import annotations

import pytest
import torch

from howdah.methods.tap import describe
from howdah.methods.tap.network import Tap, form_of, pooling, reach, shapes


def test_parameters_and_entries_are_those_of_the_published_network() -> None:
    assert describe()["networks"]["U-Net with equivariant head"]["parameters"] == 1_955_682
    found = shapes({})
    assert len(found) == 129
    assert found["backbone.r_conv.2.conv_block.0.weight"] == (128, 384, 3, 3)
    assert found["classification_head.layers.1.layers.0.G.weight"] == (32, 32)
    assert found["classification_head.head.1.layers.0.L.weight"] == (1, 32)
    assert sum(torch.Size(v).numel() for k, v in shapes({"head": "plain"}).items() if not _buffer(k)) == 1_954_464


@pytest.mark.parametrize("frames", [2, 3, 4])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("pools", "size"), [(pooling(2), (27, 20)), (pooling(3, (5.0, 1.0, 1.0)), (3, 17, 16))])
def test_permuted_frames_permute_the_logits(
    frames: int, channels: int, pools: tuple[tuple[int, ...], ...], size: tuple[int, ...]
) -> None:
    torch.manual_seed(frames)
    network = Tap(channels=channels, width=8, features=8, frames=frames, pools=pools)
    x = torch.randn(2, frames, channels, *size)
    network(x)  # other statistics than those of a new network
    network.eval()
    order = torch.randperm(frames)
    with torch.no_grad():
        straight, permuted = network(x)[0], network(x[:, order])[0]
    assert float((straight[:, order] - permuted).abs().max()) <= 1e-6


@pytest.mark.parametrize("pools", [pooling(2), pooling(3, (5.0, 1.0, 1.0)), pooling(3)])
def test_reach_is_the_furthest_that_a_feature_sees(pools: tuple[tuple[int, ...], ...]) -> None:
    network = Tap(width=2, features=2, pools=pools).eval()
    far = reach(pools)
    size = [2 * n + 10 for n in far[:-1]]  # one line along x suffices
    for axis, length in enumerate(size):
        shape = [8] * len(pools[0])
        shape[axis] = length
        x = torch.randn(1, 1, *shape, requires_grad=True)
        z = network.dense(x)
        seen = 0
        for at in range(length // 2, length // 2 + 8):
            (gradient,) = torch.autograd.grad(z.movedim(2 + axis, 0)[at].abs().sum(), x, retain_graph=True)
            rows = gradient[0, 0].movedim(axis, 0).flatten(1).abs().sum(1).nonzero()[:, 0]
            seen = max(seen, at - int(rows.min()), int(rows.max()) - at)
        assert seen == far[axis]


def test_the_form_follows_from_the_weights() -> None:
    for form in ({}, {"head": "plain", "channels": 2}, {"pools": pooling(3), "width": 4, "frames": 3}):
        network = Tap(**form)
        found = form_of(network.state_dict(), frames=network.form["frames"])
        assert found == network.form


def _buffer(key: str) -> bool:
    return key.endswith(("running_mean", "running_var", "num_batches_tracked"))
