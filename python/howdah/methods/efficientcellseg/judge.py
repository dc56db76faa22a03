"""How well a network does on crops with known cells: what chooses the best network of a training and lets the step size fall."""

from __future__ import annotations

from dataclasses import dataclass

import torch

Tensor = torch.Tensor

__all__ = ["Verdict", "judged"]

MASK = 0.5


@dataclass(frozen=True)
class Verdict:
    """Sums over known pixels: mask right, wrongly there, missed, rightly not there; and of centres the parts of their overlap."""

    right: float = 0.0
    wrong: float = 0.0
    missed: float = 0.0
    empty: float = 0.0
    shared: float = 0.0
    either: float = 0.0

    def __add__(self, other: Verdict) -> Verdict:
        mine, its = vars(self), vars(other)
        return Verdict(**{name: mine[name] + its[name] for name in mine})

    @property
    def mean_iou(self) -> float:
        """Mean over cells and background of overlap by union (paper, section 3.2), 0..1."""
        cell = self.right / max(self.right + self.wrong + self.missed, 1.0)
        background = self.empty / max(self.empty + self.wrong + self.missed, 1.0)
        return (cell + background) / 2

    @property
    def centres(self) -> float:
        """Overlap of predicted and drawn peaks (Dice, with heights), 0..1."""
        return 2 * self.shared / max(self.either, 1e-6)


def judged(names: list[str], logits: Tensor, cell: Tensor, heat: Tensor, known: Tensor) -> Verdict:
    """Compare a prediction with what is known.

    Args:
        names: Of the channels, "cell" and "centre".
        logits: (B, channels, Y, X).
        cell: (B, Y, X) 0 or 1.
        heat: (B, Y, X) 0..1.
        known: (B, Y, X) 0 or 1.
    """
    p = dict(zip(names, torch.sigmoid(logits.float()).unbind(1), strict=True))
    found: dict[str, float] = {}
    if "cell" in p:
        said, there, sure = p["cell"] > MASK, cell > MASK, known > MASK
        found = {
            "right": float((said & there & sure).sum()),
            "wrong": float((said & ~there & sure).sum()),
            "missed": float((~said & there & sure).sum()),
            "empty": float((~said & ~there & sure).sum()),
        }
    if "centre" in p:
        high = p["centre"] * known
        found["shared"] = float((high * heat).sum())
        found["either"] = float((high**2).sum() + (heat**2 * known).sum())
    return Verdict(**found)
