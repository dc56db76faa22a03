"""One pass over a TrackMate file: the quick way where it is regular, the XML parser where it is not."""

from __future__ import annotations

import io
import mmap
import os
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from lxml import etree

from bdv_io.errors import FormatError, MissingDataError
from bdv_io.trackmate import scan
from bdv_io.trackmate.columns import INNER, Columns, batches
from bdv_io.trackmate.declarations import Declaration
from bdv_io.untrusted import Head

__all__ = ["GROUPS", "HARDENED", "Document", "count_elements", "is_trackmate", "read_document"]

HARDENED: dict[str, Any] = {"resolve_entities": False, "no_network": True, "load_dtd": False}
GROUPS = {"SpotFeatures": "spot", "EdgeFeatures": "link", "TrackFeatures": "track"}
MODEL_PARTS = frozenset({"FeatureDeclarations", "AllSpots", "AllTracks", "FilteredTracks"})
BLOCK = 50_000


class _Nameless:
    """A file without its name: lxml stumbles over names that the locale cannot spell."""

    def __init__(self, file: BinaryIO) -> None:
        self.read = file.read


def is_trackmate(path: str | os.PathLike[str]) -> bool:
    """Whether a file is TrackMate or MaMuT XML: its root element is ``TrackMate``. False where it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            _, root = next(iter(etree.iterparse(Head(file), events=("start",), **HARDENED)))
    except (etree.XMLSyntaxError, OSError, StopIteration):
        return False
    return bool(root.tag == "TrackMate")


@dataclass
class Document:
    """What a file says, as it says it.

    Attributes:
        file: Where it is.
        root: Attributes of the root element. model: Attributes of ``Model``, None if there is none.
        spots: Attributes of spots; what stands inside a spot (an outline) is the column ``INNER``.
        edges: Attributes of edges.
        declared: Declared features of spots, links and tracks, by key.
        tracks: Attributes of every ``Track``, in order.
        edge_tracks: Place in ``tracks`` of each edge, -1 outside of any.
        shown: Numbers of the tracks that are shown; None where the file does not say.
        image: Attributes of ``ImageData``.
        kept: Whole children of the root, as bytes, by tag; ``Model/...`` for those of the model.
    """

    file: Path
    root: dict[str, str] = field(default_factory=dict)
    model: dict[str, str] | None = None
    declared: dict[str, dict[str, Declaration]] = field(default_factory=lambda: {t: {} for t in GROUPS.values()})
    tracks: list[dict[str, str]] = field(default_factory=list)
    edge_tracks: array[int] = field(default_factory=lambda: array("q"))
    shown: set[str] | None = None
    image: dict[str, str] = field(default_factory=dict)
    kept: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.spots, self.edges = Columns("spot", self.file), Columns("edge", self.file)


def read_document(file: Path) -> Document:
    """Read a file.

    Raises:
        MissingDataError: There is no such file.
        FormatError: The file is not well-formed, has a DTD, or its root is not ``TrackMate``.
    """
    if not file.is_file():
        raise MissingDataError(f"Reading the TrackMate file {file} failed: there is no such file.")
    try:
        return _quickly(file)
    except scan.Irregular:
        document = Document(file)
        with file.open("rb") as handle:
            _Parser(document).run(_Nameless(handle))
        return document


def count_elements(file: Path) -> tuple[int, int]:
    """Return the numbers of spots and edges of a file that is whole, without keeping any."""
    try:
        with file.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
            places = scan.regions(data)
            _rest(Document(file), places)
            n_spots = sum(batch.n for block in scan.spot_blocks(data, places.spots) for batch in block)
            n_edges = sum(batch.n for block, _ in scan.edge_blocks(data, places.edges) for batch in block)
            return n_spots, n_edges
    except (scan.Irregular, ValueError):
        found = {"Spot": 0, "Edge": 0}
        with file.open("rb") as handle:
            for _, element in etree.iterparse(
                _Nameless(handle), tag=("Spot", "Edge", "SpotsInFrame", "Track"), **HARDENED
            ):
                if element.tag in found:
                    found[element.tag] += 1
                element.clear()
        return found["Spot"], found["Edge"]


def _quickly(file: Path) -> Document:
    document = Document(file)
    with file.open("rb") as handle:
        try:
            data = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # an empty file
            raise scan.Irregular from None
        with data:
            places = scan.regions(data)
            _rest(document, places)
            for block in scan.spot_blocks(data, places.spots):
                document.spots.add(block)
            for block, starts in scan.edge_blocks(data, places.edges):
                first = len(document.tracks) - 1
                document.tracks += [start.attributes for start in starts]
                n = sum(batch.n for batch in block)
                track = np.searchsorted([start.before for start in starts], np.arange(n), side="right")
                document.edge_tracks.extend((track + first).tolist())
                document.edges.add(block)
    return document


def _rest(document: Document, places: scan.Regions) -> None:
    """Read what is not in the long lists; refuse the quick way where these are not the model's own (but a comment)."""
    parser = _Parser(document)
    parser.run(io.BytesIO(places.rest))
    if parser.lists != ["AllSpots", "AllTracks"]:
        raise scan.Irregular


