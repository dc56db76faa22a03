"""What saves memory and work in a training step changes no number."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional

from howdah.methods.tap.lean import again, bordered, enlarged, normalised
from howdah.methods.tap.network import Tap, pooling


def as_published(network: Tap, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Layer by layer with gradient, the head as one formula."""
    flat = network.projection_head(network.backbone(x.flatten(0, 1)))
    z = flat.view(*x.shape[:2], *flat.shape[1:])
    y = z
    for chain in network.classification_head.layers:
        layer = chain.layers[0]
        y = y.movedim(2, -1)
        y = layer.L(y) + layer.G(y).mean(1, keepdim=True)
        y = functional.leaky_relu(layer.norm(y.flatten(0, -2)).view(y.shape), 0.01).movedim(-1, 2)
    last = network.classification_head.head[1].layers[0]
    pooled = y.flatten(3).mean(3)
    return (last.L(pooled) + last.G(pooled).mean(1, keepdim=True))[..., 0], z


@pytest.mark.parametrize("pools", [pooling(2), pooling(3, (5.0, 1.0, 1.0)), pooling(3)])
def test_a_training_step_gives_the_published_numbers_gradients_and_statistics(
    pools: tuple[tuple[int, ...], ...],
) -> None:
    torch.manual_seed(0)
    lean = Tap(channels=2, width=2, features=3, pools=pools).double().train()
    for parameter in lean.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)  # also biases
    plain = copy.deepcopy(lean)
    x = torch.randn(2, 2, 2, *((9, 18, 16) if len(pools[0]) == 3 else (21, 16)), dtype=torch.float64)
    found = lean(x), as_published(plain, x)
    losses = [functional.cross_entropy(logits, torch.tensor([0, 1])) + z.square().sin().mean() for logits, z in found]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    for loss in losses:
        loss.backward()
    for (name, one), (_, other) in zip(lean.named_parameters(), plain.named_parameters(), strict=True):
        given = torch.zeros_like(one) if one.grad is None else one.grad  # biases before a normalisation have none
        torch.testing.assert_close(given, other.grad, rtol=1e-7, atol=1e-9, msg=name)
    for (name, one), (_, other) in zip(lean.named_buffers(), plain.named_buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9, msg=name)


def test_evaluation_is_the_same_with_and_without_a_gradient() -> None:
    torch.manual_seed(0)
    network = Tap(width=4, features=4).eval()
    x = torch.randn(1, 2, 1, 17, 24)
    with torch.no_grad():
        plain = network(x)
    for one, other in zip(network(x), plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("factors", [(2, 2), (1, 2), (1, 2, 2), (2, 2, 2)])
def test_an_enlarged_image_is_convolved_before_enlarging(factors: tuple[int, ...]) -> None:
    x = torch.randn(2, 3, *(5, 4, 3)[: len(factors)], dtype=torch.float64)
    weight = torch.randn(2, 3, *(3,) * len(factors), dtype=torch.float64)
    wide = x
    for axis, factor in enumerate(factors, start=2):
        wide = wide.repeat_interleave(factor, axis)
    torch.testing.assert_close(enlarged(x, weight, factors), bordered(wide, weight))


def test_the_running_statistics_move_once_though_it_is_computed_twice() -> None:
    norm = torch.nn.BatchNorm2d(3)
    x = torch.randn(2, 3, 4, 4, requires_grad=True)
    again(lambda first, given: normalised(given, norm, None, first=first).sin(), x).sum().backward()
    expected = torch.nn.BatchNorm2d(3)
    expected(x)
    torch.testing.assert_close(norm.state_dict(), expected.state_dict())
