"""What ELEPHANT's detection network is trained against (paper: L_vclass in its normalised form, L_prior)."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from howdah.methods.elephant.config import ElephantConfig
from howdah.methods.elephant.network import BACKGROUND, CENTRE

Tensor = torch.Tensor

__all__ = ["detection_loss", "prior_loss", "smoothed"]

EPSILON = 1e-6  # the paper's, against division by 0
SMOOTHING = ((3, 1.0), (5, 8.0), (5, 8.0))  # window and sigma in voxels along z, y, x


def detection_loss(log_p: Tensor, labels: Tensor, config: ElephantConfig) -> dict[str, Tensor]:
    """Compute L_vclass and its three terms, in the form of the paper's current version or (``loss="sums"``) its earlier one.

    Args:
        log_p: (B, 3, Z, Y, X) float32, log-probabilities of background, periphery, centre.
        labels: (B, Z, Y, X) uint8, 0 to 6 (see :mod:`targets`); 0 is ignored by all terms but the last.
        config: Weights of classes, of true and false voxels, and of the terms.

    Returns:
        Scalars ``loss`` (to descend), ``nll``, ``dice``, ``smooth``. Without a labelled voxel nll and dice are 0. A part,
        true or false, that has voxels but no centre has the dice term 1, as in the paper: it adds no gradient.
    """
    flat = labels.reshape(-1)
    known = torch.nonzero(flat, as_tuple=True)[0]
    code = flat[known].long() - 1
    is_false, target = code >= 3, code % 3
    per_class = log_p.movedim(1, -1).reshape(-1, 3)[known]
    picked = per_class.gather(1, target[:, None])[:, 0]
    weight = log_p.new_tensor(config.class_weights)[target]
    p = per_class[:, CENTRE].exp()
    is_centre = (target == CENTRE).float()
    nll = dice = log_p.new_zeros(())
    total, normalised = 0.0, config.loss == "normalised"
    for part, factor in ((~is_false, config.true_weight), (is_false, config.false_weight)):
        n = int(part.sum())
        if n == 0 or factor == 0:
            continue
        mask = part.float()
        share = n * factor if normalised else factor
        total += share
        nll = nll - share * (picked * weight * mask).sum() / (weight * mask).sum().clamp_min(EPSILON)
        overlap = (p * is_centre * mask).sum()
        size = ((p**2 + is_centre) * mask).sum().clamp_min(EPSILON)
        dice = dice + share * (1 - 2 * overlap / size)
    if normalised:
        nll, dice = nll / max(total, EPSILON), dice / max(total, EPSILON)
    centre = log_p[:, CENTRE].exp()
    smooth = (centre - smoothed(centre)).abs().mean()
    weights = (config.nll_weight, config.dice_weight, config.smooth_weight)
    loss = weights[0] * nll + weights[1] * dice + weights[2] * smooth
    if normalised:
        loss = loss / sum(weights)
    return {"loss": loss, "nll": nll, "dice": dice, "smooth": smooth}


def prior_loss(log_p: Tensor, image: Tensor) -> Tensor:
    """Compute L_prior: centre probability should follow the intensity, background probability its inverse.

    Args:
        log_p: (B, 3, Z, Y, X) log-probabilities.
        image: (B, Z, Y, X), intensity 0..1.
    """
    p = log_p.exp()
    return (image - p[:, CENTRE]).abs().mean() + ((1 - image) - p[:, BACKGROUND]).abs().mean()


def smoothed(p: Tensor) -> Tensor:
    """Return Up(Down(p)) of (B, Z, Y, X): Gaussian with stride 2, nearest-neighbour upsampling, the same Gaussian again.

    Outside the volume nothing is known: at a border the Gaussian is the mean over what lies inside, so that a constant stays
    what it is, and an axis of one voxel is left alone. The Gaussian is separable, so it runs axis by axis.
    """
    down = _gauss(p[:, None], stride=2)
    up = F.interpolate(down, size=p.shape[1:], mode="nearest")
    return _gauss(up, stride=1)[:, 0]


def _gauss(x: Tensor, stride: int) -> Tensor:
    for axis, (window, sigma) in enumerate(SMOOTHING):
        if x.shape[2 + axis] == 1:
            continue
        offsets = torch.arange(window, dtype=x.dtype, device=x.device) - window // 2
        kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
        size, step, pad = [1, 1, 1], [1, 1, 1], [0, 0, 0]
        size[axis], step[axis], pad[axis] = window, stride, window // 2
        kernel = kernel.view(1, 1, *size)
        along = [1, 1, 1, 1, 1]
        along[2 + axis] = x.shape[2 + axis]
        inside = F.conv3d(x.new_ones(along), kernel, stride=step, padding=pad)  # the kernel's sum inside the volume
        x = F.conv3d(x, kernel, stride=step, padding=pad) / inside
    return x
