"""Stages of mitosis in a real movie, from few labels, and the arrow of time, on nuclei that neither network nor classifier has seen.

    score_tap_states.py MOVIE.tif MARKS.csv --split X --weights TAP.safetensors [--snapshots FOLDER] [--out TABLE.json]

MARKS has the columns frame, y, x, class (others are left alone); what lies left of X (pixels) teaches, what lies right of it is tested, and
the two are cut apart before anything is done, also normalisation. The network should have learned from the part on the left alone.
Stages are told from single frames, as cell states in the paper (section 4.3). FOLDER: networks (state dicts, .pt) of every pass, by name,
of which the arrow of time is tested, too.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import score_tap_labels as labels
import tifffile
import torch
from score_tap import sure

from howdah.methods.tap.config import TapConfig
from howdah.methods.tap.examples import Examples
from howdah.methods.tap.learned import settled
from howdah.methods.tap.movies import Frames, Movie
from howdah.methods.tap.network import Tap
from howdah.methods.tap.weights import network_of, read_weights
from howdah.nn.checkpoint import Weights

RADIUS = 14.0  # of a nucleus, pixels of the movie
BACKGROUND = 16  # edge of a crop of background, pixels, shrunk
FREE = 40.0  # from its border to the next mark, pixels of the movie, at least
TRIES = 400  # places of background that are tried in a frame


def part(stack: np.ndarray, name: str) -> Movie:
    """Return a movie (T, Y, X) as the method takes it."""
    frames = stack[:, None, None]
    return Movie(
        name,
        len(frames),
        frames.shape[2:],
        (1.0, 1.0, 1.0),
        1,
        lambda t, r: frames[t] if r is None else frames[t][(slice(None), *r)],
    )


def marked(path: Path, split: int) -> Examples:
    """Return the marks of both parts (movie 0 left, 1 right), each in the pixels of its part."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    classes = tuple(dict.fromkeys(row["class"] for row in rows))
    t = np.array([int(row["frame"]) for row in rows])
    yx = np.array([(float(row["y"]), float(row["x"])) for row in rows])
    right = (yx[:, 1] >= split).astype(np.int64)
    yx[:, 1] -= split * right
    label = np.array([classes.index(row["class"]) for row in rows])
    return replace(labels.examples_at(t, yx, label, 0, RADIUS), movie=right, classes=classes, name="stages")


class Stages(labels.Table):
    """As there, of several classes; as many labels of each as can be."""

    def draws(self, pool: np.ndarray, n: int, times: int) -> Iterator[np.ndarray]:
        if n >= len(pool):
            yield pool
            return
        for seed in range(times):
            rng = np.random.default_rng([17, n, seed])
            some = [rng.permutation(pool[self.examples.label[pool] == k]) for k in range(self.n_classes)]
            order = [(place, rng.random(), row) for rows in some for place, row in enumerate(rows)]
            yield np.array([row for _, _, row in sorted(order)[:n]])


