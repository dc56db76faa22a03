"""Context-aware pseudocolouring (paper, section 2.2, figure 4): the planes above and below a plane become its red and its blue.

Where the plane above has cells, red is twice as bright as the plane itself; where the plane below has some, blue is; green is the plane.
What the paper leaves open, and how it is here (the published code's way is in :mod:`.as_published`):

- One brightness for a whole frame: planes are compared as they are normalised together, and the picture is half of the sum, so that
  0..2 becomes 0..1 in every plane. The paper's "normalised between zero and one" does not say over what.
- The contrast of neighbours is equalised on brightness 0..1 in 256 steps, whatever type the numbers of the file have.
- The threshold is the lowest one, from ``colour_threshold`` up, above which no more than ``colour_area`` of the plane lies. It is read
  off one histogram, and it always exists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from howdah.methods.efficientcellseg.as_published import cells_as_published, mixed_as_published
from howdah.methods.efficientcellseg.config import EfficientCellSegConfig
from howdah.nn.clahe import local_contrast

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Plane = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Real = TypeVar("Real", np.float32, np.float64)

__all__ = ["AREA", "cells_roughly", "coloured", "coloured_as_published", "coloured_planes", "mixed"]

AREA = 0.03  # where neither a person nor a training said it; the reference code's
LEAST_TILE = 16  # pixels; the histogram of a smaller tile says nothing
STEPS = 1000  # of thresholds between 0 and 1
RED, GREEN, BLUE = 0, 1, 2


def coloured(
    frame: F32,
    config: EfficientCellSegConfig,
    *,
    before: F32 | None = None,
    after: F32 | None = None,
    area: float | None = None,
) -> F32:
    """Return the pictures of all planes of a frame.

    Args:
        frame: (Z, Y, X), 0..1.
        config: The settings ``colour_...``.
        before: (Y, X) the plane above the first; None: there is none, and so no red in the first plane.
        after: (Y, X) the plane below the last.
        area: Share of a neighbour that its cells may take; None: ``colour_area``, else 0.03.

    Returns:
        (Z, 3, Y, X) float32 0..1: red, green, blue. A plane alone has at most 0.5.
    """
    found = np.empty((frame.shape[0], 3, *frame.shape[1:]), dtype=np.float32)
    for z, plane in enumerate(coloured_planes(frame, config, before=before, after=after, area=area)):
        found[z] = plane
    return found


def coloured_as_published(
    frame: Plane,
    config: EfficientCellSegConfig,
    *,
    before: Plane | None = None,
    after: Plane | None = None,
    area: float | None = None,
) -> F64:
    """Return the pictures (Z, 3, Y, X), float64 0..1, that the published code makes of a raw frame (Z, Y, X), uint8 or uint16.

    For its weights; the same numbers as its, to rounding. Arguments are as for :func:`coloured`, with raw numbers.

    Raises:
        DataError: The numbers have another type.
    """
    share = _share(config, area)

    def cells(plane: Plane) -> Mask:
        return cells_as_published(plane, config, area=share)

    return np.stack(list(_in_context(frame, cells, mixed_as_published, before=before, after=after)))


def coloured_planes(
    planes: Iterable[Plane],
    config: EfficientCellSegConfig,
    *,
    before: Plane | None = None,
    after: Plane | None = None,
    area: float | None = None,
) -> Iterator[F32]:
    """Yield the pictures (3, Y, X) of planes (Y, X) as these come, each searched for cells once; see :func:`coloured`.

    The picture of a plane is ready when the next plane was read: two planes and three masks are in memory. With ``colouring`` in
    ``compat``, planes are raw numbers, and pictures are as :func:`coloured_as_published` gives them.
    """
    share = _share(config, area)
    if "colouring" in config.compat:

        def published(plane: Plane) -> Mask:
            return cells_as_published(plane, config, area=share)

        for found in _in_context(planes, published, mixed_as_published, before=before, after=after):
            yield found.astype(np.float32)
        return

    def cells(plane: Plane) -> Mask:
        return cells_roughly(plane, config, area=share)

    yield from _in_context(planes, cells, mixed, before=before, after=after)


def _in_context(
    planes: Iterable[Plane],
    cells: Callable[[Plane], Mask],
    mix: Callable[[Plane, Mask | None, Mask | None], npt.NDArray[Real]],
    *,
    before: Plane | None,
    after: Plane | None,
) -> Iterator[npt.NDArray[Real]]:
    """Mix each plane with the cells of the one above it and of the one below it."""
    plane: Plane | None = None
    own: Mask | None = None
    above = None if before is None else cells(before)
    for later in planes:
        below = cells(later)
        if plane is not None:
            yield mix(plane, above, below)
            above = own
        plane, own = later, below
    if plane is not None:
        yield mix(plane, above, None if after is None else cells(after))


def _share(config: EfficientCellSegConfig, area: float | None) -> float:
    """Part of a neighbour that its cells may take."""
    return area if area is not None else config.colour_area if config.colour_area is not None else AREA


def cells_roughly(plane: F32, config: EfficientCellSegConfig, *, area: float | None = None) -> Mask:
    """Return where a plane (Y, X), 0..1, has cells, roughly: equalised, averaged over a box, and above a threshold."""
    tiles = [min(config.colour_tiles, max(n // LEAST_TILE, 1)) for n in plane.shape]
    bright = local_contrast(plane, tiles, config.colour_clip)
    if config.colour_blur >= 2:
        bright = ndimage.uniform_filter(bright, round(config.colour_blur), mode="mirror")
    least = int(np.ceil(config.colour_threshold * STEPS))
    level = np.minimum((bright * np.float32(STEPS)).astype(np.int32), STEPS)
    above = np.cumsum(np.bincount(level.reshape(-1), minlength=STEPS + 1)[::-1])[::-1]  # pixels at or above each step
    fits = above[least:] <= _share(config, area) * plane.size
    step = least + (int(np.argmax(fits)) if fits.any() else STEPS - least)
    found: Mask = level >= step
    return found


def mixed(plane: F32, above: Mask | None, below: Mask | None) -> F32:
    """Return the picture (3, Y, X): a plane (Y, X), 0..1, multiplied with where its neighbours have cells, added, and halved."""
    found = np.empty((3, *plane.shape), dtype=np.float32)
    np.multiply(plane, np.float32(0.5), out=found[GREEN])
    for colour, cells in ((RED, above), (BLUE, below)):
        if cells is None:
            found[colour] = found[GREEN]
        else:
            np.multiply(found[GREEN], cells + np.float32(1), out=found[colour])
    return found
