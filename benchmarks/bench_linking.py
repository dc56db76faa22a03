"""Linking: speed against a plain neighbour search, growth, and quality on synthetic lineages against greedy linking.

Run: ``PYTHONPATH=python:. python benchmarks/bench_linking.py``
"""

from __future__ import annotations

import itertools
import time

import numpy as np
from scipy.spatial import KDTree

from bdv_io.tracks import Tracks
from howdah.linking import LinkingConfig, link_spots

FRAMES, BOX_UM, DIVIDES, APART_UM = 12, 60.0, 0.03, 3.0


def lineages(
    step_um: float, seed: int, *, cells: int = 40, frames: int = FRAMES, box_um: float = BOX_UM, flaws: float = 0
) -> Tracks:
    """Cells in a box that step in random directions and divide, daughters to both sides of the mother.

    Each cell, daughters too, moves by ``step_um`` a frame; ``flaws`` is the fraction of spots missed and invented.
    """
    rng = np.random.default_rng(seed)
    position, row, total = rng.uniform(0, box_um, (cells, 3)), np.arange(cells), cells
    t, centres, links = [np.zeros(cells, np.int64)], [position], []
    for frame in range(1, frames):
        divides = rng.random(len(position)) < DIVIDES
        apart = APART_UM * directions(rng, len(position))
        moved = np.concatenate([position + divides[:, None] * apart, (position - apart)[divides]])
        moved += step_um * directions(rng, len(moved))
        target = total + np.arange(len(moved))
        links.append(np.stack([np.concatenate([row, row[divides]]), target], axis=1))
        position, row, total = moved, target, total + len(moved)
        t.append(np.full(len(moved), frame))
        centres.append(moved)
    tracks = Tracks.build(np.concatenate(t), np.concatenate(centres), radius=2.5, links=np.concatenate(links))
    if not flaws:
        return tracks
    invented = int(flaws * tracks.n_spots)
    extra = Tracks.build(rng.integers(0, frames, invented), rng.uniform(0, box_um, (invented, 3)), radius=2.5)
    return tracks.select(rng.random(tracks.n_spots) >= flaws).concatenate(extra)


def directions(rng: np.random.Generator, n: int) -> np.ndarray:
    vectors = rng.normal(size=(n, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def greedy(tracks: Tracks, max_distance: float) -> Tracks:
    """The peer: closest pair first, a second child if both links are shorter or both longer than 1 (the published rule)."""
    made = []
    for frame in range(1, tracks.n_frames):
        parents, children = np.flatnonzero(tracks.t == frame - 1), np.flatnonzero(tracks.t == frame)
        table = np.linalg.norm(tracks.centre[children][:, None] - tracks.centre[parents][None], axis=2)
        first: dict[int, float] = {}
        full, linked = set(), set()
        for flat in np.argsort(table, axis=None):
            c, p = divmod(int(flat), len(parents))
            if table[c, p] > max_distance or c in linked or p in full:
                continue
            if p in first and (first[p] > 1) != (table[c, p] > 1):
                continue
            (full.add(p) if p in first else first.setdefault(p, table[c, p]))
            linked.add(c)
            made.append((parents[p], children[c]))
    return tracks.with_links(np.array(made).reshape(-1, 2))


def scores(step_um: float, flaws: float, link: object) -> np.ndarray:
    """Sums over five seeds: right, true and made links; right and true division links; true, made, right divisions."""
    total = np.zeros(8)
    for seed in range(5):
        truth = lineages(step_um, seed, flaws=flaws)
        made = link(truth.select_links(np.zeros(truth.n_links, bool)))
        key = truth.links @ [truth.n_spots, 1]
        right = np.isin(key, made.links @ [truth.n_spots, 1])
        of_division = truth.n_children()[truth.links[:, 0]] > 1
        total += [
            right.sum(),
            truth.n_links,
            made.n_links,
            (right & of_division).sum(),
            of_division.sum(),
            len(truth.divisions()),
            len(made.divisions()),
            len(np.intersect1d(truth.divisions(), made.divisions())),
        ]
    return total


def quality() -> None:
    print(
        f"\nQuality: 40 cells, {FRAMES} frames, {BOX_UM:g} um box, {DIVIDES:.0%} divisions, daughters at ±{APART_UM:g} um, 5 seeds"
    )
    print(
        "| spots missed and invented | step um | linker | link precision | recall | division-link recall | divisions made (right) of true |"
    )
    print("|---|---|---|---|---|---|---|")
    linkers = {
        "howdah": link_spots,
        "howdah, 8 um": lambda t: link_spots(t, LinkingConfig(max_distance=8)),
        "greedy, 8 um": lambda t: greedy(t, 8),
    }
    for flaws in (0.0, 0.02):
        for step in (0.5, 1.0, 2.0, 3.0):
            for name, link in linkers.items():
                s = scores(step, flaws, link)
                links = f"{s[0] / s[2]:.3f} | {s[0] / s[1]:.3f} | {s[3] / s[4]:.3f}"
                print(
                    f"| {flaws:.0%} | {step} | {name} | {links} | {s[6] / 5:.1f} ({s[7] / 5:.1f}) of {s[5] / 5:.1f} |"
                )


def speed() -> None:
    print(
        "\nSpeed: 100 frames, same density, step 1 um; limit: one KD-tree and 8 nearest parents a spot for each pair of frames"
    )
    print("| spots | seconds | spots/s | limit s | ratio to limit | links made |")
    print("|---|---|---|---|---|---|")
    for cells in (70, 220, 700):
        truth = lineages(1.0, 1, cells=cells, frames=100, box_um=BOX_UM * (cells / 15) ** (1 / 3))
        bare = truth.select_links(np.zeros(truth.n_links, bool))
        began = time.perf_counter()
        linked = link_spots(bare)
        took = time.perf_counter() - began
        frames = [bare.centre[bare.t == frame] for frame in range(100)]
        began = time.perf_counter()
        for parents, children in itertools.pairwise(frames):
            KDTree(parents).query(children, k=8)
        limit = time.perf_counter() - began
        print(
            f"| {bare.n_spots} | {took:.2f} | {bare.n_spots / took:.0f} | {limit:.2f} | {took / limit:.1f} | {linked.n_links} |"
        )


if __name__ == "__main__":
    quality()
    speed()
