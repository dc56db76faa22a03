"""What a result must not take the place of: the files that it is made from, and folders that hold something else."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from bdv_io import BdvIoError, FormatError, ImageSeries, WriteError
from bdv_io.formats import Format, identify
from howdah.errors import ConfigError

__all__ = ["files_of", "refuse_overwriting"]

SEVERAL = ("csv", "parquet")  # written into a folder that exists, not in its place


def refuse_overwriting(target: Path, writer: Format, inputs: Iterable[Path]) -> None:
    """Raise a ConfigError if writing ``target`` would replace an input, or a folder that holds something else.

    Args:
        target: What was named; all files that the format makes of it are looked at.
        writer: The format of the result.
        inputs: Files and folders that are read.

    Raises:
        ConfigError: The target is an input (by whatever name), lies in one, or contains one; or it is a folder that
            holds something else than this format.
        WriteError: The system knows no such path.
    """
    try:
        written = [file.resolve() for file in writer.files_of(target)]
        read = [(file, file.resolve()) for file in inputs]
        occupied = target.is_dir() and any(target.iterdir())
    except (OSError, RuntimeError, ValueError) as error:
        raise WriteError(f"Writing {target} is not possible: {_reason(error)}. Choose another name.") from error
    for file, place in read:
        if place in written:
            raise ConfigError(
                f"Writing {target} is not possible: it is the same file as the input {file}. Name another target."
            )
        if any(place in out.parents for out in written) and not place.is_file():
            raise ConfigError(f"Writing {target} is not possible: it lies in the input {file}. Write beside it.")
        if any(out in place.parents for out in written):
            raise ConfigError(
                f"Writing {target} is not possible: this folder holds the input {file}. Name another target."
            )
    if occupied and writer.key not in SEVERAL and not _holds(target, writer):
        raise ConfigError(
            f"Writing {target} is not possible: there is a folder of this name that holds something else than a {writer.name}. "
            "Choose another name, or move the folder away."
        )


def files_of(content: ImageSeries | None) -> list[Path]:
    """Return the files that a movie is read from."""
    found = (getattr(content, name, None) for name in ("path", "pixel_path"))
    return [path for path in found if isinstance(path, Path)]


def _holds(folder: Path, writer: Format) -> bool:
    try:
        return identify(folder).key in (writer.key, "ome-zarr" if writer.key == "labels" else writer.key)
    except FormatError:
        return False
    except BdvIoError as error:
        raise WriteError(f"Writing {folder} is not possible: {error}") from error


def _reason(error: BaseException) -> str:
    return os.strerror(error.errno).lower() if isinstance(error, OSError) and error.errno else str(error)
