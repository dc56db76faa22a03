"""Metrics: matching, overlaps, and whole evaluations beside the libraries that people use for them."""

from __future__ import annotations

import contextlib
import io
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

from bdv_io import Tracks
from benchmarks.suite.case import Work, case
from benchmarks.suite.cases import drawn
from benchmarks.suite.cases.tables import REACH


@case(
    "metrics: match spots",
    group="metrics",
    unit="spots",
    sizes=(5_000, 15_000, 50_000),
    limit="KD-trees and pairs in reach",
)
def match(n: int, folder: Path) -> Work:
    from scipy.spatial import KDTree

    from howdah.metrics import match_spots

    truth = drawn.lineages(n // 10, 10)
    rng = np.random.default_rng(0)
    found = truth.select(rng.random(truth.n_spots) < 0.95)
    found = type(found).build(
        found.t, found.centre + rng.normal(0, 0.5, found.centre.shape), radius=2.5, space_unit=truth.space_unit
    )
    frames = [(truth.centre[truth.t == t], found.centre[found.t == t]) for t in range(10)]

    def limit() -> None:
        for mine, theirs in frames:
            KDTree(mine).sparse_distance_matrix(KDTree(theirs), 2.5, output_type="coo_matrix")

    return Work(amount=truth.n_spots, run=lambda: match_spots(truth, found, max_distance=2.5), limit=limit)


@case(
    "metrics: overlaps of labels",
    group="metrics",
    unit="pixels",
    sizes=(512, 1024, 2048),
    limit="copy of both images",
    peer="skimage.contingency_table",
)
def overlapping(edge: int, folder: Path) -> Work:
    from skimage.metrics._contingency_table import contingency_table

    from howdah.metrics import overlaps

    truth = drawn.discs(edge)
    found = np.roll(truth, 3, axis=1)
    return Work(
        amount=truth.size,
        run=lambda: overlaps(truth, found),
        limit=lambda: (truth.copy(), found.copy()),
        peer=lambda: contingency_table(truth, found),
    )


@case(
    "metrics: evaluate two projects",
    group="metrics",
    unit="spots",
    sizes=(2_000, 6_000, 16_000),
    limit="the zips' entries",
    peer="traccuracy: points, CTC and division metrics",
)
def evaluation(n: int, folder: Path) -> Work:
    from bdv_io.mastodon import write_mastodon
    from benchmarks.suite.cases.annotations import entries
    from howdah.linking import LinkingConfig, link_spots
    from howdah.pipeline.evaluation import Judging, evaluate
    from howdah.progress import finish

    truth = link_spots(drawn.lineages(n // 10, 10), LinkingConfig.of({"max_distance": REACH}))
    found = truth.select(np.random.default_rng(0).random(truth.n_spots) < 0.95)
    files = (folder / "found.mastodon", folder / "truth.mastodon")
    for path, tracks in zip(files, (found, truth), strict=True):
        write_mastodon(path, tracks)
    how = Judging(reach=2.5)
    return Work(
        amount=truth.n_spots,
        run=lambda: finish(evaluate(*files, how)),
        limit=lambda: [entries(path) for path in files],
        peer=(lambda: by_traccuracy(truth, found, 2.5)) if n <= 6_000 else None,
    )


def by_traccuracy(truth: Tracks, found: Tracks, reach: float) -> object:
    """Let traccuracy match points and count; it is given what is in memory."""
    import networkx
    from traccuracy import TrackingGraph, run_metrics
    from traccuracy.matchers import PointMatcher
    from traccuracy.metrics import CTCMetrics, DivisionMetrics

    graphs = []
    for tracks in (truth, found):
        graph = networkx.DiGraph()
        for row, (t, (z, y, x)) in enumerate(zip(tracks.t.tolist(), tracks.centre.tolist(), strict=True)):
            graph.add_node(row, t=t, z=z, y=y, x=x)
        graph.add_edges_from(tracks.links.tolist())
        graphs.append(TrackingGraph(graph, location_keys=("z", "y", "x")))
    with contextlib.redirect_stderr(io.StringIO()):  # it draws progress bars
        return run_metrics(*graphs, matcher=PointMatcher(reach), metrics=[CTCMetrics(), DivisionMetrics()])


@case(
    "metrics: evaluate two challenge folders",
    group="metrics",
    unit="cells",
    sizes=(256, 512, 1024),
    limit="tifffile decodes the masks",
    peer="py-ctcmetrics, all its measures, one process",
)
def folders(edge: int, folder: Path) -> Work:
    import tifffile
    from ctc_metrics import evaluate_sequence
    from ctc_metrics.metrics import ALL_METRICS

    from bdv_io import ArrayImage
    from bdv_io.ctc import write_ctc
    from bdv_io.label_image import tracks_of_labels
    from bdv_io.tags import Feature
    from howdah.pipeline.evaluation import evaluate
    from howdah.progress import finish

    labels = np.stack([drawn.discs(edge)[None]] * 4)
    truth = tracks_of_labels(ArrayImage(labels))
    gold = Feature("CTC gold", "", np.ones(truth.n_spots))
    found = truth.select(np.random.default_rng(0).random(truth.n_spots) < 0.95)
    places = folder / "01_RES", folder / "01_GT"
    for place, tracks in zip(places, (found, replace(truth, features=(*truth.features, gold))), strict=True):
        write_ctc(place, tracks, image=ArrayImage(labels))
    for number, file in enumerate(sorted(places[0].glob("*.tif"))):  # shapes that are a little off
        tifffile.imwrite(file, np.roll(tifffile.imread(file), number % 3, axis=-1), photometric="minisblack")
    masks = [*places[0].glob("*.tif"), *places[1].rglob("*.tif")]

    def peer() -> dict[str, float | None]:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return evaluate_sequence(*map(str, places), metrics=list(ALL_METRICS), threads=1)

    def wrong() -> str:
        mine, theirs = finish(evaluate(*places))["challenge"], peer()
        other = [name for name in ("SEG", "DET", "TRA") if abs(mine[name] - theirs[name]) > 1e-9]
        return f"other values than py-ctcmetrics for {', '.join(other)}" if other else ""

    return Work(
        amount=truth.n_spots,
        run=lambda: finish(evaluate(*places)),
        limit=lambda: [tifffile.imread(file) for file in masks],
        peer=peer,
        wrong=wrong,
    )
