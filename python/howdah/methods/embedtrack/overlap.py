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
        family: (M,) int64 from 0: pixels of one cell are no errors of another cell of its family. None: each is its own.
    """

    owner: Tensor
    known: Tensor
    image: Tensor
    centre: Tensor
    weight: Tensor
    family: Tensor | None = None


def overlap_loss(places: Tensor, multiplier: Tensor, cells: Cells, unit: Sequence[float]) -> Tensor:
    """Return the weighted sum over cells of the Lovász hinge of (2 d - 1) against their masks.

    Args:
        places: (I, D, P) float32, where each pixel sees the centre of its cell, normalised. With gradient.
        multiplier: (M, D) float32, 1 / bandwidth of each cell. With gradient.
        cells: Masks, centres and weights.
        unit: Length of a pixel along each axis, normalised.
    """
    total: Tensor = _Overlap.apply(places, multiplier, cells, BIN * min(unit))
    return total


class _Overlap(torch.autograd.Function):
    """The gradient has a closed form, and is summed with the loss, part by part: no part outlives its turn."""

    @staticmethod
    def forward(ctx: Any, places: Tensor, multiplier: Tensor, cells: Cells, step: float) -> Tensor:
        n_images, n_dims, n_pixels = places.shape
        place = places.movedim(1, 0).reshape(n_dims, -1)  # (D, I P)
        factor, centre = multiplier.T.contiguous(), cells.centre.T.contiguous()  # (D, M)
        to_place, to_factor = torch.zeros_like(place), torch.zeros_like(factor)
        total = place.new_zeros(())
        for pixel, cell, own in _entries(place, multiplier, cells, step):
            away = [place[d].index_select(0, pixel) - centre[d].index_select(0, cell) for d in range(n_dims)]
            scaled = [away[d] * factor[d].index_select(0, cell) for d in range(n_dims)]
            affinity = torch.exp(-torch.stack([away[d] * scaled[d] for d in range(n_dims)]).sum(0))
            error = torch.where(own, 2 - 2 * affinity, 2 * affinity)
            slope = _lovasz_weights(error, cell, own) * cells.weight.index_select(0, cell)
            total += (slope * error).sum()
            pull = torch.where(own, slope, -slope) * affinity * 2  # by the exponent
            for d in range(n_dims):
                to_place[d].index_add_(0, pixel, 2 * pull * scaled[d])
                to_factor[d].index_add_(0, cell, pull * away[d] ** 2)
        ctx.save_for_backward(to_place.view(n_dims, n_images, n_pixels).movedim(0, 1), to_factor.T)
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


def _entries(place: Tensor, multiplier: Tensor, cells: Cells, step: float) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield (pixel, cell, own): for each cell its own pixels and all known ones of others (but of its family) near its centre.

    A part holds whole cells, and at most ``CHUNK`` entries unless one cell alone has more.
    """
    owner = cells.owner.reshape(-1)
    mine = torch.nonzero(owner >= 0)[:, 0]
    mine = mine[torch.argsort(owner[mine], stable=True)]
    n_mine = torch.bincount(owner[mine], minlength=len(multiplier))
    family = torch.arange(len(multiplier), device=owner.device) if cells.family is None else cells.family
    family = torch.cat([family, family.new_full((1,), -1)])  # the last one is for pixels of no cell, owner -1
    row_cell, start, count, pixels = _rows(place, multiplier, cells, step)
    n_rows = torch.bincount(row_cell, minlength=len(multiplier))
    n_other = torch.zeros_like(n_rows).index_add_(0, row_cell, count)
    a = b = row = 0
    for first, last in _parts((n_mine + n_other).tolist()):
        a, b = b, b + int(n_mine[first:last].sum())
        rows = slice(row, row := row + int(n_rows[first:last].sum()))
        along, n = start[rows], count[rows]
        ends = torch.cumsum(n, 0)
        at = torch.repeat_interleave(along - (ends - n), n)
        other = pixels[at + torch.arange(len(at), device=at.device)]
        cell = torch.repeat_interleave(row_cell[rows], n)
        exponent = sum(
            (place[d].index_select(0, other) - cells.centre[:, d].index_select(0, cell)) ** 2
            * multiplier[:, d].index_select(0, cell)
            for d in range(len(place))
        )
        foreign = family[owner.index_select(0, other)] != family[cell]
        keep = torch.nonzero((exponent < FARTHEST) & foreign)[:, 0]
        pixel = torch.cat([mine[a:b], other.index_select(0, keep)])
        own = torch.arange(len(pixel), device=pixel.device) < b - a
        yield pixel, torch.cat([owner[mine[a:b]], cell.index_select(0, keep)]), own


def _parts(counts: list[int]) -> Iterator[tuple[int, int]]:
    """Cut a row of counts where their sum would exceed ``CHUNK``."""
    first, total = 0, 0
    for i, count in enumerate(counts):
        if total and total + count > CHUNK:
            yield first, i
            first, total = i, 0
        total += count
    if counts:
        yield first, len(counts)


def _rows(place: Tensor, multiplier: Tensor, cells: Cells, step: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sort the known pixels by where they point to, in bins; find for each cell the rows of bins that its box touches.

    Returns:
        cell, start and count of each row, and the sorted pixels that start and count speak of.
    """
    n_dims, n_pixels = len(place), cells.known.shape[1]
    pixels = torch.nonzero(cells.known.reshape(-1))[:, 0]
    low, n_bins, key = [], [], pixels // n_pixels
    for axis in range(n_dims):
        target = torch.nan_to_num(place[axis].index_select(0, pixels))
        low.append(target.min() if len(target) else target.new_zeros(()))
        bins = ((target - low[-1]) / step).long()
        n_bins.append(int(bins.max()) + 1 if len(bins) else 1)
        key = key * n_bins[-1] + bins
    key, order = torch.sort(key)
    radius = torch.sqrt(FARTHEST / multiplier)
    top, least = torch.tensor(n_bins, device=place.device) - 1, torch.stack(low)
    box_low = torch.minimum(((cells.centre - radius - least) / step).clamp_min(0).long(), top)
    box_high = torch.minimum(((cells.centre + radius - least) / step).clamp_min(0).long(), top)
    size = box_high - box_low + 1
    n_rows = size[:, :-1].prod(1)
    row_cell = torch.repeat_interleave(torch.arange(len(n_rows), device=place.device), n_rows)
    number = torch.arange(len(row_cell), device=place.device) - (torch.cumsum(n_rows, 0) - n_rows)[row_cell]
    line = torch.zeros_like(number)
    scale = 1
    for axis in range(n_dims - 2, -1, -1):
        line += (box_low[row_cell, axis] + number % size[row_cell, axis]) * scale
        number = number // size[row_cell, axis]
        scale *= n_bins[axis]
    base = (cells.image[row_cell] * scale + line) * n_bins[-1]
    start = torch.searchsorted(key, base + box_low[row_cell, -1])
    end = torch.searchsorted(key, base + box_high[row_cell, -1], right=True)
    return row_cell, start, end - start, pixels[order]
