"""Metrics: how good are detections and tracks, compared with a truth.

Points are matched one to one (:func:`match_spots`), then counted (:class:`Counts`). These are the plain measures of
precision and recall. Masks are scored from label images (:mod:`.segmentation`): SEG of the Cell Tracking Challenge, mean IoU,
average precision.
"""

from howdah.metrics.counts import Counts
from howdah.metrics.detection import DetectionScore, score_detection
from howdah.metrics.matching import Matching, match_points, match_spots
from howdah.metrics.mistakes import Mistakes, find_mistakes
from howdah.metrics.segmentation import (
    Overlaps,
    SegScore,
    average_precision,
    mean_iou,
    overlaps,
    peseg,
    seg_score,
)
from howdah.metrics.tracking import TrackingScore, score_tracking

__all__ = [
    "Counts",
    "DetectionScore",
    "Matching",
    "Mistakes",
    "Overlaps",
    "SegScore",
    "TrackingScore",
    "average_precision",
    "find_mistakes",
    "match_points",
    "match_spots",
    "mean_iou",
    "overlaps",
    "peseg",
    "score_detection",
    "score_tracking",
    "seg_score",
]
