"""How fast EmbedTrack's network and loss run here: each as a ratio to one 2D convolution timed around it.

Ratios are of CPU seconds on one thread, so that other work on the machine matters little. The yardstick is a 64 -> 64 channel 3x3
float32 convolution over 1 x 64 x 256 x 256 pixels. The published code's ratios to the same yardstick stand beside ours, as recorded;
``--reference FOLDER`` (a checkout of it) runs it beside ours and compares the numbers, too. Run as
``python benchmarks/bench_embedtrack.py``; two minutes on a quiet machine.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch

from howdah.methods.embedtrack.config import EmbedTrackConfig
from howdah.methods.embedtrack.coordinates import unit_of
from howdah.methods.embedtrack.folded import folded
from howdah.methods.embedtrack.losses import embedtrack_loss
from howdah.methods.embedtrack.network import BranchedERFNet
from howdah.methods.embedtrack.targets import targets_of

SIDE = 256
CELLS = (2, 4, 7, 10)  # in a row: 4, 16, 49, 100 cells a crop
RECORDED = {"pair": 3.4, 4: 1.4, 16: 4.9, 49: 16.2, 100: 26.6}
"""The published code over the yardstick, run beside ours: torch 2.15 on a CPU with AVX-512, one thread."""


def seconds(work, repeats=5):
    work()
    taken = []
    for _ in range(repeats):
        before = time.process_time()
        work()
        taken.append(time.process_time() - before)
    return statistics.median(taken)


def over(yard, work, repeats=5):
    """Return the CPU time of some work over that of the yardstick, timed before and after it."""
    before = seconds(yard)
    taken = seconds(work, repeats)
    return taken / ((before + seconds(yard)) / 2), taken


def yardstick():
    x, weight = torch.rand(1, 64, SIDE, SIDE), torch.rand(64, 64, 3, 3)

    def work():
        with torch.inference_mode():
            torch.nn.functional.conv2d(x, weight, padding=1)

    return work


def pair_as_published(network):
    later, earlier = torch.rand(2, 1, 1, SIDE, SIDE)

    def work():
        with torch.inference_mode():
            network(later, earlier)

    return work


def pair_once_a_frame(network, *, last=False, half=False):
    """One more frame of a movie: encoded and segmented once, and tracked to the one before."""
    layout = torch.channels_last if last else torch.contiguous_format
    network, frame = network.to(memory_format=layout), torch.rand(1, 1, SIDE, SIDE).contiguous(memory_format=layout)

    def work():
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            features = network.encode(frame)
            network.segment(features)
            network.track(features, features)

    return work


def training_step(*, last, half):
    layout = torch.channels_last if last else torch.contiguous_format
    network = BranchedERFNet().train().to(memory_format=layout)
    both = torch.rand(2, 1, SIDE, SIDE).contiguous(memory_format=layout)

    def work():
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            outputs = network(both[:1], both[1:])
        sum(output.float().square().mean() for output in outputs).backward()

    return work


def discs(side, n):
    """Return n x n discs of at most 12 pixels radius."""
    y, x = np.indices((side, side))
    labels = np.zeros((side, side), dtype=np.int64)
    for i in range(n * n):
        inside = np.hypot(y - (i // n + 0.5) * side / n, x - (i % n + 0.5) * side / n) < min(12, 0.4 * side / n)
        labels[inside] = i + 1
    return labels


def example(n):
    later = discs(SIDE, n)[None]
    ids = np.arange(1, n * n + 1)
    targets = targets_of(later, np.roll(later, 2, axis=1), [np.column_stack([ids, ids])], voxel_size=(1, 1))
    torch.manual_seed(0)
    segmentation, tracking = 0.02 * torch.randn(2, 5, SIDE, SIDE), 0.02 * torch.randn(1, 2, SIDE, SIDE)
    segmentation[:, 2:4] += 1  # as an untrained network says
    return segmentation.requires_grad_(), tracking.requires_grad_(), targets


def our_loss(segmentation, tracking, targets, *compat):
    config, unit = EmbedTrackConfig(compat=compat), unit_of((1, 1), SIDE)

    def work():
        segmentation.grad = tracking.grad = None
        loss = embedtrack_loss(segmentation, tracking, targets, unit, config)["loss"]
        loss.backward()
        return loss.item(), segmentation.grad

    return work


class Reference:
    """The published code, from a folder."""

    def __init__(self, folder):
        sys.path.insert(0, str(folder))
        from embedtrack.criterions.loss import EmbedTrackLoss
        from embedtrack.models.net import TrackERFNet

        self.network = TrackERFNet(n_classes=[4, 1, 2], input_channels=1).eval()
        self._loss = EmbedTrackLoss(cluster=None, grid_y=SIDE, grid_x=SIDE, n_sigma=2, foreground_weight=1)

    def loss(self, segmentation, tracking, targets):
        labels = targets.objects + 1
        centres, offsets = torch.zeros(labels.shape, dtype=torch.bool), torch.zeros(2, 2, SIDE, SIDE)
        at = (targets.image, *targets.centre.long().T)
        centres[at] = True
        moved = (targets.centre - targets.earlier) * SIDE / (SIDE - 1)  # it divides by 256 what has steps of 1 / 255
        offsets[at[0], :, at[1], at[2]] = moved * targets.tracked[:, None]

        def work():
            segmentation.grad = tracking.grad = None
            loss = self._loss((segmentation, tracking), labels, (labels > 0).long(), centres, offsets)[0]
            loss.backward()
            return loss.item(), segmentation.grad

        return work


def beside(value, recorded, measured):
    peer = recorded if measured is None else measured
    return f"{recorded:.1f} | {'' if measured is None else f'{measured:.1f}'} | {value / peer:.2f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", type=Path, help="folder with the published code, to run beside ours")
    reference = Reference(given) if (given := parser.parse_args().reference) else None
    torch.set_num_threads(1)
    yard = yardstick()
    network = BranchedERFNet().eval()
    out = sys.stdout
    out.write(
        "| step, 256 x 256, float32 unless said | ms | x yardstick | published code, recorded | run beside | ours / theirs |\n"
    )
    out.write("| --- | --- | --- | --- | --- | --- |\n")
    peer = over(yard, pair_as_published(reference.network))[0] if reference else None
    for name, work in (
        ("a pair through the network, both frames each time", pair_as_published(network)),
        ("a pair, each frame once", pair_once_a_frame(network)),
        ("a pair, each frame once, channels last", pair_once_a_frame(network, last=True)),
        ("the same, norms folded in", pair_once_a_frame(folded(network), last=True)),
        ("the same, bfloat16", pair_once_a_frame(folded(network), last=True, half=True)),
    ):
        value, taken = over(yard, work)
        out.write(f"| {name} | {1000 * taken:.0f} | {value:.2f} | {beside(value, RECORDED['pair'], peer)} |\n")
    for half in (False, True):
        for last in (False, True):
            value, taken = over(yard, training_step(last=last, half=half), 3)
            name = (
                f"network forward and backward, {'bfloat16' if half else 'float32'}{', channels last' if last else ''}"
            )
            out.write(f"| {name} | {1000 * taken:.0f} | {value:.2f} | | | |\n")
    apart = []
    for n in CELLS:
        parts = example(n)
        value, taken = over(yard, our_loss(*parts))
        peer = None
        if reference is not None:
            peer = over(yard, theirs := reference.loss(*parts), 1)[0]
            (loss, gradient), (their_loss, their_gradient) = our_loss(*parts, "loss_sums")(), theirs()
            apart.append(
                (
                    n * n,
                    abs(loss / their_loss - 1),
                    float((gradient - their_gradient).abs().max() / their_gradient.abs().max()),
                )
            )
        out.write(
            f"| loss, {n * n} cells, forward and backward | {1000 * taken:.0f} | {value:.2f} | {beside(value, RECORDED[n * n], peer)} |\n"
        )
    for cells, loss, gradient in apart:
        out.write(
            f"\n{cells} cells: the published loss differs from ours with loss_sums by {loss:.1e}, its gradient by {gradient:.1e}."
        )
    out.write("\n")


if __name__ == "__main__":
    main()
