"""How fast TAP's samples are made on one thread, at full augmentation: 2 frames of 96 x 96 pixels, 32 samples a step.

Beside it stands its physical limit, the bilinear resampling alone; with ``--reference FOLDER`` (a checkout of the published code; it needs
torchvision) its loader runs alternately with ours. CPU seconds, medians. Run as ``python benchmarks/bench_tap_data.py``; ten seconds.
"""

import argparse
import statistics
import sys
import time

import numpy as np
import torch

from howdah.methods.tap import TapConfig
from howdah.methods.tap.movies import Movie
from howdah.methods.tap.network import pooling
from howdah.methods.tap.samples import Samples
from howdah.nn.device import pick

BATCH, EDGE, ROUNDS = 32, 96, 30
RECORDED = 880  # samples of the published loader in a CPU second, as recorded elsewhere


def resampling():
    x, turn = torch.rand(2 * BATCH, 1, 206, 206), torch.tensor([[0.4, 0.3, 0.0], [-0.3, 0.4, 0.0]])
    shape = (2 * BATCH, 1, EDGE, EDGE)
    grid = torch.nn.functional.affine_grid(turn.expand(2 * BATCH, 2, 3), shape, align_corners=True)
    return lambda: torch.nn.functional.grid_sample(x, grid, align_corners=True)


def ours(frames, **settings):
    movie = Movie(
        "movie", len(frames), (1, *frames.shape[1:]), (1.0, 1.0, 1.0), 1,
        lambda time, region: frames[time][None, None] if region is None else frames[time][None, None][(slice(None), *region)],
    )  # fmt: skip
    config = TapConfig(batch_size=BATCH, crop_size=EDGE, **settings)
    samples = Samples([movie], config, form={"channels": 1, "pools": pooling(2)}, place=pick("cpu"))
    steps = iter(range(10**9))
    return lambda: samples.batch(next(steps))


def published(folder, frames):
    sys.path.insert(0, folder)
    from tarrow.data.augmenters import get_augmenter
    from tarrow.data.tarrow_dataset import TarrowDataset

    data = TarrowDataset(frames, size=(EDGE, EDGE), augmenter=get_augmenter(5))
    draws = torch.utils.data.RandomSampler(data, replacement=True, num_samples=10**6)
    batches = iter(torch.utils.data.DataLoader(data, batch_size=BATCH, sampler=draws))
    return lambda: next(batches)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", metavar="FOLDER")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    frames = np.random.default_rng(0).integers(0, 255, (60, 320, 320), dtype=np.uint8)
    works = {
        "resampling alone": resampling(),
        "ours, full augmentation": ours(frames),
        "ours, none": ours(frames, augment=0),
        "ours, none, each drawn 16 times (nothing but background)": ours(frames, augment=0, reject_background=1),
    }
    if chosen.reference:
        works["published, full augmentation"] = published(chosen.reference, frames)
    taken = {name: [] for name in works}
    for work in works.values():
        work()
    for _ in range(ROUNDS):  # alternately: other work on the machine slows all of them alike
        for name, work in works.items():
            before = time.process_time()
            work()
            taken[name].append(time.process_time() - before)
    medians = {name: statistics.median(some) for name, some in taken.items()}
    peer = medians.get("published, full augmentation")
    print("| what | samples a CPU second | over the published loader | over the resampling |")
    print("|---|---|---|---|")
    for name, seconds in medians.items():
        rate = BATCH / seconds
        ratio = peer / seconds if peer else rate / RECORDED
        print(
            f"| {name} | {rate:.0f} | {ratio:.1f}{'' if peer else ' (recorded)'} | {medians['resampling alone'] / seconds:.2f} |"
        )


if __name__ == "__main__":
    main()
