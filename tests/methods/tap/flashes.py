"""A tiny movie in which some spots flash up in the next frame, and networks for it."""

from __future__ import annotations

import numpy as np
import torch

from howdah.methods.tap.config import TapConfig
from howdah.methods.tap.examples import Examples
from howdah.methods.tap.movies import Frames, Movie
from howdah.methods.tap.network import Tap, pooling
from howdah.nn.checkpoint import Weights

SIZE, N_FRAMES, A_FRAME = 48, 12, 4
CONFIG = TapConfig.of({"features": 4, "width": 2, "dimensions": 2, "precision": "float32", "device": "cpu"})


def places(n_frames: int = N_FRAMES) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frame (N,), centre (N, 3), and whether it flashes (N,): the first two spots of each frame do."""
    rng = np.random.default_rng(3)
    corners = np.array([(12, 12), (12, 36), (36, 12), (36, 36)])
    t = np.repeat(np.arange(n_frames), A_FRAME)
    order = np.concatenate([rng.permutation(A_FRAME) for _ in range(n_frames)])
    centre = np.column_stack([np.zeros(len(t)), corners[order] + rng.integers(-2, 3, (len(t), 2))])
    return t, centre.astype(float), np.tile(np.arange(A_FRAME) < 2, n_frames)


def movie(n_frames: int = N_FRAMES) -> Movie:
    rng = np.random.default_rng(4)
    frames = rng.normal(100, 3, (n_frames + 1, 1, 1, SIZE, SIZE))
    y, x = np.mgrid[:SIZE, :SIZE]
    for t, (_, cy, cx), flash in zip(*places(n_frames), strict=True):
        blob = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 18)
        frames[t, 0, 0] += 60 * blob
        frames[t + 1, 0, 0] += 160 * blob * flash
    frames = frames.astype(np.float32)

    def read(time, region):
        return frames[time] if region is None else frames[time][(slice(None), *region)]

    return Movie("flashes", len(frames), (1, SIZE, SIZE), (1.0, 1.0, 1.0), 1, read)


def examples() -> Examples:
    t, centre, flash = places()
    covariance = np.broadcast_to(np.diag([1.0, 9.0, 9.0]), (len(t), 3, 3)).copy()
    return Examples(
        np.zeros(len(t), np.int64), t, centre, covariance, flash.astype(np.int64), ("still", "flash"), "light"
    )


def frames() -> Frames:
    return Frames(movie(), CONFIG)


def network(dimensions: int = 2) -> Weights:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        tap = Tap(width=2, features=4, pools=pooling(dimensions))
    config = CONFIG.model_dump(mode="json", exclude_unset=True) | {"dimensions": dimensions}
    header = {"method": "tap", "kind": "network", "config": config, "resolved": {}, "network": tap.form}
    return Weights(({k: v.clone() for k, v in tap.state_dict().items()},), header)
