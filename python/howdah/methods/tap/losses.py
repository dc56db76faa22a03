"""Losses: which frame comes first, and features that say different things (paper, section 2, equations 1 and 2).

Equation 2 rewards a matrix of correlations whose diagonal stands out of its rows. The published code fills that matrix with plain sums
over thousands of pixels, so that its softmax is one on the diagonal whatever the features are: it costs nothing up to a correlation of
0.99. Here rows are centred and of unit length, so that the matrix holds correlations, and the temperature of the paper does what it
says.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch.nn import functional

__all__ = ["Form", "decorrelation", "time_arrow_loss"]

Form = Literal["correlation", "equation", "published"]
Tensor = torch.Tensor

TINY = 1e-10  # added before logarithms and to squared lengths


def time_arrow_loss(logits: Tensor, y: Tensor) -> Tensor:
    """Return the cross-entropy of logits (B, T) where ``y`` (B,) is the position of the first frame; a scalar, in nats."""
    return functional.cross_entropy(logits.float(), y)


def decorrelation(z: Tensor, *, temperature: float = 0.2, form: Form = "correlation") -> Tensor:
    """Return how alike the features of a sample are (equation 2), the mean over samples; a scalar.

    Args:
        z: Features (B, T, F, *S) of any floating type; computed in float32.
        temperature: By which correlations are divided before the softmax.
        form: ``"correlation"``: the matrix holds correlations over all pixels of all frames; each row of its softmax counts by the
            logarithm of its diagonal, as in the code. From about 0.2 (32 features, none like another) to log F (all alike).
            ``"equation"``: the same matrix, and the logarithm of the sum of the diagonal as equation 2 has it; it lies between
            -log(F) / F and 0, so with the weight of the paper it does next to nothing.
            ``"published"``: as the code does: frame by frame, rows neither centred nor of unit length.
    """
    rows = z.flatten(3).float()
    if form == "published":
        rows = rows.flatten(0, 1)
    else:
        rows = rows.transpose(1, 2).flatten(2)  # (B, F, T * pixels)
        rows = rows - rows.mean(2, keepdim=True)
        rows = rows * torch.rsqrt(rows.square().sum(2, keepdim=True) + TINY)
    with torch.autocast(z.device.type, enabled=False):
        likeness = rows @ rows.transpose(1, 2) / temperature
    if form == "published":
        diagonal = torch.softmax(likeness, 2).diagonal(dim1=1, dim2=2)
        return -torch.log(diagonal + TINY).mean()
    logs = torch.log_softmax(likeness, 2).diagonal(dim1=1, dim2=2)
    if form == "equation":
        return -torch.logsumexp(logs, 1).mean() / z.shape[2]
    return -logs.mean()
