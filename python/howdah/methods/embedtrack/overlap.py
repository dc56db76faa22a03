"""The Lovász hinge of all cells of a batch at once (equations 6 to 8 and 11): exact, at a cost that does not grow as cells x pixels.

Every pixel of an image has a term in the loss of every cell of it. The errors of a cell are 2 - 2d at its own pixels and 2d at
all others, d being the affinity, and the Lovász weights of a cell are not negative and sum to at most 1. So pixels of others
with d < ``NEGLIGIBLE`` change the loss of a cell by less than 2 ``NEGLIGIBLE``, which is under the rounding of float32:
they are left out. What is left lies in a box around the centre that the bandwidth gives, and is found by sorting the pixels
once by where they point to. One sort over (cell, error) then serves all cells.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

Tensor = torch.Tensor

__all__ = ["NEGLIGIBLE", "Cells", "overlap_loss"]

NEGLIGIBLE = 2.0**-25
FARTHEST = -math.log(NEGLIGIBLE)  # in the exponent: 17.3
BIN = 8  # finest pixels: the step in which the pixels are sorted by where they point to
CHUNK = 1 << 22  # pixels of cells that are worked on at once, which bounds the memory


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells of I images of P pixels each, M in all, in the order of their images.

    Attributes:
        owner: (I, P) int64, the row of each pixel's cell; -1: none of these.
        known: (I, P) bool; other pixels have no term.
        image: (M,) int64, ascending.
        centre: (M, D) float32, normalised.
        weight: (M,) float32, of each cell in the sum.
    """

    owner: Tensor
    known: Tensor
    image: Tensor
    centre: Tensor
    weight: Tensor


def overlap_loss(places: Tensor, multiplier: Tensor, cells: Cells, unit: Sequence[float]) -> Tensor:
    """Return the weighted sum over cells of the Lovász hinge of (2 d - 1) against their masks.

    Args:
        places: (I, D, P) float32, where each pixel sees the centre of its cell, normalised. With gradient.
        multiplier: (M, D) float32, 1 / bandwidth of each cell. With gradient.
        cells: Masks, centres and weights.
        unit: Length of a pixel along each axis, normalised.
    """
    total: Tensor = _Overlap.apply(places, multiplier, cells, BIN * min(unit))  # type: ignore[no-untyped-call]
    return total


class _Overlap(torch.autograd.Function):
    """The gradient has a closed form, and is summed with the loss, part by part: no part outlives its turn."""

    @staticmethod
    def forward(ctx: Any, places: Tensor, multiplier: Tensor, cells: Cells, step: float) -> Tensor:
        n_images, n_dims, n_pixels = places.shape
        place = places.movedim(1, -1).reshape(-1, n_dims)  # (I P, D)
        to_place, to_multiplier = torch.zeros_like(place), torch.zeros_like(multiplier)
        total = place.new_zeros(())
        for pixel, cell in _entries(place, multiplier, cells, step):
            away = place[pixel] - cells.centre[cell]
            scaled = away * multiplier[cell]
            exponent = (away * scaled).sum(1)
            own = cells.owner.view(-1)[pixel] == cell
            near = own | (exponent < FARTHEST)
            pixel, cell, away, scaled, own = pixel[near], cell[near], away[near], scaled[near], own[near]
            affinity = torch.exp(-exponent[near])
            error = torch.where(own, 2 - 2 * affinity, 2 * affinity)
            slope = _lovasz_weights(error, cell, own) * cells.weight[cell]
            total += (slope * error).sum()
            pull = torch.where(own, slope, -slope) * affinity * 2  # by the exponent
            to_place.index_add_(0, pixel, (2 * pull)[:, None] * scaled)
            to_multiplier.index_add_(0, cell, pull[:, None] * away**2)
        ctx.save_for_backward(to_place.view(n_images, n_pixels, n_dims).movedim(-1, 1), to_multiplier)
        return total

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor, None, None]:
        to_places, to_multiplier = ctx.saved_tensors
        return outer[0] * to_places, outer[0] * to_multiplier, None, None


def _lovasz_weights(error: Tensor, cell: Tensor, own: Tensor) -> Tensor:
    """Return the weight of each error: how much the Jaccard loss grows when its pixel is wrong besides all with larger errors.

    With P own pixels, p of them and n others up to and with this one: 1 / (P + n) for an own pixel, and
    (P - p) / ((P + n - 1) (P + n)) for another; no difference of close numbers.
    """
    bits = error.clamp_min(0).view(torch.int32).to(torch.int64)  # ordered as the numbers are
    order = torch.argsort((cell << 32) - bits)
    cell, own = cell[order], own[order]
    first = torch.searchsorted(cell, cell)
    rank = torch.arange(len(cell), device=cell.device) - first + 1
    so_far = torch.cumsum(own, 0)
    before = torch.where(first > 0, so_far[first - 1], 0)
    p = so_far - before
    last = torch.searchsorted(cell, cell, right=True) - 1
    whole = (so_far[last] - before).to(error.dtype)
    union = whole + (rank - p)
    others = (whole - p) / ((union - 1).clamp_min(1) * union)
    result = torch.empty_like(error)
    result[order] = torch.where(own, 1 / union, others)
    return result


def _entries(place: Tensor, multiplier: Tensor, cells: Cells, step: float) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (pixel, cell): for each cell its own pixels and all known ones that may point near its centre.

    A part holds whole cells, at most ``CHUNK`` entries unless one cell alone has more.
    """
    for cell in range(len(cells.image)):  # plain and slow; to be replaced
        inside = cells.known[cells.image[cell]]
        pixel = torch.nonzero(inside)[:, 0] + cells.image[cell] * inside.shape[0]
        yield pixel, torch.full_like(pixel, cell)
