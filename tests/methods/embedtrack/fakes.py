"""Predictions that a network might make, drawn: ellipses whose pixels point to their centre, with flaws."""

from __future__ import annotations

import numpy as np

from howdah.methods.embedtrack.fields import Fields

GRID = 256


def drawn(text: str) -> np.ndarray:
    """Labels from lines of digits; a dot is background."""
    lines = text.split()
    return np.array([[0 if c == "." else int(c) for c in line] for line in lines], dtype=np.int32)


def centroids(labels: np.ndarray) -> np.ndarray:
    """(N + 1, D) mean position of each label; row 0 is not used."""
    n = int(labels.max()) + 1
    found = np.zeros((n, labels.ndim))
    for name in range(1, n):
        found[name] = np.argwhere(labels == name).mean(axis=0)
    return found


def fields_of(
    labels: np.ndarray,
    *,
    radius: float = 3.0,
    noise: float = 0.0,
    seed: int = 0,
    voxel_size: tuple[float, ...] | None = None,
    levels: int = 0,
) -> Fields:
    """Return what a network says of these labels: pixels point to the centroid, off by normal ``noise`` (pixels).

    ``radius`` is where the affinity is a half; bandwidths and seediness vary a little. With ``levels``, seediness takes so
    few values that there are many ties.
    """
    rng = np.random.default_rng(seed)
    shape, size = labels.shape, np.array(voxel_size or (1.0,) * labels.ndim)
    unit = size / size.min() / (GRID - 1)
    one = (-1, *[1] * labels.ndim)
    at = np.indices(shape).astype(float)
    pointed = np.moveaxis(centroids(labels)[labels], -1, 0)
    offset = np.where(labels > 0, pointed - at + rng.normal(0, noise, at.shape), rng.normal(0, 3, at.shape))
    middle = np.log(np.log(2) / (radius / (GRID - 1)) ** 2) / 10
    bandwidth = np.clip(middle + rng.normal(0, 0.02 * noise, at.shape), 0.02, 0.99)
    seediness = np.where(labels > 0, rng.uniform(0.45, 1, shape), rng.uniform(0, 0.52, shape))
    if levels:
        seediness = np.round(seediness * levels) / levels
    return Fields(
        (offset * unit.reshape(one)).astype(np.float32),
        bandwidth.astype(np.float32),
        seediness.astype(np.float32),
        None,
        tuple(float(u) for u in unit),
    )


def ellipses(shape: tuple[int, ...], n: int, *, radius: tuple[float, float] = (3, 6), seed: int = 0) -> np.ndarray:
    """Return up to n ellipses at random places; later ones are cut by earlier ones, so cells touch."""
    rng = np.random.default_rng(seed)
    labels, at, name = np.zeros(shape, np.int32), np.indices(shape), 0
    for _ in range(n):
        centre = rng.uniform(0, shape)
        near = (at - centre.reshape(-1, *[1] * len(shape))) / rng.uniform(*radius, len(shape)).reshape(
            -1, *[1] * len(shape)
        )
        free = ((near**2).sum(axis=0) <= 1) & (labels == 0)
        if np.count_nonzero(free) >= 10:
            name += 1
            labels[free] = name
    return labels
