"""Nuclei guessed from the image around a few marks, to learn from besides the marks (not in the paper).

Sparse marks say little of what lies between nuclei, and the threshold background of the paper takes faint nuclei for background.
But marks tell how large nuclei are, and blobs of that size can be found without learning: the image is smoothed over half
a nucleus and compared with its surroundings (:func:`local_contrast`), and each hill of it that is high enough is a guess.
How high is measured on the marks. Guesses are never shown to anyone: they are labels of little weight in training.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.morphology import h_maxima
from skimage.segmentation import watershed

from howdah.methods.elephant.config import ElephantConfig
from howdah.methods.elephant.preprocess import local_contrast

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

__all__ = ["guess_nuclei", "hill_height", "hills_of", "lift_missed"]

HEIGHTS = (0.45, 0.3, 0.2, 0.1)
CORE = 0.6  # of the way from a hill's mean to its top: above lies what its centre is measured from
TRUST = 0.5  # share of the marks that must be found, or there are no guesses
NEARLY = 0.9
SUPPORT = 0.1  # of the threshold, for a hill to be lifted
LIFT = 1e-3
FAINT = 0.5  # of the height of all but the faintest tenth of the marks, or it is no guess


def guess_nuclei(image: F32, centre: F64, covariance: F64) -> tuple[F64, npt.NDArray[np.bool_] | None]:
    """Guess where the nuclei are that nobody marked, and where there are none.

    Args:
        image: (Z, Y, X) intensity; nuclei are brighter than what is around them.
        centre: (N, 3) of the marked nuclei in voxels; at least one.
        covariance: (N, 3, 3) in squared voxels.

    Returns:
        (M, 3) centres in voxels, and (Z, Y, X) bool, what is darker than its surroundings. None of both, where fewer than half
        of the marks would be found in this way (dark nuclei, rings).
    """
    reach = np.sqrt(np.median(np.einsum("nii->ni", covariance), axis=0))
    height = hill_height(image, centre, covariance)
    if height is None:
        return np.empty((0, 3)), None
    hills = hills_of(image, reach)
    guesses = _hills(hills, height)
    faintest = FAINT * np.percentile(_at(hills, centre), 10)
    guesses = guesses[_at(hills, guesses) >= faintest]
    away = guesses[:, None] - centre  # (M, N, 3)
    near = (np.einsum("mni,nij,mnj->mn", away, np.linalg.inv(covariance), away) < 1).any(axis=1)
    return guesses[~near], hills < 0


def hill_height(image: F32, centre: F64, covariance: F64) -> float | None:
    """Return how high hills must be for the marked nuclei to be among them, or None where they are no hills.

    Args are those of :func:`guess_nuclei`.
    """
    hills = hills_of(image, np.sqrt(np.median(np.einsum("nii->ni", covariance), axis=0)))
    shares = [_found(_hills(hills, height), centre, covariance) for height in HEIGHTS]
    if max(shares) < TRUST:
        return None
    return next(height for height, share in zip(HEIGHTS, shares, strict=True) if share >= NEARLY * max(shares))


def hills_of(image: F32, reach: F64) -> F32:
    """Return the image in which nuclei of half-extents ``reach`` (z, y, x), in voxels, are hills over 0."""
    return local_contrast(image, reach, smooth=0.5, mean=1.5, spread=2.0)


def lift_missed(probability: F32, image: F32, reach: F64, config: ElephantConfig) -> F32:
    """Raise the centre probability in hills that the network sees too, but is not sure of.

    For movies with nuclei in haze: there probabilities are low all over. A hill with a probability of at least a tenth of
    the threshold, and no voxel above the threshold within half a nucleus, gets a core that is just above the threshold: so
    it becomes a nucleus, of the least quality there is.

    Args:
        probability: (Z, Y, X) of being a nucleus' centre; a new array is returned.
        image: (Z, Y, X) intensity 0..1 on the same grid, not locally normalised.
        reach: (z, y, x) usual half-extents of nuclei in voxels.
        config: threshold, centre_ratio, guess_height.
    """
    lifted = probability.copy()
    if not config.guess_height:
        return lifted
    places = _hills(hills_of(image, reach), config.guess_height)
    core, wide = (_steps(reach * share) for share in (config.centre_ratio, 1.0))
    for place in np.rint(places).astype(int):
        around = _inside(place + wide, probability.shape)
        inner = _inside(place + core, probability.shape)
        highest = probability[inner].max(initial=0)
        if probability[around].max(initial=0) > config.threshold or highest < SUPPORT * config.threshold:
            continue
        lifted[inner] = np.maximum(lifted[inner], np.float32(config.threshold + LIFT))
    return lifted


def _steps(reach: F64) -> npt.NDArray[np.int64]:
    """Return the voxels of an ellipsoid around 0, (N, 3); its next neighbours along the axes always."""
    most = np.maximum(np.rint(reach), 1).astype(int)
    steps = np.stack(np.meshgrid(*[np.arange(-n, n + 1) for n in most], indexing="ij"), axis=-1).reshape(-1, 3)
    kept: npt.NDArray[np.int64] = steps[((steps / np.maximum(reach, 1)) ** 2).sum(axis=1) <= 1]
    return kept


def _inside(voxels: npt.NDArray[np.int64], shape: tuple[int, ...]) -> tuple[npt.NDArray[np.int64], ...]:
    return tuple(voxels[((voxels >= 0) & (voxels < np.asarray(shape))).all(axis=1)].T)


def _hills(hills: F32, height: float) -> F64:
    """Return the middle of each hill that rises by ``height`` over the pass to a higher one; (M, 3) voxels."""
    tops, n = ndimage.label(h_maxima(hills, height), structure=np.ones((3, 3, 3)))  # type: ignore[no-untyped-call]
    if not n:
        return np.empty((0, 3))
    numbers = np.arange(1, n + 1)
    basins = watershed(-hills, tops, mask=(hills > 0) | (tops > 0))  # type: ignore[no-untyped-call]
    top, mean = (measure(hills, basins, numbers) for measure in (ndimage.maximum, ndimage.mean))
    level = np.concatenate([[np.inf], CORE * np.asarray(top) + (1 - CORE) * np.asarray(mean)])
    cores = np.where(hills >= level[basins], basins, 0)
    numbers = np.unique(cores[cores > 0])
    middles: F64 = np.asarray(ndimage.center_of_mass(cores > 0, cores, numbers), dtype=np.float64).reshape(-1, 3)
    return middles


def _at(hills: F32, places: F64) -> F32:
    """Return the height of the hills at places, (N, 3) voxels."""
    nearest = np.clip(np.rint(places).astype(int), 0, np.asarray(hills.shape) - 1)
    heights: F32 = hills[tuple(nearest.T)]
    return heights


def _found(guesses: F64, centre: F64, covariance: F64) -> float:
    """Return the share of the marks that have a guess inside."""
    away = guesses[:, None] - centre
    inside = np.einsum("mni,nij,mnj->mn", away, np.linalg.inv(covariance), away) < 1
    return float(inside.any(axis=0).mean())
