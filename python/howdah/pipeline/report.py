"""One self-contained HTML page of an evaluation: what was compared, all measures, curves, the worst errors as pictures.

- :mod:`.report_page`: texts made safe, tables, sections, the page itself; ``templates/report.css`` is how it looks.
- :mod:`.report_words`: a plain sentence for every measure and every kind of error.
- :mod:`.report_tables`, :mod:`.report_frames`, :mod:`.report_sections`: numbers, worst frames and tracks, the sections.
- :mod:`.report_curves`: curves as SVG. :mod:`.report_panes`, :mod:`.error_gallery`: pictures of errors.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bdv_io import ImageSeries, Tracks
from bdv_io.safe_write import replacing
from howdah import __version__
from howdah.metrics.matching import Matching
from howdah.metrics.mistakes import Mistakes
from howdah.pipeline.error_gallery import Gallery
from howdah.pipeline.report_frames import by_frame, worst_frames, worst_tracks
from howdah.pipeline.report_page import escaped, page, section
from howdah.pipeline.report_sections import compared, curves, errors
from howdah.pipeline.report_tables import headline, measures
from howdah.pipeline.report_words import SECTIONS

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
    target = Path(path)
    frames = by_frame(result, truth, matching, mistakes)
    gallery = Gallery(result, truth, matching, image=image, setup=setup)
    contents = {
        "measures": measures(facts),
        "curves": curves(facts, frames),
        "worst": worst_frames(frames) + worst_tracks(result, truth, matching, mistakes),
        "errors": errors(gallery, mistakes),
        "compared": compared(facts, result, truth, image),
    }
    body = "".join(section(key, *SECTIONS[key], content) for key, content in contents.items())
    title, above = _top(facts, [key for key, content in contents.items() if content])
    below = (
        f"<footer>Made by Howdah {escaped(__version__)}. This page holds all that it shows: it can be sent, printed and kept as it is."
        "</footer>"
    )
    text = page(title, f"{above}<main>{headline(facts, mistakes)}{body}</main>{below}")
    with replacing(target, keep_previous=False) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return target


def _top(facts: Mapping[str, Any], keys: list[str]) -> tuple[str, str]:
    """The title, and the head of the page with its links to the sections."""
    result, truth = (_name(Path(str(facts.get(key, key)))) for key in ("result", "truth"))
    links = "".join(f'<a href="#{key}">{escaped(SECTIONS[key][0])}</a>' for key in keys)
    return f"Evaluation of {result}", (
        f'<header class="top"><div><p class="eyebrow">Howdah evaluation</p><h1>{escaped(result)}</h1>'
        f'<p class="against">against the truth <b>{escaped(truth)}</b> · {datetime.now(tz=UTC):%d %B %Y}</p>'
        f'<nav aria-label="Parts of this page">{links}</nav></div></header>'
    )


def _name(path: Path) -> str:
    """What a file is called; a folder (01_RES) with the folder that it lies in, or nobody knows which it is."""
    return path.name if path.suffix or not path.parent.name else f"{path.parent.name}/{path.name}"
