"""GEFF: writing and reading, against the geff library's own arrays and the raw bytes of the folder.

Run: ``python benchmarks/bench_geff.py [SPOTS ...]``. The library writes and reads the same columns in memory, without names, units,
texts and checks; "bytes" is reading every file of the folder and doing nothing with it.
"""

from __future__ import annotations

import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from geff.core_io import read_to_memory, write_arrays

from bdv_io import Tag, Tracks
from bdv_io.geff_graph import read_geff, write_geff
from bdv_io.tags import Feature


def seconds(work: Callable[[], object], repeats: int = 2) -> float:
    """Best of several runs."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def movie(n: int) -> Tracks:
    """``n`` spots in 1000 frames (fewer if there are few), linked to the next frame, a tenth labelled, a tag set, a feature."""
    rng = np.random.default_rng(0)
    per_frame = max(n // 1000, 1)
    source = np.arange(n - per_frame)
    label = np.full(n, None, dtype=object)
    label[::10] = [f"cell {i}" for i in range(0, n, 10)]
    tracks = Tracks.build(
        np.arange(n) // per_frame,
        rng.random((n, 3)) * 1000,
        covariance=np.tile(np.diag([9.0, 16.0, 25.0]), (n, 1, 1)),
        links=np.stack([source, source + per_frame], axis=1),
        label=label,
        quality=rng.random(n),
        features=(Feature("intensity", "mean", rng.random(n)),),
        space_unit="micrometer",
    )
    return tracks.with_tag("Detection", Tag("unlabeled"), spots=np.arange(0, n, 2))


def read_bytes(folder: Path) -> int:
    return sum(len(file.read_bytes()) for file in folder.rglob("*") if file.is_file())


def main() -> None:
    warnings.simplefilter("ignore")
    sizes = [int(argument) for argument in sys.argv[1:]] or [10_000, 100_000, 1_000_000]
    print("| spots and links | MB | write s | library s | x | read s | library s | x | bytes s | x bytes |")
    print("|" + "---|" * 10)
    for n in sizes:
        tracks = movie(n)
        with tempfile.TemporaryDirectory() as name:
            folder, other = Path(name) / "a.geff", str(Path(name) / "b.geff")
            write = seconds(lambda tracks=tracks, folder=folder: write_geff(folder, tracks))
            read = seconds(lambda folder=folder: read_geff(folder))
            own_read = seconds(lambda folder=folder: read_to_memory(str(folder)))
            graph = read_to_memory(str(folder))
            arrays = (graph["node_ids"], graph["node_props"], graph["edge_ids"], graph["edge_props"], graph["metadata"])
            own_write = seconds(lambda a=arrays, other=other: write_arrays(other, *a, overwrite=True))
            limit, size = seconds(lambda folder=folder: read_bytes(folder)), read_bytes(folder) / 1e6
        row = f"| {n:,} | {size:.0f} | {write:.2f} | {own_write:.2f} | {write / own_write:.1f} "
        print(
            row + f"| {read:.2f} | {own_read:.2f} | {read / own_read:.1f} | {limit:.3f} | {read / limit:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
