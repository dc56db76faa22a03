"""How good linking is, where the truth is known: a published lineage, and simulated ones."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

from bdv_io.tracks import Tracks
from howdah.linking import LINK_QUALITY, LinkingConfig, link_spots
from howdah.metrics import Counts, score_tracking


def unlinked(tracks: Tracks) -> Tracks:
    return tracks.select_links(np.zeros(tracks.n_links, dtype=bool))


def simulated(seed: int, step_um: float) -> Tracks:
    """40 cells in a box of 60 um, 12 frames; 3 % divide a frame, daughters at 3 um to both sides; all move step_um."""
    rng = np.random.default_rng(seed)

    def directions(n: int):
        vectors = rng.normal(size=(n, 3))
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    position, row, total = rng.uniform(0, 60, (40, 3)), np.arange(40), 40
    t, centres, links = [np.zeros(40, np.int64)], [position], []
    for frame in range(1, 12):
        divides = rng.random(len(position)) < 0.03
        apart = 3 * directions(len(position))
        moved = np.concatenate([position + divides[:, None] * apart, (position - apart)[divides]])
        moved += step_um * directions(len(moved))
        target = total + np.arange(len(moved))
        links.append(np.stack([np.concatenate([row, row[divides]]), target], axis=1))
        position, row, total = moved, target, total + len(moved)
        t.append(np.full(len(moved), frame))
        centres.append(moved)
    return Tracks.build(np.concatenate(t), np.concatenate(centres), radius=2.5, links=np.concatenate(links))


@pytest.mark.parametrize(
    ("step_um", "links", "divisions"), [(0.5, 1.0, 1.0), (1.0, 0.999, 0.97), (2.0, 0.988, 0.95), (3.0, 0.975, 0.8)]
)
def test_simulated_lineages(step_um, links, divisions):
    link, division = Counts(0, 0, 0), Counts(0, 0, 0)
    for seed in range(5):
        truth = simulated(seed, step_um)
        score = score_tracking(truth, link_spots(unlinked(truth)), max_distance=0.1)
        link, division = link + score.links, division + score.divisions
    assert link.precision >= links
    assert link.recall >= links
    assert division.precision >= 0.9
    assert division.recall >= divisions


def test_a_good_flow_makes_it_nearly_perfect():
    rng = np.random.default_rng(0)
    truth = simulated(1, 3.0)
    origin = truth.centre.copy()
    origin[truth.links[:, 1]] = truth.centre[truth.links[:, 0]]
    predicted = origin + rng.normal(scale=0.3, size=origin.shape)
    linked = link_spots(unlinked(truth), LinkingConfig(max_distance=5), predicted=predicted)
    score = score_tracking(truth, linked, max_distance=0.1)
    assert score.links.f1 >= 0.999
    assert score.divisions.f1 == 1


def kept_parents(tracks: Tracks, n: int) -> np.ndarray:
    """(n,) the parent of each of the first spots, over spots that come after them; -1 for none."""
    parent = np.full(tracks.n_spots, -1)
    parent[tracks.links[:, 1]] = tracks.links[:, 0]
    found = parent[:n]
    while (found >= n).any():
        found = np.where(found >= n, parent[found], found)
    return found


@pytest.mark.parametrize(("solver", "recall"), [("pairwise", 0.97), ("nearest", 0.94), ("global", 0.985)])
def test_a_tenth_of_the_spots_lost(solver, recall):
    right = true = 0
    for seed in range(3):
        whole = simulated(seed, 1.0)
        kept = np.random.default_rng(seed).random(whole.n_spots) >= 0.1
        order = np.concatenate([np.flatnonzero(kept), np.flatnonzero(~kept)])
        n = int(kept.sum())
        truth = kept_parents(whole.select(order), n)
        linked = link_spots(unlinked(whole.select(kept)), LinkingConfig(solver=solver, frame_gap=3))
        right += int(((kept_parents(linked, n) == truth) & (truth >= 0)).sum())
        true += int((truth >= 0).sum())
    assert right / true >= recall


def test_links_of_low_quality_are_more_often_wrong():
    quality, right = [], []
    for seed in range(5):
        truth = simulated(seed, 3.0)
        linked = link_spots(unlinked(truth))
        quality.append(linked.feature(LINK_QUALITY, target="link").values)
        right.append(np.isin(linked.links @ [truth.n_spots, 1], truth.links @ [truth.n_spots, 1]))
    found, good = np.concatenate(quality), np.concatenate(right)
    fifths = [part.mean() for part in np.array_split(good[np.argsort(found)], 5)]
    assert fifths[0] < 0.95
    assert min(fifths[1:]) > 0.97


@pytest.mark.real
def test_a_published_lineage(real_data):
    expected = real_data / "expected" / "mastodon-projects_astec_Pm07.mastodon.json.gz"
    told = json.loads(gzip.decompress(expected.read_bytes()))
    row = {spot["index"]: i for i, spot in enumerate(told["spots"])}
    truth = Tracks.build(
        [spot["t"] for spot in told["spots"]],
        [[spot["z"], spot["y"], spot["x"]] for spot in told["spots"]],
        radius=[np.linalg.det(np.reshape(spot["covariance"], (3, 3))) ** (1 / 6) for spot in told["spots"]],
        links=[[row[link["source"]], row[link["target"]]] for link in told["links"]],
    )
    score = score_tracking(truth, link_spots(unlinked(truth)), max_distance=0.1)
    assert score.links.precision >= 0.9999
    assert score.links.recall >= 0.998
    assert score.divisions.precision == 1
    assert score.divisions.recall >= 0.93
