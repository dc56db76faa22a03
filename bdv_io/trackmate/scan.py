"""A quick way through the long parts of a TrackMate file: lists of spots and of edges, in the shape that programs write.

It accepts only what it knows to the letter: ``<Spot a="1" ... />``, or with numbers inside, in ``SpotsInFrame``; ``<Edge ... />`` in
``Track``. Anything else raises :class:`Irregular`, and the file is read again by the XML parser, which decides what is
right. So a quick reading never means a different one. What is not spots and edges goes through the parser always.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from bdv_io.trackmate.columns import INNER, Batch

__all__ = ["Irregular", "Regions", "TrackStart", "edge_blocks", "regions", "spot_blocks"]

BLOCK = 8 << 20
MOST_REST = 256 << 20  # bytes besides spots and edges, of which there is a copy
NAME = r"[A-Za-z_][\w.\-]*"
KEY = re.compile(rf"\s+({NAME})\s*=\s*", re.ASCII)
ATTRIBUTE = re.compile(rf'\s+({NAME})\s*=\s*"([^"<]*)"', re.ASCII)
ATTRIBUTES = rf'((?:\s+{NAME}\s*=\s*"[^"<]*")*)\s*'
FRAME = re.compile(rf"<SpotsInFrame{ATTRIBUTES}(/?)>|</SpotsInFrame\s*>", re.ASCII)
TRACK = re.compile(rf"<Track{ATTRIBUTES}(/?)>|</Track\s*>", re.ASCII)
SPACE = " \t\r\n"
SPACES = re.compile(r"[\t\n\r]")
NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
REFERENCE = re.compile(r"&(?:#(\d{1,7})|#x([0-9a-fA-F]{1,6})|(lt|gt|amp|quot|apos));|&")
ENCODING = re.compile(rb"""<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9_.\-]+)["']""")
NAMED = {"lt": "<", "gt": ">", "amp": "&", "quot": '"', "apos": "'"}


class Irregular(Exception):
    """The file is not in the shape that is read quickly."""


class Regions(NamedTuple):
    """Where spots and edges stand in the bytes of a file, and what is left of it without them."""

    spots: tuple[int, int]
    edges: tuple[int, int]
    rest: bytes


class TrackStart(NamedTuple):
    """A ``Track`` element: its attributes, and the number of edges of the block that stand before it."""

    attributes: dict[str, str]
    before: int


def regions(data: mmap.mmap) -> Regions:
    """Return where spots and edges stand.

    Raises:
        Irregular: They are not where they usually are.
    """
    declared = ENCODING.match(data[:200].removeprefix(b"\xef\xbb\xbf").lstrip())
    if declared and declared[1].lower() not in (b"utf-8", b"us-ascii", b"ascii"):
        raise Irregular
    spots = _inside(data, 0, b"AllSpots")
    edges = _inside(data, spots[1], b"AllTracks")
    if len(data) - (edges[1] - edges[0]) - (spots[1] - spots[0]) > MOST_REST:
        raise Irregular
    rest = data[: spots[0]] + data[spots[1] : edges[0]] + data[edges[1] :]
    return Regions(spots, edges, rest)


def _inside(data: mmap.mmap, start: int, tag: bytes) -> tuple[int, int]:
    opening = data.find(b"<" + tag, start)
    first = data.find(b">", opening) + 1 if opening >= 0 else 0
    if not first:
        raise Irregular
    if data[first - 2 : first - 1] == b"/":
        return first, first
    last = data.find(b"</" + tag, first)
    if last < 0:
        raise Irregular
    return first, last


def spot_blocks(data: mmap.mmap, place: tuple[int, int]) -> Iterator[list[Batch]]:
    """Yield the spots of a file, block by block."""
    inside = False

    def frame(found: re.Match[str]) -> str:
        nonlocal inside
        closing = found[1] is None
        if closing != inside:
            raise Irregular
        inside = not closing and not found[2]
        return ""

    for text in _blocks(data, place, b"<Spot "):
        yield _elements(FRAME.sub(frame, text), "Spot")
    if inside:
        raise Irregular


def edge_blocks(data: mmap.mmap, place: tuple[int, int]) -> Iterator[tuple[list[Batch], list[TrackStart]]]:
    """Yield the edges of a file, block by block, with the tracks that begin in each block."""
    inside = False
    for text in _blocks(data, place, b"<Edge "):
        starts: list[TrackStart] = []
        before = last = 0

        def track(found: re.Match[str], text: str = text, starts: list[TrackStart] = starts) -> str:
            nonlocal inside, before, last
            closing = found[1] is None
            if closing != inside:
                raise Irregular
            inside = not closing and not found[2]
            before += text.count("<Edge ", last, found.start())
            last = found.end()
            if not closing:
                starts.append(TrackStart({key: _unescaped(v) for key, v in ATTRIBUTE.findall(found[1])}, before))
            return ""

        yield _elements(TRACK.sub(track, text), "Edge"), starts
    if inside:
        raise Irregular


def _blocks(data: mmap.mmap, place: tuple[int, int], mark: bytes) -> Iterator[str]:
    start, end = place
    while start < end:
        cut = data.find(mark, min(start + BLOCK, end), end)
        cut = end if cut < 0 else cut
        try:
            yield data[start:cut].decode()
        except UnicodeDecodeError:
            raise Irregular from None
        start = cut


