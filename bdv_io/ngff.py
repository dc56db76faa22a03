"""The metadata of OME-Zarr (NGFF) images, without their files: axes, transforms, levels, channels, units.

:func:`parse_image` turns the attributes of a group into an :class:`NgffMetadata` of plain values. Understood are
versions 0.4 and 0.5, and the older 0.1 to 0.3, which have no transforms. The attributes are untrusted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bdv_io.errors import FormatError, UnsupportedError
from bdv_io.image import Vector

__all__ = [
    "MAX_CHANNELS",
    "Axis",
    "Level",
    "NgffMetadata",
    "image_attributes",
    "length_in",
    "long_unit",
    "parse_image",
    "short_unit",
]

AXES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
MAX_LEVELS = 64
MAX_CHANNELS = 100_000
LENGTHS = {  # NGFF's word -> (short, metres)
    "angstrom": ("Å", 1e-10),
    "picometer": ("pm", 1e-12),
    "nanometer": ("nm", 1e-9),
    "micrometer": ("µm", 1e-6),
    "millimeter": ("mm", 1e-3),
    "centimeter": ("cm", 1e-2),
    "decimeter": ("dm", 1e-1),
    "meter": ("m", 1.0),
    "kilometer": ("km", 1e3),
    "inch": ("inch", 0.0254),
    "foot": ("foot", 0.3048),
}
TIMES = {
    "nanosecond": "ns",
    "microsecond": "µs",
    "millisecond": "ms",
    "second": "s",
    "minute": "min",
    "hour": "h",
    "day": "d",
}
SPELLINGS = {  # what other programs write, lower case -> NGFF's word
    "μm": "micrometer",  # Greek mu, where the micro sign is usual
    "um": "micrometer",
    "micron": "micrometer",
    "microns": "micrometer",
    "micrometre": "micrometer",
    "nanometre": "nanometer",
    "millimetre": "millimeter",
    "metre": "meter",
    "å": "angstrom",
    "sec": "second",
    "secs": "second",
    "seconds": "second",
    "msec": "millisecond",
    "mins": "minute",
    "minutes": "minute",
    "hr": "hour",
    "hours": "hour",
    "days": "day",
    "us": "microsecond",
    "μs": "microsecond",
}
SHORT = {word: short for word, (short, _) in LENGTHS.items()} | TIMES
LONG = {short.lower(): word for word, short in SHORT.items()} | SPELLINGS | {word: word for word in SHORT}


@dataclass(frozen=True)
class Axis:
    """One axis of the stored arrays: its letter of t, c, z, y, x, and its unit as NGFF spells it (empty if not said)."""

    letter: str
    unit: str = ""


@dataclass(frozen=True)
class Level:
    """One resolution: the path of its array, and the transform of its voxels in order of the axes.

    Attributes:
        path: Path below the group.
        scale: Size of a step along each axis in the axis' unit; empty where the file does not say (before 0.4).
        translation: Where index 0 lies; empty with ``scale``.
    """

    path: str
    scale: tuple[float, ...] = ()
    translation: tuple[float, ...] = ()


@dataclass(frozen=True)
class NgffMetadata:
    """One multiscale image.

    Attributes:
        version: Of the format, as far as the file says it.
        name: May be empty.
        axes: In the order of the arrays' axes.
        levels: Finest first.
        channels: Labels of the channels, as many as the file has labels for.
        unit: Unit of all lengths as NGFF spells it, empty if not said; axes of another unit have been converted.
    """

    version: str
    name: str
    axes: tuple[Axis, ...]
    levels: tuple[Level, ...]
    channels: tuple[str, ...]
    unit: str

    @property
    def letters(self) -> str:
        """The axes as letters, for example ``"tczyx"``."""
        return "".join(axis.letter for axis in self.axes)

    def spatial(self, values: Sequence[float], fill: float) -> Vector:
        """Pick the values (z, y, x) out of one value an axis; ``fill`` where there is no z, or no values."""
        letters = self.letters
        z, y, x = (values[letters.index(a)] if a in letters and len(values) else fill for a in "zyx")
        return (z, y, x)

    @property
    def interval(self) -> tuple[float, str] | None:
        """Time between frames and its NGFF unit (empty if not said), None without a time axis or transforms."""
        if "t" not in self.letters or not self.levels[0].scale:
            return None
        at = self.letters.index("t")
        return (self.levels[0].scale[at], self.axes[at].unit)


def short_unit(word: str) -> str:
    """Turn NGFF's unit into the usual sign: ``"micrometer"`` -> ``"µm"``; what is not known stays as it is."""
    return SHORT.get(LONG.get(word.lower(), word), word)


