"""TAP behind the protocol of all methods that describe places by vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from howdah.errors import DataError
from howdah.methods.tap.config import TapConfig
from howdah.methods.tap.movies import Frames, Movie
from howdah.methods.tap.predict import Embedder
from howdah.nn.checkpoint import Weights

Array = npt.NDArray[Any]

__all__ = ["TapEmbedder"]


class TapEmbedder:
    """A :class:`howdah.methods.FrameEmbedder`: whole frames in, whole features out, all in memory.

    Args:
        weights: Trained weights.
        config: Settings; what was not given comes from the weights.
    """

    def __init__(self, weights: Weights, config: TapConfig | None = None) -> None:
        self.embedder = Embedder(weights, config)

    def predict_embedding(self, frames: Array) -> npt.NDArray[np.float32]:
        """Return the features (T, F, Z, Y', X') of frames (T, Z, Y, X), any real type, each normalised by itself.

        Y' and X' are those of the frame, fewer where the network was trained on shrunk images.

        Raises:
            DataError: There are no four axes.
            ConfigError: The memory does not suffice.
        """
        if frames.ndim != 4 or 0 in frames.shape:
            raise DataError(f"Describing frames failed: (T, Z, Y, X) is needed; found shape {frames.shape}.")

        def read(time: int, region: tuple[slice, slice, slice] | None) -> Array:
            found: Array = frames[time][None]
            return found if region is None else found[(slice(None), *region)]

        shape = (frames.shape[1], frames.shape[2], frames.shape[3])
        movie = Movie("the frames", len(frames), shape, (1.0, 1.0, 1.0), 1, read)
        seen = Frames(movie, self.embedder.config)
        return np.stack([self.embedder.features(seen.frame(time)) for time in range(len(frames))])
