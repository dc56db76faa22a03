"""Weights of EmbedTrack: with which settings they were trained, and whether they fit a movie."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from howdah.errors import ConfigError, WeightsError
from howdah.methods.embedtrack.config import EmbedTrackConfig
from howdah.pipeline.sources import Source

if TYPE_CHECKING:
    from howdah.nn.checkpoint import Weights

__all__ = ["check_fits", "least_size", "settings_of"]

log = logging.getLogger("howdah")

LEAST_SIZE = 10  # pixels, where nothing is known of the sizes of cells, as in the published code


def settings_of(weights: Weights, path: Path, given: Mapping[str, Any]) -> EmbedTrackConfig:
    """Return the settings that a user gave; for published weights with what ``config.json`` beside them says of grid and sizes.

    What our own weights say of their training, the network itself takes from them
    (:func:`howdah.methods.embedtrack.learned.settled`).
    """
    found = {} if weights.header.get("config") else _published(path.with_name("config.json"))
    return EmbedTrackConfig.of({**found, **given}, source=f"the settings and config.json beside {path}")


def _published(file: Path) -> dict[str, Any]:
    """Read what the authors' training wrote beside its weights; empty if it is not there."""
    if not file.is_file():
        log.warning("There is no %s beside the published weights: grid and size of cells are the defaults.", file.name)
        return {}
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        found = {"grid_size": int(said["grid_dict"]["grid_y"])}
        least = said.get("train_dict", {}).get("min_mask_size")
        return found if least is None else {**found, "min_size": round(float(least) / 2)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"Reading {file} beside the published weights failed: {error!r}. It should hold grid_dict with grid_y, and train_dict with "
            "min_mask_size; remove it to go on with the defaults."
        ) from None


def least_size(config: EmbedTrackConfig) -> int:
    """Return the pixels that a cell has at least."""
    return LEAST_SIZE if config.min_size is None else config.min_size


def check_fits(weights: Weights, path: Path, source: Source, frames: list[int]) -> None:
    """Say if weights of one dimension are given a movie of another.

    Raises:
        WeightsError: They do not fit.
    """
    network = weights.header.get("network", {})
    n_dims, n_channels = int(network.get("n_dims", 2)), int(network.get("n_channels", 1))
    image, setup = source.image, source.setup
    depths = {image.shape(t, setup)[0] for t in frames if not image.is_missing(t, setup)}
    if n_channels != 1:
        raise WeightsError(
            f"The weights {path} are of a network for images of {n_channels} channels; Howdah tracks one channel (--setup)."
        )
    if n_dims == 2 and depths - {1}:
        raise WeightsError(
            f"The weights {path} were trained on 2D images, but frames of {image.path} have {max(depths)} planes. Train on volumes "
            "(howdah embedtrack train, with this movie), or track a maximum projection of the movie."
        )
    if n_dims == 3 and 1 in depths:
        raise WeightsError(
            f"The weights {path} were trained on volumes, but frames of {image.path} have one plane. Take weights that were trained "
            "on 2D images (howdah embedtrack train, with a 2D movie)."
        )