def _elements(text: str, tag: str) -> list[Batch]:
    n = text.count(f"<{tag} ")
    if not n:
        if text.strip(SPACE):
            raise Irregular
        return []
    found, inner = _alike(text, tag, n) or _unlike(text, tag, n)
    if text.count("<") != n + inner:  # one a self-closed element, two where something stands inside; none in a value
        raise Irregular
    references = text.count("&")
    if references and references != sum(value.count("&") for batch in found for value in _names_in(batch)):
        raise Irregular
    return [_clean(batch) for batch in found]


def _alike(text: str, tag: str, n: int) -> tuple[list[Batch], int] | None:
    """All elements have the same attributes: cut the text at the quotes, and take every so-manieth piece."""
    pieces = text.split('"')
    lead, _, first = pieces[0].partition(f"<{tag}")
    keys = [KEY.fullmatch(first)]
    if lead.strip(SPACE) or keys[0] is None:
        raise Irregular
    while 2 * len(keys) < len(pieces) and (key := KEY.fullmatch(pieces[2 * len(keys)])) is not None:
        keys.append(key)
    step = 2 * len(keys)
    if len(pieces) != n * step + 1:
        return None
    for i in range(2, step, 2):
        column = pieces[i::step]
        if column.count(column[0]) != n:
            return None
    texts = _ends(pieces[step::step], f"<{tag}{first}")
    values = [pieces[i::step] for i in range(1, step, 2)]
    return _with_inner([Batch(None, _names(keys), values, n)], [texts])


def _unlike(text: str, tag: str, n: int) -> tuple[list[Batch], int]:
    """Elements differ in their attributes: sort them by what they have."""
    groups: dict[tuple[str, ...], tuple[list[int], list[list[str]]]] = {}
    lead, *elements = text.split(f"<{tag} ")
    if lead.strip(SPACE) or len(elements) != n:
        raise Irregular
    for row, element in enumerate(elements):
        pieces = element.split('"')
        if not len(pieces) % 2:
            raise Irregular
        rows, found = groups.setdefault(tuple(pieces[:-1:2]), ([], []))
        rows.append(row)
        found.append(pieces)
    made, inner = [], []
    for heads, (rows, found) in groups.items():
        keys = [KEY.fullmatch(head if i else f" {head}") for i, head in enumerate(heads)]
        columns = list(zip(*found, strict=True))
        made.append(Batch(np.array(rows, dtype=np.int64), _names(keys), columns[1::2], len(rows)))
        inner.append(_ends(list(columns[-1]), None))
    return _with_inner(made, inner)


def _names(keys: list[re.Match[str] | None]) -> tuple[str, ...]:
    names = tuple(key[1] for key in keys if key is not None)
    if len(set(names)) != len(keys):
        raise Irregular
    return names


def _ends(pieces: list[str], following: str | None) -> list[str | None]:
    """What stands inside each element, from the pieces behind its last quote; None in self-closed ones.

    ``following`` is how the next element begins, which is the end of every piece but the last.
    """
    inner: dict[str, str | None] = {}
    last = len(pieces) - 1
    for piece in {*pieces[:-1]} if following else ():
        if not piece.endswith(following or ""):
            raise Irregular
        inner[piece] = _inner(piece[: len(piece) - len(following or "")])
    if following:
        return [*(inner[piece] for piece in pieces[:last]), _inner(pieces[last])]
    inner = {piece: _inner(piece) for piece in {*pieces}}
    return [inner[piece] for piece in pieces]


def _inner(end: str) -> str | None:
    bare = end.strip(SPACE)
    if bare == "/>":
        return None
    inner = bare.removeprefix(">").removesuffix("</Spot>")
    if len(inner) != len(bare) - len("></Spot>") or ">" in inner or "&" in inner:  # "<" is counted elsewhere
        raise Irregular
    return inner


def _with_inner(made: list[Batch], texts: list[list[str | None]]) -> tuple[list[Batch], int]:
    inner, out = 0, []
    for batch, column in zip(made, texts, strict=True):
        filled = len(column) - column.count(None)
        inner += filled
        kept = [text if text and not text.isspace() else None for text in column] if filled else []
        out.append(batch._replace(keys=(*batch.keys, INNER), values=[*batch.values, kept]) if any(kept) else batch)
    return out, inner


def _names_in(batch: Batch) -> list[str]:
    return list(batch.values[batch.keys.index("name")]) if "name" in batch.keys else []  # type: ignore[arg-type]


def _clean(batch: Batch) -> Batch:
    """Replace character references in names, and refuse characters that XML does not have."""
    if "name" not in batch.keys:
        return batch
    values, place = list(batch.values), batch.keys.index("name")
    column = _names_in(batch)
    whole = "\x7f".join(column)
    if NOT_XML.search(whole):
        raise Irregular
    if "&" in whole or SPACES.search(whole):
        values[place] = [_unescaped(text) for text in column]
    return batch._replace(values=values)


def _unescaped(text: str) -> str:
    plain = SPACES.sub(" ", text)
    return REFERENCE.sub(_character, plain) if "&" in plain else plain


def _character(found: re.Match[str]) -> str:
    if found[3]:
        return NAMED[found[3]]
    if not (found[1] or found[2]):
        raise Irregular
    code = int(found[1]) if found[1] else int(found[2], 16)
    if not (code in (9, 10, 13) or 32 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or 0x10000 <= code <= 0x10FFFF):
        raise Irregular
    return chr(code)
