"""Clustering of pixels into cells (paper, section 3.3, equation 13).

Every foreground pixel points to a place, where it sees the centre of its cell. Pixels around which enough others point are
seeds. In order of falling seediness, each seed gathers the pixels that point near to the place where it points itself; the
range is the seed's own bandwidth. The result does not depend on anything random: among equal seediness, the first pixel
goes first. Time and memory grow with the foreground, not with the number of cells; how is told in :mod:`.gather`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from skimage import measure

from howdah.errors import DataError
from howdah.methods.embedtrack.config import EmbedTrackConfig
from howdah.methods.embedtrack.coordinates import multipliers
from howdah.methods.embedtrack.fields import Fields
from howdah.methods.embedtrack.gather import Pixels, Rules, Seeds, gather

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]

__all__ = ["Cells", "filled", "find_cells"]


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells of one frame. S is (Y, X) or (Z, Y, X), D their number; row n of the tables is label n + 1.

    Attributes:
        labels: (*S) int32, 1..N without gaps, in order of falling seediness of the seeds; 0 background.
        quality: (N,) float64, 0..1: how well the cell's pixels know its centre (their mean seediness), times the part of the
            pixels in its range that are the cell's: no other cell took them, and they are in one piece.
        centre: (N, D) float64, where the cell's seed sees its centre; pixels, may lie outside of the cell.
    """

    labels: I32
    quality: F64
    centre: F64

    def __len__(self) -> int:
        return len(self.quality)


def find_cells(fields: Fields, config: EmbedTrackConfig, *, min_size: int) -> Cells:
    """Find the cells of a frame.

    A seed's range B are the foreground pixels with an affinity to it above ``affinity_threshold``; its proposal are those of
    them that fit it better than the cell they belong to. The proposal becomes a cell, and takes its pixels from earlier ones,
    if it has at least ``min_size`` pixels, and the pixels of B that belong to earlier cells are fewer than ``max_overlap``
    of it. Of the pixels that the counting finds, those that fitted a seed better that failed before do not count: else
    the stray pixels beside a cell, tried again and again around different centres, would at last pass as cells of their own.
    In the published code, failed seeds also keep such pixels from cells (rejected_proposals).

    In 3D the neighbourhood of a seed has 27 instead of 9 voxels, so three times ``min_votes`` are needed: the same density.

    Args:
        fields: Predictions of the frame.
        config: Thresholds; ``largest_part``, ``fill_holes``; ``compat`` with smooth_multipliers, rejected_proposals.
        min_size: Pixels that a cell has at least; what is left of a cell by later ones counts, before holes are filled.

    Raises:
        DataError: The predictions are not numbers.
    """
    pixels = _foreground(fields, config)
    seeds = _seeds(fields, pixels, config)
    rules = Rules(
        config.affinity_threshold, config.max_overlap, max(min_size, 1), "rejected_proposals" in config.compat
    )
    owner, n_near = gather(pixels, seeds, rules)

    size = np.bincount(owner + 1, minlength=len(seeds.row) + 1)[1:]
    if config.largest_part:
        owner, size = _largest_parts(owner, pixels.index, fields.shape, len(size))
    kept = np.flatnonzero(size >= rules.min_size)
    number = np.zeros(len(seeds.row) + 1, dtype=np.int32)  # the last one is for pixels without a cell, owner -1
    number[kept] = np.arange(1, len(kept) + 1)
    labels = np.zeros(fields.seediness.size, dtype=np.int32)
    labels[pixels.index] = number[owner]
    seediness = np.bincount(owner + 1, fields.seediness.reshape(-1)[pixels.index], minlength=len(size) + 1)[1:]
    quality = np.clip(seediness[kept] / n_near[kept], 0.0, 1.0)  # sum of seediness / size * size / pixels in range
    centre = (seeds.place[:, kept].T / np.array(fields.unit)).astype(np.float64)
    labels = labels.reshape(fields.shape)
    return Cells(filled(labels) if config.fill_holes else labels, quality, centre)


def _foreground(fields: Fields, config: EmbedTrackConfig) -> Pixels:
    """Return the foreground pixels and where they point to."""
    seediness = fields.seediness.reshape(-1)
    if np.isnan(seediness.sum()):
        raise DataError(
            "Finding cells failed: the predicted seediness is not a number for some pixels; check the weights, or set "
            "precision = float32."
        )
    index: I64 = np.flatnonzero(seediness > np.float32(config.foreground_threshold))
    place = _places(fields, index)
    if not np.isfinite(place).all():
        raise DataError(
            "Finding cells failed: predicted offsets are not numbers for some pixels; check the weights, or set precision = "
            "float32."
        )
    return Pixels(index, place)


def _seeds(fields: Fields, pixels: Pixels, config: EmbedTrackConfig) -> Seeds:
    """Return the possible centres in the order in which they are tried."""
    shape = fields.shape
    votes = _votes(pixels.place, fields)
    seediness = fields.seediness.reshape(-1)
    enough = np.flatnonzero(votes >= config.min_votes * 3 ** (len(shape) - 2))
    enough = enough[seediness[enough] > np.float32(config.seed_threshold)]
    place = _places(fields, enough)
    known = np.isfinite(place).all(axis=0)
    enough, place = enough[known], place[:, known]
    row = np.searchsorted(pixels.index, enough)
    row[np.append(pixels.index, -1)[row] != enough] = -1
    multiplier = _smoothed_multipliers(fields, np.stack(np.unravel_index(enough, shape)), config)
    order = np.argsort(-seediness[enough], kind="stable")
    return Seeds(row[order], np.take(place, order, axis=1), np.take(multiplier, order, axis=1))


