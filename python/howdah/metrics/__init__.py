"""Metrics: how good are detections and tracks, compared with a truth.

Points are matched one to one (:func:`match_spots`), then counted (:class:`Counts`). These are the plain measures of
precision and recall; the official Cell Tracking Challenge measures need label images and live elsewhere.
"""

from howdah.metrics.counts import Counts
from howdah.metrics.detection import DetectionScore, score_detection
from howdah.metrics.matching import Matching, match_points, match_spots
from howdah.metrics.tracking import TrackingScore, score_tracking

__all__ = [
    "Counts",
    "DetectionScore",
    "Matching",
    "TrackingScore",
    "match_points",
    "match_spots",
    "score_detection",
    "score_tracking",
]
