"""What weights say of themselves: the form of the network, and how the movies it learned from were made into samples."""

from __future__ import annotations

import logging
from typing import Any

from howdah.methods.tap.config import TapConfig
from howdah.nn.checkpoint import Weights
from howdah.nn.learned import changed, given, plain, table

__all__ = ["continued", "settled"]

NETWORK = ("dimensions", "features", "width", "frames", "head")
PICTURE = ("percentiles", "shrink")
LEFT_OPEN = ("delta", "channels", "crop_size", "crop_depth", "event_distance", "event_smoothing")

log = logging.getLogger("howdah")


def settled(weights: Weights, config: TapConfig | None = None) -> TapConfig:
    """Return the settings to predict with.

    The form of the network is always that of the weights. How frames are normalised and shrunk, and how far apart frames are, come from
    the weights where a person said nothing.

    Args:
        weights: Their header has ``config``, the settings of the training, and ``resolved``, what was decided from the data.
        config: Settings of the user; None: the defaults.

    Raises:
        WeightsError: The header is damaged. ConfigError: It holds no valid settings.
    """
    config = config or TapConfig.of({})
    learned = _learned(weights)
    changes = {name: learned[name] for name in NETWORK if name in learned}
    for name in (*PICTURE, *LEFT_OPEN):
        if learned.get(name) is None:
            continue
        if not given(config, name):
            changes[name] = learned[name]
        elif name in PICTURE and plain(getattr(config, name)) != plain(learned[name]):
            log.warning(
                "The weights were trained with %s = %s, but %s is set; what the network says may be wrong. "
                "Leave the setting out to use that of the training.",
                name, plain(learned[name]), plain(getattr(config, name)),
            )  # fmt: skip
    return changed(config, changes, "the header of the weights")


def continued(start: Weights, config: TapConfig) -> TapConfig:
    """Return the settings to go on training with: the form of the network, and how its pictures are made where the settings leave it
    open.

    Args:
        start: The weights to go on from, with their header.
        config: Settings of the user.
    """
    learned = _learned(start)
    changes = {name: learned[name] for name in NETWORK if name in learned}
    changes |= {name: learned[name] for name in PICTURE if learned.get(name) is not None and not given(config, name)}
    return changed(config, changes, "the header of the weights to start from")


def _learned(weights: Weights) -> dict[str, Any]:
    """Settings in a header: what was decided from the data wins over what was set, and the form of the network over both."""
    found = {**table(weights, "config"), **table(weights, "resolved")}
    form = table(weights, "network")
    found |= {name: form[name] for name in NETWORK if name in form}
    pools = form.get("pools")
    if isinstance(pools, list | tuple) and pools and isinstance(pools[0], list | tuple):
        found["dimensions"] = len(pools[0])
    return found
