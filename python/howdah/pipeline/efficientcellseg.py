"""EfficientCellSeg from files to files: learning outlined cells, and finding the cells of movies, volumes and single images."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bdv_io import Tracks
from howdah.errors import ConfigError
from howdah.linking import LinkingConfig
from howdah.methods.efficientcellseg.config import EfficientCellSegConfig
from howdah.pipeline.challenge_rules import Challenge
from howdah.pipeline.detection import Job, _needs_torch
from howdah.pipeline.found_cells import Gathered, Part
from howdah.pipeline.machine_marks import marked, recognised
from howdah.pipeline.record import Record, fingerprint, recorded
from howdah.pipeline.results import check_targets, write_results
from howdah.pipeline.sources import Source, check_target, frames_beside
from howdah.pipeline.staying import neighbours, no_cell_found, own_names, without_machine
from howdah.pipeline.stills import is_stills, open_job, read_truth_or_stills
from howdah.pipeline.tracking import linked_anew
from howdah.pipeline.weights_of import read_weights_of
from howdah.progress import Progress, Steps

if TYPE_CHECKING:
    from howdah.methods.efficientcellseg.instances import Cells
    from howdah.methods.efficientcellseg.predict import Network

Array = npt.NDArray[Any]
PathLike = str | os.PathLike[str]
Sections = Mapping[str, Mapping[str, Any]]
Read = Callable[[int], Array]

__all__ = [
    "CellFinder",
    "refuse_linking",
    "refuse_time",
    "say_form",
    "segment_efficientcellseg",
    "train_efficientcellseg",
]

log = logging.getLogger("howdah")

# Of a frame, its maps (8), and what parts their cells in 3D (measured: 37 to 49, two thirds of the voxels being cell).
BYTES_PER_VOXEL = 64  # larger frames are worked on plane by plane
FRAMES_HELD = 3  # where colours carry the frames before and after


def train_efficientcellseg(
    job: Job,
    weights: PathLike,
    *,
    settings: Sections,
    start: PathLike | None = None,
    truth: PathLike | None = None,
    resume: bool = True,
) -> Steps[dict[str, Any]]:
    """Train EfficientCellSeg on outlined cells.

    Args:
        job: What to learn from: a movie or a folder of images with ``truth``, a project with outlines, a challenge sequence (see
            :func:`howdah.pipeline.truth.read_truth`, :func:`howdah.pipeline.stills.read_stills_truth`); ``frames`` limits
            what teaches.
        weights: Where the weights go (safetensors); the former file is kept as ``name~1~``. While the training runs its
            state is beside it; a stopped training goes on from there.
        settings: ``{"efficientcellseg": {...}}``, fields of :class:`EfficientCellSegConfig`.
        start: Weights to start from: ours, or published ones.
        truth: Where the outlines are, if the source does not tell: label images, a ROI set, a challenge folder, a project; of a
            folder of images the folder of their masks.
        resume: Go on with a training of the same cells and settings that was stopped.

    Returns:
        The weights file, what taught, and the last figures.

    Raises:
        DataError: There is nothing to train on, or an outline lies outside of the image.
        WeightsError, ConfigError, BdvIoError: As the sentence says.
    """
    config = EfficientCellSegConfig.of(settings.get("efficientcellseg", {}))
    with _needs_torch():
        from howdah.methods.efficientcellseg.train import train

    taught = read_truth_or_stills(job, config, truth=truth)
    refuse_time(config, taught.source)
    target = check_target(weights, taught.source, ending=".safetensors")
    first = None if start is None else read_weights_of("efficientcellseg", Path(start))
    if first is not None:
        say_form(first.header, Path(start or ""), settings)
    inputs = {**taught.inputs, **({} if start is None else {"start": Path(start)})}
    used = {"efficientcellseg": config.model_dump(mode="json")}
    with recorded(target, "efficientcellseg-train", inputs=inputs, settings=used) as record:
        trained = yield from train(taught.annotation, config, start=first, save_to=target, resume=resume)
        kept = ("method", "resolved", "search", "network", "cells", "metrics", "device", "precision")
        record.facts |= {**taught.facts, "weights": fingerprint(target)}
        record.facts |= {name: trained.header.get(name) for name in kept}
    found = _flat(trained.header.get("search") or {})
    figures = {"metrics": dict(trained.header.get("metrics", {})), **({"search": found} if found else {})}
    return {"weights": str(target), **taught.facts, **figures}


def _flat(found: Mapping[str, Any]) -> dict[str, Any]:
    """What a search found: settings, and the SEG of the training's cells with the defaults and with these."""
    named = {"before": "SEG_before", "after": "SEG_after"}
    return {**found.get("settings", {}), **{named[key]: value for key, value in found.items() if key in named}}


