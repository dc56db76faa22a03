"""The parts of a page: texts made safe, tables, sections. Names of files, labels and notes are nobody's markup."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

__all__ = ["details", "escaped", "number", "page", "section", "table"]

LONGEST = 300
NOT_SHOWN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufffe\uffff]")
STYLE = Path(__file__).with_name("templates") / "report.css"


def escaped(value: object, *, most: int = LONGEST) -> str:
    """Return a text as it may stand anywhere in a page: markup, quotes, control characters and turns of direction are taken off."""
    text = NOT_SHOWN.sub("�", str(value))
    return html.escape(text if len(text) <= most else text[: most - 1] + "…", quote=True)


def number(value: object, digits: int = 3) -> str:
    """Return a number as people read it; a dash where there is none."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f")
    if isinstance(value, float):
        shown = digits if abs(value) < 100 else min(digits, 1)
        return f"{value:.{shown}f}" if abs(value) < 1000 else f"{value:,.0f}".replace(",", "\u202f")
    return escaped(value)


def table(
    caption: str,
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    classes: str = "",
) -> str:
    """Return a table; cells are markup already, the first of a row names it.

    Args:
        caption: What the table holds, one sentence, text.
        head: Names of the columns, text.
        rows: Cells, as markup.
        classes: How it looks.
    """
    kept = (
        f'<div class="scroll" role="region" aria-label="{escaped(caption)}" tabindex="0">'  # a keyboard scrolls it, too
    )
    lines = [f'{kept}<table class="{classes}"><caption>{escaped(caption)}</caption><thead><tr>']
    lines += [f'<th scope="col">{escaped(name)}</th>' for name in head]
    lines.append("</tr></thead><tbody>")
    for first, *others in rows:
        lines.append(f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in others) + "</tr>")
    lines.append("</tbody></table></div>")
    return "".join(lines)


def section(key: str, title: str, lead: str, content: str) -> str:
    """Return a section with its heading; nothing where it has no content. ``title`` and ``lead`` are text."""
    if not content:
        return ""
    said = f'<p class="lead">{escaped(lead, most=2000)}</p>' if lead else ""
    return f'<section id="{key}" aria-labelledby="{key}-title"><h2 id="{key}-title">{escaped(title)}</h2>{said}{content}</section>'


def details(summary: str, content: str) -> str:
    """Return what is folded away until somebody wants it; printed, it is open. ``summary`` is text."""
    return f"<details><summary>{escaped(summary)}</summary>{content}</details>" if content else ""


def page(title: str, content: str) -> str:
    """Return the whole page. Its policy forbids whatever it does not carry itself."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="generator" content="Howdah">'
        f"<title>{escaped(title)}</title><style>{STYLE.read_text(encoding='utf-8')}</style></head>"
        f"<body>{content}</body></html>\n"
    )
