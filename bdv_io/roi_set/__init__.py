"""ImageJ ROI sets: the ``.zip`` that the ROI Manager saves, and single ``.roi`` files.

ImageJ counts area coordinates from the upper left *corner* of the first pixel, so a corner (x, y) is (x - 0.5, y - 0.5) in
index coordinates, where pixel 0 has its centre at 0. Positions (channel, slice, frame) count from 1; 0 means all of them.
"""

from bdv_io.roi_set.read import is_roi_set, read_rois, tracks_of_rois
from bdv_io.roi_set.write import lost_in_rois, write_rois

__all__ = ["is_roi_set", "lost_in_rois", "read_rois", "tracks_of_rois", "write_rois"]
