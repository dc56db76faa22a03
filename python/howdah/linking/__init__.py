"""Linking: joining the spots of neighbouring frames into tracks.

:func:`link_nearest` takes and returns :class:`bdv_io.Tracks`; :func:`link_frames` is the same as a generator that
yields progress. A linker adds links and never removes or changes one that exists.
"""

from howdah.linking.config import LinkingConfig
from howdah.linking.nearest import automatic_max_distance, link_frames, link_nearest

__all__ = ["LinkingConfig", "automatic_max_distance", "link_frames", "link_nearest"]