def segment_efficientcellseg(
    job: Job,
    out: PathLike,
    *,
    settings: Sections,
    weights: PathLike | None = None,
    truth: PathLike | None = None,
    also: Sequence[PathLike] = (),
    link: bool = False,
    challenge: Challenge | None = None,
) -> Steps[dict[str, Any]]:
    """Find the cells of a movie, a volume or single images, and write them with outlines, ellipsoids and region properties.

    What a person outlined, tagged, named or linked stays as it is; what a machine found in these frames before is found anew. A
    predicted cell that shares half of its pixels, or half of a person's cell, with that one gives way to it. Volumes are read
    a frame at a time; where the maps of a frame would not fit into the memory, they are computed and parted plane by plane
    while its image and labels (about 8 bytes a voxel) are held.

    Args:
        job: A movie, a project whose annotation is kept, or a folder of images. ``frames``: the frames to find cells in.
        out: The result; its ending chooses the format: labels ``.tif`` or ``.ome.zarr``, ROI set ``.zip``, TrackMate ``.xml``,
            ``.mastodon``, a challenge's folder ``01_RES``, ``.geff``, ``.csv``. Of a folder of images it may be a folder, that gets
            one label image for each.
        settings: ``{"efficientcellseg": {...}, "linking": {...}}``; what the weights say of their training need not be given.
        weights: From :func:`train_efficientcellseg`, or published ones. None: they are trained first, on all outlines of the
            source (or of ``truth``), and written beside the result.
        truth: See :func:`train_efficientcellseg`; only without weights.
        also: Further results.
        link: Link the cells by their ellipsoids, with the settings of ``linking``.
        challenge: Rules of the Cell Tracking Challenge for results in its format.

    Returns:
        The files, the weights, and the counts of cells, links, tracks and divisions.

    Raises:
        WeightsError: The weights are another method's, or damaged.
        DataError, ConfigError, BdvIoError: As the sentence says.
    """
    source, frames = open_job(job, out)
    targets = check_targets([out, *also], source, more=() if truth is None else (Path(truth),))
    linking = LinkingConfig.of(settings.get("linking", {}))
    refuse_time(EfficientCellSegConfig.of(settings.get("efficientcellseg", {})), source)
    if link:
        refuse_linking(source)
    if settings.get("linking") and not link:
        log.warning("The settings of [linking] do nothing without --link.")
    if weights is not None and truth is not None:
        raise ConfigError("Give either --weights, that were trained, or --truth, to train on; not both.")
    if weights is None:
        weights = targets[0].with_name(f"{targets[0].name.split('.')[0]}-weights.safetensors")
        whole = replace(job, frames=None)
        yield from train_efficientcellseg(whole, weights, settings=settings, truth=truth)
    file = Path(weights)
    inputs = {**source.inputs, "weights": file}
    used = {"efficientcellseg": dict(settings.get("efficientcellseg", {})), "linking": linking.model_dump()}
    with recorded(targets[0], "efficientcellseg-segment", inputs=inputs, settings=used) as record:
        chosen = linking if link else None
        found = yield from _find(source, frames, file, settings, linking=chosen, record=record)
        written = write_results(targets, found, source, hints=job.hints, challenge=challenge or Challenge())
        counts = _counts(found, linked=link)
        record.facts |= {"weights": fingerprint(file), "results": [str(path) for path in written], **counts}
    more = {"also": [str(path) for path in written[1:]]} if len(written) > 1 else {}
    return {"out": str(written[0]), **more, "weights": str(file), **counts}


def refuse_time(config: EfficientCellSegConfig, source: Source) -> None:
    """Say that single images have no frames before and after, where the colours shall carry these.

    Raises:
        ConfigError: So it is.
    """
    if config.colour == "time" and is_stills(source):
        raise ConfigError(
            f"colour = time is not possible with {source.image.path}: these are single images, so that no frame comes before or after "
            "another. Leave it out; if they are the frames of a movie, say so: --axes TYX."
        )


