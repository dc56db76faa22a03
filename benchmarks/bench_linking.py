"""Linking: how right the three solvers are with whole and with flawed spots, what link quality says, and speed.

Run: ``PYTHONPATH=python:. python benchmarks/bench_linking.py [quality|real|doubt|speed ...]``; ``real`` needs the sample data
(a folder named by HOWDAH_DATA, or ../shared/data beside the repository). Times are CPU seconds.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.spatial import KDTree

from bdv_io.formats import read_tracks
from bdv_io.tracks import Tracks
from howdah.linking import LINK_QUALITY, LinkingConfig, link_spots
from howdah.synthetic.lineage import grow
from howdah.synthetic.settings import EmbryoSettings

FRAMES, BOX_UM, DIVIDES, APART_UM = 12, 60.0, 0.03, 3.0
SOLVERS = ("pairwise", "nearest", "global")
REFERENCE_S = {100: 0.24, 300: 0.80, 1000: 4.1, 2000: 12.3}  # the published client's rules, 5 frames
FLAWS = {"whole": (0.0, 0.0, 0.0), "10 % lost": (0.1, 0.0, 0.0), "5 % lost, 5 % invented, jitter": (0.05, 0.05, 0.2)}


def lineages(
    step_um: float,
    seed: int,
    *,
    cells: int = 40,
    frames: int = FRAMES,
    box_um: float = BOX_UM,
    divides: float = DIVIDES,
) -> Tracks:
    """Cells in a box that step in random directions and divide, daughters to both sides; all move ``step_um`` a frame."""
    rng = np.random.default_rng(seed)
    position, row, total = rng.uniform(0, box_um, (cells, 3)), np.arange(cells), cells
    t, centres, links = [np.zeros(cells, np.int64)], [position], []
    for frame in range(1, frames):
        split = rng.random(len(position)) < divides
        apart = APART_UM * directions(rng, len(position))
        moved = np.concatenate([position + split[:, None] * apart, (position - apart)[split]])
        moved += step_um * directions(rng, len(moved))
        target = total + np.arange(len(moved))
        links.append(np.stack([np.concatenate([row, row[split]]), target], axis=1))
        position, row, total = moved, target, total + len(moved)
        t.append(np.full(len(moved), frame))
        centres.append(moved)
    return Tracks.build(np.concatenate(t), np.concatenate(centres), radius=2.5, links=np.concatenate(links))


def directions(rng: np.random.Generator, n: int) -> np.ndarray:
    vectors = rng.normal(size=(n, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def embryo(seed: int, *, wander_um: float = 0.5, rotation_deg: float = 2.5) -> Tracks:
    """60 nuclei that tumble, grow, condense and divide 15 times in 30 frames; sizes behave like those of nuclei."""
    settings = EmbryoSettings(n_nuclei=60, n_frames=30, n_divisions=15, wander_um=wander_um, rotation_deg=rotation_deg)
    return grow(settings, np.random.default_rng(seed)).truth


def flawed(truth: Tracks, flaws: tuple[float, float, float], seed: int) -> tuple[np.ndarray, Tracks]:
    """Return the rows that are left, and the spots: some lost, some invented near others, jitter in radii (sizes: 10 %)."""
    lost, invented, jitter = flaws
    rng = np.random.default_rng(seed)
    kept = np.flatnonzero(rng.random(truth.n_spots) >= lost)
    spots = unlinked(truth.select(kept))
    radius = float(np.median(np.linalg.det(truth.covariance) ** (1 / 6)))
    if jitter:
        spots = replace(
            spots,
            centre=spots.centre + rng.normal(scale=jitter * radius, size=spots.centre.shape),
            covariance=spots.covariance * np.exp(rng.normal(scale=0.2, size=spots.n_spots))[:, None, None],
        )
    n = int(invented * truth.n_spots)
    beside = rng.integers(0, truth.n_spots, n)
    places = truth.centre[rng.permutation(beside)] + rng.normal(scale=2 * radius, size=(n, 3))
    extra = Tracks.build(truth.t[beside], places, covariance=truth.covariance[beside], space_unit=truth.space_unit)
    return kept, spots.concatenate(extra) if n else spots


def unlinked(tracks: Tracks) -> Tracks:
    return tracks.select_links(np.zeros(tracks.n_links, bool))


def parents_among(tracks: Tracks, known: np.ndarray) -> np.ndarray:
    """(N,) nearest ancestor of each spot that is known, over those that are not; -1 for none."""
    parent = np.full(tracks.n_spots, -1)
    parent[tracks.links[:, 1]] = tracks.links[:, 0]
    found = parent.copy()
    while (unknown := (found >= 0) & ~known[found]).any():
        found[unknown] = parent[found[unknown]]
    return found


def compare(truth: Tracks, kept: np.ndarray, linked: Tracks, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return counts (links made, right, true; divisions made, right, true), and quality and rightness of each link.

    A link counts from one of the ``n`` given spots to the next, over lost or inserted ones.
    """
    row = np.full(truth.n_spots + 1, -1)
    row[kept] = np.arange(len(kept))
    known = np.zeros(truth.n_spots, bool)
    known[kept] = True
    want = np.full(n, -1)
    want[: len(kept)] = row[parents_among(truth, known)[kept]]
    got = parents_among(linked, np.arange(linked.n_spots) < n)[:n]
    right = (got == want) & (got >= 0)
    mothers = [np.flatnonzero(np.bincount(found[found >= 0], minlength=n) > 1) for found in (got, want)]
    both = np.intersect1d(*mothers)
    counts = np.array([(got >= 0).sum(), right.sum(), (want >= 0).sum(), len(mothers[0]), len(both), len(mothers[1])])
    target = linked.links[:, 1]
    values = linked.feature(LINK_QUALITY, target="link").values
    own = target < n
    return counts, values[own], right[target[own]]


