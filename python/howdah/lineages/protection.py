"""What a person made or approved, by the tags of ELEPHANT's client: that is not removed unless somebody says so.

A program tags what it makes: spots "Detection" = "unlabeled", links "Tracking" = "unlabeled". Everything else is a
person's, also where an annotation has no such tags at all.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bdv_io.tags import UNTAGGED, Tag
from bdv_io.tracks import Tracks

Bool = npt.NDArray[np.bool_]

__all__ = [
    "APPROVED",
    "COMPLETED",
    "COMPUTED_SETS",
    "DETECTION",
    "DIVISION",
    "INTERPOLATED",
    "PROGENITOR",
    "PROLIFERATOR",
    "PROPOSAL",
    "STATUS",
    "TRACKING",
    "UNLABELLED",
    "Protected",
    "approved_divisions",
    "is_computed",
    "protected",
]

DETECTION, TRACKING, STATUS = "Detection", "Tracking", "Status"
PROGENITOR, PROLIFERATOR, DIVISION, PROPOSAL = "Progenitor", "Proliferator", "Division", "Proposal"
INTERPOLATED = "Interpolated"
COMPUTED_SETS = (
    PROGENITOR,
    PROLIFERATOR,
    DIVISION,
    PROPOSAL,
    INTERPOLATED,
)  # tags that a program works out, nobody's judgement
TAP = "TAP"  # the set of TAP's events; its classes are in sets "TAP mitosis" and so on
APPROVED = Tag("Approved", 0xFF00FFFF)
UNLABELLED = Tag("unlabeled", 0xFF00FF00)
COMPLETED = Tag("Completed", 0xFF00FFFF)


@dataclass(frozen=True, eq=False)
class Protected:
    """Masks of what a person made or approved: ``spots`` (N,) and ``links`` (M,) bool."""

    spots: Bool
    links: Bool


def protected(tracks: Tracks, *, ignore: Collection[str] = ()) -> Protected:
    """Return what a person made or approved.

    A link is a program's if it is tagged Tracking = unlabeled. A spot is a program's if it is tagged Detection = unlabeled, and
    has no tag Tracking = Approved, no label, no tag in a set that people fill in, and no link that is a person's.

    Args:
        tracks: The annotation.
        ignore: Further tag sets that do not count, for example the one by which a user chooses what to remove.
    """
    links = ~tracks.tagged(TRACKING, UNLABELLED.name, links=True)
    machine = tracks.tagged(DETECTION, UNLABELLED.name) & ~tracks.tagged(TRACKING, APPROVED.name)
    for tags in tracks.tag_sets:
        if tags.name not in (DETECTION, TRACKING, *ignore) and not is_computed(tags.name):
            machine &= tags.spots == UNTAGGED
    rows = np.flatnonzero(machine)
    machine[rows] = [name is None for name in tracks.label[rows].tolist()]
    machine[tracks.links[links].reshape(-1)] = False
    return Protected(~machine, links)


def is_computed(tag_set: str) -> bool:
    """Whether a program works out the tags of this set, so that they are nobody's judgement."""
    return tag_set in COMPUTED_SETS or tag_set == TAP or tag_set.startswith(f"{TAP} ")


def approved_divisions(tracks: Tracks) -> Bool:
    """(N,) whether a spot counts as an approved mother: it is tagged Approved, or all its links to children are."""
    approved = tracks.tagged(TRACKING, APPROVED.name)
    by_links = np.ones(tracks.n_spots, dtype=bool)
    open_links = ~tracks.tagged(TRACKING, APPROVED.name, links=True)
    by_links[tracks.links[open_links, 0]] = False
    mask: Bool = approved | (by_links & (tracks.n_children() > 0))
    return mask
