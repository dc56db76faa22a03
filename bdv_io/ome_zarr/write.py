"""Writing OME-Zarr 0.4 on zarr version 2, which Fiji, Mastodon, BigStitcher, napari and most others read today.

One array (T, C, Z, Y, X) a level; blosc with zstd and byte shuffling, the codec that OME-Zarr files commonly have and
that Fiji brings its library for; one file a chunk. Frames are taken one at a time; chunks are compressed by threads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bdv_io.errors import WriteError
from bdv_io.image import ImageSeries, WriteOptions
from bdv_io.ome_zarr.store import TYPES, Limits, Store, View, limits_of, propose_chunks
from bdv_io.safe_write import replacing

__all__ = ["TYPES", "propose_chunks", "refuse_file", "writing_ome_zarr"]


def writing_ome_zarr(
    path: str | os.PathLike[str], image: ImageSeries, *, options: WriteOptions | None = None
) -> Iterator[int]:
    """Write a movie as an OME-Zarr folder, and yield the number of frames that are done.

    Nothing stands at ``path`` until the iterator is exhausted; what stood there before is kept as ``name~1~``. Memory
    stays below two frames of one setup. Missing views get no chunks; that they are missing, and all else that OME-Zarr
    cannot hold, is kept in an attribute of our own (:mod:`bdv_io.ome_zarr.metadata`).

    Args:
        path: The folder, by custom ``NAME.ome.zarr``.
        image: The movie.
        options: Levels, chunks, compression (blosc's level) and threads.

    Raises:
        FormatError: A frame differs in shape or type from the first, or an option is impossible.
        UnsupportedError: The setups differ in size or type, which one array cannot hold, or the type is no usual number.
        WriteError: The disk is full, or the folder is missing or may not be written to; the old files are intact.
        BusyError: Another Howdah is writing the same movie.
    """
    target, options = Path(path), options or WriteOptions()
    refuse_file(target)
    store = Store.planned(target, image, options)
    z, y, x = image.setups[0].shape
    whole = (slice(0, z), slice(0, y), slice(0, x))
    limits: dict[View, Limits] = {}
    with replacing(target, folder=True, verify=store.verify) as temporary:
        store.start(temporary)
        with ThreadPoolExecutor(options.workers or os.cpu_count() or 1) as pool:
            for frame in range(image.n_frames):
                for setup in range(len(image.setups)):
                    view = (frame, setup)
                    if view in store.extras.missing:
                        continue
                    array = store.read(frame, setup)
                    limits[view] = limits_of(array)
                    for level in range(len(store.levels)):
                        pixels = store.part(array, level, whole)
                        store.write(temporary, view, level, store.region_of(level, whole), pixels, pool=pool)
                yield frame + 1
        store.finish(temporary, limits)


def refuse_file(target: Path) -> None:
    """Raise a WriteError where a file of the name of the folder stands."""
    if target.is_file():
        raise WriteError(
            f"Writing {target} failed: there is a file of this name, and OME-Zarr is a folder. Choose another name."
        )
