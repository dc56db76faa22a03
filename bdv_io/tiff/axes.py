"""From what a TIFF says and what the user knows to what its axes mean. Nothing is guessed silently."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bdv_io.errors import FormatError
from bdv_io.image import Hints, Vector
from bdv_io.tiff.directories import I64
from bdv_io.tiff.metadata import Said
from bdv_io.tiff.units import METRES, length_unit, time_unit

__all__ = ["Calibration", "calibration", "in_order", "letters_of"]

log = logging.getLogger(__name__)

WORDS = {"T": "time points", "Z": "planes of a stack", "C": "channels"}


@dataclass(frozen=True)
class Calibration:
    """Voxel size (z, y, x), its unit, and the time between frames with its unit."""

    voxel_size: Vector
    unit: str
    interval: tuple[float, str] | None


def letters_of(
    path: Path, said: Said, size: tuple[int, int], *, hint: str | None, unmarked: str = "", colours: bool
) -> str:
    """Return the letter of each axis in ``said.axes``; ``"-"`` for one of length 1 that means nothing.

    Args:
        path: For messages.
        said: What the file says.
        size: Rows and columns of a page, for messages.
        hint: The axes that the user gives.
        unmarked: The letter of a single axis that the file does not name; empty where that is an error.
        colours: Whether a pixel has several samples (the hint may end in C for them).

    Raises:
        FormatError: The file is silent and so is the user, or they do not fit together.
    """
    long = [(letter, n) for letter, n in said.axes if n > 1]
    if hint is None:
        open_axes = [n for letter, n in long if letter == "?"]
        if not open_axes:
            return "".join(letter if letter != "?" else "-" for letter, _ in said.axes)
        if unmarked and len(open_axes) == 1 and unmarked not in {letter for letter, _ in long}:
            return "".join(letter if letter != "?" else unmarked if n > 1 else "-" for letter, n in said.axes)
        raise _ambiguous(path, said, size)
    plain = hint[:-1] if colours and hint.endswith("YXC") else hint
    given = plain[:-2]
    if not plain.endswith("YX"):
        raise FormatError(
            f"Opening {path} failed: the axes {hint} were given, but the pages of a TIFF are Y x X, so that they must end in YX."
        )
    if colours and "C" in given:
        raise FormatError(
            f"Opening {path} failed: the axes {hint} were given, but its colours are its channels already."
        )
    letters = _fitted(given, said, long)
    if letters is None:
        raise FormatError(
            f"Opening {path} failed: the axes {hint} were given, but it holds {_sizes(said, size)}: {len(long) + 2} axes. "
            f"Give one letter for each, for example --axes {_example(len(long))}."
        )
    changed = [f"{n} {WORDS.get(old, old)} are {WORDS[new]}" for (old, n), new in zip(said.axes, letters, strict=True)
               if n > 1 and old not in ("?", new)]  # fmt: skip
    if changed:
        log.warning(
            "%s: by the axes %s that were given, not by %s, %s.", path.name, hint, said.source, " and ".join(changed)
        )
    return letters


def _fitted(given: str, said: Said, long: list[tuple[str, int]]) -> str | None:
    """Spread the letters that were given over the axes that there are."""
    if len(given) == len(long):
        rest = iter(given)
        return "".join(next(rest) if n > 1 else "-" for _, n in said.axes)
    if len(given) == len(said.axes):
        return given
    sizes = {letter: n for letter, n in said.axes if letter != "?"}
    if [letter for letter in given if sizes.get(letter, 1) > 1] == [letter for letter, _ in long]:
        return "".join(letter if n > 1 else "-" for letter, n in said.axes)  # the other letters have length 1
    return None


def _ambiguous(path: Path, said: Said, size: tuple[int, int]) -> FormatError:
    long = [n for _, n in said.axes if n > 1]
    if len(long) == 1:
        n = long[0]
        choice = ", ".join(f"--axes {letter}YX if they are {n} {word}" for letter, word in WORDS.items())
    else:
        choice = f"for example --axes {_example(len(long))}"
    return FormatError(
        f"Opening {path} failed: it holds {_sizes(said, size)} without saying what they are. Say it: {choice}."
    )


def _sizes(said: Said, size: tuple[int, int]) -> str:
    long = [n for _, n in said.axes if n > 1]
    return (
        f"{' x '.join(map(str, long))} pages of {size[0]} x {size[1]} pixels"
        if long
        else f"one page of {size[0]} x {size[1]} pixels"
    )


def _example(n_axes: int) -> str:
    return {0: "YX", 1: "TYX", 2: "TZYX"}.get(n_axes, "TZCYX")


def in_order(planes: I64, letters: str) -> I64:
    """Bring an array with one axis for each of ``letters`` into the order (T, C, Z)."""
    kept = [axis for axis in range(planes.ndim) if letters[axis] in "TCZ"]
    found = planes.reshape([planes.shape[axis] for axis in kept])
    names = [letters[axis] for axis in kept]
    for letter in "TCZ":
        if letter not in names:
            names.append(letter)
            found = found[..., None]
    return np.ascontiguousarray(found.transpose([names.index(letter) for letter in "TCZ"]))


def calibration(path: Path, said: Said, hints: Hints, *, n_planes: int) -> Calibration:
    """Return the calibration: what the user says, else what the file says, else voxels of one pixel.

    Every hint that contradicts the file is told in the log.
    """
    size, unit = _size_and_unit(path, said, hints, n_planes)
    interval = said.interval
    if hints.interval is not None:
        step, name = float(hints.interval[0]), time_unit(hints.interval[1])
        if interval not in (None, (step, name)):
            _overruled(path, said, f"{interval} between frames", (step, name))
        interval = (step, name)
    return Calibration(size, unit, interval)


def _size_and_unit(path: Path, said: Said, hints: Hints, n_planes: int) -> tuple[Vector, str]:
    z, y, x = (1.0 if edge is None else edge for edge in said.voxel_size)
    unit = said.unit
    if hints.voxel_size is not None:
        pairs = list(zip((z, y, x), hints.voxel_size, strict=True))[0 if n_planes > 1 else 1 :]
        known = unit is not None or (y, x) != (1.0, 1.0)
        if known and not all(math.isclose(a, b, rel_tol=1e-3) for a, b in pairs):
            _overruled(path, said, f"voxels (z, y, x) of {(z, y, x)} {unit or 'pixel'}", hints.voxel_size)
        z, y, x = (float(edge) for edge in hints.voxel_size)
    elif n_planes > 1 and said.voxel_size[0] is None and unit is not None:
        log.warning(
            "%s: %s says no distance of planes; 1 %s is taken. Give --voxel-size to say it.",
            path.name,
            said.source,
            unit,
        )
    if hints.unit is not None:
        new = length_unit(hints.unit)
        if hints.voxel_size is None and unit in METRES and new in METRES and unit != new:
            z, y, x = (edge * METRES[unit] / METRES[new] for edge in (z, y, x))
            log.info("%s: its voxel size was converted from %s to %s.", path.name, unit, new)
        elif unit not in (None, new):
            _overruled(path, said, f"the unit {unit}", new)
        unit = new
    return (z, y, x), unit or "pixel"


def _overruled(path: Path, said: Said, old: str, new: object) -> None:
    log.warning("%s: %s says %s; %s was given, and wins.", path.name, said.source, old, new)
