"""``.mastodon`` projects: reading and writing, against the peer mastodon-reader and against the raw bytes of the file.

Run: ``python benchmarks/bench_mastodon.py [SPOTS ...]``. The peer (``pip install mastodon-reader``) is measured where it is
installed: its ``read()``, which reads the whole project as we do, and its ``read_tables()``, spots and links alone. The limit
of reading is to read the entries of the zip file and do nothing with them.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bdv_io import Tag, Tracks
from bdv_io.mastodon import read_mastodon, write_mastodon


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """Best of several runs."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def project(n: int) -> Tracks:
    """``n`` spots in 1000 frames (fewer if there are few), linked to the next frame, a tenth labelled, one tag set."""
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
    )
    return tracks.with_tag("Detection", Tag("unlabeled"), spots=np.arange(0, n, 2))


def read_bytes(path: Path) -> int:
    with zipfile.ZipFile(path) as archive:
        return sum(len(archive.read(name)) for name in archive.namelist())


def peer(path: Path) -> tuple[float, float]:
    """Seconds of the peer's ``read()`` and ``read_tables()``; NaN where it is not installed."""
    if importlib.util.find_spec("mastodon_reader") is None:
        return float("nan"), float("nan")
    from mastodon_reader import MastodonReader

    reader = MastodonReader(str(path))
    return seconds(reader.read, 1), seconds(reader.read_tables, 1)


def main() -> None:
    sizes = [int(argument) for argument in sys.argv[1:]] or [10_000, 100_000, 1_000_000]
    print(
        "| spots and links | write s | read s | peer read() s | faster | its tables alone s | faster | bytes s | x bytes |"
    )
    print("|" + "---|" * 9)
    for n in sizes:
        tracks = project(n)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "p.mastodon"
            write = seconds(lambda path=path, tracks=tracks: write_mastodon(path, tracks), 2)
            read = seconds(lambda path=path: read_mastodon(path))
            limit = seconds(lambda path=path: read_bytes(path))
            whole, tables = peer(path)
        row = f"| {n:,} | {write:.3f} | {read:.3f} | {whole:.2f} | {whole / read:.0f} | {tables:.2f} | {tables / read:.0f} "
        print(row + f"| {limit:.4f} | {read / limit:.1f} |", flush=True)


if __name__ == "__main__":
    main()
