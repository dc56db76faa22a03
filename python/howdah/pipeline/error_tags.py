"""Errors of a result as tags, features and colours, so that Mastodon and TrackMate lead to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bdv_io import Tracks
from howdah.metrics.matching import Matching

if TYPE_CHECKING:
    from howdah.metrics.mistakes import Mistakes  # type: ignore[import-not-found,unused-ignore]

__all__ = ["tagged"]


def tagged(
    result: Tracks, truth: Tracks, mistakes: Mistakes, matching: Matching, *, manual_colours: bool = False
) -> Tracks:
    """Return the result with its errors as the tag set "Evaluation" and as features; the true spots that it missed are added.

    Args:
        result: What was judged. An earlier tag set "Evaluation" of it is replaced, spots that it had added are left out first.
        truth: The truth, in the same unit.
        mistakes: The errors; rows are those of ``result`` and ``truth``.
        matching: The pairs of true and predicted spots.
        manual_colours: Colour spots and links with errors by TrackMate's own features, too (TrackMate knows no tags).
    """
    raise NotImplementedError
