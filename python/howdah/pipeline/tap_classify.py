"""Classes of spots, told by a classifier that a person taught: probabilities as features, and tags in a set of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bdv_io import Tracks
from bdv_io.tags import UNTAGGED, Feature, Tag
from howdah.errors import ConfigError, DataError
from howdah.lineages.colours import distinct_colours
from howdah.pipeline.challenge_rules import Challenge
from howdah.pipeline.detection import Job, _needs_torch
from howdah.pipeline.record import fingerprint, recorded
from howdah.pipeline.results import check_targets, write_results
from howdah.pipeline.sources import open_source, parse_frames
from howdah.pipeline.tap_features import DIVISION, own_tap_names, with_values
from howdah.pipeline.tap_link import for_movie, learned_share, trust_in
from howdah.pipeline.tap_network import PathLike, Sections, in_pixels, look_at
from howdah.progress import Progress, Steps

if TYPE_CHECKING:
    from howdah.nn.checkpoint import Weights

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

__all__ = ["classify_tap", "tag_set_of", "thresholds_of", "with_classes"]

BLOCK = 16  # frames between two signs of progress
NEGATIVE = "no division"  # a class that is nothing to jump to: it gets no tag
LEAST = 1e-9
EVEN = 0.5


def classify_tap(
    job: Job,
    classifier: PathLike,
    out: PathLike,
    *,
    settings: Sections,
    least: float | None = None,
    also: Sequence[PathLike] = (),
) -> Steps[dict[str, Any]]:
    """Tell the class of each spot of a project.

    Each class becomes a spot feature "TAP <class>", its probability; the likeliest class becomes a tag in the set "TAP <set>", where it
    reaches its threshold. The tags from which the classifier learned stay as they are, and so does a tag of "TAP <set>" that a person
    has changed or taken away since an earlier run.

    Args:
        job: A project that names its movie. ``frames``: whose spots are told; others keep what they have.
        classifier: From :func:`howdah.pipeline.tap_learn.learn_tap`.
        out: The result; its ending chooses the format.
        settings: ``{"tap": {...}}``.
        least: Least probability for a tag. None: for each class the one with the best F1 in the classifier's cross-validation.
        also: Further results.

    Returns:
        The files, and how many spots were told and tagged.

    Raises:
        DataError: There are no spots. ConfigError: ``least`` is no probability.
        WeightsError, BdvIoError: As the sentence says.
    """
    if least is not None and not 0 <= least <= 1:
        raise ConfigError(f"A least probability of {least:g} was given; it lies between 0 and 1.")
    with _needs_torch():
        from howdah.methods.tap.classify import classes_of, read_classifier
    file = Path(classifier)
    source = open_source(job.source, image=job.image, setup=job.setup, hints=job.hints if job.hints.given else None)
    told = read_classifier(file)
    classes = classes_of(told)
    source = replace(source, tracks=own_tap_names(source.tracks, *map(_feature, classes), _given(told)))
    frames = parse_frames(job.frames, source.image.n_frames)
    tracks = source.tracks
    rows = np.flatnonzero(np.isin(tracks.t, frames) & np.isfinite(tracks.centre).all(axis=1))
    if not len(rows):
        raise DataError(f"There is no spot to tell the class of in {source.files[0]}. Give a project with spots.")
    targets = check_targets([out, *also], source, more=[file])
    seen = look_at(source, frames, told, file=file, settings=settings)
    inputs = {**source.inputs, "classifier": file}
    with recorded(targets[0], "tap-classify", inputs=inputs, settings={"tap": dict(settings.get("tap", {}))}) as record:
        yield Progress("classify", 0, 1, message=seen.embedder.place.sentence)
        time = tracks.t[rows].astype(np.int64)
        centre, covariance = in_pixels(seen.opened, time, tracks.centre[rows], tracks.covariance[rows])
        found = yield from _probabilities(told, seen.frames, (time, centre, covariance))
        limits = thresholds_of(told, least)
        tracks = with_classes(tracks, rows, found, told, limits)
        written = write_results(targets, tracks, source, hints=job.hints, challenge=Challenge())
        tagged = _counted(tracks, rows, told)
        facts = {"spots": tracks.n_spots, "told": int(np.isfinite(found).all(axis=1).sum()), "tagged": tagged}
        facts |= {"thresholds": dict(zip(classes, np.round(limits, 4).tolist(), strict=True))}
        record.facts |= {**facts, **seen.facts, "classifier": fingerprint(file), "results": [str(p) for p in written]}
    more = {"also": [str(path) for path in written[1:]]} if len(written) > 1 else {}
    return {"out": str(written[0]), **more, "classifier": str(file), **facts}


def tag_set_of(classifier: Weights) -> str:
    """Return the tag set that a classifier fills."""
    return f"TAP {classifier.header['task'].get('tag_set') or 'classes'}"


def thresholds_of(classifier: Weights, least: float | None) -> npt.NDArray[np.float64]:
    """Return the least probability (n_classes,) for a tag: the one asked for, else the best of the cross-validation, else one half."""
    names = classifier.header["task"]["classes"]
    judged: Mapping[str, Any] = (classifier.header.get("crossed") or {}).get("classes", {})
    best = [judged.get(name, {}).get("best_threshold", EVEN) if least is None else least for name in names]
    return np.array(best, dtype=np.float64)


def with_classes(
    tracks: Tracks, rows: I64, probability: F32, classifier: Weights, limits: npt.NDArray[np.float64]
) -> Tracks:
    """Return the annotation with probabilities as features and classes as tags.

    Args:
        tracks: The annotation.
        rows: (R,) the spots that were told.
        probability: (R, n_classes), NaN where nothing is known.
        classifier: What told them.
        limits: (n_classes,) least probabilities for a tag.
    """
    names, name = list(classifier.header["task"]["classes"]), tag_set_of(classifier)
    for k, one in enumerate(names):
        values = probability[:, k].astype(np.float64)
        if _feature(one) == DIVISION:  # as linking needs it: with the share of divisions that this movie has
            header = classifier.header
            values = for_movie(values, prior=learned_share(header), trust=trust_in(header))
        tracks = with_values(tracks, _feature(one), "", rows, values)
    known: Bool = np.asarray(np.isfinite(probability).all(axis=1))
    positive = np.array([one != NEGATIVE for one in names])
    sure = np.where(known[:, None] & positive, probability / np.maximum(limits, LEAST), -1.0)  # 1 = just sure enough
    likely = sure.argmax(axis=1)
    reached: Bool = sure[np.arange(len(rows)), likely] >= 1
    before = tracks.feature(_given(classifier))
    own: Bool = _changed_by_a_person(tracks, name, names, classifier)
    colours = distinct_colours(len(names))
    tracks = tracks.with_tag_set(name, [Tag(one, colour) for one, colour in zip(names, colours, strict=True)])
    tags = tracks.tag_set(name)
    if tags is None:
        return tracks
    place = np.array([tags.position(one) for one in names])
    column, given = tags.spots.copy(), np.full(tracks.n_spots, np.nan)
    if before is not None:
        given = np.where(_there(before), before.values, np.nan).astype(np.float64)
    free = ~own[rows]
    column[rows[free]] = np.where(reached, place[likely], UNTAGGED)[free]
    given[rows[free]] = np.where(reached, likely + 1, 0)[free]
    tracks = tracks.with_tags(replace(tags, spots=column))
    return with_values(tracks, _given(classifier), "", np.arange(tracks.n_spots), given)


def _probabilities(classifier: Weights, frames: Any, places: tuple[I64, Any, Any]) -> Steps[F32]:
    """Return the (R, n_classes) probabilities of spots, some frames after another."""
    from howdah.methods.tap.classify import classes_of, predict_classes

    time, centre, covariance = places
    found = np.full((len(time), len(classes_of(classifier))), np.nan, dtype=np.float32)
    present = np.unique(time)
    for start in range(0, len(present), BLOCK):
        here = np.flatnonzero(np.isin(time, present[start : start + BLOCK]))
        found[here] = predict_classes(
            classifier, frames, time[here], centre[here], covariance[here], config=frames.config
        )
        yield Progress("classify", min(start + BLOCK, len(present)), len(present))
    return found


def _feature(name: str) -> str:
    return f"TAP {name}"


def _given(classifier: Weights) -> str:
    """The feature that remembers which tag the classifier gave: 0 none, 1 the first class ..."""
    return f"{tag_set_of(classifier)} given"


def _changed_by_a_person(tracks: Tracks, name: str, classes: Sequence[str], classifier: Weights) -> Bool:
    """(N,) whether the tag of a spot in the classifier's set is not the one that the classifier gave."""
    tags, given = tracks.tag_set(name), tracks.feature(_given(classifier))
    if tags is None:
        return np.zeros(tracks.n_spots, dtype=bool)
    tagged: Bool = tags.spots != UNTAGGED
    if given is None:
        return tagged
    places = np.array([UNTAGGED, *(tags.position(one) for one in classes)])
    numbers = np.where(_there(given), given.values, 0).astype(np.int64).clip(0, len(classes))
    found: Bool = tags.spots != places[numbers]
    return found


def _there(feature: Feature) -> Bool:
    known: Bool = np.isfinite(feature.values.astype(np.float64))
    there: Bool = np.ones(len(known), dtype=bool) if feature.defined is None else feature.defined
    found: Bool = known & there
    return found


def _counted(tracks: Tracks, rows: I64, classifier: Weights) -> dict[str, int]:
    tags = tracks.tag_set(tag_set_of(classifier))
    if tags is None:
        return {}
    return {tag.name: int((tags.spots[rows] == k).sum()) for k, tag in enumerate(tags.tags) if tag.name != NEGATIVE}
