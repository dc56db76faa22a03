"""What works on tables: linking, lineages, the annotation model, ellipsoids."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

from benchmarks.suite.case import Work, case
from benchmarks.suite.cases import drawn

LINKED = (500, 2_000, 5_000)  # cells a frame, 10 frames
SPOTS = (10_000, 50_000, 250_000)
REACH = 4.0


def neighbours(t: np.ndarray, centre: np.ndarray) -> None:
    """One KD-tree and the nearest 8 parents of each spot, for each pair of frames: no linker by distance does less."""
    from scipy.spatial import KDTree

    frames = [centre[t == frame] for frame in range(int(t.max()) + 1)]
    for parents, children in itertools.pairwise(frames):
        KDTree(parents).query(children, k=min(8, len(parents)))


def linking(cells: int, folder: Path, *, solver: str, gap: int = 1, most: int) -> Work:
    """Return the work of linking; peers are asked up to ``most`` cells a frame."""
    from howdah.linking import LinkingConfig, link_spots

    spots = drawn.lineages(cells, 10, lost=0.1 if gap > 1 else 0.0)
    np.savez(folder / "spots.npz", t=spots.t, centre=spots.centre)
    config = LinkingConfig.of({"solver": solver, "frame_gap": gap, "max_distance": REACH})
    given = {"file": str(folder / "spots.npz"), "max_distance": REACH, "gap": gap}

    def wrong() -> str:
        made = link_spots(spots, config).n_links
        return "" if made > 0.8 * (spots.n_spots - cells) else f"only {made} links between {spots.n_spots} spots"

    return Work(
        amount=spots.n_spots,
        run=lambda: link_spots(spots, config),
        limit=lambda: neighbours(spots.t, spots.centre),
        outside=given if cells <= most else None,
        wrong=wrong,
    )


@case(
    "link, pairwise",
    group="linking",
    unit="spots",
    sizes=LINKED,
    limit="KD-trees and 8 neighbours",
    peer="LapTrack",
    script="laptrack:link",
)
def pairwise(cells: int, folder: Path) -> Work:
    return linking(cells, folder, solver="pairwise", most=2_000)


@case(
    "link, nearest",
    group="linking",
    unit="spots",
    sizes=LINKED,
    limit="KD-trees and 8 neighbours",
    peer="btrack",
    script="btrack:link",
)
def nearest(cells: int, folder: Path) -> Work:
    return linking(cells, folder, solver="nearest", most=2_000)


@case(
    "link, global",
    group="linking",
    unit="spots",
    sizes=(250, 750, 2_000),
    limit="KD-trees and 8 neighbours",
    peer="motile (SCIP)",
    script="motile:link",
)
def whole_movie(cells: int, folder: Path) -> Work:
    return linking(cells, folder, solver="global", most=250)


@case(
    "link, pairwise, gaps to 3 frames, 10 % lost",
    group="linking",
    unit="spots",
    sizes=LINKED,
    limit="KD-trees and 8 neighbours",
    peer="LapTrack",
    script="laptrack:link",
)
def gaps(cells: int, folder: Path) -> Work:
    return linking(cells, folder, solver="pairwise", gap=3, most=500)  # LapTrack takes 25 s for 2,000


@case("annotation: build and validate", group="lineages", unit="spots", sizes=SPOTS, limit="copy of its bytes")
def build(n: int, folder: Path) -> Work:
    from bdv_io import Tracks

    made = drawn.trees(n)
    space = np.empty(made.nbytes, np.uint8)
    return Work(
        amount=made.n_spots,
        run=lambda: Tracks.build(made.t, made.centre, covariance=made.covariance, links=made.links),
        limit=lambda: space.copy(),
    )


@case(
    "annotation: tracks (components)",
    group="lineages",
    unit="spots",
    sizes=SPOTS,
    limit="counting children",
    peer="networkx",
)
def components(n: int, folder: Path) -> Work:
    import networkx as nx

    made = drawn.trees(n)

    def peer() -> int:
        graph = nx.DiGraph()
        graph.add_nodes_from(range(made.n_spots))
        graph.add_edges_from(made.links.tolist())
        return sum(1 for _ in nx.weakly_connected_components(graph))

    return Work(
        amount=made.n_spots,
        run=lambda: made.tracks(),
        limit=lambda: np.bincount(made.links[:, 0], minlength=made.n_spots),
        peer=peer if n <= 100_000 else None,
        wrong=lambda: "" if n > 100_000 or made.tracks()[0] == peer() else "another number of tracks than networkx",
    )


@case("lineages: cell cycles", group="lineages", unit="spots", sizes=SPOTS, limit="counting children")
def cycles(n: int, folder: Path) -> Work:
    from howdah import lineages

    made = drawn.trees(n)
    return Work(
        amount=made.n_spots,
        run=lambda: lineages.cell_cycles(made),
        limit=lambda: np.bincount(made.links[:, 0], minlength=made.n_spots),
    )


@case("lineages: tag progenitors", group="lineages", unit="spots", sizes=SPOTS, limit="counting children")
def progenitors(n: int, folder: Path) -> Work:
    from howdah import lineages

    made = drawn.trees(n)
    return Work(
        amount=made.n_spots,
        run=lambda: lineages.tag_progenitors(made),
        limit=lambda: np.bincount(made.links[:, 0], minlength=made.n_spots),
    )


@case("ellipsoids: paint labels", group="lineages", unit="voxels", sizes=(256, 384, 512), limit="a new volume, filled")
def paint(edge: int, folder: Path) -> Work:
    from howdah.ellipsoids import rasterise

    shape = (40, edge, edge)
    centre, covariance = drawn.ellipsoids(700 * edge**2 // 768**2, shape)
    return Work(
        amount=float(np.prod(shape)),
        run=lambda: rasterise(centre, covariance, shape),
        limit=lambda: np.full(shape, 1, np.int32),
    )


@case(
    "ellipsoids: from probability",
    group="lineages",
    unit="voxels",
    sizes=(256, 384, 512),
    limit="copy of the map",
    peer="scipy.ndimage.label alone",
)
def measured(edge: int, folder: Path) -> Work:
    from scipy import ndimage

    from howdah.ellipsoids import ellipsoids_from_probability, rasterise

    shape = (40, edge, edge)
    centre, covariance = drawn.ellipsoids(700 * edge**2 // 768**2, shape)
    noise = np.random.default_rng(1).random(shape, dtype=np.float32)
    inside = rasterise(centre, covariance * 0.16, shape) > 0
    probability = np.where(inside, 0.7 + 0.3 * noise, 0.4 * noise).astype(np.float32)
    return Work(
        amount=float(probability.size),
        run=lambda: ellipsoids_from_probability(probability, 0.5),
        limit=lambda: probability.copy(),
        peer=lambda: ndimage.label(probability > 0.5, np.ones((3, 3, 3))),
    )
