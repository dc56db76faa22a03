"""A small movie whose truth is known, and a network that says the truth: what the tests of EmbedTrack's pipeline run on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bdv_io.formats import write_image
from bdv_io.image import ArrayImage
from howdah.methods.embedtrack.coordinates import unit_of
from howdah.methods.embedtrack.fields import Fields
from howdah.methods.embedtrack.learned import settled
from howdah.nn.checkpoint import Weights
from howdah.nn.device import pick

# number -> frame -> (y, x, radius); 2 divides into 3 and 4 at frame 2
CELLS = {
    1: {t: (14.0, 12.0 + 3 * t, 6.0) for t in range(4)},
    2: dict.fromkeys(range(2), (44.0, 30.0, 8.0)),
    3: {t: (44.0, 23.0 - t, 5.0) for t in range(2, 4)},
    4: {t: (44.0, 37.0 + t, 5.0) for t in range(2, 4)},
}
MOTHER = {3: 2, 4: 2}
SIZE = 64
N_LINKS = 3 + 1 + 2 + 1 + 1


def labels(t: int, depth: int = 1) -> np.ndarray:
    """The truth of a frame, (Z, Y, X) int32, by the numbers of the cells."""
    y, x = np.mgrid[:SIZE, :SIZE]
    image = np.zeros((depth, SIZE, SIZE), dtype=np.int32)
    for number, places in CELLS.items():
        if t in places:
            cy, cx, radius = places[t]
            for z in range(depth):
                thin = radius**2 - (2.0 * (z - depth // 2)) ** 2
                image[z][(y - cy) ** 2 + (x - cx) ** 2 < thin] = number
    return image


def frame(t: int, depth: int = 1) -> np.ndarray:
    """The image of a frame, (Z, Y, X) uint16."""
    noise = np.random.default_rng(t).integers(0, 20, (depth, SIZE, SIZE))
    return (100 + 400 * (labels(t, depth) > 0) + noise).astype(np.uint16)


def movie(folder: Path, depth: int = 1) -> Path:
    """Write the movie: TIFF in 2D, BigDataViewer XML in 3D."""
    target = folder / ("movie.tif" if depth == 1 else "movie.xml")
    size = (1.0, 0.5, 0.5)
    write_image(
        target, ArrayImage([frame(t, depth) for t in range(4)], voxel_size=size, unit="µm", interval=(30.0, "s"))
    )
    return target


class PerfectNetwork:
    """Says where the cells are; ``missing`` (frame, number) are cells that it does not see."""

    missing: frozenset[tuple[int, int]] = frozenset()

    def __init__(self, weights, config, *, voxel_size=(1.0, 1.0, 1.0)):
        self.config = settled(weights, config)
        self.place = pick("cpu")
        self.voxel_size = voxel_size

    def fields(self, frames, times):
        before = None
        for t in sorted(times):
            depth = frames(t).shape[0]
            here = labels(t, depth)
            if depth == 1:
                here = here[0]
            for time, number in self.missing:
                if time == t:
                    here = np.where(here == number, 0, here)
            yield t, self._fields(t, here, tracked=before == t - 1)
            before = t

    def _fields(self, t: int, here: np.ndarray, *, tracked: bool) -> Fields:
        dims = here.ndim
        unit = unit_of(self.voxel_size[-dims:], self.config.grid_size)
        step = np.array(unit).reshape(-1, *[1] * dims)
        at = np.indices(here.shape)
        offset, tracking = np.zeros((2, dims, *here.shape), dtype=np.float32)
        for number in np.unique(here[here > 0]).tolist():
            inside = here == number
            centre = at[:, inside].mean(axis=1)
            offset[:, inside] = ((centre[:, None] - at[:, inside]).T * unit).T
            earlier = CELLS[number].get(t - 1) or CELLS.get(MOTHER.get(number, 0), {}).get(t - 1)
            goal = centre if earlier is None else np.array([*centre[: dims - 2], earlier[0], earlier[1]])
            tracking[:, inside] = ((at[:, inside] - goal[:, None]).T * unit).T
        seen = (here > 0).astype(np.float32) * 0.9
        return Fields(
            offset, np.full_like(offset, 0.9), seen, tracking if tracked else None, tuple(step.reshape(-1).tolist())
        )


def perfect_weights(n_dims: int = 2) -> Weights:
    """Weights without numbers, with the header that matters."""
    header = {
        "method": "embedtrack",
        "network": {"n_dims": n_dims},
        "config": {"seed": 0},
        "resolved": {"min_size": 10},
    }
    return Weights(({},), header)
