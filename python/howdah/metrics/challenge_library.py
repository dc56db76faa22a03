"""The challenge's measures by py-ctcmetrics and by traccuracy, from cells that are matched already; no files, no pools, no printing.

Both are quadratic in the cells of a frame, so they are asked about movies of moderate size only (:func:`affordable`).
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from howdah.errors import MissingExtraError
from howdah.metrics.challenge_cells import NOBODY, Cells, Cover

__all__ = ["CTC_METRICS", "TRACCURACY", "affordable", "by_ctc_metrics", "by_traccuracy", "library_versions"]

CTC_METRICS, TRACCURACY = "py-ctcmetrics", "traccuracy"

MOST_WORK = 5e6  # sum over frames of the squared number of cells: about two seconds
SAME_NAME = ("SEG", "DET", "TRA", "LNK", "CT", "TF", "CCA", "CHOTA")


def affordable(cover: Cover) -> bool:
    """Return whether the libraries would answer within some seconds."""
    n = [np.bincount(cells.t).astype(np.float64) for cells in (cover.truth, cover.found)]
    return bool(max(float((count**2).sum()) for count in n) <= MOST_WORK)


def library_versions() -> dict[str, str]:
    """Return the versions of py-ctcmetrics and traccuracy, those that are installed."""
    found = {}
    for name in (CTC_METRICS, TRACCURACY):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def by_ctc_metrics(cover: Cover, *, highest: int = 3) -> tuple[dict[str, float], list[str]]:
    """Compute what py-ctcmetrics can compute of two valid sets of cells.

    Args:
        cover: Who covers whom.
        highest: Largest i of BC(i), at least 3.

    Returns:
        Values by the challenge's names, without SEG and without what is not defined; and sentences about what the library failed at.
    """
    from ctc_metrics.scripts.evaluate import calculate_metrics

    if not len(cover.truth) or not len(cover.found):
        return {}, []
    wanted = ["DET", "TRA", "CT", "TF", "BC", "CCA", "BIO"]
    if len(cover.truth.edges.source):
        wanted += ["LNK", "OP_CLB"]
    if highest > 3:
        wanted.append(f"BC({highest})")
    tables = cover.found.table.copy(), cover.truth.table.copy()
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            found = calculate_metrics(*tables, _by_frame(cover), {}, wanted, True)
            found |= _chota(*tables, _by_frame(cover))
    # What it raises on graphs that it did not foresee.
    except (AssertionError, ValueError, IndexError, KeyError, TypeError, ZeroDivisionError) as error:
        return {}, [
            f"py-ctcmetrics failed at this result ({type(error).__name__}: {error}); the values are Howdah's own."
        ]
    numbers = {name: value for name, value in found.items() if _is_number(value) and name in _names(found)}
    return {name: float(value) for name, value in numbers.items()}, []


def _chota(found: Any, truth: Any, traj: dict[str, list[list[int]]]) -> dict[str, float]:
    """Ask for CHOTA; by the usual way py-ctcmetrics fails at movies with a frame without cells."""
    from ctc_metrics.metrics import chota
    from ctc_metrics.utils.representations import merge_tracks

    def whole(frames: list[list[int]]) -> list[Any]:
        return [np.asarray(frame, dtype=np.int64) for frame in frames]

    mine = merge_tracks(truth, traj["labels_ref"], traj["mapped_ref"])
    theirs = merge_tracks(found, traj["labels_comp"], traj["mapped_comp"])
    made: dict[str, float] = chota(
        mine[0], theirs[0], whole(mine[1]), whole(theirs[1]), whole(mine[2]), whole(theirs[2])
    )
    return made


def _names(found: Mapping[str, Any]) -> set[str]:
    return {name for name in found if name in SAME_NAME or name.startswith(("BC(", "BIO(", "OP_CLB("))}


def _is_number(value: Any) -> bool:
    return isinstance(value, float | int | np.number) and bool(np.isfinite(value))


def _by_frame(cover: Cover) -> dict[str, list[list[int]]]:
    """Return what py-ctcmetrics calls a trajectory: numbers in each frame, and which of them belong together."""
    n = max(cover.truth.n_frames, cover.found.n_frames, 2)  # it cannot deal with a movie of one frame
    names = ("labels_ref", "labels_comp", "mapped_ref", "mapped_comp")
    there = np.flatnonzero(cover.by != NOBODY)
    columns = (
        (cover.truth.t, cover.truth.label),
        (cover.found.t, cover.found.label),
        (cover.truth.t[there], cover.truth.label[there]),
        (cover.truth.t[there], cover.found.label[cover.by[there]]),
    )
    traj = {}
    for name, (t, label) in zip(names, columns, strict=True):
        order = np.lexsort((cover.truth.label[there], t)) if name.startswith("mapped") else np.lexsort((label, t))
        parts = np.split(label[order], np.searchsorted(t[order], np.arange(1, n)))
        traj[name] = [part.tolist() for part in parts]
    return traj


def by_traccuracy(cover: Cover) -> dict[str, float]:
    """Compute DET, TRA, LNK and the operations behind them by traccuracy.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        from traccuracy import TrackingGraph
        from traccuracy.matchers import Matched
        from traccuracy.metrics import CTCMetrics
    except ModuleNotFoundError:
        raise MissingExtraError(
            "The cross-check needs traccuracy, which is not installed. Install it with: pip install 'howdah[eval]'"
        ) from None

    graphs = [TrackingGraph(_graph(cells), location_keys=("t",)) for cells in (cover.truth, cover.found)]
    there = np.flatnonzero(cover.by != NOBODY)
    mapping = [(int(row), int(cover.by[row])) for row in there]
    bars = contextlib.redirect_stderr(io.StringIO())  # it draws progress bars
    with warnings.catch_warnings(), np.errstate(all="ignore"), bars:
        warnings.simplefilter("ignore")
        matched = Matched(*graphs, mapping, {"name": "Howdah"})
        found = CTCMetrics().compute(matched).results
    return {name: float(value) for name, value in found.items() if _is_number(value)}


def _graph(cells: Cells) -> Any:
    import networkx

    graph = networkx.DiGraph()
    graph.add_nodes_from(
        (row, {"t": int(t), "segmentation_id": int(label)})
        for row, (t, label) in enumerate(zip(cells.t.tolist(), cells.label.tolist(), strict=True))
    )
    edges = cells.edges
    graph.add_edges_from(
        (int(a), int(b), {"intertrack_edge": bool(parental)})
        for a, b, parental in zip(edges.source, edges.target, edges.parental, strict=True)
    )
    return graph
