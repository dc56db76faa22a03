"""Linking backward in time by votes of pixels (paper, section 3.4), and where cells were for the linking package.

Every pixel of a cell at t points to where it sees the cell's centre at t-1, and votes for what lies there: a cell, or the
background. The cell with most votes is the parent; a cell with two such children divides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from howdah.errors import DataError
from howdah.methods.embedtrack.config import EmbedTrackConfig
from howdah.methods.embedtrack.fields import Fields

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
Labels = npt.NDArray[np.integer]
Bool = npt.NDArray[np.bool_]

__all__ = ["Votes", "estimated_centres", "movements", "vote"]

MAJORITY = 0.5


@dataclass(frozen=True, eq=False)
class Votes:
    """Where the N cells of a frame come from; row n is label n + 1.

    Attributes:
        parent: (N,) int64, label at t-1, or 0 where a track begins. No label occurs more than twice.
        share: (N,) 0..1, the part of the cell's pixels that voted for the parent: the quality of the link; 0 without parent.
    """

    parent: I64
    share: F64


def vote(later: Labels, earlier: Labels, fields: Fields, config: EmbedTrackConfig) -> Votes:
    """Link each cell of a frame to a cell of the frame before.

    The background has a vote: a cell whose pixels point mostly beside the cells of t-1 begins a track. Among equal counts a
    cell wins over the background, and a smaller label over a larger one. A parent that two cells choose divides. Where three
    or more choose it, the paper unlinks all of them; here the one with the largest share stays, and the second if more than
    half of its pixels voted so (equal shares: the one with more pixels, then the smaller label). Daughters are about as large as
    each other: with two children of which one is much smaller, that one is a fragment and begins a track.

    Args:
        later: (*S) labels at t, 1..N.
        earlier: (*S) labels at t-1.
        fields: Predictions at t, with tracking offsets.
        config: ``min_vote_share``, ``min_daughter_ratio``; ``compat`` with background_ignored: background does not count, three or
            more are unlinked.

    Raises:
        DataError: There are no tracking offsets, or shapes differ.
    """
    n, names, pixels, places = _pointers(later, fields)
    if earlier.shape != later.shape:
        raise DataError(f"Linking failed: labels have shape {later.shape}, those one frame earlier {earlier.shape}.")
    published = "background_ignored" in config.compat
    rounded = np.rint(places).astype(np.int64)
    size = np.array(fields.shape).reshape(-1, 1)
    inside = ((rounded >= 0) & (rounded < size)).all(axis=0)
    target = np.zeros(len(pixels), dtype=np.int64)
    target[inside] = earlier[tuple(rounded[:, inside])]
    n_pixels = np.bincount(names, minlength=n + 1)[1:]
    parent, votes = _most_voted(n, names, target, background=not published)
    share = votes / np.maximum(n_pixels, 1)
    parent[share < config.min_vote_share] = 0
    parent = _at_most_two(parent, share, n_pixels, none_of_three=published)
    parent = _without_fragments(parent, n_pixels, config.min_daughter_ratio)
    return Votes(parent, np.where(parent > 0, share, 0.0))


def _pointers(labels: Labels, fields: Fields) -> tuple[int, I64, I64, F64]:
    """Return the number of cells; of each of their pixels the cell, the flat index, and where it points to, (D, P) pixels."""
    if fields.tracking is None:
        raise DataError(
            "Linking failed: there are no tracking offsets for this frame; the first frame has no earlier one."
        )
    if labels.shape != fields.shape:
        raise DataError(f"Linking failed: labels have shape {labels.shape}, the predictions {fields.shape}.")
    pixels = np.flatnonzero(labels)
    names = labels.reshape(-1)[pixels].astype(np.int64)
    at = np.stack(np.unravel_index(pixels, labels.shape)).astype(np.float64)
    unit = np.array(fields.unit).reshape(-1, 1)
    places = at - fields.tracking.reshape(len(unit), -1)[:, pixels] / unit
    return int(names.max(initial=0)), names, pixels, places


def _most_voted(n: int, names: I64, target: I64, *, background: bool) -> tuple[I64, I64]:
    """Return the label that most pixels of each cell 1..n point to, (N,), 0 for none, and how many do."""
    n_targets = int(target.max(initial=0)) + 1
    pairs, votes = np.unique(names * n_targets + target, return_counts=True)
    child, parent = pairs // n_targets, pairs % n_targets
    if not background:
        child, parent, votes = child[parent > 0], parent[parent > 0], votes[parent > 0]
    order = np.lexsort((parent, parent == 0, -votes, child))
    first = order[np.unique(child[order], return_index=True)[1]]
    chosen, counts = np.zeros(n + 1, dtype=np.int64), np.zeros(n + 1, dtype=np.int64)
    chosen[child[first]], counts[child[first]] = parent[first], votes[first]
    return chosen[1:], counts[1:]


def _at_most_two(parent: I64, share: F64, n_pixels: I64, *, none_of_three: bool) -> I64:
    """Return the parents after the rule of at most two children."""
    children = np.bincount(parent)
    crowded = np.flatnonzero((parent > 0) & (children[parent] > 2))
    kept = parent.copy()
    kept[crowded] = 0
    if none_of_three or not len(crowded):
        return kept
    order = crowded[np.lexsort((crowded, -n_pixels[crowded], -share[crowded], parent[crowded]))]
    _, first, place = np.unique(parent[order], return_index=True, return_inverse=True)
    rank = np.arange(len(order)) - first[place]
    stays = order[(rank == 0) | ((rank == 1) & (share[order] > MAJORITY))]
    kept[stays] = parent[stays]
    return kept


def _without_fragments(parent: I64, n_pixels: I64, ratio: float) -> I64:
    """Return the parents without those of cells that are much smaller than the other child of theirs."""
    both = np.flatnonzero((parent > 0) & (np.bincount(parent)[parent] == 2))
    pairs = both[np.argsort(parent[both], kind="stable")].reshape(-1, 2)
    size = n_pixels[pairs]
    odd = np.flatnonzero(size.min(axis=1) < ratio * size.max(axis=1))
    kept = parent.copy()
    kept[pairs[odd, size[odd].argmin(axis=1)]] = 0
    return kept


def estimated_centres(labels: Labels, fields: Fields) -> F64:
    """Return where the pixels of each cell see its centre one frame earlier: (N, D) pixels, the median along each axis.

    Rows are labels 1..N; a label without pixels gives NaN.

    Raises:
        DataError: There are no tracking offsets, or shapes differ.
    """
    n, names, _, places = _pointers(labels, fields)
    counts = np.bincount(names, minlength=n + 1)[1:]
    return np.stack([_medians(names, values, counts) for values in places], axis=1)


def movements(labels: Labels, fields: Fields) -> F64:
    """Return how far it is from each cell back to where it was one frame earlier: (N, D) pixels; rows as of :func:`estimated_centres`.

    It is from where most of its pixels see its centre now to where they see it then (medians). So it does not matter which point the
    network calls the centre: added to any point of the cell, it gives that point one frame earlier; a daughter's leads to its mother.

    Raises:
        DataError: There are no tracking offsets, or shapes differ.
    """
    return estimated_centres(labels, fields) - estimated_centres(labels, replace(fields, tracking=-fields.offset))


def _medians(names: I64, values: F64, counts: I64) -> F64:
    """Return the median of the values of each name 1..N, given how many there are of each."""
    low, high = values.min(initial=0.0), values.max(initial=0.0)
    stride = 2.0 * (high - low) + 1.0
    keys = np.sort(
        names * stride + (values - low)
    )  # by name, then value: a sort of plain numbers is much faster than lexsort
    end = np.cumsum(counts)
    first, last = end - counts + (counts - 1) // 2, end - counts + counts // 2
    known = counts > 0
    middle = np.full(len(counts), np.nan)
    both = (keys[first[known]] + keys[last[known]]) / 2
    middle[known] = both - (np.flatnonzero(known) + 1) * stride + low
    return middle
