"""TAP's hot paths: a training step, and features of every pixel of a frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.suite.case import Work, case
from benchmarks.suite.cases import drawn


@case(
    "TAP: a training step, pairs of 96 x 96",
    group="method",
    unit="pairs",
    sizes=(4, 8, 16),
    limit=drawn.RATE,
    peer="tarrow",
    script="tarrow:step",
)
def step(batch: int, folder: Path) -> Work:
    import torch

    from benchmarks.suite.cases.network import bare, flops_of
    from howdah.methods.tap.lean import again
    from howdah.methods.tap.losses import decorrelation, time_arrow_loss
    from howdah.methods.tap.network import Tap, pooling
    from howdah.nn.device import pick
    from howdah.nn.memory import keep_large_blocks

    keep_large_blocks()
    torch.manual_seed(0)
    place = pick("cpu")
    network = Tap(width=32, pools=pooling(2)).to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4, weight_decay=1e-6, fused=True)
    x, y = torch.rand(batch, 2, 1, 96, 96), torch.randint(0, 2, (batch,))

    def work() -> None:
        optimiser.zero_grad()
        with place.autocast():
            logits, z = network(x)
        (time_arrow_loss(logits, y) + 0.01 * again(lambda _, given: decorrelation(given), z)).backward()
        optimiser.step()

    convolution, each = bare(2)
    return Work(amount=batch, run=work, limit=convolution, limit_times=flops_of(work) / each, outside={"batch": batch})


@case(
    "TAP: features of every pixel",
    group="method",
    unit="pixels",
    sizes=(128, 256, 512),
    limit=drawn.RATE,
    peer="tarrow",
    script="tarrow:features",
)
def features(edge: int, folder: Path) -> Work:
    from benchmarks.suite.cases.network import bare, flops_of
    from howdah.methods.tap.config import TapConfig
    from howdah.methods.tap.movies import Frames, Movie
    from howdah.methods.tap.network import Tap
    from howdah.methods.tap.predict import Embedder
    from howdah.nn.checkpoint import Weights

    network, images = Tap().eval(), np.random.default_rng(0).random((2, edge, edge), dtype=np.float32)

    def read(time: int, region: Any) -> np.ndarray:
        frame = images[time][None, None]
        return frame if region is None else frame[(slice(None), *region)]

    movie = Movie("random", 2, (1, edge, edge), (1.0, 1.0, 1.0), 1, read)
    config = TapConfig()
    frame = Frames(movie, config).frame(0)
    described = Embedder(Weights((network.state_dict(),), {"method": "tap", "network": network.form}), config)
    convolution, each = bare(2)
    return Work(
        amount=edge * edge,
        run=lambda: described.features(frame),
        limit=convolution,
        limit_times=flops_of(lambda: described.features(frame)) / each,
        outside={"edge": edge},
    )
