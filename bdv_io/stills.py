"""A folder of single images as a series: not a movie, only images that are worked on together; names and sizes may differ.

The images may be of any format that :mod:`bdv_io.formats` knows in which a file is one image: TIFF, PNG, JPEG. This is no format of
its own, for a folder of TIFFs may as well be a movie: who opens it has to know.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io.errors import FormatError, MissingDataError
from bdv_io.formats import open_image
from bdv_io.image import F64, Hints, ImageSeries, Region, Shape

Array = npt.NDArray[Any]

__all__ = ["ENDINGS", "Stills", "images_in"]

ENDINGS = (".tif", ".tiff", ".png", ".jpg", ".jpeg")
OPEN_FILES = 16


def images_in(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the image files of a folder by the endings of their names, in order; none where there is no folder."""
    path = Path(folder)
    if not path.is_dir():
        return []
    found = [f for f in path.iterdir() if f.suffix.lower() in ENDINGS and not f.name.startswith(".") and f.is_file()]
    return sorted(found)


class Stills:
    """Single images as the frames of a series; implements :class:`bdv_io.image.ImageSeries`. Frames may differ in size.

    Args:
        folder: Where they are.
        files: The images, each of one frame.
        hints: Voxel size and unit, where the files do not say them.

    Raises:
        MissingDataError: There is none.
        FormatError: A file is damaged, holds several frames, or differs from the first in channels.
    """

    format = "folder of images"
    interval: tuple[float, str] | None = None

    def __init__(self, folder: Path, files: Sequence[Path], *, hints: Hints | None = None) -> None:
        if not files:
            raise MissingDataError(f"Opening {folder} failed: it holds no image ({', '.join(ENDINGS)}).")
        self.path: Path | None = folder
        self.files = tuple(files)
        self.n_frames = len(self.files)
        self.timepoints = tuple(range(self.n_frames))
        self._hints = hints or Hints()
        self._open: OrderedDict[int, ImageSeries] = OrderedDict()
        self.setups = self.image(0).setups
        self._shapes: dict[int, tuple[Shape, F64]] = {}

    def image(self, frame: int) -> ImageSeries:
        """Return one of the images."""
        self._check(frame)
        if frame in self._open:
            self._open.move_to_end(frame)
            return self._open[frame]
        file = self.files[frame]
        opened = open_image(file, hints=self._hints if self._hints.given else None)
        setups = self.setups if self._open or hasattr(self, "setups") else opened.setups
        if opened.n_frames != 1 or len(opened.setups) != len(setups):
            raise FormatError(
                f"Reading {file} failed: it holds {opened.n_frames} frames of {len(opened.setups)} channels; an image of this folder has "
                f"one frame, and {len(setups)} channels as the first one. Take it out of the folder; a movie is worked on alone."
            )
        self._open[frame] = opened
        while len(self._open) > OPEN_FILES:
            self._open.popitem(last=False)[1].close()
        return opened

    def is_missing(self, frame: int, setup: int = 0) -> bool:
        """Return False: every frame is a file that was there."""
        return False

    def shape(self, frame: int, setup: int = 0, level: int = 0) -> Shape:
        """Voxels (Z, Y, X) of an image."""
        return self._placed(frame)[0]

    def affine(self, frame: int, setup: int = 0, level: int = 0) -> F64:
        """4x4 matrix from voxel indices to the world, of an image."""
        return self._placed(frame)[1]

    def read(self, frame: int, setup: int = 0, level: int = 0, *, region: Region | None = None) -> Array:
        """Read an image, or a region of it, as (Z, Y, X)."""
        return self.image(frame).read(0, setup, level, region=region)

    def close(self) -> None:
        """Let go of open files. Reading afterwards opens them again."""
        while self._open:
            self._open.popitem()[1].close()

    def _placed(self, frame: int) -> tuple[Shape, F64]:
        if frame not in self._shapes:
            image = self.image(frame)
            self._shapes[frame] = (image.shape(0), np.asarray(image.affine(0)))
        return self._shapes[frame]

    def _check(self, frame: int) -> None:
        if not 0 <= frame < self.n_frames:
            raise MissingDataError(
                f"Image {frame} of {self.path} was asked for; there are {self.n_frames}, counted from 0."
            )
