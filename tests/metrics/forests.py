"""Small forests of cells, and results made from them with every kind of mistake."""

from __future__ import annotations

import numpy as np

from howdah.metrics import biology
from howdah.metrics.challenge import corrections
from howdah.metrics.challenge_cells import Cells, Cover


def cells(*rows: tuple[int, int, int, int], n_frames: int = 0) -> Cells:
    """Cells of a table: a cell of each track in each of its frames."""
    table = np.array(rows, np.int64).reshape(-1, 4)
    pairs = [(t, label) for label, begin, end, _ in table.tolist() for t in range(begin, end + 1)]
    t, label = np.array(sorted(pairs), np.int64).reshape(-1, 2).T
    return Cells(t, label, table, n_frames or int(table[:, 2].max(initial=-1)) + 1)


def cover(truth: Cells, found: Cells, same: dict[int, int] | None = None) -> Cover:
    """Cells of one number (or of the numbers that ``same`` says) lie on each other."""
    name = truth.label if same is None else np.array([same.get(label, 0) for label in truth.label.tolist()])
    return Cover(truth, found, found.rows(name, truth.t))


def random_covers(seed: int, *, n_tracks: int = 12, n_frames: int = 8) -> Cover:
    """A forest of cells, and a result that was made from it with every kind of mistake."""
    rng = np.random.default_rng(seed)
    rows, open_tracks, label = [], [], 0
    for _ in range(n_tracks):
        label += 1
        parents = [row for row in rows if row[2] + 1 < n_frames and rng.random() < 0.5][:1]
        begin = int(parents[0][2]) + 1 if parents else int(rng.integers(n_frames - 1))
        rows.append([label, begin, int(rng.integers(begin, n_frames)), parents[0][0] if parents else 0])
        open_tracks.append(label)
    truth = cells(*map(tuple, rows), n_frames=n_frames)  # type: ignore[arg-type]
    lost = {label for label in open_tracks if rng.random() < 0.2}
    made = [list(row) for row in rows if row[0] not in lost]
    for row in made:
        if row[3] in lost or rng.random() < 0.3:
            row[3] = 0
    extra = [[label + 1, 0, int(rng.integers(n_frames)), 0]]
    found = cells(*map(tuple, made + extra), n_frames=n_frames)  # type: ignore[arg-type]
    by = found.rows(truth.label, truth.t)
    for row in rng.choice(len(truth), 3):  # some masks lie on two cells, or on none
        others = np.flatnonzero((truth.t == truth.t[row]) & (by >= 0))
        by[row] = by[rng.choice(others)] if len(others) and rng.random() < 0.7 else -1
    return Cover(truth, found, by)


def own(seen: Cover) -> dict[str, float | None]:
    fixes = corrections(seen)
    return {
        "DET": fixes.det,
        "TRA": fixes.tra,
        "LNK": fixes.lnk,
        "CT": biology.complete_tracks(seen),
        "TF": biology.track_fractions(seen),
        "CCA": biology.cell_cycle_accuracy(seen.truth, seen.found),
        "CHOTA": biology.chota(seen),
        **{f"BC({i})": biology.branching_correctness(biology.branching(seen, frame_tolerance=i)) for i in range(4)},
    }
