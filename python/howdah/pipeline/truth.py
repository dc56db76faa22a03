"""From files to what methods learn from that segment: challenge folders, TrackMate files, Mastodon projects, label images.

Everything becomes :class:`bdv_io.Tracks` first and is painted frame by frame when training asks: spots by their outlines, or
where there are none by their ellipses or ellipsoids. Of a label image the same pixels come back.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from bdv_io import FormatError, ImageSeries, Tracks
from bdv_io.formats import identify, open_image, read_tracks
from bdv_io.image import Hints
from bdv_io.masks import Grid, Painter
from howdah.errors import DataError
from howdah.methods.annotation import Annotation, Beside
from howdah.methods.elephant.status import TRACKING, TRACKING_TAGS, Status, spot_status
from howdah.pipeline.detection import Job
from howdah.pipeline.machine_marks import recognised
from howdah.pipeline.sources import Source, check_inside, frames_beside, open_source, parse_frames
from howdah.pipeline.truth_challenge import challenge_truth
from howdah.pipeline.truth_planes import single_planes

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
PathLike = str | os.PathLike[str]

__all__ = ["LabelFrames", "Teaching", "Truth", "annotation_of", "joined", "read_truth", "rejected", "sequences_of"]

SEQUENCE = re.compile(r"\d+")


class Teaching(Protocol):
    """What reading a truth needs to know of a method's settings."""

    @property
    def annotation(self) -> Literal["complete", "sparse"] | None:
        """Whether all cells of the annotated frames are outlined; None: as the files suggest."""

    @property
    def validation_share(self) -> float:
        """Share of the frames, the last of each sequence, that choose the best network."""


@dataclass(frozen=True, eq=False)
class Truth:
    """What teaches, and where it came from.

    Attributes:
        annotation: Frames and their cells.
        kind: What it is, for the record: ``"gold"``, ``"silver"``, ``"label image"``, ``"project"``.
        n_cells: Outlined cells in the frames that teach. n_links: Links between them.
        inputs: The files by what they are.
        source: The movie with its annotation; of several sequences the first.
    """

    annotation: Annotation
    kind: str
    n_cells: int
    n_links: int
    inputs: Mapping[str, Path]
    source: Source

    @property
    def facts(self) -> dict[str, object]:
        """What a record and a result say of it."""
        frames, complete = len(self.annotation.times), self.annotation.complete
        return {
            "truth": self.kind,
            "annotation": "complete" if complete else "sparse",
            "frames": frames,
            "cells": self.n_cells,
            "links": self.n_links,
        }


class LabelFrames:
    """Label images painted from the spots of an annotation when they are asked for: call it with a frame.

    Args:
        tracks: The annotation.
        image: The movie, which says how large a frame is and where it lies.
        setup: Its setup.
    """

    def __init__(self, tracks: Tracks, image: ImageSeries, setup: int = 0) -> None:
        self._tracks, self._image, self._setup = tracks, image, setup
        self._order = np.argsort(tracks.t, kind="stable").astype(np.int64)
        self._t = tracks.t[self._order]

    def rows(self, frame: int) -> I64:
        """Rows of the spots of a frame; the label of each is its place in them, from 1."""
        first, last = np.searchsorted(self._t, [frame, frame + 1])
        return self._order[first:last]

    def __call__(self, frame: int) -> I32:
        """Return the (Z, Y, X) labels of a frame; 0 where there is no spot."""
        rows, shape = self.rows(frame), self._image.shape(frame, self._setup)
        if not len(rows):
            return np.zeros(shape, dtype=np.int32)
        affine = self._image.affine(frame, self._setup)
        here = replace(self._tracks.select(rows), t=np.zeros(len(rows), dtype=np.int32))
        values = np.arange(1, len(rows) + 1, dtype=np.int64)
        painted: I32 = Painter(here, Grid(shape, affine, 1), values=values, dtype=np.int32).frame(0, affine)
        return painted