class _Parser:
    """Takes a document apart with the XML parser."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.lists: list[str] = []
        self.spots: list[tuple[tuple[str, ...], list[str]]] = []
        self.edges: list[tuple[tuple[str, ...], list[str]]] = []
        self.depth = 0
        self.in_track = False

    def run(self, source: Any) -> None:
        try:
            for number, (event, element) in enumerate(etree.iterparse(source, events=("start", "end"), **HARDENED)):
                if not number:
                    self._check_root(element)
                if event == "start":
                    self.depth += 1
                    self._start(element)
                else:
                    self.depth -= 1
                    self._end(element)
        except etree.XMLSyntaxError as error:
            raise FormatError(
                f"Reading the TrackMate file {self.document.file} failed: it is not well-formed XML, perhaps cut off ({str(error)[:200]})."
            ) from error
        self._flush()

    def _check_root(self, root: Any) -> None:
        file = self.document.file
        if root.getroottree().docinfo.internalDTD is not None:
            raise FormatError(f"Reading {file} was refused: it declares a DTD, which TrackMate never writes.")
        if root.tag != "TrackMate":
            raise FormatError(
                f"Reading {file} failed: its root element is '{root.tag}'; a TrackMate or MaMuT file has 'TrackMate'."
            )
        self.document.root = dict(root.attrib)

    def _start(self, element: Any) -> None:
        tag = element.tag
        if tag == "Track":
            self.document.tracks.append(dict(element.attrib))
            self.in_track = True
        elif tag == "Model" and self.depth == 2:
            self.document.model = dict(element.attrib)

    def _end(self, element: Any) -> None:
        tag = element.tag
        if tag == "Spot":
            inner = (element.text or "") + "".join(etree.tostring(child, encoding="unicode") for child in element)
            items = [*element.items(), *([(INNER, inner)] if inner.strip() or len(element) else [])]
            self.spots.append((tuple(key for key, _ in items), [text for _, text in items]))
            element.clear()
        elif tag == "Edge":
            self.edges.append((tuple(element.keys()), element.values()))
            self.document.edge_tracks.append(len(self.document.tracks) - 1 if self.in_track else -1)
            element.clear()
        elif tag in ("SpotsInFrame", "Track"):
            self.in_track = False
            element.clear()
        elif self.depth == 1 and tag != "Model":
            self._keep(element, str(tag))
        elif self.depth == 2 and element.getparent().tag == "Model":
            self._part(element, str(tag))
        if len(self.spots) + len(self.edges) > BLOCK:
            self._flush()

    def _part(self, element: Any, tag: str) -> None:
        document = self.document
        if tag == "FeatureDeclarations":
            self._declarations(element)
        elif tag == "FilteredTracks":
            document.shown = {child.get("TRACK_ID", "") for child in element}
        elif tag in ("AllSpots", "AllTracks"):
            self.lists.append(tag)
        else:
            self._keep(element, f"Model/{tag}")

    def _keep(self, element: Any, name: str) -> None:
        kept = self.document.kept
        kept[name] = kept.get(name, b"") + etree.tostring(element, encoding="utf-8", with_tail=False)
        image = element.find("ImageData") if name == "Settings" else None
        self.document.image = dict(image.attrib) if image is not None else self.document.image
        element.clear()

    def _declarations(self, element: Any) -> None:
        for group in element:
            target = GROUPS.get(group.tag)
            for item in group if target else ():
                key = item.get("feature", "")
                name = item.get("name", key)
                self.document.declared[target or ""][key] = Declaration(
                    key, name, item.get("shortname", name), item.get("dimension", "NONE"), item.get("isint") == "true"
                )

    def _flush(self) -> None:
        self.document.spots.add(batches(self.spots))
        self.document.edges.add(batches(self.edges))
        self.spots, self.edges = [], []
