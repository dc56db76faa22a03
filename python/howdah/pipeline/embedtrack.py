"""EmbedTrack from files to files: learning outlined cells, and segmenting and tracking a movie with what was learned."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bdv_io import Tracks
from bdv_io.moments import measure
from howdah.linking import Estimate, LinkingConfig
from howdah.methods.embedtrack.config import EmbedTrackConfig
from howdah.pipeline.challenge_rules import Challenge
from howdah.pipeline.detection import Job, _needs_torch
from howdah.pipeline.embedtrack_weights import check_fits, least_size, settings_of
from howdah.pipeline.found_cells import Frame, Gathered
from howdah.pipeline.machine_marks import marked, recognised
from howdah.pipeline.record import Record, fingerprint, recorded
from howdah.pipeline.results import check_targets, write_results
from howdah.pipeline.sources import Source, check_target
from howdah.pipeline.staying import last_read, neighbours, no_cell_found, own_names, without_machine
from howdah.pipeline.tracking import linked_anew
from howdah.pipeline.truth import read_truth
from howdah.pipeline.weights_of import read_weights_of
from howdah.progress import Progress, Steps

if TYPE_CHECKING:
    from howdah.methods.embedtrack.predict import Network

F64 = npt.NDArray[np.float64]
PathLike = str | os.PathLike[str]
Sections = Mapping[str, Mapping[str, Any]]

__all__ = ["track_embedtrack", "train_embedtrack"]

log = logging.getLogger("howdah")


def train_embedtrack(
    job: Job,
    weights: PathLike,
    *,
    settings: Sections,
    start: PathLike | None = None,
    truth: PathLike | None = None,
    resume: bool = True,
) -> Steps[dict[str, Any]]:
    """Train EmbedTrack on outlined cells and their links.

    Args:
        job: What to learn from, see :func:`howdah.pipeline.truth.read_truth`; ``frames`` limits what teaches.
        weights: Where the weights go (safetensors); the former file is kept as ``name~1~``. While the training runs its
            state is beside it; a stopped training goes on from there.
        settings: ``{"embedtrack": {...}}``, fields of :class:`EmbedTrackConfig`.
        start: Weights to start from: ours, or published ones.
        truth: Where the outlines are, if the source does not tell: a label image, a challenge folder, a project.
        resume: Go on with a training of the same cells and settings that was stopped.

    Returns:
        The weights file, what taught, and the last losses.

    Raises:
        DataError: There is nothing to train on, or an outline lies outside of the image.
        WeightsError, ConfigError, BdvIoError: As the sentence says.
    """
    given = settings.get("embedtrack", {})
    config = EmbedTrackConfig.of(given)
    with _needs_torch():
        from howdah.methods.embedtrack.train import train

    taught = read_truth(job, config, truth=truth)
    target = check_target(weights, taught.source, ending=".safetensors")
    first = None
    if start is not None:
        first = read_weights_of("embedtrack", Path(start))
        config = settings_of(
            first, Path(start), {"min_size": None, **given}
        )  # that comes from the cells of this training
    used = {"embedtrack": config.model_dump(mode="json")}
    with recorded(target, "embedtrack-train", inputs=taught.inputs, settings=used) as record:
        trained = yield from train(taught.annotation, config, start=first, save_to=target, resume=resume)
        kept = ("method", "resolved", "network", "metrics", "device", "precision")
        record.facts |= {**taught.facts, "weights": fingerprint(target)}
        record.facts |= {name: trained.header.get(name) for name in kept}
    return {"weights": str(target), **taught.facts, "metrics": dict(trained.header.get("metrics", {}))}


def track_embedtrack(
    job: Job,
    out: PathLike,
    *,
    settings: Sections,
    weights: PathLike | None = None,
    also: Sequence[PathLike] = (),
    challenge: Challenge | None = None,
) -> Steps[dict[str, Any]]:
    """Segment and track a movie, and write cells with outlines, links, divisions, quality, and region properties.

    What a person outlined, tagged, named or linked stays as it is; what a machine found in these frames before is found anew. A
    predicted cell that shares half of its pixels, or half of a person's cell, with that one gives way to it.

    Args:
        job: A movie, or a project whose annotation is kept. ``frames``: the frames to find cells in.
        out: The result; its ending chooses the format: TrackMate ``.xml``, ``.mastodon``, labels ``.tif`` or ``.ome.zarr``, a
            challenge's folder ``01_RES``, ``.geff``, ``.csv``.
        settings: ``{"embedtrack": {...}, "linking": {...}}``; what the weights say of their training (grid, enlarging, percentiles,
            minimal size) need not be given. The latter count with ``links = "linking"`` only.
        weights: From :func:`train_embedtrack`, or published ones. None: they are trained first, on all outlines of the source, and
            written beside the result.
        also: Further results.
        challenge: Rules of the Cell Tracking Challenge for results in its format.

    Returns:
        The files, the weights, and the counts of spots, links, tracks and divisions.

    Raises:
        WeightsError: The weights do not fit the movie, or are another method's.
        DataError, ConfigError, BdvIoError: As the sentence says.
    """
    source, frames = job.open()
    targets = check_targets([out, *also], source)
    linking = LinkingConfig.of(settings.get("linking", {}))
    if weights is None:
        weights = targets[0].with_name(f"{targets[0].stem}-weights.safetensors")
        yield from train_embedtrack(replace(job, frames=None), weights, settings=settings)
    file = Path(weights)
    inputs = {**source.inputs, "weights": file}
    used = {"embedtrack": dict(settings.get("embedtrack", {})), "linking": linking.model_dump()}
    with recorded(targets[0], "embedtrack-track", inputs=inputs, settings=used) as record:
        found = yield from _find(source, frames, file, settings, linking=linking, record=record)
        written = write_results(targets, found, source, hints=job.hints, challenge=challenge or Challenge())
        counts = {
            "spots": found.n_spots,
            "links": found.n_links,
            "tracks": found.tracks()[0],
            "divisions": len(found.divisions()),
        }
        record.facts |= {"weights": fingerprint(file), "results": [str(path) for path in written], **counts}
    more = {"also": [str(path) for path in written[1:]]} if len(written) > 1 else {}
    return {"out": str(written[0]), **more, "weights": str(file), **counts}


def _find(
    source: Source, frames: list[int], file: Path, settings: Sections, *, linking: LinkingConfig, record: Record
) -> Steps[Tracks]:
    """Find and link the cells of some frames, beside what a person annotated; nothing is written."""
    weights = read_weights_of("embedtrack", file)
    check_fits(weights, file, source, frames)
    image, setup = source.image, source.setup
    there = [t for t in frames if not image.is_missing(t, setup)]
    for t in sorted(set(frames) - set(there)):
        log.warning("Frame %d of %s is missing; no cells are looked for there.", t, image.path)
    affine = image.affine(there[0] if there else 0, setup)
    z, y, x = np.linalg.norm(affine[:3, :3], axis=0).tolist()
    with _needs_torch():
        from howdah.methods.embedtrack.predict import Network

        network = Network(weights, settings_of(weights, file, settings.get("embedtrack", {})), voxel_size=(z, y, x))
    config = network.config
    if config.links == "votes" and settings.get("linking"):
        log.warning("The settings of [linking] do nothing with links = votes, the paper's way; set links = linking.")
    stays = without_machine(own_names(recognised(source.tracks)), there, relink=config.links == "votes")
    gathered = Gathered(replace(source, tracks=stays), least_size(config))
    around = neighbours(stays, there, image.n_frames)
    around = [t for t in around if not image.is_missing(t, setup)]
    record.facts |= {"settings_used": config.model_dump(mode="json"), "device": str(network.place.device)}
    yield Progress("cells", 0, len(there), message=network.place.sentence)
    moves = yield from _frames(gathered, network, there, around)
    tracks, new, links = gathered.tracks()
    bare = np.setdiff1d(there, stays.t)
    if len(bare) and not len(new):
        no_cell_found(image, len(bare), file, "embedtrack")
    if config.links == "linking":
        later = [t for t in around if t - 1 in there]
        linked = yield from linked_anew(tracks, linking, sorted([*there, *later]), estimate=_estimate(moves))
        bridges = np.arange(tracks.n_spots, linked.n_spots)
        return marked(linked, spots=np.concatenate([new, bridges]), links=np.empty(0, dtype=np.int64))
    return marked(tracks, spots=new, links=links)


def _frames(
    gathered: Gathered, network: Network, times: list[int], around: list[int]
) -> Steps[dict[int, tuple[F64, F64]]]:
    """Find the cells of each frame; of the frames around them only what is known is linked to.

    Returns:
        For the linking package: where cells are and how far it is back to where they were, by frame.
    """
    from howdah.methods.embedtrack.cluster import find_cells
    from howdah.methods.embedtrack.link import movements, vote

    image, setup, config = gathered.source.image, gathered.source.setup, network.config
    read = last_read(lambda t: image.read(t, setup))
    moves: dict[int, tuple[F64, F64]] = {}
    earlier: Frame | None = None
    every = sorted([*times, *around])
    for done, (t, fields) in enumerate(network.fields(read, every), start=1):
        cells = find_cells(fields, config, min_size=gathered.min_size) if t in times else None
        found = np.zeros(fields.shape, dtype=np.int32) if cells is None else cells.labels
        quality = np.empty(0) if cells is None else cells.quality
        here = gathered.add(t, found.reshape(image.shape(t, setup)), quality, read(t))
        values = {"cells": float(len(here.spot))}
        joined = earlier is not None and earlier.t == t - 1 and (t in times or t - 1 in times)
        if joined and earlier is not None and fields.tracking is not None:
            flat = here.labels.reshape(fields.shape)
            if config.links == "votes":
                votes = vote(flat, earlier.labels.reshape(fields.shape), fields, config)
                gathered.link(here, earlier, votes.parent, votes.share)
                values["links"] = float(np.count_nonzero(votes.parent))
            elif len(here.spot):
                moves[t] = _in_world(here.labels, movements(flat, fields), image.affine(t, setup))
        earlier = here
        yield Progress("cells", done, len(every), values=values)
    return moves


def _in_world(labels: npt.NDArray[np.int32], pixels: F64, affine: F64) -> tuple[F64, F64]:
    """Return centres (N, 3) of the cells of a frame (Z, Y, X), and their movements (N, D), given in pixels, as (N, 3); both world."""
    moved = np.zeros((len(pixels), 3))
    moved[:, 3 - pixels.shape[1] :] = pixels
    return measure(labels, affine).centre, moved @ affine[:3, :3].T


def _estimate(moves: Mapping[int, tuple[F64, F64]]) -> Estimate:
    """Say for places of a frame where they were before: moved as the nearest cell."""
    from scipy.spatial import KDTree

    trees = {t: KDTree(centre) for t, (centre, _) in moves.items()}

    def estimate(frame: int, centre: F64, covariance: F64) -> F64:
        if frame not in trees:
            return np.full(centre.shape, np.nan)
        _, near = trees[frame].query(centre)
        moved: F64 = centre + moves[frame][1][near]
        return moved

    return estimate