def _places(fields: Fields, index: I64) -> F32:
    """Return where pixels, given by their flat index, see the centre of their cell: e = p + o (equation 4), (D, N)."""
    place = np.take(fields.offset.reshape(len(fields.shape), -1), index, axis=1)
    for axis, at in enumerate(np.unravel_index(index, fields.shape)):
        place[axis] += at.astype(np.float32) * np.float32(fields.unit[axis])
    return place


def _votes(place: F32, fields: Fields) -> I32:
    """Return how many places lie in the 3 x 3 (x 3) pixels around each pixel, flat; places outside of the frame do not count."""
    shape = fields.shape
    flat, inside = np.zeros(place.shape[1], dtype=np.int64), np.ones(place.shape[1], dtype=bool)
    for values, step, n in zip(place, fields.unit, shape, strict=True):
        pixel = np.rint(values / np.float32(step)).astype(np.int64)
        inside &= (pixel >= 0) & (pixel < n)
        flat = flat * n + pixel
    votes = np.bincount(flat[inside], minlength=fields.seediness.size).astype(np.int32).reshape(shape)
    for axis in range(votes.ndim):
        before, after = (np.s_[:-1], np.s_[1:])
        lead = (slice(None),) * axis
        summed = votes.copy()
        summed[(*lead, after)] += votes[(*lead, before)]
        summed[(*lead, before)] += votes[(*lead, after)]
        votes = summed
    return votes.reshape(-1)


def _smoothed_multipliers(fields: Fields, at: I64, config: EmbedTrackConfig) -> F32:
    """Return 1 / bandwidth (equation 13) at pixels (D, N): of the mean over 3 x 3 (x 3) pixels, mirrored at the border.

    The published code takes the mean of the multipliers instead.
    """
    after = "smooth_multipliers" in config.compat
    bandwidth = fields.bandwidth.reshape(len(at), -1)
    total = np.zeros(at.shape, dtype=np.float64)
    strides = np.cumprod((1, *fields.shape[:0:-1]))[::-1]
    around = []  # for each axis, what the three neighbours along it add to the flat index
    for values, n, stride in zip(at, fields.shape, strides, strict=True):
        before, beyond = np.abs(values - 1), np.where(values == n - 1, max(n - 2, 0), values + 1)
        around.append([np.minimum(before, n - 1) * stride, values * stride, beyond * stride])
    for steps in itertools.product(*around):
        values = np.take(bandwidth, sum(steps[1:], start=steps[0]), axis=1)
        total += _exponential(values, config) if after else values
    mean = (total / 3 ** len(at)).astype(np.float32)
    return mean if after else _exponential(mean, config)


def _exponential(bandwidth: F32, config: EmbedTrackConfig) -> F32:
    return multipliers(torch.from_numpy(np.ascontiguousarray(bandwidth)), config.bandwidth_scale).numpy()


def _largest_parts(owner: I64, index: I64, shape: tuple[int, ...], n: int) -> tuple[I64, I64]:
    """Take from each cell all but its largest connected part; of equal parts the one with the first pixel stays.

    Args:
        owner: (P,) cell of each foreground pixel from 0, or -1.
        index: (P,) its flat index.
        shape: Of the frame.
        n: Number of cells.

    Returns:
        The owners, and (n,) how many pixels each cell has.
    """
    labels = np.zeros(int(np.prod(shape)), dtype=np.int32)
    labels[index] = owner + 1
    named = measure.label(labels.reshape(shape), background=0, connectivity=len(shape))  # type: ignore[no-untyped-call]
    part: I64 = named.reshape(-1)[index]
    size = np.bincount(part)
    cell = np.zeros(len(size), dtype=np.int64)
    cell[part] = owner + 1
    order = np.lexsort((np.arange(len(size)), -size, cell))  # parts are numbered by their first pixels
    order = order[cell[order] > 0]
    names, first = np.unique(cell[order], return_index=True)
    stays = np.zeros(len(size), dtype=bool)
    stays[order[first]] = True
    left = np.zeros(n, dtype=np.int64)
    left[names - 1] = size[order[first]]
    return np.where(stays[part], owner, -1), left


def filled(labels: I32) -> I32:
    """Return the labels with holes filled: background that is enclosed by one cell alone, and does not touch the border.

    Pixels are connected by edges, voxels by faces.
    """
    holes, n = ndimage.label(labels == 0)
    outer = np.zeros(n + 1, dtype=bool)
    outer[0] = True
    for axis in range(labels.ndim):
        for side in (0, -1):
            outer[np.take(holes, side, axis=axis)] = True
    inner = np.flatnonzero(~outer[holes].reshape(-1)) if not outer.all() else np.empty(0, dtype=np.int64)
    if not len(inner):
        return labels
    hole, flat = holes.reshape(-1)[inner], labels.reshape(-1)
    least, most = np.full(n + 1, np.iinfo(np.int32).max, dtype=np.int32), np.zeros(n + 1, dtype=np.int32)
    for stride in np.cumprod((1, *labels.shape[:0:-1])):
        for neighbours in (flat[inner - stride], flat[inner + stride]):  # inner pixels are never at the border
            cell = neighbours > 0
            np.minimum.at(least, hole[cell], neighbours[cell])
            np.maximum.at(most, hole[cell], neighbours[cell])
    whole = labels.copy()
    whole.reshape(-1)[inner] = np.where(least[hole] == most[hole], most[hole], 0)
    return whole
