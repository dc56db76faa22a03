"""The one way from a frame to what the network sees, for training and for prediction: normalised, enlarged, coloured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from howdah.methods.efficientcellseg.config import EfficientCellSegConfig
from howdah.nn.enlarge import resized
from howdah.nn.normalise import normalised

F32 = npt.NDArray[np.float32]
Frame = npt.NDArray[Any]
Mode = Literal["context", "time", "grey"]

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

    Args:
        frame: (Z, Y, X), any real type; 2D is Z = 1.
        config: ``enlarge`` of None means 1.
        earlier: The frame before, of the same shape; only used where colours carry time.
        later: The frame after.
        time: Number of the frame, for the sentence of an error.

    Returns:
        (Z, 3, Y', X') float32, 0..1; Y' and X' after enlarging. In grey pictures the colours are three views of one array.

    Raises:
        DataError: The frame cannot be normalised.
    """
    grey = resized(normalised(frame, config.percentiles, time=time), config.enlarge or 1.0)
    return np.broadcast_to(grey[:, np.newaxis], (grey.shape[0], 3, *grey.shape[1:]))


def picture_planes(
    read_plane: Callable[[int], Frame], planes: int, config: EfficientCellSegConfig, *, time: int | None = None
) -> Iterator[F32]:
    """Yield the pictures (3, Y', X') of a volume one after the other, with three planes in memory.

    Args:
        read_plane: Reads a plane (Y, X) by its number; each is read several times.
        planes: How many.
        config: As for :func:`picture`.
        time: Number of the frame, for the sentence of an error.

    Yields:
        float32 0..1, the same as :func:`picture` gives.
    """
    whole = picture(np.stack([read_plane(z) for z in range(planes)]), config, time=time)
    yield from whole
