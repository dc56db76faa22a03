"""Search of the settings that make cells of maps, on the cells of training (paper, section 3.3; never on test data)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from howdah.methods.efficientcellseg.config import EfficientCellSegConfig
from howdah.methods.efficientcellseg.maps import Maps

I32 = npt.NDArray[np.int32]
Bool = npt.NDArray[np.bool_]

__all__ = ["Searched", "search"]


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


def search(
    truths: Iterable[tuple[Maps, I32, Bool | None]],
    config: EfficientCellSegConfig,
    *,
    voxel_size: tuple[float, float, float] = (1.0, 1.0, 1.0),
    diameter: float,
) -> Searched:
    """Search the settings that find the outlined cells best, by SEG.

    Args:
        truths: Of each annotated frame, or part of one: its maps, its outlined cells (Z, Y, X), and which voxels are known
            (None: all).
        config: What is not None there is kept.
        voxel_size: Of (z, y, x); only ratios count.
        diameter: Of a typical cell, pixels of the finest axis.
    """
    raise NotImplementedError
