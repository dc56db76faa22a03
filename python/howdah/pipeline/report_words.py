"""What the page says: names, and one plain sentence for every measure and every kind of error."""

from __future__ import annotations

from types import MappingProxyType
from typing import NamedTuple

__all__ = ["CHALLENGE", "CORRECTIONS", "COUNTED", "HEADLINES", "KIND_WORDS", "SECTIONS", "SEGMENTATION", "Kind"]


class Kind(NamedTuple):
    """A kind of error: its heading, what it is, and where the user finds it in the tagged file."""

    title: str
    meaning: str
    tag: str


KIND_WORDS = MappingProxyType(
    {
        "spot false": Kind("False spots", "The result has a spot where the truth has no cell.", "false spot"),
        "spot missed": Kind(
            "Missed spots", "The truth has a cell here; the result has no spot near it.", "missed spot"
        ),
        "link false": Kind("False links", "The result joins two spots that the truth does not join.", "false link"),
        "link missed": Kind("Missed links", "The truth joins two spots; the result does not.", "missed link"),
        "division false": Kind("False divisions", "The result lets a cell divide that does not.", "false division"),
        "division missed": Kind(
            "Missed divisions", "A cell divides here; the result does not say so.", "missed division"
        ),
        "mask poor": Kind(
            "Poor masks",
            "The cell was found, but the best mask on it shares less than half of what both cover (IoU).",
            "poor mask",
        ),
    }
)

COUNTED = MappingProxyType(
    {
        "spots": "A spot is right if it is the partner of a true spot, one to one and within the distance.",
        "links": "A link is right if both its ends are right and their true spots are linked, too.",
        "divisions": "A division is right if its mother is. Divisions are few: they hardly move the other measures, so look here.",
    }
)

HEADLINES = MappingProxyType(  # of the challenge, those that come first
    {
        "SEG": "masks: mean overlap with the true cells",
        "DET": "detection, by the challenge's count",
        "TRA": "detection and links together",
        "LNK": "links, of the cells as they were found",
        "OP_CSB": "segmentation benchmark: mean of SEG and DET",
        "OP_CTB": "tracking benchmark: mean of SEG and TRA",
    }
)

CHALLENGE = MappingProxyType(
    {
        "SEG": "How well masks cover the true cells: mean overlap (Jaccard) of each with the mask that covers more than half of it.",
        "DET": "How well cells are found: the work to correct missed, false and merged ones, against drawing all of them anew.",
        "TRA": "The same with links: the work to correct cells and links, against making all of them anew.",
        "LNK": "The same for links alone: the work to correct links, against making all of them anew.",
        "OP_CSB": "Cell segmentation benchmark: mean of SEG and DET.",
        "OP_CTB": "Cell tracking benchmark: mean of SEG and TRA.",
        "OP_CLB": "Cell linking benchmark: mean of LNK and BIO.",
        "CT": "Complete tracks: F1 of tracks that are right from their first frame to their last.",
        "TF": "Track fractions: the longest part of a true track that is followed without a break, mean over tracks.",
        "BC": "Branching correctness: F1 of divisions.",
        "CCA": "Cell cycle accuracy: how alike the lengths of cell cycles are in both; 1 is the same distribution.",
        "BIO": "Mean of CT, TF, BC and CCA, of those that are defined.",
        "CHOTA": "Cells found and cells told apart weighed alike, a cell and its descendants being one lineage.",
    }
)

CORRECTIONS = MappingProxyType(
    {
        "AOGM": "The sum of what follows, weighted: what DET and TRA are made from.",
        "AOGM_NS": "Splits: cells of the result that cover several true ones (weight 5).",
        "AOGM_FN": "Missed cells (weight 10).",
        "AOGM_FP": "False cells (weight 1).",
        "AOGM_ED": "Links to take away (weight 1).",
        "AOGM_EA": "Links to add (weight 1.5).",
        "AOGM_EC": "Links that mean something else: along a track, or to a daughter (weight 1).",
        "AOGM_0": "The sum of making everything anew, from an empty result.",
    }
)

SEGMENTATION = MappingProxyType(
    {
        "SEG": "Mean overlap (Jaccard) of each true cell with the mask that covers more than half of it; 0 where there is none.",
        "AP50": "Found, out of all that are true or found, at an overlap above one half.",
        "F1": "F1 of masks at an overlap above one half.",
        "IoU_of_pairs": "Mean overlap (IoU) of the pairs above one half.",
        "IoU_of_pixels": "Overlap of all that is cell with all that was called cell.",
        "cells_true": "Masks in the truth, of the frames that have some.",
        "cells_found": "Masks in the result, of these frames.",
    }
)

SECTIONS = MappingProxyType(  # key: title, and what it is about
    {
        "measures": (
            "Measures",
            "Spots, links and divisions are counted apart, for each of them hides the others: leaving out every division can make TRA "
            "better. Precision is the part of what was found that is true, recall the part of what is true that was found, and F1 "
            "weighs both.",
        ),
        "curves": ("Curves", "Where the result is good, and where it is not."),
        "worst": (
            "Where to look first",
            "Errors weigh by what it costs a person to correct them (severity, 0 to 1); the cost of a frame or a track is their sum.",
        ),
        "errors": (
            "Errors",
            "The worst of each kind, spread over the movie. Frames count from 0, coordinates are in world units, and spots are named as "
            "Mastodon and TrackMate show them. The brightness of each crop is stretched for itself.",
        ),
        "compared": ("What was compared", ""),
    }
)
