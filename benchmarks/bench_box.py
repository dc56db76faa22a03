"""What looking at a box only costs and changes, and how many tiles a frame takes.

Boxes are laid over a synthetic embryo (or a movie: ``--movie FILE --weights FILE``); nuclei found in a box are compared with those that
the whole frame gives there. The network's norms see less in a box, so they need not be the same. Without weights it learns
first, on ten marks. Run it as ``python benchmarks/bench_box.py [--weights FILE]``.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from bdv_io.formats import open_image
from howdah import synthetic
from howdah.ellipsoids import equivalent_radius
from howdah.methods.elephant import predict
from howdah.methods.elephant.box import box_around, in_box
from howdah.methods.elephant.config import ElephantConfig
from howdah.methods.elephant.predict import Detector, read_weights
from howdah.methods.elephant.stream import bytes_per_voxel
from howdah.methods.elephant.train import train
from howdah.metrics.matching import match_points
from howdah.nn import tiles
from howdah.nn.device import pick
from howdah.progress import finish

# shape, tile of the reference, tiles that it computes
REFERENCE = [
    ((16, 512, 512), (16, 256, 256), 9),
    ((32, 512, 512), (24, 384, 384), 8),
    ((64, 1024, 1024), (24, 384, 384), 27),
]


def boxes(detector, frame, affine, size):
    extent = np.linalg.norm(affine[:3, :3], axis=0) * frame.shape
    begin = time.perf_counter()
    whole = detector.predict_spots(frame, affine)
    whole_s, box_s, rows = time.perf_counter() - begin, [], []
    for place in np.ndindex(1, 3, 3):
        middle = np.add(place, (1.5, 1, 1)) / (3, 4, 4) * extent
        box = box_around(middle, (extent[0], size, size))
        begin = time.perf_counter()
        part = detector.predict_spots(frame, affine, box=box)
        box_s.append(time.perf_counter() - begin)
        inside = whole.take(np.flatnonzero(in_box(whole.centre, box)))
        if not len(inside) and not len(part):
            continue
        pairs = match_points(
            inside.centre, part.centre, max_distance=float(np.median(equivalent_radius(whole.covariance)))
        )
        sizes = equivalent_radius(part.covariance[pairs.predicted]) / equivalent_radius(inside.covariance[pairs.truth])
        rows.append((len(inside), len(part), len(pairs.truth), pairs.distance, sizes))
    n, m, both = (sum(row[i] for row in rows) for i in range(3))
    distance, sizes = (np.concatenate([row[i] for row in rows]) for i in (3, 4))
    f1 = 2 * both / (n + m)
    return f1, np.median(distance), np.median(np.abs(np.log(sizes))), np.median(box_s) / whole_s


def count_tiles():
    """Tiles in the memory that the reference's tile takes, the reference's and ours."""
    place = pick("cpu", precision="float32")
    print(
        "\n| frame | tile of the reference | its tiles | voxels computed / voxels | ours | voxels computed / voxels |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for shape, size, theirs in REFERENCE:
        memory = predict.BYTES_PER_VOXEL * np.prod(size) / 2**20
        tile = tiles.size_for_memory(
            shape, multiple=(4, 16, 16), bytes_per_voxel=bytes_per_voxel(place), memory_mb=memory
        )
        plan = tiles.plan(shape, tile, multiple=(4, 16, 16))
        ours = sum(np.prod([part.stop - part.start for part in t.region]) for t in plan) / np.prod(shape)
        share = theirs * np.prod(size) / np.prod(shape)
        print(f"| {shape} | {size} | {theirs} | {share:.2f} | {len(plan)} of {tile} | {ours:.2f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--movie", type=Path)
    parser.add_argument("--size", type=float, default=20.0, help="edge of a box in y and x, world units")
    arguments = parser.parse_args()
    if arguments.movie:
        movie = open_image(arguments.movie)
        frame, affine = movie.read(10, 0), movie.affine(10, 0)
    else:
        embryo = synthetic.embryo(seed=9, n_frames=2, shape=(24, 224, 224), n_nuclei=200)
        frame, affine = embryo.frame(0), np.diag([*embryo.settings.voxel_size, 1.0])
    if arguments.weights:
        weights = read_weights(arguments.weights)
    else:
        teacher = synthetic.embryo(seed=0, n_frames=2)
        weights = finish(
            train(
                teacher.frame,
                synthetic.marks(teacher, 10),
                ElephantConfig(),
                affine=np.diag([*teacher.settings.voxel_size, 1.0]),
            )
        )
    detector = Detector(weights)
    print("| margin, voxels | F1 against the whole frame | median shift | median change of size | time / whole |")
    print("| --- | --- | --- | --- | --- |")
    for margin in (0, 16, 32, 48, 64):
        predict.MARGIN = margin
        f1, shift, size, share = boxes(detector, frame, affine, arguments.size)
        print(f"| {margin} | {f1:.3f} | {shift:.3f} | {100 * size:.1f} % | {share:.2f} |", flush=True)
    count_tiles()


if __name__ == "__main__":
    main()
