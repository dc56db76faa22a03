import math

import pytest
import torch

from howdah.methods.elephant.config import ElephantConfig
from howdah.methods.elephant.losses import detection_loss, prior_loss, smoothed

CONFIG = ElephantConfig()


def volume(p, labels):
    """(N, 3) probabilities and N labels as one row of voxels."""
    log_p = torch.tensor(p, dtype=torch.float32).log().T.reshape(1, 3, 1, 1, -1)
    return log_p, torch.tensor(labels, dtype=torch.uint8).reshape(1, 1, 1, -1)


def values(p, labels, **settings):
    return {k: v.item() for k, v in detection_loss(*volume(p, labels), CONFIG.but(**settings)).items()}


P = [(0.5, 0.3, 0.2), (0.1, 0.2, 0.7), (0.2, 0.5, 0.3), (0.6, 0.3, 0.1)]


def test_nll_of_one_part_is_the_class_weighted_mean():
    found = values(P, [1, 3, 2, 0])
    assert found["nll"] == pytest.approx(-(math.log(0.5) + 10 * math.log(0.7) + 10 * math.log(0.5)) / 21)


def test_dice_of_one_part():
    found = values(P, [1, 3, 2, 0])
    assert found["dice"] == pytest.approx(1 - 2 * 0.7 / (0.2**2 + 0.7**2 + 0.3**2 + 1))


def test_true_and_false_parts_are_weighted_by_number_and_weight():
    found = values(P, [1, 3, 6, 5], false_weight=2.5)
    true_nll = -(math.log(0.5) + 10 * math.log(0.7)) / 11
    false_nll = -(10 * math.log(0.3) + 10 * math.log(0.3)) / 20
    true_dice = 1 - 2 * 0.7 / (0.2**2 + 0.7**2 + 1)
    false_dice = 1 - 2 * 0.3 / (0.3**2 + 0.1**2 + 1)
    assert found["nll"] == pytest.approx((2 * true_nll + 5 * false_nll) / 7)
    assert found["dice"] == pytest.approx((2 * true_dice + 5 * false_dice) / 7)


def test_total_is_the_normalised_sum():
    found = values(P, [1, 3, 6, 5])
    assert found["loss"] == pytest.approx((found["nll"] + 5 * found["dice"] + found["smooth"]) / 7)


def test_a_part_without_centre_has_dice_one_and_no_gradient():
    assert values(P, [1, 2, 1, 0])["dice"] == pytest.approx(1)
    log_p, labels = volume(P, [1, 2, 1, 0])
    log_p.requires_grad_()
    detection_loss(log_p, labels, CONFIG)["dice"].backward()
    assert not log_p.grad.any()


def test_nothing_labelled_leaves_the_smooth_term():
    found = values(P, [0, 0, 0, 0])
    assert found["nll"] == found["dice"] == 0
    assert found["loss"] == pytest.approx(found["smooth"] / 7)


def test_unlabelled_voxels_do_not_matter_to_likelihood_and_dice():
    first = values(P, [1, 3, 2, 0])
    second = values([*P[:3], (0.01, 0.01, 0.98)], [1, 3, 2, 0])
    assert (first["nll"], first["dice"]) == pytest.approx((second["nll"], second["dice"]))


def test_a_perfect_prediction_costs_nothing():
    eps = 1e-6
    p = [(1 - 2 * eps, eps, eps), (eps, eps, 1 - 2 * eps), (eps, 1 - 2 * eps, eps)]
    found = values(p, [1, 6, 2])
    assert found["nll"] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("shape", [(1, 12, 32, 32), (1, 5, 17, 9), (2, 1, 32, 32), (1, 2, 3, 40), (1, 1, 1, 16)])
@pytest.mark.parametrize("value", [0.05, 0.3, 1.0])
def test_a_constant_is_not_rough(shape, value):
    constant = torch.full(shape, value)
    torch.testing.assert_close(smoothed(constant), constant, rtol=1e-6, atol=0)
    log_p = torch.full((shape[0], 3, *shape[1:]), value).log()
    found = detection_loss(log_p, torch.zeros(shape, dtype=torch.uint8), CONFIG)
    assert found["smooth"].item() == pytest.approx(0, abs=1e-6)


def test_a_checkerboard_is_rough():
    even = torch.stack(torch.meshgrid(*[torch.arange(8)] * 3, indexing="ij")).sum(0) % 2
    assert (smoothed(even.float()[None]) - even).abs().mean() > 0.4


@pytest.mark.parametrize("shape", [(1, 1, 16, 16), (2, 5, 17, 9), (1, 3, 1, 1)])
def test_smoothing_keeps_any_shape(shape):
    assert smoothed(torch.rand(shape)).shape == shape


def test_prior_loss_by_hand():
    log_p = torch.tensor([[0.6, 0.1, 0.3], [0.2, 0.1, 0.7]]).log().T.reshape(1, 3, 1, 1, 2)
    image = torch.tensor([0.2, 0.9]).reshape(1, 1, 1, 2)
    assert prior_loss(log_p, image).item() == pytest.approx((0.1 + 0.2) / 2 + (0.2 + 0.1) / 2)


def test_the_earlier_loss_adds_up_parts_and_terms():
    found = values(P, [1, 3, 6, 5], false_weight=2.5, loss="sums")
    true_nll = -(math.log(0.5) + 10 * math.log(0.7)) / 11
    false_nll = -(10 * math.log(0.3) + 10 * math.log(0.3)) / 20
    assert found["nll"] == pytest.approx(true_nll + 2.5 * false_nll)
    assert found["loss"] == pytest.approx(found["nll"] + 5 * found["dice"] + found["smooth"])