def long_unit(sign: str) -> str:
    """Turn a usual sign or spelling into NGFF's word: ``"µm"`` -> ``"micrometer"``; what is not known stays as it is."""
    return LONG.get(sign.strip().lower(), sign)


def length_in(unit: str, other: str) -> float | None:
    """Return how many of ``other`` one ``unit`` is, None where one of them is not known."""
    if unit == other:
        return 1.0
    found = [LENGTHS.get(LONG.get(word.lower(), word)) for word in (unit, other)]
    return None if found[0] is None or found[1] is None else found[0][1] / found[1][1]


def image_attributes(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return where NGFF's own entries are: below ``ome`` since version 0.5, at the top before."""
    inner = attributes.get("ome")
    return inner if isinstance(inner, Mapping) else attributes


def parse_image(attributes: Mapping[str, Any], where: str) -> NgffMetadata:
    """Read the metadata of the one multiscale image of a group.

    Args:
        attributes: Of the zarr group.
        where: The file and group, for messages.

    Raises:
        FormatError: They contradict the format; the message names the entry.
        UnsupportedError: Several images, or axes of another kind than time, channel and space.
    """
    ome = image_attributes(attributes)
    images = ome.get("multiscales")
    if not isinstance(images, list) or not images or not all(isinstance(image, Mapping) for image in images):
        raise _damage(where, "multiscales", images, "a list of one image")
    if len(images) > 1:
        names = [str(image.get("name", index))[:40] for index, image in enumerate(images)]
        raise UnsupportedError(
            f"Reading OME-Zarr {where} failed: it holds {len(images)} images side by side ({', '.join(names)}), and which is meant "
            "is not said. Keep one in 'multiscales' of a copy of its metadata."
        )
    image = images[0]
    version = str(ome.get("version") or image.get("version") or "")
    axes = _axes(image, version, where)
    datasets = image.get("datasets")
    if not isinstance(datasets, list) or not 0 < len(datasets) <= MAX_LEVELS:
        raise _damage(where, "datasets", datasets, f"a list of 1 to {MAX_LEVELS} levels")
    common = _transform(image.get("coordinateTransformations"), len(axes), where)
    levels = tuple(_level(item, common, len(axes), where) for item in datasets)
    if len({bool(level.scale) for level in levels}) > 1:
        raise _damage(where, "datasets", "transforms for some levels only", "one for each or for none")
    axes, levels, unit = _one_unit(axes, levels, where)
    return NgffMetadata(version, str(image.get("name") or ""), axes, levels, _channels(ome), unit)


def _damage(where: str, entry: str, found: object, expected: str) -> FormatError:
    return FormatError(
        f"Reading OME-Zarr {where} failed: its entry '{entry}' is {str(found)[:120]}, expected {expected}. "
        "The metadata is damaged or incomplete; restore it from a copy."
    )


def _axes(image: Mapping[str, Any], version: str, where: str) -> tuple[Axis, ...]:
    declared = image.get("axes")
    if declared is None and version in ("", "0.1", "0.2"):
        return tuple(Axis(letter) for letter in "tczyx")  # these versions have always five
    if not isinstance(declared, list) or not 2 <= len(declared) <= 5:
        raise _damage(where, "axes", declared, "2 to 5 axes of t, c, z, y, x")
    axes, strange = [], []
    for item in declared:
        entry = {"name": item} if isinstance(item, str) else item
        if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
            raise _damage(where, "axes", declared, "names with a type each")
        letter, kind, unit = entry["name"].lower(), entry.get("type"), entry.get("unit")
        if kind in ("time", "channel"):
            letter = kind[0]  # their names are free
        if letter not in AXES or (kind or AXES[letter]) != AXES[letter]:
            strange.append(f"'{entry['name'][:40]}' of type {str(kind)[:40]}")
        axes.append(Axis(letter, unit if isinstance(unit, str) else ""))
    if strange:
        raise UnsupportedError(
            f"Reading OME-Zarr {where} failed: it has the axes {', '.join(strange)}; read are time, channel and the space axes "
            "z, y, x. Export one position along the others as an image of its own."
        )
    letters = [axis.letter for axis in axes]
    if len(set(letters)) != len(letters) or not {"y", "x"} <= set(letters):
        raise _damage(where, "axes", letters, "y and x, and each letter once")
    return tuple(axes)


def _numbers(values: object, count: int, where: str, entry: str) -> tuple[float, ...]:
    if not isinstance(values, list) or len(values) != count:
        raise _damage(where, entry, values, f"{count} numbers, one an axis")
    if not all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in values):
        raise _damage(where, entry, values, f"{count} finite numbers")
    return tuple(float(v) for v in values)


