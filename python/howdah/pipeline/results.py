"""Found cells as files: several formats at once, the rules of the Cell Tracking Challenge for its own, folders for single images."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bdv_io import Tracks
from bdv_io.formats import Format, writer_for
from bdv_io.image import Hints
from bdv_io.stills import Stills
from howdah.errors import ConfigError
from howdah.pipeline.challenge_rules import Challenge, by_the_rules
from howdah.pipeline.found_cells import inside
from howdah.pipeline.overwriting import refuse_overwriting
from howdah.pipeline.saving import save
from howdah.pipeline.sources import Source, check_target
from howdah.pipeline.stills import is_folder, write_stills
from howdah.pipeline.truth import rejected

PathLike = str | os.PathLike[str]

__all__ = ["check_targets", "write_results"]

log = logging.getLogger("howdah")

CELLS_ONLY = ("ctc", "labels")  # formats that have no word for a spot that is no cell
OF_STILLS = ("csv", "parquet", "rois")  # formats in which single images may stand beside each other


def check_targets(targets: Sequence[PathLike], source: Source, *, more: Sequence[Path] = ()) -> list[Path]:
    """Return the targets as paths, or say before any work why one of them cannot be written.

    Args:
        targets: Where results shall go.
        source: What they are made from.
        more: Further inputs, which must not be replaced.

    Raises:
        ConfigError: One is named twice, is an input, a folder that holds something else, or nothing for single images.
        WriteError, UnsupportedError: Its folder is not there, or no format has this ending.
    """
    checked: list[Path] = []
    for target in targets:
        path = check_target(target, source, in_place=True, folder=True)
        if isinstance(source.image, Stills) and is_folder(path):
            _check_folder(path, [*source.files, *more])
        else:
            writer = writer_for(target)
            if isinstance(source.image, Stills) and writer.key not in OF_STILLS:
                raise ConfigError(
                    f"Writing {path} is not possible: {source.image.path} is a folder of single images, not a movie. Name a folder, which "
                    "gets a label image for each, or a ROI set (.zip) or table (.csv) of all; if they are the frames of a movie, say "
                    "so: --axes TYX."
                )
            own = source.is_project and path.resolve() == source.files[0].resolve()
            if not own:
                refuse_overwriting(path, writer, [*source.files, *more])
        if path.resolve() in [other.resolve() for other in checked]:
            raise ConfigError(f"Writing to {path} is not possible twice. Name each result once.")
        checked.append(path)
    return checked


def _check_folder(path: Path, inputs: Sequence[Path]) -> None:
    """See that a folder of label images is no input."""
    if path.exists() and not path.is_dir():
        raise ConfigError(f"Writing to {path} is not possible: label images go into a folder, and this is a file.")
    if path.resolve() in [file.resolve() for file in inputs]:
        raise ConfigError(f"Writing to {path} is not possible: it is the folder of an input. Name another one.")


def write_results(
    targets: Sequence[Path], tracks: Tracks, source: Source, *, hints: Hints, challenge: Challenge
) -> list[Path]:
    """Write an annotation in several formats; return where each one is. What a format cannot hold is logged."""
    written = []
    for target in targets:
        if isinstance(source.image, Stills) and is_folder(target):
            written.append(write_stills(target, tracks, source.image))
            continue
        writer = writer_for(target)
        content = _for(writer, tracks, source, challenge, target=target)
        for sentence in writer.losses(content):
            log.info("%s: %s", target, sentence)
        written.append(save(target, content, source.image, hints=hints))
    return written


def _for(writer: Format, tracks: Tracks, source: Source, challenge: Challenge, *, target: Path) -> Tracks:
    """What of an annotation goes into a format."""
    if writer.key not in CELLS_ONLY:
        return tracks
    refused = rejected(tracks)
    cells = tracks.select(~refused) if refused.any() else tracks
    late = cells.t >= source.image.n_frames
    cells = cells.select(~late) if late.any() else cells
    missing = [t for t in np.unique(cells.t).tolist() if source.image.is_missing(t, source.setup)]
    there = inside(cells, source.image, source.setup) | np.isin(cells.t, missing)
    if not there.all():
        log.warning(
            "%d cells whose centre lies outside of the image are left out of %s: they have no pixel.",
            (~there).sum(),
            target,
        )
        cells = cells.select(there)
    return by_the_rules(cells, source.image, challenge, setup=source.setup) if writer.key == "ctc" else cells
