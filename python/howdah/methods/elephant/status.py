"""The tag sets of ELEPHANT's client: what a person said about each spot (paper: post-processing; client tags and colours)."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt

from bdv_io.tags import Tag
from bdv_io.tracks import Tracks

__all__ = ["DETECTION", "DETECTION_TAGS", "TRACKING", "TRACKING_TAGS", "UNLABELLED_TAG", "Status", "spot_status"]

CYAN, MAGENTA, ORANGE, GREEN = 0xFF00FFFF, 0xFFFF00FF, 0xFFFFC800, 0xFF00FF00

DETECTION = "Detection"
DETECTION_TAGS = (
    Tag("tp", CYAN),
    Tag("fp", MAGENTA),
    Tag("tn", MAGENTA),
    Tag("fn", CYAN),
    Tag("tb", ORANGE),
    Tag("fb", ORANGE),
    Tag("unlabeled", GREEN),
)
UNLABELLED_TAG = DETECTION_TAGS[-1]
TRACKING = "Tracking"
TRACKING_TAGS = (Tag("Approved", CYAN), Tag("unlabeled", GREEN))


class Status(IntEnum):
    """What a spot means for training.

    True/false says whether the last prediction agreed; positive = a nucleus, negative = none, border = only periphery.
    """

    TP = 0
    FP = 1
    TN = 2
    FN = 3
    TB = 4
    FB = 5
    UNLABELLED = 6

    @property
    def is_false(self) -> bool:
        """Whether a person corrected or added it (weight wf)."""
        return self in (Status.FP, Status.FN, Status.FB)


def spot_status(tracks: Tracks) -> npt.NDArray[np.int8]:
    """Return (N,) status codes from the tag set "Detection".

    A spot without a tag there, or with a tag that is not ELEPHANT's, is a person's mark: FN, "a nucleus that was not
    predicted". Only ``unlabeled``, a prediction that nobody looked at, is left out of training.
    """
    status = np.full(tracks.n_spots, Status.FN, dtype=np.int8)
    tags = tracks.tag_set(DETECTION)
    if tags is None:
        return status
    for code, tag in enumerate(DETECTION_TAGS):
        if tags.position(tag.name) >= 0:
            status[tags.spots == tags.position(tag.name)] = code
    return status
