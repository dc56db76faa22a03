"""The layers of TAP's networks with less memory and less work than one after the other; the numbers are the same up to rounding.

- What a step of training keeps is each convolution's result, and nothing else: normalisation, leaky ReLU, pooling and border are
  computed again for the gradient, the convolutions are not.
- A convolution of stacked images is the sum of the convolutions of each; of an image that was enlarged by repeating its pixels it is a
  transposed convolution of the small image with 4 weights an axis (16 products for 4 pixels instead of 36).
- The bias of a convolution before a batch normalisation drops out; it only moves the running mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

__all__ = ["SLOPE", "again", "bordered", "enlarged", "last_dense", "normalised", "pooled", "rectified"]

Tensor = torch.Tensor
SLOPE = 0.01  # of the leaky ReLU
CONV: dict[int, Any] = {2: functional.conv2d, 3: functional.conv3d}
BACK: dict[int, Any] = {2: functional.conv_transpose2d, 3: functional.conv_transpose3d}
POOL: dict[int, Any] = {2: functional.max_pool2d, 3: functional.max_pool3d}
ORDER: dict[int, Any] = {2: torch.channels_last, 3: torch.channels_last_3d}
SPREAD = {  # factor -> weights of the transposed convolution of each weight of the convolution
    1: ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    2: ((1.0, 0.0, 0.0), (1.0, 1.0, 0.0), (0.0, 1.0, 1.0), (0.0, 0.0, 1.0)),
}


def last_dense(x: Tensor) -> Tensor:
    """Return images (N, C, *S) with the channels of a pixel side by side in memory."""
    return x.contiguous(memory_format=ORDER[x.ndim - 2])


def again(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """Return ``function(first, *tensors)``; for the gradient only the tensors are kept, and what it needs is computed again.

    Args:
        function: Takes a bool and the tensors; the bool says whether this is the first time, and running statistics shall move. What
            its last layer gives is not computed again.
        tensors: What it depends on; weights may come from anywhere.
    """
    if not torch.is_grad_enabled():
        return function(True, *tensors)
    calls: list[None] = []

    def once(*given: Tensor) -> Tensor:
        calls.append(None)
        return function(len(calls) == 1, *given)

    found: Tensor = checkpoint(once, *tensors, use_reentrant=False, preserve_rng_state=False)
    return found


def bordered(x: Tensor, weight: Tensor) -> Tensor:
    """Return the convolution of images (N, C, *S) with weights (out, C, 3, ...); edges repeat the outermost pixels; no bias."""
    space = x.ndim - 2
    found: Tensor = CONV[space](last_dense(functional.pad(x, (1, 1) * space, mode="replicate")), weight)
    return last_dense(found)


def enlarged(x: Tensor, weight: Tensor, factors: Sequence[int]) -> Tensor:
    """Return :func:`bordered` of images (N, C, *S) whose pixels are repeated.

    Args:
        x: The images before.
        weight: (out, C, 3, ...).
        factors: How often a pixel is repeated along each axis: 1 or 2.
    """
    space = x.ndim - 2
    with torch.autocast(x.device.type, enabled=False):
        for axis, factor in enumerate(factors, start=2):
            spread = torch.tensor(SPREAD[factor], dtype=weight.dtype, device=weight.device)
            weight = (weight.flip(axis).movedim(axis, -1) @ spread.T).movedim(-1, axis)
        weight = weight.transpose(0, 1).contiguous()
    x = last_dense(functional.pad(x, (1, 1) * space, mode="replicate"))
    found: Tensor = BACK[space](x, weight, stride=tuple(factors), padding=tuple(factor + 1 for factor in factors))
    return last_dense(found)


def pooled(x: Tensor, factors: Sequence[int]) -> Tensor:
    """Return the largest pixel of each block of images (N, C, *S)."""
    found: Tensor = POOL[x.ndim - 2](x, tuple(factors))
    return found


def normalised(x: Tensor, norm: Any, bias: Tensor | None, *, first: bool) -> Tensor:
    """Return the batch normalisation of (N, C, *S).

    Args:
        x: What a convolution gives without its bias.
        norm: The normalisation, with running statistics.
        bias: The convolution's: only the running mean knows it.
        first: In training, whether the running statistics move.
    """
    mean = norm.running_mean if bias is None else norm.running_mean - bias.detach()
    var = norm.running_var
    if norm.training:
        mean, var = mean.clone(), var.clone()
    y: Tensor = functional.batch_norm(
        x, mean, var, norm.weight, norm.bias, norm.training, norm.momentum or 0.0, norm.eps
    )
    if norm.training and first:
        norm.running_mean.copy_(mean if bias is None else mean + bias.detach())
        norm.running_var.copy_(var)
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
    return y


def rectified(x: Tensor, norm: Any, bias: Tensor | None, *, first: bool) -> Tensor:
    """Return :func:`normalised` after a leaky ReLU."""
    return functional.leaky_relu(normalised(x, norm, bias, first=first), SLOPE, inplace=True)
