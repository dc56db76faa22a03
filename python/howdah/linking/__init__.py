"""Linking: joining the spots of a movie into tracks.

:func:`link_spots` takes and returns :class:`bdv_io.Tracks`; :func:`link_frames` is the same as a generator that yields
progress. A linker adds links (and, over gaps, spots) and never removes or changes what exists. Three solvers choose among
the same possible links: :mod:`.pairs` (the optimum for each pair of frames), :mod:`.nearest` (the rules of the paper), and
:mod:`.movie` (the optimum of the whole movie).
"""

from howdah.linking.config import LinkingConfig
from howdah.linking.earlier import Estimate
from howdah.linking.limits import automatic_max_distance
from howdah.linking.link import LINK_QUALITY, link_frames, link_spots
from howdah.linking.proposals import KINDS, Proposals, find_proposals

__all__ = [
    "KINDS",
    "LINK_QUALITY",
    "Estimate",
    "LinkingConfig",
    "Proposals",
    "automatic_max_distance",
    "find_proposals",
    "link_frames",
    "link_spots",
]
