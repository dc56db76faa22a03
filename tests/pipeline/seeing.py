"""A network that sees the cells of :mod:`pipeline.perfect`, and images with masks, for the tests of EfficientCellSeg's pipeline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pipeline import perfect

from howdah.methods.efficientcellseg.config import EfficientCellSegConfig
from howdah.methods.efficientcellseg.maps import Maps
from howdah.nn.checkpoint import Weights
from howdah.nn.device import pick


class SeeingNetwork:
    """Says where cells are: what is bright."""

    by_plane: list[int] = []  # noqa: RUF012  planes that were asked for one by one
    neighbours: list[tuple[bool, bool]] = []  # noqa: RUF012

    def __init__(self, weights, config=None, *, planes=None):
        self.config = (config or EfficientCellSegConfig()).but(min_size=4, split="components")
        self.place = pick("cpu")
        self.diameter = 12.0

    def maps(self, frame, *, earlier=None, later=None, time=None):
        self.neighbours.append((earlier is not None, later is not None))
        return Maps(np.where(frame > 300, 0.9, 0.1).astype(np.float32))

    def planes(self, read_plane, shape, *, earlier=None, later=None, time=None):
        for z in range(shape[0]):
            self.by_plane.append(z)
            yield z, Maps(np.where(read_plane(z)[None] > 300, 0.9, 0.1).astype(np.float32))


def weights() -> Weights:
    return Weights(({},), {"method": "efficientcellseg"})


def stills(folder: Path, n: int = 3) -> tuple[Path, Path, list[np.ndarray]]:
    """Write images of different sizes with masks of the same names; return both folders, and the masks."""
    import tifffile

    images, masks = folder / "images", folder / "masks"
    images.mkdir()
    masks.mkdir()
    truths = []
    for t in range(n):
        height = perfect.SIZE - 4 * t
        truths.append(perfect.labels(t)[0, :height].astype(np.uint16))
        tifffile.imwrite(images / f"set{t * 3 + 2:02d}.tif", perfect.frame(t)[0, :height])
        tifffile.imwrite(masks / f"set{t * 3 + 2:02d}.tif", truths[-1])
    return images, masks, truths
