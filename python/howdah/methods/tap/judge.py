"""What a network is worth: loss and accuracy on fixed crops of frames that are held out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch.nn import functional

from howdah.methods.tap.network import Tap
from howdah.nn.device import Place

__all__ = ["Verdict", "judged"]

Tensor = torch.Tensor


@dataclass(frozen=True)
class Verdict:
    """How well a network tells which frame is the first.

    Attributes:
        loss: Mean cross-entropy, nats; log T for a network that cannot tell.
        accuracy: Share of right answers, 0 to 1; 1 / T for one that cannot tell.
        samples: Of how many.
    """

    loss: float
    accuracy: float
    samples: int


@torch.no_grad()
def judged(network: Tap, batches: Iterable[tuple[Tensor, Tensor]], place: Place) -> Verdict:
    """Judge a network; it is left in the mode (training or not) that it was in.

    Args:
        network: The network, on the device of ``place``.
        batches: Samples (B, T, C, *S) and where their first frame is (B,).
        place: Where and in which precision to compute.
    """
    training = network.training
    network.eval()
    loss, right, samples = 0.0, 0, 0
    for x, y in batches:
        truth = y.to(place.device)
        with place.autocast():
            logits, _ = network(x.to(place.device))
        loss += float(functional.cross_entropy(logits.float(), truth, reduction="sum"))
        right += int((logits.argmax(1) == truth).sum())
        samples += len(y)
    network.train(training)
    return Verdict(loss / max(samples, 1), right / max(samples, 1), samples)
