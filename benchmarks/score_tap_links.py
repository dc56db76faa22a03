"""Links and divisions with and without what TAP says of the spots, on a project whose links are the truth.

Run: ``python benchmarks/score_tap_links.py PROJECT NETWORK [--image MOVIE] [--taught PROJECT ...] [--drop 0.05] [--jitter 0.3]
[--seeds 3] [--folds 5]``. The links are dropped and made anew, on the true spots and on spots as a detector finds them: some are
missed, the centres of all are off. What a spot's probability to divide is, a linear classifier says that has learned from other frames (in
blocks) of the same project, or with ``--taught`` from other projects alone. Compared are the defaults, the best ``division_penalty`` of
eight without TAP (chosen on the test itself, which flatters it), TAP with the default weight, and a feature that tells the truth.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from bdv_io import Tracks
from bdv_io.tags import Feature
from howdah.linking import LinkingConfig, link_spots
from howdah.methods.tap.classify import predict_classes, train_classifier
from howdah.methods.tap.config import TapConfig
from howdah.methods.tap.examples import Examples, division_examples, joined
from howdah.methods.tap.head_config import HeadConfig
from howdah.methods.tap.weights import read_weights
from howdah.metrics import score_tracking
from howdah.metrics.classification import average_precision
from howdah.nn.checkpoint import Weights
from howdah.pipeline.sources import open_source
from howdah.pipeline.tap_link import for_movie, learned_share
from howdah.pipeline.tap_network import Seen, in_pixels, look_at
from howdah.progress import finish

HEAD = HeadConfig.of(
    {"scale": 1.0, "leave_out": 0}
)  # the frame matters here: the spots just before and after are no mothers
PENALTIES = (0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.05, 1.2)
NAME = "divides"
Made = tuple[Tracks, np.ndarray]
Say = Callable[[Tracks], np.ndarray]


def hurt(truth: Tracks, seed: int, *, drop: float, jitter: float) -> Made:
    """Return the spots as a detector finds them, without links, and the true row of each."""
    rng = np.random.default_rng(seed)
    rows = np.flatnonzero(rng.random(truth.n_spots) >= drop)
    radius = np.abs(np.linalg.det(truth.covariance)) ** (1 / 6)
    off = rng.normal(size=truth.centre.shape) * jitter * radius[:, None] * (np.ptp(truth.centre, axis=0) > 0)
    bare = truth.select_links(np.zeros(truth.n_links, dtype=bool))
    return replace(bare, centre=truth.centre + off).select(rows), rows


def opened(
    project: Path, network: Weights, file: Path, image: Path | None, shrink: int | None = None
) -> tuple[Tracks, Seen]:
    source = open_source(project, image=image)
    frames = list(range(source.image.n_frames))
    return source.tracks, look_at(
        source, frames, network, file=file, settings={"tap": {} if shrink is None else {"shrink": shrink}}
    )


def examples(truth: Tracks, seen: Seen, movie: int = 0) -> Examples:
    centre, covariance = in_pixels(seen.opened, truth.t, truth.centre, truth.covariance)
    return division_examples(truth.t, centre, covariance, truth.links, movie=movie, leave_out=HEAD.leave_out)


def learned(known: Examples, frames: list, network: Weights) -> Weights:
    work = train_classifier(known, frames, network=network, config=TapConfig(), head=HEAD, judge=False)
    return finish(work)


def asker(truth: Tracks, seen: Seen, network: Weights, taught: list, folds: int) -> Say:
    """Return what says how likely spots divide, each by a classifier that has not seen its frame, nor the ones beside it."""
    if taught:
        known = joined([examples(tracks, other, k) for k, (tracks, other) in enumerate(taught)])
        whole = learned(known, [other.frames for _, other in taught], network)
        parts = [(np.arange(seen.opened.movie.n_frames), whole)]
    else:
        known, parts = examples(truth, seen), []
        for block in np.array_split(np.arange(seen.opened.movie.n_frames), folds):
            rest = known.take(np.flatnonzero(~np.isin(known.t, np.arange(block[0] - 1, block[-1] + 2))))
            if rest.counts.min() > 1:
                parts.append((block, learned(rest, [seen.frames], network)))

    def say(spots: Tracks) -> np.ndarray:
        centre, covariance = in_pixels(seen.opened, spots.t, spots.centre, spots.covariance)
        likely = np.full(spots.n_spots, np.nan)
        for block, classifier in parts:
            here = np.flatnonzero(np.isin(spots.t, block))
            place = (spots.t[here], centre[here], covariance[here])
            answer = predict_classes(classifier, seen.frames, *place, config=seen.config)
            likely[here] = answer[:, classifier.header["task"]["classes"].index("division")]
        return for_movie(likely, prior=learned_share(parts[0][1].header)) if parts else likely

    return say


def scores(truth: Tracks, spots: Tracks, values: np.ndarray | None, config: LinkingConfig) -> list[float]:
    radius = float(np.median(np.abs(np.linalg.det(truth.covariance)) ** (1 / 6)))
    if values is not None:
        spots, config = spots.with_feature(Feature(NAME, "", values)), config.but(division_feature=NAME)
    found = score_tracking(truth, link_spots(spots, config), max_distance=radius)
    counts = found.divisions
    return [found.links.f1, counts.f1, counts.true_positives, counts.false_positives, counts.false_negatives]


def compared(truth: Tracks, made: list[Made], said: list[np.ndarray], solver: str) -> dict[str, list[float]]:
    config, mother = LinkingConfig(solver=solver), np.zeros(truth.n_spots)
    mother[truth.divisions()] = 1
    kinds: dict[str, list[np.ndarray | None]] = {
        "without": [None] * len(made),
        "TAP": list(said),
        "truth": [mother[rows] for _, rows in made],
    }

    def mean(values: list[np.ndarray | None], config: LinkingConfig) -> list[float]:
        every = [scores(truth, spots, one, config) for (spots, _), one in zip(made, values, strict=True)]
        return np.mean(every, axis=0).tolist()

    table = {"defaults, without": mean(kinds["without"], config)}
    for name in ("without", "TAP"):
        tried = [(mean(kinds[name], config.but(division_penalty=p)), p) for p in PENALTIES]
        best, penalty = max(tried, key=lambda one: one[0][1])
        table[f"best penalty ({penalty:g}), {name}"] = best
    table["defaults, TAP"] = mean(kinds["TAP"], config)
    table["defaults, truth"] = mean(kinds["truth"], config)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("project", type=Path)
    parser.add_argument("network", type=Path)
    parser.add_argument("--image", type=Path)
    parser.add_argument("--taught", type=Path, nargs="*", default=[])
    parser.add_argument("--drop", type=float, default=0.05)
    parser.add_argument("--jitter", type=float, default=0.3, help="in radii")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--shrink", type=int, help="of the images, where the network has learned from smaller cells")
    parser.add_argument("--solver", default="pairwise")
    given = parser.parse_args()
    network = read_weights(given.network)
    truth, seen = opened(given.project, network, given.network, given.image, given.shrink)
    taught = [opened(path, network, given.network, None) for path in given.taught]
    say = asker(truth, seen, network, taught, given.folds)
    mother = np.zeros(truth.n_spots, dtype=bool)
    mother[truth.divisions()] = True
    print(f"{given.project}: {truth.n_spots} spots, {truth.n_links} links, {int(mother.sum())} divisions\n")
    print(
        "| spots | AP | | link F1 | division F1 | found | false | missed |\n|---|---|---|---|---|---|---|---|",
        flush=True,
    )
    cases = {"true": [hurt(truth, 0, drop=0, jitter=0)]}
    cases["as found"] = [hurt(truth, seed, drop=given.drop, jitter=given.jitter) for seed in range(given.seeds)]
    for case, made in cases.items():
        said = [say(spots) for spots, _ in made]
        judged = [
            average_precision(mother[rows][np.isfinite(p)], p[np.isfinite(p)])
            for (_, rows), p in zip(made, said, strict=True)
        ]
        for name, (link, division, *counts) in compared(truth, made, said, given.solver).items():
            numbers = " | ".join(f"{count:.1f}" for count in counts)
            print(f"| {case} | {np.mean(judged):.2f} | {name} | {link:.3f} | {division:.3f} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
