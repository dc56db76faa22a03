"""Times of the lineage functions on a synthetic annotation, against reading its links once (the limit) and networkx (a peer).

Run: PYTHONPATH=python:. python benchmarks/bench_lineages.py [spots, 1000000 by default]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from bdv_io.tags import Tag
from bdv_io.tracks import Tracks
from howdah import lineages as of


def annotation(n: int, *, frames: int = 500, seed: int = 0) -> Tracks:
    """Binary trees that grow over ``frames``: each spot continues, in one of fifty cases as two, in one of sixty not at all."""
    random = np.random.default_rng(seed)
    t, links, here, row = [], [], np.arange(max(n // (2 * frames), 1)), 0
    row = len(here)
    t.append(np.zeros(len(here), np.int64))
    for frame in range(1, frames):
        children = np.where(random.random(len(here)) < 1 / 50, 2, 1) * (random.random(len(here)) > 1 / 90)
        parents = np.repeat(here, children)
        here = np.arange(row, row + len(parents))
        links.append(np.stack([parents, here], axis=1))
        t.append(np.full(len(here), frame))
        row += len(here)
        if row >= n:
            break
    made = Tracks.build(np.concatenate(t), random.random((row, 3)) * 1000, radius=5.0, links=np.concatenate(links))
    made = made.with_tag("Detection", Tag("unlabeled"), spots=np.arange(row))
    return made.with_tag("Tracking", Tag("unlabeled"), links=np.arange(made.n_links))


def seconds(work: Callable[[], Any]) -> float:
    """Best of two."""
    taken = []
    for _ in range(2):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return min(taken)


def main() -> None:
    """Print the table."""
    tracks = annotation(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
    roots = tracks.n_spots - tracks.n_links
    print(f"{tracks.n_spots} spots, {tracks.n_links} links, {roots} roots, {len(tracks.divisions())} divisions\n")
    limit = seconds(lambda: np.bincount(tracks.links[:, 0], minlength=tracks.n_spots))
    small = annotation(min(tracks.n_spots, 100_000))
    peer = seconds(lambda: _networkx(small)) * tracks.n_spots / small.n_spots
    jobs: dict[str, Callable[[], Any]] = {
        "tag progenitors": lambda: of.tag_progenitors(tracks),
        "tag proliferators": lambda: of.tag_proliferators(tracks),
        "tag dividing": lambda: of.tag_dividing(tracks),
        "divisions per frame": lambda: of.divisions_per_frame(tracks),
        "divisions per track": lambda: of.divisions_per_track(tracks),
        "divisions per progenitor": lambda: of.divisions_per_progenitor(tracks),
        "cell cycles": lambda: of.cell_cycles(tracks),
        "statistics per frame": lambda: of.statistics_per_frame(tracks),
        "complete roots": lambda: of.complete_roots(tracks),
        "open places": lambda: of.open_places(tracks),
        "remove short tracks": lambda: of.remove_short_tracks(tracks, min_links=50),
        "remove by tag": lambda: of.remove_by_tag(tracks, "Detection", "unlabeled"),
        "remove a range": lambda: of.remove_range(tracks, first=10, last=20, box=((0, 0, 0), (500, 500, 500))),
        "remove bad links": lambda: of.remove_bad_links(tracks),
        "map a tag": lambda: of.map_tag(tracks, ("Detection", "unlabeled"), ("Detection", "tp")),
        "approve a lineage": lambda: of.approve(tracks, [0]),
    }
    print("| what | s | x counting children | x faster than networkx's roots |\n|---|---|---|---|")
    for name, work in jobs.items():
        taken = seconds(work)
        print(f"| {name} | {taken:.3f} | {taken / limit:.0f} | {peer / taken:.0f} |")


def _networkx(tracks: Tracks) -> int:
    import networkx as nx

    graph = nx.DiGraph()
    graph.add_nodes_from(range(tracks.n_spots))
    graph.add_edges_from(tracks.links.tolist())
    return sum(len(part) for part in nx.weakly_connected_components(graph))


if __name__ == "__main__":
    main()
