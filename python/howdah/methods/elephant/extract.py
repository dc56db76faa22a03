"""Ellipsoids from probabilities (paper: post-processing; Algorithm for detection, parts ii and iii).

Sizes: what is found is the centre part of a nucleus, and is enlarged by 1 / ``centre_ratio``. The labels that the network learned
from never have a centre part of fewer than nine voxels, so nuclei that are small against the voxels all look alike, and too large
(a radius of two voxels as 1.6 of it). How much too large the usual nucleus of the marks is drawn can be computed, and is undone
here: see :func:`drawn_size`.

A network's centre parts have soft edges, so their size depends on the threshold (measured with it, nuclei of three trained networks
were 1.11 to 1.21 too large at 0.5, and 1.24 to 1.39 at 0.3). It is measured where the probability falls to 0.7 of its highest
value in a component instead: 0.86 to 1.08 in eight networks, the same at both thresholds. What is left belongs to the network, and is the
same at its marks (within 0.05), so it is learned there: ``size_factor``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from howdah.ellipsoids import (
    Components,
    Ellipsoids,
    connected_components,
    covariance_from,
    ellipsoids_from_voxels,
    radii_and_axes,
    runs_of,
    split_components,
    transform,
)
from howdah.methods import Spots
from howdah.methods.elephant.calibration import FEATURES, Calibration, features
from howdah.methods.elephant.config import ElephantConfig
from howdah.methods.elephant.targets import MIN_VOXELS

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = [
    "Cores",
    "cores_of",
    "denoised",
    "drawn_size",
    "finished",
    "spots_and_features",
    "spots_from_probability",
]

EDGE_SIGMA = 3.0  # voxels, in y and x; the paper names no number, this is the reference's
SIZE_LEVEL = 0.7  # of the highest probability in a component: where the size is measured, whatever the threshold
SPLIT_DEPTH = 0.2  # of a valley of the centre probability
SPLIT_FROM, SPLIT_LEAST = 1.5, 0.5  # least volumes of what is cut, and of a part, relative to the usual one
FADE = 2.0  # from this many times the voxels of the usual drawn nucleus on, a component is as large as it looks
POSITIONS = 64


def spots_from_probability(
    probability: F32,
    config: ElephantConfig,
    *,
    affine: F64,
    background: F32 | None = None,
    calibration: Calibration | None = None,
) -> Spots:
    """Turn centre probabilities into ellipsoids.

    Voxels above the threshold, in 26-connected components, cut where they hold several nuclei; each becomes the ellipsoid of
    its central moments, enlarged by 1 / ``centre_ratio``, since the component is the centre part of a nucleus only.

    Args:
        probability: (Z, Y, X) float32.
        config: threshold, centre_ratio, size_factor, r_min, r_max, r_usual, split, denoise_edges.
        affine: 4x4, voxels to world.
        background: (Z, Y, X) probability of the background; needed for ``denoise_edges``.
        calibration: Turns what is seen of a component into the probability that it is a nucleus.

    Returns:
        Spots in world coordinates; quality is calibrated, or the mean centre probability of the component without a calibration.
    """
    spots, seen = spots_and_features(probability, config, affine=affine, background=background)
    return spots if calibration is None else replace(spots, quality=calibration.quality(seen))


def spots_and_features(
    probability: F32, config: ElephantConfig, *, affine: F64, background: F32 | None = None
) -> tuple[Spots, F64]:
    """Return the spots, with the mean centre probability as quality, and what a calibration looks at: (N, F) features.

    Arguments as for :func:`spots_from_probability`, features as in :mod:`calibration`.
    """
    if config.denoise_edges and background is not None:
        probability = denoised(probability, background)
    found = connected_components(probability > config.threshold)
    values = probability.reshape(-1)[found.flat]
    return finished(cores_of(found, values, config, affine=affine), config, affine=affine, single=found.shape[0] == 1)


@dataclass(frozen=True, eq=False)
class Cores:
    """Centre parts of nuclei, measured in voxels, before anything is said of nuclei.

    Attributes:
        whole: (N,) from all voxels of a core, with the mean probability.
        inner: (N,) from those of high probability.
        highest: (N,) highest probability.
        first: (N,) first voxel (index of the flattened frame) of the component that the core was, or was cut from.
        cut: (N,) 0 for what kept the number of its component; else rising numbers of what was cut off.
    """

    whole: Ellipsoids
    inner: Ellipsoids
    highest: F64
    first: I64
    cut: I64


def cores_of(found: Components, values: F32, config: ElephantConfig, *, affine: F64) -> Cores | None:
    """Measure components, or those of a frame that lie in a part of it; None if there are none.

    Args:
        found: Components of the frame, with voxels as indices of the whole frame.
        values: (K,) their probabilities.
        config: As for :func:`spots_from_probability`.
        affine: 4x4, voxels of the frame to world.
    """
    if not found.n:
        return None
    before, n = found.owner, found.n
    first = found.flat[np.flatnonzero(np.diff(np.maximum.accumulate(before), prepend=-1))]  # they are numbered by it
    if config.split:
        found = _split(found, values, config, affine=affine)
    parent = np.empty(found.n, dtype=np.int64)
    parent[found.owner] = before
    number = np.arange(found.n)
    whole = ellipsoids_from_voxels(found.flat, found.owner, found.shape, probability=values)
    highest = np.zeros(found.n, dtype=values.dtype)
    np.maximum.at(highest, found.owner, values)
    inner = values >= SIZE_LEVEL * highest[found.owner]
    measured = ellipsoids_from_voxels(found.flat[inner], found.owner[inner], found.shape)
    return Cores(whole, measured, highest.astype(np.float64), first[parent], np.where(number < n, 0, number))


def finished(cores: Cores | None, config: ElephantConfig, *, affine: F64, single: bool) -> tuple[Spots, F64]:
    """Make nuclei of all cores of a frame: spots and features as :func:`spots_and_features` returns them.

    Args:
        cores: Of the whole frame, in its order: what kept the number of its component by ``first``, then the rest by ``first`` and ``cut``.
        config: As for :func:`spots_from_probability`.
        affine: 4x4, voxels of the frame to world.
        single: The frame has one slice.
    """
    if cores is None:
        return Spots.none(), np.empty((0, len(FEATURES)))
    whole, highest = cores.whole, cores.highest
    centre, covariance = _enlarged(cores.inner, config, affine=affine, single=single)
    radii, axes = radii_and_axes(covariance)
    seen = features(whole.quality, highest, np.prod(radii, axis=1) ** (1 / 3), usual=config.r_usual)
    kept = np.ones(len(highest), dtype=bool)
    if config.r_min is not None:
        # By all of the component, and before the learned size: a peak of the probability, or a network that draws large cores, is
        # no reason to drop a nucleus.
        plain = config.but(size_factor=None)
        _, covariance = _enlarged(whole, plain, affine=affine, single=single)
        kept = radii_and_axes(covariance)[0][:, 0] >= config.r_min
    if config.r_max is not None:
        radii = np.minimum(radii, config.r_max)
    return Spots(centre[kept], covariance_from(radii[kept], axes[kept]), whole.quality[kept]), seen[kept]


def _enlarged(measured: Ellipsoids, config: ElephantConfig, *, affine: F64, single: bool) -> tuple[F64, F64]:
    """Centres and covariances, world units, of the nuclei whose centre parts were measured."""
    cores = _undrawn(measured, config, affine=affine, single=single)
    if single:  # an image of one slice: as thick as wide, so that the spot is seen as a ball
        cores, affine = _made_round(cores, affine)
    return transform(measured.centre, cores * ((config.size_factor or 1.0) / config.centre_ratio) ** 2, affine)


def denoised(centre: F32, background: F32) -> F32:
    """Subtract from the centre probability the edges of the background's, slice by slice (paper: post-processing).

    An edge is the root mean square of the Prewitt gradients along y and x (difference of the voxels on both sides, mean of
    three rows) of the background, smoothed by a Gaussian. Both arrays are (Z, Y, X); the result is at least 0.
    """
    smooth = ndimage.gaussian_filter(background, (0.0, EDGE_SIGMA, EDGE_SIGMA), mode="nearest")
    steps = [
        ndimage.uniform_filter1d(ndimage.correlate1d(smooth, [-1, 0, 1], axis=a), 3, axis=b)
        for a, b in ((1, 2), (2, 1))
    ]
    edge = np.hypot(*steps) / np.sqrt(2)
    result: F32 = np.maximum(centre - edge, 0, dtype=np.float32)
    return result


@lru_cache(maxsize=64)
def _drawn_size(radius: float, ratio: float, linear: tuple[float, ...], *, single: bool) -> tuple[float, float]:
    inverse = np.linalg.inv(np.reshape(linear, (3, 3)))
    core = inverse @ inverse.T * (radius * ratio) ** 2
    if single:
        core[0, 1:] = core[1:, 0] = 0.0
        core[0, 0] = 1.0
    reach = np.sqrt(np.diagonal(core))
    true = float(
        np.pi * reach[0] * np.sqrt(np.linalg.det(core[1:, 1:]))
        if single
        else 4 / 3 * np.pi * np.sqrt(np.linalg.det(core))
    )
    if true > FADE * MIN_VOXELS:
        return true, true
    half = np.ceil(reach).astype(int) + MIN_VOXELS
    shape = (1 if single else 2 * half[0] + 1, 2 * half[1] + 1, 2 * half[2] + 1)
    # evenly spread places within a voxel: multiples of the powers of the plastic number's inverse, modulo 1
    places = (np.arange(1, POSITIONS + 1)[:, None] * 0.8191725133961645 ** np.arange(1, 4)) % 1.0 - 0.5
    centre = (np.array(shape) - 1) / 2 + (places * (0, 1, 1) if single else places)
    runs = runs_of(centre, np.tile(core, (POSITIONS, 1, 1)), shape, min_voxels=MIN_VOXELS)
    return runs.n_voxels / POSITIONS, true


def drawn_size(radius: float, ratio: float, affine: F64, *, single: bool = False) -> tuple[float, float]:
    """Return how many voxels the centre part of a nucleus is drawn with in the labels, on average, and how many it truly has.

    They differ where the centre part is enlarged to nine voxels (see :mod:`targets`).

    Args:
        radius: Of the nucleus, a ball; world unit.
        ratio: Size of the centre part relative to the nucleus.
        affine: 4x4, voxels to world.
        single: The image has one slice, and the nucleus is a disc.
    """
    linear = np.asarray(affine, dtype=np.float64)[:3, :3]
    return _drawn_size(float(radius), float(ratio), tuple(linear.reshape(-1).tolist()), single=single)


def _split(found: Components, values: F32, config: ElephantConfig, *, affine: F64) -> Components:
    """Cut components with several maxima, and those with a half-axis above ``r_max`` that have a waist, unless they are small.

    Levels are counted from the threshold, so that a component is cut the same way whichever others are looked at with it.
    """
    size = np.linalg.norm(affine[:3, :3], axis=0)
    voxel = (float(size[0]), float(size[1]), float(size[2]))
    large, sizable, least = None, None, 1
    if config.r_max is not None:
        measured = ellipsoids_from_voxels(found.flat, found.owner, found.shape, voxel_size=voxel)
        longest = np.sqrt(np.linalg.eigvalsh(measured.covariance)[:, 2])
        large = longest / config.centre_ratio > config.r_max
    if config.r_usual is not None:
        drawn, _ = drawn_size(config.r_usual, config.centre_ratio, affine, single=found.shape[0] == 1)
        least = max(1, round(SPLIT_LEAST * drawn))
        sizable = np.bincount(found.owner) > SPLIT_FROM * drawn
    return split_components(
        found,
        values,
        depth=SPLIT_DEPTH,
        large=large,
        only=sizable,
        least_voxels=least,
        voxel_size=voxel,
        lowest=config.threshold,
    )


def _undrawn(measured: Ellipsoids, config: ElephantConfig, *, affine: F64, single: bool) -> F64:
    """Covariances of the components, in voxels, with the enlargement of small nuclei in the labels undone."""
    if config.r_usual is None:
        return measured.covariance
    drawn, true = drawn_size(config.r_usual, config.centre_ratio, affine, single=single)
    if drawn <= true:
        return measured.covariance
    share = np.clip((np.log(measured.n_voxels / drawn)) / np.log(FADE), 0.0, 1.0)
    factor = (true / drawn) ** (1 - share)
    if not single:
        solids: F64 = measured.covariance * (factor ** (2 / 3))[:, None, None]
        return solids
    discs = measured.covariance.copy()
    discs[:, 1:, 1:] *= factor[:, None, None]
    return discs


def _made_round(discs: F64, affine: F64) -> tuple[F64, F64]:
    """Give discs in one slice (z = 0) a thickness: their mean half-axis in world units, across the plane of the slice.

    The edge of a voxel along z means nothing where there is one slice, so the affine that is returned has the unit normal in
    its place, and the thickness is in world units.
    """
    plane = affine[:3, 1:3]  # a step along y and x
    normal = np.cross(plane[:, 0], plane[:, 1])
    upright = affine.copy()
    upright[:3, 0] = normal / np.linalg.norm(normal)
    balls = discs.copy()
    balls[:, 0, 0] = np.sqrt(np.linalg.det(discs[:, 1:, 1:]) * np.linalg.det(plane.T @ plane))
    return balls, upright
