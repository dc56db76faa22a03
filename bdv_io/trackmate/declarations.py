"""Feature declarations: what TrackMate's columns are called, and how our tags and ellipsoids hide in them.

TrackMate knows spheres and no tags. Both survive as declared spot features, also when TrackMate saves the file again:

- ``HOWDAH_COV_XX`` ... ``HOWDAH_COV_ZZ``: the upper triangle of the covariance in x, y, z order.
- ``HOWDAH_TAGS_0``, ``_1`` ...: one whole number per tag set, the place of the tag; absent where nothing is tagged.
  The declared name is the legend: ``Detection: 0 tp #FF00FFFF, 1 fp #FFFF0000``; the short name is that of the set.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from bdv_io.tags import DIMENSIONS, Feature, Tag, TagSet

__all__ = [
    "COVARIANCE",
    "INTERVAL",
    "OWN_SPOT_ATTRIBUTES",
    "TAGS",
    "Declaration",
    "legend",
    "standard",
    "tags_of_legend",
    "unit_of",
    "xml_key",
]

COVARIANCE = tuple(f"HOWDAH_COV_{axes}" for axes in ("XX", "XY", "XZ", "YY", "YZ", "ZZ"))
TAGS = "HOWDAH_TAGS_"
INTERVAL = "howdah_interval"  # on the root element, for files without an image

# Attributes of a spot that are columns of Tracks, not features.
OWN_SPOT_ATTRIBUTES = frozenset(
    {"ID", "FRAME", "POSITION_X", "POSITION_Y", "POSITION_Z", "RADIUS", "QUALITY", "ROI_N_POINTS"}
)

_TAG = re.compile(r"(?:^|, )(\d+) (.*?) #([0-9A-F]{8})(?=, \d+ |$)", re.DOTALL)


# Units by kind of quantity, as TrackMate shows them; {s} and {t} are the units of length and time.
UNITS = {
    "INTENSITY": "counts",
    "INTENSITY_SQUARED": "counts^2",
    "POSITION": "{s}",
    "LENGTH": "{s}",
    "AREA": "{s}^2",
    "VOLUME": "{s}^3",
    "VELOCITY": "{s}/{t}",
    "TIME": "{t}",
    "RATE": "/{t}",
    "ANGLE": "radians",
    "ANGLE_RATE": "rad/{t}",
}


def unit_of(dimension: str, space_unit: str, time_unit: str) -> str:
    """Return the unit of a quantity of this kind; empty for pure numbers."""
    return UNITS.get(dimension, "").format(s=space_unit, t=time_unit)


class Declaration(NamedTuple):
    """One ``Feature`` element: ``key`` is the attribute that spots, edges or tracks carry."""

    key: str
    name: str
    shortname: str
    dimension: str = "NONE"
    isint: bool = False

    @classmethod
    def of_feature(cls, key: str, feature: Feature, names: tuple[str, str] | None) -> Declaration:
        """Declare a feature under ``key``, by the names that a file gave it before or by its own."""
        full = f"{feature.name} {feature.projection}".strip()
        name, short = names or (full, feature.projection or full)
        dimension = feature.dimension if feature.dimension in DIMENSIONS else "NONE"
        return cls(key, name, short, dimension, feature.values.dtype.kind in "iu")


SPOT = (
    Declaration("QUALITY", "Quality", "Quality", "QUALITY"),
    Declaration("POSITION_X", "X", "X", "POSITION"),
    Declaration("POSITION_Y", "Y", "Y", "POSITION"),
    Declaration("POSITION_Z", "Z", "Z", "POSITION"),
    Declaration("POSITION_T", "T", "T", "TIME"),
    Declaration("FRAME", "Frame", "Frame", isint=True),
    Declaration("RADIUS", "Radius", "R", "LENGTH"),
    Declaration("VISIBILITY", "Visibility", "Visibility", isint=True),
)
EDGE = (
    Declaration("SPOT_SOURCE_ID", "Source spot ID", "Source ID", isint=True),
    Declaration("SPOT_TARGET_ID", "Target spot ID", "Target ID", isint=True),
)
TRACK = (
    Declaration("TRACK_INDEX", "Track index", "Index", isint=True),
    Declaration("TRACK_ID", "Track ID", "ID", isint=True),
    Declaration("NUMBER_SPOTS", "Number of spots in track", "N spots", isint=True),
    Declaration("NUMBER_GAPS", "Number of gaps", "N gaps", isint=True),
    Declaration("NUMBER_SPLITS", "Number of split events", "N splits", isint=True),
    Declaration("NUMBER_MERGES", "Number of merge events", "N merges", isint=True),
    Declaration("NUMBER_COMPLEX", "Number of complex points", "N complex", isint=True),
    Declaration("LONGEST_GAP", "Longest gap", "Lgst gap", isint=True),
    Declaration("TRACK_DURATION", "Track duration", "Duration", "TIME"),
    Declaration("TRACK_START", "Track start", "Track start", "TIME"),
    Declaration("TRACK_STOP", "Track stop", "Track stop", "TIME"),
)


def standard(target: str) -> tuple[Declaration, ...]:
    """Return the declarations that every file has for ``"spot"``, ``"link"`` or ``"track"``."""
    return {"spot": SPOT, "link": EDGE, "track": TRACK}[target]


def xml_key(feature: Feature, taken: Iterable[str]) -> str:
    """Return an attribute name for a feature: its own where XML allows it, made unique among ``taken``."""
    key = re.sub(r"[^A-Za-z0-9_.-]", "_", f"{feature.name} {feature.projection}".strip())
    key = key if re.match(r"[A-Za-z_]", key) else f"F_{key}"
    known, number, wanted = set(taken), 2, key
    while key in known:
        key, number = f"{wanted}_{number}", number + 1
    return key


def legend(tags: TagSet) -> str:
    """Return the declared name of a tag set's feature: its name, then number, name and colour of each tag."""
    return f"{tags.name}: " + ", ".join(f"{i} {tag.name} #{tag.colour:08X}" for i, tag in enumerate(tags.tags))


def tags_of_legend(text: str, set_name: str) -> tuple[Tag, ...]:
    """Return the tags of a legend that :func:`legend` wrote for the set of this name."""
    found = _TAG.findall(text.removeprefix(f"{set_name}: "))
    return tuple(Tag(name, int(colour, 16)) for _, name, colour in found)
