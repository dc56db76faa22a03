"""TIFF movies: ImageJ hyperstacks, OME-TIFF, plain TIFF, folders of numbered TIFFs; written for ImageJ or as OME-TIFF."""

from __future__ import annotations

import os
from pathlib import Path

from bdv_io.errors import MissingDataError
from bdv_io.image import Hints, ImageSeries
from bdv_io.tiff.directories import is_tiff_file
from bdv_io.tiff.folder import is_tiff_folder, open_folder
from bdv_io.tiff.read import open_file
from bdv_io.tiff.write import lost_in_tiff, writing_tiff

__all__ = ["is_tiff", "lost_in_tiff", "open_tiff", "writing_tiff"]


def is_tiff(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as TIFF or BigTIFF does, or a folder holds numbered TIFFs and is nothing else."""
    source = Path(path)
    return is_tiff_file(source) or is_tiff_folder(source)


def open_tiff(path: str | os.PathLike[str], *, hints: Hints | None = None) -> ImageSeries:
    """Open a TIFF file, or a folder of numbered TIFFs, as a movie. Each channel is a setup.

    Axes, voxel size, unit and interval come from ImageJ's header or OME-XML. A file that does not say what its axes are
    needs the hint ``axes``; one that says no voxel size has voxels of 1 pixel, one without interval has None.

    Raises:
        MissingDataError: There is nothing at ``path``, or a file that an OME-TIFF names is not beside it.
        FormatError: It is damaged, contradicts itself, or does not say what its axes are.
        UnsupportedError: It is a TIFF of a microscope's own kind, or holds several images.
    """
    source = Path(path)
    if source.is_dir():
        return open_folder(source, hints=hints or Hints())
    if not source.exists():
        raise MissingDataError(f"Opening {source} failed: there is no such file or folder. Check the path.")
    return open_file(source, hints=hints or Hints())
