"""Outlines of label images and back: 1000 cells on 1024 x 1024, beside skimage, one plane and a stack.

Run: python benchmarks/bench_masks.py
"""

import time

import numpy as np
from skimage.measure import find_contours, regionprops

from bdv_io.raster import fill, trace


def best(function, repeat=5):
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        result = function()
        times.append(time.perf_counter() - start)
    return min(times), result


def cells(side, count, radius, rng):
    labels = np.zeros((side, side), dtype=np.uint16)
    step = int(np.ceil(np.sqrt(count)))
    y, x = np.indices((side, side))
    for i in range(count):
        cy, cx = (np.array(divmod(i, step)) + 0.5) * side / step + rng.uniform(-3, 3, 2)
        r = radius * rng.uniform(0.8, 1.2)
        box = (slice(max(int(cy - 2 * r), 0), int(cy + 2 * r)), slice(max(int(cx - 2 * r), 0), int(cx + 2 * r)))
        angle = np.arctan2(y[box] - cy, x[box] - cx)
        edge = r * (1 + 0.2 * np.sin(3 * angle + i))
        labels[box][np.hypot(y[box] - cy, x[box] - cx) < edge] = i + 1
    return labels


def contours(labels):
    found = []
    for region in regionprops(labels):
        found += find_contours(np.pad(region.image, 1), 0.5)
    return found


def main():
    rng = np.random.default_rng(0)
    labels = cells(1024, 1000, 12, rng)
    stack = np.stack([labels] * 20)
    noise = rng.integers(0, 3, (1024, 1024)).astype(np.uint16)
    copy, _ = best(lambda: labels.copy() != 0)
    print("| case | trace (ms) | fill (ms) | rings | vertices | trace / one pass over the pixels |")
    print("|---|---|---|---|---|---|")
    for name, image in (
        ("1000 cells, 1024²", labels),
        ("the same, 20 planes", stack),
        ("noise of 3 labels, 1024²", noise),
    ):
        shape = image.shape if image.ndim == 3 else (1, *image.shape)
        took, rings = best(lambda image=image: trace(image), 3)
        back, found = best(lambda rings=rings, shape=shape: fill(rings, shape, dtype=np.int32), 3)
        assert (found.labels == image).all()
        limit = copy * image.size / labels.size
        print(
            f"| {name} | {took * 1e3:.0f} | {back * 1e3:.0f} | {len(rings)} | {len(rings.vertices)} | {took / limit:.0f} |"
        )
    took, _ = best(lambda: contours(labels), 2)
    print(
        f"\nskimage regionprops + find_contours on the 1000 cells: {took * 1e3:.0f} ms (does not give the pixels back)."
    )


if __name__ == "__main__":
    main()
