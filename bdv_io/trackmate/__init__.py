"""TrackMate and MaMuT XML: spots, edges, tracks and their features.

What TrackMate cannot say (ellipsoids, tags) is kept in declared features, see :mod:`bdv_io.trackmate.declarations`; what we
do not interpret (settings, display state, elements and attributes of other programs) is carried.
"""

from bdv_io.trackmate.document import is_trackmate
from bdv_io.trackmate.lost import lost_in_mamut, lost_in_trackmate
from bdv_io.trackmate.read import read_trackmate
from bdv_io.trackmate.write import write_mamut, write_trackmate

__all__ = ["is_trackmate", "lost_in_mamut", "lost_in_trackmate", "read_trackmate", "write_mamut", "write_trackmate"]
