"""Events marked pixel by pixel: learning them from label images or tagged spots, and marking those of a movie."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bdv_io import ImageSeries, Tracks
from bdv_io.formats import identify, open_image, read_tracks
from howdah.errors import ConfigError, DataError
from howdah.methods.tap.config import TapConfig
from howdah.methods.tap.head_config import HeadConfig
from howdah.pipeline.challenge_rules import Challenge
from howdah.pipeline.detection import Job, _needs_torch
from howdah.pipeline.found_cells import Gathered
from howdah.pipeline.machine_marks import marked
from howdah.pipeline.record import fingerprint, recorded
from howdah.pipeline.results import check_targets, write_results
from howdah.pipeline.sources import check_target
from howdah.pipeline.stills import open_job
from howdah.pipeline.tap_events import EVENT, TAG_SET
from howdah.pipeline.tap_learn import Lesson, examples_of, frames_for
from howdah.pipeline.tap_maps import Computed, check_image_target, writing
from howdah.pipeline.tap_movies import Opened
from howdah.pipeline.tap_network import PathLike, Sections, Seen, look_at, refuse_input
from howdah.pipeline.tap_time import in_words, timed
from howdah.pipeline.truth import LabelFrames
from howdah.pipeline.weights_of import read_weights_of
from howdah.progress import Progress, Steps

if TYPE_CHECKING:
    from howdah.methods.tap.dense import EventTruth
    from howdah.nn.checkpoint import Weights

F32 = npt.NDArray[np.float32]
Array = npt.NDArray[Any]

__all__ = ["EventLesson", "learn_events_tap", "segment_events_tap"]

log = logging.getLogger("howdah")

DIVISION = "division"
LIGHT = {
    "width": 16,
    "patch": 32,
    "n_steps": 100,
    "folds": 3,
}  # two minutes on one core; the defaults of other heads took half an hour


@dataclass(frozen=True)
class EventLesson:
    """Where events are marked.

    Attributes:
        truth: A movie of label images, in which everything that is not 0 is an event; or an annotation. None: the source itself.
        tags: Of an annotation: the tag set; what has another tag in it is known to be no event. None: every spot is an event, and what
            else is in these frames is none.
        event: The tag that is the event.
        divisions: Of an annotation: mothers are the events.
        compare: Other values of the setting ``mode`` that are judged, too.
    """

    truth: PathLike | None = None
    tags: str | None = None
    event: str | None = None
    divisions: bool = False
    compare: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.tags is None) != (self.event is None):
            raise ConfigError("Which tag is the event? Give both, the set and the tag: --tags SET --event TAG.")
        if self.tags is not None and self.divisions:
            raise ConfigError("Give either --tags with --event, or --divisions; not both.")
        for mode in self.compare:
            HeadConfig.of({"mode": mode, "head": "resnet"}, source="--compare")


def learn_events_tap(
    job: Job, out: PathLike, *, lesson: EventLesson, settings: Sections, weights: PathLike | None = None
) -> Steps[dict[str, Any]]:
    """Train a small network on top of the features that marks events pixel by pixel, and judge it by cross-validation.

    Args:
        job: The movie, or a project. ``frames``: which frames are annotated.
        out: The trained weights (safetensors); the former file is kept as ``name~1~``.
        lesson: Where the events are marked.
        settings: ``{"tap": {...}, "tap_head": {...}}``; without ``width``, ``patch``, ``n_steps`` and ``folds`` it is a small network that
            learns within minutes on a processor (:data:`LIGHT`).
        weights: Of a network that learned from such movies. None: only for the mode ``scratch``.

    Returns:
        The file, and how well events are marked on frames that were not learned from.

    Raises:
        DataError: No event is marked, or labels do not fit the movie. ConfigError, WeightsError, BdvIoError: As the sentence says.
    """
    head = HeadConfig.of({**LIGHT, **settings.get("tap_head", {})})
    with _needs_torch():
        from howdah.methods.tap.dense import train_events
    loaded = None if weights is None else read_weights_of("tap", Path(weights))
    source, wanted = open_job(job)
    target = check_target(out, source, ending=".safetensors")
    refuse_input(target, weights)
    opened, frames = frames_for(source, loaded, file=Path(weights or ""), settings=settings)
    inputs = {**source.inputs, **({} if lesson.truth is None else {"truth": Path(lesson.truth)})}
    inputs |= {} if weights is None else {"weights": Path(weights)}
    truth = _truth(opened, wanted, lesson, head)
    used = {name: dict(settings.get(name, {})) for name in ("tap", "tap_head")}
    with recorded(target, "tap-learn-events", inputs=inputs, settings=used) as record:
        config = TapConfig.of(settings.get("tap", {}))
        steps = train_events(
            truth, [frames], network=loaded, config=config, head=head, save_to=target, compare=lesson.compare
        )
        trained = yield from timed(steps, lambda seconds, _: _how_long(seconds, head, lesson))
        kept = ("task", "data", "crossed", "compared", "metrics")
        record.facts |= {name: trained.header.get(name) for name in kept} | {"weights": fingerprint(target)}
    judged = {head.mode: trained.header.get("crossed") or {}, **(trained.header.get("compared") or {})}
    table = [{"learned": mode, **verdict} for mode, verdict in judged.items() if verdict]
    return {
        "weights": str(target),
        "annotated_frames": len(truth.samples),
        "judged": table or "not possible: events of more frames are needed",
    }


def segment_events_tap(
    job: Job,
    head: PathLike,
    out: PathLike,
    *,
    settings: Sections,
    also: Sequence[PathLike] = (),
    map_to: PathLike | None = None,
) -> Steps[dict[str, Any]]:
    """Mark the events of a movie with their outlines.

    The result holds the events alone, each with the tag "TAP" = "event" and as quality its mean probability.

    Args:
        job: The movie. ``frames``: where to look.
        head: From :func:`learn_events_tap`.
        out: The result; its ending chooses the format: labels ``.tif`` or ``.ome.zarr``, ROI set ``.zip``, TrackMate ``.xml``,
            ``.mastodon``, ``.geff``, ``.csv``.
        settings: ``{"tap": {...}, "tap_head": {...}}``; of the latter ``threshold`` and ``min_size`` count.
        also: Further results.
        map_to: Where to write the probability of each pixel, as an image.

    Returns:
        The files, the numbers of frames and events.

    Raises:
        DataError: No frame has a later one. ConfigError, WeightsError, BdvIoError: As the sentence says.
    """
    with _needs_torch():
        from howdah.methods.tap.dense import read_events
    file = Path(head)
    trained = read_events(file)
    source, wanted = open_job(job)
    targets = check_targets([out, *also], source, more=[file])
    image_target = None if map_to is None else check_image_target(map_to, source, more=[file])
    bare = replace(source, tracks=Tracks.empty(space_unit=source.tracks.space_unit))
    seen = look_at(bare, wanted, trained, file=file, settings=settings)
    used = {name: dict(settings.get(name, {})) for name in ("tap", "tap_head")}
    with recorded(targets[0], "tap-segment-events", inputs={**source.inputs, "head": file}, settings=used) as record:
        yield Progress("events", 0, 1, message=seen.embedder.place.sentence)
        image = _Chances(seen, trained, settings)
        if image_target is not None:
            yield from writing(image_target, image, "events")
        else:
            for done, time in enumerate(image.times, start=1):
                image.read(time)
                yield Progress("events", done, len(image.times))
        found = image.tracks()
        written = write_results(targets, found, bare, hints=job.hints, challenge=Challenge())
        facts = {"frames": len(image.times), "events": found.n_spots}
        record.facts |= {**facts, **seen.facts, "weights": fingerprint(file), "results": [str(p) for p in written]}
    more: dict[str, Any] = {"also": [str(path) for path in written[1:]]} if len(written) > 1 else {}
    more |= {} if image_target is None else {"map": str(image_target)}
    return {"out": str(written[0]), **more, "weights": str(file), **facts}


def _how_long(seconds: float, head: HeadConfig, lesson: EventLesson) -> str:
    """Say how long judging and learning take."""
    rounds = 1 + (head.folds or 1) * len({head.mode, *lesson.compare})
    return (
        f"{rounds} trainings of {head.n_steps} steps, all but the last one to judge by, take "
        f"{in_words(seconds * rounds * head.n_steps)} at this speed. --n-steps, --width and --folds change that."
    )


class _Chances(Computed):
    """How likely each pixel is part of an event, computed when it is read; the events in it are gathered on the way."""

    def __init__(self, seen: Seen, trained: Weights, settings: Sections) -> None:
        super().__init__(seen, ["probability"], shape=seen.opened.movie.shape, shrink=1)
        task = trained.header["task"]
        self.head = HeadConfig.of(
            {**task["settings"], **settings.get("tap_head", {})}, source="the header of the weights"
        )
        self._trained, there = trained, set(seen.frames.times)
        self.times = [t for t in seen.opened.frames if all(t + step in there for step in task["steps"])]
        if not self.times:
            raise DataError(
                f"Marking events in {seen.opened.movie.name} is not possible: none of the frames that were asked for has the later frame "
                "that belongs to it. Choose more frames: --frames"
            )
        self._wanted, self._done = set(self.times), set[int]()
        self._gathered = Gathered(seen.opened.source, self.head.least_size)

    def _compute(self, frame: int) -> F32:
        from howdah.methods.tap.dense import events_of, predict_events

        chance = predict_events(self._trained, self.seen.frames, frame, config=self.seen.config)
        if frame not in self._done:
            labels = events_of(chance, self.head)
            size = np.bincount(labels.ravel(), minlength=1)[1:]
            quality = np.bincount(labels.ravel(), weights=chance.ravel(), minlength=1)[1:] / np.maximum(size, 1)
            self._gathered.add(frame, labels, quality, self._image.read(frame, self._setup))
            self._done.add(frame)
        return chance

    def tracks(self) -> Tracks:
        """Return the events that were found."""
        found, new, _ = self._gathered.tracks()
        tagged = found.with_tag_set(TAG_SET, [EVENT]).with_tag(TAG_SET, EVENT, spots=new)
        return marked(tagged, spots=new, links=np.empty(0, dtype=np.int64)).sorted_by_frame()


def _truth(opened: Opened, wanted: Sequence[int], lesson: EventLesson, head: HeadConfig) -> EventTruth:
    """Return where events are marked, and what is known to be none."""
    from howdah.methods.tap.dense import EventTruth, truth_of_spots

    image, source = opened.source.image, opened.source
    if lesson.truth is not None and identify(lesson.truth).kind == "image":
        if lesson.tags is not None or lesson.divisions:
            raise ConfigError(f"{lesson.truth} is an image; tags and divisions are those of a project. Leave them out.")
        return _painted(opened, wanted, Path(lesson.truth))
    tracks = source.tracks if lesson.truth is None else read_tracks(lesson.truth)
    if not tracks.n_spots:
        raise DataError(
            f"There is nothing to learn from in {lesson.truth or source.files[0]}: no event is marked. Give label images or an "
            "annotation: --truth FILE"
        )
    if lesson.tags is None and not lesson.divisions:
        labels = LabelFrames(tracks, image, opened.setups[0])
        times = sorted(set(np.unique(tracks.t).tolist()) & set(wanted) - opened.movie.missing)
        return EventTruth(tuple((0, t) for t in times), lambda _, t: (labels(t), None))
    taught = Lesson(tags=lesson.tags, divisions=lesson.divisions)
    held = replace(opened, source=replace(source, tracks=tracks))
    examples = examples_of(held, wanted, taught, head)
    return truth_of_spots(examples, lesson.event or DIVISION, opened.movie.shape)


def _painted(opened: Opened, wanted: Sequence[int], path: Path) -> EventTruth:
    """Return the events of a movie of label images."""
    from howdah.methods.tap.dense import EventTruth

    labels: ImageSeries = open_image(path)
    if labels.n_frames != opened.movie.n_frames:
        raise DataError(
            f"The labels {path} have {labels.n_frames} frame(s), but {opened.movie.name} has {opened.movie.n_frames}. They must be of the "
            "same movie; frames without events are empty images. --frames says which of them were looked at."
        )
    times = [t for t in wanted if t not in opened.movie.missing and not labels.is_missing(t)]
    return EventTruth(tuple((0, t) for t in times), lambda _, t: (np.asarray(labels.read(t)), None))
