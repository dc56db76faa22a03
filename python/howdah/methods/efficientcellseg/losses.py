"""What training makes small (paper, sections 3.2 and 3.3): Dice for the mask, focal loss for centres. Unknown pixels do not count."""

from __future__ import annotations

import torch

Tensor = torch.Tensor

__all__ = ["dice_loss", "focal_loss", "focal_terms"]

NOT_WRONG = 1e-6  # a root (gamma below 1) has no slope at 0
RARE = 0.01  # the loss of centres is measured against how much centre there is, at least this share of the known pixels


def dice_loss(logits: Tensor, target: Tensor, known: Tensor, smoothing: float) -> Tensor:
    """Return 1 - Dice of a batch, with probabilities in place of a mask (Milletari et al. 2016): 0 is perfect, 1 the worst.

    Sums run over the whole batch, so that a crop without cells weighs little.

    Args:
        logits: (B, Y, X) before the sigmoid.
        target: (B, Y, X) 0 or 1.
        known: (B, Y, X) 1 where the target is known, else 0.
        smoothing: Added to numerator and denominator; pixels.
    """
    p = torch.sigmoid(logits.float()) * known
    y = target * known
    return 1 - (2 * (p * y).sum() + smoothing) / ((p * p).sum() + (y * y).sum() + smoothing)


def focal_terms(logits: Tensor, heat: Tensor, gamma: float, alpha: float) -> Tensor:
    """Return the focal loss of each pixel (Lin et al. 2018), for targets anywhere between 0 and 1.

    ``|y - p|^gamma`` times the cross-entropy, times alpha where the target is 1 and 1 - alpha where it is 0, linear between. With
    targets of 0 and 1 it is theirs.

    Args:
        logits: Any shape, before the sigmoid.
        heat: The same shape, 0..1.
        gamma: How much more what is wrong counts.
        alpha: Share of the centres.
    """
    logits = logits.float()
    cross = torch.nn.functional.binary_cross_entropy_with_logits(logits, heat, reduction="none")
    wrong = (heat - torch.sigmoid(logits)).abs().clamp(min=NOT_WRONG)
    return (alpha * heat + (1 - alpha) * (1 - heat)) * wrong**gamma * cross


def focal_loss(logits: Tensor, heat: Tensor, known: Tensor, gamma: float, alpha: float) -> Tensor:
    """Return the focal loss of a batch: the sum over known pixels, divided by how much centre there is: their sum of targets, or
    a hundredth of the known pixels where that is more, so that crops with few centres do not weigh too much.

    Args:
        logits: (B, Y, X) before the sigmoid.
        heat: (B, Y, X) 0..1, 1 at centres.
        known: (B, Y, X) 1 where the target is known, else 0.
        gamma: See :func:`focal_terms`.
        alpha: See :func:`focal_terms`.
    """
    terms = focal_terms(logits, heat, gamma, alpha) * known
    amount = torch.maximum((heat * known).sum(), RARE * known.sum())
    return terms.sum() / amount.clamp(min=1.0)
