"""Linking spots into tracks, and the main job: from a few marks to the tracks of a whole movie."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io import Tracks
from bdv_io.formats import writer_for
from bdv_io.tags import Tag
from howdah.lineages.protection import INTERPOLATED
from howdah.linking import Estimate, LinkingConfig, link_frames
from howdah.methods.elephant.merge import replaceable
from howdah.methods.elephant.status import (
    DETECTION,
    DETECTION_TAGS,
    TRACKING,
    TRACKING_TAGS,
    UNLABELLED_TAG,
    Status,
    spot_status,
)
from howdah.pipeline.detection import Job, find, train
from howdah.pipeline.flow import estimate_of
from howdah.pipeline.record import fingerprint, recorded
from howdah.pipeline.saving import save
from howdah.pipeline.sources import Source, check_target, open_source, parse_frames
from howdah.pipeline.tap_link import told_divisions, with_divisions
from howdah.progress import Steps

__all__ = ["counts_of", "link", "linked_anew", "loosened", "marked", "track"]

Sections = Mapping[str, Mapping[str, Any]]
MACHINE = TRACKING_TAGS[1]
BRIDGE = Tag("bridge", 0xFFFFA040)


def link(
    job: Job,
    out: str | os.PathLike[str],
    *,
    settings: Sections,
    flow: str | os.PathLike[str] | None = None,
    divisions: str | os.PathLike[str] | None = None,
) -> Steps[dict[str, Any]]:
    """Link the spots of a project. Links that a person made or approved stay; links that a machine made are made anew.

    Args:
        job: The project. Without flow, its movie is only needed to be named in the result.
        out: The result; its ending chooses the format.
        settings: ``{"linking": {...}, "flow": {...}, "tap": {...}}``, fields of :class:`LinkingConfig`, ``FlowConfig``, ``TapConfig``.
        flow: Weights of the flow network, ours or published: then a spot is looked for where the movie says that it was.
        divisions: A classifier of TAP: then the movie says which spots divide. They get the feature "TAP division".

    Returns:
        The file, and the counts of spots, links, tracks and divisions.
    """
    writer_for(out)
    source = open_source(job.source, image=job.image, setup=job.setup, hints=job.hints)
    frames = parse_frames(job.frames, max(source.image.n_frames, source.tracks.n_frames))
    config = with_divisions(LinkingConfig.of(settings.get("linking", {})), divisions)
    target = check_target(out, source, in_place=True)
    inputs = {**source.inputs, **_files(flow=flow, divisions=divisions)}
    used = {"linking": config.model_dump(), **{name: dict(settings.get(name, {})) for name in ("flow", "tap")}}
    with recorded(target, "link", inputs=inputs, settings=used) as record:
        tracks = source.tracks
        if divisions is not None:
            tracks = yield from told_divisions(source, tracks, divisions, settings=settings)
        linked = yield from linked_anew(tracks, config, frames, estimate=_estimate(source, flow, settings))
        written = save(target, linked, source.image, hints=job.hints)
        record.facts |= counts_of(linked)
    return {"out": str(written), **counts_of(linked)}


def track(
    job: Job,
    out: str | os.PathLike[str],
    *,
    settings: Sections,
    weights: str | os.PathLike[str] | None = None,
    flow: str | os.PathLike[str] | None = None,
    divisions: str | os.PathLike[str] | None = None,
) -> Steps[dict[str, Any]]:
    """The main job: train on the marks (unless weights are given), find the nuclei of every frame, and link them.

    Args:
        job: A project with a few marked nuclei (or, with weights, a movie alone).
        out: The result; its ending chooses the format.
        settings: ``{"elephant": {...}, "linking": {...}, "flow": {...}, "tap": {...}}``.
        weights: Trained weights. None: they are trained first and written beside the result.
        flow: Weights of the flow network; None: link without.
        divisions: A classifier of TAP that tells which nuclei divide; None: link without.

    Returns:
        The file, the weights, and the counts of spots, links, tracks and divisions.
    """
    writer_for(out)
    source, frames = job.open()
    target = check_target(out, source, in_place=True)
    config = with_divisions(LinkingConfig.of(settings.get("linking", {})), divisions)
    if weights is None:
        weights = target.with_name(f"{target.stem}-weights.safetensors")
        yield from train(job, weights, settings=settings)
    sections = ("elephant", "flow", "tap")
    used = {name: dict(settings.get(name, {})) for name in sections} | {"linking": config.model_dump()}
    inputs = {**source.inputs, "weights": Path(weights), **_files(flow=flow, divisions=divisions)}
    estimate = _estimate(source, flow, settings)
    with recorded(target, "track", inputs=inputs, settings=used) as record:
        found = yield from find(source, frames, Path(weights), settings, record=record)
        if divisions is not None:
            found = yield from told_divisions(source, found, divisions, settings=settings)
        every = list(range(source.image.n_frames))
        linked = yield from linked_anew(found, config, every, estimate=estimate)
        written = save(target, linked, source.image, hints=job.hints)
        record.facts |= {"weights": fingerprint(Path(weights)), **counts_of(linked)}
    return {"out": str(written), "weights": str(weights), **counts_of(linked)}


def linked_anew(
    tracks: Tracks, config: LinkingConfig, frames: list[int], *, estimate: Estimate | None = None
) -> Steps[Tracks]:
    """Drop what a machine linked before between these frames, link anew, and tag the new links and spots as a machine's.

    Spots that bridged a gap of the former links go with them, unless a person touched them.
    """
    kept, candidates = loosened(tracks, frames)
    linked = yield from link_frames(kept, config, frames=frames, candidates=candidates, estimate=estimate)
    return marked(kept, linked)


def loosened(tracks: Tracks, frames: list[int]) -> tuple[Tracks, npt.NDArray[np.bool_]]:
    """Return the annotation without what a machine linked between these frames, and the (N,) mask of its spots that may get links."""
    wanted = np.isin(tracks.t[tracks.links], frames).all(axis=1)
    kept = tracks.select_links(~(tracks.tagged(TRACKING, MACHINE.name, links=True) & wanted))
    bridges = kept.tagged(INTERPOLATED, BRIDGE.name) & replaceable(kept) & np.isin(kept.t, frames)
    if bridges.any():  # they were put where the former links had a gap
        kept = kept.select(~bridges)
    rejected = np.isin(spot_status(kept), [Status.FP, Status.TN, Status.TB, Status.FB])
    return kept, ~rejected & np.isfinite(kept.centre).all(axis=1)


def marked(kept: Tracks, linked: Tracks) -> Tracks:
    """Return the linked annotation with its new links and spots tagged as a machine's; ``kept`` is what it was before."""
    new, inserted = np.arange(kept.n_links, linked.n_links), np.arange(kept.n_spots, linked.n_spots)
    linked = linked.with_tag_set(TRACKING, TRACKING_TAGS).with_tag(TRACKING, MACHINE, links=new)
    if len(inserted):
        linked = linked.with_tag_set(DETECTION, DETECTION_TAGS).with_tag(DETECTION, UNLABELLED_TAG, spots=inserted)
        linked = linked.with_tag_set(INTERPOLATED, [BRIDGE]).with_tag(INTERPOLATED, BRIDGE, spots=inserted)
    return linked


def _estimate(source: Source, flow: str | os.PathLike[str] | None, settings: Sections) -> Estimate | None:
    return None if flow is None else estimate_of(source, Path(flow), settings)


def _files(**given: str | os.PathLike[str] | None) -> dict[str, Path]:
    return {name: Path(path) for name, path in given.items() if path is not None}


def counts_of(tracks: Tracks) -> dict[str, Any]:
    """Return the numbers of spots, links, tracks and divisions."""
    return {
        "spots": tracks.n_spots,
        "links": tracks.n_links,
        "tracks": tracks.tracks()[0],
        "divisions": len(tracks.divisions()),
    }
