"""Cells from maps: speed of ``find_cells`` against the plain recipe of scikit-image, and its growth.

Run: ``PYTHONPATH=python:. python benchmarks/bench_instances.py [small] [large] [volume]``. The plain recipe: distance transform of the
whole image, Gaussian, ``peak_local_max``, ``watershed`` of the whole image, relabelling (which leaves holes, small parts and
quality undone); by_slice: the same plane by plane. Times are CPU seconds of one thread, the least of some runs; G is a
Gaussian filter (sigma 2) of 64 x 256 x 256 float32 measured in the same run, so that ratios hold on other machines. The bound
is one pass of a comparison over the image.

The maps are drawn: discs or balls, of which about a half touch another one, with noise. SEG is that of the drawn labels.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.segmentation import relabel_sequential, watershed

from howdah.methods.efficientcellseg.config import EfficientCellSegConfig
from howdah.methods.efficientcellseg.instances import find_cells
from howdah.methods.efficientcellseg.maps import Maps
from howdah.metrics.segmentation import seg_score

CASES = {
    "small": [((1, 512, 512), 60, 24), ((1, 1024, 1024), 300, 32)],
    "large": [((1, 2048, 2048), 2500, 32), ((1, 4096, 4096), 10_000, 32)],
    "volume": [((16, 512, 512), 250, 24), ((64, 512, 512), 1000, 24)],
}


def timed(work: Callable[[], np.ndarray], runs: int) -> tuple[float, np.ndarray]:
    took = []
    for _ in range(runs):
        began = time.process_time()
        result = work()
        took.append(time.process_time() - began)
    return min(took), result


def cpu(work: Callable[[], np.ndarray], runs: int) -> float:
    return timed(work, runs)[0]


def yardstick() -> float:
    volume = np.random.default_rng(0).random((64, 256, 256), dtype=np.float32)
    return cpu(lambda: ndimage.gaussian_filter(volume, 2.0), 3)


def drawn(shape: tuple[int, int, int], cells: int, diameter: int, seed: int = 0) -> tuple[Maps, np.ndarray]:
    """Return maps and labels. Every second cell lies beside the one before, so that they touch."""
    rng = np.random.default_rng(seed)
    labels, centre = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    reach = np.array([0 if n == 1 else diameter // 2 for n in shape])
    near = np.stack(np.meshgrid(*[np.arange(-r, r + 1) for r in reach], indexing="ij"))
    away = np.sqrt((near**2).sum(axis=0))
    peak = np.exp(-(away**2) / (2 * (0.2 * diameter) ** 2)).astype(np.float32)
    n, place = 0, np.zeros(3, int)
    for _ in range(cells * 60):
        if n % 2 and (beside := rng.normal(size=3) * (reach > 0)).any():
            step = np.rint(beside / np.linalg.norm(beside) * diameter * 0.85).astype(int)
            new = place + step if (tried := rng.random() < 0.9) else rng.integers(reach, np.array(shape) - reach)
        else:
            tried, new = False, rng.integers(reach, np.array(shape) - reach)
        if (new < reach).any() or (new >= np.array(shape) - reach).any():
            continue
        box = tuple(slice(p - r, p + r + 1) for p, r in zip(new, reach, strict=True))
        inside = away <= diameter / 2 * rng.uniform(0.85, 1.0)
        taken = inside & (labels[box] > 0)
        if taken.sum() > (0.2 if tried else 0.0) * inside.sum():
            continue
        n, place = n + 1, new
        labels[box][inside & (labels[box] == 0)] = n
        np.maximum(centre[box], peak, out=centre[box])
        if n == cells:
            break
    cell = (labels > 0) * np.float32(0.8) + 0.1 + rng.normal(0, 0.05, shape).astype(np.float32)
    return Maps(np.clip(cell, 0, 1).astype(np.float32), centre), labels


def recipe(maps: Maps, diameter: float) -> np.ndarray:
    mask = maps.cell > 0.5
    if mask.shape[0] == 1:
        return plane(mask[0], diameter)[None]
    return plane(mask, diameter)


def plane(mask: np.ndarray, diameter: float) -> np.ndarray:
    away = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask), 0.1 * diameter)
    found = peak_local_max(away, min_distance=int(diameter / 2), labels=mask.astype(np.uint8), exclude_border=False)
    markers = np.zeros(mask.shape, np.int32)
    markers[tuple(found.T)] = np.arange(1, len(found) + 1)
    return relabel_sequential(watershed(-away, markers, mask=mask))[0]


def by_slice(maps: Maps, diameter: float) -> np.ndarray:
    return np.stack([plane(mask, diameter) for mask in maps.cell > 0.5])


def main(parts: list[str]) -> None:
    g = yardstick()
    print(f"\nCells from maps, one thread, CPU time; G = {g * 1000:.0f} ms\n")
    print("| image | cells | foreground | way | found | SEG | s | x G | ns a voxel | x recipe | x bound |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for part in parts:
        for shape, cells, diameter in CASES[part]:
            maps, truth = drawn(shape, cells, diameter)
            runs = 1 if maps.cell.size > 1 << 23 else 3
            bound = cpu(lambda m=maps: m.cell > 0.5, 3)
            ways = {"recipe": lambda m=maps, d=diameter: recipe(m, d)}
            if shape[0] > 1:
                ways["recipe by slice"] = lambda m=maps, d=diameter: by_slice(m, d)
            for split in ("components", "distance", "centres"):
                config = EfficientCellSegConfig(split=split)
                ways[split] = lambda m=maps, c=config, d=diameter: find_cells(m, c, diameter=d).labels
            if shape[0] > 1:
                config = EfficientCellSegConfig(split="distance", stack="planes")
                ways["distance by plane"] = lambda m=maps, c=config, d=diameter: find_cells(m, c, diameter=d).labels
            base = 0.0
            for name, work in ways.items():
                took, labels = timed(work, runs)
                base = base or took
                size = " x ".join(str(n) for n in shape if n > 1)
                print(
                    f"| {size} | {truth.max()} | {np.mean(truth > 0):.0%} | {name} | {labels.max()} "
                    f"| {seg_score(truth, labels).seg:.3f} | {took:.3f} | {took / g:.2f} | {took / truth.size * 1e9:.0f} "
                    f"| {took / base:.2f} | {took / bound:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("parts", nargs="*", choices=[[], *CASES], default=[])
    main(arguments.parse_args().parts or list(CASES))
