"""Which spots divide, by a classifier that learned it from a few labels, as a feature for linking.

A classifier that was trained with classes of equal weight says how a spot looks, not how often such a thing happens. What is written
is a probability: the share of divisions on this movie is taken as that which explains what the classifier says of all its spots (the
fixed point of Saerens, Latinne and Decaestecker 2002, 10.1162/089976602753284446).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bdv_io import Tracks
from howdah.errors import ConfigError, DataError
from howdah.linking import LinkingConfig
from howdah.linking.evidence import plain_name
from howdah.methods.tap.head_config import HeadConfig
from howdah.pipeline.detection import _needs_torch
from howdah.pipeline.sources import Source
from howdah.pipeline.tap_features import DIVISION, own_tap_names, with_values
from howdah.pipeline.tap_network import in_pixels, look_at
from howdah.progress import Progress, Steps

if TYPE_CHECKING:
    from howdah.nn.checkpoint import Weights
    from howdah.pipeline.tap_network import Seen

PathLike = str | os.PathLike[str]
Sections = Mapping[str, Mapping[str, Any]]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = [
    "BLOCK",
    "Look",
    "asked_of",
    "division_classifier",
    "division_probabilities",
    "for_movie",
    "learned_share",
    "told_divisions",
    "with_divisions",
    "with_divisions_told",
]

CLASS = "division"
BLOCK = 16  # frames between two signs of progress
ROUNDS, SETTLED = 200, 1e-6
RAREST = 1e-4
POOR = 0.5  # average precision

log = logging.getLogger("howdah")


def with_divisions(config: LinkingConfig, classifier: PathLike | None) -> LinkingConfig:
    """Return the settings of linking for a classifier: ``division_feature`` is what it writes.

    Raises:
        ConfigError: Another feature was chosen, or the solver knows no probabilities.
    """
    if classifier is None:
        return config
    if config.division_feature and plain_name(config.division_feature) != plain_name(DIVISION):
        raise ConfigError(
            f"Linking with the classifier {classifier} and with the feature '{config.division_feature}' at once is not possible. Leave "
            "out one of them: --divisions or --division-feature."
        )
    return config.but(division_feature=DIVISION)


def told_divisions(source: Source, tracks: Tracks, classifier: PathLike, *, settings: Sections) -> Steps[Tracks]:
    """Return the annotation with the spot feature "TAP division": how likely each spot divides before the next frame.

    Args:
        source: The movie.
        tracks: The spots; those of all frames are asked about.
        classifier: The file that ``howdah tap learn --divisions`` wrote.
        settings: ``{"tap": {...}}``; what is not given is as the classifier was trained.

    Raises:
        DataError: The classifier has no class "division".
        WeightsError: The file is damaged, or no classifier.
    """
    told = division_classifier(classifier)
    tracks, rows = asked_of(tracks, told, file=Path(classifier))
    likely = yield from division_probabilities(
        source, tracks, told, rows=rows, file=Path(classifier), settings=settings
    )
    return with_divisions_told(tracks, rows, likely)


def asked_of(tracks: Tracks, classifier: Weights, *, file: Path) -> tuple[Tracks, I64]:
    """Return the annotation with TAP's features under their own names, and the rows of the spots that can be asked about; warn of a
    poor classifier."""
    sentence = doubtful(classifier.header)
    if sentence:
        log.warning("%s: %s", file, sentence)
    return own_tap_names(tracks), np.flatnonzero(np.isfinite(tracks.centre).all(axis=1))


def with_divisions_told(tracks: Tracks, rows: I64, likely: F64) -> Tracks:
    """Return the annotation with the feature: ``likely`` (R,) of some rows."""
    return with_values(tracks, DIVISION, "", np.arange(tracks.n_spots), _spread(likely, rows, tracks.n_spots))


def division_classifier(path: PathLike) -> Weights:
    """Read a classifier that tells divisions.

    Raises:
        DataError: It has no class "division".
        WeightsError: The file is missing, damaged, or holds no classifier.
    """
    with _needs_torch():
        from howdah.methods.tap.classify import classes_of, read_classifier

    weights = read_classifier(path)
    classes = classes_of(weights)
    if CLASS not in classes:
        raise DataError(
            f"The classifier {path} tells nothing of divisions: its classes are {', '.join(classes)}. Learn one from a project with "
            f"divisions (howdah tap learn PROJECT --divisions), or from spots with the tag '{CLASS}'."
        )
    return weights


def division_probabilities(
    source: Source, tracks: Tracks, classifier: Weights, *, rows: I64, file: Path, settings: Sections
) -> Steps[F64]:
    """Return the (R,) probability that each spot of ``rows`` divides, NaN where the classifier cannot see it.

    Args:
        source: The movie.
        tracks: The spots.
        classifier: From :func:`division_classifier`.
        rows: (R,) the spots that are asked about.
        file: What to call the classifier.
        settings: ``{"tap": {...}}``.
    """
    look = Look.at(source, classifier, file=file, settings=settings)
    time, found = tracks.t[rows].astype(np.int64), np.full(len(rows), np.nan)
    present = np.unique(time)
    yield Progress("divisions", 0, len(present), message=look.seen.embedder.place.sentence)
    for start in range(0, len(present), BLOCK):
        part = present[start : start + BLOCK]
        here = np.flatnonzero(np.isin(time, part))
        found[here] = look.told(time[here], tracks.centre[rows[here]], tracks.covariance[rows[here]])
        yield Progress("divisions", start + len(part), len(present))
    return for_movie(found, prior=learned_share(classifier.header), trust=trust_in(classifier.header))


@dataclass(frozen=True)
class Look:
    """A classifier that looks at a movie.

    Attributes:
        seen: The movie as the classifier sees it. classifier: From :func:`division_classifier`.
    """

    seen: Seen
    classifier: Weights

    @classmethod
    def at(cls, source: Source, classifier: Weights, *, file: Path, settings: Sections) -> Look:
        """Look at all frames of a source; arguments as in :func:`division_probabilities`."""
        frames = list(range(source.image.n_frames))
        return cls(look_at(source, frames, classifier, file=file, settings=settings), classifier)

    def told(self, t: I64, centre: F64, covariance: F64) -> F64:
        """Return the (N,) raw probability that each spot divides, as the classifier was trained; NaN where it cannot see it.

        Args:
            t: (N,) frames; all spots of a frame at once, and up to :data:`BLOCK` frames.
            centre: (N, 3) world.
            covariance: (N, 3, 3), squared world units.
        """
        with _needs_torch():
            from howdah.methods.tap.classify import classes_of, predict_classes

        place = in_pixels(self.seen.opened, t, centre, covariance)
        likely = predict_classes(self.classifier, self.seen.frames, t, *place, config=self.seen.config)
        return likely[:, classes_of(self.classifier).index(CLASS)].astype(np.float64)


def trust_in(header: Mapping[str, Any]) -> float:
    """Return how far a classifier's odds count, 0 to 1: by what its average precision was above chance in its cross-validation; 1 where it
    had none. A poor one is sure of itself all the same."""
    known = (header.get("metrics") or {}).get(f"average_precision {CLASS}")
    if known is None:
        return 1.0
    labels: Mapping[str, int] = header.get("data", {}).get("labels", {})
    chance = min(labels.get(CLASS, 0) / max(sum(labels.values()), 1), 1 - RAREST)
    return float(np.clip((known - chance) / (1 - chance), 0, 1))


def doubtful(header: Mapping[str, Any]) -> str:
    """Return a sentence where a classifier was found to be too poor for linking in its cross-validation, else nothing."""
    known = (header.get("metrics") or {}).get(f"average_precision {CLASS}")
    if known is None or known >= POOR:
        return ""
    return (
        f"The average precision of its divisions was {known:.2f} on frames that it had not learned from. Its word counts little, and "
        "links can get worse by it: compare with those without it, or label more divisions."
    )


def _spread(values: F64, rows: I64, n: int) -> F64:
    """Return (n,) with the values at some rows, NaN at all others: what an earlier classifier said does not stay."""
    column = np.full(n, np.nan)
    column[rows] = values
    return column


def learned_share(header: Mapping[str, Any]) -> float:
    """Return the share of divisions that a classifier reckons with, by what it was trained on."""
    task = header["task"]
    if HeadConfig.of(task.get("settings", {}), source="the header of the classifier").balanced:
        return 1.0 / len(task["classes"])
    labels: Mapping[str, int] = header.get("data", {}).get("labels", {})
    return labels.get(CLASS, 1) / max(sum(labels.values()), 2)


def for_movie(probability: F64, *, prior: float, trust: float = 1.0) -> F64:
    """Return the (N,) probabilities with the share of divisions that a movie has, of those for the share ``prior``.

    The share is the one that is also the mean of the result; NaN stays, and counts for nothing.

    Args:
        probability: (N,).
        prior: The share that they are meant for.
        trust: The power that odds are taken to; see :func:`trust_in`.
    """
    known = np.isfinite(probability)
    if not known.any():
        return probability
    odds = np.clip(probability[known], 1e-9, 1 - 1e-9)
    odds = (odds / (1 - odds) * (1 - prior) / prior) ** trust  # how much likelier a division makes what is seen
    share = prior
    for _ in range(ROUNDS):
        mean = max(float((odds * share / (odds * share + 1 - share)).mean()), RAREST)
        done, share = abs(mean - share) < SETTLED * share, mean
        if done:
            break
    share = min(share, 1 - RAREST)
    found = np.full(len(probability), np.nan)
    found[known] = odds * share / (odds * share + 1 - share)
    return found
