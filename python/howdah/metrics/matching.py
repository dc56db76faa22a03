"""Matching points one to one: as many pairs as possible, and among those the smallest sum of distances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from bdv_io.tracks import Tracks
from howdah.errors import DataError

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = ["Matching", "cheapest_pairs", "check_units", "match_points", "match_spots", "near_pairs", "rows_by_frame"]

UNMATCHED = -1
MOST_PAIRS = 20_000_000  # of a frame: about 0.5 GB


@dataclass(frozen=True, eq=False)
class Matching:
    """Pairs of true and predicted points.

    Attributes:
        truth: (K,) int64, rows of the truth. predicted: (K,) int64, their partners among the predictions.
        distance: (K,) float64, world units.
        n_truth: Number of true points. n_predicted: Number of predicted points.
    """

    truth: I64
    predicted: I64
    distance: F64
    n_truth: int
    n_predicted: int

    @property
    def predicted_of(self) -> I64:
        """(n_truth,) row of the prediction that each true point was matched to, or -1."""
        return _partners(self.truth, self.predicted, self.n_truth)

    @property
    def truth_of(self) -> I64:
        """(n_predicted,) row of the true point that each prediction was matched to, or -1."""
        return _partners(self.predicted, self.truth, self.n_predicted)


def match_points(truth: npt.ArrayLike, predicted: npt.ArrayLike, *, max_distance: float) -> Matching:
    """Match two sets of points one to one.

    Args:
        truth: (N, D) points.
        predicted: (M, D) points in the same unit.
        max_distance: Points farther apart than this are no pair; one of exactly this distance is.

    Raises:
        DataError: The points differ in dimension or are not finite, or the distance is not positive.
    """
    true, found = _points(truth, "truth"), _points(predicted, "predicted")
    if not max_distance > 0 or not np.isfinite(max_distance):
        raise DataError(f"Matching points failed: max_distance is {max_distance}; it must be a positive number.")
    if not len(true) or not len(found):
        return Matching(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), len(true), len(found))
    if true.shape[1] != found.shape[1]:
        raise DataError(
            f"Matching points failed: true points have {true.shape[1]} coordinates, predicted ones {found.shape[1]}."
        )
    rows, columns, distance = near_pairs(true, found, max_distance)
    kept = cheapest_pairs(rows, columns, distance, shape=(len(true), len(found)))
    return Matching(rows[kept], columns[kept], distance[kept], len(true), len(found))


def near_pairs(truth: F64, predicted: F64, max_distance: float) -> tuple[I64, I64, F64]:
    """Return all pairs of points that are near enough: rows of both, and distances.

    Raises:
        DataError: There are more than memory should hold.
    """
    trees = scipy.spatial.KDTree(truth), scipy.spatial.KDTree(predicted)
    if (
        len(truth) * len(predicted) > MOST_PAIRS
        and (n := int(trees[0].count_neighbors(trees[1], max_distance))) > MOST_PAIRS
    ):
        raise DataError(
            f"Matching points failed: within {max_distance:g} of {len(truth):,} true points of a frame lie {n:,} pairs with predicted ones "
            f"(at most {MOST_PAIRS:,}). Take a smaller distance, about the radius of a cell."
        )
    near = trees[0].sparse_distance_matrix(trees[1], max_distance, output_type="ndarray")
    return np.asarray(near["i"], np.int64), np.asarray(near["j"], np.int64), np.asarray(near["v"], np.float64)


def match_spots(truth: Tracks, predicted: Tracks, *, max_distance: float) -> Matching:
    """Match the spots of two annotations by their centres, frame by frame; rows are those of the annotations.

    Args:
        truth: The true annotation.
        predicted: The other, in the same unit of length.
        max_distance: As in :func:`match_points`, world units.

    Raises:
        DataError: The units of length differ, or as in :func:`match_points`.
    """
    check_units(truth, predicted)
    true_rows, found_rows = rows_by_frame(truth), rows_by_frame(predicted)
    parts = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
    for frame in sorted(true_rows.keys() & found_rows.keys()):
        mine, theirs = true_rows[frame], found_rows[frame]
        pairs = match_points(truth.centre[mine], predicted.centre[theirs], max_distance=max_distance)
        parts.append((mine[pairs.truth], theirs[pairs.predicted], pairs.distance))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return Matching(columns[0], columns[1], columns[2], truth.n_spots, predicted.n_spots)


def cheapest_pairs(rows: I64, columns: I64, cost: F64, *, shape: tuple[int, int]) -> I64:
    """Choose among possible pairs so that no row and no column occurs twice.

    Args:
        rows: (E,) row of each possible pair.
        columns: (E,) column of each possible pair; a pair occurs once.
        cost: (E,) cost of each, not negative.
        shape: Number of rows and columns.

    Returns:
        Positions of the chosen pairs, in order of row: as many as possible, with the smallest sum of costs.
    """
    if not len(rows):
        return np.empty(0, np.int64)
    # Two that have nobody but each other need no solver, whose time grows faster than the number of pairs.
    alone_in_row = np.bincount(rows, minlength=shape[0])[rows] == 1
    sure = alone_in_row & (np.bincount(columns, minlength=shape[1])[columns] == 1)
    if sure.any():
        rest = np.flatnonzero(~sure)
        solved = rest[cheapest_pairs(rows[rest], columns[rest], cost[rest], shape=shape)]
        chosen = np.concatenate([np.flatnonzero(sure), solved])
        return chosen[np.argsort(rows[chosen], kind="stable")]
    used, row = np.unique(rows, return_inverse=True)
    n = len(used)
    alone = 1.0 + float(cost.max()) * (min(n, shape[1]) + 1)  # dearer than any set of pairs, so pairs come first
    weights = np.concatenate([cost, np.full(n, alone)]) + 1.0  # the solver takes a stored zero for "no pair"
    places = (np.concatenate([row, np.arange(n)]), np.concatenate([columns, shape[1] + np.arange(n)]))
    taken_row, taken_column = scipy.sparse.csgraph.min_weight_full_bipartite_matching(
        scipy.sparse.csr_array((weights, places), shape=(n, shape[1] + n))
    )
    partner = np.full(n, UNMATCHED, dtype=np.int64)
    partner[taken_row] = taken_column
    chosen = np.flatnonzero(partner[row] == columns)
    return chosen[np.argsort(rows[chosen], kind="stable")]


def _partners(mine: I64, theirs: I64, n: int) -> I64:
    partners = np.full(n, UNMATCHED, dtype=np.int64)
    partners[mine] = theirs
    return partners


def _points(values: npt.ArrayLike, name: str) -> F64:
    points = np.asarray(values, dtype=np.float64)
    if points.size == 0:
        return points.reshape(0, points.shape[1] if points.ndim == 2 else 3)
    if points.ndim != 2 or not np.isfinite(points).all():
        raise DataError(
            f"Matching points failed: '{name}' has shape {points.shape}; expected (N, D) finite coordinates."
        )
    return points


def check_units(truth: Tracks, predicted: Tracks) -> None:
    """Refuse to compare places in different units.

    Raises:
        DataError: The units of length differ.
    """
    if truth.n_spots and predicted.n_spots and truth.space_unit != predicted.space_unit:
        raise DataError(
            f"Matching spots failed: the truth is in '{truth.space_unit}', the prediction in '{predicted.space_unit}'. "
            "Convert one of them first."
        )


def rows_by_frame(tracks: Tracks) -> dict[int, I64]:
    """Return the rows of the spots of each frame that has some."""
    order = np.argsort(tracks.t, kind="stable")
    frames, starts = np.unique(tracks.t[order], return_index=True)
    return dict(zip(frames.tolist(), np.split(order, starts[1:]), strict=True)) if len(frames) else {}
