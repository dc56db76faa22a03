import numpy as np
import pytest
import torch

from howdah.methods.efficientcellseg.losses import dice_loss, focal_loss, focal_terms

GENERATOR = np.random.default_rng(0)
LOGITS = torch.from_numpy(GENERATOR.normal(0, 3, (2, 5, 6)).astype(np.float32))
ONES = torch.ones(2, 5, 6)


def lin(logits, targets, gamma, alpha):
    """The focal loss of a pixel as Lin et al. write it, for targets 0 and 1."""
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    right = np.where(targets == 1, p, 1 - p)
    share = np.where(targets == 1, alpha, 1 - alpha)
    return -share * (1 - right) ** gamma * np.log(right)


@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, 0.25), (0.0, 0.5), (1.5, 0.9)])
def test_at_targets_of_zero_and_one_it_is_the_focal_loss_of_lin(gamma, alpha):
    targets = torch.from_numpy(GENERATOR.integers(0, 2, (2, 5, 6)).astype(np.float32))
    expected = lin(LOGITS.numpy(), targets.numpy(), gamma, alpha)
    assert focal_terms(LOGITS, targets, gamma, alpha).numpy() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_numbers_of_torchvision():
    # torchvision.ops.sigmoid_focal_loss(logits, targets, alpha=0.25, gamma=2), run with version 0.29.2
    logits, targets = torch.tensor([-2.0, 0.5, 3.0]), torch.tensor([0.0, 1.0, 0.0])
    expected = [0.001352673, 0.01689337, 2.07471037]
    assert focal_terms(logits, targets, 2.0, 0.25).tolist() == pytest.approx(expected, rel=1e-5)


def test_the_focal_loss_is_least_at_the_target():
    target = torch.full((199,), 0.3)
    p = torch.linspace(0.01, 0.99, 199)
    terms = focal_terms(torch.logit(p), target, 2.0, 0.75)
    assert float(p[terms.argmin()]) == pytest.approx(0.3, abs=0.006)
    assert float(terms.min()) < 1e-5


def test_dice_of_a_perfect_and_of_a_wrong_mask():
    mask = torch.zeros(2, 5, 6)
    mask[:, 1:4, 1:4] = 1
    sure = (mask * 2 - 1) * 50
    assert float(dice_loss(sure, mask, ONES, 1.0)) == pytest.approx(0, abs=1e-6)
    assert float(dice_loss(-sure, mask, ONES, 1.0)) == pytest.approx(1 - 1 / (18 + 42 + 1), abs=1e-5)


def test_dice_of_no_cells_that_are_not_found_is_zero():
    none = torch.zeros(2, 5, 6)
    assert float(dice_loss(none - 50, none, ONES, 1.0)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    "loss", [lambda *a: dice_loss(*a, 1.0), lambda *a: focal_loss(*a, 2.0, 0.75)], ids=["dice", "focal"]
)
def test_unknown_pixels_do_not_count(loss):
    target = (torch.rand(2, 5, 6, generator=torch.Generator().manual_seed(1)) > 0.5).float()
    known = torch.ones(2, 5, 6)
    known[:, :, 3:] = 0
    other = LOGITS.clone()
    other[:, :, 3:] = 7.0
    assert float(loss(LOGITS, target, known)) == pytest.approx(float(loss(other, target, known)), rel=1e-6)
    assert float(loss(LOGITS, target, torch.zeros(2, 5, 6))) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_what_is_exactly_right_has_a_gradient_of_zero(gamma):
    logits = torch.tensor([40.0, -200.0, 0.0], requires_grad=True)
    focal_terms(logits, torch.tensor([1.0, 0.0, 0.5]), gamma, 0.75).sum().backward()
    assert logits.grad.tolist() == pytest.approx([0, 0, 0], abs=1e-6)
