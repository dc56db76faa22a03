"""The numbers of a page: the headline, and the tables of all measures, each with a sentence on what it means."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from howdah.metrics.mistakes import Mistakes
from howdah.pipeline.report_page import details, escaped, number, table
from howdah.pipeline.report_words import CHALLENGE, CORRECTIONS, COUNTED, HEADLINES, SEGMENTATION

Facts = Mapping[str, Any]
Row = Mapping[str, Any]

__all__ = ["headline", "measures"]

COLUMNS = {
    "right": "true_positives",
    "false": "false_positives",
    "missed": "false_negatives",
    "unknown": "unknown",
    "precision": "precision",
    "recall": "recall",
    "F1": "f1",
}
TOLERANT = re.compile(r"(.+)\((\d+)\)")  # BC(2): BC, two frames early or late


def headline(facts: Facts, mistakes: Mistakes) -> str:
    """Return the row of the measures that matter, and the notes below it."""
    tiles = []
    for row in facts.get("measures") or ():
        of = str(row.get("of", ""))
        if facts.get("sparse") and of == "spots":  # what is not in a sparse truth is not false
            said = "of the cells that the truth knows; what it does not know is not counted"
            tiles.append(_tile("Spots, recall", row.get("recall"), said))
        else:
            said = f"precision {number(row.get('precision'), 2)}, recall {number(row.get('recall'), 2)}"
            tiles.append(_tile(f"{of.capitalize()}, F1", row.get("f1"), said))
    official, masks = facts.get("challenge") or {}, facts.get("segmentation") or {}
    for name, words in HEADLINES.items():
        value = official.get(name, masks.get(name))
        if value is not None:
            tiles.append(_tile(name, value, words))
    total = len(mistakes)
    tiles.append(_tile("Errors", total, "none was found" if not total else "of all kinds; the worst are shown below"))
    notes = "".join(f"<p>{escaped(note, most=1000)}</p>" for note in facts.get("notes") or ())
    said = f'<div class="notes" role="note">{notes}</div>' if notes else ""
    return f'<ul class="tiles">{"".join(tiles)}</ul>{said}'


def measures(facts: Facts) -> str:
    """Return the tables of all measures that there are."""
    official = facts.get("challenge") or {}
    plain = {name: value for name, value in official.items() if not TOLERANT.fullmatch(name)}
    parts = [
        _counts("Spots, links and divisions, each counted for itself", _counted(facts), ("of",), COUNTED),
        _counts(
            "Divisions, by how many frames early or late they may be, and by whether both daughters must be right, too",
            facts.get("divisions") or (),
            ("frame_tolerance", "by"),
        ),
        _words("Measures of the Cell Tracking Challenge (1 is perfect)", plain, CHALLENGE),
        '<div class="two">' + _by_tolerance(official) + _without(facts) + "</div>",
        _words("Masks, pixel by pixel", facts.get("segmentation") or {}, SEGMENTATION),
        _qualities(facts.get("calibration") or ()),
        details("What must be corrected, by the challenge's count", _corrections(facts)),
    ]
    return "".join(part for part in parts if part != '<div class="two"></div>')


def _counted(facts: Facts) -> list[Row]:
    """The rows of the measures; of a sparse truth nobody knows which spots are false."""
    rows = facts.get("measures") or ()
    unknown = {"precision": None, "f1": None}
    return [{**row, **unknown} if facts.get("sparse") and row.get("of") == "spots" else row for row in rows]


def _counts(caption: str, rows: Sequence[Row], keys: tuple[str, ...], words: Mapping[str, str] | None = None) -> str:
    if not rows:
        return ""
    keys = tuple(key for key in keys if any(key in row for row in rows))
    columns = {name: key for name, key in COLUMNS.items() if name != "unknown" or any(row.get(key) for row in rows)}
    body = [
        [*(escaped(row.get(key, "")) for key in keys), *(number(row.get(key)) for key in columns.values())]
        for row in rows
    ]
    head = ["" if key == "of" else key.replace("_", " ") for key in keys]
    made = table(caption, [*head, *columns], body, classes="texts" if len(keys) > 1 else "")
    said = "".join(f"<p>{escaped((words or {})[row['of']])}</p>" for row in rows if words and row.get("of") in words)
    return made + (f'<div class="jump">{said}</div>' if said else "")


def _words(caption: str, values: Mapping[str, Any], words: Mapping[str, str]) -> str:
    body = [
        [escaped(name.replace("_of_", " of ").replace("cells_", "cells ")), number(value), escaped(words.get(name, ""))]
        for name, value in values.items()
        if isinstance(value, int | float | None)
    ]
    some = any(value is not None for value in values.values())
    return table(caption, ["measure", "value", "what it says"], body, classes="words") if some else ""


def _corrections(facts: Facts) -> str:
    return _words("Operations that turn the result into the truth", facts.get("corrections") or {}, CORRECTIONS)


def _by_tolerance(official: Mapping[str, Any]) -> str:
    """The measures that allow divisions to be early or late: a row a tolerance."""
    found: dict[int, dict[str, Any]] = {}
    for name, value in official.items():
        if known := TOLERANT.fullmatch(name):
            found.setdefault(int(known[2]), {})[known[1]] = value
    names = list(dict.fromkeys(name for row in found.values() for name in row))
    if not any(value is not None for row in found.values() for value in row.values()):
        return ""
    body = [[str(i), *(number(row.get(name)) for name in names)] for i, row in sorted(found.items())]
    made = table("Measures that let a division be some frames early or late", ["frames", *names], body)
    said = "".join(f"<p><b>{escaped(n)}</b>: {escaped(CHALLENGE[n])}</p>" for n in names if n in CHALLENGE)
    return f'<div>{made}<div class="jump">{said}</div></div>'


def _without(facts: Facts) -> str:
    """What the challenge's measures would say of the result without its divisions."""
    without, official = facts.get("without_divisions") or {}, facts.get("challenge") or {}
    body = [
        [escaped(name), number(official[name], 4), number(value, 4)]
        for name, value in without.items()
        if official.get(name) is not None
    ]
    if not body:
        return ""
    made = table("What if the result had no divisions at all?", ["measure", "as it is", "without its divisions"], body)
    said = (
        "<p>If the second number is not lower, the measure does not see divisions: judge them by their own table.</p>"
    )
    return f'<div>{made}<div class="jump">{said}</div></div>'


def _qualities(rows: Any) -> str:
    body = [
        [f"{escaped(row.get('quality', ''))} of {escaped(row.get('of', ''))}"]
        + [number(row.get(key)) for key in ("n", "n_right", "auc", "ece", "brier")]
        for row in rows
        if isinstance(row, Mapping)
    ]
    if not body:
        return ""
    made = table(
        "Qualities: do they tell right from wrong?", ["quality", "judged", "right", "AUC", "ECE", "Brier"], body
    )
    return (
        f'{made}<div class="jump"><p>AUC: how often a right one has a higher quality than a wrong one (0.5 is chance). ECE: how far '
        "quality and the part that is right lie apart, mean; Brier: their mean squared difference. Of both, less is better.</p></div>"
    )


def _tile(what: str, value: Any, more: str) -> str:
    share = value if isinstance(value, float) and math.isfinite(value) and 0 <= value <= 1 else None
    bar = "" if share is None else f'<span class="bar"><i style="width:{100 * share:.0f}%"></i></span>'
    return (
        f'<li><span class="what">{escaped(what)}</span><span class="value">{number(value)}</span>{bar}'
        f'<span class="more">{escaped(more)}</span></li>'
    )
