"""What a Cell Tracking Challenge folder teaches: gold masks, or silver ones joined with the markers of the tracking truth."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io import Tracks
from bdv_io.ctc import read_ctc
from bdv_io.ctc.layout import find, read_mask
from bdv_io.ctc.read import GOLD, GOLD_WHOLE, LABEL
from bdv_io.ctc.table import TRACK, read_table
from bdv_io.image import Hints
from bdv_io.tags import Feature
from howdah.errors import DataError

Array = npt.NDArray[Any]
Read = Callable[[int], Array]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

__all__ = ["challenge_truth", "fused"]

log = logging.getLogger("howdah")

CTC_HINTS = ("voxel_size", "unit", "interval")


def challenge_truth(given: Path, hints: Hints) -> tuple[Tracks, tuple[int, ...], str] | None:
    """Return the cells of a challenge sequence, the frames that are fully annotated, and ``"gold"`` or ``"silver"``.

    Gold counts where every cell of every frame has its mask, as in simulated sets. Else silver masks take the numbers of the
    markers (:func:`fused`); without silver those frames teach whose cells all have a gold mask, and without any masks the markers
    are taken as outlines.

    Args:
        given: ``01``, with ``01_GT`` or ``01_ST`` beside it, or one of these.
        hints: Voxel size, unit, interval.

    Returns:
        None if there is no truth.
    """
    folder = given.parent if given.name.upper() in ("TRA", "SEG") else given
    sequence = re.fullmatch(r"(\d+)(?:_(GT|ST|RES))?", folder.name, re.IGNORECASE)
    if sequence is None:
        return _gold(given, hints) if _truth(given) else None
    gold, silver = (folder.with_name(f"{sequence[1]}_{kind}") for kind in ("GT", "ST"))
    if sequence[2] and folder not in (gold, silver):  # a result folder: as it is
        return _gold(folder, hints)
    if not _truth(gold):  # masks without numbers teach outlines, no links
        return (*_gold(silver, hints)[:2], "silver") if _truth(silver) else None
    if folder == gold or not _truth(silver) or ((sequence[2] or "").upper() != "ST" and _all_gold(gold)):
        whole = _gold(gold, hints)
        if folder == gold or not _truth(silver) or len(whole[1]) == len(_frames(gold)):
            return whole
    found, markers = find(silver), find(gold)
    if found is None or markers is None or found.table is not None:  # silver with tracks of its own
        return (*_gold(silver, hints)[:2], "silver")
    files = {frame: file for (frame, plane), file in found.segmented.items() if plane is None}
    frames = sorted(files.keys() & markers.masks.keys())
    tracks = fused(
        read_ctc(silver, hints=_understood(hints)),
        masks_of=lambda t: read_mask(files[t]),
        markers_of=lambda t: read_mask(markers.masks[t]),
        frames=frames,
        table=_table(gold),
    )
    return tracks, tuple(frames), "silver"


def fused(masks: Tracks, *, masks_of: Read, markers_of: Read, frames: Sequence[int], table: I64) -> Tracks:
    """Join silver masks with the markers of the tracking truth (paper, section 4.3).

    A mask is kept if exactly one marker lies in it, and takes its number; a marker lies in the mask that has most of its pixels. A
    cell is linked to the cell of its number one frame earlier, or to its mother, where that one was kept.

    Args:
        masks: Their outlines, with the feature "LABEL": the number in the image.
        masks_of: Reads the masks of a frame, (Z, Y, X) integers.
        markers_of: Reads the markers of a frame.
        frames: Frames that have both.
        table: (K, 4) label, first frame, last frame, parent.

    Returns:
        The kept masks, with the feature "CTC track" and links over one frame.

    Raises:
        DataError: Masks and markers of a frame differ in shape.
    """
    number = np.zeros(masks.n_spots, dtype=np.int64)
    known = masks.feature(LABEL)
    value = np.zeros(masks.n_spots, dtype=np.int64) if known is None else known.values.astype(np.int64)
    for t in frames:
        mask, marker = masks_of(t), markers_of(t)
        if mask.shape != marker.shape:
            raise DataError(
                f"Joining silver masks with markers failed: in frame {t} masks have (Z, Y, X) = {mask.shape} pixels, markers "
                f"{marker.shape}. Do they belong together?"
            )
        names, numbers = _marked(mask.reshape(-1), marker.reshape(-1))
        rows = np.flatnonzero(masks.t == t)
        order = rows[np.argsort(value[rows])]
        number[order[np.searchsorted(value[order], names)]] = numbers
    kept = np.flatnonzero(number > 0)
    left = masks.n_spots - len(kept)
    if left:
        log.info("%d of %d silver masks have no marker or several; they are left out.", left, masks.n_spots)
    tracks, number = masks.select(kept), number[kept]
    tracks = tracks.with_feature(Feature(TRACK, "", number))
    return tracks.with_links(_lineage(tracks.t.astype(np.int64), number, table))


def _marked(mask: Array, marker: Array) -> tuple[I64, I64]:
    """Return the masks of a frame in which exactly one marker lies, and these markers."""
    both = np.flatnonzero((mask > 0) & (marker > 0))
    pairs, count = np.unique(np.stack([marker[both], mask[both]]).astype(np.int64), axis=1, return_counts=True)
    order = np.lexsort((-count, pairs[0]))  # of each marker the mask with most of it first
    main = order[np.unique(pairs[0, order], return_index=True)[1]]
    owner, times = np.unique(pairs[1, main], return_counts=True)
    alone = main[np.isin(pairs[1, main], owner[times == 1])]
    return pairs[1, alone], pairs[0, alone]


def _lineage(t: I64, number: I64, table: I64) -> I64:
    """Links (M, 2) over one frame: to the same number, or from the mother to the first of a number."""
    order = np.lexsort((t, number))
    same = (np.diff(number[order]) == 0) & (np.diff(t[order]) == 1)
    links = [np.stack([order[:-1][same], order[1:][same]], axis=1)]
    at = {pair: row for row, pair in enumerate(zip(number.tolist(), t.tolist(), strict=True))}
    first = order[np.unique(number[order], return_index=True)[1]]
    parent_of = dict(table[:, [0, 3]].tolist())
    for row in first.tolist():
        mother = at.get((parent_of.get(int(number[row]), 0), int(t[row]) - 1))
        if mother is not None:
            links.append(np.array([[mother, row]]))
    return np.concatenate(links).astype(np.int64).reshape(-1, 2)


def _gold(folder: Path, hints: Hints) -> tuple[Tracks, tuple[int, ...], str]:
    """Return a truth with its frames whose cells all have a mask."""
    tracks = read_ctc(folder, hints=_understood(hints))
    frames = _frames(folder)
    feature = tracks.feature(GOLD)
    if feature is None:
        return tracks, tuple(sorted(frames)), "gold"
    bare = np.unique(tracks.t[feature.values != GOLD_WHOLE])
    masked = np.unique(tracks.t[feature.values == GOLD_WHOLE])
    segmented = {frame for frame, _ in getattr(find(folder), "segmented", {})}
    full = sorted((set(masked.tolist()) | (frames & segmented)) - set(bare.tolist()))
    lone: Bool = np.isin(tracks.t, full)
    return tracks.select(lone) if not lone.all() else tracks, tuple(full), "gold"


def _all_gold(folder: Path) -> bool:
    """Whether every frame of a truth has gold masks; without any, markers are markers."""
    found = find(folder)
    return found is not None and {frame for frame, plane in found.segmented if plane is None} >= set(found.masks)


def _frames(folder: Path) -> set[int]:
    """Frames of which there is an image of markers or masks."""
    found = find(folder)
    if found is None:
        return set()
    return set(found.masks) or {frame for frame, _ in found.segmented}


def _truth(folder: Path) -> bool:
    return folder.is_dir() and find(folder) is not None


def _table(gold: Path) -> I64:
    found = find(gold)
    return np.empty((0, 4), dtype=np.int64) if found is None or found.table is None else read_table(found.table)


def _understood(hints: Hints) -> Hints:
    return replace(hints, **{name: None for name in hints.given if name not in CTC_HINTS})
