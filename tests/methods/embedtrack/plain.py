"""The clustering and the vote of the paper (sections 3.3 and 3.4), one cell after the other over whole frames: slow, to be read.

The package must give exactly these labels. Formulas of coordinates are the package's own (they have their own tests);
everything else is written a second time, in the order of the paper.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from howdah.methods.embedtrack.config import EmbedTrackConfig
from howdah.methods.embedtrack.coordinates import affinities, multipliers, positions
from howdah.methods.embedtrack.fields import Fields


def find_cells(fields: Fields, config: EmbedTrackConfig, *, min_size: int) -> tuple[np.ndarray, list[int]]:
    """Return the labels (*S), and the flat pixel index of the seed of each label, before holes are filled."""
    places = estimated(fields)
    multiplier = smoothed_multipliers(fields, config)
    foreground = fields.seediness > np.float32(config.foreground_threshold)
    waiting = candidates(places, foreground, fields, config)

    labels = np.zeros(fields.shape, dtype=np.int32)
    best = np.zeros(fields.shape, dtype=np.float32)  # affinity of each pixel to its cell
    tried = np.zeros(fields.shape, dtype=np.float32)  # and to the best seed that made no cell
    seeds: list[int] = []
    order = np.argsort(-fields.seediness, axis=None, kind="stable")  # equal seediness: the first pixel first
    for pixel in order[waiting.reshape(-1)[order]]:
        seed = np.unravel_index(pixel, fields.shape)
        if not waiting[seed]:
            continue
        waiting[seed] = False
        affinity = affinity_to(seed, places, multiplier)
        near = foreground & (affinity > np.float32(config.affinity_threshold))
        proposal = near & (affinity > best)
        counted = proposal & (affinity > tried)
        size, n_shared = np.count_nonzero(counted), np.count_nonzero(labels[near])
        if size > 0 and size >= min_size and n_shared < config.max_overlap * size:
            seeds.append(int(pixel))
            labels[proposal] = len(seeds)
            best[proposal] = affinity[proposal]
            waiting[proposal] = False
        elif "rejected_proposals" in config.compat:
            best[proposal] = affinity[proposal]
        else:
            tried[counted] = affinity[counted]
    if config.largest_part:
        labels = largest_parts(labels, len(seeds))
    return without_small(labels, seeds, min_size)


def largest_parts(labels: np.ndarray, n: int) -> np.ndarray:
    """Of each cell keep the largest connected part, of equal ones the first."""
    whole = np.zeros_like(labels)
    for cell in range(1, n + 1):
        parts, found = ndimage.label(labels == cell, structure=np.ones((3,) * labels.ndim))
        if found:
            whole[parts == 1 + np.argmax(np.bincount(parts.reshape(-1))[1:])] = cell
    return whole


def estimated(fields: Fields) -> np.ndarray:
    """Return where each pixel sees the centre of its cell, (D, *S) normalised."""
    at = positions(fields.shape, fields.unit).numpy()
    return at + fields.offset


def smoothed_multipliers(fields: Fields, config: EmbedTrackConfig) -> np.ndarray:
    after = "smooth_multipliers" in config.compat
    maps = (
        multipliers(torch.from_numpy(fields.bandwidth), config.bandwidth_scale).numpy() if after else fields.bandwidth
    )
    smooth = np.stack([ndimage.uniform_filter(m.astype(np.float64), 3, mode="mirror") for m in maps]).astype(np.float32)
    return smooth if after else multipliers(torch.from_numpy(smooth), config.bandwidth_scale).numpy()


def candidates(places: np.ndarray, foreground: np.ndarray, fields: Fields, config: EmbedTrackConfig) -> np.ndarray:
    """Return (*S) bool: the pixels into whose neighbourhood enough foreground pixels point."""
    votes = np.zeros(fields.shape, dtype=int)
    for pixel in np.argwhere(foreground):
        place = [round(float(places[(a, *pixel)] / np.float32(u))) for a, u in enumerate(fields.unit)]
        if all(0 <= p < n for p, n in zip(place, fields.shape, strict=True)):
            votes[tuple(place)] += 1
    around = ndimage.convolve(votes, np.ones((3,) * votes.ndim, dtype=int), mode="constant")
    needed = config.min_votes * 3 ** (votes.ndim - 2)
    return (around >= needed) & (fields.seediness > np.float32(config.seed_threshold))


def affinity_to(seed: tuple[np.intp, ...], places: np.ndarray, multiplier: np.ndarray) -> np.ndarray:
    one = (-1, *[1] * len(seed))
    centre, scale = places[(slice(None), *seed)].reshape(one), multiplier[(slice(None), *seed)].reshape(one)
    return affinities(torch.from_numpy(places), torch.from_numpy(centre), torch.from_numpy(scale)).numpy()


def without_small(labels: np.ndarray, seeds: list[int], min_size: int) -> tuple[np.ndarray, list[int]]:
    """Drop cells that later cells left too little of, and number the others from 1."""
    kept = [n for n in range(1, len(seeds) + 1) if np.count_nonzero(labels == n) >= max(min_size, 1)]
    renumbered = np.zeros_like(labels)
    for new, old in enumerate(kept, start=1):
        renumbered[labels == old] = new
    return renumbered, [seeds[n - 1] for n in kept]