def read_truth(job: Job, config: Teaching, *, truth: PathLike | None = None, by_plane: bool = False) -> Truth:
    """Read the outlined cells that belong to a movie.

    Args:
        job: The source: a TrackMate file or project that names its movie; a challenge sequence (``01``, its truth ``01_GT`` and
            ``01_ST`` beside it), one of these two, or a folder of sequences (all of them teach); or a movie, with ``truth``.
            ``frames`` limits what teaches.
        config: ``annotation`` says whether all cells are outlined; ``validation_share`` orders several sequences.
        truth: Where the outlines are, if the source does not tell: a label image, a ROI set, a challenge folder, a project.
        by_plane: The method learns planes, and no links: gold masks of single planes teach, and advice does not speak of links.

    Raises:
        DataError: There is nothing to learn from, or it does not fit the movie.
        BdvIoError: A file is damaged or not there.
    """
    sequences = sequences_of(Path(job.source)) if truth is None else []
    if not sequences:
        return _single(job, config, truth, by_plane=by_plane)
    parts = [_single(replace(job, source=sequence), config, None, by_plane=by_plane) for sequence in sequences]
    inputs = {f"{name}_{path.name}": path for part in parts for name, path in part.inputs.items()}
    return replace(
        parts[0],
        annotation=joined([part.annotation for part in parts], validation_share=config.validation_share),
        kind=", ".join(dict.fromkeys(part.kind for part in parts)),
        n_cells=sum(part.n_cells for part in parts),
        n_links=sum(part.n_links for part in parts),
        inputs=inputs,
    )


def sequences_of(folder: Path) -> list[Path]:
    """Return the sequences (``01``, ``02``) of a challenge's data set that have a truth beside them; none for anything else."""
    if not folder.is_dir():
        return []
    named = [path for path in sorted(folder.iterdir()) if SEQUENCE.fullmatch(path.name) and path.is_dir()]
    return [path for path in named if any(path.with_name(f"{path.name}_{kind}").is_dir() for kind in ("GT", "ST"))]


@dataclass(frozen=True, eq=False)
class _Outlines:
    """What was read from a truth: its spots, the frames that are annotated (None: those with a spot), and its kind for the record."""

    tracks: Tracks
    times: tuple[int, ...] | None
    kind: str
    planes: Mapping[int, tuple[int, ...]] = field(default_factory=dict)


def _single(job: Job, config: Teaching, truth: PathLike | None, *, by_plane: bool) -> Truth:
    """Read the truth of one movie."""
    given = Path(job.source) if truth is None else Path(truth)
    source, read = _read(job, given, beside=truth is not None, by_plane=by_plane)
    tracks = _in_the_movie(read.tracks, source, read.kind)
    wanted = parse_frames(job.frames, source.image.n_frames)
    complete = config.annotation == "complete" or (config.annotation is None and read.times is not None)
    annotation, teaching = annotation_of(
        tracks, source, times=read.times, wanted=wanted, complete=complete, named=job.frames is not None
    )
    if read.kind == "label image":
        annotation = replace(annotation, mothers=False)
    if read.planes:
        annotation = replace(annotation, mothers=False, planes={t: read.planes[t] for t in annotation.times})
    if not teaching.n_spots:
        raise DataError(_nothing(given, tracks, read.kind, by_plane=by_plane))
    inputs = {**source.inputs, **({} if given in source.files else {"truth": given})}
    return Truth(annotation, read.kind, teaching.n_spots, teaching.n_links, inputs, source)


def _read(job: Job, given: Path, *, beside: bool, by_plane: bool) -> tuple[Source, _Outlines]:
    """Open the movie and read the outlines; ``beside`` says that they were named, else the source is both."""
    found = identify(given)
    planes = single_planes(given) if by_plane else None
    if planes is not None:
        movie = job.source if beside else planes.movie or _movie_of(given, None)
        source = open_source(movie, setup=job.setup, hints=job.hints if job.hints.given else None)
        cells = planes.cells(source.image, job.setup)
        return source, _Outlines(cells, tuple(planes.planes), "gold planes", planes.planes)
    if found.key == "ctc":
        return _challenge(job, given, beside=beside)
    source, _ = job.open()
    if found.kind == "image" and beside:
        hints = Hints(axes=job.hints.axes) if _needs_axes(given, job.hints) else None
        _check_length(given, source, hints)
        tracks = read_tracks(given, key="labels", hints=hints)
        times = np.unique(tracks.t).tolist()  # a frame without any outline was not worked on; it is hardly empty
        return source, _Outlines(tracks, tuple(times), "label image")
    if found.kind == "image":
        challenge = challenge_truth(given, job.hints)
        if challenge is None:
            raise DataError(
                f"There is nothing to train on: {given} is a movie without outlines. Give a TrackMate file or a project in which cells "
                "are outlined, or a challenge sequence with its truth beside it (01 and 01_GT); to train on other outlines, name them "
                "with --truth; to work with what is trained already, name the weights with --weights."
            )
        return source, _Outlines(*challenge)
    if found.key == "rois" and beside:
        return source, _Outlines(read_tracks(given, hints=_of_rois(source)), None, "ROI set")
    return source, _Outlines(read_tracks(given) if beside else source.tracks, None, "project")


