"""A movie seen through a trained network: opens both, and says where they do not fit together."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from howdah.errors import ConfigError, DataError
from howdah.methods.tap.config import TapConfig
from howdah.pipeline.detection import Job, _needs_torch
from howdah.pipeline.sources import Source
from howdah.pipeline.tap_movies import Opened, open_movie, opened_of
from howdah.pipeline.weights_of import read_weights_of

if TYPE_CHECKING:
    from howdah.methods.tap.movies import Frames
    from howdah.methods.tap.predict import Embedder
    from howdah.nn.checkpoint import Weights

F64 = npt.NDArray[np.float64]
PathLike = str | os.PathLike[str]
Sections = Mapping[str, Mapping[str, Any]]

__all__ = ["Seen", "in_pixels", "in_world", "look", "look_at", "refuse_input"]


@dataclass(frozen=True, eq=False)
class Seen:
    """A movie and the network that looks at it.

    Attributes:
        opened: The movie.
        frames: Its frames, as the network sees them.
        embedder: The network.
        file: The weights.
    """

    opened: Opened
    frames: Frames
    embedder: Embedder
    file: Path

    @property
    def config(self) -> TapConfig:
        """The settings, those of the weights where a person gave none."""
        return self.embedder.config

    @property
    def inputs(self) -> dict[str, Path]:
        """The files, for the record."""
        return {**self.opened.source.inputs, "weights": self.file}

    @property
    def facts(self) -> dict[str, Any]:
        """What the record says of the network and where it computes."""
        return {"settings_used": self.config.model_dump(mode="json"), "device": str(self.embedder.place.device)}

    def times(self) -> list[int]:
        """Frames that were asked for and have the later frames of their sample."""
        there, later = set(self.frames.times), range(1, int(self.embedder.form["frames"]))
        samples = [[delta * n for n in later] for delta in self.config.delta]
        return [t for t in self.opened.frames if any(all(t + step in there for step in steps) for steps in samples)]


def look(job: Job, weights: PathLike, *, settings: Sections) -> Seen:
    """Open a movie and the weights of a network.

    Args:
        job: A movie, a project that names its movie, or a folder of images. ``setup``: the channel, of a network that sees one.
        weights: From training; of a classifier the network in it; or published ones.
        settings: ``{"tap": {...}}``; what is not given is as the weights were trained.

    Raises:
        ConfigError: The network sees other channels than were chosen.
        WeightsError, DataError, BdvIoError: As the sentence says.
    """
    loaded = read_weights_of("tap", Path(weights))
    config = _with_channels(TapConfig.of(settings.get("tap", {})), loaded, Path(weights))
    return _seen(open_movie(job, config), loaded, config, Path(weights))


def look_at(source: Source, frames: Sequence[int], weights: Weights, *, file: Path, settings: Sections) -> Seen:
    """Look at the movie of a source that is open, with weights that are read; see :func:`look`."""
    config = _with_channels(TapConfig.of(settings.get("tap", {})), weights, file)
    return _seen(opened_of(source, frames, config), weights, config, file)


def _seen(opened: Opened, loaded: Weights, config: TapConfig, file: Path) -> Seen:
    with _needs_torch():
        from howdah.methods.tap.movies import Frames
        from howdah.methods.tap.predict import Embedder
        from howdah.methods.tap.weights import network_part

        embedder = Embedder(network_part(loaded), config)
    if not opened.frames:
        raise DataError(
            f"None of the frames that were asked for is there in {opened.movie.name}. Name others: --frames"
        )
    return Seen(opened, Frames(opened.movie, embedder.config), embedder, file)


def refuse_input(target: Path, *files: PathLike | None) -> None:
    """Refuse to write weights over those that they are made from: the same command would find other ones the next time.

    Raises:
        ConfigError: The target is one of the files.
    """
    if any(file is not None and Path(file).resolve() == target.resolve() for file in files):
        raise ConfigError(f"Writing to {target} is not possible: it is an input. Name another target.")


def _with_channels(config: TapConfig, loaded: Weights, file: Path) -> TapConfig:
    """Choose the setups that are shown to a network of several channels, where a person chose none: those of its training."""
    n = int(loaded.header["network"]["channels"])
    given = config.channels
    if given is None and n > 1:
        taught = loaded.header.get("resolved", {}).get("channels")
        fits = isinstance(taught, Sequence) and len(taught) == n
        config = config.but(channels=tuple(taught) if fits else tuple(range(n)))
    elif given is not None and len(given) != n:
        raise ConfigError(
            f"{len(given)} channels were chosen, but the network in {file} was trained on {n}. Choose as many: --channels"
        )
    return config


def in_pixels(seen: Opened, t: npt.NDArray[Any], centre: F64, covariance: F64) -> tuple[F64, F64]:
    """Return centres (N, 3) and covariances (N, 3, 3), (z, y, x), in pixels of the movie, of those in world units."""
    centre, covariance = np.array(centre, dtype=np.float64), np.array(covariance, dtype=np.float64)
    image, setup = seen.source.image, seen.setups[0]
    for time in np.unique(t).tolist():
        if not 0 <= time < image.n_frames or time in seen.movie.missing:
            continue
        rows = np.flatnonzero(t == time)
        linear = np.linalg.inv(image.affine(time, setup))
        centre[rows] = centre[rows] @ linear[:3, :3].T + linear[:3, 3]
        covariance[rows] = linear[:3, :3] @ covariance[rows] @ linear[:3, :3].T
    return centre, covariance


def in_world(seen: Opened, t: npt.NDArray[Any], centre: F64, *, shrink: int = 1) -> F64:
    """Return centres (N, 3) in world units, of those in pixels of the movie, or of it shrunk along y and x."""
    factor = np.array([1.0, shrink, shrink])
    pixels = (np.asarray(centre, dtype=np.float64) + 0.5) * factor - 0.5
    world = np.array(pixels)
    image, setup = seen.source.image, seen.setups[0]
    for time in np.unique(t).tolist():
        rows = np.flatnonzero(t == time)
        affine = image.affine(time, setup)
        world[rows] = pixels[rows] @ affine[:3, :3].T + affine[:3, 3]
    return world