def refuse_linking(source: Source) -> None:
    """Say that single images cannot be linked.

    Raises:
        ConfigError: So it is.
    """
    if is_stills(source):
        raise ConfigError(
            f"Linking the cells of {source.image.path} is not possible: these are single images, not a movie. Leave out --link; "
            "if they are the frames of a movie, say so: --axes TYX."
        )


def say_form(header: Mapping[str, Any], file: Path, settings: Sections) -> None:
    """Warn where the settings name another network than that of the weights: the weights are what they are."""
    network, asked = header.get("network"), settings.get("efficientcellseg", {})
    if not isinstance(network, Mapping) or not {"encoder", "filters"} & set(asked):
        return
    config = EfficientCellSegConfig.of(asked)
    for name in ("encoder", "filters"):
        there, given = network.get(name), getattr(config, name)
        if name in asked and there is not None and _listed(there) != _listed(given):
            log.warning(
                "The weights %s are a network with %s = %s; the setting %s = %s does nothing. To have that network, train it from "
                "the ImageNet weights, without --start.",
                file,
                name,
                _listed(there),
                name,
                _listed(given),
            )


def _listed(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)


def _counts(found: Tracks, *, linked: bool) -> dict[str, Any]:
    counts = {"cells": found.n_spots, "links": found.n_links}
    return {**counts, "tracks": found.tracks()[0], "divisions": len(found.divisions())} if linked else counts


def _find(
    source: Source, frames: list[int], file: Path, settings: Sections, *, linking: LinkingConfig | None, record: Record
) -> Steps[Tracks]:
    """Find the cells of some frames beside what a person annotated, and link them if asked for; nothing is written."""
    finder = CellFinder.of(source, frames, file, settings)
    record.facts |= finder.facts
    yield Progress("cells", 0, len(finder.there), message=finder.network.place.sentence)
    for done, t in enumerate(finder.there, start=1):
        here = finder.gathered.take(finder.part(t))
        yield Progress("cells", done, len(finder.there), values={"cells": float(len(here))})
    return (yield from finder.annotation(linking))


@dataclass(frozen=True, eq=False)
class CellFinder:
    """Finds the cells of each frame by itself; what is found is taken in the order of the frames.

    Attributes:
        source: The movie and its annotation.
        weights: The file.
        there: The frames to find cells in, but those that are missing.
        stays: What stays of the annotation.
        network: Ready to predict.
        gathered: Takes what :meth:`part` returns.
        read: Reads a frame.
    """

    source: Source
    weights: Path
    there: list[int]
    stays: Tracks
    network: Network
    gathered: Gathered
    read: Read

    @classmethod
    def of(cls, source: Source, frames: list[int], file: Path, settings: Sections) -> CellFinder:
        """Load the network; arguments as of :func:`segment_efficientcellseg`.

        Raises:
            WeightsError, ConfigError: See there.
        """
        weights = read_weights_of("efficientcellseg", file)
        say_form(weights.header, file, settings)
        image, setup = source.image, source.setup
        there = [t for t in frames if not image.is_missing(t, setup)]
        for t in sorted(set(frames) - set(there)):
            log.warning("Frame %d of %s is missing; no cells are looked for there.", t, image.path)
        planes = image.shape(there[0] if there else 0, setup)[0]
        with _needs_torch():
            from howdah.methods.efficientcellseg.predict import Network

            config = EfficientCellSegConfig.of(settings.get("efficientcellseg", {}))
            network = Network(weights, config, planes=planes)
        other = learned_otherwise(weights.header, planes)
        if other:
            log.warning("%s: %s", file, other)
        stays = without_machine(own_names(recognised(source.tracks)), there, relink=False)
        gathered = Gathered(replace(source, tracks=stays), network.config.min_size or 0)
        held = FRAMES_HELD if network.config.colour == "time" else 1
        read = lru_cache(maxsize=held)(lambda t: image.read(t, setup))
        return cls(source, file, there, stays, network, gathered, read)

    def anew(self) -> CellFinder:
        """Return one that has taken nothing yet."""
        return replace(self, gathered=Gathered(self.gathered.source, self.gathered.min_size))

    @property
    def facts(self) -> dict[str, Any]:
        """What the record says of the network."""
        return {
            "settings_used": self.network.config.model_dump(mode="json"),
            "device": str(self.network.place.device),
        }

    def part(self, t: int) -> Part:
        """Find the cells of a frame."""
        cells = _cells(self.network, self.source, self.read, t)
        return self.gathered.part(t, cells.labels, cells.quality, self.read(t))[0]

    def annotation(self, linking: LinkingConfig | None) -> Steps[Tracks]:
        """Return the annotation with all cells that were taken, linked if asked for."""
        image, stays, there = self.source.image, self.stays, self.there
        tracks, new, _ = self.gathered.tracks()
        bare = np.setdiff1d(there, stays.t)
        if len(bare) and not len(new):
            no_cell_found(image, len(bare), self.weights, "efficientcellseg")
        nothing = np.empty(0, dtype=np.int64)
        if linking is None:
            return marked(tracks, spots=new, links=nothing)
        around = neighbours(stays, there, image.n_frames)
        linked = yield from linked_anew(tracks, linking, sorted([*there, *around]))
        bridges = np.arange(tracks.n_spots, linked.n_spots)
        return marked(linked, spots=np.concatenate([new, bridges]), links=nothing)


