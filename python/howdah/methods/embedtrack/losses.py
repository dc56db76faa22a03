"""What training descends: equations 2 to 12 of the paper, for all cells of a batch at once, in 2D and 3D.

Terms are means over cells, so that instance, seed and tracking terms weigh the same however many cells a crop shows. With
``compat = ["loss_sums"]`` they are sums over the cells of an image, but a mean over those of the batch for tracking, as in the published
code. Pixels that are unknown have no part in any term.

Daughters point to one place, their mother's centre. By the letter of equation 11, each then has all pixels of the other as errors, and
being right costs as much as being half wrong. So, but with ``loss_sums``, sisters are left out of each other's tracking term.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

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
    n_images, n_dims = len(segmentation), tracking.shape[1]
    sums = "loss_sums" in config.compat
    inside = _Inside.of(targets)
    raw = segmentation.movedim(1, -1).reshape(-1, 2 * n_dims + 1)
    share = _shares(targets, sums=sums)
    each = share / inside.count  # the weight of each pixel of a cell

    bandwidth = torch.sigmoid(raw[inside.pixel, n_dims : 2 * n_dims])
    mean = inside.mean(bandwidth)  # equation 2
    multiplier = multipliers(mean, config.bandwidth_scale)
    uneven = _spread(bandwidth, mean.detach().index_select(0, inside.cell), sums=sums)
    variance = (uneven * each[inside.cell]).sum()  # equation 3

    position = positions(segmentation.shape[2:], unit, device=segmentation.device)
    places = own_centres(position, segmentation[:, :n_dims]).flatten(2)  # equation 4
    centre = targets.centre * segmentation.new_tensor(tuple(unit))
    cells = Cells(inside.owner, targets.known.view(n_images, -1), targets.image, centre, share)
    instance = overlap_loss(places, multiplier, cells, unit)  # equations 5 to 8

    with torch.no_grad():
        away = places.movedim(1, -1).reshape(-1, n_dims)[inside.pixel] - centre[inside.cell]
        affinity = torch.exp(-(multiplier[inside.cell] * away**2).sum(1))
    seediness = torch.sigmoid(raw[:, -1])
    foreground = ((seediness[inside.pixel] - affinity) ** 2 * each[inside.cell]).sum()
    outside = (targets.known & (targets.objects < 0)).view(n_images, -1)
    seed = config.foreground_weight * foreground + _background(seediness.view(n_images, -1), outside, sums=sums)  # 9

    before = earlier_centres(position, tracking).flatten(2)
    track = _tracking(before, multiplier, targets, unit, sums=sums)  # equation 11

    weighted = (
        config.instance_weight * instance + config.variance_weight * variance + config.seed_weight * seed
    ) * config.segmentation_weight + config.tracking_weight * track  # equations 10 and 12
    loss = weighted / n_images if sums else weighted
    terms = {"instance": instance, "variance": variance, "seed": seed, "tracking": track}
    return {"loss": loss, **{name: value.detach() for name, value in terms.items()}}


@dataclass(frozen=True, eq=False)
class _Inside:
    """The P pixels of cells whose centre is in the crop.

    Attributes:
        owner: (2B, all pixels of an image) row of the cell, -1: none of these.
        pixel: (P,) flat index of each. cell: (P,) its row. count: (N,) float32, pixels of each cell, at least 1.
    """

    owner: Tensor
    pixel: Tensor
    cell: Tensor
    count: Tensor

    @classmethod
    def of(cls, targets: Targets) -> Self:
        objects = targets.objects.view(len(targets.objects), -1)
        seen = torch.cat([targets.seen, targets.seen.new_zeros(1)])  # the last one is for pixels without a cell, -1
        owner = torch.where(seen[objects], objects, -1)
        pixel = torch.nonzero(owner.view(-1) >= 0)[:, 0]
        cell = owner.view(-1)[pixel]
        return cls(owner, pixel, cell, torch.bincount(cell, minlength=len(targets)).clamp_min(1).float())

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over each cell, (N, D), of values of the pixels, (P, D)."""
        total = values.new_zeros(len(self.count), values.shape[1]).index_add(0, self.cell, values)
        return total / self.count[:, None]


def _tracking(before: Tensor, multiplier: Tensor, targets: Targets, unit: Sequence[float], *, sums: bool) -> Tensor:
    """Return equation 11, a mean over the cells with a tracking target; ``before`` (B, D, P) is where pixels see the earlier centre."""
    chosen = torch.nonzero(targets.tracked)[:, 0]
    number = torch.full((len(targets) + 1,), -1, device=before.device)
    number[chosen] = torch.arange(len(chosen), device=before.device)
    image, earlier = targets.image[chosen], targets.earlier[chosen]
    cells = Cells(
        number[targets.objects[: len(before)].flatten(1)],
        targets.known[: len(before)].flatten(1),
        image,
        earlier * before.new_tensor(tuple(unit)),
        torch.full((len(chosen),), 1 / max(len(chosen), 1), device=before.device),
        None if sums else _sisters(image, earlier),
    )
    return overlap_loss(before, multiplier[chosen], cells, unit)


def _sisters(image: Tensor, earlier: Tensor) -> Tensor:
    """Number cells, (M,) int64, so that those of an image with one and the same earlier centre (M, D) have one number."""
    both = torch.cat([image[:, None].to(earlier), earlier], dim=1)
    family: Tensor = torch.unique(both, dim=0, return_inverse=True)[1]
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
