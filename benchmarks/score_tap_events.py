"""Events of TAP on a movie whose divisions are known: how many of the highest-ranked peaks are divisions.

Run: ``python benchmarks/score_tap_events.py WEIGHTS IMAGE.tif DIVISIONS.txt [--cells CELLS.txt] [--radius 10] [--frames 1]
[--pictures FOLDER] [SETTING=VALUE ...]``. IMAGE is (T, Y, X); DIVISIONS has a row "t y x" for each, the mother's last frame; CELLS has
a row "t y x" for each cell (chance is the share of them that would be hits). A hit is a peak with a division within the radius (pixels) and
so many frames. Printed are the share of hits among the first 6 and the first k peaks, k being the number of divisions, and the share of
divisions found by these k; for both maps, and without any learning for the smoothed difference of the two frames and for brightness.
Weights that learned nothing (the same network, drawn anew) say what the form of the network alone is worth.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import tifffile
import torch
from scipy import ndimage

from howdah.methods.tap.attribution import Attribution, attributions
from howdah.methods.tap.config import TapConfig
from howdah.methods.tap.events import Events, find_events
from howdah.methods.tap.movies import Frames, Movie
from howdah.methods.tap.network import Tap
from howdah.methods.tap.predict import Embedder
from howdah.methods.tap.weights import read_weights
from howdah.nn.checkpoint import Weights

mpl.use("Agg")
import matplotlib.pyplot as plt

FLAT = (1.0, 1.0, 1.0)


def movie_of(images: np.ndarray, name: str) -> Movie:
    """A movie of images (T, Y, X)."""

    def read(time: int, region: Any) -> np.ndarray:
        frame = images[time][None, None]
        return frame if region is None else frame[(slice(None), *region)]

    return Movie(name, len(images), (1, *images.shape[1:]), FLAT, 1, read)


def untrained(weights: Weights, frames: Frames) -> Weights:
    """A network of the same form that has learned nothing; its statistics are those of the movie."""
    torch.manual_seed(0)
    network = Tap(**weights.header["network"])
    with torch.no_grad():
        for time in frames.times[:-1][:10]:
            network(torch.from_numpy(np.stack([frames.frame(time)[:, 0], frames.frame(time + 1)[:, 0]]))[None])
    return Weights((network.state_dict(),), weights.header)


def simple(frames: Frames, what: str) -> Iterator[Attribution]:
    """Maps that need no learning."""
    for time in frames.times[:-1]:
        earlier, later = (ndimage.gaussian_filter(frames.frame(t)[0], (0, 1.5, 1.5)) for t in (time, time + 1))
        maps = {"difference": abs(later - earlier), "brightness": earlier, "gets darker": earlier - later}
        yield Attribution(time, maps[what], 0.0)


def hits(found: Events, divisions: np.ndarray, *, radius: float, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Tell which events have a division nearby, and which divisions have been found."""
    far = np.linalg.norm(found.centre[:, None, 1:] - divisions[None, :, 1:], axis=2)
    near = (far <= radius) & (abs(found.t[:, None] - divisions[None, :, 0]) <= frames)
    return near.any(1), near.any(0)


def row(
    name: str, maps: Iterable[Attribution], config: TapConfig, truth: np.ndarray, given: argparse.Namespace
) -> Events:
    """Print one line of the table."""
    found, n = find_events(maps, config, FLAT), len(truth)
    six, _ = hits(found.take(slice(6)), truth, radius=given.radius, frames=given.frames)
    hit, seen = hits(found.take(slice(n)), truth, radius=given.radius, frames=given.frames)
    print(f"| {name} | {six.mean():.2f} | {hit.mean():.2f} | {seen.mean():.2f} |", flush=True)
    return found


