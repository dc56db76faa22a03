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
    order = np.argsort(ids, kind="stable")
    rows = order[np.searchsorted(ids, ends, sorter=order).clip(max=len(ids) - 1)].astype(np.int64)
    known: npt.NDArray[np.bool_] = (ids[rows] == ends).all(axis=1)
    return np.where(known[:, None], rows, -1), known
