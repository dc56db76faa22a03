"""What is written beside the pixels of an OME-Zarr: NGFF's entries for all programs, and one entry of our own.

NGFF 0.4 places a whole movie by one scale and one translation. What more an image says (a registration for each view,
missing views, numbers of time points, ids and attributes of setups, how the unit was spelled) goes into the attribute
``howdah`` of the group, as :class:`Extras`, and comes back from there unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bdv_io.errors import FormatError, MissingDataError
from bdv_io.image import F64, Factors, ImageSeries, Shape, Vector
from bdv_io.ngff import long_unit, short_unit

__all__ = ["Extras", "SetupExtras", "extras_of", "lost_in_ome_zarr", "ngff_entries", "parse_extras"]

COLOURS = ("00FF00", "FF00FF", "00FFFF", "FFFF00", "FF0000", "0000FF")


@dataclass(frozen=True)
class SetupExtras:
    """What a setup says beyond its pixels; the fields are those of :class:`bdv_io.image.Setup`."""

    id: int
    name: str
    voxel_size: Vector
    unit: str
    attributes: Mapping[str, tuple[int, str]]


@dataclass(frozen=True, eq=False)
class Extras:
    """What NGFF has no place for.

    Attributes:
        setups: One a channel.
        timepoints: The number of each frame.
        missing: Views (frame, setup) without pixels.
        interval: Time between frames with its unit as the source spelled it, or None.
        affines: Different registrations, 4x4 matrices from voxels of level 0 (z, y, x, 1) to the world; empty where the
            placement in NGFF's own entries is that of every view.
        registrations: Index into ``affines`` for each setup of each frame.
        scale: The scale (z, y, x) of level 0 that NGFF's entries had; where they have another one by now, another
            program has changed the calibration, and ours is outdated.
        translation: Likewise.
    """

    setups: tuple[SetupExtras, ...]
    timepoints: tuple[int, ...]
    missing: frozenset[tuple[int, int]]
    interval: tuple[float, str] | None
    scale: Vector
    translation: Vector
    affines: tuple[F64, ...] = ()
    registrations: tuple[tuple[int, ...], ...] = field(default=())

    def at_voxel_size(self, voxel_size: Vector) -> Extras:
        """Return it with another voxel size, and so without registrations."""
        setups = tuple(replace(setup, voxel_size=voxel_size) for setup in self.setups)
        return replace(self, setups=setups, affines=(), registrations=())

    def as_json(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        setups = [
            {
                "id": s.id,
                "name": s.name,
                "voxel_size": list(s.voxel_size),
                "unit": s.unit,
                "attributes": {key: list(value) for key, value in s.attributes.items()},
            }
            for s in self.setups
        ]
        return {
            "version": 1,
            "axes": "zyx",
            "setups": setups,
            "timepoints": list(self.timepoints),
            "missing": [list(view) for view in sorted(self.missing)],
            "interval": None if self.interval is None else list(self.interval),
            "scale": list(self.scale),
            "translation": list(self.translation),
            "affines": [affine[:3].ravel().tolist() for affine in self.affines],
            "registrations": [list(row) for row in self.registrations],
        }


def parse_extras(found: object, n_frames: int, n_channels: int, where: str) -> Extras:
    """Read :class:`Extras` back from JSON, which is untrusted.

    Raises:
        FormatError: It is not what :meth:`Extras.as_json` returns, or does not fit the number of frames or channels.
    """
    try:
        if not isinstance(found, Mapping) or found.get("version") != 1:
            raise ValueError("it is no table of version 1")
        interval = found["interval"]
        affines = []
        for numbers in found["affines"]:
            affine = np.eye(4)
            affine[:3] = np.asarray(numbers, dtype=np.float64).reshape(3, 4)
            affine.flags.writeable = False
            affines.append(affine)
        extras = Extras(
            setups=tuple(_setup(item) for item in found["setups"]),
            timepoints=tuple(_whole(number) for number in found["timepoints"]),
            missing=frozenset((_whole(frame), _whole(setup)) for frame, setup in found["missing"]),
            interval=None if interval is None else (_positive(interval[0]), str(interval[1])),
            scale=_vector(found["scale"]),
            translation=_vector(found["translation"]),
            affines=tuple(affines),
            registrations=tuple(tuple(_whole(index) for index in row) for row in found["registrations"]),
        )
        _check(extras, n_frames, n_channels)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError, AttributeError) as error:
        reason = f"'{error.args[0]}' is missing" if isinstance(error, KeyError) else str(error)
        raise FormatError(
            f"Reading OME-Zarr {where} failed: what Howdah stored in its attribute 'howdah' is damaged ({reason[:200]}). Restore "
            "the file from a copy, or delete this attribute to read it like one of another program."
        ) from error
    return extras


def _check(extras: Extras, n_frames: int, n_channels: int) -> None:
    if len(extras.setups) != n_channels or len(extras.timepoints) != n_frames:
        raise ValueError(
            f"it describes {len(extras.timepoints)} frames and {len(extras.setups)} channels, but there are {n_frames} and {n_channels}"
        )
    if len(set(extras.timepoints)) != n_frames or any(
        b <= a for a, b in zip(extras.timepoints, extras.timepoints[1:], strict=False)
    ):
        raise ValueError("the numbers of the time points do not ascend")
    if len({setup.id for setup in extras.setups}) != n_channels:
        raise ValueError("two setups have the same id")
    if any(not (0 <= frame < n_frames and 0 <= setup < n_channels) for frame, setup in extras.missing):
        raise ValueError("a missing view is beyond the movie")
    rows = extras.registrations
    if extras.affines and (len(rows) != n_frames or any(len(row) != n_channels for row in rows)):
        raise ValueError("there is not one registration for each view")
    if any(not 0 <= index < len(extras.affines) for row in rows for index in row):
        raise ValueError("a registration is not in the list")


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 2**53:
        raise ValueError(f"{str(value)[:40]} is no whole number")
    return value


def _positive(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value > 0):
        raise ValueError(f"{str(value)[:40]} is no positive number")
    return float(value)


def _vector(values: Sequence[Any]) -> Vector:
    z, y, x = (float(value) for value in values)
    if not all(map(math.isfinite, (z, y, x))):
        raise ValueError(f"{str(values)[:80]} are no finite numbers")
    return (z, y, x)


def _size(values: Sequence[Any]) -> Vector:
    z, y, x = (_positive(value) for value in values)
    return (z, y, x)


def _setup(item: Mapping[str, Any]) -> SetupExtras:
    attributes = {str(key): (_whole(number), str(text)) for key, (number, text) in item["attributes"].items()}
    return SetupExtras(_whole(item["id"]), str(item["name"]), _size(item["voxel_size"]), str(item["unit"]), attributes)


def extras_of(image: ImageSeries) -> Extras:
    """Collect what an image says beyond what NGFF can hold, and the one placement that NGFF gets."""
    setups = tuple(SetupExtras(s.id, s.name, s.voxel_size, s.unit, dict(s.attributes)) for s in image.setups)
    views = [(frame, setup) for frame in range(image.n_frames) for setup in range(len(setups))]
    known: dict[bytes, int] = {}
    affines: list[F64] = []
    rows: list[list[int]] = [[] for _ in range(image.n_frames)]
    missing = frozenset(view for view in views if image.is_missing(*view))
    for frame, setup in views:
        try:
            affine = np.ascontiguousarray(image.affine(frame, setup), dtype=np.float64)
        except MissingDataError:
            if (frame, setup) not in missing:
                raise
            affine = affines[-1] if affines else placement(setups[setup].voxel_size, (0.0, 0.0, 0.0))
        index = known.setdefault(affine.tobytes(), len(affines))
        if index == len(affines):
            affines.append(affine)
        rows[frame].append(index)
    scale, translation = setups[0].voxel_size, (0.0, 0.0, 0.0)
    z, y, x = affines[0][:3, 3].tolist()
    if np.allclose(affines[0][:3, :3], np.diag(scale), rtol=1e-9, atol=0):
        translation = (z, y, x)  # the usual case: voxels lie straight in the world
    plain = len(affines) == 1 and np.array_equal(affines[0], placement(scale, translation))
    return Extras(
        setups=setups,
        timepoints=tuple(image.timepoints),
        missing=missing,
        interval=image.interval,
        scale=scale,
        translation=translation,
        affines=() if plain else tuple(affines),
        registrations=() if plain else tuple(map(tuple, rows)),
    )


def placement(scale: Vector, translation: Vector) -> F64:
    """Return the 4x4 matrix (z, y, x, 1) of a scale and a translation."""
    affine = np.diag([*scale, 1.0])
    affine[:3, 3] = translation
    return affine


def lost_in_ome_zarr(image: ImageSeries) -> tuple[str, ...]:
    """Return sentences about what other programs will not see of an image; Howdah itself gets all of it back."""
    extras = extras_of(image)
    ours = "it is kept in an attribute that only Howdah reads"
    found = []
    if extras.affines:
        found.append(
            "OME-Zarr 0.4 places all views by one scale and one translation: the registration of the views by rotations, or "
            f"differing from view to view, is not seen by other programs; {ours}."
        )
    if extras.missing:
        found.append(f"{len(extras.missing)} missing views are black in other programs; that they are missing: {ours}.")
    if extras.timepoints != tuple(range(len(extras.timepoints))):
        found.append(
            f"The numbers of the time points become 0 to {len(extras.timepoints) - 1} in other programs; {ours}."
        )
    if len({(setup.voxel_size, setup.unit) for setup in extras.setups}) > 1:
        found.append(f"The setups differ in voxel size, other programs see that of the first for all; {ours}.")
    names = sorted({name for setup in extras.setups for name in setup.attributes} - {"channel"})
    if names:
        found.append(f"The setups become channels; their {', '.join(names)} is not seen by other programs; {ours}.")
    return tuple(found)


def ngff_entries(
    extras: Extras,
    *,
    name: str,
    shape: Shape,
    levels: Iterable[Factors],
    windows: Sequence[tuple[float, float, float, float]],
) -> dict[str, Any]:
    """Return the attributes of an OME-Zarr 0.4 group with axes T, C, Z, Y, X.

    Args:
        extras: From :func:`extras_of`.
        name: Of the image.
        shape: Voxels (Z, Y, X) of a frame.
        levels: Downsampling factors (z, y, x) a level.
        windows: For each channel the least and largest possible, and the least and largest seen value.
    """
    unit = long_unit(extras.setups[0].unit)
    space = {} if unit.lower() in ("", "pixel", "pixels", "px", "voxel") else {"unit": unit}
    step, time = (1.0, {}) if extras.interval is None else (extras.interval[0], {"unit": long_unit(extras.interval[1])})
    datasets = []
    for level, asked in enumerate(levels):
        factors = [min(f, n) for f, n in zip(asked, shape, strict=True)]  # an axis cannot shrink below one block
        scale = [v * f for v, f in zip(extras.scale, factors, strict=True)]
        # A block of r voxels has its centre (r - 1) / 2 voxels behind the centre of its first one.
        shift = [t + v * (f - 1) / 2 for t, v, f in zip(extras.translation, extras.scale, factors, strict=True)]
        transforms = [
            {"type": "scale", "scale": [step, 1.0, *scale]},
            {"type": "translation", "translation": [0.0, 0.0, *shift]},
        ]
        datasets.append({"path": str(level), "coordinateTransformations": transforms})
    axes = [{"name": "t", "type": "time", **time}, {"name": "c", "type": "channel"}]
    axes += [{"name": letter, "type": "space", **space} for letter in "zyx"]
    channels = [
        {
            "label": setup.name or short_name(setup, index),
            "color": COLOURS[index % len(COLOURS)] if len(extras.setups) > 1 else "FFFFFF",
            "active": True,
            "window": {"min": low, "max": high, "start": start, "end": max(end, start)},
        }
        for index, (setup, (low, high, start, end)) in enumerate(zip(extras.setups, windows, strict=True))
    ]
    return {
        "multiscales": [{"version": "0.4", "name": name, "axes": axes, "datasets": datasets, "type": "mean"}],
        "omero": {"version": "0.4", "name": name, "channels": channels, "rdefs": {"model": "color"}},
        "howdah": extras.as_json(),
    }


def short_name(setup: SetupExtras, index: int) -> str:
    """Return what a channel without a name is called in other programs."""
    return setup.attributes.get("channel", (0, ""))[1] or f"channel {index + 1}"


def displayed_unit(word: str) -> str:
    """Return the sign of a unit as NGFF spells it, ``"pixel"`` for none."""
    return short_unit(word) if word else "pixel"
