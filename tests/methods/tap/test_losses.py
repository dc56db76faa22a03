"""Losses and the step size against restatements of the paper and of the published code."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from howdah.methods.tap.config import TapConfig
from howdah.methods.tap.losses import decorrelation, time_arrow_loss
from howdah.methods.tap.schedule import step_size


def _features(rho: float, *, n: int = 4096, f: int = 8) -> torch.Tensor:
    """Features (1, 2, f, 64, 32) of unit variance whose correlations are all ``rho``."""
    draw = torch.Generator().manual_seed(3)
    own, common = torch.randn(f, n, generator=draw), torch.randn(1, n, generator=draw)
    z = math.sqrt(1 - rho) * own + math.sqrt(rho) * common
    return z.view(1, f, 2, 64, 32).transpose(1, 2)


def test_correlated_features_cost_something_only_where_they_are_centred_and_of_unit_length() -> None:
    for rho in (0.0, 0.9):
        assert float(decorrelation(_features(rho), form="published")) == pytest.approx(0.0, abs=1e-5)
    apart, alike = (float(decorrelation(_features(rho))) for rho in (0.0, 0.9))
    assert apart < 0.1
    assert alike > 1.0
    assert float(decorrelation(_features(0.999999))) == pytest.approx(math.log(8), abs=0.01)
    assert float(decorrelation(_features(1.0) + 5)) == pytest.approx(math.log(8), abs=1e-4)


@pytest.mark.parametrize("form", ["correlation", "equation", "published"])
def test_decorrelation_is_what_the_naive_loops_say(form: str) -> None:
    z = torch.randn(2, 2, 4, 3, 5, generator=torch.Generator().manual_seed(1)) * 0.3 + 0.2
    assert float(decorrelation(z, temperature=0.2, form=form)) == pytest.approx(_naive(z.numpy(), 0.2, form), rel=1e-4)  # type: ignore[arg-type]


def _naive(z: np.ndarray, temperature: float, form: str) -> float:
    found = []
    for sample in z.astype(np.float64):
        stacks = [frame.reshape(len(frame), -1) for frame in sample]
        if form != "published":
            stacks = [np.concatenate(stacks, axis=1)]
        for rows in stacks:
            a = rows
            if form != "published":
                a = np.stack([(row - row.mean()) / np.sqrt(((row - row.mean()) ** 2).sum()) for row in rows])
            powers = np.exp(a @ a.T / temperature)
            diagonal = [powers[i, i] / powers[i].sum() for i in range(len(a))]
            if form == "equation":
                found.append(-np.log(np.sum(diagonal)) / len(a))
            else:
                found.append(np.mean([-np.log(d) for d in diagonal]))
    return float(np.mean(found))


@pytest.mark.parametrize("form", ["correlation", "equation", "published"])
def test_constant_features_have_a_finite_gradient(form: str) -> None:
    z = torch.full((1, 2, 4, 6, 6), 3.0, requires_grad=True)
    loss = decorrelation(z, form=form)  # type: ignore[arg-type]
    loss.backward()  # type: ignore[no-untyped-call]
    assert z.grad is not None
    assert bool(torch.isfinite(z.grad).all())


def test_volumes_and_bfloat16_are_taken() -> None:
    z = torch.randn(1, 3, 4, 2, 6, 6)
    assert float(decorrelation(z.bfloat16())) == pytest.approx(float(decorrelation(z)), abs=0.02)


def test_the_arrow_of_time_costs_log_two_where_nothing_is_known() -> None:
    y = torch.tensor([0, 1, 1])
    assert float(time_arrow_loss(torch.zeros(3, 2), y)) == pytest.approx(math.log(2))
    assert float(time_arrow_loss(torch.tensor([[9.0, 0.0], [0.0, 9.0], [0.0, 9.0]]), y)) < 0.001


def test_the_step_size_goes_up_and_down_in_two_passes_with_lower_peaks() -> None:
    config = TapConfig.of({"learning_rate": 1e-4})
    sizes = [step_size(step, 8, config) for step in range(33)]
    assert sizes[0] == sizes[16] == sizes[32] == pytest.approx(1e-4)
    assert sizes[8] == max(sizes) == pytest.approx(9.1e-4)
    assert sizes[24] == pytest.approx(1e-4 + 9e-4 * 0.81)
    assert sizes[4] == pytest.approx((sizes[0] + sizes[8]) / 2)
    assert step_size(5, 8, config.but(schedule="constant")) == pytest.approx(1e-3)