def overlay(path: Path, frames: Frames, one: Attribution, found: Events) -> None:
    """Draw both frames, the map, and the peaks of one time."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 4.2), layout="constrained")
    for axis, time, title in zip(axes, (one.time, one.time + 1), ("frame", "next frame"), strict=False):
        axis.imshow(frames.frame(time)[0, 0], cmap="gray", vmin=0, vmax=1)
        axis.set_title(f"{title} ({time})")
    axes[2].imshow(frames.frame(one.time)[0, 0], cmap="gray", vmin=0, vmax=1)
    axes[2].imshow(one.map[0], cmap="inferno", alpha=0.6, vmin=0, vmax=np.percentile(one.map, 99.9))
    axes[2].set_title("where time has an arrow")
    for rank in np.flatnonzero(found.t == one.time)[:8]:
        _, y, x = found.centre[rank]
        axes[2].plot(x, y, "o", mfc="none", mec="cyan", ms=12)
        axes[2].annotate(str(rank + 1), (x + 4, y - 4), color="cyan")
    for axis in axes:
        axis.set_axis_off()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def montage(path: Path, frames: Frames, found: Events, hit: np.ndarray, *, half: int) -> None:
    """Draw the six strongest events with two frames before and after (paper, figure 3)."""
    figure, axes = plt.subplots(6, 5, figsize=(6, 7.4), layout="constrained")
    for rank, line in enumerate(axes):
        for column, axis in enumerate(line):
            axis.set_xticks([])
            axis.set_yticks([])
            time = int(found.t[rank]) + column - 2 if rank < len(found) else -1
            if time not in frames.times:
                continue
            plane = np.pad(frames.frame(time)[0, 0], half, mode="constant")
            y, x = (round(v) for v in found.centre[rank, 1:])
            axis.imshow(plane[y : y + 2 * half, x : x + 2 * half], cmap="gray", vmin=0, vmax=1)
            if column == 2:
                axis.set_title(f"t = {time}", fontsize=8)
        if rank < len(found):
            line[0].set_ylabel(f"{rank + 1}" + (" (division)" if hit[rank] else ""), fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Print the table and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights")
    parser.add_argument("image")
    parser.add_argument("divisions")
    parser.add_argument("--cells")
    parser.add_argument("--radius", type=float, default=10.0)
    parser.add_argument("--frames", type=int, default=1)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("settings", nargs="*")
    given = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    weights = read_weights(given.weights)
    config = TapConfig.of(dict(pair.split("=", 1) for pair in given.settings))
    embedder = Embedder(weights, config)
    frames = Frames(movie_of(tifffile.imread(given.image), given.image), embedder.config)
    truth = np.atleast_2d(np.loadtxt(given.divisions))[:, [0, -2, -1]]
    truth[:, 1:] /= embedder.config.shrink
    given.radius /= embedder.config.shrink
    print("| map | hits of the first 6 | of the first k | divisions found by these |\n|---|---|---|---|")
    if given.cells:
        cells = np.loadtxt(given.cells)[:, :3]
        places = np.c_[np.zeros(len(cells)), cells[:, 1:] / embedder.config.shrink]
        every = Events(cells[:, 0].astype(int), places, np.ones(len(cells)), np.ones(len(cells)))
        chance = hits(every, truth, radius=given.radius, frames=given.frames)[0].mean()
        print(f"| a random cell | {chance:.2f} | {chance:.2f} | |")
    for what in ("difference", "gets darker", "brightness"):
        row(what, simple(frames, what), embedder.config, truth, given)
    nothing = untrained(weights, frames)
    for kind in ("gradcam", "evidence", "published"):
        chosen = config.but(attribution=kind)
        row(f"{kind}, untrained", attributions(Embedder(nothing, chosen), frames), embedder.config, truth, given)
        maps = list(attributions(Embedder(weights, chosen), frames))
        found = row(kind, maps, embedder.config, truth, given)
        right = float(np.mean([one.score > 0 for one in maps]))
        print(f"| ({kind}: order of whole frames told rightly: {right:.2f}; k = {len(truth)}) | | | |")
        if given.pictures:
            given.pictures.mkdir(parents=True, exist_ok=True)
            name = f"{Path(given.image).stem}-{kind}"
            hit, _ = hits(found, truth, radius=given.radius, frames=given.frames)
            overlay(given.pictures / f"{name}-map.png", frames, next(m for m in maps if m.time == found.t[0]), found)
            montage(given.pictures / f"{name}-top6.png", frames, found, hit, half=embedder.config.crop_size // 2)


if __name__ == "__main__":
    main()
