"""What weights say of themselves: the form of their network, and the settings that they were trained with."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Self

from howdah.errors import WeightsError
from howdah.methods.embedtrack.config import EmbedTrackConfig
from howdah.nn.checkpoint import Weights
from howdah.nn.learned import given, plain, table

__all__ = ["Layout", "continued", "settled"]

MEANING = ("grid_size", "bandwidth_scale", "enlarge")
IMAGE = ("percentiles",)
DECIDED = ("min_size",)

log = logging.getLogger("howdah")


@dataclass(frozen=True)
class Layout:
    """The form of a network.

    Attributes:
        n_dims: 2 or 3 spatial axes.
        keep_axials: In 3D, how many poolings leave z alone.
    """

    n_dims: int
    keep_axials: int

    @classmethod
    def of(cls, weights: Weights) -> Self:
        """Read the form from the header, or from the shapes of published weights.

        Raises:
            WeightsError: It is the network of images with several channels, or the header is damaged.
        """
        first = weights.members[0]["encoder.initial_block.conv.weight"]
        noted = table(weights, "network")
        n_dims, keep_axials = first.ndim - 2, noted.get("keep_axials") or 0
        if not isinstance(keep_axials, int) or not 0 <= keep_axials <= 3 or noted.get("n_dims", n_dims) != n_dims:
            raise WeightsError(
                f"The header of the weights is damaged: 'network' is {dict(noted)!r:.80}, which does not fit their "
                f"{n_dims}D network. Train again, or use another file."
            )
        if first.shape[1] != 1:
            raise WeightsError(
                f"The weights are for images with {first.shape[1]} channels, but movies are read one channel at a time. "
                "Use weights for one channel."
            )
        return cls(n_dims, keep_axials)


def settled(weights: Weights, config: EmbedTrackConfig | None = None) -> EmbedTrackConfig:
    """Return the settings to predict with.

    What gives the network's numbers their meaning (``grid_size``, ``bandwidth_scale``) is always that of the training.
    ``percentiles`` and ``min_size`` come from the training where the settings leave them at their default.

    Args:
        weights: Their header has ``config``, the settings of the training, and ``resolved``, what was decided from the data.
        config: Settings of the user; None: the defaults.

    Raises:
        WeightsError: The header holds no valid settings.
    """
    config = config or EmbedTrackConfig.of({})
    learned = {**table(weights, "config"), **table(weights, "resolved")}
    changes: dict[str, Any] = {}
    for name in (*MEANING, *IMAGE, *DECIDED):
        value = learned.get(name)
        if value is None:
            continue
        asked = given(config, name)
        differs = asked and plain(getattr(config, name)) != plain(value)
        if differs and name in MEANING:
            log.warning(
                "The weights were trained with %s = %s; that is used, for %s = %s would give their numbers another meaning.",
                name, value, name, getattr(config, name),
            )  # fmt: skip
        elif differs and name in IMAGE:
            log.warning(
                "The weights were trained with %s = %s, but %s are set; cells may be missed. "
                "Leave the setting out to use that of the training.",
                name, value, plain(getattr(config, name)),
            )  # fmt: skip
        if not asked or name in MEANING:
            changes[name] = value
    if not changes:
        return config
    return EmbedTrackConfig.of({**config.model_dump(), **changes}, source="the header of the weights")


def continued(start: Weights, config: EmbedTrackConfig) -> EmbedTrackConfig:
    """Return the settings to go on training with: what the numbers of a network mean, where the settings leave it at its default.

    That is ``grid_size``, ``bandwidth_scale``, ``enlarge``, ``percentiles``, and in 3D ``keep_axials``, which no shape of a weight tells.

    Args:
        start: The weights to go on from, with their header.
        config: Settings of the user.
    """
    learned = {**table(start, "config"), **table(start, "resolved")}
    learned["keep_axials"] = table(start, "network").get("keep_axials")
    changes = {
        name: learned[name]
        for name in (*MEANING, *IMAGE, "keep_axials")
        if learned.get(name) is not None and not given(config, name)
    }
    return EmbedTrackConfig.of(
        {**config.model_dump(exclude_unset=True), **changes}, source="the header of the weights to start from"
    )
