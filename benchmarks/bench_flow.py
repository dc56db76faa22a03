"""How fast ELEPHANT's flow runs here: each step as a ratio to one 3D convolution timed around it.

Ratios are of CPU seconds, so that other work on the machine matters little. The yardstick is a 16 -> 16 channel 3x3x3 float32
convolution over 1 x 16 x 32 x 128 x 128 voxels, torch's default layout. The reference's ratios to the same yardstick (its own
code, 2 CPU threads) stand beside ours. Run it as ``python benchmarks/bench_flow.py``; a minute on a quiet machine.
"""

import resource
import statistics
import time

import numpy as np
import torch

from howdah.methods.elephant.augment import Augmentation
from howdah.methods.elephant.flow.augment import random_crop
from howdah.methods.elephant.flow.config import FlowConfig
from howdah.methods.elephant.flow.losses import Labels, flow_loss
from howdah.methods.elephant.flow.network import FlowNet
from howdah.methods.elephant.flow.predict import FlowMap
from howdah.methods.elephant.flow.targets import render_flow
from howdah.nn.device import pick

KEEP = (True, True, False, False)
CONFIG = FlowConfig(max_displacement=(10, 80, 80))


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
    network = FlowNet().to(memory_format=torch.channels_last_3d).eval()
    x = torch.rand(1, 2, *shape).contiguous(memory_format=torch.channels_last_3d)

    def work():
        with torch.inference_mode(), place.autocast():
            network(x, KEEP)

    return work


def some_labels(shape):
    voxel = torch.arange(0, int(np.prod(shape)), 37)
    return Labels(voxel, torch.rand(len(voxel), 3) * 0.1)


def training(shape, place):
    network = FlowNet().train()
    optimiser = torch.optim.Adam(network.parameters(), fused=True)
    x, labels = torch.rand(1, 2, *shape), some_labels(shape)

    def work():
        optimiser.zero_grad()
        with place.autocast():
            flow = network(x, KEEP)
        flow_loss(flow, x, labels, CONFIG)["loss"].backward()
        optimiser.step()

    return work


def loss_alone(shape):
    x, labels = torch.rand(1, 2, *shape), some_labels(shape)
    flow = (torch.rand(1, 3, *shape) * 0.02).requires_grad_()

    def work():
        flow_loss(flow, x, labels, CONFIG)

    return work


def links(n, shape, seed=0):
    rng = np.random.default_rng(seed)
    centre = rng.uniform(2, np.array(shape) - 2, (n, 3))
    radii = rng.uniform(3, 4.5, (n, 3)) / [1, 0.25, 0.25]
    return centre, radii[:, :, None] ** 2 * np.eye(3), rng.normal(0, 2, (n, 3))


def rendering(n, shape):
    drawn = links(n, shape)
    return lambda: render_flow(*drawn, shape)


def cropping(rotation):
    shape, size = (32, 256, 256), (16, 128, 128)
    images, (centre, covariance, way) = np.random.default_rng(0).random((2, *shape), np.float32), links(60, shape)
    how = Augmentation(scale=((0.95, 1.05), (0.8, 1.2), (0.8, 1.2)), rotation_degrees=rotation)

    def work():
        rng = np.random.default_rng(1)
        crop = random_crop(shape, size, around=centre[5], reach=np.full(3, 4.0), how=how, rng=rng)
        np.stack([crop.image(image) for image in images])
        crop.labels(centre, covariance, way)

    return work


def positions(n, shape):
    centre, covariance, _ = links(n, shape)
    flow = FlowMap(np.random.default_rng(0).random((3, *shape), np.float32), np.eye(4), np.eye(4))
    return lambda: flow.positions(centre, covariance)


def main():
    exact, fast = pick("cpu", precision="float32"), pick("cpu")
    name = str(fast.precision).removeprefix("torch.")
    rows = [
        ("render 60 links, 32x256x256", rendering(60, (32, 256, 256)), 7.1),
        ("render 700 links, 40x768x768", rendering(700, (40, 768, 768)), 112),
        ("crop 16x128x128 of 32x256x256, scaled", cropping(0), 1.7),
        ("crop 16x128x128 of 32x256x256, turned", cropping(180), 1.9),
        ("flow to positions, 60, 32x256x256", positions(60, (32, 256, 256)), 3.0),
        ("loss 16x128x128", loss_alone((16, 128, 128)), 6.9),
        ("training step 16x128x128, float32", training((16, 128, 128), exact), 64),
        (f"training step 16x128x128, {name}", training((16, 128, 128), fast), 64),
        ("forward 16x256x256, float32", forward((16, 256, 256), exact), 39),
        (f"forward 16x256x256, {name}", forward((16, 256, 256), fast), 39),
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
