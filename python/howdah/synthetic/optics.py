"""What a microscope makes of a synthetic embryo."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy

from howdah.ellipsoids import runs_of
from howdah.synthetic.lineage import Lineage
from howdah.synthetic.settings import EmbryoSettings

F64 = npt.NDArray[np.float64]
F32 = npt.NDArray[np.float32]

__all__ = ["expose"]

RIM = 0.12  # half width of the soft border of a nucleus, relative to its radius
TEXTURE = 0.22  # relative strength of chromatin


def expose(settings: EmbryoSettings, lineage: Lineage, frame: int, seed: int) -> npt.NDArray[np.uint16]:
    """Photograph one frame: (Z, Y, X) uint16. The same arguments give the same counts, whatever was exposed before."""
    rng = np.random.default_rng([seed, 1, frame])
    light = _nuclei(settings, lineage, frame, seed) * settings.contrast
    light += _haze(settings, lineage, frame, seed)
    depth = np.arange(settings.shape[0]) * settings.voxel_size[0]
    light *= np.exp(-depth / settings.attenuation_um, dtype=np.float32)[:, None, None]
    sigma = [blur / size for blur, size in zip(settings.blur_um, settings.voxel_size, strict=True)]
    light = scipy.ndimage.gaussian_filter(light, sigma)
    counts = rng.poisson(light / settings.gain) * settings.gain
    counts = counts + rng.normal(0, settings.read_noise, settings.shape) + settings.offset
    return np.clip(np.rint(counts), 0, 65535).astype(np.uint16)


def _nuclei(settings: EmbryoSettings, lineage: Lineage, frame: int, seed: int) -> F32:
    """Nuclei without a microscope: brightness about 1 inside, a soft rim, chromatin that moves with the nucleus."""
    rows = np.flatnonzero(lineage.truth.t == frame)
    centre, half = lineage.truth.centre[rows], lineage.half[rows]
    covariance = lineage.truth.covariance[rows]
    runs = runs_of(centre, covariance, settings.shape, voxel_size=settings.voxel_size, scale=1 + RIM)
    flat, owner = runs.voxels()
    place = np.stack(np.unravel_index(flat, settings.shape), axis=-1) * np.asarray(settings.voxel_size)
    # Coordinates of the unit ball that the nucleus is an image of.
    unit = np.einsum("nij,nj->ni", np.linalg.inv(half)[owner], place - centre[owner])
    rim = np.clip((1 + RIM - np.linalg.norm(unit, axis=1)) / (2 * RIM), 0, 1)
    value = lineage.brightness[rows][owner] * rim * rim * (3 - 2 * rim)
    value *= 1 + TEXTURE * _chromatin(lineage, rows, seed, unit, owner)
    image = np.zeros(settings.shape, dtype=np.float32)
    np.maximum.at(image.reshape(-1), flat, value.astype(np.float32))
    return image


def _chromatin(lineage: Lineage, rows: npt.NDArray[np.intp], seed: int, unit: F64, owner: npt.NDArray[np.int64]) -> F64:
    """A few waves a nucleus, the same ones in all its frames; about -1..1."""
    n = int(lineage.nucleus.max()) + 1
    rng = np.random.default_rng([seed, 2])
    waves, phases = rng.normal(0, 3.5, (n, 4, 3)), rng.uniform(0, 2 * np.pi, (n, 4))
    mine = lineage.nucleus[rows]
    angle = np.einsum("nki,ni->nk", waves[mine][owner], unit) + phases[mine][owner]
    return np.asarray(np.cos(angle).mean(axis=1) * 1.4, dtype=np.float64)


def _haze(settings: EmbryoSettings, lineage: Lineage, frame: int, seed: int) -> F32:
    """Light of the embryo's body (uneven, turning with it) and of an unevenly lit bath."""
    body = np.linalg.inv(lineage.pose[frame])
    axes = [np.arange(n) * size for n, size in zip(settings.shape, settings.voxel_size, strict=True)]
    world = np.meshgrid(*axes, indexing="ij", sparse=True)
    half = np.asarray(settings.half_axes_um)
    local = [(body[i, 3] + sum(body[i, j] * world[j] for j in range(3))) / half[i] for i in range(3)]
    radius = np.sqrt(local[0] ** 2 + local[1] ** 2 + local[2] ** 2)
    inside = 1 / (1 + np.exp((radius - 1.08) * 18))
    rng = np.random.default_rng([seed, 3])
    uneven = np.ones(settings.shape)
    for wave, phase in zip(rng.normal(0, 2.2, (5, 3)), rng.uniform(0, 2 * np.pi, 5), strict=True):
        uneven += 0.14 * np.cos(sum(wave[i] * local[i] for i in range(3)) + phase)
    y, x = world[1] / settings.extent_um[1], world[2] / settings.extent_um[2]
    bath = 0.15 + 0.1 * y + 0.1 * (1 - x)
    haze: F32 = (settings.background * (inside * uneven + bath)).astype(np.float32)
    return haze
