"""Dense features and attribution of TAP: processor time and memory, beside the published package where it can be imported.

Run: ``python benchmarks/bench_tap_predict.py [EDGE ...] [--reference] [--memory-mb N]``; EDGE are sizes of square frames (512). With
``--reference`` the package ``tarrow`` must be on the path. One thread; processor seconds, the best of two. The yardstick is what the
machine gives: the same number of multiplications in matrix products of 1024 x 1024, float32.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from howdah.methods.tap.attribution import attributions
from howdah.methods.tap.config import TapConfig
from howdah.methods.tap.movies import Frames, Movie
from howdah.methods.tap.network import Tap
from howdah.methods.tap.predict import Embedder
from howdah.nn.checkpoint import Weights

PRODUCTS = 162_592  # of a pixel in the network as published


def seconds(work: Callable[[], Any], repeats: int = 2) -> float:
    """Processor seconds, the best of some."""
    found = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


def movie_of(images: np.ndarray) -> Movie:
    """A movie of images (T, Y, X)."""

    def read(time: int, region: Any) -> np.ndarray:
        frame = images[time][None, None]
        return frame if region is None else frame[(slice(None), *region)]

    return Movie("random", len(images), (1, *images.shape[1:]), (1.0, 1.0, 1.0), 1, read)


def yardstick(pixels: int) -> float:
    """Seconds that as many multiplications take in large matrix products."""
    a = torch.randn(1024, 1024)
    return seconds(lambda: a @ a) * PRODUCTS * pixels / 1024**3


def reference(network: Tap) -> Any:
    """The published network with the same weights."""
    from tarrow.models import TimeArrowNet

    theirs = TimeArrowNet(backbone="unet", n_frames=2, n_features=32, n_input_channels=1, symmetric=True)
    theirs.load_state_dict(network.state_dict())
    return theirs.eval()


def timed_reference(network: Tap, frames: Frames) -> dict[str, float]:
    """Seconds of the published package, untiled."""
    theirs = reference(network)
    pair = torch.from_numpy(np.stack([frames.frame(t)[:, 0] for t in (0, 1)]))
    with torch.no_grad():
        described = seconds(lambda: theirs(pair[None, :1], mode="projection"), 2)
    return {
        "features": described,
        "Grad-CAM of a pair": seconds(lambda: theirs.gradcam(pair, tile_size=tuple(pair.shape[-2:])), 1),
    }


def peak_mb() -> float:
    """Largest memory that the process has taken."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("edges", type=int, nargs="*", default=[512])
    parser.add_argument("--reference", action="store_true")
    parser.add_argument("--memory-mb", type=float)
    parser.add_argument("--precision", nargs="*", default=["float32", "bfloat16"])
    given = parser.parse_args()
    torch.set_num_threads(1)
    network = Tap().eval()
    weights = Weights((network.state_dict(),), {"method": "tap", "network": network.form})
    print(
        "| frame | what | CPU-s | share of the peer | times the yardstick | process peak, MiB |\n|---|---|---|---|---|---|"
    )
    for edge in given.edges:
        images = np.random.default_rng(0).random((3, edge, edge), dtype=np.float32)
        work: dict[str, Callable[[], Any]] = {}
        for precision in given.precision:
            config = TapConfig.of({"precision": precision, "attribution": "gradcam"})
            frames, embedder = Frames(movie_of(images), config), Embedder(weights, config, memory_mb=given.memory_mb)
            work[f"features, {precision}"] = lambda e=embedder, f=frames: e.features(f.frame(0))
            work[f"Grad-CAM of a pair, {precision}"] = lambda e=embedder, f=frames: list(attributions(e, f, [0]))
            told = Embedder(weights, config.but(attribution="evidence"), memory_mb=given.memory_mb)
            work[f"evidence of a pair, {precision}"] = lambda e=told, f=frames: list(attributions(e, f, [0]))
            work[f"Grad-CAM of 2 pairs of 3 frames, {precision}"] = lambda e=embedder, f=frames: list(
                attributions(e, f)
            )
        own = yardstick(edge * edge)
        peers = timed_reference(network, frames) if given.reference else {}
        for name, run in work.items():
            taken, peer = seconds(run), peers.get(name.split(",")[0])
            share = "" if peer is None else f"{taken / peer:.2f}"
            print(f"| {edge}² | {name} | {taken:.2f} | {share} | {taken / own:.2f} | {peak_mb():.0f} |", flush=True)
        for name, taken in peers.items():
            print(f"| {edge}² | {name}, peer | {taken:.2f} | 1 | {taken / own:.2f} | {peak_mb():.0f} |", flush=True)


if __name__ == "__main__":
    main()
