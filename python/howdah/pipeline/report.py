"""One self-contained HTML page of an evaluation: what was compared, all measures, curves, the worst errors as pictures."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bdv_io import ImageSeries, Tracks
from howdah.metrics.matching import Matching

if TYPE_CHECKING:
    from howdah.metrics.mistakes import Mistakes  # type: ignore[import-not-found,unused-ignore]

__all__ = ["write_report"]


def write_report(
    path: str | os.PathLike[str],
    facts: Mapping[str, Any],
    mistakes: Mistakes,
    *,
    result: Tracks,
    truth: Tracks,
    matching: Matching,
    image: ImageSeries | None = None,
    setup: int = 0,
) -> Path:
    """Write the page; it needs no network, no script and no other file, and stays below 5 MB.

    Args:
        path: The page, ``.html``; a former one is replaced.
        facts: What :func:`howdah.pipeline.evaluation.evaluate` returns. A measure that is not there is left out.
        mistakes: The errors, of which the worst of each kind are shown.
        result: What was judged, world units.
        truth: The truth, in the same unit.
        matching: The pairs of true and predicted spots.
        image: The movie, read lazily, crops only; None draws on plain ground.
        setup: View setup that is shown.

    Returns:
        The page.

    Raises:
        WriteError: The page cannot be written; a former one is intact.
    """
    raise NotImplementedError
