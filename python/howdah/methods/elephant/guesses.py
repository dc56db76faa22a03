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

from howdah.methods.elephant.preprocess import local_contrast

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

__all__ = ["guess_nuclei"]

HEIGHTS = (0.45, 0.3, 0.2, 0.1)
CORE = 0.6  # of the way from a hill's mean to its top: above lies what its centre is measured from
FOUND = 0.5  # a mark is found where a guess lies within this part of its size
TRUST = 0.5  # share of the marks that must be found, or there are no guesses
NEARLY = 0.9
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
    hills = local_contrast(image, reach, smooth=0.5, mean=1.5, spread=2.0)
    inverse: F64 = np.asarray(np.linalg.inv(covariance), dtype=np.float64)
    best: list[tuple[float, F64]] = []
    for height in HEIGHTS:
        guesses = _hills(hills, height)
        best.append((float(_found(guesses, centre, inverse).mean()), guesses))
    most = max(share for share, _ in best)
    if most < TRUST:
        return np.empty((0, 3)), None
    guesses = next(guesses for share, guesses in best if share >= NEARLY * most)
    faintest = FAINT * np.percentile(_at(hills, centre), 10)
    guesses = guesses[_at(hills, guesses) >= faintest]
    away = guesses[:, None] - centre  # (M, N, 3)
    near = (np.einsum("mni,nij,mnj->mn", away, inverse, away) < 1).any(axis=1)
    return guesses[~near], hills < 0


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


def _found(guesses: F64, centre: F64, inverse: F64) -> npt.NDArray[np.bool_]:
    away = guesses[:, None] - centre
    found: npt.NDArray[np.bool_] = (np.einsum("mni,nij,mnj->mn", away, inverse, away) < (2 * FOUND) ** 2).any(axis=0)
    return found
