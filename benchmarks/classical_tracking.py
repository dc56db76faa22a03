"""The classical way: smooth, threshold, watershed of the distance transform, LapTrack. Everything is tuned on training frames.

No machine learning; what ``score_embedtrack.py`` compares with. Images are (Y, X) float32 of 0..1, labels (Y, X), 0 background.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.morphology import remove_small_objects
from skimage.segmentation import watershed

FEATURES = ("bright", "texture")
SMOOTHINGS = (1.0, 2.0, 4.0)
THRESHOLDS = (0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
DISTANCES = (3, 6, 12, 24)
WAYS = (5.0, 10.0, 20.0, 40.0, 80.0)


@dataclass(frozen=True)
class Recipe:
    """How a frame is segmented: feature, its smoothing (pixels), threshold as a share of its range, distance of seeds."""

    feature: str
    smoothing: float
    threshold: float
    distance: int
    min_size: int

    def segment(self, image: np.ndarray) -> np.ndarray:
        """Return labels 1..N."""
        mask = _feature(image, self.feature, self.smoothing) > self.threshold
        mask = ndimage.binary_fill_holes(mask)
        mask = remove_small_objects(mask, max_size=max(self.min_size - 1, 0))
        depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask), 1.0)
        pieces = ndimage.label(mask)[0]
        seeds = np.zeros(image.shape, dtype=np.int32)
        at = peak_local_max(depth, min_distance=self.distance, labels=pieces, exclude_border=False)
        seeds[tuple(at.T)] = np.arange(1, len(at) + 1)
        labels = watershed(-depth, seeds, mask=mask)
        return np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.int32)


def _feature(image: np.ndarray, name: str, smoothing: float) -> np.ndarray:
    if name == "texture":  # phase contrast: cells are rough, whatever their brightness
        image = np.abs(image - ndimage.gaussian_filter(image, 10.0))
    smooth = ndimage.gaussian_filter(image, smoothing)
    low, high = np.percentile(smooth, (1, 99.5))
    return np.clip((smooth - low) / max(high - low, 1e-6), 0, 1)


def quality(found: np.ndarray, truth: np.ndarray) -> tuple[float, int]:
    """Return the sum of overlaps (IoU) above 0.5, and the number of found and true cells."""
    width = int(found.max()) + 1
    pairs, shared = np.unique(truth.astype(np.int64) * width + found, return_counts=True)
    there, here = np.bincount(truth.ravel()), np.bincount(found.ravel())
    overlap = shared / (there[pairs // width] + here[pairs % width] - shared)
    good = (pairs // width > 0) & (pairs % width > 0) & (overlap > 0.5)
    return float(overlap[good].sum()), int((there[1:] > 0).sum() + (here[1:] > 0).sum())


def tuned(images: list[np.ndarray], labels: list[np.ndarray]) -> tuple[Recipe, float]:
    """Choose the recipe with the largest mean overlap on training frames (four of them, spread), and return both."""
    chosen = np.unique(np.linspace(0, len(images) - 1, min(4, len(images))).round().astype(int))
    sizes = np.concatenate([np.bincount(frame.ravel())[1:] for frame in labels])
    least = int(np.percentile(sizes[sizes > 0], 1) / 2)
    best, top = Recipe("bright", 1.0, 0.5, 6, least), -1.0
    for choice in itertools.product(FEATURES, SMOOTHINGS, THRESHOLDS, DISTANCES):
        recipe = Recipe(*choice, least)
        parts = [quality(recipe.segment(images[i]), labels[i]) for i in chosen]
        score = 2 * sum(p[0] for p in parts) / max(sum(p[1] for p in parts), 1)
        if score > top:
            best, top = recipe, score
    return best, top


def lap(labels: list[np.ndarray], *, way: float, splitting: float | None) -> list[np.ndarray]:
    """Link by LapTrack; return the parent label at t-1 of each label 1..N of each frame, 0 for none.

    Args:
        labels: Frames.
        way: Largest way between two frames, pixels.
        splitting: Largest way to a mother, pixels; None: no divisions.
    """
    from laptrack import LapTrack

    places = [np.array(ndimage.center_of_mass(f > 0, f, np.arange(1, f.max() + 1))).reshape(-1, 2) for f in labels]
    tracker = LapTrack(
        cutoff=way**2,
        splitting_cutoff=False if splitting is None else splitting**2,
        gap_closing_cutoff=False,
    )
    graph = tracker.predict(places)
    parents = [np.zeros(len(p), dtype=np.int64) for p in places]
    for (t0, i0), (t1, i1) in graph.edges():
        later, earlier = ((t1, i1), (t0, i0)) if t1 > t0 else ((t0, i0), (t1, i1))
        parents[int(later[0])][int(later[1])] = int(earlier[1]) + 1
    return parents
