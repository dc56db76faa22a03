"""Formats of masks and outlines: challenge folders, label images, ROI sets; a size is the edge of a frame, a movie has four."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bdv_io import ArrayImage, Tracks
from bdv_io.label_image import tracks_of_labels
from benchmarks.suite.case import Work, case
from benchmarks.suite.cases import drawn

EDGES, FRAMES = (256, 512, 1024), 4


def masks(edge: int) -> tuple[np.ndarray, Tracks]:
    """Return labels (T, 1, Y, X) of cells that stay, and the same as outlined, linked spots."""
    labels = np.stack([drawn.discs(edge)[None]] * FRAMES)
    return labels, tracks_of_labels(ArrayImage(labels))


def reading(edge: int, path: Path, write: Callable, read: Callable, limit: Callable[[], object]) -> Work:
    """Return the work of reading what was written; the amount is cells."""
    labels, tracks = masks(edge)
    write(path, tracks, image=ArrayImage(labels))
    count = tracks.n_spots
    return Work(
        amount=count,
        run=lambda: read(path),
        limit=limit,
        wrong=lambda: "" if read(path).n_spots == count else "other cells than were written",
    )


def writing(edge: int, folder: Path, ending: str, write: Callable) -> Work:
    """Return the work of writing; the limit is the same pixels to a file, uncompressed."""
    labels, tracks = masks(edge)
    image, name, plain, raw = (
        ArrayImage(labels),
        drawn.names(folder, ending),
        drawn.names(folder, ".raw"),
        labels.tobytes(),
    )
    return Work(
        amount=tracks.n_spots,
        run=lambda: write(name(), tracks, image=image),
        limit=lambda: drawn.put_bytes(plain(), raw),
    )


def pages(files: Path) -> None:
    """Decode the TIFF files of a folder, or one."""
    import tifffile

    for file in [files] if files.is_file() else sorted(files.glob("*.tif")):
        tifffile.imread(file)


@case("read challenge folder", group="format", unit="cells", sizes=EDGES, limit="tifffile decodes the masks")
def read_ctc_case(edge: int, folder: Path) -> Work:
    from bdv_io.ctc import read_ctc, write_ctc

    path = folder / "01_RES"
    return reading(edge, path, write_ctc, read_ctc, lambda: pages(path))


@case("write challenge folder", group="format", unit="cells", sizes=EDGES, limit="the pixels to a file, fsync")
def write_ctc_case(edge: int, folder: Path) -> Work:
    from bdv_io.ctc import write_ctc

    return writing(edge, folder, "_RES", write_ctc)


@case("read label image (TIFF)", group="format", unit="cells", sizes=EDGES, limit="tifffile decodes the masks")
def read_labels_case(edge: int, folder: Path) -> Work:
    from bdv_io.label_image import read_labels, write_labels

    path = folder / "labels.tif"
    return reading(edge, path, write_labels, read_labels, lambda: pages(path))


@case("write label image (TIFF)", group="format", unit="cells", sizes=EDGES, limit="the pixels to a file, fsync")
def write_labels_case(edge: int, folder: Path) -> Work:
    from bdv_io.label_image import write_labels

    return writing(edge, folder, ".tif", write_labels)


@case("read ROI set", group="format", unit="cells", sizes=EDGES, limit="the zip's entries", peer="roifile")
def read_rois_case(edge: int, folder: Path) -> Work:
    import roifile

    from bdv_io.roi_set import read_rois, write_rois

    path = folder / "rois.zip"

    def entries() -> None:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                archive.read(name)

    work = reading(edge, path, write_rois, read_rois, entries)
    return Work(
        amount=work.amount, run=work.run, limit=work.limit, peer=lambda: roifile.roiread(path), wrong=work.wrong
    )


@case("write ROI set", group="format", unit="cells", sizes=EDGES, limit="the pixels to a file, fsync")
def write_rois_case(edge: int, folder: Path) -> Work:
    from bdv_io.roi_set import write_rois

    return writing(edge, folder, ".zip", write_rois)


@case(
    "outlines of labels",
    group="lineages",
    unit="pixels",
    sizes=EDGES,
    limit="copy of the image",
    peer="skimage regionprops, find_contours",
)
def outlines(edge: int, folder: Path) -> Work:
    from skimage.measure import find_contours, regionprops

    from bdv_io.raster import trace

    labels = drawn.discs(edge)
    return Work(
        amount=labels.size,
        run=lambda: trace(labels),
        limit=lambda: labels.copy(),
        peer=lambda: [find_contours(np.pad(part.image, 1), 0.5) for part in regionprops(labels)],
    )
