"""The numbers of a page: the headline, and the tables of all measures, each with a sentence on what it means."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from howdah.metrics.mistakes import Mistakes
from howdah.pipeline.report_page import escaped, number, table
from howdah.pipeline.report_words import CHALLENGE, COUNTED, SEGMENTATION

Facts = Mapping[str, Any]

__all__ = ["headline", "measures"]

HEADLINES = {  # of the challenge, those that come first
    "SEG": "masks: mean overlap with the true cells",
    "DET": "challenge's detection",
    "TRA": "challenge's tracking: detection and links",
    "LNK": "challenge's linking",
    "OP_CTB": "tracking benchmark: mean of SEG and TRA",
    "OP_CSB": "segmentation benchmark: mean of SEG and DET",
    "BIO": "biological measures, mean",
}


def headline(facts: Facts, mistakes: Mistakes) -> str:
    """Return the row of the measures that matter, and the notes below it."""
    tiles = []
    for row in facts.get("measures", ()):
        said = f"precision {number(row.get('precision'), 2)}, recall {number(row.get('recall'), 2)}"
        tiles.append(_tile(f"{str(row.get('of', '')).capitalize()}, F1", row.get("f1"), said))
    official = facts.get("challenge") or {}
    for name, words in HEADLINES.items():
        value = official.get(name)
        if value is None and name == "SEG":
            value = (facts.get("segmentation") or {}).get("SEG")
        if value is not None:
            tiles.append(_tile(name, value, words))
    total = len(mistakes)
    tiles.append(_tile("Errors found", total, "none" if not total else "of all kinds; the worst are shown below"))
    notes = "".join(f"<p>{escaped(note, most=1000)}</p>" for note in facts.get("notes", ()))
    said = f'<div class="notes" role="note">{notes}</div>' if notes else ""
    return f'<ul class="tiles">{"".join(tiles)}</ul>{said}'


def measures(facts: Facts) -> str:
    """Return the tables of all measures that there are."""
    rows = facts.get("measures", ())
    parts = [
        _counts("Spots, links and divisions, each counted for itself", rows, "of", COUNTED),
        _counts("Divisions by how many frames early or late they may be", _tolerances(facts), "frame tolerance", {}),
        _words("Measures of the Cell Tracking Challenge (1 is perfect)", facts.get("challenge") or {}, CHALLENGE),
        _words("Masks, pixel by pixel", facts.get("segmentation") or {}, SEGMENTATION),
    ]
    return "".join(parts)


def _tolerances(facts: Facts) -> Sequence[Mapping[str, Any]]:
    found = facts.get("divisions", ())
    return [{**row, "frame tolerance": row.get("frame_tolerance")} for row in found if isinstance(row, Mapping)]


def _counts(caption: str, rows: Sequence[Mapping[str, Any]], key: str, words: Mapping[str, str]) -> str:
    if not rows:
        return ""
    columns = {
        "right": "true_positives",
        "false": "false_positives",
        "missed": "false_negatives",
        "unknown": "unknown",
        "precision": "precision",
        "recall": "recall",
        "F1": "f1",
    }
    if not any(row.get("unknown") for row in rows):
        del columns["unknown"]
    body = [[escaped(row.get(key, "")), *(number(row.get(name)) for name in columns.values())] for row in rows]
    made = table(caption, [key if key != "of" else "", *columns], body)
    said = "".join(f"<p>{escaped(words[row[key]])}</p>" for row in rows if row.get(key) in words)
    return made + (f'<div class="jump">{said}</div>' if said else "")


def _words(caption: str, values: Mapping[str, Any], words: Mapping[str, str]) -> str:
    body = [
        [
            escaped(name.replace("_of_", " of ").replace("cells_", "cells ")),
            number(value),
            escaped(_meaning(name, words)),
        ]
        for name, value in values.items()
        if isinstance(value, int | float | None)
    ]
    return table(caption, ["measure", "value", "what it says"], body, classes="words") if body else ""


def _meaning(name: str, words: Mapping[str, str]) -> str:
    """The sentence of a measure; BC(2) is a BC."""
    return words.get(name) or words.get(name.split("(")[0].rstrip("0123456789_"), "")


def _tile(what: str, value: Any, more: str) -> str:
    share = value if isinstance(value, float) and math.isfinite(value) and 0 <= value <= 1 else None
    bar = "" if share is None else f'<span class="bar"><i style="width:{100 * share:.0f}%"></i></span>'
    return (
        f'<li><span class="what">{escaped(what)}</span><span class="value">{number(value)}</span>{bar}'
        f'<span class="more">{escaped(more)}</span></li>'
    )
