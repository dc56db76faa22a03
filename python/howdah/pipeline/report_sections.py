"""Sections of a page: curves, errors, and what was compared."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io import ImageSeries, Tracks
from howdah import __version__
from howdah.metrics.mistakes import Mistakes
from howdah.pipeline.error_gallery import Gallery
from howdah.pipeline.record import fingerprint, versions
from howdah.pipeline.report_curves import Line, chart
from howdah.pipeline.report_frames import Frames
from howdah.pipeline.report_page import escaped, number, table
from howdah.pipeline.report_words import KIND_WORDS

F64 = npt.NDArray[np.float64]
Facts = Mapping[str, Any]

__all__ = ["compared", "curves", "errors"]

SHOWN = ("division missed", "division false", "link false", "link missed", "spot missed", "spot false", "mask poor")
LINES = 2  # qualities in one chart
SWATCH = (
    '<li><svg viewBox="0 0 34 20" aria-hidden="true"><rect class="ground" width="34" height="20"/>'
    '<ellipse class="{}" cx="17" cy="10" rx="9" ry="6"/></svg>{}</li>'
)
KEY = (
    '<ul class="key">'
    + "".join(
        SWATCH.format(*one)
        for one in (("t me", "truth"), ("r me", "result"), ("lost", "missing here, where the other has it"))
    )
    + "<li>bold: the cells in question; dotted: above or below the slice</li></ul>"
)


def curves(facts: Facts, frames: Frames) -> str:
    """Return the curves that the numbers allow."""
    unit, reach = str(facts.get("unit", "")), facts.get("matched_within")
    true, found = frames.true.astype(np.float64), frames.found.astype(np.float64)
    distances = facts.get("distances") or ()
    sparse = bool(facts.get("sparse"))  # then nobody knows which spots are false
    spots = (
        Line("spots, recall", frames.frame, frames.spot_recall, 2)
        if sparse
        else Line("spots", frames.frame, frames.spot_f1, 2)
    )
    parts = [("recall", 0)] if sparse else [("precision", 1), ("recall", 0)]
    drawn = [
        chart(
            "Cells over time",
            "How many spots the truth has in each frame, and the result.",
            [Line("truth", frames.frame, true, 0), Line("result", frames.frame, found, 1)],
            axes=("frame", "spots"),
            top=None,
        ),
        chart(
            "F1 of each frame",
            "A dip is a frame to look at. Links count in the frame in which they end.",
            [spots, Line("links", frames.frame, frames.link_f1, 3)],
            axes=("frame", "part" if sparse else "F1"),
        ),
        chart(
            "Spots by distance",
            "What would be right, if a spot may be this far from its true place.",
            [Line(name, *_columns(distances, "distance", name), colour) for name, colour in parts],
            axes=(f"distance ({unit})" if unit else "distance", "part"),
            mark=reach,
        ),
        chart(
            "Can qualities be trusted?",
            "Of spots of a quality, the part that is right. On the dotted line quality is the probability to be right.",
            [
                Line(
                    f"{row.get('quality')} of {row.get('of')}",
                    *_columns(row.get("bins") or (), "quality", "right"),
                    2 + place,
                )
                for place, row in enumerate(facts.get("calibration") or ())
                if place < LINES
            ],
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
    parts = [f"<p>{escaped(gallery.why_none)}</p>" if gallery.why_none else KEY]
    there = [kind for kind in SHOWN if counts[kind]]
    links = (f'<a href="#{_anchor(kind)}">{KIND_WORDS[kind].title} {number(counts[kind])}</a>' for kind in there)
    parts.append(f'<nav aria-label="Kinds of errors">{"".join(links)}</nav>')
    for kind in there:
        words, cards = KIND_WORDS[kind], list(gallery.cards(mistakes, kind))
        some = len(cards) < counts[kind]
        shown = (
            ""
            if gallery.why_none
            else f"{len(cards)} of {number(counts[kind])} are shown."
            if some
            else "All are shown."
        )
        parts.append(
            f'<h3 id="{_anchor(kind)}">{words.title}: {number(counts[kind])}</h3>'
            f'<p class="jump">{escaped(words.meaning)} {shown} In a tagged file: <i>{words.tag}</i>.</p>'
            f'<div class="cards">{"".join(cards)}</div>'
        )
    return "".join(parts)


def _anchor(kind: str) -> str:
    return kind.replace(" ", "-")


def compared(facts: Facts, result: Tracks, truth: Tracks, image: ImageSeries | None) -> str:
    """Return what went into the evaluation: files, their fingerprints, sizes, settings, versions."""
    rows = []
    for key, tracks in (("result", result), ("truth", truth)):
        if key in facts:
            rows.append([key, f"<code>{escaped(facts[key])}</code><br>{_fingerprint(Path(str(facts[key])))}"])
        holds = (
            f"{number(tracks.n_spots)} spots, {number(tracks.n_links)} links, {number(len(tracks.divisions()))} "
            f"divisions in {number(tracks.n_frames)} frames"
        )
        rows.append([f"{key} holds", holds])
    if image is not None:
        size = " × ".join(str(n) for n in image.setups[0].shape)
        where = escaped(image.path or "in memory")
        rows.append(["image", f"<code>{where}</code><br>{image.n_frames} frames of {size} voxels (z, y, x)"])
    rows += [[name, escaped(value)] for name, value in _settings(facts, truth.space_unit).items() if value is not None]
    for who, difference in (facts.get("agreement") or {}).items():
        said = "" if difference is None else f"largest difference of a measure: {float(difference):.1g}"
        rows.append([f"checked with {escaped(who)}", said])
    rows.append(["made", f"{datetime.now(tz=UTC):%Y-%m-%d %H:%M} UTC, Howdah {escaped(__version__)}"])
    used = ", ".join(f"{name} {version}" for name, version in (facts.get("versions") or versions()).items())
    rows.append(["versions", escaped(used, most=1000)])
    return table("Files, settings and versions", ["what", "value"], rows, classes="facts")


def _settings(facts: Facts, unit: str) -> dict[str, Any]:
    unit = str(facts.get("unit", unit))
    within, off, sparse = (facts.get(key) for key in ("matched_within", "median_error", "sparse"))
    return {
        "challenge's cells by": facts.get("matched_by"),
        "spots matched within": None if within is None else f"{number(within)} {unit}",
        "median distance": None if off is None else f"{number(off)} {unit} of spots and their true places",
        "frame tolerance": facts.get("frame_tolerance"),
        "the truth is": None
        if sparse is None
        else ("sparse: where it is silent nothing is wrong" if sparse else "complete"),
    }


def _fingerprint(path: Path) -> str:
    try:
        known = fingerprint(path)
    except (OSError, ValueError, RuntimeError):  # gone, no name at all, a circle of links
        return "not there any more"
    digest = next((value for key, value in known.items() if key.startswith("sha256")), None)
    if digest is None:
        return "a folder" if path.is_dir() else "not a file"
    return f"{number(known['bytes'])} bytes, changed {escaped(known['changed'])}, SHA-256 <code>{digest[:16]}</code>"


def _columns(rows: Any, *names: str) -> tuple[F64, F64]:
    """Two columns of a table of rows; None is NaN."""
    values = [[row.get(name) for row in rows] for name in names]
    x, y = (np.array([np.nan if v is None else v for v in column], dtype=np.float64) for column in values)
    return x, y
