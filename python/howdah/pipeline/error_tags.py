"""Errors of a result as tags, numbers and colours, so that Mastodon and TrackMate lead to them.

An annotation that was evaluated has a tag set "Evaluation". A spot carries the worst that is wrong with it, a link whether it
is right or false. A link that is missing cannot be tagged: both its ends are. What the result missed is added: true spots,
tagged *missed spot*, never linked, so that every track of the result stays as it is; link one (or take off its tag) and it is
yours. The next evaluation takes away what this one added (:func:`without_evaluation`) and nothing else.

Beside the tags are numbers, which Mastodon and TrackMate list, sort and colour by: ``EVAL_SEVERITY`` (0 for what is right, to 1),
``EVAL_DISTANCE`` to the true place, ``EVAL_IOU`` with the true mask. TrackMate knows no tags; its files hold them as one more
number, and errors may be coloured by hand's colours, where no hand has coloured before.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io import Tracks
from bdv_io.tags import UNTAGGED, Feature, Tag, TagSet
from howdah.errors import DataError
from howdah.metrics.matching import UNMATCHED, Matching
from howdah.metrics.mistakes import KINDS, Mistakes
from howdah.metrics.tracking import link_verdicts

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = ["TAGS", "TAG_SET", "tagged", "without_evaluation"]

TAG_SET = "Evaluation"
BESIDE = "Evaluation (Howdah)"  # where somebody has a tag set of this name with tags of her own
MISSED = "missed spot"
TAGS = (  # a spot has the last of those that fit; blue and orange are told apart by all eyes
    Tag("right", 0xFF2E8B57),
    Tag("false link", 0xFFE69F00),
    Tag("missed link", 0xFFF0E442),
    Tag("poor mask", 0xFFCC79A7),
    Tag("false spot", 0xFFD55E00),
    Tag(MISSED, 0xFF56B4E9),
    Tag("false division", 0xFFFF2D55),
    Tag("missed division", 0xFF8E44FF),
)
PLACE = {tag.name: place for place, tag in enumerate(TAGS)}
SEVERITY, DISTANCE, IOU = "EVAL_SEVERITY", "EVAL_DISTANCE", "EVAL_IOU"
BY_HAND = {"spot": "MANUAL_SPOT_COLOR", "link": "MANUAL_EDGE_COLOR"}  # TrackMate's own features: a colour as Java's int


def tagged(
    result: Tracks,
    truth: Tracks,
    mistakes: Mistakes,
    matching: Matching,
    *,
    overlap: npt.ArrayLike | None = None,
    manual_colours: bool = False,
) -> Tracks:
    """Return the result with its errors as tags and features, and with the true spots that it missed.

    Nothing else changes: spots, links, other tags and features are those of ``result``, in their order; added spots come last.
    Where a sparse truth is silent nothing is tagged.

    Args:
        result: What was judged, after :func:`without_evaluation`. The tag set and the features of an earlier evaluation are
            replaced; a tag set "Evaluation" with other tags is somebody's own, and stays.
        truth: The truth, in the same unit.
        mistakes: The errors; rows are those of ``result`` and ``truth``.
        matching: The pairs of true and predicted spots.
        overlap: (n_truth,) IoU of each true spot's mask with that of its partner, NaN where unknown.
        manual_colours: Colour what is wrong in TrackMate's own features, too; what somebody coloured by hand stays.

    Raises:
        DataError: Rows do not fit to the annotations, or the units differ.
    """
    _check(result, truth, mistakes, matching)
    spots, links, spot_severity, link_severity = _verdicts(result, truth, mistakes, matching)
    distance, iou = np.full(result.n_spots, np.nan), np.full(result.n_spots, np.nan)
    distance[matching.predicted] = matching.distance
    if overlap is not None:
        iou[matching.predicted] = np.asarray(overlap, dtype=np.float64)[matching.truth]
    missed = mistakes.of("spot missed")
    added = _bare(truth.select(missed.truth), result)
    grown = without_tags(result).concatenate(added)
    spots = np.concatenate([spots, np.full(len(missed), PLACE[MISSED], dtype=np.int32)])
    spot_severity = np.concatenate([spot_severity, missed.severity])
    unit = result.space_unit
    for feature in (
        _number(SEVERITY, spot_severity, grown.n_spots),
        _number(SEVERITY, link_severity, grown.n_links, target="link"),
        _number(DISTANCE, distance, grown.n_spots, units=unit, dimension="LENGTH"),
        *([] if overlap is None else [_number(IOU, iou, grown.n_spots)]),
    ):
        grown = grown.with_feature(feature)
    name = BESIDE if grown.tag_set(TAG_SET) else TAG_SET
    grown = grown.with_tags(TagSet(name, TAGS, spots, links))
    return _coloured(grown, spots, links) if manual_colours else grown


def without_evaluation(tracks: Tracks) -> Tracks:
    """Return an annotation without what an earlier evaluation put there: tags, numbers, colours, and the spots that it added.

    An added spot that has been linked since, or whose tag was taken off, stays: somebody has made it hers. An annotation
    that was never evaluated is returned as it is.
    """
    former = _former(tracks)
    if former is None:
        return tracks
    linked = np.zeros(tracks.n_spots, dtype=bool)
    linked[tracks.links.ravel()] = True
    tracks = _uncoloured(tracks, former)
    kept = linked | ~tracks.tagged(former.name, MISSED)
    bare = without_tags(tracks)
    return bare if kept.all() else bare.select(kept)


def without_tags(tracks: Tracks) -> Tracks:
    """Return an annotation without the tag set and the numbers of an evaluation."""
    former = _former(tracks)
    return replace(
        tracks,
        tag_sets=tuple(tags for tags in tracks.tag_sets if tags is not former),
        features=tuple(feature for feature in tracks.features if feature.name not in (SEVERITY, DISTANCE, IOU)),
    )


def _former(tracks: Tracks) -> TagSet | None:
    """The tag set of an earlier evaluation: one that has all its tags; what else has its name is somebody's own."""
    for name in (TAG_SET, BESIDE):
        known = tracks.tag_set(name)
        if known is not None and {tag.name for tag in TAGS} <= {tag.name for tag in known.tags}:
            return known
    return None


