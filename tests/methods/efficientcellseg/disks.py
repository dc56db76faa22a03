"""Small annotations for tests: bright disks on a dark ground, 2D or in volumes."""

import numpy as np

from howdah.methods.annotation import Annotation


def disks(shape=(1, 64, 64), *, centres=((16, 16), (16, 46), (44, 20), (46, 48)), radius=7, seed=0):
    """Return an image and its labels, both (Z, Y, X)."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, dtype=np.int32)
    y, x = np.mgrid[: shape[1], : shape[2]]
    for number, (cy, cx) in enumerate(centres):
        labels[:, (y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = number + 1
    if shape[0] > 2:
        labels[[0, -1]] = 0
    image = 100 + 80 * (labels > 0) + rng.normal(0, 5, shape)
    return image.astype(np.float32), labels


def annotation(frames=1, *, complete=True, voxel_size=(1.0, 1.0, 1.0), **options):
    """Return an annotation of so many frames."""
    made = [disks(seed=t, **options) for t in range(frames)]
    return Annotation(
        lambda t: made[t][0], lambda t: made[t][1], tuple(range(frames)), {}, complete, voxel_size, mothers=False
    )
