"""Clustering and linking of EmbedTrack: speed against the number of cells, the published code's recorded times, and G.

Run: ``PYTHONPATH=python:. python benchmarks/bench_clustering.py [clustering|large|linking ...] [--published DIR]``; DIR is
a checkout of the published code, which is then timed beside ours on one case, and its labels compared. Times are CPU seconds
in one thread, the least of some runs; G is a Gaussian filter (sigma 2) of 64 x 256 x 256 float32 measured in the same run, so
that ratios hold on other machines.

The synthetic prediction: ellipses that do not overlap, radius 6 to 11 pixels; every pixel points to its cell's centre,
exactly or with normally distributed noise; cells of at least 20 pixels.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from howdah.methods.embedtrack.cluster import find_cells
from howdah.methods.embedtrack.config import EmbedTrackConfig
from howdah.methods.embedtrack.fields import Fields
from howdah.methods.embedtrack.link import estimated_centres, vote

MIN_SIZE, EDGE = 20, 1024
PUBLISHED_G = {(50, 0): 17.3, (300, 0): 98.9, (1000, 0): 324.6, (50, 1): 28.9, (300, 1): 169.7, (1000, 1): 577.8}
PUBLISHED_LINKING_G = {50: 0.18, 300: 0.56, 1000: 1.67}
AS_PUBLISHED = EmbedTrackConfig(
    min_votes=5, largest_part=False, fill_holes=False, compat=("smooth_multipliers", "rejected_proposals")
)


def cpu(work: Callable[[], object], runs: int = 5) -> float:
    took = []
    for _ in range(runs):
        began = time.process_time()
        work()
        took.append(time.process_time() - began)
    return min(took)


def yardstick() -> float:
    volume = np.random.default_rng(0).random((64, 256, 256), dtype=np.float32)
    return cpu(lambda: ndimage.gaussian_filter(volume, 2.0), 3)


def field(cells: int, noise: float, shape: tuple[int, ...] = (EDGE, EDGE), seed: int = 0) -> tuple[Fields, np.ndarray]:
    """Return a prediction and its true labels: cells are drawn at random places until there are so many."""
    rng = np.random.default_rng(seed)
    truth, centres = np.zeros(shape, np.int32), [np.zeros(len(shape))]
    while len(centres) <= cells:
        radius = rng.uniform(6, 11, len(shape))
        centre = np.array([rng.integers(12, n - 12) for n in shape])
        box = tuple(slice(c - 12, c + 13) for c in centre)
        near = np.stack(np.meshgrid(*[np.arange(-12, 13)] * len(shape), indexing="ij"))
        inside = ((near / radius.reshape(-1, *[1] * len(shape))) ** 2).sum(axis=0) <= 1
        if not (truth[box][inside] > 0).any():
            truth[box][inside] = len(centres)
            centres.append(centre)
    unit = (1 / 255,) * len(shape)
    offset, cell = np.zeros((len(shape), *shape), np.float32), truth > 0
    at = np.stack(np.nonzero(cell))
    pointed = np.array(centres)[truth[cell]].T + (rng.normal(0, noise, at.shape) if noise else 0.0)
    offset[:, cell] = (pointed - at) * unit[0]
    bandwidth = np.full(offset.shape, np.log(np.log(2) / (5 * unit[0]) ** 2) / 10, np.float32)
    seediness = np.where(cell, rng.uniform(0.6, 1.0, shape), rng.uniform(0.0, 0.3, shape)).astype(np.float32)
    return Fields(offset, bandwidth, seediness, None, unit), truth


def agreement(labels: np.ndarray, truth: np.ndarray) -> float:
    """Return the share of true cells that one found cell covers with an overlap (intersection over union) above 0.5."""
    n = int(truth.max()) + 1
    pairs, both = np.unique(labels.astype(np.int64).ravel() * n + truth.ravel(), return_counts=True)
    found, true = pairs // n, pairs % n
    a, b = np.bincount(labels.ravel()), np.bincount(truth.ravel())
    good = (found > 0) & (true > 0) & (both > 0.5 * (a[found] + b[true] - both))
    return float(np.count_nonzero(good)) / (n - 1)


def clustering(published: Path | None) -> None:
    g = yardstick()
    print(f"\nClustering of 1024 x 1024; G = {g * 1000:.0f} ms\n")
    print("| cells | noise, px | found | right | ms | x G | published x G | times faster |")
    print("|---|---|---|---|---|---|---|---|")
    ours = {}
    for noise in (0, 1):
        for cells in (50, 300, 1000):
            fields, truth = field(cells, noise)
            found = find_cells(fields, EmbedTrackConfig(), min_size=MIN_SIZE)
            took = ours[cells, noise] = cpu(lambda f=fields: find_cells(f, EmbedTrackConfig(), min_size=MIN_SIZE))
            recorded = PUBLISHED_G[cells, noise]
            print(
                f"| {cells} | {noise} | {len(found)} | {agreement(found.labels, truth):.3f} | {took * 1000:.0f} | {took / g:.2f} "
                f"| {recorded} | {recorded / (took / g):.0f} |",
                flush=True,
            )
    for noise in (0, 1):
        print(f"\ngrowth from 50 to 1000 cells, noise {noise}: {ours[1000, noise] / ours[50, noise]:.2f} x")
    if published is not None:
        beside(published, g)


def beside(published: Path, g: float) -> None:
    """Time the published code on 300 cells, its random bias set to 0, and compare its labels with ours as published."""
    place = importlib.util.spec_from_file_location("published", published / "embedtrack" / "utils" / "clustering.py")
    code = importlib.util.module_from_spec(place)
    place.loader.exec_module(code)
    print("\nThe published code in this run, once; labels as it gives them beside ours with its faults (compat)\n")
    print("| cells | noise, px | cells found: theirs | ours | pixels that differ | theirs, s | x G | times faster |")
    print("|---|---|---|---|---|---|---|---|")
    for cells, noise in ((50, 0), (300, 1)):
        fields, _ = field(cells, noise)
        logits = [np.arctanh(fields.offset), *(np.log(p / (1 - p)) for p in (fields.bandwidth, fields.seediness[None]))]
        prediction = torch.from_numpy(np.concatenate(logits).astype(np.float32))
        activated = [torch.tanh(prediction[:2]), torch.sigmoid(prediction[2:4]), torch.sigmoid(prediction[4])]
        fields = Fields(*(values.numpy() for values in activated), None, fields.unit)
        size = (EDGE - 1) / 255
        theirs = code.Cluster(EDGE, EDGE, size, size)
        theirs.smoothing_filt.bias.data.zero_()
        began = time.process_time()
        with torch.no_grad():
            labels = np.asarray(theirs.cluster_pixels(prediction, n_sigma=2, min_obj_size=MIN_SIZE)).squeeze()
        took = time.process_time() - began
        ours = find_cells(fields, AS_PUBLISHED, min_size=MIN_SIZE)
        mine = cpu(lambda f=fields: find_cells(f, EmbedTrackConfig(), min_size=MIN_SIZE))
        differ = np.count_nonzero(matched(ours.labels, labels) != labels)
        print(
            f"| {cells} | {noise} | {labels.max()} | {len(ours)} | {differ} | {took:.2f} | {took / g:.1f} | {took / mine:.0f} |",
            flush=True,
        )


def matched(labels: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return labels with the name that most of their pixels have in ``others``; their order does not count."""
    names = np.array([0, *(np.bincount(others[labels == n]).argmax() for n in range(1, labels.max() + 1))])
    return names[labels]


