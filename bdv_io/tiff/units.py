"""Units as the programs that write TIFF spell them, and as Howdah does."""

from __future__ import annotations

import re

__all__ = ["METRES", "OME_LENGTHS", "OME_TIMES", "length_unit", "time_unit"]

_LENGTHS = {
    "µm": ("um", "\u03bcm", "micron", "microns", "micrometer", "micrometers", "micrometre", "micrometres"),
    "nm": ("nanometer", "nanometers", "nanometre", "nanometres"),
    "mm": ("millimeter", "millimeters", "millimetre", "millimetres"),
    "cm": ("centimeter", "centimeters", "centimetre", "centimetres"),
    "m": ("meter", "meters", "metre", "metres"),
    "inch": ("in", "inches"),
    "pixel": ("pixels", "px", "voxel", "voxels"),
}
_TIMES = {
    "s": ("sec", "secs", "second", "seconds"),
    "ms": ("msec", "msecs", "millisecond", "milliseconds"),
    "µs": ("us", "\u03bcs", "usec", "microsecond", "microseconds"),
    "ns": ("nsec", "nanosecond", "nanoseconds"),
    "min": ("mins", "minute", "minutes"),
    "h": ("hr", "hrs", "hour", "hours"),
    "d": ("day", "days"),
}
_LENGTH = {other: unit for unit, others in _LENGTHS.items() for other in others}
_TIME = {other: unit for unit, others in _TIMES.items() for other in others}

METRES = {"m": 1.0, "cm": 1e-2, "mm": 1e-3, "µm": 1e-6, "nm": 1e-9, "pm": 1e-12, "Å": 1e-10, "inch": 0.0254}
OME_LENGTHS = {**{unit: unit for unit in METRES}, "inch": "in", "pixel": "pixel"}
OME_TIMES = frozenset(("s", "ms", "µs", "ns", "min", "h", "d"))


def length_unit(text: str) -> str:
    """Return a unit of length as Howdah spells it: ``µm`` for um, micron and the like; unknown ones as they are."""
    plain = unescaped(text).strip()
    return _LENGTH.get(plain.lower(), plain) or "pixel"


def time_unit(text: str) -> str:
    """Return a unit of time as Howdah spells it: ``s`` for sec and the like; unknown ones as they are."""
    plain = unescaped(text).strip()
    return _TIME.get(plain.lower(), plain) or "s"


def unescaped(text: str) -> str:
    r"""Undo the escapes of Java properties, in which ImageJ writes its header: ``\u00B5m`` is µm."""
    return re.sub(
        r"\\u([0-9a-fA-F]{4})|\\(.)",
        lambda found: chr(int(found[1], 16)) if found[1] else found[2],
        text,
        flags=re.DOTALL,
    )


def escaped(text: str) -> str:
    r"""Write text as ImageJ does in its header: ASCII on one line, the rest as ``\uXXXX``."""
    plain = " ".join(text.split()).replace("\\", "\\\\")
    return "".join(c if c.isascii() and c.isprintable() else "".join(f"\\u{n:04X}" for n in _utf16(c)) for c in plain)


def _utf16(character: str) -> list[int]:
    data = character.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2)]
