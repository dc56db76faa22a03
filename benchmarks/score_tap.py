"""Does the network know the arrow of time, and where? Accuracy on background, on cells between divisions, and on divisions.

Run: ``python benchmarks/score_tap.py sim [SETTING=VALUE ...]`` on simulated movies (six to learn from, four others to score), or
``python benchmarks/score_tap.py DATA_FOLDER/hela-h2b-2d [SETTING=VALUE ...]`` on a real one with Cell Tracking Challenge truth, scored on
the frames that ``validation`` holds out, and on the others. ``--start WEIGHTS`` goes on from weights; ``--weights WEIGHTS`` only scores;
``--out FOLDER`` gets weights, curve, and a picture of it. Printed are the curve and a table, each sample scored in both orders: 0.5 is
chance. The effective rank says how many of the features say different things (exponential of the entropy of the eigenvalues of their
correlations).
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib as mpl
import numpy as np
import tifffile
import torch
from scipy import ndimage
from simulate_divisions import simulated

from howdah.methods.tap.config import TapConfig
from howdah.methods.tap.learned import settled
from howdah.methods.tap.movies import Frames, Movie
from howdah.methods.tap.network import Tap
from howdah.methods.tap.train import train
from howdah.methods.tap.weights import network_of, read_weights
from howdah.nn.checkpoint import Weights, save_weights
from howdah.progress import Progress, finish

mpl.use("Agg")
import matplotlib.pyplot as plt

KINDS = ("background", "interphase", "before", "division", "after")
MOMENTS = {"before": -1, "division": 0, "after": 1}  # frames after the last one of the mother
LEARN, TEST = range(1, 7), range(21, 25)  # seeds
SCORED = 200  # crops of a kind, at most
MOST = 10  # crops of cells, and half as many of background, a frame


@dataclass
class Truth:
    """A movie (T, Y, X), cells (N, 3) and divisions (M, 3): frame, y, x in its pixels; whether it was learned from."""

    name: str
    images: np.ndarray
    cells: np.ndarray
    divisions: np.ndarray

    def movie(self) -> Movie:
        """Return it as the method takes it."""
        frames = self.images[:, None, None]
        return Movie(
            self.name,
            len(frames),
            frames.shape[2:],
            (1.0, 1.0, 1.0),
            1,
            lambda t, r: frames[t] if r is None else frames[t][(slice(None), *r)],
        )


@dataclass
class Crops:
    """Samples by kind, and whether each lies in frames that were held out."""

    x: dict[str, list[np.ndarray]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    held: dict[str, list[bool]] = field(default_factory=lambda: {kind: [] for kind in KINDS})


def real(folder: Path) -> Truth:
    """Read a 2D movie of the Cell Tracking Challenge with TRA truth."""
    images, labels = (
        np.stack([tifffile.imread(file) for file in sorted((folder / part).glob("*.tif"))])
        for part in ("01", "01_GT/TRA")
    )
    centres = {}
    for t, frame in enumerate(labels):
        numbers = np.unique(frame[frame > 0])
        for number, centre in zip(numbers, ndimage.center_of_mass(frame > 0, frame, numbers), strict=True):
            centres[t, int(number)] = np.array(centre)
    table = np.loadtxt(folder / "01_GT/TRA/man_track.txt", dtype=int, ndmin=2)
    divisions = []
    for mother in np.unique(table[table[:, 3] > 0, 3]):
        daughters = table[table[:, 3] == mother]
        if len(daughters) > 1:
            t = int(daughters[0, 1]) - 1
            all_three = [centres[t, int(mother)], *(centres[t + 1, int(d)] for d in daughters[:, 0])]
            divisions.append((t, *np.mean(all_three, axis=0)))
    cells = np.array([(t, *centre) for (t, _), centre in centres.items()])
    return Truth(folder.name, images, cells, np.array(divisions))


def simulation(seed: int) -> Truth:
    """Return a simulated movie."""
    found = simulated(seed)
    return Truth(f"sim {seed}", found.images, found.cells[:, :3], found.divisions)


def crops_of(truth: Truth, config: TapConfig, held: tuple[int, int], crops: Crops) -> None:
    """Add the samples of a movie; cells count as between divisions where none comes near within three frames."""
    k, size, delta = config.shrink, config.crop_size, min(config.delta)
    frames = Frames(truth.movie(), config)
    shape = frames.shape[1:]
    divisions, cells = truth.divisions / [1, k, k], truth.cells / [1, k, k]
    rng = np.random.default_rng(5)

    def add(kind: str, t: int, y: float, x: float) -> bool:
        if not 0 <= t < truth.movie().n_frames - delta:
            return False
        low = [int(np.clip(round(c) - size // 2, 0, n - size)) for c, n in zip((y, x), shape, strict=True)]
        region = (slice(0, 1), slice(low[0], low[0] + size), slice(low[1], low[1] + size))
        crops.x[kind].append(np.stack([frames.region(t, region)[:, 0], frames.region(t + delta, region)[:, 0]]))
        crops.held[kind].append(held[0] <= t and t + delta < held[1])
        return True

    for t, y, x in divisions:
        for kind, later in MOMENTS.items():
            add(kind, int(t) + later, y, x)
    for t in range(len(truth.images) - delta):
        near = divisions[np.abs(divisions[:, 0] - t) <= 3, 1:]
        there = rng.permutation(cells[cells[:, 0] == t, 1:])
        far = [c for c in there if not len(near) or np.abs(near - c).max(1).min() > size / 2 + 4]
        for y, x in far[:MOST]:
            add("interphase", t, y, x)
        both = cells[(cells[:, 0] == t) | (cells[:, 0] == t + delta), 1:]
        found = 0
        for y, x in rng.uniform(size / 2, np.array(shape) - size / 2, (500, 2)):
            if found < MOST // 2 and np.abs(both - (y, x)).max(1).min() > size / 2 + 3:
                found += add("background", t, y, x)


@torch.no_grad()
def sure(network: Tap, x: list[np.ndarray]) -> np.ndarray:
    """Return how much more likely the right order is than the wrong one, (N, 2) logits, of samples and of flipped ones."""
    found = []
    for first in range(0, len(x), 64):
        batch = torch.from_numpy(np.stack(x[first : first + 64]))
        logits, flipped = network(batch)[0], network(batch.flip(1))[0]
        found.append(torch.stack([logits[:, 0] - logits[:, 1], flipped[:, 1] - flipped[:, 0]], 1))
    return torch.cat(found).numpy()


@torch.no_grad()
def effective_rank(network: Tap, x: list[np.ndarray]) -> tuple[float, float]:
    """Return how many features say different things, and the mean of the absolute correlation of two of them."""
    z = network(torch.from_numpy(np.stack(x)))[1].transpose(1, 2).flatten(2).double()
    z = z - z.mean(2, keepdim=True)
    z = z / z.norm(dim=2, keepdim=True).clamp_min(1e-9)
    likeness = (z @ z.transpose(1, 2)).mean(0)
    values = torch.linalg.eigvalsh(likeness).clamp_min(0)
    share = values / values.sum()
    n = len(likeness)
    off = float((likeness.abs().sum() - likeness.diagonal().sum()) / (n * n - n))
    return float(torch.exp(-(share * torch.log(share + 1e-12)).sum())), off


def picture(curve: list[dict[str, float]], path: Path) -> None:
    """Draw loss and accuracy against samples."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.5))
    samples = [point["samples"] for point in curve]
    for axis, names, chance in (
        (axes[0], ("loss", "validation"), np.log(2)),
        (axes[1], ("accuracy", "validation_accuracy"), 0.5),
    ):
        for name in names:
            axis.plot(samples, [point[name] for point in curve], label=name)
        axis.axhline(chance, color="grey", lw=0.7, ls=":")
        axis.set_xlabel("samples")
        axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=90)


