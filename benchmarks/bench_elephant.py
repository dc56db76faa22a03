"""How fast ELEPHANT detection runs here: each step as a ratio to one 3D convolution timed around it.

Ratios are of CPU seconds, so that other work on the machine matters little. The yardstick is a 16 -> 16 channel 3x3x3 float32
convolution over 1 x 16 x 32 x 128 x 128 voxels, torch's default layout. The reference's ratios to the same yardstick (its own
code, 2 CPU threads) stand beside ours. Run it as ``python benchmarks/bench_elephant.py``; a minute on a quiet machine.
"""

import resource
import statistics
import time

import numpy as np
import torch

from howdah.methods.elephant.config import ElephantConfig
from howdah.methods.elephant.losses import detection_loss
from howdah.methods.elephant.network import UNet
from howdah.methods.elephant.predict import spots_from_probability
from howdah.methods.elephant.status import Status
from howdah.methods.elephant.targets import render_labels
from howdah.nn.device import pick

KEEP = (True, True, False, False)
CONFIG = ElephantConfig()


def seconds(work, repeats=3):
    work()
    taken = []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        taken.append((time.process_time() - cpu, time.perf_counter() - wall))
    return tuple(statistics.median(column) for column in zip(*taken, strict=True))


def yardstick():
    convolution = torch.nn.Conv3d(16, 16, 3, padding=1)
    x = torch.rand(1, 16, 32, 128, 128)

    def work():
        with torch.no_grad():
            convolution(x)

    return seconds(work, 5)


def forward(shape, place):
    network = UNet().to(memory_format=torch.channels_last_3d).eval()
    x = torch.rand(1, 1, *shape).contiguous(memory_format=torch.channels_last_3d)

    def work():
        with torch.inference_mode(), place.autocast():
            network(x, KEEP)

    return work


def training(shape, place):
    network = UNet().train()
    optimiser = torch.optim.Adam(network.parameters(), fused=True)
    x, labels = torch.rand(1, 1, *shape), torch.randint(0, 7, (1, *shape), dtype=torch.uint8)

    def work():
        optimiser.zero_grad()
        with place.autocast():
            log_p = network(x, KEEP)
        detection_loss(log_p, labels, CONFIG)["loss"].backward()
        optimiser.step()

    return work


def nuclei(n, shape, seed=0):
    rng = np.random.default_rng(seed)
    centre = rng.uniform(2, np.array(shape) - 2, (n, 3))
    radii = rng.uniform(3, 4.5, (n, 3)) / [1, 0.25, 0.25]
    return centre, radii[:, :, None] ** 2 * np.eye(3), np.full(n, Status.FN, np.int8)


def rendering(n, shape):
    centre, covariance, status = nuclei(n, shape)
    return lambda: render_labels(centre, covariance, status, shape)


def extraction(n, shape):
    labels = render_labels(*nuclei(n, shape), shape)
    probability = (labels == 6).astype(np.float32)
    return lambda: spots_from_probability(probability, CONFIG, affine=np.diag([1, 0.25, 0.25, 1]))


def main():
    exact, fast = pick("cpu", precision="float32"), pick("cpu")
    name = str(fast.precision).removeprefix("torch.")
    rows = [
        ("forward 16x128x128, float32", forward((16, 128, 128), exact), 10.6),
        (f"forward 16x128x128, {name}", forward((16, 128, 128), fast), 10.6),
        ("training step 16x128x128, float32", training((16, 128, 128), exact), 79),
        (f"training step 16x128x128, {name}", training((16, 128, 128), fast), 79),
        ("render 60 nuclei, 32x256x256", rendering(60, (32, 256, 256)), 4.9),
        ("render 700 nuclei, 40x768x768", rendering(700, (40, 768, 768)), 45),
        ("probability to spots, 60, 32x256x256", extraction(60, (32, 256, 256)), 0.30),
        ("probability to spots, 700, 40x768x768", extraction(700, (40, 768, 768)), 4.9),
    ]
    print(f"{fast.sentence} Torch {torch.__version__}.\n")
    print("| step | seconds (wall) | ratio to a convolution | the reference's ratio | times faster |")
    print("| --- | --- | --- | --- | --- |")
    for label, work, reference in rows:
        before = yardstick()
        cpu, wall = seconds(work)
        ratio = cpu / ((before[0] + yardstick()[0]) / 2)
        print(f"| {label} | {wall:.3f} | {ratio:.2f} | {reference:g} | {reference / ratio:.1f} |", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\nPeak memory of this run: {peak:.0f} MiB.")


if __name__ == "__main__":
    main()
