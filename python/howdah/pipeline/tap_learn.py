"""Teaching TAP classes of spots: from the tags or the divisions of projects to a classifier, and how far one can trust it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bdv_io import Tracks
from howdah.errors import ConfigError, DataError
from howdah.lineages.protection import TRACKING, UNLABELLED, is_computed
from howdah.methods.tap.config import TapConfig
from howdah.methods.tap.head_config import HeadConfig
from howdah.metrics.classification import Curve
from howdah.pipeline.detection import Job, _needs_torch
from howdah.pipeline.record import fingerprint, recorded
from howdah.pipeline.sources import Source, check_target
from howdah.pipeline.stills import open_job
from howdah.pipeline.tap_movies import Opened, opened_of
from howdah.pipeline.tap_network import PathLike, Sections, in_pixels, look_at, refuse_input
from howdah.pipeline.tap_picture import draw_precision_recall
from howdah.pipeline.weights_of import read_weights_of
from howdah.progress import Steps

if TYPE_CHECKING:
    from howdah.methods.tap.examples import Examples
    from howdah.methods.tap.movies import Frames
    from howdah.nn.checkpoint import Weights

__all__ = ["Lesson", "curve_of", "examples_of", "frames_for", "learn_tap"]

log = logging.getLogger("howdah")


@dataclass(frozen=True)
class Lesson:
    """What the spots of a project teach.

    Attributes:
        tags: A tag set, whose tags are the classes. None: divisions.
        divisions: Mothers are one class, spots with one child the other.
        untagged: Class of the spots without a tag. None: they are unknown, and left out.
        compare: Other ways to learn, judged on the same folds: values of the setting ``mode``, ``"scratch"`` for example.
    """

    tags: str | None = None
    divisions: bool = False
    untagged: str | None = None
    compare: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.tags is None) == (not self.divisions):
            raise ConfigError(
                "Say what shall be learned: either the tags of a set (--tags SET), or divisions (--divisions)."
            )
        if self.divisions and self.untagged is not None:
            raise ConfigError("--untagged goes with --tags: of divisions, spots with one child are the other class.")
        for mode in self.compare:
            HeadConfig.of({"mode": mode, "head": "resnet"}, source="--compare")


def learn_tap(
    jobs: Sequence[Job], out: PathLike, *, lesson: Lesson, settings: Sections, weights: PathLike | None = None
) -> Steps[dict[str, Any]]:
    """Train a classifier of spots on what a person tagged or linked, and judge it by cross-validation.

    Args:
        jobs: Projects that name their movies. ``frames``: whose spots teach.
        out: The classifier (safetensors); the former file is kept as ``name~1~``. The precision-recall curves are drawn beside it,
            ``name-curves.png``.
        lesson: What they teach.
        settings: ``{"tap": {...}, "tap_head": {...}}``.
        weights: Of a network that learned from such movies. None: only for the modes ``scratch`` and ``pixels``.

    Returns:
        The classifier, and for each class the number of labels, average precision, its chance level, best F1 and its threshold.

    Raises:
        DataError: There is no such tag set, or too little to learn from.
        ConfigError, WeightsError, BdvIoError: As the sentence says.
    """
    head = HeadConfig.of(settings.get("tap_head", {}))
    with _needs_torch():
        from howdah.methods.tap.classify import train_classifier
        from howdah.methods.tap.examples import joined
    if not jobs:
        raise ConfigError("There is nothing to learn from: no project was named.")
    loaded = None if weights is None else read_weights_of("tap", Path(weights))
    file = Path(weights or "")
    examples, frames, target = [], [], Path(out)
    inputs: dict[str, Path] = {}
    for number, job in enumerate(jobs):
        source, wanted = open_job(job)
        target = check_target(out, source, ending=".safetensors")
        opened, seen = frames_for(source, loaded, file=file, settings=settings)
        examples.append(examples_of(opened, wanted, lesson, head, movie=number))
        frames.append(seen)
        after = f" {number + 1}" if len(jobs) > 1 else ""
        inputs |= {f"{name}{after}": path for name, path in source.inputs.items()}
    inputs |= {} if weights is None else {"weights": file}
    refuse_input(target, weights)
    used = {name: dict(settings.get(name, {})) for name in ("tap", "tap_head")}
    with recorded(target, "tap-learn", inputs=inputs, settings=used) as record:
        config = TapConfig.of(settings.get("tap", {}))
        trained = yield from train_classifier(
            joined(examples), frames, network=loaded, config=config, head=head, save_to=target, compare=lesson.compare
        )
        table, drawn = _table(trained), _draw(trained, target)
        kept = ("task", "data", "crossed", "compared", "metrics")
        record.facts |= {name: trained.header.get(name) for name in kept} | {"weights": fingerprint(target)}
    crossed = trained.header.get("crossed") or {}
    told = {} if not crossed else {"folds": crossed["folds"], "balanced_accuracy": crossed["balanced_accuracy"]}
    return {"classifier": str(target), **drawn, **told, "classes": table}


def examples_of(opened: Opened, frames: Sequence[int], lesson: Lesson, head: HeadConfig, *, movie: int = 0) -> Examples:
    """Return what the spots of a project teach.

    Args:
        opened: The movie; its source has the annotation.
        frames: Spots of these frames count.
        lesson: Tags or divisions.
        head: ``leave_out``.
        movie: Number of the movie.

    Raises:
        DataError: There is no such tag set.
    """
    from howdah.methods.tap.examples import division_examples, tagged_examples

    tracks = opened.source.tracks
    usable = np.isin(tracks.t, frames) & np.isfinite(tracks.centre).all(axis=1)
    if lesson.divisions:
        tracks = _linked_by_people(tracks, opened.source)
        if not tracks.n_links:
            raise DataError(
                f"Learning divisions is not possible: no spots of {opened.source.files[0]} are linked. Give a project with tracks, or tag "
                "some spots and learn the tags (--tags SET)."
            )
    if tracks.n_spots and not usable.any():
        raise DataError(
            f"Learning from {opened.source.files[0]} is not possible: none of its {tracks.n_spots} spots is in the frames that are looked "
            f"at ({min(frames)} to {max(frames)}). Check that the movie is the right one, and --frames."
        )
    tracks = tracks.select(usable)
    centre, covariance = in_pixels(opened, tracks.t, tracks.centre, tracks.covariance)
    if lesson.divisions:
        return division_examples(tracks.t, centre, covariance, tracks.links, leave_out=head.leave_out, movie=movie)
    tags = tracks.tag_set(lesson.tags or "")
    if tags is None:
        known = ", ".join(f"'{one.name}'" for one in tracks.tag_sets if not is_computed(one.name)) or "none"
        raise DataError(
            f"Learning the tags of '{lesson.tags}' is not possible: {opened.source.files[0]} has no such tag set. Tag sets are: {known}."
        )
    return tagged_examples(
        tracks.t,
        centre,
        covariance,
        tags.spots,
        classes=[tag.name for tag in tags.tags],
        movie=movie,
        name=tags.name,
        untagged=lesson.untagged,
    )


def curve_of(crossed: Mapping[str, Any], name: str) -> Curve:
    """Return the curve of a class that the header of a classifier holds."""
    one = crossed["classes"][name]
    precision, recall, threshold = (
        np.array(one[key], dtype=np.float64) for key in ("precision", "recall", "threshold")
    )
    return Curve(precision, recall, threshold, float(one["average_precision"]), float(one["chance"]))


def frames_for(source: Source, loaded: Weights | None, *, file: Path, settings: Sections) -> tuple[Opened, Frames]:
    """Return the movie of a project, and its frames as the network sees them."""
    every = range(source.image.n_frames)
    if loaded is not None:
        seen = look_at(source, every, loaded, file=file, settings=settings)
        return seen.opened, seen.frames
    from howdah.methods.tap.movies import Frames

    config = TapConfig.of(settings.get("tap", {}))
    opened = opened_of(source, every, config)
    return opened, Frames(opened.movie, config)


def _linked_by_people(tracks: Tracks, source: Source) -> Tracks:
    """Return the annotation with the links that a person made or approved: what a program guessed is nothing to learn from."""
    machine = tracks.tagged(TRACKING, UNLABELLED.name, links=True)
    if not machine.any():
        return tracks
    kept = tracks.select_links(~machine)
    if len(tracks.divisions()) and not len(kept.divisions()):
        raise DataError(
            f"Learning divisions is not possible: all {len(tracks.divisions())} divisions of {source.files[0]} were linked by a program "
            "and not approved by anyone. Look at some, and tag their links Tracking = Approved, or link them yourself."
        )
    log.info("%d links that a program made and nobody approved teach nothing.", int(machine.sum()))
    return kept


def _table(trained: Weights) -> list[dict[str, Any]]:
    """A line for each class: how many labels, and how well it is told from the others; then those of other ways to learn."""
    labels, task = trained.header["data"]["labels"], trained.header["task"]
    lines: list[dict[str, Any]] = []
    verdicts = {task["mode"]: trained.header.get("crossed") or {}, **(trained.header.get("compared") or {})}
    for mode, crossed in verdicts.items():
        for name in task["classes"]:
            one = crossed.get("classes", {}).get(name, {})
            lines.append(
                {
                    "class": name,
                    "learned": mode,
                    "labels": labels[name],
                    "average_precision": one.get("average_precision"),
                    "chance": one.get("chance"),
                    "best_F1": one.get("best_f1"),
                    "threshold": one.get("best_threshold"),
                }
            )
    return lines


def _draw(trained: Weights, target: Path) -> dict[str, str]:
    """Draw the curves of all classes; of two, only the second one, for they are each other's mirror."""
    task, header = trained.header["task"], trained.header
    if not header.get("crossed"):
        return {}
    shown = task["classes"][1:] if len(task["classes"]) == 2 else task["classes"]
    curves, thresholds = {}, {}
    for mode, crossed in {task["mode"]: header["crossed"], **(header.get("compared") or {})}.items():
        for name in (name for name in shown if name in crossed["classes"]):
            title = f"{name} ({mode})" if header.get("compared") else name
            curves[title] = curve_of(crossed, name)
            thresholds[title] = crossed["classes"][name]["best_threshold"]
    path = target.with_name(f"{target.stem}-curves.png")
    labels = sum(header["data"]["labels"].values())
    title = f"{task['tag_set']}: {labels} labels, judged on frames that were not learned from"
    draw_precision_recall(path, curves, thresholds=thresholds, title=title)
    return {"curves": str(path)}
