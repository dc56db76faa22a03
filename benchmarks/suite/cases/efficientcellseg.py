"""EfficientCellSeg's hot paths: a frame to maps, maps to cells, a training step."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.suite.case import Work, case
from benchmarks.suite.cases import drawn


@case("EfficientCellSeg: a frame to maps", group="method", unit="pixels", sizes=(256, 512, 768), limit=drawn.RATE)
def maps(edge: int, folder: Path) -> Work:
    import torch

    from benchmarks.suite.cases.network import bare, flops_of
    from howdah.methods.efficientcellseg.config import EfficientCellSegConfig
    from howdah.methods.efficientcellseg.network import EfficientCellSeg
    from howdah.methods.efficientcellseg.predict import Network
    from howdah.methods.efficientcellseg.weights import network_header
    from howdah.nn.checkpoint import Weights

    torch.manual_seed(0)
    header = network_header("lite0", (64, 48, 32, 16), [["cell"]])
    weights = Weights((EfficientCellSeg("lite0").state_dict(),), {"method": "efficientcellseg", "network": header})
    network = Network(weights, EfficientCellSegConfig.of({"device": "cpu"}))
    frame = drawn.nuclei((1, edge, edge))
    convolution, each = bare(2)
    return Work(
        amount=frame.size,
        run=lambda: network.maps(frame),
        limit=convolution,
        limit_times=flops_of(lambda: network.maps(frame)) / each,
    )


@case(
    "EfficientCellSeg: maps to cells",
    group="method",
    unit="pixels",
    sizes=(512, 1024, 1536),
    limit="copy of the map",
    peer="scikit-image: distance, peaks, watershed",
)
def instances(edge: int, folder: Path) -> Work:
    from scipy import ndimage
    from skimage.feature import peak_local_max
    from skimage.segmentation import watershed

    from howdah.methods.efficientcellseg.config import EfficientCellSegConfig
    from howdah.methods.efficientcellseg.instances import find_cells
    from howdah.methods.efficientcellseg.maps import Maps

    labels, rng = drawn.discs(edge), np.random.default_rng(0)
    cell = (labels > 0) * np.float32(0.8) + 0.1 + rng.normal(0, 0.05, labels.shape).astype(np.float32)
    found = Maps(np.clip(cell, 0, 1).astype(np.float32)[None], None)
    config, cells = EfficientCellSegConfig(split="distance"), int(labels.max())

    def peer() -> np.ndarray:
        mask = found.cell[0] > 0.5
        away = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask), 2.0)
        peaks = peak_local_max(away, min_distance=10, labels=mask.astype(np.uint8), exclude_border=False)
        markers = np.zeros(mask.shape, np.int32)
        markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
        return watershed(-away, markers, mask=mask)

    def wrong() -> str:
        made = len(find_cells(found, config, diameter=20.0).quality)
        return "" if abs(made - cells) <= 0.02 * cells else f"{made} cells of {cells}"

    return Work(
        amount=labels.size,
        run=lambda: find_cells(found, config, diameter=20.0),
        limit=lambda: found.cell.copy(),
        peer=peer,
        wrong=wrong,
    )


@case(
    "EfficientCellSeg: a training step, batch of 4",
    group="method",
    unit="pixels",
    sizes=(64, 128, 256),
    limit=drawn.RATE,
)
def step(edge: int, folder: Path) -> Work:
    import torch

    from benchmarks.suite.cases.network import bare, flops_of
    from howdah.methods.efficientcellseg.losses import dice_loss
    from howdah.methods.efficientcellseg.network import EfficientCellSeg
    from howdah.nn.device import pick

    place = pick("cpu")
    network = EfficientCellSeg("lite0").to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-5, fused=True)
    x = torch.rand(4, 3, edge, edge).contiguous(memory_format=torch.channels_last)
    mask, known = (torch.rand(4, edge, edge) > 0.5).float(), torch.ones(4, edge, edge)

    def work() -> None:
        optimiser.zero_grad()
        with place.autocast():
            logits = network(x)
        dice_loss(logits[:, 0].float(), mask, known, 1.0).backward()
        optimiser.step()

    convolution, each = bare(2)
    return Work(amount=mask.numel(), run=work, limit=convolution, limit_times=flops_of(work) / each)
