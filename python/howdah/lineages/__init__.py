"""Lineages: what biologists ask of tracks once they are there. Tags, counts, times, editing; no images, no files.

Functions take a :class:`bdv_io.Tracks` and return a new one or a table (columns by name, one row a thing). What a person
made or approved is not removed unless the caller says so (see :mod:`howdah.lineages.protection`).
"""

from howdah.lineages.choosing import chosen_tag, find_spot, find_spots
from howdah.lineages.colours import distinct_colours
from howdah.lineages.completeness import complete_roots, mark_completed, open_places
from howdah.lineages.forest import Forest, grow
from howdah.lineages.measures import (
    Table,
    about,
    cell_cycles,
    divisions_per_frame,
    divisions_per_progenitor,
    divisions_per_track,
    statistics_per_frame,
)
from howdah.lineages.protection import DIVISION, PROGENITOR, PROLIFERATOR, PROPOSAL, Protected, protected
from howdah.lineages.removal import (
    Removal,
    remove_bad_links,
    remove_by_tag,
    remove_range,
    remove_short_tracks,
)
from howdah.lineages.tagging import approve, map_tag, tag_dividing, tag_progenitors, tag_proliferators

__all__ = [
    "DIVISION",
    "PROGENITOR",
    "PROLIFERATOR",
    "PROPOSAL",
    "Forest",
    "Protected",
    "Removal",
    "Table",
    "about",
    "approve",
    "cell_cycles",
    "chosen_tag",
    "complete_roots",
    "distinct_colours",
    "divisions_per_frame",
    "divisions_per_progenitor",
    "divisions_per_track",
    "find_spot",
    "find_spots",
    "grow",
    "map_tag",
    "mark_completed",
    "open_places",
    "protected",
    "remove_bad_links",
    "remove_by_tag",
    "remove_range",
    "remove_short_tracks",
    "statistics_per_frame",
    "tag_dividing",
    "tag_progenitors",
    "tag_proliferators",
]
