"""How well a network does on crops with known cells: what chooses the best network of a training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from howdah.methods.embedtrack.cluster import find_cells
from howdah.methods.embedtrack.config import EmbedTrackConfig
from howdah.methods.embedtrack.fields import Fields
from howdah.methods.embedtrack.link import vote

I64 = npt.NDArray[np.int64]
Labels = npt.NDArray[Any]

__all__ = ["Verdict", "agreement", "fields_of", "right_links"]

MATCH = 0.5


@dataclass(frozen=True)
class Verdict:
    """Sums over crops: overlaps (IoU) of matched cells, numbers of true and of found cells; links that are right, and all."""

    overlap: float = 0.0
    true: int = 0
    found: int = 0
    right: int = 0
    links: int = 0

    def __add__(self, other: Verdict) -> Verdict:
        return Verdict(
            self.overlap + other.overlap,
            self.true + other.true,
            self.found + other.found,
            self.right + other.right,
            self.links + other.links,
        )

    @property
    def score(self) -> float:
        """0..1: mean overlap over true and found cells, and the share of right links with half the weight of it."""
        cells = 2 * self.overlap / max(self.true + self.found, 1)
        return cells if not self.links else (2 * cells + self.right / self.links) / 3


def fields_of(segmentation: torch.Tensor, tracking: torch.Tensor | None, unit: Sequence[float]) -> Fields:
    """Return the predictions of one image: segmentation (2 D + 1, *S), tracking (D, *S), before activation."""
    n_dims = len(unit)
    plain = segmentation.detach().float().cpu()
    return Fields(
        torch.tanh(plain[:n_dims]).numpy(),
        torch.sigmoid(plain[n_dims : 2 * n_dims]).numpy(),
        torch.sigmoid(plain[-1]).numpy(),
        None if tracking is None else torch.tanh(tracking.detach().float().cpu()).numpy(),
        tuple(unit),
    )


def agreement(fields: Fields, labels: Labels, config: EmbedTrackConfig, *, complete: bool) -> Verdict:
    """Compare the cells found in a crop with the true ones, (*S) labels.

    Args:
        fields: Predictions.
        labels: 0 is no cell.
        config: Thresholds of the clustering, and ``min_size``.
        complete: Whether cells where there are none count as wrong; else nobody knows.
    """
    n_true = len(np.unique(labels[labels > 0]))
    found = find_cells(fields, config, min_size=config.min_size or 0).labels
    there, here = labels.ravel().astype(np.int64), found.ravel().astype(np.int64)
    both = (there > 0) & (here > 0)
    width = int(here.max(initial=0)) + 1
    pairs, shared = np.unique(there[both] * width + here[both], return_counts=True)
    size_there, size_here = np.bincount(there), np.bincount(here)
    overlap = shared / (size_there[pairs // width] + size_here[pairs % width] - shared)
    matched = overlap > MATCH  # so one to one
    n_found = int(np.count_nonzero(size_here[1:])) if complete else int(matched.sum())
    return Verdict(float(overlap[matched].sum()), n_true, n_found)


def right_links(fields: Fields, labels: Labels, before: Labels, links: I64, config: EmbedTrackConfig) -> Verdict:
    """Say for how many links (K, 2) the true cells at t point to the true cell at t-1; those that the crop shows."""
    names = np.unique(labels[labels > 0])
    if fields.tracking is None or not len(names) or not len(links):
        return Verdict()
    ordered = np.where(labels > 0, np.searchsorted(names, labels) + 1, 0)
    shown = links[np.isin(links[:, 0], names) & np.isin(links[:, 1], before)]
    parent = vote(ordered, before, fields, config).parent
    return Verdict(right=int((parent[np.searchsorted(names, shown[:, 0])] == shown[:, 1]).sum()), links=len(shown))
