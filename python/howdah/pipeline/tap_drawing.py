"""Pictures while TAP learns: the curves, and where the network sees the arrow of time by now."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from howdah.methods.tap.config import TapConfig
from howdah.methods.tap.movies import Frames, Movie, Region
from howdah.pipeline.tap_network import Sections
from howdah.pipeline.tap_picture import Panel, draw_attribution, draw_curves

if TYPE_CHECKING:
    from howdah.nn.checkpoint import Weights

F32 = npt.NDArray[np.float32]

__all__ = ["Drawing"]


LARGEST = (16, 512, 512)  # pixels (z, y, x) that a picture shows, from the middle of the frame
SHOWN = 3  # frames
PATIENCE = 20  # drawing takes less than one part in so many of the time


class Drawing:
    """Draws after passes of a training; called with the number of the pass and the best network so far.

    Args:
        folder: Gets ``curves.png`` and ``arrow.png``, replaced again and again.
        movies: What is learned from; the first is shown.
        settings: Of the training.
    """

    def __init__(self, folder: Path, movies: Sequence[Movie], settings: Sections) -> None:
        self.folder, self.movie, self.title = folder, movies[0], ", ".join(Path(m.name).name for m in movies)
        self.config = TapConfig.of(settings.get("tap", {}))
        self._ended, self._took = time.monotonic(), 0.0
        self._frames: Frames | None = None

    def __call__(self, number: int, weights: Weights) -> None:
        """Draw, if the last drawing is long enough ago."""
        if number == 1 or time.monotonic() - self._ended >= PATIENCE * self._took:
            self.draw(weights)

    def draw(self, weights: Weights) -> None:
        """Draw both pictures."""
        began = time.monotonic()
        header = weights.header
        frames = int(header["network"]["frames"])
        draw_curves(self.folder / "curves.png", header.get("curve", []), frames=frames, title=self.title)
        draw_attribution(self.folder / "arrow.png", self._panels(weights), title=self.title)
        self._ended = time.monotonic()
        self._took = self._ended - began

    def _panels(self, weights: Weights) -> list[Panel]:
        """Maps of some frames: of those that were held out, where there are such."""
        from howdah.methods.tap.attribution import attributions
        from howdah.methods.tap.predict import Embedder

        embedder = Embedder(weights, self.config)
        if self._frames is None:
            self._frames = Frames(self.movie, embedder.config)
        window = _Window(self._frames)
        later = min(embedder.config.delta)
        last = later * (int(weights.header["network"]["frames"]) - 1)
        there = set(window.times)
        known = [t for t in window.times if {t + later * n for n in range(1, last // later + 1)} <= there]
        held = range(*(weights.header.get("data", {}).get("held_frames") or [[0, 0]])[0])
        chosen = [t for t in known if t in held and t + last in held] or known
        times = (
            sorted({chosen[round(i * (len(chosen) - 1) / max(SHOWN - 1, 1))] for i in range(SHOWN)}) if chosen else []
        )
        panels = []
        for one in attributions(embedder, window, times, delta=later):
            now, then = window.frame(one.time)[0], window.frame(one.time + later)[0]
            panels.append(Panel(one.time, now, then, one.map, one.score))
        return panels


class _Window(Frames):
    """The middle of large frames; intensities are those of the whole ones."""

    def __init__(self, frames: Frames) -> None:
        self._whole = frames
        self.movie, self.config, self.times = frames.movie, frames.config, frames.times
        size = [min(n, most) for n, most in zip(frames.shape, LARGEST, strict=True)]
        start = [(n - k) // 2 for n, k in zip(frames.shape, size, strict=True)]
        self._start = (start[0], start[1], start[2])
        self.shape = (size[0], size[1], size[2])

    def frame(self, time: int) -> F32:
        """Return the middle of a frame."""
        return self.region(time, (slice(0, self.shape[0]), slice(0, self.shape[1]), slice(0, self.shape[2])))

    def region(self, time: int, region: Region) -> F32:
        """Return a region, counted from the window's corner."""
        z, y, x = (
            slice(part.start + first, part.stop + first) for part, first in zip(region, self._start, strict=True)
        )
        return self._whole.region(time, (z, y, x))
