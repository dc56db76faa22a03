"""A guide for the offsets at the start of training: how far from the true centre pixels point, in sizes of the cell.

Not in the paper. The overlap loss alone has a place to rest: no offsets, and bandwidths as wide as a cell. On small data training stayed
there for hundreds of steps, and on thin cells to its end. The guide leads out of it and then fades away, so that the paper's
loss has the last word.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from howdah.methods.embedtrack.coordinates import earlier_centres, own_centres, positions
from howdah.methods.embedtrack.targets import Targets

Tensor = torch.Tensor

__all__ = ["fade", "guide_loss"]

FULL, NONE = 0.3, 0.6  # shares of the steps: up to the first the guide has its whole weight, from the second on none


def fade(step: int, steps: int) -> float:
    """Return the share of its weight that the guide has at a step, 1 to 0."""
    return min(max((NONE - step / steps) / (NONE - FULL), 0.0), 1.0)


def guide_loss(segmentation: Tensor, tracking: Tensor, targets: Targets, unit: Sequence[float]) -> Tensor:
    """Return how far pixels point from their cell's centre and from its earlier centre, a mean over cells for each, added.

    It is about 1 for each where there are no offsets (more where cells move), and 0 where all are right.

    Args:
        segmentation: (2B, 2D+1, *S), before activation; the first D are offsets.
        tracking: (B, D, *S), before activation.
        targets: Cells and their centres.
        unit: Length of a pixel along each axis, normalised.
    """
    n_dims = tracking.shape[1]
    position = positions(segmentation.shape[2:], unit, device=segmentation.device)
    step = torch.tensor(tuple(unit), dtype=torch.float32, device=segmentation.device)
    own = own_centres(position, segmentation[:, :n_dims].float())
    before = earlier_centres(position, tracking.float())
    size = _radii(position, targets, step)
    first = targets.objects[: len(tracking)]
    return _miss(own, targets.objects, targets.centre * step, size, targets.seen) + _miss(
        before, first, targets.earlier * step, size, targets.tracked
    )


def _radii(position: Tensor, targets: Targets, step: Tensor) -> Tensor:
    """Mean distance of each cell's pixels from its centre, (N,), at least one pixel."""
    places = position[None].expand(len(targets.objects), *position.shape)
    total, count = _sums(places, targets.objects, targets.centre * step)
    return (total / count.clamp_min(1)).clamp_min(float(step.min()))


def _miss(places: Tensor, objects: Tensor, centre: Tensor, size: Tensor, chosen: Tensor) -> Tensor:
    """Mean over the chosen cells of the mean distance of places (I, D, *S) from the centre, in sizes of the cell."""
    total, count = _sums(places, objects, centre)
    wanted = chosen & (count > 0)
    each = torch.where(wanted, total / (size * count.clamp_min(1)), 0.0)
    return each.sum() / wanted.sum().clamp_min(1)


def _sums(places: Tensor, objects: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    """Sum over each cell's pixels of the distance of places (I, D, *S) from its centre, and their number, (N,) each."""
    pixel = torch.nonzero(objects.reshape(-1) >= 0)[:, 0]
    cell = objects.reshape(-1)[pixel]
    away = places.movedim(1, -1).reshape(-1, places.shape[1])[pixel] - centre[cell]
    distance = torch.sqrt((away**2).sum(1) + 1e-12)
    total = distance.new_zeros(len(centre)).index_add(0, cell, distance)
    return total, torch.bincount(cell, minlength=len(centre))
