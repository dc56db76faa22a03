"""How few labels are enough: average precision on frames that nobody labelled, against the number of labels (paper, figure 4).

    score_tap_labels.py sim FOLDER --weights TAP.safetensors     simulated movies: FOLDER/{train,test}_*.tif, and beside each
                                                                 *_divisions_tyx.txt and *_cells_tyx_kind.txt
    score_tap_labels.py hela DATA --weights TAP.safetensors      cells in mitosis in the HeLa movie of the test data

Classifiers: linear on TAP; ResNet on frozen, on fine-tuned TAP; the same two networks from random weights; the ResNet alone on raw pixels;
linear on an untrained network; logistic regression on raw pixels; and the change of brightness from frame to frame, without learning.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import tifffile
import torch
from scipy import ndimage

from howdah.config import Settings
from howdah.methods.tap.examples import Examples, joined
from howdah.methods.tap.head_config import HeadConfig
from howdah.methods.tap.learned import settled
from howdah.methods.tap.learner import Learner
from howdah.methods.tap.material import Places, View, usable
from howdah.methods.tap.movies import Frames, Movie
from howdah.methods.tap.network import Tap
from howdah.methods.tap.predict import Embedder
from howdah.methods.tap.regression import fit_regression
from howdah.methods.tap.weights import network_of, read_weights
from howdah.metrics.classification import average_precision
from howdah.nn.checkpoint import Weights
from howdah.progress import finish

RADIUS = 4.0  # of a simulated cell, pixels
JITTER = 2.0  # pixels, by which places of simulated cells are off, as those of clicks and of detectors are
NEAR = 12.0  # pixels; cells so near to a division within NEAR_FRAMES are ambiguous
NEAR_FRAMES = 2
MITOTIC = (3, 1)  # frames before and after a division in which a HeLa cell counts as mitotic
POSITIVES = 1 / 3  # share of the labels
MODES = {
    "frozen": "ResNet on TAP",
    "pixels": "ResNet on pixels, from scratch",
    "finetune": "ResNet and TAP, fine-tuned",
    "scratch": "ResNet and network, from scratch",
}


def movie_of(path: Path) -> Movie:
    stack = tifffile.imread(path)[:, None]

    def read(t: int, region: object) -> np.ndarray:
        return stack[t][None] if region is None else stack[t][None][(slice(None), *region)]

    return Movie(path.stem, len(stack), stack.shape[1:], (1.0, 1.0, 1.0), 1, read)


def simulated(path: Path, number: int) -> Examples:
    """Divisions (the last frame of the mother), and cells that are near none; distractors stay."""
    cells = np.loadtxt(path.with_name(f"{path.stem}_cells_tyx_kind.txt"))
    events = np.loadtxt(path.with_name(f"{path.stem}_divisions_tyx.txt"))
    far = np.ones(len(cells), bool)
    for t, y, x in events:
        far &= (np.abs(cells[:, 0] - t) > NEAR_FRAMES) | (np.hypot(cells[:, 1] - y, cells[:, 2] - x) > NEAR)
    far &= cells[:, 3] != 1
    rows = np.concatenate([events, cells[far, :3]])
    label = np.repeat([1, 0], [len(events), int(far.sum())])
    rows[:, 1:] += np.random.default_rng([5, number]).uniform(-JITTER, JITTER, (len(rows), 2))
    return examples_at(rows[:, 0].astype(int), rows[:, 1:], label, number, RADIUS)


def examples_at(t: np.ndarray, yx: np.ndarray, label: np.ndarray, number: int, radius: float) -> Examples:
    centre = np.column_stack([np.zeros(len(t)), yx])
    covariance = np.tile(np.diag([1.0, radius**2, radius**2]), (len(t), 1, 1))
    return Examples(np.full(len(t), number), t, centre, covariance, label, ("other", "division"), "divisions")


def hela(folder: Path) -> tuple[Movie, Examples]:
    """Mitotic cells (a few frames around a division) and all others but the ambiguous ones next to them."""
    files = sorted((folder / "01").glob("*.tif"))
    frames = np.stack([tifffile.imread(file) for file in files])
    tracks = np.loadtxt(folder / "01_GT" / "TRA" / "man_track.txt", dtype=int)
    parents = tracks[:, 3]
    mothers = {int(p) for p in parents[parents > 0] if np.count_nonzero(parents == p) == 2}
    ends = {int(row[0]): int(row[2]) for row in tracks}
    born = {int(row[0]): int(row[1]) for row in tracks if int(row[3]) in mothers}
    t, place, label = [], [], []
    for time_, file in enumerate(sorted((folder / "01_GT" / "TRA").glob("man_track*.tif"))):
        mask = tifffile.imread(file)
        for cell in np.unique(mask[mask > 0]).tolist():
            before = ends[cell] - time_ if cell in mothers else 99
            after = time_ - born[cell] if cell in born else 99
            mitotic = before < MITOTIC[0] or after < MITOTIC[1]
            if not mitotic and (before < MITOTIC[0] + 2 or after < MITOTIC[1] + 2):
                continue
            t.append(time_)
            place.append(ndimage.center_of_mass(mask == cell))
            label.append(int(mitotic))
    stack = frames[:, None]

    def read(at: int, region: object) -> np.ndarray:
        return stack[at][None] if region is None else stack[at][None][(slice(None), *region)]

    movie = Movie("hela", len(stack), stack.shape[1:], (1.0, 1.0, 1.0), 1, read)
    return movie, replace(examples_at(np.array(t), np.array(place), np.array(label), 0, 8.0), name="mitosis")


def untrained(weights: Weights, frames: Frames, seed: int = 0) -> Weights:
    """The same network with random weights, and running statistics of a few frames of the movie."""
    torch.manual_seed(seed)
    network = Tap(**weights.header["network"]).train()
    with torch.no_grad():
        for t in frames.times[:: max(len(frames.times) // 6, 1)]:
            network.dense(torch.from_numpy(frames.frame(t)[:, 0])[None])
    return Weights((dict(network.eval().state_dict()),), weights.header)


def seen_by(
    view: View, examples: Examples, movies: list[Frames], network: Weights | None, *, training: bool
) -> torch.Tensor:
    """What a classifier sees of all examples, in their order."""
    embedder = Embedder(network, view.config) if network is not None else None
    parts, rows = [], []
    for number, frames in enumerate(movies):
        mine = np.flatnonzero(examples.movie == number)
        places = Places(examples.t[mine], examples.centre[mine], examples.covariance[mine])
        parts.append(view.of(places, frames, embedder, training=training))
        rows.append(mine)
    return torch.cat(parts)[torch.from_numpy(np.argsort(np.concatenate(rows)))]


def draws(label: np.ndarray, pool: np.ndarray, n: int, times: int) -> Iterator[np.ndarray]:
    """Draw labels, a third of them positive (or as many as there are)."""
    for seed in range(times):
        rng = np.random.default_rng([17, n, seed])
        some = [pool[label[pool] == k] for k in (0, 1)]
        n_positive = min(max(round(POSITIVES * n), 2), len(some[1]))
        wanted = (n - n_positive, n_positive)
        yield np.concatenate([rng.choice(s, min(w, len(s)), replace=False) for s, w in zip(some, wanted, strict=True)])


def brightness(crops: torch.Tensor) -> np.ndarray:
    """The largest smoothed change from one frame to the next in the middle of a crop; for single frames, the brightness."""
    x = crops[:, :, 0].numpy()
    change = np.abs(x[:, -1] - x[:, 0]) if x.shape[1] == 2 else x[:, 0]
    n = x.shape[-1] // 4
    smooth = ndimage.gaussian_filter(change, (0, 1, 1))
    return smooth[:, n:-n, n:-n].max(axis=(1, 2))


class Table:
    """Average precision of each classifier at each number of labels."""

    def __init__(
        self, arguments: argparse.Namespace, examples: Examples, movies: list[Frames], weights: Weights
    ) -> None:
        self.arguments, self.examples, self.movies, self.weights = arguments, examples, movies, weights
        self.config = settled(weights, None)
        self.found: dict[str, dict[int, list[float]]] = {}
        self.right: dict[str, dict[int, list[float]]] = {}  # balanced accuracy
        self.n_classes = len(examples.classes)
        networks = range(arguments.untrained if arguments.draws else 0)
        self.random = [untrained(weights, movies[0], seed) for seed in networks]

    def view(self, **changes: object) -> View:
        size = self.arguments.crop
        head = HeadConfig.of({"crop_size": size, "per": self.arguments.per, "width": self.arguments.width, **changes})
        steps = (0, 1) if head.per == "pair" else (0,)
        return View(self.config, head, steps, (size, size))

    def draws(self, pool: np.ndarray, n: int, times: int) -> Iterator[np.ndarray]:
        return draws(self.examples.label, pool, n, times if n < len(pool) else 1)

    def note(self, name: str, n: int, truth: np.ndarray, chances: np.ndarray) -> None:
        """Note average precision (of class 1; with more than two classes, the mean over all) and balanced accuracy."""
        classes = range(self.n_classes) if self.n_classes > 2 else (1,)
        precision = float(np.mean([average_precision(truth == k, chances[:, k]) for k in classes]))
        right = float(np.mean([np.mean(chances[truth == k].argmax(1) == k) for k in np.unique(truth)]))
        self.found.setdefault(name, {}).setdefault(n, []).append(precision)
        self.right.setdefault(name, {}).setdefault(n, []).append(right)

    def linear(self, folds: list[tuple[np.ndarray, np.ndarray]], numbers: list[int]) -> None:
        label = self.examples.label
        view = self.view()
        pixels = self.view(head="resnet", mode="pixels", crop_size=24, augment=False)
        raw = seen_by(replace(pixels, crop=(24, 24)), self.examples, self.movies, None, training=False)
        small = torch.nn.functional.avg_pool2d(raw.flatten(1, 2), 2).flatten(1)
        seen = {
            name: [seen_by(view, self.examples, self.movies, one, training=False).numpy() for one in networks]
            for name, networks in (
                ("linear on TAP", [self.weights]),
                ("linear on untrained networks", self.random),
            )
        }
        seen["logistic regression on pixels"] = [small.numpy()]
        for number, (train, test) in enumerate(folds):
            after = f" ({number + 1})" if len(folds) > 1 else ""
            if self.n_classes == 2:
                bright = brightness(raw[torch.from_numpy(test)])
                self.note(f"change of brightness, not learned{after}", 0, label[test], np.stack([-bright, bright], 1))
            for name, x, n in ((name, x, n) for name, each in seen.items() for x in each for n in numbers):
                for rows in self.draws(train, n, self.arguments.draws):
                    fitted = fit_regression(x[rows], label[rows], n_classes=self.n_classes, penalty=view.head.penalty)
                    self.note(name + after, n, label[test], fitted.probabilities(x[test]))

    def trained(
        self, name: str, folds: list[tuple[np.ndarray, np.ndarray]], numbers: list[int], **changes: object
    ) -> None:
        view = self.view(head="resnet", **changes)
        label = self.examples.label
        network = self.weights if view.head.mode in ("frozen", "finetune") else None
        for_training = seen_by(view, self.examples, self.movies, network, training=True)
        for_test = for_training if view.frozen else seen_by(view, self.examples, self.movies, network, training=False)
        state = dict(network_of(self.weights).state_dict())
        learner = Learner(view, (self.weights.header["network"], state), self.n_classes)
        for number, (train, test) in enumerate(folds):
            after = f" ({number + 1})" if len(folds) > 1 else ""
            for n in numbers:
                for rows in self.draws(train, n, self.arguments.trained_draws):
                    start = time.process_time()
                    learned = finish(learner.learn(for_training[torch.from_numpy(rows)], label[rows]))
                    self.note(
                        name + after, n, label[test], learner.probabilities(learned, for_test[torch.from_numpy(test)])
                    )
                    values = self.found[name + after][n][-1]
                    print(
                        f"<!-- {name}{after} {n} {values:.3f} {time.process_time() - start:.0f} CPU-s -->", flush=True
                    )

    def markdown(self, numbers: list[int], chance: float, *, right: bool = False) -> str:
        what = "balanced accuracy" if right else "AP"
        lines = [
            f"| {what} (mean ± sd; chance {chance:.3f}) | {' | '.join(f'{n} labels' for n in numbers)} |",
            f"| --- |{' --- |' * len(numbers)}",
        ]
        for name, values in (self.right if right else self.found).items():
            cells = [values.get(n, values.get(0)) for n in numbers]
            texts = [f"{np.mean(v):.3f} ± {np.std(v):.3f} ({len(v)})" if v else "" for v in cells]
            lines.append(f"| {name} | {' | '.join(texts)} |")
        return "\n".join(lines)


def picture(found: dict[str, dict[int, list[float]]], chance: float, path: Path, title: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.5, 5))
    for name, values in found.items():
        if list(values) == [0]:
            axes.axhline(np.mean(values[0]), ls=":", color="grey", label=name)
            continue
        n = sorted(values)
        mean, sd = (np.array([f(values[k]) for k in n]) for f in (np.mean, np.std))
        axes.errorbar(n, mean, sd, marker="o", capsize=3, label=name)
    axes.axhline(chance, color="black", lw=0.8, label="chance")
    axes.set(xscale="log", ylim=(0, 1.02), xlabel="labels", ylabel="average precision on held-out frames", title=title)
    axes.legend(fontsize=7, loc="lower right")
    figure.savefig(path, dpi=120, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["sim", "hela"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--labels", type=int, nargs="+", default=[10, 30, 100, 300])
    parser.add_argument("--draws", type=int, default=10, help="of linear classifiers; 0: none of them")
    parser.add_argument("--untrained", type=int, default=3, help="networks with random weights")
    parser.add_argument("--learn", nargs="+", default=["train_1", "train_2"], help="simulated movies with labels")
    parser.add_argument("--test", nargs="+", default=["test_21"], help="simulated movies that are tested")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--trained-draws", type=int, default=3)
    parser.add_argument("--modes", nargs="*", default=["frozen", "pixels", "finetune", "scratch"])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--crop", type=int, default=24)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--test-others", type=int, default=1200, help="negatives that are tested")
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    weights = read_weights(arguments.weights)
    config = settled(weights, None)
    arguments.per = "pair" if arguments.kind == "sim" else "frame"
    if arguments.kind == "sim":
        paths = [arguments.folder / f"{name}.tif" for name in (*arguments.learn, *arguments.test)]
        movies = [Frames(movie_of(path), config) for path in paths]
        examples = joined([simulated(path, number) for number, path in enumerate(paths)])
    else:
        movie, examples = hela(arguments.folder)
        movies = [Frames(movie, config)]
    examples = kept(examples, movies, config, arguments)
    if arguments.kind == "sim":
        is_test = examples.movie >= len(arguments.learn)
        folds = [(np.flatnonzero(~is_test), np.flatnonzero(is_test))]
    else:  # one division on one side, two on the other; only the first was held out when the network learned
        early, late = np.flatnonzero(examples.t <= 4), np.flatnonzero(examples.t >= 6)
        folds = [(late, early), (early, late)]
    chance = float(np.mean([np.mean(examples.label[test]) for _, test in folds]))
    print(f"{[f'{len(a)} to learn, {len(b)} to test' for a, b in folds]}; of class 1: {examples.counts[1]}", flush=True)
    table = Table(arguments, examples, movies, weights)
    if arguments.draws:
        table.linear(folds, arguments.labels)
        print(table.markdown(arguments.labels, chance), flush=True)

    def note() -> None:
        if arguments.picture:
            picture(table.found, chance, arguments.picture, f"{arguments.kind}, {arguments.weights.stem}")
            arguments.picture.with_suffix(".json").write_text(json.dumps({"chance": chance, "found": table.found}))

    note()
    quick = {"n_steps": arguments.steps, "batch_size": arguments.batch}
    for mode in arguments.modes:
        table.trained(MODES[mode], folds, arguments.labels, mode=mode, **quick)
        note()
    print(table.markdown(arguments.labels, chance), flush=True)


def kept(examples: Examples, movies: list[Frames], config: Settings, arguments: argparse.Namespace) -> Examples:
    """Leave out what cannot be seen, and most negatives."""
    steps = (0, 1) if arguments.per == "pair" else (0,)
    rows = []
    for number, frames in enumerate(movies):
        mine = np.flatnonzero(examples.movie == number)
        places = Places(examples.t[mine], examples.centre[mine], examples.covariance[mine])
        mine = mine[usable(places, frames, config, steps)[0]]
        others = mine[examples.label[mine] == 0]
        some = np.random.default_rng(number).permutation(others)[: arguments.test_others // 2]
        rows.append(np.sort(np.concatenate([mine[examples.label[mine] == 1], some])))
    return examples.take(np.concatenate(rows))


if __name__ == "__main__":
    main()
