"""Normalised coordinates, centres, and affinities (paper, equations 1, 4, 5 and 11): the few formulas that all parts share.

A coordinate runs from 0 to 1 over ``grid_size`` pixels of the finest axis, and on with the same step beyond; D axes are in
the order (y, x) or (z, y, x). All functions take torch tensors and keep their device and type.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

__all__ = ["affinities", "earlier_centres", "multipliers", "own_centres", "positions", "unit_of"]

Tensor = torch.Tensor


def unit_of(voxel_size: Sequence[float], grid_size: int) -> tuple[float, ...]:
    """Return the length of one voxel along each axis in normalised coordinates.

    Args:
        voxel_size: Of the D axes; only the ratios count. A coarse z has a proportionally larger step.
        grid_size: Voxels of the finest axis over which a coordinate runs from 0 to 1.
    """
    finest = min(voxel_size)
    return tuple(size / finest / (grid_size - 1) for size in voxel_size)


def positions(shape: Sequence[int], unit: Sequence[float], *, device: torch.device | str = "cpu") -> Tensor:
    """Return the position p of every pixel, (D, *S) float32, normalised."""
    axes = [torch.arange(n, dtype=torch.float32, device=device) * step for n, step in zip(shape, unit, strict=True)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def own_centres(position: Tensor, offset: Tensor) -> Tensor:
    """Return e^S, where pixels see the centre of their cell: p + tanh(o) (equation 4); offsets before activation."""
    return position + torch.tanh(offset)


def earlier_centres(position: Tensor, tracking: Tensor) -> Tensor:
    """Return e^T, where pixels see the centre of their cell one frame earlier; tracking offsets before activation.

    The sign is that of the published networks, p - tanh(o); equation 4 writes a plus, and a network learns either.
    """
    return position - torch.tanh(tracking)


def multipliers(bandwidth: Tensor, scale: float) -> Tensor:
    """Return 1 / s_m = exp(scale * s) of bandwidths s in 0..1 (after the sigmoid): equation 5 with w_s = -scale."""
    return torch.exp(scale * bandwidth)


def affinities(places: Tensor, centre: Tensor, multiplier: Tensor) -> Tensor:
    """Return d = exp(-sum over axes of multiplier * (centre - place)^2) (equations 5 and 11).

    Args:
        places: (D, ...) estimated centres of pixels.
        centre: Centre of a cell, (D, ...) broadcastable.
        multiplier: 1 / bandwidth along each axis, (D, ...) broadcastable.
    """
    return torch.exp(-(multiplier * (places - centre) ** 2).sum(dim=0))
