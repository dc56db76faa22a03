"""Folders of single images, with masks of the same names: what teaches from them, and a label image for each as a result."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

from bdv_io import BdvIoError, ImageSeries, Tracks, UnsupportedError
from bdv_io.formats import identify, open_image, read_tracks, write_tracks, writer_for
from bdv_io.image import Hints
from bdv_io.masks import whole
from bdv_io.stills import Stills, images_in
from howdah.errors import ConfigError, DataError
from howdah.methods.annotation import Annotation
from howdah.pipeline.detection import Job
from howdah.pipeline.sources import Source, default_target, parse_frames
from howdah.pipeline.truth import LabelFrames, Teaching, Truth, read_truth

Array = npt.NDArray[Any]
PathLike = str | os.PathLike[str]

__all__ = [
    "default_result",
    "is_folder",
    "is_stills",
    "masks_of_images",
    "open_job",
    "read_stills_truth",
    "read_truth_or_stills",
    "write_stills",
]

log = logging.getLogger("howdah")

ROIS = (".zip", ".roi")
LOSSY = (".jpg", ".jpeg")
MASK = r"(?:cp[-_ ]?masks?|masks?|labels?|seg|segmentation|gt|instances?|annotations?|outlines?|rois?|roiset)"
IMAGE = r"(?:images?|imgs?|im|raw)"
MASK_LAST, MASK_FIRST = re.compile(rf"(.+?)[-_. ]{MASK}$", re.I), re.compile(rf"{MASK}[-_. ]?(.+)$", re.I)
IMAGE_LAST, IMAGE_FIRST = re.compile(rf"(.+?)[-_. ]{IMAGE}$", re.I), re.compile(rf"{IMAGE}[-_. ]?(.+)$", re.I)
NAMED = 5  # files that a sentence names at most


def default_result(source: PathLike) -> Path:
    """Return where the cells of a source go if the user does not say: a label image, or a folder of them beside a folder."""
    return default_target(source, "cells" if images_in(source) else "cells.tif")


def is_folder(target: PathLike) -> bool:
    """Whether a target is a plain folder: no format has this ending."""
    try:
        writer_for(target)
    except UnsupportedError:
        return not Path(target).suffix
    return False


def is_stills(source: Source) -> bool:
    """Whether a source is a folder of single images."""
    return isinstance(source.image, Stills)


def open_job(job: Job, out: PathLike | None = None) -> tuple[Source, list[int]]:
    """Open the source of a job: a movie, a project, or a folder of single images; return it with the frames to work on.

    A folder of images is a movie if the names of its TIFFs say so (t000.tif, t001.tif), or the hint ``axes`` does, and the result is
    not a folder: then each image gets its own result.

    Args:
        job: What to work on.
        out: Where the result goes, if there is one.
    """
    files = _stills_in(Path(job.source), job.hints, apart=out is not None and is_folder(out))
    if files is None or job.image is not None:
        return job.open()
    source = _source(Path(job.source), files, job)
    return source, parse_frames(job.frames, source.image.n_frames)


def _source(folder: Path, files: Sequence[Path], job: Job) -> Source:
    named: dict[str, Path] = {}
    for file in files:
        other = named.setdefault(file.stem.casefold(), file)  # results are named so, on disks that see no capitals too
        if other is not file:
            raise DataError(
                f"The images {other.name} and {file.name} in {folder} have the same name but for the ending, so that their masks would "
                "have one name, too. Rename one of them, or take it out of the folder."
            )
    stills = Stills(folder, files, hints=job.hints)
    if not 0 <= job.setup < len(stills.setups):
        raise ConfigError(f"Setup {job.setup} was asked for, but the images of {folder} have {len(stills.setups)}.")
    return Source(stills, Tracks.empty(space_unit=stills.setups[0].unit), (folder,), job.setup)


def _stills_in(folder: Path, hints: Hints, *, apart: bool = False) -> list[Path] | None:
    """Return the images of a folder, without masks that lie beside them; None if it is a movie or something else."""
    every = images_in(folder)
    if not every or hints.axes is not None:
        return None
    try:
        found = identify(folder)
        if found.key != "tiff":
            return None
        if not apart or re.fullmatch(r"\d+_(GT|ST|RES)", folder.name, re.I):
            open_image(folder, hints=hints if hints.given else None).close()
            return None
    except BdvIoError:
        pass  # no movie; what is wrong with a file is said when it is opened
    stems = {path.stem for path in every}
    return [path for path in every if not _mask_of(path.stem, stems)]


def _mask_of(stem: str, stems: set[str]) -> str:
    """Return the name of the image that a file is the mask of, if its name says that it is a mask; else nothing."""
    for pattern in (MASK_LAST, MASK_FIRST):
        match = pattern.fullmatch(stem)
        if match is None:
            continue
        if match[1] in stems:
            return match[1]
        for other in stems:
            bare = IMAGE_LAST.fullmatch(other) or IMAGE_FIRST.fullmatch(other)
            if bare is not None and bare[1] == match[1]:
                return other
    return ""


def masks_of_images(images: Sequence[Path], folder: Path) -> dict[int, Path]:
    """Pair images with the masks of a folder by their names.

    A mask has the name of its image, or that with a word such as ``_mask``, ``_masks``, ``_label``, ``_cp_masks``, ``_seg``, ``_rois``
    behind it or before it. Masks are label images (TIFF, PNG) or ROI sets (.zip).

    Returns:
        Number of an image -> its mask; images without one are left out.

    Raises:
        DataError: No image has a mask, or one has several.
    """
    own = {image.resolve() for image in images}
    masks = [f for f in images_in(folder) if f.suffix.lower() not in LOSSY and f.resolve() not in own]
    masks += [f for f in sorted(folder.iterdir()) if f.suffix.lower() in ROIS and not f.name.startswith(".")]
    number = {image.stem: i for i, image in enumerate(images)}
    found: dict[int, Path] = {}
    for mask in masks:
        stem = mask.stem if mask.stem in number else _mask_of(mask.stem, set(number))
        if not stem:
            continue
        if number[stem] in found:
            raise DataError(
                f"The image {images[number[stem]]} has two masks, {found[number[stem]].name} and {mask.name} in {folder}. Leave one."
            )
        found[number[stem]] = mask
    if not found:
        names = ", ".join(path.name for path in masks[:NAMED]) or "no label image (TIFF, PNG) and no ROI set (.zip)"
        listed = ", ".join(path.name for path in images[:NAMED])
        raise DataError(
            f"No image of {images[0].parent} has a mask of its name in {folder}: images are {listed}; there are {names}. Name "
            "masks as their images, or with _mask behind it."
        )
    return dict(sorted(found.items()))


def read_truth_or_stills(job: Job, config: Teaching, *, truth: PathLike | None = None) -> Truth:
    """Read what teaches, from a movie or project (:func:`howdah.pipeline.truth.read_truth`) or from a folder of images.

    Raises:
        DataError, BdvIoError: As the sentence says.
    """
    folder = Path(job.source)
    where = folder if truth is None else Path(truth)
    apart = truth is not None and _stills_in(where, Hints()) is not None
    files = _stills_in(folder, job.hints, apart=apart or (where.is_dir() and _has_rois(where)))
    if files is None or job.image is not None:
        return read_truth(job, config, truth=truth, by_plane=True)
    if not where.is_dir():
        identify(where)  # says if there is nothing
        raise DataError(
            f"{folder} is a folder of single images, so their masks must be in a folder too, with the names of the images; {where} is none."
        )
    return read_stills_truth(job, config, files=files, masks=where)


def _has_rois(folder: Path) -> bool:
    return any(f.suffix.lower() in ROIS for f in folder.iterdir())


@dataclass(frozen=True, eq=False)
class _Masks:
    """Reads the masks of single images, as labels (Z, Y, X)."""

    image: ImageSeries
    files: Mapping[int, Path]
    setup: int
    hints: Hints
    binary: bool = False  # the masks tell cells from background only: each patch is taken as a cell

    def __call__(self, frame: int) -> Array:
        file, shape = self.files[frame], self.image.shape(frame, self.setup)
        labels = self._painted(frame, file) if file.suffix.lower() in ROIS else self._read(file)
        if labels.shape != shape:
            raise DataError(
                f"The mask {file} has (Z, Y, X) = {labels.shape} pixels, but its image, number {frame} of {self.image.path}, has {shape}. "
                "Do they belong together?"
            )
        return _patches(labels) if self.binary and file.suffix.lower() not in ROIS else labels

    def _read(self, file: Path) -> Array:
        opened = open_image(file)
        try:
            if opened.n_frames != 1 or len(opened.setups) != 1:
                raise DataError(
                    f"The mask {file} holds {opened.n_frames} frames and {len(opened.setups)} channels; a mask of an image is one image in "
                    "which every cell has its own number."
                )
            return whole(opened.read(0), f"Reading the mask {file}")
        finally:
            opened.close()

    def _painted(self, frame: int, file: Path) -> Array:
        size = self.image.affine(frame, self.setup).diagonal()[:3].tolist()
        axes = "ZYX" if self.image.shape(frame, self.setup)[0] > 1 else "TYX"
        hints = Hints(axes=axes, voxel_size=(size[0], size[1], size[2]), unit=self.image.setups[self.setup].unit)
        tracks = read_tracks(file, hints=hints)
        here = replace(tracks, t=np.full(tracks.n_spots, frame, dtype=np.int32))
        return LabelFrames(here, self.image, self.setup)(frame)


def read_stills_truth(job: Job, config: Teaching, *, files: Sequence[Path], masks: Path) -> Truth:
    """Read what the masks of single images teach. Images without a mask teach nothing; a mask without a cell says that there is none.

    Args:
        job: ``frames`` limits what teaches: numbers of the images in the order of their names, from 0.
        config: ``annotation``; None: complete for label images, sparse where there are ROI sets.
        files: The images.
        masks: The folder with their masks, which may be that of the images.

    Raises:
        DataError: No image has a mask, no mask has a cell, or an image and its mask differ in size.
    """
    folder = Path(job.source)
    source = _source(folder, files, job)
    wanted = set(parse_frames(job.frames, source.image.n_frames))
    paired = {i: mask for i, mask in masks_of_images(files, masks).items() if i in wanted}
    labels = _Masks(source.image, paired, job.setup, job.hints)
    found = [_numbers(labels(i)) for i in paired]
    n_cells = sum(n for n, _ in found)
    several = max((pieces for _, pieces in found), default=0)
    if max((n for n, _ in found), default=0) == 1 and several > 1:
        labels = replace(labels, binary=True)
        n_cells = sum(pieces for _, pieces in found)
        log.warning(
            "Each of the %d masks in %s holds one number only, in up to %d patches: they tell cells from background, not cell from cell. "
            "Each patch is taken as a cell, so cells that touch teach as one. Better give every cell its own number.",
            len(paired),
            masks,
            several,
        )
    if not n_cells:
        raise DataError(f"There is nothing to train on: the {len(paired)} masks in {masks} hold no cell.")
    whole_images = all(mask.suffix.lower() not in ROIS for mask in paired.values())
    annotation = _annotation(source, labels, config, complete=whole_images)
    return Truth(annotation, "masks of images", n_cells, 0, {"images": folder, "truth": masks}, source)


def _numbers(labels: Array) -> tuple[int, int]:
    """Return how many cells a mask numbers and, if it is one, in how many patches that one lies."""
    n = len(np.setdiff1d(labels, 0))
    return n, int(_patches(labels).max()) if n == 1 else n


def _patches(mask: Array) -> npt.NDArray[np.int32]:
    """Number the patches of a mask (Z, Y, X) that tells cells from background only; pixels that meet at a corner belong together."""
    numbered = scipy.ndimage.label(mask != 0, structure=np.ones((3, 3, 3)))[0].astype(np.int32)
    return numbered


def _annotation(source: Source, labels: _Masks, config: Teaching, *, complete: bool) -> Annotation:
    image, setup = source.image, source.setup
    said = config.annotation
    size = np.linalg.norm(image.affine(min(labels.files), setup)[:3, :3], axis=0).tolist()
    read: Callable[[int], Array] = lambda frame: image.read(frame, setup)  # noqa: E731  as the type wants it
    return Annotation(
        frames=read,
        labels=labels,
        times=tuple(labels.files),
        earlier={},
        complete=complete if said is None else said == "complete",
        voxel_size=(size[0], size[1], size[2]),
        mothers=False,
    )


def write_stills(folder: Path, tracks: Tracks, stills: Stills) -> Path:
    """Write the cells of single images as label images in a folder, ``name.tif`` for ``name.png``; return the folder.

    What stood there under these names is kept as ``name.tif~1~``.
    """
    folder.mkdir(exist_ok=True)
    for frame, file in enumerate(stills.files):
        rows = np.flatnonzero(tracks.t == frame)
        here = replace(tracks.select(rows), t=np.zeros(len(rows), dtype=np.int32))
        write_tracks(folder / f"{file.stem}.tif", here, image=stills.image(frame), key="labels")
    return folder
