"""Images and annotations of moving cells, and the file formats that they live in.

The annotation model is :class:`Tracks`; a movie is an :class:`ImageSeries`. Formats are modules of this package that
do not know each other; :mod:`bdv_io.formats` finds the right one for a file.
"""

from bdv_io.errors import (
    BdvIoError,
    BusyError,
    FormatError,
    MissingDataError,
    MissingExtraError,
    UnsupportedError,
    ValidationError,
    WriteError,
)
from bdv_io.image import ArrayImage, ImageSeries, Setup, as_dask
from bdv_io.tags import Feature, Tag, TagSet
from bdv_io.tracks import Carried, Tracks

__all__ = [
    "ArrayImage",
    "BdvIoError",
    "BusyError",
    "Carried",
    "Feature",
    "FormatError",
    "ImageSeries",
    "MissingDataError",
    "MissingExtraError",
    "Setup",
    "Tag",
    "TagSet",
    "Tracks",
    "UnsupportedError",
    "ValidationError",
    "WriteError",
    "as_dask",
]
