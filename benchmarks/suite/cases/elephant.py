"""ELEPHANT's hot paths: a frame through the network, a training step, flow, labels drawn, nuclei cut from probabilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.suite.case import Work, case
from benchmarks.suite.cases import drawn

EDGES, DEPTH = (96, 128, 160), 16
KEEP = (
    True,
    True,
    False,
    False,
)  # of the four levels, those that halve y and x only, as for voxels 4 times as deep as wide
AFFINE = np.diag([1.0, 0.25, 0.25, 1.0])


@case(
    "ELEPHANT: a frame to probabilities",
    group="method",
    unit="voxels",
    sizes=EDGES,
    limit=drawn.RATE,
    peer="elephant-server, network alone",
    script="elephant:forward",
)
def predict(edge: int, folder: Path) -> Work:
    from benchmarks.suite.cases.network import bare, flops_of
    from howdah.methods.elephant.network import UNet, initialise
    from howdah.methods.elephant.predict import Detector
    from howdah.nn.checkpoint import Weights

    network = UNet()
    initialise(network)
    found = Detector(Weights((network.state_dict(),), {"method": "elephant"}))
    frame = drawn.nuclei((DEPTH, edge, edge))
    convolution, each = bare(3)
    return Work(
        amount=frame.size,
        run=lambda: found.predict_centre(frame, AFFINE),
        limit=convolution,
        limit_times=flops_of(lambda: found.predict_centre(frame, AFFINE)) / each,
        outside={"shape": frame.shape, "keep": KEEP},
    )


@case(
    "ELEPHANT: a training step",
    group="method",
    unit="voxels",
    sizes=(64, 96, 112),
    limit=drawn.RATE,
    peer="elephant-server",
    script="elephant:step",
)
def step(edge: int, folder: Path) -> Work:
    import torch

    from benchmarks.suite.cases.network import bare, flops_of
    from howdah.methods.elephant.config import ElephantConfig
    from howdah.methods.elephant.losses import detection_loss
    from howdah.methods.elephant.network import UNet
    from howdah.nn.device import pick

    shape, place, config = (DEPTH, edge, edge), pick("cpu"), ElephantConfig()
    network = UNet().train()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-5, fused=True)
    x, labels = torch.rand(1, 1, *shape), torch.randint(0, 7, (1, *shape), dtype=torch.uint8)

    def work() -> None:
        optimiser.zero_grad()
        with place.autocast():
            log_p = network(x, KEEP)
        detection_loss(log_p, labels, config)["loss"].backward()
        optimiser.step()

    convolution, each = bare(3)
    return Work(
        amount=float(np.prod(shape)),
        run=work,
        limit=convolution,
        limit_times=flops_of(work) / each,
        outside={"shape": shape, "keep": KEEP},
    )


@case(
    "ELEPHANT: flow of a frame",
    group="method",
    unit="voxels",
    sizes=EDGES,
    limit=drawn.RATE,
    peer="elephant-server, network alone",
    script="elephant:flow",
)
def flow(edge: int, folder: Path) -> Work:
    from benchmarks.suite.cases.network import bare, flops_of
    from howdah.methods.elephant.flow.network import FlowNet
    from howdah.methods.elephant.flow.predict import Flow
    from howdah.nn.checkpoint import Weights

    found = Flow(Weights((FlowNet().state_dict(),), {"method": "elephant-flow"}))
    earlier, later = (drawn.nuclei((DEPTH, edge, edge), seed) for seed in (0, 1))
    convolution, each = bare(3)
    return Work(
        amount=later.size,
        run=lambda: found.predict_flow(earlier, later, AFFINE),
        limit=convolution,
        limit_times=flops_of(lambda: found.predict_flow(earlier, later, AFFINE)) / each,
        outside={"shape": later.shape, "keep": KEEP},
    )


@case(
    "ELEPHANT: labels of marked nuclei",
    group="method",
    unit="voxels",
    sizes=(256, 384, 512),
    limit="a new volume, filled",
)
def render(edge: int, folder: Path) -> Work:
    from howdah.methods.elephant.status import Status
    from howdah.methods.elephant.targets import render_labels

    shape = (40, edge, edge)
    centre, covariance = drawn.ellipsoids(700 * edge**2 // 768**2, shape)
    status = np.full(len(centre), Status.FN, np.int8)
    return Work(
        amount=float(np.prod(shape)),
        run=lambda: render_labels(centre, covariance, status, shape),
        limit=lambda: np.full(shape, 1, np.uint8),
    )


@case(
    "ELEPHANT: nuclei from probabilities",
    group="method",
    unit="voxels",
    sizes=(256, 384, 512),
    limit="copy of the map",
    peer="scipy.ndimage.label alone",
)
def extract(edge: int, folder: Path) -> Work:
    from scipy import ndimage

    from howdah.methods.elephant.config import ElephantConfig
    from howdah.methods.elephant.predict import spots_from_probability
    from howdah.methods.elephant.status import Status
    from howdah.methods.elephant.targets import render_labels

    shape = (40, edge, edge)
    centre, covariance = drawn.ellipsoids(700 * edge**2 // 768**2, shape)
    labels = render_labels(centre, covariance, np.full(len(centre), Status.FN, np.int8), shape)
    probability, config = (labels == 6).astype(np.float32), ElephantConfig()
    return Work(
        amount=float(probability.size),
        run=lambda: spots_from_probability(probability, config, affine=AFFINE),
        limit=lambda: probability.copy(),
        peer=lambda: ndimage.label(probability > 0.5, np.ones((3, 3, 3))),
        wrong=lambda: "" if len(spots_from_probability(probability, config, affine=AFFINE)) else "nothing was found",
    )
