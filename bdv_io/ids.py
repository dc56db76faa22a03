"""From the ids by which files name spots to their rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["rows_of_ids"]


def rows_of_ids(ids: npt.NDArray[Any], ends: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Look up the ends of links.

    Args:
        ids: (N,) id of each spot; of an id that occurs twice the first row counts.
        ends: (M, 2) ids.

    Returns:
        (M, 2) int64 rows, -1 in both places where an end is no spot; and the (M,) mask of links whose ends both are.
    """
    if not len(ids) or not len(ends):
        return np.full((len(ends), 2), -1, dtype=np.int64), np.zeros(len(ends), dtype=bool)
    rows = _looked_up(ids, ends) if _is_dense(ids) and ends.dtype.kind == "i" else _searched(ids, ends)
    known: npt.NDArray[np.bool_] = (rows[:, 0] >= 0) & (rows[:, 1] >= 0)
    rows[~known] = -1
    return rows, known


def _is_dense(ids: npt.NDArray[Any]) -> bool:
    """Whether ids ascend, each once, without large gaps: as most programs write them."""
    dense = ids.dtype.kind == "i" and int(ids[-1]) - int(ids[0]) <= 4 * len(ids) + 65536
    return dense and bool((ids[1:] > ids[:-1]).all())


def _looked_up(ids: npt.NDArray[Any], ends: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Rows by a table of all ids between the first and the last, -1 for what is no id."""
    first, last = int(ids[0]), int(ids[-1])
    row_of = np.full(last - first + 1, -1, dtype=np.int64)
    row_of[ids.astype(np.int64) - first] = np.arange(len(ids))
    rows: npt.NDArray[np.int64] = row_of[ends.astype(np.int64).clip(first, last) - first]
    rows[(ends < first) | (ends > last)] = -1
    return rows


def _searched(ids: npt.NDArray[Any], ends: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Rows by search in sorted ids, -1 for what is no id."""
    order = np.argsort(ids, kind="stable")
    rows = order[np.searchsorted(ids, ends, sorter=order).clip(max=len(ids) - 1)].astype(np.int64)
    return np.where(ids[rows] == ends, rows, -1)
