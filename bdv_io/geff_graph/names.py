"""Names that both directions share: properties, units, and the entry of Howdah in the metadata."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["AXES", "EXTRA", "GROUP", "geff_unit", "property_name"]

EXTRA = "howdah"  # in ``extra`` of the metadata
GROUP = "howdah"  # beside ``nodes`` and ``edges``
AXES = ("t", "z", "y", "x")

_UNITS = {
    "µm": "micrometer",
    "μm": "micrometer",
    "um": "micrometer",
    "micron": "micrometer",
    "microns": "micrometer",
    "micrometre": "micrometer",
    "nm": "nanometer",
    "mm": "millimeter",
    "pixels": "pixel",
    "px": "pixel",
    "s": "second",
    "sec": "second",
    "seconds": "second",
    "ms": "millisecond",
    "min": "minute",
    "minutes": "minute",
    "h": "hour",
    "hours": "hour",
    "d": "day",
    "days": "day",
    "frames": "frame",
}


def geff_unit(text: str) -> str:
    """Return the specification's word for a unit, or the text itself where it has none."""
    return _UNITS.get(text, text)


def property_name(wanted: str, taken: Iterable[str]) -> str:
    """Return a name that can be a folder, like ``wanted`` and unlike all that are taken."""
    name = re.sub(r"[^A-Za-z0-9_.\-]", "_", wanted).lstrip(".") or "property"
    name = f"{name}_" if name.lower().startswith("__") else name
    known, number, first = {other.lower() for other in taken}, 2, name
    while name.lower() in known:  # some disks do not tell a from A
        name, number = f"{first}_{number}", number + 1
    return name
