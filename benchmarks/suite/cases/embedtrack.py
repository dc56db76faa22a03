"""EmbedTrack's hot paths: a frame to fields, fields to cells, links, a training step."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.suite.case import Work, case
from benchmarks.suite.cases import drawn

EDGES = (256, 512, 768)


@case(
    "EmbedTrack: a frame to fields",
    group="method",
    unit="pixels",
    sizes=(192, 256, 384),
    limit=drawn.RATE,
    peer="EmbedTrack, network alone, both frames of a pair",
    script="embedtrack:forward",
)
def forward(edge: int, folder: Path) -> Work:
    import torch

    from benchmarks.suite.cases.network import bare, flops_of
    from howdah.methods.embedtrack.config import EmbedTrackConfig
    from howdah.methods.embedtrack.network import BranchedERFNet
    from howdah.methods.embedtrack.predict import Network
    from howdah.nn.checkpoint import Weights

    torch.manual_seed(0)
    weights = Weights((BranchedERFNet(2).state_dict(),), {"network": {"n_dims": 2}})
    network = Network(weights, EmbedTrackConfig())
    frame = drawn.nuclei((1, edge, edge))
    fields = network.fields(lambda _: frame, range(1_000_000))
    next(fields)
    convolution, each = bare(2)
    return Work(
        amount=frame.size,
        run=lambda: next(fields),
        limit=convolution,
        limit_times=flops_of(lambda: next(fields)) / each,
        outside={"shape": frame.shape},
    )


def fields_of(edge: int):
    """Return a prediction of ellipses that point to their centres with an error of a pixel, and the true labels."""
    from howdah.methods.embedtrack.fields import Fields

    rng, unit = np.random.default_rng(0), 1 / 255
    labels = drawn.discs(edge).astype(np.int32)
    y, x = np.nonzero(labels)
    own = labels[y, x]
    count = np.maximum(np.bincount(own), 1)
    middle = np.stack([np.bincount(own, weights=axis) / count for axis in (y, x)])
    offset = np.zeros((2, edge, edge), np.float32)
    offset[:, y, x] = (middle[:, own] - np.stack([y, x]) + rng.normal(0, 1, (2, len(y)))) * unit
    width = np.full((2, edge, edge), np.log(np.log(2) / (5 * unit) ** 2) / 10, np.float32)
    inside, outside = rng.uniform(0.6, 1, labels.shape), rng.uniform(0, 0.3, labels.shape)
    seed = np.where(labels > 0, inside, outside).astype(np.float32)
    return Fields(offset, width, seed, -offset, (unit, unit)), labels


def copied(fields):
    """Copy what a frame's cells are made of."""
    return [each.copy() for each in (fields.offset, fields.bandwidth, fields.seediness)]


@case(
    "EmbedTrack: fields to cells",
    group="method",
    unit="pixels",
    sizes=EDGES,
    limit="copy of the fields",
    peer="EmbedTrack",
    script="embedtrack:cluster",
)
def cluster(edge: int, folder: Path) -> Work:
    from howdah.methods.embedtrack.cluster import find_cells
    from howdah.methods.embedtrack.config import EmbedTrackConfig

    fields, labels = fields_of(edge)
    config, cells = EmbedTrackConfig(), int(labels.max())
    np.savez(folder / "fields.npz", offset=fields.offset, width=fields.bandwidth, seed=fields.seediness)

    def wrong() -> str:
        found = len(find_cells(fields, config, min_size=20))
        return "" if abs(found - cells) <= 0.02 * cells + 1 else f"{found} cells of {cells}"

    return Work(
        amount=labels.size,
        run=lambda: find_cells(fields, config, min_size=20),
        limit=lambda: copied(fields),
        outside={"file": str(folder / "fields.npz"), "edge": edge} if edge <= 256 else None,
        wrong=wrong,
    )


@case(
    "EmbedTrack: links of a frame by votes",
    group="method",
    unit="pixels",
    sizes=EDGES,
    limit="copy of the fields",
)
def votes(edge: int, folder: Path) -> Work:
    from howdah.methods.embedtrack.config import EmbedTrackConfig
    from howdah.methods.embedtrack.link import vote

    fields, labels = fields_of(edge)
    config = EmbedTrackConfig()
    return Work(
        amount=labels.size,
        run=lambda: vote(labels, labels, fields, config),
        limit=lambda: copied(fields),
    )


@case(
    "EmbedTrack: a training step, a pair of 160 x 160",
    group="method",
    unit="cells",
    sizes=(4, 12, 32),
    limit=drawn.RATE,
)
def step(cells: int, folder: Path) -> Work:
    import torch

    from benchmarks.suite.cases.network import bare, flops_of
    from howdah.methods.embedtrack.config import EmbedTrackConfig
    from howdah.methods.embedtrack.coordinates import unit_of
    from howdah.methods.embedtrack.losses import embedtrack_loss
    from howdah.methods.embedtrack.network import BranchedERFNet
    from howdah.methods.embedtrack.targets import targets_of
    from howdah.nn.device import pick

    edge, place, config = 160, pick("cpu"), EmbedTrackConfig()
    later = drawn.discs(edge, spacing=edge // int(cells**0.5)).astype(np.int64)[None]
    ids = np.arange(1, cells + 1)
    targets = targets_of(later, np.roll(later, 2, axis=1), [np.column_stack([ids, ids])], voxel_size=(1, 1))
    unit = unit_of((1, 1), config.grid_size)
    network = BranchedERFNet().train().to(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-5, fused=True)
    both = torch.rand(2, 1, edge, edge).contiguous(memory_format=torch.channels_last)

    def work() -> None:
        optimiser.zero_grad()
        with place.autocast():
            first, second, tracking = network(both[:1], both[1:])
        segmentation = torch.cat([first, second])
        embedtrack_loss(segmentation.float(), tracking.float(), targets, unit, config)["loss"].backward()
        optimiser.step()

    convolution, each = bare(2)
    return Work(amount=cells, run=work, limit=convolution, limit_times=flops_of(work) / each)