def _needs_axes(labels: Path, hints: Hints) -> bool:
    """Whether a label image does not say what its axes are, but a user did of the movie."""
    if hints.axes is None or "axes" not in identify(labels).hints:
        return False
    try:
        open_image(labels).close()
    except FormatError:
        return True
    return False


def _of_rois(source: Source) -> Hints:
    """What a ROI set does not say: how large a pixel is, and whether a position in a plain stack is a plane or a frame."""
    image, setup = source.image, source.setup
    z, y, x = np.linalg.norm(image.affine(0, setup)[:3, :3], axis=0).tolist()
    deep, long = image.shape(0, setup)[0] > 1, image.n_frames > 1
    axes = None if deep == long else ("ZYX" if deep else "TYX")
    return Hints(axes=axes, voxel_size=(z, y, x), unit=image.setups[setup].unit)


def _challenge(job: Job, given: Path, *, beside: bool) -> tuple[Source, _Outlines]:
    """Read a challenge's folder of masks, and open its movie, which lies beside it unless another one was named."""
    challenge = challenge_truth(given, job.hints)
    movie = job.source if beside else _movie_of(given, challenge)
    source = open_source(movie, setup=job.setup, hints=job.hints if job.hints.given else None)
    return source, _Outlines(*challenge) if challenge else _Outlines(source.tracks, None, "project")


def annotation_of(
    tracks: Tracks,
    source: Source,
    *,
    times: Sequence[int] | None,
    wanted: Sequence[int],
    complete: bool,
    named: bool = False,
) -> tuple[Annotation, Tracks]:
    """Return what the spots of a person teach, and these spots.

    Spots and links that a machine made and nobody touched teach nothing, but where the annotation is complete: a person says by that
    that she looked at all of a frame. What she rejected (tags fp, tn, tb, fb) is no cell.

    Args:
        tracks: The annotation.
        source: The movie.
        times: Frames that are annotated; None for those with a spot of a person.
        wanted: Of these, the frames that may teach.
        complete: Whether all cells of these frames are outlined.
        named: Whether a person named the wanted frames: then, of a complete annotation, those with predictions alone teach too.

    Raises:
        DataError: A spot lies outside of the movie.
    """
    known = recognised(tracks)
    hers = ~rejected(known) & (spot_status(known) != Status.UNLABELLED)
    if times is None:
        times = np.unique(known.t if complete and named else known.t[hers]).tolist()
    cells = (~rejected(known) if complete else hers) & np.isin(known.t, wanted) & np.isin(known.t, times)
    taught = known.select(cells)
    if not complete:
        taught = taught.select_links(~taught.tagged(TRACKING, TRACKING_TAGS[1].name, links=True))
    check_inside(taught, source, np.arange(taught.n_spots))
    labels = LabelFrames(taught, source.image, source.setup)
    annotated = np.intersect1d(wanted, np.array(times, dtype=np.int64))
    image, setup = source.image, source.setup
    there = tuple(int(t) for t in annotated if not image.is_missing(int(t), setup))
    affine = image.affine(there[0] if there else 0, setup)
    z, y, x = np.linalg.norm(affine[:3, :3], axis=0).tolist()
    annotation = Annotation(
        frames=lambda frame: image.read(frame, setup),
        labels=labels,
        times=there,
        earlier=_earlier(taught, labels, there),
        complete=complete,
        voxel_size=(z, y, x),
        beside=lambda frame: frames_beside(source, frame, source.reader()),
    )
    return annotation, taught


def rejected(tracks: Tracks) -> npt.NDArray[np.bool_]:
    """(N,) mask of spots of which a person said that they are no cells."""
    mask: npt.NDArray[np.bool_] = np.isin(spot_status(tracks), [Status.FP, Status.TN, Status.TB, Status.FB])
    return mask


