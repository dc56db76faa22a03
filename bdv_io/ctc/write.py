"""Writing Cell Tracking Challenge annotations."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io.ctc.layout import GROUND_TRUTH, RESULT, Naming
from bdv_io.ctc.read import GOLD, GOLD_PLANES, GOLD_WHOLE
from bdv_io.ctc.table import TRACK, chains_of, kept_links, read_table, table_text
from bdv_io.errors import FormatError, WriteError
from bdv_io.image import ImageSeries
from bdv_io.masks import Grid, Painter, grid_of
from bdv_io.safe_write import replacing
from bdv_io.tracks import Tracks

Array = npt.NDArray[Any]

__all__ = ["lost_in_ctc", "write_ctc"]

log = logging.getLogger(__name__)

OFFICIAL = 65535


def lost_in_ctc(tracks: Tracks) -> list[str]:
    """Return sentences about what of an annotation a folder of masks with a table of tracks cannot hold."""
    lost = []
    merging = int((~kept_links(tracks)).sum())
    if merging:
        lost.append(
            f"{merging} links to a spot that has a parent already: the challenge knows no merging, the first stays."
        )
    gaps = int((np.diff(tracks.t[tracks.links], axis=1) > 1).sum())
    if gaps:
        lost.append(f"{gaps} links skip frames: the cell becomes a new track there, whose parent is the old one.")
    plain = tracks.n_spots - len(np.unique(tracks.outlines.spot))
    if plain:
        lost.append(f"{plain} spots have no outline: their ellipsoids become voxels.")
    labels = int(sum(label is not None for label in tracks.label.tolist()))
    if labels:
        lost.append(f"Labels of {labels} spots: masks have numbers only.")
    if np.isfinite(tracks.quality).any():
        lost.append("The quality of spots.")
    if tracks.tag_sets:
        lost.append(f"Tags: {', '.join(tags.name for tags in tracks.tag_sets)}.")
    features = [f.name for f in tracks.features if f.name not in (TRACK, GOLD)]
    if features:
        lost.append(f"Features: {', '.join(dict.fromkeys(features))}.")
    gold = tracks.feature(GOLD)
    if gold is not None and (gold.values == GOLD_PLANES).any():
        lost.append("Which planes of a spot have a gold mask.")
    if gold is not None and gold.values.any():
        lost.append("Which spots have a gold mask is said by a folder whose name ends in _GT, by no other.")
    if tracks.space_unit != "pixel" or tracks.interval is not None:
        lost.append("Voxel size, unit and frame interval: masks are plain TIFFs.")
    return lost


def write_ctc(path: str | os.PathLike[str], tracks: Tracks, *, image: ImageSeries | None = None) -> None:
    """Write masks and the table of tracks.

    ``..._GT`` gets ``TRA/man_track.txt`` with ``man_track000.tif``, and ``SEG/man_seg000.tif`` for spots with the feature
    "CTC gold"; a folder ``TRA`` the former alone; any other name ``res_track.txt`` with ``mask000.tif``. Spots are painted
    by their outlines, or where there are none by their ellipsoids; each has at least one voxel. Tracks keep their
    numbers where the feature "CTC track" has them. More than 65,535 tracks make 32-bit masks, which the official
    programs do not read.

    Args:
        path: The folder; what was there before is kept beside it.
        tracks: The annotation.
        image: The movie, which says how large the masks are; without it, they are as large as those that were read.

    Raises:
        MissingDataError: Nothing says how large the masks are.
        ValidationError: The annotation contradicts itself, or a spot has no voxel in the image.
        WriteError: The disk is full or the folder is missing; the old folder is intact.
    """
    target = Path(path)
    tracks.validate()
    grid = grid_of(tracks, image, f"Writing {target}")
    chains = chains_of(tracks)
    most = int(chains.table[:, 0].max()) if len(chains.table) else 0
    if most > OFFICIAL:
        log.warning(
            "%s has %d tracks with numbers up to %d: the masks have 32 bits, which the challenge's own programs do not read.",
            target,
            len(chains.table),
            most,
        )
    if chains.n_renumbered:
        log.info("%s: %d tracks could not keep the number they had.", target, chains.n_renumbered)
    painter = Painter(tracks, grid, values=chains.label, dtype=np.uint16 if most <= OFFICIAL else np.uint32)
    naming, inner = (GROUND_TRUTH, "TRA") if target.name.upper().endswith("_GT") else (RESULT, "")
    if target.name.upper() == "TRA":
        naming = GROUND_TRUTH

    def verify(temporary: Path) -> None:
        if not np.array_equal(read_table(temporary / inner / naming.table), chains.table):
            raise WriteError(f"Writing {target} failed: the table of tracks could not be read back.")

    with replacing(target, folder=True, verify=verify) as temporary:
        folder = temporary / inner
        folder.mkdir(parents=True)
        _write_masks(folder, painter, grid, naming=naming, image=image)
        overlapping = painter.overlapping
        (folder / naming.table).write_text(table_text(chains.table), encoding="utf-8")
        if inner:
            _write_gold(temporary / "SEG", tracks, (painter, grid, chains.label), image)
    if overlapping:
        log.warning(
            "%s: %d voxels lie in several spots; of ellipsoids the nearer has them, of outlines the later.",
            target,
            overlapping,
        )


def _write_masks(folder: Path, painter: Painter, grid: Grid, *, naming: Naming, image: ImageSeries | None) -> None:
    for t in range(grid.n_frames):
        _write_mask(folder / f"{naming.mask}{_digits(t, grid)}.tif", painter.frame(t, _affine(image, grid, t)))


def _write_gold(
    folder: Path, tracks: Tracks, painting: tuple[Painter, Grid, npt.NDArray[np.int64]], image: ImageSeries | None
) -> None:
    feature = tracks.feature(GOLD)
    if feature is None or not (feature.values == GOLD_WHOLE).any():
        return
    painter, grid, label = painting
    folder.mkdir()
    gold = feature.values == GOLD_WHOLE
    for t in np.unique(tracks.t[gold]).tolist():
        frame = painter.frame(t, _affine(image, grid, t))
        kept = np.isin(frame, label[gold & (tracks.t == t)])
        _write_mask(folder / f"man_seg{_digits(t, grid)}.tif", np.where(kept, frame, 0).astype(frame.dtype))


def _affine(image: ImageSeries | None, grid: Grid, t: int) -> npt.NDArray[np.float64]:
    if image is None:
        return grid.affine
    if image.shape(t) != grid.shape:
        raise FormatError(
            f"Writing masks for {image.path} failed: frame {t} has (Z, Y, X) = {image.shape(t)} voxels, frame 0 {grid.shape}; "
            "masks of one movie all have the same shape."
        )
    return image.affine(t)


def _digits(t: int, grid: Grid) -> str:
    return f"{t:0{max(3, len(str(grid.n_frames - 1)))}d}"


def _write_mask(path: Path, mask: Array) -> None:
    import tifffile

    # Plain pages, as the challenge has them: no metadata that would make other readers guess axes.
    tifffile.imwrite(
        path, mask[0] if len(mask) == 1 else mask, compression="zlib", photometric="minisblack", metadata=None
    )
