"""What the cases work on: drawn frames, masks, annotations; the same for the same numbers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from bdv_io import Tag, Tracks
from bdv_io.tags import Feature

VOXEL = (2.0, 0.5, 0.5)
RATE = "its multiplications, at a bare convolution's rate"  # the limit of a network, see network.py


def nuclei(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """Return a frame (Z, Y, X) uint16 with blobs and camera noise, so that a codec has something real to do."""
    random = np.random.default_rng(seed)
    small = gaussian_filter(random.random((shape[0], shape[1] // 4, shape[2] // 4)), (1, 3, 3))
    smooth = np.kron((small - small.min()) / np.ptp(small), np.ones((1, 4, 4)))
    return (100 + 3000 * smooth + random.normal(0, 5, smooth.shape)).astype(np.uint16)


def names(folder: Path, ending: str) -> Callable[[], Path]:
    """Return a function that gives a new name in a folder each time: nothing is replaced, nothing has to be kept."""
    numbers = itertools.count()
    return lambda: folder / f"made{next(numbers)}{ending}"


def annotation(n: int, *, frames: int = 1000, plain: bool = False) -> Tracks:
    """Return ``n`` spots linked to the next frame, a tenth of them with labels; unless plain with quality, a feature and a tag set."""
    rng = np.random.default_rng(0)
    per_frame = max(n // frames, 1)
    source = np.arange(n - per_frame)
    label = np.full(n, None, dtype=object)
    label[::10] = [f"cell {i}" for i in range(0, n, 10)]
    tracks = Tracks.build(
        np.arange(n) // per_frame,
        rng.random((n, 3)) * 1000,
        covariance=np.tile(np.diag([25.0, 25.0, 25.0]), (n, 1, 1)),
        links=np.stack([source, source + per_frame], axis=1),
        label=label,
        quality=None if plain else rng.random(n),
        features=() if plain else (Feature("MEAN_INTENSITY_CH1", "", rng.random(n) * 1000, dimension="INTENSITY"),),
        space_unit="micrometer",
        interval=1.0,
    )
    return tracks if plain else tracks.with_tag("Detection", Tag("unlabeled"), spots=np.arange(0, n, 2))


def discs(edge: int, *, spacing: int = 32, seed: int = 0) -> np.ndarray:
    """Return labels (Y, X) uint16 of lobed cells on a jittered lattice; one in each ``spacing`` x ``spacing``."""
    rng = np.random.default_rng(seed)
    labels, side, reach = np.zeros((edge, edge), np.uint16), edge // spacing, spacing // 2
    near = np.stack(np.mgrid[-reach : reach + 1, -reach : reach + 1])
    away, angle = np.hypot(*near), np.arctan2(*near)
    for number in range(side * side):
        y, x = (np.array(divmod(number, side)) * spacing + reach + rng.integers(-2, 3, 2)).tolist()
        inside = away < spacing * rng.uniform(0.28, 0.36) * (1 + 0.15 * np.sin(3 * angle + number))
        box = (slice(max(y - reach, 0), y + reach + 1), slice(max(x - reach, 0), x + reach + 1))
        mine = inside[: labels[box].shape[0], : labels[box].shape[1]]
        labels[box][mine] = number + 1
    return labels


def ellipsoids(n: int, shape: tuple[int, int, int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return centres (N, 3) in voxels and covariances of nuclei that are flat along z, as voxels see them."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform(2, np.array(shape) - 2, (n, 3))
    radii = rng.uniform(3, 4.5, (n, 3)) / [1, 0.25, 0.25]
    return centre, radii[:, :, None] ** 2 * np.eye(3)


def lineages(cells: int, frames: int, *, lost: float = 0.0, divides: float = 0.001) -> Tracks:
    """Return spots without links: cells that step 1 um in random directions at a constant density, some of them lost."""
    rng = np.random.default_rng(1)
    box = 60.0 * (cells / 40) ** (1 / 3)
    position, t, centres = rng.uniform(0, box, (cells, 3)), [], []
    for frame in range(frames):
        split = rng.random(len(position)) < divides
        apart = 3.0 * _directions(rng, len(position))
        position = np.concatenate([position + split[:, None] * apart, (position - apart)[split]])
        position += _directions(rng, len(position))
        seen = position[rng.random(len(position)) >= lost]
        centres.append(seen)
        t.append(np.full(len(seen), frame))
    return Tracks.build(np.concatenate(t), np.concatenate(centres), radius=2.5, space_unit="micrometer")


def _directions(rng: np.random.Generator, n: int) -> np.ndarray:
    vectors = rng.normal(size=(n, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def trees(n: int, *, frames: int = 500) -> Tracks:
    """Return about ``n`` spots in binary trees: each goes on, in one of fifty cases as two, in one of ninety not at all."""
    random = np.random.default_rng(0)
    here = np.arange(max(n // (2 * frames), 1))
    t, links, row = [np.zeros(len(here), np.int64)], [], len(here)
    for frame in range(1, frames):
        children = np.where(random.random(len(here)) < 1 / 50, 2, 1) * (random.random(len(here)) > 1 / 90)
        parents = np.repeat(here, children)
        here = np.arange(row, row + len(parents))
        links.append(np.stack([parents, here], axis=1))
        t.append(np.full(len(here), frame))
        row += len(here)
        if row >= n:
            break
    return Tracks.build(np.concatenate(t), random.random((row, 3)) * 1000, radius=5.0, links=np.concatenate(links))


def bytes_of(folder: Path) -> int:
    """Read a file, or every file of a folder, and do nothing with it."""
    files: Any = [folder] if folder.is_file() else (file for file in folder.rglob("*") if file.is_file())
    return sum(len(file.read_bytes()) for file in files)


def put_bytes(target: Path, content: bytes) -> None:
    """Write bytes to a file and wait for the disk: what writing safely cannot do without."""
    import os

    with target.open("wb", buffering=0) as file:
        file.write(content)
        os.fsync(file.fileno())
