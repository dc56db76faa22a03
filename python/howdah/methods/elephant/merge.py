"""Predicted spots meet an annotation (paper: post-processing, suppression within d_sup; client: predict spots).

What a person made stays as it is, to the last number. Only predictions that nobody touched are replaced. Within d_sup a
person's spot comes first, be it accepted or rejected, then the largest prediction. Nothing depends on the order of spots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import scipy

from bdv_io.tags import UNTAGGED
from bdv_io.tracks import Tracks
from howdah.errors import DataError
from howdah.lineages.protection import is_computed
from howdah.methods import Spots
from howdah.methods.elephant.box import Box, in_box
from howdah.methods.elephant.status import DETECTION, DETECTION_TAGS, TRACKING, UNLABELLED_TAG, Status, spot_status

F64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

__all__ = ["merge", "replaceable", "suppress"]

# What a prediction says about a spot that a person judged: (predicted, not predicted).
VERDICTS = (("tp", "fn"), ("fp", "tn"), ("fb", "tb"))
TIE = 1e-9  # relative difference of distances that counts as none


def merge(
    tracks: Tracks,
    found: Mapping[int, Spots],
    *,
    suppression_distance: float,
    update_status: bool = False,
    refused: Tracks | None = None,
    box: Box | None = None,
) -> Tracks:
    """Put predicted spots into an annotation.

    Args:
        tracks: The annotation.
        found: Frame -> predicted spots, world units. In these frames former predictions are replaced (see
            :func:`replaceable`); a frame with no spots loses its former predictions. Other frames are not touched.
        suppression_distance: A prediction this near to a spot that stays is dropped, also near one that a person rejected;
            of predictions this near to each other the one with the largest volume stays. World units; paper: d_sup.
        update_status: Also say of each spot of a person in these frames whether it was predicted (paper: true and false
            positives and negatives): tp <-> fn, fp <-> tn, fb <-> tb; a mark without a tag becomes tp or fn. Accepted stays
            accepted and rejected stays rejected, but true and false weigh differently in training. A prediction speaks
            for the nearest spot only, so that of two nuclei that were predicted as one, one is still a false negative.
            Off by default: then no tag is changed.
        refused: Places where a person deleted a prediction: no prediction is put within half the suppression distance of
            them (half, for nobody sees in the project that one is kept away here). They are not added.
        box: Corners (low, high), each (z, y, x), world units, where prediction was limited to a box: what lies outside is
            neither replaced nor judged.

    Returns:
        The annotation with new spots at the end, tagged Detection = unlabeled, with quality.

    Raises:
        DataError: The distance is negative, or predictions hold values that are not finite.
    """
    if not suppression_distance >= 0:
        raise DataError(
            f"Merging predictions failed: the suppression distance is {suppression_distance}; it must be 0 or more."
        )
    times = np.array(sorted(found), dtype=np.int64)
    gone = replaceable(tracks) & np.isin(tracks.t, times)
    if box is not None:
        gone &= in_box(tracks.centre, box)
    kept = tracks.select(~gone) if gone.any() else tracks
    parts: list[tuple[int, Spots]] = []
    predicted = np.zeros(kept.n_spots, dtype=bool)
    unwanted = _by_frame(refused, times) if refused is not None else [np.empty(0, dtype=np.intp)] * len(times)
    for time, here, refusals in zip(times.tolist(), _by_frame(kept, times), unwanted, strict=True):
        spots = found[time]
        _check(spots, time)
        free, predicted[here] = _near(spots.centre, kept.centre[here], suppression_distance)
        if refused is not None:
            free &= _near(spots.centre, refused.centre[refusals], suppression_distance / 2)[0]
        chosen = np.flatnonzero(free)
        chosen = chosen[suppress(spots.centre[chosen], spots.covariance[chosen], suppression_distance)]
        parts.append((time, spots.take(chosen)))
    merged = kept.with_tag_set(DETECTION, DETECTION_TAGS)
    if update_status:
        seen = np.isin(kept.t, times) if box is None else np.isin(kept.t, times) & in_box(kept.centre, box)
        merged = _updated(merged, predicted, seen)
    return merged.concatenate(_as_tracks(parts, kept.space_unit)) if any(len(spots) for _, spots in parts) else merged


def _by_frame(tracks: Tracks, times: npt.NDArray[np.int64]) -> list[npt.NDArray[np.intp]]:
    """Rows of finite spots of each frame; sorted once, for looking for each frame anew is quadratic in their number."""
    order = np.argsort(tracks.t, kind="stable")
    order = order[np.isfinite(tracks.centre[order]).all(axis=1)]
    first, last = (np.searchsorted(tracks.t[order], times, side=side) for side in ("left", "right"))
    return [order[begin:end] for begin, end in zip(first.tolist(), last.tolist(), strict=True)]


def replaceable(tracks: Tracks) -> Bool:
    """Return the (N,) mask of spots that a new prediction may delete: predictions that no person has touched.

    That is Detection = unlabeled, and not Tracking = Approved, without a label (a name that a person gave), without a tag in
    any other tag set (but those that programs fill, as of progenitors), and without a link that a person made or approved
    (links that a program made are tagged Tracking = unlabeled).
    """
    mask: Bool = spot_status(tracks) == Status.UNLABELLED
    mask &= ~tracks.tagged(TRACKING, "Approved")
    for tags in tracks.tag_sets:
        if tags.name not in (DETECTION, TRACKING) and not is_computed(tags.name):
            mask &= tags.spots == UNTAGGED
    rows = np.flatnonzero(mask)
    mask[rows] = [name is None for name in tracks.label[rows].tolist()]
    by_person = ~tracks.tagged(TRACKING, "unlabeled", links=True)
    mask[tracks.links[by_person].reshape(-1)] = False
    return mask


def suppress(centre: F64, covariance: F64, distance: float) -> npt.NDArray[np.intp]:
    """Return the rows that stay when of spots nearer than ``distance`` only the largest does, in rising order.

    Spots are taken by falling volume (equal volumes by position, then by shape, so the order of rows does not matter); each
    one that is still there removes its smaller neighbours.

    Args:
        centre: (N, 3).
        covariance: (N, 3, 3).
        distance: In the same unit; 0 removes exact doubles only.
    """
    if len(centre) < 2:
        return np.arange(len(centre))
    order = np.lexsort(
        (*covariance.reshape(-1, 9).T, centre[:, 2], centre[:, 1], centre[:, 0], -np.linalg.det(covariance))
    )
    pairs = scipy.spatial.cKDTree(centre[order]).query_pairs(distance, output_type="ndarray")
    stays = np.ones(len(centre), dtype=bool)
    pairs = np.sort(pairs, axis=1)
    for larger, smaller in pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))].tolist():  # pairs in conflict only: few
        if stays[larger]:
            stays[smaller] = False
    return np.sort(order[stays])


def _near(new: F64, old: F64, distance: float) -> tuple[Bool, Bool]:
    """Tell which new spots are free of old ones, and which old ones are the nearest of a new one within the distance."""
    if not len(new) or not len(old):
        return np.ones(len(new), dtype=bool), np.zeros(len(old), dtype=bool)
    tree, reached = scipy.spatial.cKDTree(old), np.zeros(len(old), dtype=bool)
    to_old: F64 = np.asarray(tree.query(new)[0])
    close = to_old <= distance
    # of equally near ones all count: which of them the tree finds first depends on their order
    for rows in tree.query_ball_point(new[close], to_old[close] * (1 + TIE)):
        reached[rows] = True
    return np.asarray(~close), reached


def _as_tracks(parts: Sequence[tuple[int, Spots]], unit: str) -> Tracks:
    """All predictions as one annotation, so that joining costs the same for long movies and short ones."""
    built = Tracks.build(
        np.concatenate([np.full(len(spots), time) for time, spots in parts]),
        np.concatenate([spots.centre for _, spots in parts]),
        covariance=np.concatenate([spots.covariance for _, spots in parts]),
        quality=np.concatenate([spots.quality for _, spots in parts]),
        space_unit=unit,
    )
    return built.with_tag(DETECTION, UNLABELLED_TAG, spots=np.arange(built.n_spots))


def _updated(tracks: Tracks, predicted: Bool, here: Bool) -> Tracks:
    tags = tracks.tag_set(DETECTION)
    if tags is None:
        return tracks
    column = tags.spots.copy()
    for yes, no in VERDICTS:
        codes = tags.position(yes), tags.position(no)
        judged = here & np.isin(tags.spots, codes)
        if yes == "tp":
            judged |= here & (tags.spots == UNTAGGED)
        column[judged] = np.where(predicted[judged], *codes)
    return tracks.with_tags(replace(tags, spots=column))


def _check(spots: Spots, time: int) -> None:
    if not (np.isfinite(spots.centre).all() and np.isfinite(spots.covariance).all()):
        raise DataError(
            f"Merging predictions failed: spots of frame {time} hold positions or sizes that are not finite."
        )
