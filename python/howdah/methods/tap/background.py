"""Where a frame shows cells and where nothing, seen from afar: one answer for each small block of pixels.

The paper draws crops from everywhere; movies with few cells are learned faster where some of the empty ones are drawn again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from howdah.methods.tap.movies import Frames

F32 = npt.NDArray[np.float32]
B1 = npt.NDArray[np.bool_]
I64 = npt.NDArray[np.int64]

__all__ = ["Background", "textured"]

BLOCKS = 8  # along the edge of a crop
NOISES = 4.0  # of what noise alone leaves of a block's standard deviation after smoothing, from where on it is texture
FAINT = 0.03  # of the range of the frame: texture is not less than this
LEAST = 0.02  # share of a crop that has texture, where there are cells
QUIET = 0.1  # share of the blocks, the quietest, that tell the noise


class Background:
    """Tells which crops of a movie show no cells; looks at each frame once.

    Args:
        frames: The movie.
        edge: Edge of a crop along y and x, pixels after shrinking.
    """

    def __init__(self, frames: Frames, edge: int) -> None:
        self.frames = frames
        self.block = max(edge // BLOCKS, 4)
        self._sums: dict[int, I64] = {}

    def is_empty(self, time: int, low: Sequence[int], size: Sequence[int]) -> bool:
        """Return whether a crop shows no cells in a frame: in each of its planes less than a fiftieth of it has texture.

        Args:
            time: Frame.
            low: First pixel (z, y, x) of the crop, which may lie partly beyond the border.
            size: Its pixels (z, y, x).

        Raises:
            DataError: The frame is missing, or holds values that are no numbers.
        """
        sums = self._of(time)
        z = slice(max(low[0], 0), max(low[0] + size[0], 1))
        (a, b), (c, d) = (
            (
                min(max(first, 0) // self.block, blocks - 1),
                min(max(-(-(first + n) // self.block), 1), blocks),
            )
            for first, n, blocks in zip(low[1:], size[1:], (sums.shape[1] - 1, sums.shape[2] - 1), strict=True)
        )
        found = sums[z, b, d] - sums[z, a, d] - sums[z, b, c] + sums[z, a, c]
        return bool(found.max() < LEAST * (b - a) * (d - c))

    def _of(self, time: int) -> I64:
        """Return how many blocks with texture lie above and left of each corner of a block (Z, blocks + 1, blocks + 1)."""
        if time not in self._sums:
            depth, y, x = self.frames.shape
            planes = []
            for z in range(depth):
                region = (slice(z, z + 1), slice(0, y), slice(0, x))
                planes.append(textured(self.frames.region(time, region)[:, 0], self.block))
            counts = np.stack(planes).astype(np.int64).cumsum(1).cumsum(2)
            self._sums[time] = np.pad(counts, ((0, 0), (1, 0), (1, 0)))
        return self._sums[time]


def textured(image: F32, block: int) -> B1:
    """Return which blocks (rows, columns) of an image (C, Y, X), normalised to 0..1, have texture in some channel.

    A block has texture if its pixels, smoothed over 3 x 3, differ more than noise can make them: brightness alone does not count, and
    phase contrast is seen as well as fluorescence. The noise is that of the quietest blocks; blocks at the end may be smaller.
    """
    found: B1 = np.logical_or.reduce([_textured(channel, block) for channel in image])
    return found


def _textured(image: F32, block: int) -> B1:
    smooth = ndimage.uniform_filter(image, 3, mode="mirror")
    rest = ndimage.convolve(image, CHECKS, mode="mirror")
    mean, squares = _means(smooth, block), _means(smooth * smooth, block)
    deviation = np.sqrt(np.maximum(squares - mean * mean, 0))
    noise = np.sqrt(np.quantile(_means(rest * rest, block), QUIET))
    left = noise / 3  # of white noise after a mean of 3 x 3
    return np.asarray(deviation > max(NOISES * left, FAINT), dtype=np.bool_)


CHECKS = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32) / 6
"""What is left of white noise has its standard deviation; planes, slopes and edges along y or x vanish (Immerkaer 1996)."""


def _means(values: F32, block: int) -> F32:
    """Return the mean of each block (rows, columns)."""
    rows, columns = (np.arange(0, n, block) for n in values.shape)
    sums = np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1)
    counts = np.outer(np.diff(rows, append=values.shape[0]), np.diff(columns, append=values.shape[1]))
    return np.asarray(sums / counts, dtype=np.float32)
