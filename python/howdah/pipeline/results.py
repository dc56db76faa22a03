"""The results of EmbedTrack as files: several formats at once, and the rules of the Cell Tracking Challenge for its own."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from bdv_io import Tracks
from bdv_io.formats import Format, writer_for
from bdv_io.image import Hints
from howdah.errors import ConfigError
from howdah.pipeline.challenge_rules import Challenge, by_the_rules
from howdah.pipeline.overwriting import refuse_overwriting
from howdah.pipeline.saving import save
from howdah.pipeline.sources import Source, check_target
from howdah.pipeline.truth import rejected

PathLike = str | os.PathLike[str]

__all__ = ["check_targets", "write_results"]

log = logging.getLogger("howdah")

CELLS_ONLY = ("ctc", "labels")  # formats that have no word for a spot that is no cell


def check_targets(targets: Sequence[PathLike], source: Source) -> list[Path]:
    """Return the targets as paths, or say before any work why one of them cannot be written.

    Raises:
        ConfigError: One is named twice, is an input, or a folder that holds something else.
        WriteError, UnsupportedError: Its folder is not there, or no format has this ending.
    """
    checked: list[Path] = []
    for target in targets:
        writer = writer_for(target)
        path = check_target(target, source, in_place=True, folder=True)
        own = source.is_project and path.resolve() == source.files[0].resolve()
        if not own:
            refuse_overwriting(path, writer, source.files)
        if path.resolve() in [other.resolve() for other in checked]:
            raise ConfigError(f"Writing to {path} is not possible twice. Name each result once.")
        checked.append(path)
    return checked


def write_results(
    targets: Sequence[Path], tracks: Tracks, source: Source, *, hints: Hints, challenge: Challenge
) -> list[Path]:
    """Write an annotation in several formats; return where each one is. What a format cannot hold is logged."""
    written = []
    for target in targets:
        writer = writer_for(target)
        content = _for(writer, tracks, source, challenge)
        for sentence in writer.losses(content):
            log.info("%s: %s", target, sentence)
        written.append(save(target, content, source.image, hints=hints))
    return written


def _for(writer: Format, tracks: Tracks, source: Source, challenge: Challenge) -> Tracks:
    """What of an annotation goes into a format."""
    if writer.key not in CELLS_ONLY:
        return tracks
    refused = rejected(tracks)
    cells = tracks.select(~refused) if refused.any() else tracks
    late = cells.t >= source.image.n_frames
    cells = cells.select(~late) if late.any() else cells
    return by_the_rules(cells, source.image, challenge, setup=source.setup) if writer.key == "ctc" else cells
