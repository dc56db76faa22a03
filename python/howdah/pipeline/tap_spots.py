"""What TAP says of the spots of a project, as features that Mastodon and TrackMate show: the arrow of time, numbers, divisions.

Everything else of the project stays as it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io import Tracks
from howdah.errors import ConfigError, DataError
from howdah.pipeline.challenge_rules import Challenge
from howdah.pipeline.detection import Job, _needs_torch
from howdah.pipeline.record import fingerprint, recorded
from howdah.pipeline.results import check_targets, write_results
from howdah.pipeline.sources import open_source, parse_frames
from howdah.pipeline.tap_features import DIVISION, FEATURE, SCORE, own_tap_names, with_values
from howdah.pipeline.tap_link import division_classifier, division_probabilities
from howdah.pipeline.tap_network import Seen, in_pixels, look_at
from howdah.pipeline.weights_of import read_weights_of
from howdah.progress import Progress, Steps

PathLike = str | os.PathLike[str]
Sections = Mapping[str, Mapping[str, Any]]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = ["features_tap"]

BLOCK = 16  # frames between two signs of progress


def features_tap(
    job: Job,
    out: PathLike,
    *,
    settings: Sections,
    weights: PathLike | None = None,
    classifier: PathLike | None = None,
    also: Sequence[PathLike] = (),
) -> Steps[dict[str, Any]]:
    """Write what TAP says of each spot into a copy of the project.

    Args:
        job: A project that names its movie. ``frames``: only spots of these are described; the others keep the values that they have.
        out: The result; its ending chooses the format.
        settings: ``{"tap": {...}}``; what is not given is as the weights were trained.
        weights: Of a network. None: the one inside the classifier.
        classifier: Of divisions, as ``howdah tap learn --divisions`` writes. None: no "TAP division".
        also: Further results.

    Returns:
        The files, and how many spots have a "TAP score" (the mean evidence around the spot that time runs forward, logit: large where
        something is seen that never runs backward), a "TAP feature" z1, z2 ... (the mean features around it) and a "TAP division" (the
        probability that the spot divides before the frame that comes ``delta`` later). Spots outside of the image have none, those of
        the last frames no score and no division.

    Raises:
        ConfigError: Neither weights nor a classifier are given.
        DataError: There are no spots; the classifier tells nothing of divisions.
        WeightsError, BdvIoError: As the sentence says.
    """
    if weights is None and classifier is None:
        raise ConfigError("Describing spots needs a network. Give its weights (--weights), or a classifier.")
    source = open_source(job.source, image=job.image, setup=job.setup, hints=job.hints if job.hints.given else None)
    source = replace(source, tracks=own_tap_names(source.tracks))
    frames = parse_frames(job.frames, source.image.n_frames)
    tracks = source.tracks
    rows = np.flatnonzero(np.isin(tracks.t, frames) & np.isfinite(tracks.centre).all(axis=1))
    if not len(rows):
        raise DataError(
            f"There is no spot to describe in {source.files[0]}. Give a project with spots in these frames."
        )
    targets = check_targets([out, *also], source)
    file = Path(weights if weights is not None else classifier or "")
    told = None if classifier is None else division_classifier(classifier)
    loaded = read_weights_of("tap", file)
    seen = look_at(source, frames, loaded, file=file, settings=settings)
    inputs = {**seen.inputs, **({} if classifier is None else {"classifier": Path(classifier)})}
    used = {"tap": dict(settings.get("tap", {}))}
    with recorded(targets[0], "tap-features", inputs=inputs, settings=used) as record:
        yield Progress("describe", 0, 1, message=seen.embedder.place.sentence)
        values, score = yield from _described(seen, tracks, rows)
        for k, column in enumerate(values.T, start=1):
            tracks = with_values(tracks, FEATURE, f"z{k}", rows, column)
        tracks = with_values(tracks, SCORE, "", rows, score)
        counts = {"described": int(np.isfinite(values).all(axis=1).sum()), "scored": int(np.isfinite(score).sum())}
        if told is not None and classifier is not None:
            likely = yield from division_probabilities(
                source, tracks, told, rows=rows, file=Path(classifier), settings=settings
            )
            tracks = with_values(tracks, DIVISION, "", rows, likely)
            counts["divisions expected"] = round(float(np.nansum(likely)))
        written = write_results(targets, tracks, source, hints=job.hints, challenge=Challenge())
        facts = {"spots": tracks.n_spots, **counts}
        record.facts |= {
            **facts,
            **seen.facts,
            "weights": fingerprint(file),
            "results": [str(path) for path in written],
        }
    more = {"also": [str(path) for path in written[1:]]} if len(written) > 1 else {}
    return {"out": str(written[0]), **more, "weights": str(file), **facts}


def _described(seen: Seen, tracks: Tracks, rows: I64) -> Steps[tuple[F64, F64]]:
    """Return the mean features (R, F) and scores (R,) of the spots of some rows, NaN where there are none."""
    with _needs_torch():
        from howdah.methods.tap.pooled import spot_features

    n_features, delta = int(seen.embedder.form["features"]), min(seen.config.delta)
    values, score = np.full((len(rows), n_features), np.nan), np.full(len(rows), np.nan)
    time = tracks.t[rows].astype(np.int64)
    centre, covariance = in_pixels(seen.opened, time, tracks.centre[rows], tracks.covariance[rows])
    for done, n, here in _blocks(time):
        place = (time[here], centre[here], covariance[here])
        found, names = spot_features(seen.embedder, seen.frames, *place, delta=delta)
        values[here], score[here] = found[:, :n_features], found[:, names.index("score")]
        alone = here[~np.isfinite(values[here]).all(axis=1)]  # of the last frames, that have no later one
        if len(alone):
            place = (time[alone], centre[alone], covariance[alone])
            values[alone] = spot_features(seen.embedder, seen.frames, *place, delta=None)[0][:, :n_features]
        yield Progress("describe", done, n)
    return values, score


def _blocks(time: I64) -> Iterator[tuple[int, int, I64]]:
    """Parts of the spots, some frames each: how many frames are done then, of how many, and the rows."""
    frames = np.unique(time)
    for start in range(0, len(frames), BLOCK):
        part = frames[start : start + BLOCK]
        yield start + len(part), len(frames), np.flatnonzero(np.isin(time, part))
