"""Which pixels each seed gathers: the rule is one seed after the other, the work is many seeds at once.

What a seed does depends on earlier seeds only where both have pixels in range. So pixels are sorted into bins by where they
point to; a seed covers the bins that its range touches. In each round, every waiting seed that comes first in all of its
bins is tried at once: none of them can touch another's pixels, and none of the earlier seeds still waits near it. The result
is that of the plain order, in as many rounds as the longest chain of seeds near each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch

from howdah.methods.embedtrack.coordinates import affinities

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

__all__ = ["Pixels", "Rules", "Seeds", "gather"]

FIRST_WINDOW, LEAST_WINDOW, MOST_WINDOW = 1024, 64, 1 << 15
WIDEST = 8  # half of the bins that the widest range may cover along an axis


@dataclass(frozen=True, eq=False)
class Pixels:
    """Foreground pixels: their flat index (P,), ascending, and the place where they see their centre, (D, P) normalised."""

    index: I64
    place: F32


@dataclass(frozen=True, eq=False)
class Seeds:
    """Possible centres in the order in which they are tried.

    Attributes:
        row: (K,) the pixel among the foreground pixels, or -1: a seed may lie in the background.
        place: (D, K) where it sees its centre, normalised. multiplier: (D, K), 1 / bandwidth of the range around it.
    """

    row: I64
    place: F32
    multiplier: F32


@dataclass(frozen=True)
class Rules:
    """When a seed's pixels become a cell; see :func:`howdah.methods.embedtrack.cluster.find_cells`.

    Attributes:
        affinity_threshold: Ends the range of a seed. max_overlap: Less than this share belonged to others.
        min_size: Pixels, at least 1.
        rejected_hide: Seeds that failed keep pixels from later cells, as in the published code.
    """

    affinity_threshold: float
    max_overlap: float
    min_size: int
    rejected_hide: bool = False


@dataclass(frozen=True, eq=False)
class _Bins:
    """Pixels sorted into boxes of equal size by the place they point to.

    Attributes:
        low: (D, 1) corner of the first box. length: (D, 1) edges of a box. count: boxes along each axis.
        order: (P,) rows of the pixels, box by box. start: (boxes + 1,) where each box begins in ``order``.
    """

    low: F64
    length: F64
    count: tuple[int, ...]
    order: I64
    start: I64

    @classmethod
    def of(cls, place: F32, reach: F64) -> Self:
        """Sort the places (D, P); boxes are about as long as the ranges ``reach`` (D, K), and not more than the pixels."""
        low = place.min(axis=1, keepdims=True).astype(np.float64)
        extent = place.max(axis=1, keepdims=True) - low
        length = np.maximum(np.median(reach, axis=1), reach.max(axis=1) / WIDEST)[:, None]
        while (count := tuple(int(n) for n in (extent // length).ravel() + 1)) and math.prod(count) > 4 * place.shape[
            1
        ]:
            length = length * 2
        bins = cls(low, length, count, np.empty(0, np.int64), np.empty(0, np.int64))
        box = np.ravel_multi_index(tuple(bins.boxes_at(place)), count)
        n = math.prod(count)
        order = np.argsort(box.astype(np.uint16) if n <= 1 << 16 else box, kind="stable")
        start = np.concatenate([[0], np.cumsum(np.bincount(box, minlength=n))])
        return cls(low, length, count, order, start)

    def boxes_at(self, place: npt.NDArray[np.floating]) -> I64:
        """Return the box of each place along each axis, (D, N); places outside belong to the outermost boxes."""
        box = np.floor((place - self.low) / self.length)
        return np.clip(box, 0, np.array(self.count)[:, None] - 1).astype(np.int64)

    def rows(self, first: I64, last: I64) -> tuple[I64, I64, I64]:
        """Return runs of boxes along the last axis that ranges of boxes (D, N), ends included, consist of.

        Returns:
            Number of the range, first box, and last box of each run.
        """
        owner = np.arange(first.shape[1])
        base = np.zeros(first.shape[1], dtype=np.int64)
        for axis, n in enumerate(self.count[:-1]):
            times = (last[axis] - first[axis] + 1)[owner]
            step = _runs(first[axis][owner], times)
            base, owner = np.repeat(base, times) * n + step, np.repeat(owner, times)
        base *= self.count[-1]
        return owner, base + first[-1][owner], base + last[-1][owner]


def _runs(start: I64, length: I64) -> I64:
    """Return start, start + 1 ... (length numbers) of each row, one after the other."""
    end = np.cumsum(length)
    numbers: I64 = np.arange(end[-1] if len(end) else 0) + np.repeat(start - end + length, length)
    return numbers


def gather(pixels: Pixels, seeds: Seeds, rules: Rules) -> tuple[I64, I64]:
    """Give pixels to seeds, as if the seeds were tried one after the other (section 3.3).

    Returns:
        (P,) the seed that each pixel belongs to, -1 for none; (K,) pixels in the range of each seed that made a cell, else 0.
    """
    owner = np.full(len(pixels.index), -1, dtype=np.int64)
    if not len(pixels.index) or not len(seeds.row):
        return owner, np.zeros(len(seeds.row), dtype=np.int64)
    # a little wider than the range, for the affinity is computed in single precision
    reach = np.sqrt(-math.log(rules.affinity_threshold) / seeds.multiplier.astype(np.float64)) * 1.001 + 1e-5
    bins = _Bins.of(pixels.place, reach)
    state = _State.of(pixels, seeds, bins)
    first, last = bins.boxes_at(seeds.place - reach), bins.boxes_at(seeds.place + reach)
    claimed = np.empty(math.prod(bins.count), dtype=np.int64)
    for window in state.windows():
        row, begin, end = bins.rows(first[:, window], last[:, window])
        length = end - begin + 1
        box, who = _runs(begin, length), np.repeat(row, length)
        claimed[box[::-1]] = who[::-1]  # the last one written stays: the first in order
        ready = np.ones(len(window), dtype=bool)
        ready[who[claimed[box] != who]] = False
        tried = ready[row]
        start = bins.start[begin[tried]]
        pixel_runs = bins.start[end[tried] + 1] - start
        state.attempt(_runs(start, pixel_runs), np.repeat(row[tried], pixel_runs), window, rules)
        state.waits[window[ready]] = False
        state.n_ready = int(np.count_nonzero(ready))
    owner[bins.order] = state.owner
    return owner, state.n_near


@dataclass(eq=False)
class _State:
    """What changes while seeds are tried. Pixels are in order of the bins, so that those of a bin lie together.

    Attributes:
        place: (D, P). owner: (P,) seed or -1. best: (P,) affinity to that seed.
        tried: (P,) highest affinity to a seed that failed.
        seed_at: (P,) the seed at that pixel, or -1. waits: (K,) seeds still to be tried.
        n_near: (K,) pixels in the range of each seed that made a cell. seeds: The seeds.
        n_ready: How many seeds the last round tried.
    """

    place: F32
    owner: I64
    best: F32
    tried: F32
    seed_at: I64
    waits: Bool
    n_near: I64
    seeds: Seeds
    n_ready: int = FIRST_WINDOW // 8

    @classmethod
    def of(cls, pixels: Pixels, seeds: Seeds, bins: _Bins) -> Self:
        """Return the state before the first seed."""
        n = len(pixels.index)
        seed_at = np.full(n + 1, -1, dtype=np.int64)  # one more for the seeds of row -1
        seed_at[seeds.row] = np.arange(len(seeds.row))
        return cls(
            place=np.ascontiguousarray(pixels.place[:, bins.order]),
            owner=np.full(n, -1, dtype=np.int64),
            best=np.zeros(n, dtype=np.float32),
            tried=np.zeros(n, dtype=np.float32),
            seed_at=seed_at[bins.order],
            waits=np.ones(len(seeds.row), dtype=bool),
            n_near=np.zeros(len(seeds.row), dtype=np.int64),
            seeds=seeds,
        )

    def windows(self) -> Iterator[I64]:
        """Yield the first seeds that wait, in order, until none waits; how many adapts to how many can be tried at once."""
        window, taken, n = np.empty(0, dtype=np.int64), 0, len(self.waits)
        while True:
            window = window[self.waits[window]]
            width = min(max(8 * self.n_ready, LEAST_WINDOW), MOST_WINDOW)
            while len(window) < width and taken < n:
                more = np.arange(taken, min(taken + max(width, FIRST_WINDOW), n))
                window, taken = np.concatenate([window, more[self.waits[more]]]), taken + len(more)
            if not len(window):
                return
            yield window[:width]

    def attempt(self, at: I64, who: I64, window: I64, rules: Rules) -> None:
        """Try seeds that do not touch each other: pairs of a pixel that may be in range, and a row of ``window``."""
        seed = window[who]
        place, centre = np.take(self.place, at, axis=1), np.take(self.seeds.place, seed, axis=1)
        multiplier = np.take(self.seeds.multiplier, seed, axis=1)
        affinity = affinities(*(torch.from_numpy(values) for values in (place, centre, multiplier))).numpy()
        near = affinity > np.float32(rules.affinity_threshold)
        at, who, affinity = at[near], who[near], affinity[near]
        better = affinity > self.best[at]
        counts = better & (affinity > self.tried[at])
        n = len(window)
        size = np.bincount(who[counts], minlength=n)
        n_shared = np.bincount(who[self.owner[at] >= 0], minlength=n)
        accepted = (size >= rules.min_size) & (n_shared < rules.max_overlap * size)
        taken, failed = better & accepted[who], counts & ~accepted[who]
        self.owner[at[taken]] = window[who[taken]]
        self.best[at[taken]] = affinity[taken]
        blocked = self.best if rules.rejected_hide else self.tried
        blocked[at[failed]] = affinity[failed]
        gone = self.seed_at[at[taken]]
        self.waits[gone[gone >= 0]] = False
        self.n_near[window[accepted]] = np.bincount(who, minlength=n)[accepted]