def large(published: Path | None) -> None:
    g = yardstick()
    print(f"\nLarge and 3D; G = {g * 1000:.0f} ms\n")
    print("| frame | cells | noise, px | foreground | found | right | ms | x G |")
    print("|---|---|---|---|---|---|---|---|")
    for shape, cells in (((4096, 4096), 10_000), ((64, 256, 256), 300)):
        for noise in (0, 1):
            fields, truth = field(cells, noise, shape)
            found = find_cells(fields, EmbedTrackConfig(), min_size=MIN_SIZE)
            took = cpu(lambda f=fields: find_cells(f, EmbedTrackConfig(), min_size=MIN_SIZE), 2)
            size = " x ".join(str(n) for n in shape)
            print(
                f"| {size} | {cells} | {noise} | {np.count_nonzero(truth)} | {len(found)} | {agreement(found.labels, truth):.3f} "
                f"| {took * 1000:.0f} | {took / g:.2f} |",
                flush=True,
            )


def linking(published: Path | None) -> None:
    g = yardstick()
    print(f"\nLinking step of 1024 x 1024, cells that moved by (3, -2); G = {g * 1000:.0f} ms\n")
    print("| cells | linked | right | vote, ms | x G | published x G | times faster | estimated centres, ms |")
    print("|---|---|---|---|---|---|---|---|")
    for cells in (50, 300, 1000):
        fields, earlier = field(cells, 1)
        later = np.roll(earlier, (3, -2), axis=(0, 1))
        moved = -np.roll(fields.offset, (3, -2), axis=(1, 2)) + np.array([[[3]], [[-2]]]) / 255
        fields = replace(fields, tracking=moved.astype(np.float32))
        votes = vote(later, earlier, fields, EmbedTrackConfig())
        took = cpu(lambda f=fields, a=later, b=earlier: vote(a, b, f, EmbedTrackConfig()))
        centres = cpu(lambda f=fields, a=later: estimated_centres(a, f))
        right, recorded = np.mean(votes.parent == np.arange(1, cells + 1)), PUBLISHED_LINKING_G[cells]
        print(
            f"| {cells} | {np.count_nonzero(votes.parent)} | {right:.3f} | {took * 1000:.1f} | {took / g:.2f} | {recorded} "
            f"| {recorded / (took / g):.1f} | {centres * 1000:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    parts = {"clustering": clustering, "large": large, "linking": linking}
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("parts", nargs="*", choices=[[], *parts], default=[])
    arguments.add_argument("--published", type=Path, help="folder of the published code")
    given = arguments.parse_args()
    for name in given.parts or parts:
        parts[name](given.published)
