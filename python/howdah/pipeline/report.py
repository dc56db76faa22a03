"""One self-contained HTML page of an evaluation: what was compared, all measures, curves, the worst errors as pictures."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io import ImageSeries, Tracks
from bdv_io.safe_write import replacing
from howdah import __version__
from howdah.metrics.matching import Matching
from howdah.metrics.mistakes import Mistakes
from howdah.pipeline.error_gallery import EACH, Gallery
from howdah.pipeline.record import fingerprint, versions
from howdah.pipeline.report_curves import Line, chart
from howdah.pipeline.report_frames import Frames, by_frame, worst_frames, worst_tracks
from howdah.pipeline.report_page import escaped, number, page, section, table
from howdah.pipeline.report_tables import headline, measures
from howdah.pipeline.report_words import KIND_WORDS

F64 = npt.NDArray[np.float64]

__all__ = ["write_report"]

SHOWN = ("division missed", "division false", "link false", "link missed", "spot missed", "spot false", "mask poor")
KEY = (
    '<ul class="key"><li><svg viewBox="0 0 34 20" aria-hidden="true"><rect class="ground" width="34" height="20"/>'
    '<ellipse class="t me" cx="17" cy="10" rx="9" ry="6"/></svg>truth</li><li><svg viewBox="0 0 34 20" aria-hidden="true">'
    '<rect class="ground" width="34" height="20"/><ellipse class="r me" cx="17" cy="10" rx="9" ry="6"/></svg>result</li>'
    '<li><svg viewBox="0 0 34 20" aria-hidden="true"><rect class="ground" width="34" height="20"/>'
    '<circle class="lost" cx="17" cy="10" r="6"/></svg>missing here</li><li>bold: the cells in question; in 3D, dotted: above or below the slice</li></ul>'
)


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
    gallery = Gallery(result, truth, matching, image=image, setup=setup)
    names = [Path(str(facts.get(key, key))) for key in ("result", "truth")]
    frames = by_frame(result, truth, matching, mistakes)
    parts = [
        ("measures", "Measures", measures(facts)),
        ("curves", "Curves", curves(facts, frames)),
        ("worst", "Where to look first", worst_frames(frames) + worst_tracks(result, truth, matching, mistakes)),
        ("errors", "Errors", errors(gallery, mistakes)),
        ("compared", "What was compared", compared(facts, result, truth, image)),
    ]
    links = "".join(f'<a href="#{key}">{title}</a>' for key, title, content in parts if content)
    content = (
        f'<header class="top"><div><p class="eyebrow">Howdah evaluation</p><h1>{escaped(names[0].name)}</h1>'
        f'<p class="against">against the truth <b>{escaped(names[1].name)}</b> · {datetime.now(tz=UTC):%d %B %Y}</p>'
        f'<nav aria-label="Parts of this page">{links}</nav></div></header><main>{headline(facts, mistakes)}'
        + "".join(section(key, title, content, lead=LEADS[key]) for key, title, content in parts)
        + f"</main><footer>Made by Howdah {escaped(__version__)}. This page holds all it shows; it can be sent, printed and kept as it is.</footer>"
    )
    with replacing(target, keep_previous=False) as temporary:
        temporary.write_text(page(f"Evaluation of {names[0].name}", content), encoding="utf-8")
    return target


LEADS = {
    "measures": "Spots, links and divisions are counted apart, for each of them hides the others: leaving out every division can make TRA "
    "better. Precision is the part of what was found that is true, recall the part of what is true that was found, F1 weighs both.",
    "curves": "Where the result is good, and where it is not.",
    "worst": "Errors weigh by what it costs a person to correct them (severity, 0 to 1); the cost of a frame or a track is their sum.",
    "errors": f"Of each kind the worst, spread over the movie, {EACH} at most. Frames count from 0; coordinates are in world units; spots are "
    "named as Mastodon and TrackMate show them.",
    "compared": "",
}


def curves(facts: Mapping[str, Any], frames: Frames) -> str:
    """Return the curves that the numbers allow."""
    unit, reach = str(facts.get("unit", "")), facts.get("matched_within")
    drawn = [
        chart(
            "Cells over time",
            "How many spots the truth has in each frame, and the result.",
            [Line("truth", frames.frame, frames.true.astype(float), 0), Line("result", frames.frame, frames.found.astype(float), 1)],
            axes=("frame", "spots"),
            top=None,
        ),
        chart(
            "F1 of each frame",
            "A dip is a frame to look at. Links count in the frame in which they end.",
            [Line("spots", frames.frame, frames.spot_f1, 2), Line("links", frames.frame, frames.link_f1, 3)],
            axes=("frame", "F1"),
        ),
        chart(
            "Spots by distance",
            "Precision and recall, if a spot may be this far from its true place.",
            [
                Line(name, *_columns(facts.get("distances", ()), "distance", name), colour)
                for name, colour in (("precision", 1), ("recall", 0))
            ],
            axes=(f"distance ({unit})" if unit else "distance", "part"),
            mark=reach,
        ),
        chart(
            "Can qualities be trusted?",
            "Of spots of a quality, the part that is right. On the dotted line quality is the probability to be right.",
            [Line("spots", *_columns((facts.get("calibration") or {}).get("bins", ()), "quality", "right"), 2)],
            axes=("quality", "part right"),
            diagonal=True,
        ),
    ]
    return f'<div class="charts">{"".join(drawn)}</div>' if any(drawn) else ""


def errors(gallery: Gallery, mistakes: Mistakes) -> str:
    """Return the number of errors of each kind, and the pictures of the worst."""
    counts = mistakes.counts()
    if not len(mistakes):
        return '<p class="empty">No error was found.</p>'
    parts = [KEY]
    for kind in SHOWN:
        if not counts[kind]:
            continue
        words, cards = KIND_WORDS[kind], list(gallery.cards(mistakes, kind))
        shown = f"{len(cards)} of {number(counts[kind])} shown" if len(cards) < counts[kind] else "All are shown"
        parts.append(
            f'<h3 id="{kind.replace(" ", "-")}">{words.title}: {number(counts[kind])}</h3>'
            f'<p class="jump">{escaped(words.meaning)} {shown[0].upper() + shown[1:]}. In the tagged file: tag <i>{words.tag}</i>.</p>'
            f'<div class="cards">{"".join(cards)}</div>'
        )
    return "".join(parts)


def compared(
    facts: Mapping[str, Any], result: Tracks, truth: Tracks, image: ImageSeries | None
) -> str:
    """Return what went into the evaluation: files, their fingerprints, sizes, settings, versions."""
    rows = []
    for key, tracks in (("result", result), ("truth", truth)):
        if key in facts:
            rows.append([key, f"<code>{escaped(facts[key])}</code><br>{_fingerprint(Path(str(facts[key])))}"])
        rows.append(
            [
                f"{key} holds",
                f"{number(tracks.n_spots)} spots, {number(tracks.n_links)} links, {number(len(tracks.divisions()))} divisions, "
                f"in {number(tracks.n_frames)} frames",
            ]
        )
    if image is not None:
        size = " × ".join(str(n) for n in image.setups[0].shape)
        rows.append(["image", f"<code>{escaped(image.path or 'in memory')}</code><br>{image.n_frames} frames of {size} (z, y, x)"])
    unit = str(facts.get("unit", truth.space_unit))
    said = {
        "matched within": f"{number(facts.get('matched_within'))} {unit}" if "matched_within" in facts else None,
        "median distance": f"{number(facts.get('median_error'))} {unit}" if facts.get("median_error") is not None else None,
        "frame tolerance": facts.get("frame_tolerance"),
        "truth is": None if facts.get("sparse") is None else "sparse: where it is silent nothing is wrong" if facts["sparse"] else "complete",
    }
    rows += [[name, escaped(value)] for name, value in said.items() if value is not None]
    rows.append(["made", f"{datetime.now(tz=UTC):%Y-%m-%d %H:%M} UTC, Howdah {escaped(__version__)}"])
    rows.append(["versions", escaped(", ".join(f"{name} {version}" for name, version in versions().items()), most=1000)])
    return table("Files, settings and versions", ["what", "value"], rows, classes="facts")


def _fingerprint(path: Path) -> str:
    try:
        known = fingerprint(path)
    except OSError:
        return "not there any more"
    digest = next((value for key, value in known.items() if key.startswith("sha256")), None)
    if digest is None:
        return "a folder" if path.is_dir() else "not a file"
    return f"{number(known['bytes'])} bytes, changed {escaped(known['changed'])}, SHA-256 <code>{digest[:16]}</code>"


def _columns(rows: Any, *names: str) -> tuple[F64, F64]:
    x, y = (np.array([row.get(name, np.nan) for row in rows], dtype=np.float64) for name in names)
    return x, y
