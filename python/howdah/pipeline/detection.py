"""Training a detector on a project's marks, and finding the nuclei of a movie with it."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bdv_io import Tracks
from bdv_io.formats import writer_for
from bdv_io.image import Hints
from howdah.errors import ConfigError, DataError, MissingExtraError
from howdah.methods.elephant.box import Box, box_around, region_of
from howdah.methods.elephant.config import ElephantConfig
from howdah.methods.elephant.defaults import spot_limits
from howdah.methods.elephant.status import Status, spot_status
from howdah.pipeline.record import Record, fingerprint, recorded
from howdah.pipeline.saving import save
from howdah.pipeline.sources import Source, check_inside, check_target, open_source, parse_frames
from howdah.progress import Progress, Steps

if TYPE_CHECKING:
    from howdah.methods import Spots
    from howdah.methods.elephant.predict import Detector
    from howdah.nn.checkpoint import Weights

__all__ = [
    "Job",
    "Where",
    "detector_of",
    "find",
    "merged",
    "predict",
    "settings_of",
    "train",
    "warn_beside",
]

Sections = Mapping[str, Mapping[str, Any]]
log = logging.getLogger("howdah")


@dataclass(frozen=True)
class Job:
    """What to work on.

    Attributes:
        source: A project that names its movie, or a movie.
        image: The movie, where the project does not name it or it has moved.
        setup: Position of the view setup (channel).
        frames: Frames to work on as text, ``"0-4,9"``; None for all.
        hints: What is known of the movie, and its file does not say.
    """

    source: str | os.PathLike[str]
    image: str | os.PathLike[str] | None = None
    setup: int = 0
    frames: str | None = None
    hints: Hints = field(default_factory=Hints)

    def open(self) -> tuple[Source, list[int]]:
        """Open the source; return it with the frames to work on."""
        source = open_source(
            self.source, image=self.image, setup=self.setup, hints=self.hints if self.hints.given else None
        )
        return source, parse_frames(self.frames, source.image.n_frames)


@dataclass(frozen=True)
class Where:
    """Which part of a frame is predicted, and what is said of a person's spots there.

    Attributes:
        box: Middle of a box and its edges, ``"z,y,x"``, ``"z,y,x,edge"`` or ``"z,y,x,dz,dy,dx"``, world units; where edges are
            not given they are about five nuclei long. None: everywhere.
        update_status: Tag a person's spots by whether they were predicted (tp or fn, fp or tn, fb or tb).
    """

    box: str | None = None
    update_status: bool = False

    def corners(self, r_max: float | None) -> Box | None:
        """Return the box in world coordinates, None for everywhere; ``r_max`` is about the diameter of a usual nucleus.

        Raises:
            ConfigError: The box is not 3, 4 or 6 numbers, an edge is not positive, or no size is known.
        """
        if self.box is None:
            return None
        try:
            numbers = [float(part) for part in self.box.split(",")]
        except ValueError:
            numbers = []
        edges = numbers[3:]
        if len(numbers) not in (3, 4, 6) or not np.isfinite(numbers).all() or min(edges, default=1.0) <= 0:
            raise ConfigError(
                f"The box '{self.box}' is not understood. Give its middle z,y,x, then one edge or three, in world units: "
                "3, 4 or 6 numbers."
            )
        if not edges and r_max is None:
            raise ConfigError(
                "These weights do not say how large nuclei are: give the edge of the box, too (Z,Y,X,EDGE)."
            )
        return box_around(numbers[:3], edges if len(edges) == 3 else edges[0] if edges else 5 * (r_max or 0.0))


def train(
    job: Job,
    weights: str | os.PathLike[str],
    *,
    settings: Sections,
    start: str | os.PathLike[str] | None = None,
    resume: bool = True,
) -> Steps[dict[str, Any]]:
    """Train ELEPHANT detection on the marked nuclei of a project.

    Args:
        job: The project; ``frames`` limits the marks that are used.
        weights: Where the weights go (safetensors); the former file is kept as ``name~1~``. While the training runs its
            state is beside it; a stopped training goes on from there.
        settings: ``{"elephant": {...}}``, fields of :class:`ElephantConfig`.
        start: Weights to start from: ours, or published ones.
        resume: Go on with a training of the same marks and settings that was stopped.

    Returns:
        The weights file, their fingerprint, and the last losses.

    Raises:
        DataError: There is nothing to train on, or a mark lies outside of the image.
        WeightsError, ConfigError, BdvIoError: As the sentence says.
    """
    source, frames = job.open()
    marks = _marks(source, frames)
    config = ElephantConfig.of(settings.get("elephant", {}))
    target = check_target(weights, source, ending=".safetensors")
    with recorded(target, "train", inputs=source.inputs, settings={"elephant": config.model_dump()}) as record:
        trained = yield from _train(source, marks, config, target=target, start=start, resume=resume)
        record.facts |= {"weights": fingerprint(target), **_about(trained)}
        result = {"weights": str(target), "marks": marks.n_spots, "losses": dict(trained.header["metrics"])}
    return result


def predict(
    job: Job,
    out: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str],
    settings: Sections,
    where: Where | None = None,
) -> Steps[dict[str, Any]]:
    """Find the nuclei of every frame, and write them with what a person annotated.

    Args:
        job: A project, whose annotation is kept, or a movie alone.
        out: The result; its ending chooses the format.
        weights: From :func:`train`, or published ones.
        settings: ``{"elephant": {...}}``; what is not given is as the weights were trained.
        where: Only in a box, and whether a person's spots are tagged by what was predicted.

    Returns:
        The file and the counts.
    """
    writer_for(out)
    source, frames = job.open()
    target = check_target(out, source, in_place=True)
    inputs = {**source.inputs, "weights": Path(weights)}
    with recorded(target, "predict", inputs=inputs, settings=settings) as record:
        found = yield from find(source, frames, Path(weights), settings, record=record, where=where)
        written = save(target, found, source.image, hints=job.hints)
        record.facts |= {"weights": fingerprint(Path(weights)), "spots": found.n_spots}
    return {"out": str(written), "spots": found.n_spots, "new_spots": found.n_spots - source.tracks.n_spots}


def find(
    source: Source,
    frames: list[int],
    weights: Path,
    settings: Sections,
    *,
    record: Record,
    where: Where | None = None,
) -> Steps[Tracks]:
    """Find the nuclei of some frames and merge them with the annotation; nothing is written."""
    detector = detector_of(weights, settings, marks=source.tracks)
    record.facts |= {"device": str(detector.place.device), "settings_used": detector.config.model_dump(mode="json")}
    image, setup = source.image, source.setup
    chosen, read = where or Where(), source.reader(detector.config.temporal_mean)
    box = chosen.corners(detector.config.r_max)
    warn_beside(box, source, frames, chosen.box)
    found: dict[int, Spots] = {}
    yield Progress("detect", 0, len(frames), message=detector.place.sentence)
    for number, frame in enumerate(frames):
        if image.is_missing(frame, setup):
            log.warning("Frame %d of %s is missing; no nuclei are looked for there.", frame, image.path)
        else:
            found[frame] = detector.predict_spots(read(frame), image.affine(frame, setup), box=box)
        yield Progress("detect", number + 1, len(frames), values={"nuclei": float(len(found.get(frame, ())))})
    return merged(source.tracks, found, detector.config, update_status=chosen.update_status, box=box)


def merged(
    tracks: Tracks, found: Mapping[int, Spots], config: ElephantConfig, *, update_status: bool, box: Box | None
) -> Tracks:
    """Put what was found into an annotation; where nobody said how near two nuclei may be, that follows from what was found."""
    from howdah.methods.elephant.merge import merge

    distance = config.suppression_distance
    if distance is None:
        distance = _usual_distance(found)
        log.warning("Neither weights nor marks say how near two nuclei may be: suppression_distance is %.3g.", distance)
    return merge(tracks, found, suppression_distance=distance, update_status=update_status, box=box)


def warn_beside(box: Box | None, source: Source, frames: list[int], text: str | None) -> None:
    """Warn where a box lies beside all of the frames."""
    image, setup = source.image, source.setup
    if box is not None and not any(
        region_of(box, image.affine(frame, setup), image.shape(frame, setup)) for frame in frames
    ):
        log.warning("The box %s lies beside the image in all of the frames; nothing will be found.", text)


def detector_of(weights: Path, settings: Sections, *, marks: Tracks | None = None) -> Detector:
    """Return the detector of a weights file; see :func:`settings_of`."""
    with _needs_torch():
        from howdah.methods.elephant.predict import Detector
    return Detector(*settings_of(weights, settings, marks=marks))


def settings_of(weights: Path, settings: Sections, *, marks: Tracks | None = None) -> tuple[Weights, ElephantConfig]:
    """Return the weights of a file, and the settings to use them with; what is left open is as it was trained.

    What published weights do not say of the sizes of nuclei is taken from a person's ``marks``, where there are some.
    """
    with _needs_torch():
        from howdah.pipeline.weights_of import read_weights_of

        loaded = read_weights_of("elephant", weights)
    resolved = dict(loaded.header.get("resolved", {}))
    given = dict(settings.get("elephant", {}))
    # where and how to compute is this machine's affair, not that of the machine that trained
    for field_name in ("device", "precision", "memory_mb", "tile_size"):
        resolved.pop(field_name, None)
    config = ElephantConfig.of({**resolved, **given}, source=f"the settings and the header of {weights}")
    if marks is not None:
        limits = _limits(marks)
        config = config.but(**{n: limits[n] for n in limits if getattr(config, n) is None and resolved.get(n) is None})
    return loaded, config


def _limits(tracks: Tracks) -> dict[str, float]:
    """Limits of size and distance from the nuclei that a person marked; empty without any."""
    usable = np.isin(spot_status(tracks), [Status.TP, Status.FN])
    usable &= np.isfinite(tracks.covariance).all(axis=(1, 2))
    return spot_limits(tracks.covariance[usable]) if usable.any() else {}


def _usual_distance(found: Mapping[int, Spots]) -> float:
    """Suppression distance from what was found, by the rule for marks; 0 where nothing was."""
    shapes = [spots.covariance for spots in found.values() if len(spots)]
    return spot_limits(np.concatenate(shapes))["suppression_distance"] if shapes else 0.0


def _marks(source: Source, frames: list[int]) -> Tracks:
    """The annotation in the frames that shall be learned from; an error if it teaches nothing."""
    tracks = source.tracks
    wanted = np.isin(tracks.t, frames) if len(frames) < source.image.n_frames else np.ones(tracks.n_spots, dtype=bool)
    status = spot_status(tracks)
    teaching = wanted & (status != Status.UNLABELLED)
    positive = teaching & np.isin(status, [Status.TP, Status.FN])
    if not positive.any():
        if not source.is_project:
            raise DataError(
                f"There is nothing to train on: {source.files[0]} is a movie without marks. Give the project in which nuclei are "
                "marked, and the movie with --image if the project does not name it."
            )
        machine = int((wanted & (status == Status.UNLABELLED)).sum())
        seen = f" ({machine} spots are predictions that nobody validated)" if machine else ""
        raise DataError(
            f"There is nothing to train on in {source.files[0]}: no nucleus is marked{seen}. "
            "Mark at least one nucleus, better ten, in Mastodon, and save the project."
        )
    check_inside(tracks, source, np.flatnonzero(teaching))
    return tracks.select(teaching)


def _train(
    source: Source,
    marks: Tracks,
    config: ElephantConfig,
    *,
    target: Path,
    start: str | os.PathLike[str] | None,
    resume: bool,
) -> Steps[Weights]:
    with _needs_torch():
        from howdah.methods.elephant.train import train as train_elephant
        from howdah.pipeline.weights_of import read_weights_of

    image, setup = source.image, source.setup
    first = None if start is None else read_weights_of("elephant", Path(start))
    return (
        yield from train_elephant(
            source.reader(config.temporal_mean),
            marks,
            config,
            affine=lambda frame: image.affine(frame, setup),
            start=first,
            save_to=target,
            resume=resume,
        )
    )


class _needs_torch:  # noqa: N801  reads as a phrase: with _needs_torch()
    """Turns the absence of torch into a sentence."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ModuleNotFoundError) and error.name in ("torch", "safetensors", "timm"):
            raise MissingExtraError(
                f"Training and finding nuclei need {error.name}, which is not installed. Install it with: pip install 'howdah[learn]'"
            ) from None


def _about(weights: Weights) -> dict[str, Any]:
    kept = ("method", "resolved", "data", "metrics", "steps", "start", "device", "precision")
    return {f"training_{name}" if name == "data" else name: weights.header.get(name) for name in kept}