def _transform(items: object, rank: int, where: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Compose a list of scales and translations, the first acting first; empty tuples where there is none."""
    if items is None or items == []:
        return (), ()
    if not isinstance(items, list) or not all(isinstance(item, Mapping) for item in items):
        raise _damage(where, "coordinateTransformations", items, "a list of transforms")
    scale, translation = (1.0,) * rank, (0.0,) * rank
    for item in items:
        kind = item.get("type")
        if kind == "scale":
            factors = _numbers(item.get("scale"), rank, where, "scale")
            if min(factors) <= 0:
                raise _damage(where, "scale", factors, "positive numbers")
            scale = tuple(f * s for f, s in zip(factors, scale, strict=True))
            translation = tuple(f * t for f, t in zip(factors, translation, strict=True))
        elif kind == "translation":
            shift = _numbers(item.get("translation"), rank, where, "translation")
            translation = tuple(a + b for a, b in zip(translation, shift, strict=True))
        elif kind != "identity":
            raise UnsupportedError(
                f"Reading OME-Zarr {where} failed: it has a coordinate transformation of type '{str(kind)[:40]}'; read are "
                "'scale' and 'translation' with numbers in the metadata, as versions 0.4 and 0.5 have them."
            )
    return scale, translation


def _level(item: object, common: tuple[tuple[float, ...], tuple[float, ...]], rank: int, where: str) -> Level:
    path = item.get("path") if isinstance(item, Mapping) else None
    if not isinstance(item, Mapping) or not isinstance(path, str) or not _is_inside(path):
        raise _damage(where, "datasets", item, "a level with the 'path' of an array below its group")
    scale, translation = _transform(item.get("coordinateTransformations"), rank, where)
    if common[0]:
        scale, translation = scale or (1.0,) * rank, translation or (0.0,) * rank
        translation = tuple(f * t + c for f, t, c in zip(common[0], translation, common[1], strict=True))
        scale = tuple(f * s for f, s in zip(common[0], scale, strict=True))
    return Level(path.strip("/"), scale, translation)


def _is_inside(path: str) -> bool:
    return (
        bool(path) and not path.startswith("/") and ".." not in path.replace("\\", "/").split("/") and "\0" not in path
    )


def _one_unit(
    axes: tuple[Axis, ...], levels: tuple[Level, ...], where: str
) -> tuple[tuple[Axis, ...], tuple[Level, ...], str]:
    """Bring all space axes to the unit of x."""
    unit = next(axis.unit for axis in axes if axis.letter == "x")
    factors = []
    for axis in axes:
        factor = length_in(axis.unit, unit) if axis.letter in "zyx" else 1.0
        if factor is None:
            raise UnsupportedError(
                f"Reading OME-Zarr {where} failed: its axis {axis.letter} is in '{axis.unit[:40]}' and x in '{unit[:40]}', and how one "
                "turns into the other is not known. Give all space axes the same unit."
            )
        factors.append(factor)
    if set(factors) == {1.0}:
        return axes, levels, unit
    axes = tuple(Axis(axis.letter, unit if axis.letter in "zyx" else axis.unit) for axis in axes)
    converted = []
    for level in levels:
        scale, shift = (
            tuple(f * v for f, v in zip(factors, v, strict=False)) for v in (level.scale, level.translation)
        )
        converted.append(Level(level.path, scale, shift))
    return axes, tuple(converted), unit


def _channels(ome: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the channels' labels; rendering settings are a courtesy, so nothing in them is an error."""
    omero = ome.get("omero")
    channels = omero.get("channels") if isinstance(omero, Mapping) else None
    if not isinstance(channels, list):
        return ()
    labels = [item.get("label") if isinstance(item, Mapping) else None for item in channels[:MAX_CHANNELS]]
    return tuple(label if isinstance(label, str) else "" for label in labels)
