"""What leaves a task, as plain values: JSON without NaN, arrays and tables as files where a pipe cannot carry them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from howdah.service.parameters import Image, Table

__all__ = ["load_image", "load_table", "plain", "save_table", "stored"]


def plain(value: Any) -> Any:
    """Return a value as JSON knows it: numpy scalars as numbers, NaN and infinity as None, paths as text, tuples as lists.

    :class:`Image` and tables (mappings of numpy columns) stay what they are.
    """
    raise NotImplementedError


def stored(value: Any, folder: Path) -> Any:
    """Return a plain value in which each image and table is a file in ``folder``.

    An image becomes ``{"array": "NAME.npy", "axes": ..., "voxel_size": ..., "unit": ..., "interval": ..., "shape": [...],
    "dtype": "<u2"}``, a table ``{"table": "NAME.npz", "rows": N, "columns": [["t", "<i4"], ...]}``; names are relative to ``folder``.
    """
    raise NotImplementedError


def load_image(value: Any, folder: Path | None = None) -> Image:
    """Return the image of a parameter (:class:`Image`, or the path of any movie) or of a stored result (mapping with ``array``)."""
    raise NotImplementedError


def save_table(path: Path, table: Table) -> None:
    """Write columns to a .npz file."""
    raise NotImplementedError


def load_table(value: Any, folder: Path | None = None) -> Table:
    """Return the table of a parameter (mapping of columns, or the path of a .npz or .csv file) or of a stored result."""
    raise NotImplementedError