def learned_otherwise(header: Mapping[str, Any], planes: int) -> str:
    """Say if weights that were trained on images of one plane are given a volume, or the other way round; else nothing."""
    cells = header.get("cells")
    learned = cells.get("planes") if isinstance(cells, Mapping) else None
    if not isinstance(learned, int | float) or (learned > 1) == (planes > 1):
        return ""
    kinds = ("volumes", "images of one plane")
    taught, given = kinds if learned > 1 else kinds[::-1]
    return f"these weights were trained on {taught}, and are given {given}; look at the result, and better train on some of these."


def _cells(network: Network, source: Source, read: Read, t: int) -> Cells:
    """Find the cells of a frame: at once, or plane by plane where the memory does not hold its maps."""
    from howdah.methods.efficientcellseg.instances import find_cells
    from howdah.nn.device import free_memory_mb

    image, config = source.image, network.config
    z, y, x = np.linalg.norm(image.affine(t, source.setup)[:3, :3], axis=0).tolist()
    shape = image.shape(t, source.setup)
    by_time = config.colour == "time" and not is_stills(source)  # single images show other fields
    beside: list[Array | None] = frames_beside(source, t, read) if by_time else [None, None]
    if shape[0] > 1 and prod(shape) * BYTES_PER_VOXEL > (config.memory_mb or free_memory_mb()) * 2**20:
        if config.stack != "planes":
            log.warning(
                "Frame %d is too large for the memory to part its cells in 3D; they are parted in planes and joined, which finds other "
                "cells. Allow more memory (memory_mb), or say that it is meant so: stack = planes.",
                t,
            )
        return _by_plane(network, source, t, voxel_size=(z, y, x), beside=beside)
    maps = network.maps(read(t), earlier=beside[0], later=beside[1], time=t)
    return find_cells(maps, config, voxel_size=(z, y, x), diameter=network.diameter)


def _by_plane(
    network: Network, source: Source, t: int, *, voxel_size: tuple[float, float, float], beside: list[Array | None]
) -> Cells:
    """Find the cells of a frame of which only the labels are held."""
    from howdah.methods.efficientcellseg.instances import Cells, find_cells_by_plane

    image, setup = source.image, source.setup
    every, shape = slice(None), image.shape(t, setup)

    def plane(z: int) -> Array:
        found: Array = image.read(t, setup, region=(slice(z, z + 1), every, every))[0]
        return found

    labels = np.zeros(shape, dtype=np.int32)
    maps = network.planes(plane, shape, earlier=beside[0], later=beside[1], time=t)
    stream = find_cells_by_plane(maps, network.config, voxel_size=voxel_size, diameter=network.diameter)
    while True:
        try:
            z, found = next(stream)
        except StopIteration as end:
            joined = end.value
            break
        labels[z] = found
    for one in labels:
        one[...] = joined.table[one]
    return Cells(labels, joined.quality)
