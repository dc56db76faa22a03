"""The OME-Zarr images of a BigDataViewer dataset.

Two layouts, by the loaders that write them: one image whose channels are the setups, in order, and whose time axis holds
the time points (``bdv.n5.universe`` of Mastodon, ``bdv.ome.zarr`` of MoBIE); or a folder of images, with a list in the
XML of where each view is (``bdv.multimg.zarr`` of BigStitcher). Placement in the world is the XML's in both.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bdv_io.bdv.xml import ZarrGroup
from bdv_io.errors import FormatError, MissingDataError
from bdv_io.image import Array, Region, Shape, Vector
from bdv_io.ngff import short_unit
from bdv_io.ngff_image import NgffImage, ZarrFile

__all__ = ["ZarrStore", "ZarrView"]


@dataclass(frozen=True)
class ZarrView:
    """One frame of one channel of an image, at one level."""

    image: NgffImage
    frame: int
    channel: int
    level: int

    @property
    def shape(self) -> Shape:
        """Voxels (Z, Y, X)."""
        return self.image.shape(self.level)

    @property
    def meant(self) -> np.dtype[Any]:
        """Type of the voxels."""
        return self.image.dtype

    def read(self, where: Region | tuple[()]) -> Array:
        """Return a part of the view, () for all of it."""
        return self.image.read(self.frame, self.channel, self.level, where or None)


class ZarrStore:
    """The pixels of a dataset in OME-Zarr; see :class:`bdv_io.bdv.movie.PixelStore`.

    Args:
        master: The folder.
        dataset: Group of the image in it, where there is one image.
        groups: (time point, setup) -> where it is, where there are several.
    """

    format = "BigDataViewer XML/OME-Zarr"

    def __init__(self, master: Path, dataset: str, groups: Mapping[tuple[int, int], ZarrGroup] | None = None) -> None:
        self.master = master
        self._dataset = dataset
        self._groups = dict(groups or {})
        self._images: dict[str, NgffImage] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> tuple[Path, str, Mapping[tuple[int, int], ZarrGroup]]:
        return self.master, self._dataset, self._groups

    def __setstate__(self, state: tuple[Path, str, Mapping[tuple[int, int], ZarrGroup]]) -> None:
        ZarrStore.__init__(self, *state)

    @property
    def interval(self) -> tuple[float, str] | None:
        """Time between frames, where there is one image with a time axis that has a unit."""
        found = None if self._groups else self._image(self._dataset).metadata.interval
        return (found[0], short_unit(found[1])) if found is not None and found[1] else None

    def open(self) -> None:
        """Open the image, or the first one that is there."""
        if not self._groups:
            self._image(self._dataset)
        elif not any(self.has(*view) for view in self._groups):
            places = sorted({group.path for group in self._groups.values()})
            raise MissingDataError(
                f"Opening the OME-Zarr images in {self.master} failed: none of those that the XML names is there "
                f"({', '.join(places[:4])}). Copy them there."
            )

    def close(self) -> None:
        """Let go of open files."""
        for image in list(self._images.values()):
            image.file.close()

    def levels(self, setup: int) -> tuple[Vector, ...]:
        """Return the downsampling factors (z, y, x) as the loaders take them: from the shapes, or from the scales."""
        if not self._groups:
            image = self._image(self._dataset)
            shapes = [image.shape(level) for level in range(len(image.metadata.levels))]
            return tuple(_vector([max(1.0, round(a / b)) for a, b in zip(shapes[0], s, strict=True)]) for s in shapes)
        view = next((view for view in sorted(self._groups) if view[1] == setup and self.has(*view)), None)
        if view is None:
            return ((1.0, 1.0, 1.0),)
        meta = self._image(self._groups[view].path).metadata
        scales = [meta.spatial(level.scale, 1.0) for level in meta.levels]
        return tuple(_vector([round(b / a, 4) for a, b in zip(scales[0], s, strict=True)]) for s in scales)

    def missing_dtype(self, setup: int) -> np.dtype[Any]:
        """Return unsigned 16-bit for a setup without any view."""
        return np.dtype(np.uint16)

    def has(self, timepoint: int, setup: int) -> bool:
        """Whether a view is within its image, and this is there."""
        try:
            image, frame, channel = self._place(timepoint, setup)
        except MissingDataError:
            return False
        return 0 <= frame < image.n_frames and 0 <= channel < image.n_channels

    def view(self, timepoint: int, setup: int, level: int) -> ZarrView:
        """Return the pixels of a view at a level.

        Raises:
            MissingDataError: It is not there.
            FormatError: Its image is damaged.
        """
        image, frame, channel = self._place(timepoint, setup)
        if not (frame < image.n_frames and channel < image.n_channels and level < len(image.metadata.levels)):
            raise MissingDataError(
                f"Reading time point {timepoint}, setup {setup}, level {level} failed: {image.file} has {image.n_frames} frames, "
                f"{image.n_channels} channels and {len(image.metadata.levels)} levels."
            )
        return ZarrView(image, frame, channel, level)

    def _place(self, timepoint: int, setup: int) -> tuple[NgffImage, int, int]:
        """Return image, frame and channel of a view."""
        if not self._groups:
            return self._image(self._dataset), timepoint, setup
        group = self._groups.get((timepoint, setup))
        if group is None:
            raise MissingDataError(
                f"Reading time point {timepoint}, setup {setup} failed: the XML does not say where it is in {self.master}."
            )
        image = self._image(group.path)
        above = [letter for letter in "ct" if letter in image.metadata.letters]
        if len(group.indices) not in (0, len(above)):
            raise FormatError(
                f"Reading time point {timepoint}, setup {setup} failed: the XML gives {len(group.indices)} indices into {image.file}, "
                f"which has the axes {', '.join(image.metadata.letters)}. Correct the indicies of its <zgroup>."
            )
        where = dict(zip(above, group.indices, strict=False))
        return image, where.get("t", 0), where.get("c", 0)

    def _image(self, inside: str) -> NgffImage:
        inside = inside.strip("/")
        with self._lock:
            if inside not in self._images:
                self._images[inside] = NgffImage(ZarrFile(self.master, inside))
            return self._images[inside]


def _vector(values: list[float]) -> Vector:
    z, y, x = values
    return (float(z), float(y), float(x))
