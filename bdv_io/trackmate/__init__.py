"""TrackMate and MaMuT XML: spots, edges, tracks and their features.

What TrackMate cannot say (ellipsoids, tags) is kept in declared features, see
:mod:`bdv_io.trackmate.declarations`; what we do not interpret (outlines, settings, display state) is carried.
"""

from bdv_io.trackmate.read import is_trackmate, read_trackmate
from bdv_io.trackmate.write import write_trackmate

__all__ = ["is_trackmate", "read_trackmate", "write_trackmate"]
