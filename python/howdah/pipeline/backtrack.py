"""Following one nucleus of a project back through its movie, or forward."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bdv_io.formats import writer_for
from howdah.lineages import find_spot
from howdah.methods.elephant.backtrack import BacktrackConfig, Detect, Estimate, Step
from howdah.methods.elephant.backtrack import backtrack as follow
from howdah.pipeline.detection import Job, detector_of
from howdah.pipeline.flow import estimate_of
from howdah.pipeline.record import fingerprint, recorded
from howdah.pipeline.saving import save
from howdah.pipeline.sources import Source, as_shown, check_target
from howdah.progress import Steps

__all__ = ["backtrack"]

Sections = Mapping[str, Mapping[str, Any]]


def backtrack(
    job: Job,
    out: str | os.PathLike[str],
    *,
    spot: int | str,
    weights: str | os.PathLike[str] | None = None,
    flow_weights: str | os.PathLike[str] | None = None,
    settings: Sections | None = None,
) -> Steps[dict[str, Any]]:
    """Follow a spot back (or forward) until it meets a track, the end of the movie, or nothing.

    Args:
        job: The project. ``job.frames`` is not used; ``settings["backtrack"]["max_frames"]`` limits the way.
        out: The result; its ending chooses the format.
        spot: Its id (in Mastodon projects the number that Mastodon shows), its label, or ``"t,z,y,x"`` in world units near it.
        weights: Of a detector, for nuclei that have no spot yet. None: only spots that are there are linked.
        flow_weights: Of a flow network, that says where it was one frame earlier. None: near where it is.
        settings: ``{"backtrack": {...}, "elephant": {...}, "flow": {...}}``.

    Returns:
        The file, the counts of new spots and links, and what was done in each frame.

    Raises:
        DataError: There is no such spot; the sentence names the nearest.
        WeightsError, ConfigError, BdvIoError: As the sentence says.
    """
    writer_for(out)
    source, _ = job.open()
    source = replace(source, tracks=as_shown(job.source, source.tracks))
    row = find_spot(source.tracks, spot)
    target = check_target(out, source, in_place=True)
    given = settings or {}
    config = BacktrackConfig.of(given.get("backtrack", {}))
    files = {"weights": weights, "flow_weights": flow_weights if config.direction == "back" else None}
    used = {name: Path(path) for name, path in files.items() if path is not None}
    asked = {**given, "backtrack": config.model_dump(), "spot": int(source.tracks.id[row])}
    with recorded(target, "backtrack", inputs={**source.inputs, **used}, settings=asked) as record:
        done = yield from follow(
            source.tracks,
            row,
            config,
            n_frames=source.image.n_frames,
            estimate=_estimate_from(source, used["flow_weights"], given) if "flow_weights" in used else None,
            detect=_detect_from(source, used["weights"], given) if "weights" in used else None,
        )
        written = save(target, done.tracks, source.image, hints=job.hints)
        facts = {
            "spot": int(source.tracks.id[row]),
            "new_spots": done.tracks.n_spots - source.tracks.n_spots,
            "new_links": done.tracks.n_links - source.tracks.n_links,
            "steps": [_as_row(step) for step in done.steps],
        }
        record.facts |= {**facts, **{name: fingerprint(path) for name, path in used.items()}}
    return {"out": str(written), **facts}


def _detect_from(source: Source, weights: Path, settings: Sections) -> Detect:
    """A detector that looks at a box of a frame; nothing is found in a frame that is missing."""
    from howdah.methods import Spots

    detector = detector_of(weights, settings, marks=source.tracks)
    image, setup = source.image, source.setup
    read = source.reader(detector.config.temporal_mean)

    def detect(frame: int, box: Any) -> Spots:
        if image.is_missing(frame, setup):
            return Spots.none()
        found: Spots = detector.predict_spots(read(frame), image.affine(frame, setup), box=box)
        return found

    return detect


def _estimate_from(source: Source, weights: Path, settings: Sections) -> Estimate:
    """Where ellipsoids were one frame earlier, by a flow network; not known beside a frame that is missing."""
    estimate: Estimate = estimate_of(source, weights, settings)
    image, setup = source.image, source.setup

    def place(frame: int, centre: Any, covariance: Any) -> Any:
        if image.is_missing(frame, setup) or image.is_missing(frame - 1, setup):
            return np.full_like(centre, np.nan)
        return estimate(frame, centre, covariance)

    return place


def _as_row(step: Step) -> dict[str, Any]:
    return {
        "frame": step.frame,
        "what": step.action,
        "spot": step.spot if step.spot >= 0 else "",
        "distance": round(step.distance, 3) if np.isfinite(step.distance) else "",
        "quality": round(step.quality, 3) if np.isfinite(step.quality) else "",
        "why": step.why,
    }
