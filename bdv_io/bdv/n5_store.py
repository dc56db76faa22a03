"""The N5 folder of a BigDataViewer dataset, and N5 itself: blocks in files, as the format's specification 4.0 has them.

Layout: ``setup0`` (attributes ``downsamplingFactors`` in x y z, ``dataType``), ``setup0/timepoint0/s0`` the array of a view
at level 0. Arrays have their axes x, y, z; the bytes lie as numpy's (Z, Y, X) does. Numbers are big-endian.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bdv_io._axes import reverse_axes
from bdv_io._blocks import BlockCache, gather
from bdv_io.bdv.n5_block import COMPRESSIONS, decode_block
from bdv_io.errors import FormatError, MissingDataError, UnsupportedError
from bdv_io.image import Array, Region, Shape, Vector
from bdv_io.untrusted import refuse_special

__all__ = ["N5Array", "N5Store", "is_n5", "views_in_n5"]

MAX_BLOCK_BYTES = 2 << 30  # of the specification
MAX_ATTRIBUTES_BYTES = 64 << 20
TYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64")


def is_n5(path: Path) -> bool:
    """Whether a folder is the root of an N5 container."""
    if not path.is_dir():
        return False
    try:
        return "n5" in _attributes(path) or (path.suffix.lower() == ".n5" and (path / "setup0").is_dir())
    except FormatError:
        return path.suffix.lower() == ".n5"


def views_in_n5(path: Path) -> dict[tuple[int, int], Vector | None]:
    """Return the views (time point, setup) of an N5 folder, with the resolution (z, y, x) that each states or None."""
    found: dict[tuple[int, int], Vector | None] = {}
    for setup, folder in _numbered(path, "setup"):
        for timepoint, inner in _numbered(folder, "timepoint"):
            if (inner / "s0").is_dir():
                found[timepoint, setup] = _resolution(_attributes(inner).get("resolution"))
    return found


def _resolution(numbers: object) -> Vector | None:
    if not isinstance(numbers, list) or len(numbers) != 3 or not all(isinstance(n, int | float) for n in numbers):
        return None
    z, y, x = reverse_axes(numbers).tolist()
    return (z, y, x) if all(np.isfinite(n) and n > 0 for n in (z, y, x)) else None


def _numbered(path: Path, word: str) -> list[tuple[int, Path]]:
    matches = [(re.fullmatch(rf"{word}(\d{{1,9}})", name), name) for name in os.listdir(path)]
    return sorted(
        (int(match[1]), path / name) for match, name in matches if match is not None and (path / name).is_dir()
    )


def _attributes(folder: Path) -> dict[str, Any]:
    """Return the attributes of a group, empty where it has none."""
    file = folder / "attributes.json"
    refuse_special(file)
    try:
        if file.stat().st_size > MAX_ATTRIBUTES_BYTES:
            raise FormatError(f"Reading N5 {file} failed: it is larger than attributes ever are. It is damaged.")
        found = json.loads(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise MissingDataError(f"Reading N5 {file} failed: the system said: {error}.") from error
    except (ValueError, RecursionError) as error:
        raise FormatError(
            f"Reading N5 {file} failed: it is no JSON ({str(error)[:100]}). Copy it again from where it came."
        ) from error
    return found if isinstance(found, dict) else {}


class N5Store:
    """The pixels of a dataset in N5; see :class:`bdv_io.bdv.movie.PixelStore`.

    Args:
        master: The folder.
        dataset: Group in it.
    """

    format = "BigDataViewer XML/N5"
    interval: tuple[float, str] | None = None  # there is no place for it

    def __init__(self, master: Path, dataset: str = "/") -> None:
        self.master = master
        self._root = master / dataset.strip("/")
        self._arrays: dict[tuple[int, int, int], N5Array] = {}
        self._cache = BlockCache()

    def open(self) -> None:
        """Check that there is a folder with setups.

        Raises:
            FormatError: There is none.
        """
        if not self._root.is_dir() or not (_numbered(self._root, "setup")):
            raise FormatError(
                f"Opening N5 {self._root} failed: it has no folders setup0, setup1 ..., as BigDataViewer's N5 has. It is N5 of "
                "another program, or not whole."
            )

    def close(self) -> None:
        """Forget what was read; no file stays open."""
        self._arrays.clear()
        self._cache.clear()

    def levels(self, setup: int) -> tuple[Vector, ...]:
        """Return the downsampling factors (z, y, x) of each level.

        Raises:
            FormatError: They are not lists of three positive numbers.
        """
        table = _attributes(self._root / f"setup{setup}").get("downsamplingFactors", [[1, 1, 1]])
        try:
            factors = reverse_axes(table)
        except (TypeError, ValueError, IndexError):
            factors = np.zeros((1, 3))
        if factors.ndim != 2 or factors.shape[1] != 3 or not (np.isfinite(factors) & (factors > 0)).all():
            raise FormatError(
                f"Reading N5 {self._root} failed: downsamplingFactors of setup{setup} are {str(table)[:120]}, expected three positive "
                "numbers (x, y, z) a level."
            )
        return tuple((z, y, x) for z, y, x in factors.tolist())

    def missing_dtype(self, setup: int) -> np.dtype[Any]:
        """Return the type that a setup declares, unsigned 16-bit where it declares none."""
        declared = _attributes(self._root / f"setup{setup}").get("dataType")
        return np.dtype(declared if declared in TYPES else "uint16")

    def has(self, timepoint: int, setup: int) -> bool:
        """Whether the array of a view is there."""
        return (timepoint, setup, 0) in self._arrays or (
            self._folder(timepoint, setup, 0) / "attributes.json"
        ).is_file()

    def view(self, timepoint: int, setup: int, level: int) -> N5Array:
        """Return the array of a view at a level.

        Raises:
            MissingDataError: It is not there.
            FormatError: Its attributes are damaged.
            UnsupportedError: It is compressed in a way that is not known.
        """
        key = (timepoint, setup, level)
        array = self._arrays.get(key)
        if array is None:
            array = self._arrays[key] = N5Array.open(self._folder(*key), self._cache)
        return array

    def _folder(self, timepoint: int, setup: int, level: int) -> Path:
        return self._root / f"setup{setup}" / f"timepoint{timepoint}" / f"s{level}"


@dataclass(frozen=True)
class N5Array:
    """One array of three axes.

    Attributes:
        folder: Where its blocks are.
        shape: Voxels (Z, Y, X).
        blocks: Voxels (Z, Y, X) of a block; those at the border may be smaller.
        meant: Type of the voxels, in native byte order.
        compression: As the attributes have it: ``type`` and parameters.
        cache: Where partly used blocks are remembered.
    """

    folder: Path
    shape: Shape
    blocks: Shape
    meant: np.dtype[Any]
    compression: Mapping[str, Any]
    cache: BlockCache

    @classmethod
    def open(cls, folder: Path, cache: BlockCache) -> N5Array:
        """Read the attributes of an array; errors as in :meth:`N5Store.view`."""
        found = _attributes(folder)
        if not found:
            raise MissingDataError(f"Reading N5 {folder} failed: there is no such array.")
        start = f"Reading N5 {folder} failed:"
        sizes = []
        for name in ("dimensions", "blockSize"):
            numbers = found.get(name)
            if not isinstance(numbers, list) or len(numbers) != 3 or not all(_is_size(n) for n in numbers):
                raise FormatError(f"{start} its {name} are {str(numbers)[:80]}, expected three sizes (x, y, z).")
            sizes.append((int(numbers[2]), int(numbers[1]), int(numbers[0])))
        if found.get("dataType") not in TYPES:
            raise UnsupportedError(
                f"{start} its type is '{str(found.get('dataType'))[:40]}', expected one of {', '.join(TYPES)}."
            )
        dtype = np.dtype(found["dataType"])
        shape, blocks = sizes
        if blocks[0] * blocks[1] * blocks[2] * dtype.itemsize > MAX_BLOCK_BYTES:
            raise FormatError(
                f"{start} its blocks of {'x'.join(map(str, blocks))} voxels are over 2 GiB. It is damaged."
            )
        compression = found.get("compression", found.get("compressionType", {}))  # a word before version 2
        compression = {"type": compression} if isinstance(compression, str) else compression
        kind = compression.get("type") if isinstance(compression, dict) else compression
        if not isinstance(compression, dict) or not isinstance(kind, str) or kind not in COMPRESSIONS:
            raise UnsupportedError(
                f"{start} its compression is '{str(kind)[:40]}'; read are {', '.join(COMPRESSIONS)}."
            )
        return cls(folder, shape, blocks, dtype, compression, cache)

    def read(self, where: Region | tuple[()]) -> Array:
        """Return a part of the array, () for all of it; blocks that are not there are zeros.

        Raises:
            FormatError: A block is damaged.
        """
        region = where or (slice(0, self.shape[0], 1), slice(0, self.shape[1], 1), slice(0, self.shape[2], 1))
        out = np.empty([max(0, part.stop - part.start) for part in region], dtype=self.meant)
        gather(region, self.blocks, out, self._load, cache=self.cache, name=self.folder)
        steps = [part.step or 1 for part in region]
        return out if steps == [1, 1, 1] else np.ascontiguousarray(out[tuple(slice(None, None, s) for s in steps)])

    def _load(self, place: tuple[int, ...]) -> Array | None:
        file = self.folder / str(place[2]) / str(place[1]) / str(place[0])
        refuse_special(file, 2 * MAX_BLOCK_BYTES)
        try:
            content = file.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise FormatError(f"Reading N5 block {file} failed: the system said: {error}.") from error
        return decode_block(content, self.blocks, self.meant, self.compression, file)


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**40
