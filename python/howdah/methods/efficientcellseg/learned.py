"""What weights say of themselves: which maps their networks give, and the settings that they were trained with."""

from __future__ import annotations

import logging
import math
from typing import Any

from howdah.errors import WeightsError
from howdah.methods.efficientcellseg.config import EfficientCellSegConfig
from howdah.nn.checkpoint import Weights
from howdah.nn.learned import changed, given, plain, table

__all__ = ["MAPS", "continued", "diameter_of", "maps_of", "settled"]

MAPS = ("cell", "centre")
NETWORK = ("encoder", "filters", "centres")
PICTURE = (
    "percentiles",
    "enlarge",
    "fit_frame",
    "colour",
    "colour_threshold",
    "colour_area",
    "colour_blur",
    "colour_clip",
    "colour_tiles",
    "compat",
)
SQUARES = ("input_size", "grid")  # other ones make no difference that matters, but where frames are squeezed into them
FOUND = (
    "threshold",
    "split",
    "split_smoothing",
    "split_distance",
    "centre_threshold",
    "stack",
    "stack_overlap",
    "min_size",
    "fill_holes",
)
DIAMETER = 32.0  # pixels, enlarged; what training enlarges cells to

log = logging.getLogger("howdah")


def maps_of(weights: Weights) -> list[tuple[str, ...]]:
    """Return, for each member of the weights, what the channels of its result are: ``cell`` or ``centre``.

    Raises:
        WeightsError: The weights hold no network, or none that finds cells, or their header is damaged.
    """
    if not weights.members:
        raise WeightsError("The weights hold no network. Train again, or use another file.")
    noted: Any = table(weights, "network").get("outputs")
    good = isinstance(noted, list | tuple) and len(noted) == len(weights.members)
    if not good or any(
        not isinstance(one, list | tuple) or not one or any(name not in MAPS for name in one) for one in noted
    ):
        raise WeightsError(
            f"The header of the weights is damaged: 'outputs' is {noted!r:.80}; for each of the {len(weights.members)} networks a list "
            f"of {' and '.join(MAPS)} is needed. Train again, or use another file."
        )
    found = [tuple(one) for one in noted]
    if not any("cell" in one for one in found):
        raise WeightsError(
            "The weights find only centres, not cells. Use a file that holds both networks (trained with centres = second)."
        )
    return found


def settled(weights: Weights, config: EfficientCellSegConfig | None = None) -> EfficientCellSegConfig:
    """Return the settings to predict with.

    The form of the network is always that of the weights. How the picture is made, and what the search found, come from the weights
    where the settings do not name them, or leave them automatic.

    Args:
        weights: Their header has ``config``, the settings of the training, and ``resolved``, what was decided from the data.
        config: Settings of the user; None: the defaults.

    Raises:
        WeightsError: The header holds no valid settings.
    """
    config = config or EfficientCellSegConfig.of({})
    learned = _learned(weights)
    changes: dict[str, Any] = {}
    squeezed = learned.get("fit_frame", False)
    for name in (*NETWORK, *PICTURE, *SQUARES, *FOUND):
        value = learned.get(name)
        if value is None:
            continue
        asked = name not in NETWORK and given(config, name)
        if not asked:
            changes[name] = value
        elif (name in PICTURE or (squeezed and name in SQUARES)) and plain(getattr(config, name)) != plain(value):
            log.warning(
                "The weights were trained with %s = %s, but %s is set; cells may be missed. "
                "Leave the setting out to use that of the training.",
                name, plain(value), plain(getattr(config, name)),
            )  # fmt: skip
    return changed(config, changes, "the header of the weights")


def continued(start: Weights, config: EfficientCellSegConfig) -> EfficientCellSegConfig:
    """Return the settings to go on training with: the form of the network, and how its pictures are made, where the settings leave it open.

    Args:
        start: The weights to go on from, with their header.
        config: Settings of the user.
    """
    learned = _learned(start)
    changes = {name: learned[name] for name in NETWORK if learned.get(name) is not None}
    changes |= {
        name: learned[name]
        for name in (*PICTURE, *SQUARES)
        if learned.get(name) is not None and not given(config, name)
    }
    return changed(config, changes, "the header of the weights to start from")


def diameter_of(weights: Weights, config: EfficientCellSegConfig) -> float:
    """Return how wide a cell of the training is, in pixels of the frame; where the weights do not say, what the network sees best.

    Args:
        weights: Their header may have ``cells`` with ``diameter``.
        config: Settings of :func:`settled`.
    """
    noted = table(weights, "cells").get("diameter")
    if noted is None:
        return DIAMETER / (config.enlarge or 1)
    if not isinstance(noted, int | float) or not math.isfinite(noted) or noted <= 0:
        raise WeightsError(
            f"The header of the weights is damaged: the diameter of a cell is {noted!r:.80}. Train again, or use another file."
        )
    return float(noted)


def _learned(weights: Weights) -> dict[str, Any]:
    """Settings in a header: what was decided from the data wins over what was set, and the form of the network over both."""
    found = {**table(weights, "config"), **table(weights, "resolved")}
    form = table(weights, "network")
    return found | {name: form[name] for name in NETWORK if name in form}