def score(
    truths: list[Tracks], flaws: tuple[float, float, float], config: LinkingConfig
) -> tuple[str, np.ndarray, np.ndarray]:
    total, quality, good, took = np.zeros(6), [], [], 0.0
    for seed, truth in enumerate(truths):
        kept, spots = flawed(truth, flaws, seed)
        began = time.process_time()
        linked = link_spots(spots, config)
        took += time.process_time() - began
        counts, values, right = compare(truth, kept, linked, spots.n_spots)
        total += counts
        quality.append(values)
        good.append(right)
    made, right, true, divided, rightly, divisions = total
    text = f"{right / made:.4f} | {right / true:.4f} | {rightly / max(divided, 1):.2f} | {rightly / max(divisions, 1):.2f} "
    return text + f"| {divided:.0f} of {divisions:.0f} | {took:.2f}", np.concatenate(quality), np.concatenate(good)


def table(sets: dict[str, list[Tracks]]) -> None:
    print("| spots | flaws | solver | link precision | recall | division precision | recall | made of true | CPU s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, truths in sets.items():
        for flaw, amounts in FLAWS.items():
            for solver in SOLVERS:
                config = LinkingConfig(solver=solver, frame_gap=1 if flaw == "whole" else 3)
                print(f"| {name} | {flaw} | {solver} | {score(truths, amounts, config)[0]} |", flush=True)


def quality() -> None:
    print(
        f"\nQuality: 40 cells, {FRAMES} frames, {BOX_UM:g} um box, {DIVIDES:.0%} divisions, daughters at ±{APART_UM:g} um, 5"
    )
    print("seeds (all of one size), and embryos, 3 seeds; gaps up to 3 frames where spots are lost\n")
    sets = {f"lineages, step {step} um": [lineages(step, seed) for seed in range(5)] for step in (0.5, 1.0, 2.0, 3.0)}
    sets["embryo"] = [embryo(seed) for seed in range(3)]
    sets["embryo, fast"] = [embryo(seed, wander_um=1.5, rotation_deg=5.0) for seed in range(3)]
    table(sets)


def samples() -> dict[str, list[Tracks]]:
    folder = Path(os.environ.get("HOWDAH_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    files = {"tgmm-3d": "tgmm-3d/tgmm-mini.mastodon", "Pm07": "mastodon-projects/astec/Pm07.mastodon"}
    return {name: [read_tracks(folder / file)] for name, file in files.items() if (folder / file).exists()}


def real() -> None:
    print(
        "\nReal lineages: tgmm-3d (its truth is automatic; most of its divisions are new spots joined to a neighbour), Pm07\n"
    )
    table(samples())


def doubt() -> None:
    print(
        "\nLink quality: share of wrong links by fifths of quality, lowest first; solver global, gaps up to 3 frames\n"
    )
    print("| spots | flaws | links | wrong | area under the curve | wrong in each fifth |")
    print("|---|---|---|---|---|---|")
    sets = {"embryo, fast": [embryo(seed, wander_um=1.5, rotation_deg=5.0) for seed in range(3)], **samples()}
    for name, truths in sets.items():
        for flaw, amounts in FLAWS.items():
            _, values, good = score(truths, amounts, LinkingConfig(solver="global", frame_gap=3))
            order = np.argsort(values, kind="stable")
            fifths = " ".join(f"{1 - part.mean():.3f}" for part in np.array_split(good[order], 5))
            rank = np.empty(len(order))
            rank[order] = np.arange(len(order))
            n, bad = good.sum(), (~good).sum()
            area = (rank[good].sum() - n * (n - 1) / 2) / (n * bad) if bad else np.nan
            print(f"| {name} | {flaw} | {len(good)} | {bad} | {area:.3f} | {fifths} |", flush=True)


def cpu(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def neighbours(tracks: Tracks) -> None:
    """The physical limit: one KD-tree and the nearest 8 parents of each spot, for each pair of frames."""
    frames = [tracks.centre[tracks.t == frame] for frame in range(tracks.n_frames)]
    for parents, children in itertools.pairwise(frames):
        KDTree(parents).query(children, k=min(8, len(parents)))


def speed() -> None:
    print(
        "\nSpeed: same density as above, step 1 um, 0.1 % divisions. Limit: KD-trees and the 8 nearest parents alone."
    )
    print("Reference: the published client's rules, measured on its own (5 frames).\n")
    print("| cells | frames | gap | solver | CPU s | spots/s | ratio to limit | reference s | times faster |")
    print("|---|---|---|---|---|---|---|---|---|")
    sizes = [(cells, 5, 1) for cells in REFERENCE_S] + [(2000, 100, 1), (2000, 100, 3)]
    for cells, frames, gap in sizes:
        whole = lineages(1.0, 1, cells=cells, frames=frames, box_um=BOX_UM * (cells / 40) ** (1 / 3), divides=0.001)
        bare = flawed(whole, FLAWS["10 % lost"], 0)[1] if gap > 1 else unlinked(whole)
        limit = cpu(lambda tracks=bare: neighbours(tracks))
        for solver in SOLVERS:
            config = LinkingConfig(solver=solver, frame_gap=gap)
            took = cpu(lambda tracks=bare, config=config: link_spots(tracks, config))
            reference = REFERENCE_S[cells] if frames == 5 else None
            versus = f"{reference} | {reference / took:.0f}" if reference else "- | -"
            print(
                f"| {cells} | {frames} | {gap} | {solver} | {took:.2f} | {bare.n_spots / took:.0f} | {took / limit:.1f} | {versus} |",
                flush=True,
            )


if __name__ == "__main__":
    parts = {"quality": quality, "real": real, "doubt": doubt, "speed": speed}
    for name in sys.argv[1:] or parts:
        parts[name]()