def arrow_crops(examples: Examples, movies: list[Frames], config: TapConfig) -> dict[str, list[np.ndarray]]:
    """Return pairs of crops (2, C, Y, X), delta frames apart, of each class in each part, and of background without marks near by."""
    k, delta = config.shrink, min(config.delta)
    found: dict[str, list[np.ndarray]] = {}
    rng = np.random.default_rng(5)

    def add(kind: str, number: int, t: int, yx: np.ndarray, size: int) -> None:
        frames = movies[number]
        size = min(size, *frames.shape[1:])
        low = [int(np.clip(round(c / k) - size // 2, 0, n - size)) for c, n in zip(yx, frames.shape[1:], strict=True)]
        region = (slice(0, 1), slice(low[0], low[0] + size), slice(low[1], low[1] + size))
        pair = np.stack([frames.region(t, region)[:, 0], frames.region(t + delta, region)[:, 0]])
        found.setdefault(f"{('left', 'right')[number]}: {kind}", []).append(pair)

    for number, frames in enumerate(movies):
        mine = examples.movie == number
        last = frames.times[-1] - delta
        for t, yx, kind in zip(examples.t[mine], examples.centre[mine, 1:], examples.label[mine].tolist(), strict=True):
            if t <= last:
                add(examples.classes[kind], number, int(t), yx, config.crop_size)
        half = BACKGROUND * k / 2
        for t in range(last + 1):
            now = mine & (examples.t >= t) & (examples.t <= t + delta)
            limits = np.array(frames.shape[1:]) * k - half
            for yx in rng.uniform(half, limits, (TRIES, 2)):
                if np.abs(examples.centre[now, 1:] - yx).max(1).min() > half + FREE / 2:
                    add("background", number, t, yx, BACKGROUND)
                    break
    return found


def arrow(networks: dict[str, Tap], crops: dict[str, list[np.ndarray]]) -> dict[str, dict[str, float]]:
    """Print how often each network is right about the order, and return it."""
    kinds = sorted(crops)
    print(f"\n| arrow of time | {' | '.join(f'{kind} ({len(crops[kind])})' for kind in kinds)} |")
    print(f"| --- |{' --- |' * len(kinds)}")
    table = {}
    for name, network in networks.items():
        logits = {kind: sure(network, crops[kind]) for kind in kinds}
        table[name] = {kind: float((values > 0).mean()) for kind, values in logits.items()}
        cells = [f"{table[name][kind]:.2f} ({logits[kind].mean():+.2f})" for kind in kinds]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("movie", type=Path)
    parser.add_argument("marks", type=Path)
    parser.add_argument("--split", type=int, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument(
        "--settings", type=json.loads, default={}, help="of [tap], JSON, instead of those of the weights"
    )
    parser.add_argument("--snapshots", type=Path)
    parser.add_argument("--labels", type=int, nargs="+", default=[10, 30, 96])
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--untrained", type=int, default=3)
    parser.add_argument("--trained-draws", type=int, default=3)
    parser.add_argument("--modes", nargs="*", default=["frozen", "pixels", "finetune", "scratch"])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--crop", type=int, default=24)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    arguments.per = "frame"
    torch.set_num_threads(1)
    weights = read_weights(arguments.weights)
    header = dict(weights.header)
    for section in ("resolved", "config"):
        header[section] = {**header[section], **arguments.settings}
    weights = Weights(weights.members, header)
    config = settled(weights, None)
    stack = tifffile.imread(arguments.movie)
    movies = [
        Frames(part(stack[:, :, where], name), config)
        for name, where in (("left", slice(arguments.split)), ("right", slice(arguments.split, None)))
    ]
    examples = marked(arguments.marks, arguments.split)
    networks = {"untrained": Tap(**weights.header["network"]).eval(), "the weights": network_of(weights)}
    for path in sorted(arguments.snapshots.glob("*.pt")) if arguments.snapshots else ():
        networks[path.stem] = Tap(**weights.header["network"]).eval()
        networks[path.stem].load_state_dict(torch.load(path, weights_only=True))
    directions = arrow(networks, arrow_crops(examples, movies, config))
    folds = [(np.flatnonzero(examples.movie == 0), np.flatnonzero(examples.movie == 1))]
    chance = 1 / len(examples.classes)
    table = Stages(arguments, examples, movies, weights)

    def note() -> None:
        for right in (False, True):
            print(f"\n{table.markdown(arguments.labels, chance, right=right)}", flush=True)
        if arguments.out:
            found = {"arrow": directions, "precision": table.found, "accuracy": table.right, "chance": chance}
            arguments.out.write_text(json.dumps(found))

    if arguments.draws:
        table.linear(folds, arguments.labels)
        note()
    for mode in arguments.modes:
        table.trained(labels.MODES[mode], folds, arguments.labels, mode=mode, n_steps=arguments.steps)
        note()


if __name__ == "__main__":
    main()