def report(network: Tap, crops: Crops) -> None:
    """Print the table."""
    print("\n| crops | frames | n | accuracy | mean logit of the right order |\n|---|---|---|---|---|")
    for kind in KINDS:
        for part in (True, False):
            some = [x for x, held in zip(crops.x[kind], crops.held[kind], strict=True) if held == part]
            some = some[:: -(-len(some) // SCORED)] if some else some
            if some:
                found = sure(network, some)
                print(
                    f"| {kind} | {'held out' if part else 'learned from'} | {len(some)} | {(found > 0).mean():.3f} | {found.mean():+.3f} |"
                )
    rank, alike = effective_rank(network, (crops.x["division"] + crops.x["interphase"])[:64])
    print(f"\nEffective rank {rank:.1f} of {network.form['features']}, mean absolute correlation {alike:.2f}")


def learned(truths: list[Truth], config: TapConfig, start: Weights | None) -> Weights:
    """Train, and print the curve."""
    began = time.process_time()
    print("| pass | samples | loss | accuracy | held out: loss | accuracy | CPU-s |\n|---|---|---|---|---|---|---|")

    def line(epoch: int, best: Weights) -> None:
        c = best.header["curve"][-1]
        print(
            f"| {epoch} | {c['samples']} | {c['loss']:.3f} | {c['accuracy']:.3f} | {c['validation']:.3f} | "
            f"{c['validation_accuracy']:.3f} | {time.process_time() - began:.0f} |",
            flush=True,
        )

    def show(progress: Progress) -> None:
        if progress.message:
            print(progress.message, "\n", flush=True)

    return finish(train([truth.movie() for truth in truths], config, start=start, after_epoch=line), show)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", help="sim, or the folder of a movie")
    parser.add_argument("settings", nargs="*", help="SETTING=VALUE of [tap]")
    parser.add_argument("--start", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    settings = dict(pair.split("=", 1) for pair in asked.settings)
    values = {name: json.loads(v) if v[0] in "[0123456789-" else v for name, v in settings.items()}
    usual = {"crop_size": 32, "batch_size": 32, "epoch_samples": 1024, "n_epochs": 14}
    config = TapConfig.of({**usual, **values})
    torch.set_num_threads(1)
    is_sim = asked.what == "sim"
    truths = (
        [] if is_sim and asked.weights else [simulation(seed) for seed in LEARN] if is_sim else [real(Path(asked.what))]
    )
    start = read_weights(asked.start) if asked.start else None
    weights = read_weights(asked.weights) if asked.weights else learned(truths, config, start)
    if asked.out:
        asked.out.mkdir(parents=True, exist_ok=True)
        save_weights(asked.out / "weights.safetensors", weights)
        (asked.out / "curve.json").write_text(json.dumps(weights.header["curve"], indent=1))
        picture(weights.header["curve"], asked.out / "curve.png")
    crops = Crops()
    config = settled(weights, TapConfig.of(values))
    for truth in [simulation(seed) for seed in TEST] if is_sim else truths:
        n = len(truth.images)
        held = (0, n) if is_sim else tuple(round(share * n) for share in config.validation)
        crops_of(truth, config, held, crops)
    report(network_of(weights), crops)


if __name__ == "__main__":
    main()
