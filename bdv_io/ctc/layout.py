"""Where things are in a Cell Tracking Challenge folder, and how one mask is read."""

from __future__ import annotations

import os
import re
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io.errors import FormatError, MissingDataError
from bdv_io.masks import whole
from bdv_io.untrusted import check_tiff_pages, refuse_special

Array = npt.NDArray[Any]

__all__ = ["GROUND_TRUTH", "RESULT", "Folder", "Naming", "find", "read_mask"]

LAST_FRAME = 2**31 - 1
MOST_DENSE = 5000  # bytes of pixels a byte of the file; more than any compression of a real mask reaches
SEGMENTED = re.compile(r"man_seg_?(\d+)(?:_(\d+))?\.tiff?", re.IGNORECASE)


@dataclass(frozen=True)
class Naming:
    """Names of the files of one kind of folder: ``table``, and masks ``<mask>000.tif``."""

    table: str
    mask: str

    def pattern(self) -> re.Pattern[str]:
        """What the name of a mask looks like; group 1 is the frame."""
        return re.compile(rf"{self.mask}_?(\d+)\.tiff?", re.IGNORECASE)


GROUND_TRUTH, RESULT = Naming("man_track.txt", "man_track"), Naming("res_track.txt", "mask")


@dataclass(frozen=True)
class Folder:
    """What was found.

    Attributes:
        path: What the user named.
        table: The table of tracks; None where there are segmentation masks only.
        masks: Mask of each frame.
        segmented: Gold or silver masks by (frame, plane); plane None for the whole frame.
    """

    path: Path
    table: Path | None
    masks: dict[int, Path]
    segmented: dict[tuple[int, int | None], Path] = field(default_factory=dict)

    @property
    def movie(self) -> Path | None:
        """The folder of images that this belongs to (``01`` for ``01_GT``), if it is there."""
        folder = self.path if self.path.is_dir() else self.path.parent
        for named in (folder, folder.parent):
            sequence = re.fullmatch(r"(\d+)_(GT|ST|RES)", named.name, re.IGNORECASE)
            if sequence and (found := named.with_name(sequence[1])).is_dir():
                return found
        return None


def find(path: Path) -> Folder | None:
    """Find the masks and the table that a path stands for, or None if there are none.

    Args:
        path: ``01_GT``, ``01_GT/TRA``, ``01_RES``, ``01_ST``, a folder ``SEG``, or the table itself.
    """
    if path.is_file():
        naming = {n.table: n for n in (GROUND_TRUTH, RESULT)}.get(path.name)
        return None if naming is None else Folder(path, path, _masks(path.parent, naming))
    try:
        names = set(os.listdir(path))
    except OSError:
        return None
    for naming in (RESULT, GROUND_TRUTH):
        if naming.table in names:
            return Folder(path, path / naming.table, _masks(path, naming))
    segmented = _segmented(path / "SEG" if "SEG" in names else path)
    if "TRA" in names and (path / "TRA" / GROUND_TRUTH.table).is_file():
        return Folder(path, path / "TRA" / GROUND_TRUTH.table, _masks(path / "TRA", GROUND_TRUTH), segmented)
    return Folder(path, None, {}, segmented) if segmented else None


def _masks(folder: Path, naming: Naming) -> dict[int, Path]:
    matched = [(naming.pattern().fullmatch(name), name) for name in sorted(os.listdir(folder))]
    found: dict[int, Path] = {}
    for match, name in matched:
        if match is None:
            continue
        frame = _frame(match[1], folder / name)
        if frame in found:
            raise FormatError(
                f"Reading {folder} failed: both {found[frame].name} and {name} are masks of frame {frame}. Remove one."
            )
        found[frame] = folder / name
    return found


def _segmented(folder: Path) -> dict[tuple[int, int | None], Path]:
    if not folder.is_dir():
        return {}
    matched = [(SEGMENTED.fullmatch(name), name) for name in sorted(os.listdir(folder))]
    return {
        (_frame(match[1], folder / name), None if match[2] is None else int(match[2])): folder / name
        for match, name in matched
        if match
    }


def _frame(digits: str, path: Path) -> int:
    frame = int(digits)
    if frame >= LAST_FRAME:
        raise FormatError(
            f"Reading {path} failed: its name says frame {frame}, which is beyond 31 bits. Remove it, or correct its name."
        )
    return frame


def read_mask(path: Path) -> Array:
    """Read one mask as a (Z, Y, X) array of whole numbers.

    Raises:
        MissingDataError: There is no such file.
        FormatError: It is damaged, no label image, or absurdly large.
    """
    import tifffile  # a tenth of a second, which only those who read masks should wait

    refuse_special(path)
    try:
        check_tiff_pages(path)
        with tifffile.TiffFile(path) as file:
            shape = tuple(int(length) for length in file.series[0].shape) if file.series else ()
            n_voxels = float(np.prod(np.array(shape, dtype=np.float64)))
            if len(shape) not in (2, 3) or len(file.series) > 1:
                raise FormatError(
                    f"Reading the mask {path} failed: it has {len(file.series)} images, the first of shape {shape}; a mask is "
                    "one image (Y, X) or stack (Z, Y, X)."
                )
            if n_voxels * file.series[0].dtype.itemsize > MOST_DENSE * path.stat().st_size:
                raise FormatError(
                    f"Reading the mask {path} was refused: it claims to have {n_voxels:.0f} voxels in a file of "
                    f"{path.stat().st_size} bytes."
                )
            mask = file.asarray()
    except FileNotFoundError:
        raise MissingDataError(f"Reading the mask {path} failed: there is no such file.") from None
    except FormatError:
        raise
    # What tifffile and its decoders raise on damaged files.
    except (ValueError, OSError, IndexError, KeyError, TypeError, RuntimeError, struct.error, zlib.error) as error:
        raise FormatError(f"Reading the mask {path} failed: the file is damaged or no TIFF ({error}).") from error
    except (AttributeError, ZeroDivisionError, AssertionError, OverflowError, MemoryError) as error:
        raise FormatError(f"Reading the mask {path} failed: the file is damaged ({error}).") from error
    labels = whole(mask, f"Reading the mask {path}")
    return labels[None] if labels.ndim == 2 else labels