def joined(parts: Sequence[Annotation], *, validation_share: float) -> Annotation:
    """Return several movies as one, so that its last frames are the last ones of each movie.

    The frames at the end of the annotation choose the best network (``validation_share``): the paper takes the last tenth of every
    sequence. A frame that no movie has lies between two pieces, so that nothing is linked over the seam.

    Raises:
        DataError: There is none, or they differ in voxel size, or not all are complete.
    """
    if not parts or len({(part.complete, part.voxel_size) for part in parts}) != 1:
        raise DataError(
            f"{len(parts)} movies cannot be learned as one: they must all have the same voxel size, and all be annotated completely or "
            "all sparsely. Train on one of them, and go on with --start on the next."
        )
    pieces: list[tuple[int, int]] = []  # (movie, frame) in their new order
    for early in (True, False):
        for number, part in enumerate(parts):
            cut = len(part.times) - round(validation_share * len(part.times))
            pieces += [(number, t) for t in (part.times[:cut] if early else part.times[cut:])]
    place: dict[int, tuple[int, int]] = {}
    earlier: dict[int, I64] = {}
    time, before = -1, (-1, -1)
    for number, t in pieces:
        follows = (number, t - 1) == before
        time += 1 if follows else 2
        place[time], before = (number, t), (number, t)
        if follows and t in parts[number].earlier:
            earlier[time] = parts[number].earlier[t]

    def beside(frame: int) -> Beside:
        number, t = place[frame]
        read = parts[number].beside
        return read(t) if read is not None else (None, None)

    return Annotation(
        frames=lambda frame: parts[place[frame][0]].frames(place[frame][1]),
        labels=lambda frame: parts[place[frame][0]].labels(place[frame][1]),
        times=tuple(place),
        earlier=earlier,
        complete=parts[0].complete,
        voxel_size=parts[0].voxel_size,
        planes={t: parts[n].planes[before] for t, (n, before) in place.items() if before in parts[n].planes},
        mothers=all(part.mothers for part in parts),
        beside=beside if all(part.beside is not None for part in parts) else None,
    )


def _earlier(tracks: Tracks, labels: LabelFrames, times: Sequence[int]) -> dict[int, I64]:
    """Where the cells of each frame were one frame earlier, as labels; of several parents the first."""
    number = np.zeros(tracks.n_spots, dtype=np.int64)
    for t in times:
        rows = labels.rows(t)
        number[rows] = np.arange(1, len(rows) + 1)
    source, target = tracks.links.T
    near = np.flatnonzero(tracks.t[target] - tracks.t[source] == 1)
    near = near[np.unique(target[near], return_index=True)[1]]
    pairs, frame = np.stack([number[target[near]], number[source[near]]], axis=1), tracks.t[target[near]]
    return {t: found for t in times if len(found := pairs[frame == t])}


def _in_the_movie(tracks: Tracks, source: Source, kind: str) -> Tracks:
    """Return the annotation in the world of the movie: label images and challenge masks may know pixels only."""
    image, setup = source.image, source.setup
    if kind in ("project", "gold planes") or not tracks.n_spots:
        return tracks
    carried = tracks.carried.entries.get("grid")
    if carried is None:
        return tracks
    said = json.loads(carried)
    shape, own = tuple(said["shape"]), np.array(said["affine"])
    if shape != tuple(image.shape(0, setup)):
        raise DataError(
            f"The outlines have (Z, Y, X) = {shape} pixels, but the frames of {image.path} have {image.shape(0, setup)}. "
            "Do they belong together?"
        )
    to_world = image.affine(0, setup) @ np.linalg.inv(own)
    if np.allclose(to_world, np.eye(4)):
        return replace(tracks, space_unit=image.setups[setup].unit)
    return _moved(tracks, to_world, unit=image.setups[setup].unit)


def _moved(tracks: Tracks, affine: npt.NDArray[np.float64], *, unit: str) -> Tracks:
    """Return the annotation in another world: 4x4, along the axes only for outlines."""
    outlines = tracks.outlines
    turned = affine[:3, :3]
    vertices = outlines.vertices @ affine[1:3, 1:3].T + affine[1:3, 3]
    return replace(
        tracks,
        centre=tracks.centre @ turned.T + affine[:3, 3],
        covariance=turned @ tracks.covariance @ turned.T,
        outlines=replace(outlines, z=outlines.z * affine[0, 0] + affine[0, 3], vertices=vertices),
        space_unit=unit,
    )


def _check_length(labels: Path, source: Source, hints: Hints | None) -> None:
    opened = open_image(labels, hints=hints)
    try:
        n = opened.n_frames
    finally:
        opened.close()
    if n > source.image.n_frames:
        raise DataError(
            f"The label image {labels} has {n} frames, but {source.image.path} has {source.image.n_frames}. Do they belong together?"
        )


def _movie_of(given: Path, challenge: tuple[Tracks, tuple[int, ...], str] | None) -> str:
    named = challenge[0].attributes.get("image", "") if challenge else ""
    if not named:
        raise DataError(f"{given} has no movie beside it (01 beside 01_GT). Give the movie, and this with --truth.")
    return named


def _nothing(given: Path, tracks: Tracks, kind: str, *, by_plane: bool) -> str:
    machine = int((spot_status(recognised(tracks)) == Status.UNLABELLED).sum()) if kind == "project" else 0
    seen = f" ({machine} are predictions that nobody touched)" if machine else ""
    return (
        f"There is nothing to train on in {given}: no cell is outlined in the frames that were asked for{seen}. Outline some cells"
        f"{', in two frames that follow each other at least, and link them' if not by_plane else ''}."
    )
