"""What the Cell Tracking Challenge asks of results: the field of interest, track numbers, tracks without holes.

The rules speak of masks, so these functions take the labels of frames and the parents that :func:`.link.vote` gives; 3D
masks keep their shape. Labels of a frame are 1..N; tables have a row a label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from howdah.errors import DataError

I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.integer[Any]]

__all__ = ["Lineage", "inside_field", "large_enough", "lineage", "painted"]


def inside_field(labels: Labels, border: int) -> Bool:
    """Return which cells lie in the field of interest: (N,), at least one pixel is ``border`` pixels or more from the edge.

    Args:
        labels: (*S) labels 1..N of a frame. In 3D the edges in z do not count, as in the challenge.
        border: The challenge's number for the data set, 0, 25 or 50 pixels.
    """
    inner = labels[..., border : max(labels.shape[-2] - border, 0), border : max(labels.shape[-1] - border, 0)]
    return np.bincount(inner.reshape(-1), minlength=int(labels.max(initial=0)) + 1)[1:] > 0


def large_enough(labels: Labels, min_size: int) -> Bool:
    """Return which cells have at least ``min_size`` pixels, and any at all: (N,)."""
    return np.bincount(labels.reshape(-1), minlength=1)[1:] >= max(min_size, 1)


@dataclass(frozen=True, eq=False)
class Lineage:
    """Tracks in the sense of the challenge: chains of cells without branches and holes.

    Attributes:
        shown: (T,) the frame whose masks are shown at each frame; its own, but where empty frames were filled.
        numbers: For each frame, (N_shown,) track number of each label of the frame that is shown; 0: the cell is left out.
        table: (K, 4) int64: number, first frame, last frame, parent or 0; ascending by number.
    """

    shown: I64
    numbers: tuple[I64, ...]
    table: I64


def lineage(parents: Sequence[I64], *, keep: Sequence[Bool] | None = None, fill_empty: bool = False) -> Lineage:
    """Number the tracks of a movie.

    A cell continues its parent's track if it is the only child; of several, each begins a track with that parent. A track
    that leaves out frames is cut: the first piece keeps the number, each further one has the piece before as parent. A
    parent without masks is none, and one ends before its children begin.

    Args:
        parents: For each frame, (N,) label at the frame before, or 0.
        keep: For each frame, (N,) cells that are kept, from :func:`inside_field` or :func:`large_enough`; all by default.
        fill_empty: Frames without cells show those of the nearest frame with some, of two the earlier. The challenge's
            programs want cells in each frame; a result for people should leave it off.

    Raises:
        DataError: A parent is not among the labels of the frame before, or ``keep`` does not fit.
    """
    numbers, parent_of = _chains(parents)
    if keep is not None:
        if [len(kept) for kept in keep] != [len(found) for found in numbers]:
            raise DataError("Numbering tracks failed: keep has not one value for each cell of each frame.")
        numbers = [np.where(kept, found, 0) for kept, found in zip(keep, numbers, strict=True)]
    shown = np.arange(len(numbers))
    occupied = np.flatnonzero([found.any() for found in numbers])
    if fill_empty and len(occupied):
        away = np.abs(shown[:, None] - occupied[None])
        shown = occupied[np.argmin(away, axis=1)]  # of equals the first, which is the earlier
        numbers = [numbers[frame] for frame in shown]
    return _cut(shown, numbers, parent_of)


def _chains(parents: Sequence[I64]) -> tuple[list[I64], I64]:
    """Return the track number of each cell, and for each number from 0 that of the parent."""
    numbers: list[I64] = []
    parent_of = [np.zeros(1, dtype=np.int64)]
    total, before = 0, np.empty(0, dtype=np.int64)
    for frame, given in enumerate(parents):
        parent = np.asarray(given, dtype=np.int64)
        if len(parent) and (parent.min() < 0 or parent.max() > len(before)):
            raise DataError(
                f"Numbering tracks failed: in frame {frame} a cell has the parent {int(parent.max())}, but frame {frame - 1} has "
                f"the labels 1..{len(before)} only."
            )
        of_parent = np.concatenate([[0], before])[parent]
        begins = (parent == 0) | (np.bincount(parent, minlength=1)[parent] > 1)
        found = of_parent.copy()
        found[begins] = total + 1 + np.arange(np.count_nonzero(begins))
        total += int(np.count_nonzero(begins))
        parent_of.append(of_parent[begins])
        numbers.append(found)
        before = found
    return numbers, np.concatenate(parent_of)


def _cut(shown: I64, numbers: list[I64], parent_of: I64) -> Lineage:
    """Cut tracks at holes and return the table of what is left."""
    sizes = [len(found) for found in numbers]
    t, track = np.repeat(np.arange(len(numbers)), sizes), np.concatenate([np.empty(0, dtype=np.int64), *numbers])
    rows = np.flatnonzero(track)
    rows = rows[np.lexsort((t[rows], track[rows]))]
    new_track = np.diff(track[rows], prepend=0) != 0
    begins = new_track | (np.diff(t[rows], prepend=-1) > 1)
    first = np.flatnonzero(begins)
    last = np.append(first[1:], len(rows))[: len(first)] - 1
    old, begin, end = track[rows[first]], t[rows[first]], t[rows[last]]
    is_first = new_track[first]
    name = old.copy()
    name[~is_first] = len(parent_of) + np.arange(np.count_nonzero(~is_first))
    parent = np.zeros(len(name), dtype=np.int64)
    parent[~is_first] = name[np.flatnonzero(~is_first) - 1]
    # the piece of the parent that ends last before the child begins
    span = len(numbers) + 1
    place = np.searchsorted(old * span + end, parent_of[old] * span + begin) - 1
    has = is_first & (place >= 0) & (parent_of[old] > 0)
    has &= old[place] == parent_of[old]
    parent[has] = name[place[has]]

    final = np.zeros(len(track), dtype=np.int64)
    final[rows] = name[np.cumsum(begins) - 1]
    order = np.argsort(name)
    table = np.stack([name, begin, end, parent], axis=1)[order]
    return Lineage(shown, tuple(np.split(final, np.cumsum(sizes)[:-1])) if sizes else (), table)


def painted(labels: Labels, numbers: I64, *, most: int) -> npt.NDArray[np.uint16] | npt.NDArray[np.uint32]:
    """Return the labels of a frame with track numbers instead.

    Args:
        labels: (*S) labels 1..N.
        numbers: (N,) track numbers of the frame.
        most: Largest number of the movie, so that all frames have one type: uint16 as the challenge asks, uint32 from 65,536
            on: a number never wraps.

    Raises:
        DataError: There are not as many numbers as labels, or one is larger than ``most``.
    """
    if int(labels.max(initial=0)) > len(numbers) or int(numbers.max(initial=0)) > most:
        raise DataError(
            f"Painting tracks failed: labels up to {int(labels.max(initial=0))} with {len(numbers)} numbers up to "
            f"{int(numbers.max(initial=0))}; expected one number a label, {most} at most."
        )
    names = np.concatenate([[0], numbers])
    if most <= np.iinfo(np.uint16).max:
        return names.astype(np.uint16)[labels]
    return names.astype(np.uint32)[labels]
