"""Small movies of bright disks or balls with exact outlines, for the tests of training."""

from __future__ import annotations

import numpy as np

from howdah.methods.annotation import Annotation

SHAPE = (1, 48, 56)


def frame(places: dict[int, tuple[float, ...]], shape: tuple[int, int, int] = SHAPE, radius: float = 4.0):
    """Image (uint16) and labels (int32), (Z, Y, X), of a disk or ball at each place (z, y, x)."""
    grid = np.indices(shape)
    labels = np.zeros(shape, dtype=np.int32)
    for label, place in places.items():
        away = np.sqrt(sum((axis - at) ** 2 for axis, at in zip(grid, place, strict=True)))
        labels[away <= radius] = label
    noise = np.random.default_rng(len(places)).integers(0, 20, shape)
    return (100 + 400 * (labels > 0) + noise).astype(np.uint16), labels


def movie(
    n_frames: int = 4, *, complete: bool = True, shape: tuple[int, int, int] = SHAPE, voxel_size=(1.0, 1.0, 1.0)
) -> Annotation:
    """Two cells that move; cell 2 divides into 3 and 4 in frame 2."""
    z, y = shape[0] // 2, shape[1]
    frames = {}
    for t in range(n_frames):
        places = {1: (z, 12.0 + t, 12.0 + 2 * t)}
        if t < 2:
            places[2] = (z, y - 14.0, 30.0)
        else:
            places |= {3: (z, y - 20.0 - t, 28.0), 4: (z, y - 8.0, 34.0 + t)}
        frames[t] = frame(places, shape)
    links = {1: [(1, 1), (2, 2)], 2: [(1, 1), (3, 2), (4, 2)]} | {
        t: [(1, 1), (3, 3), (4, 4)] for t in range(3, n_frames)
    }
    return Annotation(
        lambda t: frames[t][0],
        lambda t: frames[t][1],
        tuple(range(n_frames)),
        {t: np.array(rows, dtype=np.int64) for t, rows in links.items() if t < n_frames},
        complete=complete,
        voxel_size=voxel_size,
    )
