"""The annotation model: building, validating, selecting, tracks; time and bytes per spot against memory bandwidth.

Run: ``python benchmarks/bench_tracks.py [SPOTS ...]``. Peers: none has a columnar model of this kind in Python; the
limit is one pass over the bytes of the columns (a numpy copy).
"""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Callable

import numpy as np

from bdv_io import Tracks


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """Best of several runs."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def columns(n: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    per_frame = max(n // 1000, 1)
    t = np.arange(n) // per_frame
    source = np.arange(n - per_frame)
    return {
        "t": t,
        "centre": rng.random((n, 3)) * 1000,
        "covariance": np.tile(np.diag([9.0, 9.0, 9.0]), (n, 1, 1)),
        "links": np.stack([source, source + per_frame], axis=1),
    }


def measure(n: int) -> dict[str, float]:
    data = columns(n)
    tracemalloc.start()
    tracks = Tracks.build(**{name: column.copy() for name, column in data.items()})
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    buffer = np.empty(tracks.nbytes, dtype=np.uint8)
    half = tracks.t < tracks.n_frames // 2
    return {
        "copy of the bytes": seconds(lambda: buffer.copy()),
        "build": seconds(lambda: Tracks.build(**data)),
        "validate": seconds(tracks.validate),
        "tracks (components)": seconds(tracks.tracks),
        "divisions": seconds(tracks.divisions),
        "select half": seconds(lambda: tracks.select(half)),
        "concatenate": seconds(lambda: tracks.concatenate(tracks)),
        "bytes a spot": held / n,
    }


def main() -> None:
    sizes = [int(argument) for argument in sys.argv[1:]] or [10_000, 100_000, 1_000_000]
    results = {n: measure(n) for n in sizes}
    print("| | " + " | ".join(f"{n:,} spots" for n in sizes) + " | ratio to a copy (largest) |")
    print("|---|" + "---|" * (len(sizes) + 1))
    for name in results[sizes[0]]:
        row = [
            f"{results[n][name]:.0f}" if name == "bytes a spot" else f"{results[n][name] * 1000:.2f} ms" for n in sizes
        ]
        last = results[sizes[-1]]
        ratio = "" if name == "bytes a spot" else f"{last[name] / last['copy of the bytes']:.1f}"
        print(f"| {name} | " + " | ".join(row) + f" | {ratio} |")


if __name__ == "__main__":
    main()
