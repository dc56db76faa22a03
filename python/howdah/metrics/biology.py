"""The biological measures of the Cell Tracking Challenge: CT, TF, BC(i), CCA (Ulman et al., Nature Methods 2017), and CHOTA.

None stands for "not defined": no division in the truth, no complete cell cycle. They are counted in columns; py-ctcmetrics
(:mod:`.challenge_library`) gives the same numbers, and the tests hold them together.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy

from howdah.metrics.challenge_cells import BEGIN, END, LABEL, NOBODY, PARENT, Cells, Cover
from howdah.metrics.counts import Counts

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = ["branching", "branching_correctness", "cell_cycle_accuracy", "chota", "complete_tracks", "track_fractions"]


def complete_tracks(cover: Cover) -> float | None:
    """Return CT, the F1 of tracks that were found from their first to their last frame; None where nobody has a track."""
    truth, found = cover.truth, cover.found
    total = len(truth.table) + len(found.table)
    if not total:
        return None
    name, track = np.unique(truth.label, return_inverse=True)
    low, high = np.full(len(name), np.iinfo(np.int64).max), np.zeros(len(name), dtype=np.int64)
    np.minimum.at(low, track, cover.label)
    np.maximum.at(high, track, cover.label)
    right = (low == high) & (low > 0)
    for column in (BEGIN, END):
        right &= truth.tracks_of(name, column) == found.tracks_of(low, column)
    return 2 * int(right.sum()) / total


def track_fractions(cover: Cover) -> float | None:
    """Return TF, the mean of the longest part of each detected true track that one track of the result follows without a break.

    As in the official program, a result track that follows one true track wholly is not asked about true tracks of higher numbers;
    so TF can depend on how tracks are numbered. 0 if nothing was detected; None without true tracks.
    """
    truth = cover.truth
    if not len(truth.table):
        return None
    length = (truth.tracks_of(truth.label, END) - truth.tracks_of(truth.label, BEGIN) + 1).astype(np.float64)
    order = np.lexsort((truth.t, truth.label))
    label, t, by = truth.label[order], truth.t[order], cover.label[order]
    goes_on = np.zeros(len(order), dtype=bool)
    goes_on[1:] = (label[1:] == label[:-1]) & (np.diff(t) == 1) & (by[1:] == by[:-1])
    first = np.flatnonzero(~goes_on)
    run = np.diff(np.append(first, len(order)))
    there = by[first] > 0
    first, run = first[there], run[there]
    fraction = run / length[order][first]
    best: dict[int, float] = {}
    rows = np.lexsort((-fraction, label[first], by[first]))
    followed, before = -1, (-1, -1)
    for name, mine, part in zip(
        by[first][rows].tolist(), label[first][rows].tolist(), fraction[rows].tolist(), strict=True
    ):
        if name == followed or (name, mine) == before:
            continue
        before = (name, mine)
        if best.get(mine, 0.0) == 1.0:
            continue
        best[mine] = max(best.get(mine, 0.0), part)
        if part == 1.0:
            followed = name
    return float(np.mean(list(best.values()))) if best else 0.0


def branching(cover: Cover, *, frame_tolerance: int) -> Counts:
    """Count divisions with mother and daughters matched, each at most ``frame_tolerance`` frames early or late.

    The mother is compared where both are there for the last time, a daughter where both are there for the first time.
    """
    truth, found = cover.truth, cover.found
    mine, theirs = truth.dividing(), found.dividing()
    ends = dict(zip(theirs.tolist(), found.tracks_of(theirs, END).tolist(), strict=True))
    right = 0
    for mother, end in zip(mine.tolist(), truth.tracks_of(mine, END).tolist(), strict=True):
        frames = np.arange(end, end - frame_tolerance - 1, -1)
        rows = truth.rows(np.full(len(frames), mother), frames)
        seen = np.where(rows != NOBODY, cover.label[rows], 0).tolist()
        candidates = {
            name
            for frame, name in zip(frames.tolist(), seen, strict=True)
            if name in ends and (ends[name] == frame or (frame == end and end <= ends[name] <= end + frame_tolerance))
        }
        right += sum(_same_daughters(cover, mother, name, frame_tolerance) for name in candidates)
    return Counts(right, len(theirs) - right, len(mine) - right)


def _same_daughters(cover: Cover, mother: int, name: int, tolerance: int) -> bool:
    mine, theirs = cover.truth.daughters[mother], cover.found.daughters[name]
    if len(mine) != len(theirs):
        return False
    matched = set()
    for true in mine.tolist():
        for made in theirs.tolist():
            if abs(true[BEGIN] - made[BEGIN]) > tolerance:
                continue
            row = int(cover.truth.rows(true[LABEL], max(true[BEGIN], made[BEGIN])))
            if row != NOBODY and cover.label[row] == made[LABEL]:
                matched.add(made[LABEL])
                break
    return len(matched) == len(mine)


def branching_correctness(counts: Counts) -> float | None:
    """Return BC, the F1 of divisions; None without true divisions."""
    return counts.f1 if counts.true_positives + counts.false_negatives else None


def cell_cycle_accuracy(truth: Cells, found: Cells) -> float | None:
    """Return CCA: one minus the largest difference of the distributions of cell cycle lengths, from division to division.

    None if the truth has no complete cell cycle; 0 if only the result has none.
    """
    mine, theirs = _cycles(truth), _cycles(found)
    if not len(mine):
        return None
    if not len(theirs):
        return 0.0
    most = int(max(mine.max(), theirs.max())) + 1
    shares = [np.cumsum(np.bincount(cycle, minlength=most) / len(cycle)) for cycle in (mine, theirs)]
    return float(1 - np.abs(shares[0] - shares[1]).max())


def _cycles(cells: Cells) -> I64:
    """Lengths of tracks that begin and end with a division."""
    dividing = cells.dividing()
    whole = np.isin(cells.table[:, LABEL], dividing) & np.isin(cells.table[:, PARENT], dividing)
    return np.asarray(cells.table[whole, END] - cells.table[whole, BEGIN], dtype=np.int64)


def chota(cover: Cover) -> float | None:
    """Return CHOTA (Kaiser et al. 2024): HOTA, where a track's relatives, ancestors and descendants, belong to it.

    Tracks that go on after a gap are one. None where nobody has a cell.
    """
    truth, found = cover.truth, cover.found
    if not len(truth) or not len(found):
        return None if not len(truth) else 0.0
    (mine, kin), (theirs, their_kin) = _lineages(truth), _lineages(found)
    there = np.flatnonzero(cover.by != NOBODY)
    row, column = mine[there], theirs[cover.by[there]]
    shape = (kin.shape[0], their_kin.shape[0])
    shared = scipy.sparse.coo_array((np.ones(len(there)), (row, column)), shape=shape).tocsr()
    shared.sum_duplicates()
    false = cover.number == 0
    missed = np.bincount(mine[cover.by == NOBODY], minlength=shape[0])
    extra = np.bincount(theirs[false], minlength=shape[1])
    of_mine = kin @ (np.asarray(shared.sum(axis=1)).reshape(-1) + missed)
    of_theirs = their_kin @ (np.asarray(shared.sum(axis=0)).reshape(-1) + extra)
    right = scipy.sparse.csr_array(kin @ shared @ their_kin.T)
    pairs = shared.tocoo()
    tpa = np.asarray(right[pairs.row, pairs.col]).reshape(-1)
    association = tpa / (of_mine[pairs.row] + of_theirs[pairs.col] - tpa)
    total = len(there) + int(missed.sum()) + int(extra.sum())
    return float(np.sqrt((pairs.data * association).sum() / total))


def _lineages(cells: Cells) -> tuple[I64, scipy.sparse.csr_array]:
    """Number of each cell's track, those joined over gaps being one, and (K, K) which tracks are relatives in a straight line."""
    table = cells.table
    names = np.union1d(table[:, LABEL], cells.label)
    parent = np.full(len(names), NOBODY, dtype=np.int64)
    born = table[(table[:, PARENT] > 0) & np.isin(table[:, PARENT], names)]
    parent[np.searchsorted(names, born[:, LABEL])] = np.searchsorted(names, born[:, PARENT])
    children = np.bincount(parent[parent != NOBODY], minlength=len(names))
    root = np.arange(len(names))
    only = (parent != NOBODY) & (children[parent] == 1)
    root[only] = parent[only]
    while (root[root] != root).any():
        root = root[root]
    up = np.where(parent[root] != NOBODY, root[parent[root]], NOBODY)
    start, above = root.copy(), root.copy()
    rows, columns = [root], [root]
    while len(start):
        above = up[above]
        start, above = start[above != NOBODY], above[above != NOBODY]
        rows += [start, above]
        columns += [above, start]
    pairs = np.unique(np.concatenate(rows) * len(names) + np.concatenate(columns))
    place = np.divmod(pairs, len(names))
    kin = scipy.sparse.csr_array((np.ones(len(pairs)), place), shape=(len(names), len(names)))
    return root[np.searchsorted(names, cells.label)], kin
