"""The physical limit of a network: its multiplications at the rate of one bare convolution, measured in the same turns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from howdah.nn.device import pick

WIDTH = {2: 64, 3: 32}
SPACE = {2: (256, 256), 3: (16, 128, 128)}


def flops_of(call: Callable[[], object]) -> float:
    """Count the multiplications and additions of the convolutions and matrix products of a call."""
    with FlopCounterMode(display=False) as counted:
        call()
    return float(counted.get_total_flops())


def bare(dimensions: int, *, precision: str = "auto", device: str = "cpu") -> tuple[Callable[[], Any], float]:
    """Return one 3 x 3 (x 3) convolution of as many channels to as many, forward, channels last; and its operations."""
    place, width = pick(device, precision=precision), WIDTH[dimensions]
    order = torch.channels_last if dimensions == 2 else torch.channels_last_3d
    kind = torch.nn.Conv2d if dimensions == 2 else torch.nn.Conv3d
    layer = kind(width, width, 3, padding=1).to(place.device, dtype=place.precision, memory_format=order).eval()
    x = torch.rand(1, width, *SPACE[dimensions]).to(place.device, dtype=place.precision).contiguous(memory_format=order)

    def call() -> Any:
        with torch.inference_mode():
            return layer(x)

    return call, flops_of(call)
