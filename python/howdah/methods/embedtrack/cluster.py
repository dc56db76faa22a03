"""Clustering of pixels into cells (paper, section 3.3, equation 13)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from howdah.methods.embedtrack.config import EmbedTrackConfig
from howdah.methods.embedtrack.coordinates import affinities, multipliers, positions
from howdah.methods.embedtrack.fields import Fields

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]

__all__ = ["Cells", "find_cells"]


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells of one frame. S is (Y, X) or (Z, Y, X), D their number; row n of the tables is label n + 1.

    Attributes:
        labels: (*S) int32, 1..N without gaps, in order of falling seediness of the seeds; 0 background.
        quality: (N,) float64, 0..1.
        centre: (N, D) float64, where the cell's seed sees its centre; pixels, may lie outside of the cell.
    """

    labels: I32
    quality: F64
    centre: F64

    def __len__(self) -> int:
        return len(self.quality)


def find_cells(fields: Fields, config: EmbedTrackConfig, *, min_size: int) -> Cells:
    """Find the cells of a frame.

    Args:
        fields: Predictions of the frame.
        config: Thresholds.
        min_size: Pixels that a cell has at least.
    """
    places = positions(fields.shape, fields.unit) + torch.from_numpy(fields.offset)
    smooth = np.stack([ndimage.uniform_filter(m.astype(np.float64), 3, mode="mirror") for m in fields.bandwidth])
    scale = multipliers(torch.from_numpy(smooth.astype(np.float32)), config.bandwidth_scale)
    foreground = fields.seediness > np.float32(config.foreground_threshold)
    unit = np.array(fields.unit, dtype=np.float32).reshape(-1, 1)
    pixels = np.rint(places.numpy()[:, foreground] / unit).astype(np.int64)
    inside = ((pixels >= 0) & (pixels < np.array(fields.shape).reshape(-1, 1))).all(axis=0)
    votes = np.zeros(fields.shape, dtype=np.int32)
    np.add.at(votes, tuple(pixels[:, inside]), 1)
    around = ndimage.convolve(votes, np.ones((3,) * votes.ndim, dtype=np.int32), mode="constant")
    waiting = (around >= config.min_votes * 3 ** (votes.ndim - 2)) & (fields.seediness > config.seed_threshold)
    labels, best = np.zeros(fields.shape, dtype=np.int32), np.zeros(fields.shape, dtype=np.float32)
    seeds: list[tuple[np.intp, ...]] = []
    for pixel in np.argsort(-fields.seediness, axis=None, kind="stable"):
        seed = np.unravel_index(pixel, fields.shape)
        if not waiting[seed]:
            continue
        waiting[seed] = False
        one = (slice(None), *seed, *[None] * len(seed))
        affinity = affinities(places, places[one], scale[one]).numpy()
        proposal = foreground & (affinity > config.affinity_threshold) & (affinity > best)
        size = np.count_nonzero(proposal)
        if size >= max(min_size, 1) and np.count_nonzero(labels[proposal]) < config.max_overlap * size:
            seeds.append(seed)
            labels[proposal] = len(seeds)
            best[proposal] = affinity[proposal]
            waiting[proposal] = False
    size = np.bincount(labels.ravel(), minlength=len(seeds) + 1)
    kept = np.flatnonzero(size[1:] >= max(min_size, 1))
    renumber = np.zeros(len(seeds) + 1, dtype=np.int32)
    renumber[kept + 1] = np.arange(1, len(kept) + 1)
    labels = renumber[labels]
    quality = np.bincount(labels.ravel(), fields.seediness.ravel(), minlength=len(kept) + 1)[1:] / size[kept + 1]
    centre = np.array([places[(slice(None), *seeds[k])].numpy() / unit[:, 0] for k in kept], dtype=np.float64)
    return Cells(labels, quality, centre.reshape(len(kept), len(fields.unit)))
