"""TrackMate XML: reading and writing, against the XML parser alone, the peer pytrackmate, and the raw bytes.

Run: ``python benchmarks/bench_trackmate.py [SPOTS ...]``. "Parser" is lxml reading the same file without taking anything out of
it: once into a tree (all in memory), once element by element. The peer (``pip install pytrackmate``) reads the spots of
shown tracks into a table and is measured up to 100,000 spots. A second table has outlines.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from lxml import etree

from bdv_io import ArrayImage, Tracks
from bdv_io.outlines import Outlines
from bdv_io.tags import Feature
from bdv_io.trackmate import read_trackmate, write_trackmate

PEER_LIMIT = 100_000


def seconds(work: Callable[[], object], repeats: int = 2) -> float:
    """Best of several runs."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def movie(n: int) -> Tracks:
    """``n`` spots in 1000 frames (fewer if there are few), linked to the next frame, with three features and a cost."""
    rng = np.random.default_rng(0)
    per_frame = max(n // 1000, 1)
    source = np.arange(n - per_frame)
    features = [Feature(f"MEAN_INTENSITY_CH{i}", "", rng.random(n) * 1000, dimension="INTENSITY") for i in (1, 2, 3)]
    features.append(Feature("LINK_COST", "", rng.random(len(source)), target="link", dimension="COST"))
    return Tracks.build(
        np.arange(n) // per_frame,
        rng.random((n, 3)) * 1000,
        radius=rng.random(n) + 5,
        links=np.stack([source, source + per_frame], axis=1),
        quality=rng.random(n),
        features=tuple(features),
        interval=1.0,
    )


def outlined(n: int, vertices: int = 30) -> Tracks:
    """The same with an outline of 30 vertices a spot, of half-pixel steps as in label images."""
    from dataclasses import replace

    tracks = movie(n)
    angle = np.linspace(0, 2 * np.pi, vertices, endpoint=False)
    ring = np.stack([np.sin(angle), np.cos(angle)], axis=-1) * 6
    points = np.round((tracks.centre[:, None, 1:] + ring) * 2) / 2
    outlines = Outlines.build(np.arange(n), tracks.centre[:, 0], n_vertices=np.full(n, vertices), vertices=points)
    return replace(tracks, outlines=outlines)


def peer(path: Path, n: int) -> float:
    """Seconds of pytrackmate; NaN where it is not installed or the file is too large for it."""
    if n > PEER_LIMIT or importlib.util.find_spec("pytrackmate") is None:
        return float("nan")
    from pytrackmate import trackmate_peak_import

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return seconds(lambda: trackmate_peak_import(path, get_tracks=True), 1)


def one_by_one(path: Path) -> int:
    count = 0
    for _, element in etree.iterparse(str(path)):
        element.clear()
        count += 1
    return count


def measure(name: str, tracks: Tracks) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, image = (
            Path(folder) / "m.xml",
            ArrayImage([np.zeros((2, 2, 2))] * tracks.n_frames),
        )  # the peer wants settings
        write = seconds(lambda: write_trackmate(path, tracks, image=image), 1)
        read = seconds(lambda: read_trackmate(path))
        tree, step = seconds(lambda: etree.parse(str(path)), 1), seconds(lambda: one_by_one(path), 1)
        raw, other = seconds(path.read_bytes), peer(path, tracks.n_spots)
        size = path.stat().st_size / 1e6
    print(
        f"| {name} | {size:.0f} | {write:.2f} | {read:.2f} | {tree:.2f} | {read / tree:.1f} | {step:.2f} | {read / step:.1f} "
        f"| {raw:.3f} | {read / raw:.0f} | {other:.2f} | {other / read:.1f} |",
        flush=True,
    )


def main() -> None:
    sizes = [int(argument) for argument in sys.argv[1:]] or [10_000, 100_000, 1_000_000]
    print(
        "| spots and links | MB | write s | read s | parser, tree s | x | parser, stepwise s | x | bytes s | x | peer s | faster |"
    )
    print("|" + "---|" * 12)
    for n in sizes:
        measure(f"{n:,}", movie(n))
        if n <= PEER_LIMIT:
            measure(f"{n:,} with outlines", outlined(n))


if __name__ == "__main__":
    main()
