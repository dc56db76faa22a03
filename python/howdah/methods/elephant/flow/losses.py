"""What ELEPHANT's flow network is trained against (paper: L_flow; normalised as in the current software, or as sums).

The flow lives on the grid of the later frame: voxel x of I_t was at x + y(x) in I_{t-1}. So the frames are compared there:
I_{t-1} is sampled at x + y(x) and should look like I_t at x. (The paper speaks of the flow applied to I_t, and its code samples
I_t at x - y(x): the same for a flow that is even around a nucleus, and wrong by the difference of the motions elsewhere.)
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F

from howdah.methods.elephant.flow.config import FlowConfig
from howdah.methods.elephant.losses import smoothed

Tensor = torch.Tensor
Vector = tuple[float, float, float]

__all__ = ["Labels", "flow_loss", "ssim", "warped"]

WINDOW = (3, 7, 7)  # z, y, x; the paper writes 7 x 7 x 3
SIGMA = 1.5
C1, C2 = 1e-4, 9e-4


class Labels(NamedTuple):
    """Labelled voxels of a batch.

    Attributes:
        voxel: (K,) int64, flat indices into (B, Z, Y, X).
        value: (K, 3) float32 (z, y, x), displacement in units of the largest one.
    """

    voxel: Tensor
    value: Tensor


def flow_loss(flow: Tensor, images: Tensor, labels: Labels, config: FlowConfig) -> dict[str, Tensor]:
    """Compute L_flow and its three terms.

    Args:
        flow: (B, 3, Z, Y, X) float32 (z, y, x), in units of ``config.max_displacement``.
        images: (B, 2, Z, Y, X): I_{t-1} and I_t, 0..1.
        labels: What is known; without a voxel L_mad is 0.
        config: Weights, ``max_displacement`` (decided), and which form of the loss.

    Returns:
        Scalars ``loss`` (to descend), ``mad``, ``ssim`` (one minus the similarity), ``smooth``, and ``error``: mean distance of
        labels and flow in voxels.
    """
    scale = flow.new_tensor(_decided(config))
    found = flow.movedim(1, -1).reshape(-1, 3)[labels.voxel]
    apart = found - labels.value  # (K, 3)
    weights = flow.new_tensor(config.dim_weights)
    summed = config.loss == "sum"
    n = flow[:, 0].numel() if summed else max(len(labels.voxel), 1)
    mad = (apart.abs() * (weights if summed else weights / weights.sum())).sum() / n
    like = flow.new_zeros(())
    if config.ssim_weight > 0:
        moved, inside = warped(images[:, :1], flow * scale.view(1, 3, 1, 1, 1))
        like = 1 - ssim(moved, images[:, 1:], inside)
    smooth = flow.new_zeros(())
    if config.smooth_weight > 0:
        plain = flow.flatten(0, 1)
        smooth = (plain - smoothed(plain)).abs().mean()
    factors = (config.mad_weight, config.ssim_weight, config.smooth_weight)
    loss = factors[0] * mad + factors[1] * like + factors[2] * smooth
    error = torch.linalg.vector_norm(apart.detach() * scale, dim=1).sum() / max(len(apart), 1)
    return {
        "loss": loss if summed else loss / sum(factors),
        "mad": mad,
        "ssim": like,
        "smooth": smooth,
        "error": error,
    }


def _decided(config: FlowConfig) -> Vector:
    if config.max_displacement is None:
        raise ValueError("max_displacement is not decided; use resolved settings")
    return config.max_displacement


def warped(image: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    """Sample an image at x + flow(x), linearly.

    Args:
        image: (B, 1, Z, Y, X), the earlier frame.
        flow: (B, 3, Z, Y, X) (z, y, x), voxels.

    Returns:
        (B, 1, Z, Y, X) on the grid of the flow; and (B, 1, Z, Y, X) float, 1 where x + flow(x) lies in the image, else 0.
    """
    size = image.shape[2:]
    axes = [torch.arange(n, dtype=flow.dtype, device=flow.device) for n in size]
    places = [
        axis.view([-1 if i == d else 1 for i in range(3)]) + flow[:, d] for d, axis in enumerate(axes)
    ]  # three of (B, Z, Y, X), in voxels
    last = [max(n - 1, 1) for n in size]
    grid = torch.stack([2 * place / end - 1 for place, end in zip(places, last, strict=True)][::-1], dim=-1)  # x, y, z
    moved = F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=True)
    inside = torch.ones_like(places[0], dtype=torch.bool)
    for place, n in zip(places, size, strict=True):
        if n > 1:
            inside &= (place >= 0) & (place <= n - 1)
    return moved, inside[:, None].to(image.dtype)


def ssim(first: Tensor, second: Tensor, known: Tensor) -> Tensor:
    """Mean structural similarity (Wang et al., 2004; paper: SSIM) where both images are known.

    The window is a Gaussian over the known voxels in 3 x 7 x 7 (z, y, x), so borders need no padding.

    Args:
        first: (B, 1, Z, Y, X).
        second: (B, 1, Z, Y, X).
        known: (B, 1, Z, Y, X), 1 where both are known, else 0.

    Returns:
        A scalar, 1 for equal images; 1 also where nothing is known.
    """
    products = torch.cat([first, second, first**2, second**2, first * second], dim=1) * known
    share = _gauss(known).clamp_min(1e-6)
    mean1, mean2, square1, square2, product = (_gauss(products) / share).unbind(1)
    var1, var2, both = square1 - mean1**2, square2 - mean2**2, product - mean1 * mean2
    up = (2 * mean1 * mean2 + C1) * (2 * both + C2)
    down = (mean1**2 + mean2**2 + C1) * (var1 + var2 + C2)
    weight = known[:, 0]
    return 1 - ((1 - up / down) * weight).sum() / weight.sum().clamp_min(1)


def _gauss(x: Tensor) -> Tensor:
    """Gaussian-weighted sums over (B, C, Z, Y, X), 0 outside; separable, so axis by axis."""
    shape = x.shape
    x = x.reshape(-1, 1, *shape[2:])
    for axis, window in enumerate(WINDOW):
        if shape[2 + axis] == 1:
            continue
        offsets = torch.arange(window, dtype=x.dtype, device=x.device) - window // 2
        kernel = torch.exp(-(offsets**2) / (2 * SIGMA**2))
        size, pad = [1, 1, 1], [0, 0, 0]
        size[axis], pad[axis] = window, window // 2
        x = F.conv3d(x, (kernel / kernel.sum()).view(1, 1, *size), padding=pad)
    return x.reshape(shape)
