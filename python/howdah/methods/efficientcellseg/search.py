"""Search of the settings that make cells of maps, on the cells of training (paper, section 3.3).

The paper tunes what follows the network for each data set; here this is one documented search. It must only ever see the training
part, or the part of it that was held out: settings that were chosen on test data make its score worthless.

The search goes along one setting after the other, in the order of ``CANDIDATES``, keeps the best value, and goes round once more
if anything changed. It is deterministic; of equal values the one that was there stays. Lengths are tried as shares of a cell's
diameter. Few cells say little: below ``FEW_CELLS`` nothing is searched, a value must gain ``STEP`` to be taken, and all
together must gain ``GAIN`` of SEG, else the defaults stay. Predictions are given, so a try costs only the finding of cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from howdah.errors import DataError
from howdah.methods.efficientcellseg.config import EfficientCellSegConfig
from howdah.methods.efficientcellseg.instances import DEFAULTS, LENGTHS, find_cells, in_finest
from howdah.methods.efficientcellseg.maps import Maps
from howdah.metrics.segmentation import overlaps

Bool = npt.NDArray[np.bool_]
I32 = npt.NDArray[np.int32]
Vector = tuple[float, float, float]
Truth = tuple[Maps, I32, Bool | None]

__all__ = ["Searched", "search"]

FEW_CELLS = 5
GAIN = 0.03  # of SEG, over the defaults: less, on what was learned from, was no gain on other images
STEP = 0.002  # of the judgement, for one setting
FALSE_COST = (
    0.1  # SEG does not count false cells; so much of their share is taken off it, else crumbs would cost nothing
)
KNOWN = 0.5  # a found cell counts if so much of it lies where the truth is known
MOST_VOXELS = 1 << 25  # in all; what comes after is not looked at, but for the first frame
CANDIDATES: dict[str, tuple[Any, ...]] = {
    "split": ("components", "distance", "centres"),
    "threshold": (0.5, 0.4, 0.6, 0.3, 0.7),
    "split_smoothing": (0.1, 0.05, 0.15, 0.2),
    "split_distance": (0.5, 0.35, 0.7),
    "centre_threshold": (0.3, 0.2, 0.4, 0.1, 0.5),
    "stack": ("volume", "planes"),
}


@dataclass(frozen=True)
class Searched:
    """What a search found.

    Attributes:
        settings: Found values by name of the setting, JSON-ready; only of settings that were left open and whose value was
            worth it. Use ``config.model_copy(update=settings)``.
        before: SEG with the defaults, 0 to 1; NaN where there was nothing to score.
        after: SEG with the found settings.
        n_cells: Outlined cells that were scored.
        evaluations: Settings that were tried.
    """

    settings: dict[str, Any]
    before: float
    after: float
    n_cells: int
    evaluations: int

    def to_dict(self) -> dict[str, Any]:
        """Return all of it by name, for the header of weights and the record."""
        return {
            "settings": self.settings,
            "before": self.before,
            "after": self.after,
            "n_cells": self.n_cells,
            "evaluations": self.evaluations,
        }


def search(
    truths: Iterable[Truth],
    config: EfficientCellSegConfig,
    *,
    voxel_size: Vector = (1.0, 1.0, 1.0),
    diameter: float,
) -> Searched:
    """Search the settings that find the outlined cells of training best, by SEG. Never give it test data.

    Args:
        truths: Of each annotated frame, or part of one: its maps, its outlined cells (Z, Y, X), and which voxels are known
            (None: all). Sparse outlines: all outlined cells are scored, and found cells count as false only where the truth is
            known. Planes of which nothing is known are left out, of outlined and of found cells alike. The maps must be of
            frames, or parts, that the network has not learned from, if that can be.
        config: What is not None there is kept. Without ``search`` only the SEG of the defaults is told.
        voxel_size: Of (z, y, x); only ratios count.
        diameter: As of :func:`.find_cells`.

    Raises:
        ConfigError: As of :func:`.find_cells`.
        DataError: Outlines, known voxels and maps differ in shape.
    """
    trial = _Trial(_chosen(truths), config, voxel_size, diameter)
    start = trial.judged({})
    if not config.search or start.n_cells < FEW_CELLS:
        return Searched({}, start.seg, start.seg, start.n_cells, 1)
    found: dict[str, Any] = {}
    best = start
    for _ in range(2):
        before = dict(found)
        for name in CANDIDATES:
            for value in trial.values(name, found):
                settings = trial.without_defaults({**found, name: value})
                judged = trial.judged(settings)
                if judged.value > best.value + (STEP if settings else 0.0):
                    found, best = settings, judged
        if found == before:
            break
    if best.seg < start.seg + GAIN:
        found, best = {}, start
    return Searched(found, start.seg, best.seg, start.n_cells, len(trial.known))


class _Judged(NamedTuple):
    """SEG over the outlined cells, their number, and SEG less what false cells cost."""

    seg: float
    n_cells: int
    value: float


@dataclass(eq=False)
class _Trial:
    """Tries settings on some frames; what was tried is known."""

    truths: Sequence[Truth]
    config: EfficientCellSegConfig
    voxel_size: Vector
    diameter: float
    known: dict[tuple[tuple[str, Any], ...], _Judged] = field(default_factory=dict)

    def values(self, name: str, found: dict[str, Any]) -> list[Any]:
        """Return the values to try of a setting: none if the person settled it, or it does not matter here."""
        if getattr(self.config, name) is not None:
            return []
        split = found.get("split") or self.config.split or self._default("split")
        centres = all(maps.centre is not None for maps, _, _ in self.truths)
        volumes = any(maps.shape[0] > 1 for maps, _, _ in self.truths)
        matters = {
            "split_smoothing": split != "components",
            "split_distance": split != "components",
            "centre_threshold": split == "centres",
            "stack": volumes,
        }
        if not matters.get(name, True):
            return []
        values = [v for v in CANDIDATES[name] if v != "centres" or centres]
        return [self._length(v) for v in values] if name in LENGTHS else values

    def without_defaults(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Return the settings that differ from what would be taken anyway, and that matter."""
        kept = {name: value for name, value in settings.items() if value != self._default(name)}
        return {name: value for name, value in kept.items() if value in self.values(name, kept)}

    def judged(self, settings: dict[str, Any]) -> _Judged:
        """Find the cells of all frames with some settings, and score them."""
        key = tuple(sorted(settings.items()))
        if key not in self.known:
            self.known[key] = self._judged(self.config.model_copy(update=settings))
        return self.known[key]

    def _default(self, name: str) -> Any:
        if name == "split":
            return "centres" if all(maps.centre is not None for maps, _, _ in self.truths) else "distance"
        value = DEFAULTS[name]
        return self._length(value) if name in LENGTHS else value

    def _length(self, share: float) -> float:
        """Return a share of a diameter, in pixels of the finest axis."""
        flat = all(maps.shape[0] == 1 for maps, _, _ in self.truths)
        return round(share * in_finest(self.diameter, self.voxel_size[1:] if flat else self.voxel_size), 3)

    def _judged(self, config: EfficientCellSegConfig) -> _Judged:
        scores, false, n_found = [np.empty(0)], 0, 0
        for maps, labels, known in self.truths:
            cells = find_cells(maps, config, voxel_size=self.voxel_size, diameter=self.diameter)
            there = (
                slice(None) if known is None else known.any(axis=(1, 2))
            )  # a cell that is outlined in one plane counts there
            predicted = cells.labels[there]
            table = overlaps(labels[there], predicted)
            scores.append(table.jaccard())
            right = np.zeros(len(table.predicted_size), dtype=bool)
            right[table.predicted[2 * table.shared > table.truth_size[table.truth]]] = True
            counts = np.ones(len(right), dtype=bool)
            if known is not None:
                inside = np.bincount(predicted[known[there]], minlength=len(cells) + 1)[table.predicted_label]
                counts = inside >= KNOWN * table.predicted_size
            false += int(np.count_nonzero(~right & counts))
            n_found += int(np.count_nonzero(right))
        all_scores = np.concatenate(scores)
        if not len(all_scores):
            return _Judged(float("nan"), 0, float("nan"))
        seg = float(all_scores.mean())
        return _Judged(seg, len(all_scores), seg - FALSE_COST * false / max(false + n_found, 1))


def _chosen(truths: Iterable[Truth]) -> list[Truth]:
    """Return the first frames, up to so many voxels, after a look at their shapes."""
    chosen: list[Truth] = []
    voxels = 0
    for maps, labels, known in truths:
        if labels.shape != maps.shape or (known is not None and known.shape != maps.shape):
            raise DataError(
                f"Searching settings failed: a prediction has shape {maps.shape}, but its outlines {labels.shape}"
                + ("." if known is None else f", and what is known of them {known.shape}.")
            )
        voxels += labels.size
        if chosen and voxels > MOST_VOXELS:
            break
        chosen.append((maps, labels, known))
    return chosen