def _check(result: Tracks, truth: Tracks, mistakes: Mistakes, matching: Matching) -> None:
    if (matching.n_predicted, matching.n_truth) != (result.n_spots, truth.n_spots):
        raise DataError(
            f"Tagging errors failed: {matching.n_predicted} spots were matched with {matching.n_truth} true ones, but there are "
            f"{result.n_spots} and {truth.n_spots}. Evaluate these two annotations."
        )
    for kind in KINDS:
        one = mistakes.of(kind)
        for rows, tracks, what in ((one.predicted, result, "result"), (one.truth, truth, "truth")):
            n = tracks.n_links if kind.startswith("link") else tracks.n_spots
            if len(rows) and rows.max() >= n:
                raise DataError(
                    f"Tagging errors failed: a '{kind}' is in row {rows.max()} of the {what}, which has {n} rows."
                )
    if result.n_spots and truth.n_spots and result.space_unit != truth.space_unit:
        raise DataError(
            f"Tagging errors failed: the result is in {result.space_unit}, the truth in {truth.space_unit}. Convert one of them first."
        )


def _verdicts(result: Tracks, truth: Tracks, mistakes: Mistakes, matching: Matching) -> tuple[Any, Any, F64, F64]:
    """Tags (N,) and (M,) of spots and links of the result, and their severities; NaN where nothing is known."""
    spots = np.full(result.n_spots, UNTAGGED, dtype=np.int32)
    spots[matching.predicted] = PLACE["right"]
    right = link_verdicts(truth, result, matching).right
    links = np.where(right, PLACE["right"], UNTAGGED).astype(np.int32)
    spot_severity = np.where(spots == UNTAGGED, np.nan, 0.0)
    link_severity = np.where(links == UNTAGGED, np.nan, 0.0)

    def mark(rows: I64, tag: str, severity: F64) -> None:
        known = rows != UNMATCHED
        np.maximum.at(spots, rows[known], np.int32(PLACE[tag]))
        np.fmax.at(spot_severity, rows[known], severity[known])

    false = mistakes.of("link false")
    links[false.predicted] = PLACE["false link"]
    link_severity[false.predicted] = false.severity
    missed = mistakes.of("link missed")
    for end in truth.links[missed.truth].T:
        mark(matching.predicted_of[end], "missed link", missed.severity)
    for kind, tag in (("mask poor", "poor mask"), ("spot false", "false spot"), ("division false", "false division")):
        one = mistakes.of(kind)
        mark(one.predicted, tag, one.severity)
    late = mistakes.of("division missed")
    mark(matching.predicted_of[late.truth], "missed division", late.severity)
    return spots, links, spot_severity, link_severity


def _bare(missed: Tracks, result: Tracks) -> Tracks:
    """Spots with places, shapes, labels and outlines only."""
    return Tracks.build(
        missed.t,
        missed.centre,
        covariance=missed.covariance,
        label=missed.label,
        id=missed.id,
        outlines=missed.outlines,
        space_unit=result.space_unit,
    )


def _number(
    name: str, values: F64, n: int, *, target: Any = "spot", units: str = "", dimension: str = "NONE"
) -> Feature:
    column = Feature(name, "", values, target=target, units=units, dimension=dimension, defined=np.isfinite(values))
    return column.extended(n)


def _coloured(tracks: Tracks, spots: Any, links: Any) -> Tracks:
    """Give TrackMate's colours by hand to what is wrong."""
    colours = _java_colours()
    for target, tags in (("spot", spots), ("link", links)):
        wrong = tags > PLACE["right"]
        former = tracks.feature(BY_HAND[target], target=target)
        values, defined = np.where(wrong, colours[tags], 0), wrong
        if former is not None:
            had = np.ones(len(wrong), dtype=bool) if former.defined is None else former.defined
            values, defined = np.where(had, former.values, values).astype(former.values.dtype), had | wrong
        if defined.any():
            made = former or Feature(BY_HAND[target], "", values, target=target)  # type: ignore[arg-type]
            tracks = tracks.with_feature(replace(made, values=values, defined=defined))
    return tracks


def _uncoloured(tracks: Tracks, former: TagSet) -> Tracks:
    """Take TrackMate's colours by hand off what has that of its tag still."""
    places = np.array([PLACE.get(tag.name, UNTAGGED) for tag in former.tags] + [UNTAGGED])
    colours = _java_colours()
    for target, column in (("spot", former.spots), ("link", former.links)):
        feature, tags = tracks.feature(BY_HAND[target], target=target), places[column]
        if feature is None:
            continue
        had = np.ones(len(tags), dtype=bool) if feature.defined is None else feature.defined
        hers = had & ~((tags > PLACE["right"]) & (feature.values == colours[tags]))
        if hers.any():
            tracks = tracks.with_feature(replace(feature, defined=hers, values=np.where(hers, feature.values, 0)))
        else:
            tracks = replace(tracks, features=tuple(f for f in tracks.features if f is not feature))
    return tracks


def _java_colours() -> npt.NDArray[np.int64]:
    """Colours of the tags as Java's signed 32-bit numbers."""
    return np.array([tag.colour for tag in TAGS], dtype=np.uint32).view(np.int32).astype(np.int64)
