"""Predicted spots meet an annotation (paper: post-processing, suppression within d_sup; client: predict spots).

What a person made stays as it is, to the last number. Only predictions that nobody touched are replaced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from bdv_io.tags import UNTAGGED
from bdv_io.tracks import Tracks
from howdah.errors import DataError
from howdah.methods import Spots
from howdah.methods.elephant.status import DETECTION, DETECTION_TAGS, TRACKING, UNLABELLED_TAG, Status, spot_status

F64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

__all__ = ["merge", "replaceable", "suppress"]

# What a prediction says about a spot that a person judged: (predicted, not predicted).
VERDICTS = (("tp", "fn"), ("fp", "tn"), ("fb", "tb"))


def merge(
    tracks: Tracks, found: Mapping[int, Spots], *, suppression_distance: float, update_status: bool = False
) -> Tracks:
    """Put predicted spots into an annotation.

    Args:
        tracks: The annotation.
        found: Frame -> predicted spots, world units. In these frames former predictions are replaced (see
            :func:`replaceable`); a frame with no spots loses its former predictions. Other frames are not touched.
        suppression_distance: A prediction this near to a spot that stays is dropped, also near one that a person rejected;
            of predictions this near to each other the one with the largest volume stays. World units; paper: d_sup.
        update_status: Also bring the tags of judged spots up to date in these frames (paper: true and false positives
            and negatives): tp <-> fn, fp <-> tn, fb <-> tb by whether a prediction is near. Accepted stays accepted and
            rejected stays rejected. Off by default: nothing that a person made is changed.

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
    kept = tracks.select(~gone) if gone.any() else tracks
    parts: list[tuple[int, Spots]] = []
    near_kept = np.zeros(kept.n_spots, dtype=bool)
    order = np.argsort(kept.t, kind="stable")  # once: looking for each frame anew is quadratic in their number
    first, last = (np.searchsorted(kept.t[order], times, side=side) for side in ("left", "right"))
    for time, begin, end in zip(times.tolist(), first.tolist(), last.tolist(), strict=True):
        spots = found[time]
        _check(spots, time)
        here = order[begin:end]
        free, near_kept[here] = _near(spots.centre, kept.centre[here], suppression_distance)
        chosen = np.flatnonzero(free)
        chosen = chosen[suppress(spots.centre[chosen], spots.covariance[chosen], suppression_distance)]
        parts.append((time, spots.take(chosen)))
    merged = kept.with_tag_set(DETECTION, DETECTION_TAGS)
    if update_status:
        merged = _updated(merged, near_kept, times)
    return merged.concatenate(_as_tracks(parts, kept.space_unit)) if any(len(spots) for _, spots in parts) else merged


def replaceable(tracks: Tracks) -> Bool:
    """Return the (N,) mask of spots that a new prediction may delete: predictions that no person has touched.

    That is Detection = unlabeled, and not Tracking = Approved, without a label (a name that a person gave), without a tag in any
    other tag set, and without a link that a person made or approved (links that a program made are tagged
    Tracking = unlabeled).
    """
    mask: Bool = spot_status(tracks) == Status.UNLABELLED
    mask &= ~tracks.tagged(TRACKING, "Approved")
    for tags in tracks.tag_sets:
        if tags.name not in (DETECTION, TRACKING):
            mask &= tags.spots == UNTAGGED
    rows = np.flatnonzero(mask)
    mask[rows] = [name is None for name in tracks.label[rows].tolist()]
    by_person = ~tracks.tagged(TRACKING, "unlabeled", links=True)
    mask[tracks.links[by_person].reshape(-1)] = False
    return mask


def suppress(centre: F64, covariance: F64, distance: float) -> npt.NDArray[np.intp]:
    """Return the rows that stay when of spots nearer than ``distance`` only the largest does, in rising order.

    Spots are taken by falling volume (equal volumes by position, so the order of rows does not matter); each one that is
    still there removes its smaller neighbours.

    Args:
        centre: (N, 3).
        covariance: (N, 3, 3).
        distance: In the same unit; 0 removes exact doubles only.
    """
    if len(centre) < 2:
        return np.arange(len(centre))
    order = np.lexsort((centre[:, 2], centre[:, 1], centre[:, 0], -np.linalg.det(covariance)))
    pairs = cKDTree(centre[order]).query_pairs(distance, output_type="ndarray")
    stays = np.ones(len(centre), dtype=bool)
    pairs = np.sort(pairs, axis=1)
    for larger, smaller in pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))].tolist():  # pairs in conflict only: few
        if stays[larger]:
            stays[smaller] = False
    return np.sort(order[stays])


def _near(new: F64, old: F64, distance: float) -> tuple[Bool, Bool]:
    """Tell which new spots are free of old ones, and which old ones have a new one near."""
    if not len(new) or not len(old):
        return np.ones(len(new), dtype=bool), np.zeros(len(old), dtype=bool)
    to_old, _ = cKDTree(old).query(new)
    to_new, _ = cKDTree(new).query(old)
    return np.asarray(to_old > distance), np.asarray(to_new <= distance)


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


def _updated(tracks: Tracks, near: Bool, times: npt.NDArray[np.int64]) -> Tracks:
    tags = tracks.tag_set(DETECTION)
    if tags is None:
        return tracks
    column, here = tags.spots.copy(), np.isin(tracks.t, times)
    for predicted, not_predicted in VERDICTS:
        codes = tags.position(predicted), tags.position(not_predicted)
        judged = here & np.isin(tags.spots, codes)
        column[judged] = np.where(near[judged], *codes)
    return tracks.with_tags(replace(tags, spots=column))


def _check(spots: Spots, time: int) -> None:
    if not (np.isfinite(spots.centre).all() and np.isfinite(spots.covariance).all()):
        raise DataError(
            f"Merging predictions failed: spots of frame {time} hold positions or sizes that are not finite."
        )
