"""Masks for spots that are there already: a project of ellipsoids (ELEPHANT's, or a person's) gets outlines that follow the cells."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bdv_io import Tracks
from bdv_io.masks import Spots, spots_of_frames
from bdv_io.outlines import Outlines
from bdv_io.tags import Feature
from howdah.ellipsoids import transform
from howdah.errors import DataError
from howdah.methods.efficientcellseg.config import EfficientCellSegConfig
from howdah.methods.elephant.merge import replaceable
from howdah.pipeline.challenge_rules import Challenge
from howdah.pipeline.detection import Job, _needs_torch
from howdah.pipeline.efficientcellseg import say_form
from howdah.pipeline.found_cells import inside
from howdah.pipeline.machine_marks import marked, recognised
from howdah.pipeline.record import fingerprint, recorded
from howdah.pipeline.results import check_targets, write_results
from howdah.pipeline.sources import Source
from howdah.pipeline.truth import LabelFrames, rejected
from howdah.pipeline.weights_of import read_weights_of
from howdah.progress import Progress, Steps

if TYPE_CHECKING:
    from howdah.methods.efficientcellseg.predict import Network

Bool = npt.NDArray[np.bool_]
F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
PathLike = str | os.PathLike[str]
Sections = Mapping[str, Mapping[str, Any]]

__all__ = ["MASK", "masks_for_spots"]

log = logging.getLogger("howdah")

MASK = "Mask probability"


def masks_for_spots(
    job: Job,
    weights: PathLike,
    out: PathLike,
    *,
    settings: Sections,
    also: Sequence[PathLike] = (),
    ellipsoids: bool = False,
    everyone: bool = False,
    challenge: Challenge | None = None,
) -> Steps[dict[str, Any]]:
    """Give the spots of an annotation masks, and write it with their outlines, plane by plane.

    Spots keep their numbers, names, links, tags and features; they get the feature "Mask probability". Outlines that a person drew stay,
    and no mask covers them; a machine's outlines are replaced. Spots of which a person said that they are no cells get no mask,
    and neither do those outside of the image.

    Args:
        job: A project or TrackMate file with spots, and its movie. ``frames``: the frames whose spots get masks.
        weights: Of EfficientCellSeg.
        out: The result; its ending chooses the format. Formats without outlines (Mastodon's) keep ellipsoids only.
        settings: ``{"efficientcellseg": {...}}``; what the weights say of their training need not be given.
        also: Further results.
        ellipsoids: Replace centre and covariance of a machine's spots by those of their masks, where the network saw a cell.
        everyone: With ``ellipsoids``: those of a person's spots, too.
        challenge: Rules of the Cell Tracking Challenge for results in its format.

    Returns:
        The files, the weights, and how many spots there are, how many got masks, how many of these are their ellipsoids as the
        network saw nothing there, and how many ellipsoids were replaced.

    Raises:
        DataError: There are no spots in these frames of the image.
        WeightsError, ConfigError, BdvIoError: As the sentence says.
    """
    source, frames = job.open()
    targets = check_targets([out, *also], source)
    config = EfficientCellSegConfig.of(settings.get("efficientcellseg", {}))
    if everyone and not ellipsoids:
        log.warning("--everyone does nothing without --ellipsoids: the ellipsoids stay as they are.")
    file = Path(weights)
    inputs = {**source.inputs, "weights": file}
    used = {"efficientcellseg": dict(settings.get("efficientcellseg", {})), "ellipsoids": {"replaced": ellipsoids}}
    with recorded(targets[0], "efficientcellseg-masks", inputs=inputs, settings=used) as record:
        tracks = recognised(source.tracks)
        free = _with_masks(replace(source, tracks=tracks), frames)
        read = read_weights_of("efficientcellseg", file)
        say_form(read.header, file, settings)
        with _needs_torch():
            from howdah.methods.efficientcellseg.predict import Network

            planes = source.image.shape(int(tracks.t[free][0]), source.setup)[0]
            network = Network(read, config, planes=planes)
        record.facts |= {"settings_used": network.config.model_dump(mode="json"), "device": str(network.place.device)}
        given = yield from _frames(replace(source, tracks=tracks), network, free)
        found = given.on(tracks)
        moved = given.seen & (everyone | replaceable(tracks)) if ellipsoids else np.zeros(tracks.n_spots, dtype=bool)
        if moved.any():
            found = given.shaping(found, moved)
        written = write_results(targets, found, source, hints=job.hints, challenge=challenge or Challenge())
        counts = given.counts | {"ellipsoids_replaced": int(np.count_nonzero(moved))}
        record.facts |= {"weights": fingerprint(file), "results": [str(path) for path in written], **counts}
    more = {"also": [str(path) for path in written[1:]]} if len(written) > 1 else {}
    return {"out": str(written[0]), **more, "weights": str(file), **counts}


def _with_masks(source: Source, frames: Sequence[int]) -> Bool:
    """(N,) mask of the spots that take part: in these frames, in the image, and not said to be no cells.

    Raises:
        DataError: There are none.
    """
    tracks, image = source.tracks, source.image
    asked = np.isin(tracks.t, frames)
    there = inside(tracks, image, source.setup)
    outside = int(np.count_nonzero(asked & ~there))
    if outside:
        log.warning(
            "%d of %d spots lie outside of the image %s, or in frames that are missing; they get no masks.",
            outside,
            np.count_nonzero(asked),
            image.path,
        )
    chosen: Bool = asked & there & ~rejected(tracks)
    if not chosen.any():
        raise DataError(
            f"Giving spots their masks failed: {source.files[0]} has {tracks.n_spots} spots, but none that is a cell inside of the image "
            f"{image.path} in the {len(frames)} chosen frames. Find cells first (howdah efficientcellseg segment, howdah predict), or "
            "check that it is the right image."
        )
    return chosen


@dataclass(eq=False)
class _Given:
    """What the spots of an annotation of ``n`` got, frame by frame."""

    n: int
    rows: list[I64] = field(default_factory=list)
    parts: list[Spots] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.seen = np.zeros(self.n, dtype=bool)
        self.quality = np.full(self.n, np.nan)

    def add(self, spots: Spots, rows: I64, seen: I64) -> None:
        """Take the masks of a frame: the spots measured from them, the rows that these are, and the rows that were seen."""
        self.parts.append(spots)
        self.rows.append(rows)
        self.seen[seen] = True

    @property
    def row(self) -> I64:
        """Row of each spot that got a mask, in the order in which they were measured."""
        return np.concatenate([np.empty(0, dtype=np.int64), *self.rows])

    @property
    def counts(self) -> dict[str, int]:
        """How many."""
        row = self.row
        return {"spots": self.n, "masks": len(row), "masks_from_ellipsoids": int(np.count_nonzero(~self.seen[row]))}

    def on(self, tracks: Tracks) -> Tracks:
        """Return the annotation with the outlines in place of those that these spots had, and the quality of masks."""
        row = self.row
        stays = np.arange(self.n)
        stays[row] = -1
        old = tracks.outlines.given_to(stays)
        rings = [old, *(p.outlines for p in self.parts)]
        spot = [old.spot, *(r[p.outlines.spot] for r, p in zip(self.rows, self.parts, strict=True))]
        outlines = Outlines.build(
            np.concatenate(spot),
            np.concatenate([ring.z for ring in rings]),
            n_vertices=np.concatenate([ring.n_vertices for ring in rings]),
            vertices=np.concatenate([ring.vertices for ring in rings]),
        )
        said = Feature(MASK, "", self.quality, defined=np.isfinite(self.quality))
        return replace(tracks, outlines=outlines).with_feature(said)

    def shaping(self, tracks: Tracks, moved: Bool) -> Tracks:
        """Return the annotation with the ellipsoids of some spots measured from their masks; a machine's stay a machine's."""
        row = self.row
        chosen = np.flatnonzero(moved[row])
        centre, covariance = tracks.centre.copy(), tracks.covariance.copy()
        centre[row[chosen]] = np.concatenate([p.centre for p in self.parts])[chosen]
        covariance[row[chosen]] = np.concatenate([p.covariance for p in self.parts])[chosen]
        machine = np.flatnonzero(moved & replaceable(tracks))
        shaped = replace(tracks, centre=centre, covariance=covariance)
        return marked(shaped, spots=machine, links=np.empty(0, dtype=np.int64)) if len(machine) else shaped


def _frames(source: Source, network: Network, chosen: Bool) -> Steps[_Given]:
    """Predict the frames that have spots, and give these their masks."""
    from howdah.methods.efficientcellseg.picture import mode_of
    from howdah.methods.efficientcellseg.seeded import masks_of

    tracks, image, setup = source.tracks, source.image, source.setup
    drawn = np.zeros(tracks.n_spots, dtype=bool)
    drawn[tracks.outlines.spot] = True
    hers = np.flatnonzero(chosen & drawn & ~replaceable(tracks))
    painted = LabelFrames(tracks.select(hers), image, setup)
    given = _Given(tracks.n_spots)
    times = np.unique(tracks.t[chosen]).tolist()
    yield Progress("masks", 0, len(times), message=network.place.sentence)
    for done, t in enumerate(times, start=1):
        rows = np.flatnonzero(chosen & (tracks.t == t))
        affine = image.affine(t, setup)
        frame = image.read(t, setup)
        timed = mode_of(network.config, frame.shape[0]) == "time"
        earlier, later = (_beside(source, t + step) if timed else None for step in (-1, 1))
        cell = network.maps(frame, earlier=earlier, later=later, time=t).cell
        centre, covariance = transform(tracks.centre[rows], tracks.covariance[rows], np.linalg.inv(affine))
        masks = masks_of(
            centre,
            covariance,
            cell,
            threshold=network.config.threshold or 0.5,
            holes=network.config.fill_holes,
        )
        labels = _beneath(masks.labels, painted(t), np.isin(rows, hers))
        spots = spots_of_frames([(t, labels, affine)])
        which = rows[spots.label - 1]
        given.quality[rows] = masks.quality
        given.add(spots, which, np.intersect1d(rows[masks.seen], which))
        yield Progress("masks", done, len(times), values={"masks": float(len(which))})
    _say(source, given)
    return given


def _beside(source: Source, t: int) -> npt.NDArray[Any] | None:
    """Return a frame before or after another, None where there is none."""
    image, setup = source.image, source.setup
    if not 0 <= t < image.n_frames or image.is_missing(t, setup):
        return None
    return image.read(t, setup)


def _beneath(labels: I32, hers: I32, own: Bool) -> I32:
    """Return the masks without those of spots that a person outlined herself (N,), and without the pixels of her outlines."""
    if not own.any():
        return labels
    gone = np.concatenate([[False], own])
    return np.where(gone[labels] | (hers > 0), 0, labels).astype(np.int32)


def _say(source: Source, given: _Given) -> None:
    """Warn where the network saw few of the spots."""
    counts = given.counts
    if counts["masks_from_ellipsoids"] > counts["masks"] / 2:
        log.warning(
            "Of %d spots the network saw no cell at %d; their masks are their ellipsoids. Were the weights trained on such images, and "
            "do the spots lie on cells of %s?",
            counts["masks"],
            counts["masks_from_ellipsoids"],
            source.image.path,
        )
