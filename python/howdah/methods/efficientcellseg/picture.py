"""The one way from a frame to what the network sees, for training and for prediction: normalised, enlarged, coloured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from howdah.errors import DataError
from howdah.methods.efficientcellseg.colour import coloured_planes
from howdah.methods.efficientcellseg.config import EfficientCellSegConfig
from howdah.nn.enlarge import resized
from howdah.nn.normalise import between, limits, limits_of_planes

F32 = npt.NDArray[np.float32]
Frame = npt.NDArray[Any]
Mode = Literal["context", "time", "grey"]
Prepare = Callable[[Frame], Frame]

__all__ = ["Mode", "mode_of", "picture", "picture_planes"]


def mode_of(config: EfficientCellSegConfig, planes: int) -> Mode:
    """Return what the colours carry: as set; where it is automatic, the neighbouring planes of volumes, else nothing."""
    if config.colour != "auto":
        return config.colour
    return "context" if planes > 1 else "grey"


def picture(
    frame: Frame,
    config: EfficientCellSegConfig,
    *,
    earlier: Frame | None = None,
    later: Frame | None = None,
    time: int | None = None,
) -> F32:
    """Return the pictures that the network sees of a frame, one a plane.

    Grey pictures are the plane three times, 0..1. In coloured ones a plane without neighbours has 0..0.5, see :mod:`.colour`.

    Args:
        frame: (Z, Y, X), any real type; 2D is Z = 1.
        config: ``enlarge`` of None means 1, ``colour_area`` of None 0.03.
        earlier: The frame before, of the same shape; only used where colours carry time, and then each of its planes is the neighbour
            of the same plane of the frame. None: there is none.
        later: The frame after.
        time: Number of the frame, for the sentence of an error.

    Returns:
        (Z, 3, Y', X') float32, 0..1; Y' and X' after enlarging. In grey pictures the colours are three views of one array, and
        cannot be written to.

    Raises:
        DataError: The frame cannot be normalised, or its neighbour in time has another shape.
    """
    mode, planes = mode_of(config, frame.shape[0]), frame.shape[0]
    prepared = _prepared(frame, config, mode, time)
    if mode == "grey":
        return np.broadcast_to(prepared[:, np.newaxis], (planes, 3, *prepared.shape[1:]))
    if mode == "context":
        pictures = list(coloured_planes(prepared, config))
    else:
        before = _neighbour(earlier, frame, config, time=None if time is None else time - 1)
        after = _neighbour(later, frame, config, time=None if time is None else time + 1)
        pictures = [
            next(coloured_planes(plane[np.newaxis], config, before=b, after=a))
            for plane, b, a in zip(prepared, before, after, strict=True)
        ]
    whole = np.stack(pictures)
    return resized(whole, config.enlarge or 1.0) if _raw(config, mode) else whole


def picture_planes(
    read_plane: Callable[[int], Frame], planes: int, config: EfficientCellSegConfig, *, time: int | None = None
) -> Iterator[F32]:
    """Yield the pictures (3, Y', X') of a volume one after the other, with three planes in memory.

    Args:
        read_plane: Reads a plane (Y, X) by its number; first all are read to normalise the volume as a whole (8 and 16 bit without sign
            once, other types five times), then each once more.
        planes: How many.
        config: As for :func:`picture`. Colours do not carry time here: then the pictures have no red and no blue.
        time: Number of the frame, for the sentence of an error.

    Yields:
        float32 0..1, the same as :func:`picture` gives (of other types than 8 and 16 bit: to 1e-6).
    """
    mode, times = mode_of(config, planes), config.enlarge or 1.0
    if _raw(config, mode):
        raw = (read_plane(z) for z in range(planes))
        yield from (resized(found, times) for found in coloured_planes(raw, config))
        return
    low, high = limits_of_planes(read_plane, planes, config.percentiles, time=time)
    prepared = (resized(between(read_plane(z), low, high), times) for z in range(planes))
    if mode == "context":
        yield from coloured_planes(prepared, config)
        return
    for plane in prepared:
        if mode == "grey":
            yield np.broadcast_to(plane, (3, *plane.shape))
        else:
            yield next(coloured_planes(plane[np.newaxis], config))


def _raw(config: EfficientCellSegConfig, mode: Mode) -> bool:
    """Whether colours are made from the numbers of the file, as the published code does."""
    return mode != "grey" and "colouring" in config.compat


def _prepared(frame: Frame, config: EfficientCellSegConfig, mode: Mode, time: int | None) -> Frame:
    """Return a frame as it goes into colouring."""
    low, high = limits(frame, config.percentiles, time=time)  # says, too, when the frame holds no numbers
    return frame if _raw(config, mode) else resized(between(frame, low, high), config.enlarge or 1.0)


def _neighbour(
    other: Frame | None, frame: Frame, config: EfficientCellSegConfig, *, time: int | None
) -> Frame | list[None]:
    """Return the planes of a frame before or after, prepared; Nones where there is none."""
    if other is None:
        return [None] * frame.shape[0]
    if other.shape != frame.shape:
        raise DataError(
            f"Colouring a frame of shape {frame.shape} by its neighbours in time failed: frame {'?' if time is None else time} has "
            f"shape {other.shape}. All frames of a movie must have one shape; or set colour to grey."
        )
    return _prepared(other, config, "time", time)
