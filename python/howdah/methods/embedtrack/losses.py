"""What training descends: equations 2 to 12 of the paper, for all cells of a batch at once, in 2D and 3D.

Terms are means over cells, so that instance, seed and tracking terms weigh the same however many cells a crop shows. With
``compat = ["loss_sums"]`` they are sums over the cells of an image, but a mean over those of the batch for tracking, as in the published
code. Pixels that are unknown have no part in any term.

Daughters point to one place, their mother's centre. By the letter of equation 11, each then has all pixels of the other as errors, and
being right costs as much as being half wrong. So, but with ``loss_sums``, sisters are left out of each other's tracking term.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from howdah.methods.embedtrack.config import EmbedTrackConfig
from howdah.methods.embedtrack.coordinates import earlier_centres, multipliers, own_centres, positions
from howdah.methods.embedtrack.overlap import Cells, overlap_loss
from howdah.methods.embedtrack.targets import Targets

Tensor = torch.Tensor

__all__ = ["embedtrack_loss"]


def embedtrack_loss(
    segmentation: Tensor, tracking: Tensor, targets: Targets, unit: Sequence[float], config: EmbedTrackConfig
) -> dict[str, Tensor]:
    """Compute the loss and its terms, in float32 whatever the type of the predictions.

    Args:
        segmentation: (2B, 2D+1, *S), the later frames, then the earlier ones; before activation: offset, bandwidth, seediness.
        tracking: (B, D, *S), before activation.
        targets: Cells, their centres, and what is known.
        unit: Length of a pixel along each axis, normalised (:func:`coordinates.unit_of`).
        config: Weights of the terms; ``compat``.

    Returns:
        Scalars ``loss`` (to descend: equation 12) and its terms without their weights, detached: ``instance`` (7),
        ``variance`` (3), ``seed`` (9), ``tracking`` (11). A term without cells is 0.
    """
    with torch.autocast(segmentation.device.type, enabled=False):
        return _loss(segmentation.float(), tracking.float(), targets, unit, config)


def _loss(
    segmentation: Tensor, tracking: Tensor, targets: Targets, unit: Sequence[float], config: EmbedTrackConfig
) -> dict[str, Tensor]:
    n_images, n_dims, n_pairs = len(segmentation), tracking.shape[1], len(tracking)
    device, sums = segmentation.device, "loss_sums" in config.compat
    step = torch.tensor(tuple(unit), dtype=torch.float32, device=device)
    position = positions(segmentation.shape[2:], unit, device=device)
    # equation 2: the mean bandwidth of each cell
    objects = targets.objects.view(n_images, -1)
    owner = torch.where(objects >= 0, targets.seen[objects] if len(targets) else objects >= 0, False)
    pixel = torch.nonzero(owner.view(-1))[:, 0]
    cell = objects.view(-1)[pixel]
    count = torch.bincount(cell, minlength=len(targets)).clamp_min(1).float()
    raw = segmentation.movedim(1, -1).reshape(-1, 2 * n_dims + 1)
    bandwidth = torch.sigmoid(raw[pixel, n_dims : 2 * n_dims])
    mean = bandwidth.new_zeros(len(targets), n_dims).index_add(0, cell, bandwidth) / count[:, None]
    multiplier = multipliers(mean, config.bandwidth_scale)
    # equation 3: how much it varies within
    share = _shares(targets, sums=sums)
    each = share / count
    variance = (_spread(bandwidth, mean.detach().index_select(0, cell), sums=sums) * each[cell]).sum()
    # equations 4 to 8: overlap
    centre = targets.centre * step
    places = own_centres(position, segmentation[:, :n_dims]).flatten(2)
    known = targets.known.view(n_images, -1)
    cells = Cells(torch.where(owner, objects, -1), known, targets.image, centre, share)
    instance = overlap_loss(places, multiplier, cells, unit)
    # equation 9: seediness
    seediness = torch.sigmoid(raw[:, -1])
    with torch.no_grad():
        away = places.movedim(1, -1).reshape(-1, n_dims)[pixel] - centre[cell]
        affinity = torch.exp(-(multiplier[cell] * away**2).sum(1))
    inside = ((seediness[pixel] - affinity) ** 2 * each[cell]).sum()
    outside = _background(seediness.view(n_images, -1), known & (objects < 0), sums=sums)
    seed = config.foreground_weight * inside + outside
    # equation 11: tracking
    chosen = torch.nonzero(targets.tracked)[:, 0]
    number = torch.full((len(targets) + 1,), -1, device=device)
    number[chosen] = torch.arange(len(chosen), device=device)
    before = earlier_centres(position, tracking).flatten(2)
    tracked = Cells(
        number[objects[:n_pairs]],
        known[:n_pairs],
        targets.image[chosen],
        targets.earlier[chosen] * step,
        torch.full((len(chosen),), 1 / max(len(chosen), 1), device=device),
        None if sums else _sisters(targets.image[chosen], targets.earlier[chosen]),
    )
    track = overlap_loss(before, multiplier[chosen], tracked, unit)
    # equations 10 and 12
    weighted = (
        config.instance_weight * instance + config.variance_weight * variance + config.seed_weight * seed
    ) * config.segmentation_weight + config.tracking_weight * track
    loss = weighted / n_images if sums else weighted
    terms = {"instance": instance, "variance": variance, "seed": seed, "tracking": track}
    return {"loss": loss, **{name: value.detach() for name, value in terms.items()}}


def _sisters(image: Tensor, earlier: Tensor) -> Tensor:
    """Number cells, (M,) int64, so that those of an image with one and the same earlier centre (M, D) have one number."""
    family: Tensor = torch.unique(torch.cat([image[:, None].to(earlier), earlier], dim=1), dim=0, return_inverse=True)[
        1
    ]
    return family


def _spread(bandwidth: Tensor, mean: Tensor, *, sums: bool) -> Tensor:
    """Return the squared distance of each pixel's bandwidth from its cell's mean, (K, D) both; by way of the mean there is no gradient.

    The published code compares the bandwidth along each axis with the mean along every axis, and takes the mean of it all.
    """
    if sums:
        return ((bandwidth[:, :, None] - mean[:, None, :]) ** 2).mean((1, 2))
    return ((bandwidth - mean) ** 2).sum(1)


def _shares(targets: Targets, *, sums: bool) -> Tensor:
    """Return the weight of each cell in the terms of the segmentation; 0 if its centre is not in the crop."""
    seen = targets.seen.float()
    return seen if sums else seen / seen.sum().clamp_min(1)


def _background(seediness: Tensor, outside: Tensor, *, sums: bool) -> Tensor:
    """Return the mean squared seediness of the known background, (I, P): of the batch, or summed over its images."""
    squared = torch.where(outside, seediness**2, 0)
    if sums:
        return (squared.sum(1) / outside.sum(1).clamp_min(1)).sum()
    return squared.sum() / outside.sum().clamp_min(1)
