"""EmbedTrack from files to files: learning outlined cells, and segmenting and tracking a movie with what was learned."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from howdah.pipeline.found_cells import Gathered, Part
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
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
PathLike = str | os.PathLike[str]
Sections = Mapping[str, Mapping[str, Any]]

__all__ = ["Seen", "TrackFinder", "track_embedtrack", "train_embedtrack"]

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
    finder = TrackFinder.of(source, frames, file, settings)
    record.facts |= finder.facts
    yield Progress("cells", 0, len(finder.there), message=finder.network.place.sentence)
    for done, seen in enumerate(finder.seen(finder.every), start=1):
        yield Progress("cells", done, len(finder.every), values=finder.take(seen))
    return (yield from finder.annotation(linking))


@dataclass(frozen=True, eq=False)
class Seen:
    """What the network says of a frame, and of its cells' way back to the frame before.

    Attributes:
        part: The cells.
        votes: Parent and share of each cell, (N,); None where there is no frame before, or links are not made by votes.
        moved: Centres (N, 3) and movements (N, 3), world units, for the linking package; else None.
    """

    part: Part
    votes: tuple[I64, F64] | None = None
    moved: tuple[F64, F64] | None = None


@dataclass(frozen=True, eq=False)
class TrackFinder:
    """Finds the cells of runs of frames and their links; what is found is taken in the order of the frames.

    Attributes:
        source: The movie and its annotation.
        weights: The file.
        there: The frames to find cells in, but those that are missing.
        around: Frames beside them, in which there are known cells to link to.
        stays: What stays of the annotation.
        network: Ready to predict.
        gathered: The annotation that grows.
        moves: By frame, for the linking package, where cells are and how far it is back to where they were.
    """

    source: Source
    weights: Path
    there: list[int]
    around: list[int]
    stays: Tracks
    network: Network
    gathered: Gathered
    moves: dict[int, tuple[F64, F64]] = field(default_factory=dict)
    _last: dict[int, I64] = field(default_factory=dict)

    @classmethod
    def of(cls, source: Source, frames: list[int], file: Path, settings: Sections) -> TrackFinder:
        """Load the network; arguments as of :func:`track_embedtrack`.

        Raises:
            WeightsError, ConfigError: See there.
        """
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
            log.warning(
                "The settings of [linking] do nothing with links = votes, the paper's way; set links = linking."
            )
        stays = without_machine(own_names(recognised(source.tracks)), there, relink=config.links == "votes")
        gathered = Gathered(replace(source, tracks=stays), least_size(config))
        around = [t for t in neighbours(stays, there, image.n_frames) if not image.is_missing(t, setup)]
        return cls(source, file, there, around, stays, network, gathered)

    def anew(self) -> TrackFinder:
        """Return one that has taken nothing yet."""
        return replace(self, gathered=Gathered(self.gathered.source, self.gathered.min_size), moves={}, _last={})

    @property
    def every(self) -> list[int]:
        """All frames that are looked at, ascending."""
        return sorted([*self.there, *self.around])

    @property
    def facts(self) -> dict[str, Any]:
        """What the record says of the network."""
        return {
            "settings_used": self.network.config.model_dump(mode="json"),
            "device": str(self.network.place.device),
        }

    def seen(self, times: list[int], *, halo: bool = False) -> Iterator[Seen]:
        """Find the cells of frames, and their votes; of the frames around only what is known is linked to.

        Args:
            times: Some of ``every`` in growing order, without leaving one out.
            halo: The first one is only there for the sake of the next, and not returned.
        """
        from howdah.methods.embedtrack.cluster import find_cells
        from howdah.methods.embedtrack.link import movements, vote

        image, setup, config = self.source.image, self.source.setup, self.network.config
        read = last_read(lambda t: image.read(t, setup))
        before: tuple[int, I32] | None = None
        for number, (t, fields) in enumerate(self.network.fields(read, times)):
            cells = find_cells(fields, config, min_size=self.gathered.min_size) if t in self.there else None
            found = np.zeros(fields.shape, dtype=np.int32) if cells is None else cells.labels
            found = found.reshape(image.shape(t, setup))
            quality = np.empty(0) if cells is None else cells.quality
            if halo and not number:
                before = t, self.gathered.together(t, found)[0]
                continue
            part, here = self.gathered.part(t, found, quality, read(t))
            joined = before is not None and before[0] == t - 1 and (t in self.there or t - 1 in self.there)
            votes = moved = None
            if joined and before is not None and fields.tracking is not None:
                flat = here.reshape(fields.shape)
                if config.links == "votes":
                    chosen = vote(flat, before[1].reshape(fields.shape), fields, config)
                    votes = chosen.parent, chosen.share
                elif here.any():
                    moved = _in_world(here, movements(flat, fields), image.affine(t, setup))
            before = t, here
            yield Seen(part, votes, moved)

    def take(self, seen: Seen) -> dict[str, float]:
        """Take what was seen of the next frame; return numbers for the progress."""
        t = seen.part.t
        here = self.gathered.take(seen.part)
        values = {"cells": float(len(here))}
        if seen.votes is not None:
            self.gathered.link(here, self._last[t - 1], *seen.votes)
            values["links"] = float(np.count_nonzero(seen.votes[0]))
        if seen.moved is not None:
            self.moves[t] = seen.moved
        self._last.clear()
        self._last[t] = here
        return values

    def annotation(self, linking: LinkingConfig) -> Steps[Tracks]:
        """Return the annotation with all cells that were taken, and their links."""
        tracks, new, links = self.gathered.tracks()
        bare = np.setdiff1d(self.there, self.stays.t)
        if len(bare) and not len(new):
            no_cell_found(self.source.image, len(bare), self.weights, "embedtrack")
        if self.network.config.links == "linking":
            later = [t for t in self.around if t - 1 in self.there]
            times = sorted([*self.there, *later])
            linked = yield from linked_anew(tracks, linking, times, estimate=_estimate(self.moves))
            bridges = np.arange(tracks.n_spots, linked.n_spots)
            return marked(linked, spots=np.concatenate([new, bridges]), links=np.empty(0, dtype=np.int64))
        return marked(tracks, spots=new, links=links)


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
