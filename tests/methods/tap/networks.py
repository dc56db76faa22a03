"""Small networks of TAP with statistics that are not those of a new network, as weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from howdah.methods.tap.movies import Movie
from howdah.methods.tap.network import Tap
from howdah.nn.checkpoint import Weights


def network(seed: int = 0, **form: Any) -> Tap:
    """A network in evaluation mode: width and features 4."""
    torch.manual_seed(seed)
    made = Tap(**{"width": 4, "features": 4, **form})
    space = (32, 32) if len(made.form["pools"][0]) == 2 else (8, 16, 16)
    with torch.no_grad():
        for _ in range(20):
            made(torch.randn(2, made.form["frames"], made.form["channels"], *space))
        for name, value in made.named_parameters():
            if value.ndim == 1:
                value += 0.1 * torch.randn_like(value)
            assert name
    return made.eval()


def weights_of(made: Tap, **resolved: Any) -> Weights:
    """Weights as training gives them."""
    return Weights((made.state_dict(),), {"method": "tap", "network": made.form, "resolved": resolved})


def movie_of(images: np.ndarray[Any, Any], *, missing: frozenset[int] = frozenset()) -> Movie:
    """A movie of images (T, C, Z, Y, X)."""
    _, channels, z, y, x = images.shape

    def read(time: int, region: Any) -> Any:
        return images[time] if region is None else images[time][(slice(None), *region)]

    return Movie("test", len(images), (z, y, x), (1.0, 1.0, 1.0), channels, read, missing)
