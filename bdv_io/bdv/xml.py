"""The XML of a BigDataViewer dataset (SpimData): which views there are, where their pixels lie, and where they sit in the world.

Reading is lazy about nothing and opens no pixels: :func:`read_bdv_xml` returns a :class:`SpimData` of plain values in
(z, y, x) order. The XML is untrusted: no entities, no network, no document type, bounded sizes.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote

import numpy as np
from lxml import etree

from bdv_io._axes import affine_from_xyz, reverse_axes
from bdv_io.errors import FormatError, MissingDataError
from bdv_io.image import F64, Shape, Vector
from bdv_io.untrusted import Head

__all__ = [
    "FileRef",
    "ImageLoader",
    "Partition",
    "SpimData",
    "ViewSetup",
    "ViewTransform",
    "ZarrGroup",
    "is_spimdata",
    "read_bdv_xml",
]

MAX_XML_BYTES = 1 << 30  # ten thousand time points of fifty views stay below
MAX_TIMEPOINTS = 10_000_000
INTERVAL = "FrameInterval"
_KEPT = ("BasePath", "SequenceDescription", "ViewRegistrations", "ViewRegistration")
_UNDERSTOOD = ("ImageLoader", "ViewSetups", "Timepoints", "MissingViews")


@dataclass(frozen=True)
class FileRef:
    """A file as the XML names it: the text, and whether it is meant relative to the base path."""

    written: str
    relative: bool = True


@dataclass(frozen=True)
class Partition:
    """One of several HDF5 files that share a dataset.

    Attributes:
        file: Where it is.
        timepoints: Number of a time point in the dataset -> its number inside this file.
        setups: The same for view setups.
    """

    file: FileRef
    timepoints: Mapping[int, int]
    setups: Mapping[int, int]


@dataclass(frozen=True)
class ZarrGroup:
    """Where one view lies in a folder of several OME-Zarr images (``bdv.multimg.zarr``).

    Attributes:
        path: Group of the image below the folder.
        indices: Position along the axes above z, channel first, then time; empty where there is only one.
    """

    path: str
    indices: tuple[int, ...] = ()


@dataclass(frozen=True)
class ImageLoader:
    """What BigDataViewer would read the pixels with.

    Attributes:
        format: Its name.
        file: The file or folder, None where it names none, as for pixels on a server.
        dataset: The group in it.
        partitions: The files of a dataset in several HDF5 files.
        groups: (time point, setup) -> group, for a folder of several OME-Zarr images.
    """

    format: str
    file: FileRef | None
    dataset: str = "/"
    partitions: tuple[Partition, ...] = ()
    groups: Mapping[tuple[int, int], ZarrGroup] = field(default_factory=dict)


@dataclass(frozen=True)
class ViewSetup:
    """One view setup as the XML declares it; ``size`` and ``voxel_size`` are (z, y, x), None where not declared."""

    id: int
    name: str = ""
    size: Shape | None = None
    voxel_size: Vector | None = None
    unit: str = "pixel"
    attributes: Mapping[str, tuple[int, str]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ViewTransform:
    """One link of a registration: a 4x4 matrix acting on (z, y, x, 1), with the name that the XML gives it."""

    affine: F64
    name: str = ""


@dataclass(frozen=True, eq=False)
class SpimData:
    """A BigDataViewer dataset as its XML describes it.

    Attributes:
        path: The XML, or None for a dataset made in memory.
        base_path: Folder that relative files are relative to, absolute.
        loader: Where the pixels are.
        setups: View setups in the order of the file.
        timepoints: Numbers of the time points, ascending.
        missing: Views (time point, setup) declared missing.
        registrations: (time point, setup) -> transforms; the last one acts first on a voxel.
        interval: Time between frames and its unit: an element of our own, since BigDataViewer's XML has no place for it.
        carried: Elements that we do not interpret (bounding boxes, interest points, descriptions of angles and tiles ...),
            byte for byte, by the element that they stand in.
    """

    path: Path | None
    base_path: Path
    loader: ImageLoader
    setups: tuple[ViewSetup, ...]
    timepoints: tuple[int, ...]
    missing: frozenset[tuple[int, int]] = frozenset()
    registrations: Mapping[tuple[int, int], tuple[ViewTransform, ...]] = field(default_factory=dict)
    interval: tuple[float, str] | None = None
    carried: Mapping[str, tuple[bytes, ...]] = field(default_factory=dict)

    def model(self, timepoint: int, setup: int) -> F64:
        """Return the 4x4 matrix from voxels (z, y, x, 1) of level 0 to the world: the product of the transforms in order.

        Raises:
            MissingDataError: The XML registers no such view.
        """
        transforms = self.registrations.get((timepoint, setup))
        if transforms is None:
            raise MissingDataError(
                f"Placing time point {timepoint}, setup {setup} of {self.path} in the world failed: ViewRegistrations has "
                "no entry for this view. Add one, or declare the view missing."
            )
        model = np.eye(4)
        for transform in transforms:
            model = model @ transform.affine
        return model

    def find(self, file: FileRef) -> Path:
        """Return where a file of the dataset is.

        A path written on Windows is understood. A file that is not where the XML says, but lies beside the XML under
        the same name (a dataset that was moved), is taken.

        Raises:
            MissingDataError: It is at none of the places; the message names them all.
        """
        tried = self.places(file)
        for place in tried:
            if os.path.exists(place):  # unlike Path.exists, no error for a name that cannot be
                return place
        kind = "relative to the base path" if file.relative else "absolute"
        raise MissingDataError(
            f"Opening the image of {self.path} failed: the XML names '{file.written}' ({kind}), and there is nothing at "
            f"{' nor at '.join(repr(str(place)) for place in tried)}. Copy the file there, or correct the path in the XML."
        )

    def places(self, file: FileRef) -> list[Path]:
        """Return the absolute paths at which :meth:`find` looks, in order."""
        posix = file.written.replace("\\", "/")
        beside = self.path.parent if self.path is not None else self.base_path
        places = []
        # Newer versions write <n5> and <zarr> as a URI, in which a space is %20.
        for text in dict.fromkeys((file.written, posix, unquote(file.written))):
            # A drive letter means nothing here; joined to a folder it would name a file that nobody meant.
            if os.name == "nt" or not re.match(r"[A-Za-z]:[\\/]", text):
                places.append(Path(os.path.normpath(self.base_path / text)))
        places.append(beside.absolute() / posix.rstrip("/").rsplit("/", 1)[-1])
        return list(dict.fromkeys(places))


class _Damage(ValueError):
    """A sentence about what is wrong in the XML; the caller adds the file."""


def is_spimdata(path: Path) -> bool:
    """Return whether a file is XML whose root is SpimData; reads only its beginning."""
    try:
        return _root_tag(path) == "SpimData"
    except (etree.XMLSyntaxError, OSError):
        return False


def read_bdv_xml(path: str | os.PathLike[str]) -> SpimData:
    """Read the XML of a BigDataViewer dataset.

    Args:
        path: The XML. ``size``, ``voxelSize``, ``BasePath`` and ``Attributes`` may be absent, as in BigDataViewer.

    Raises:
        MissingDataError: There is no such file.
        FormatError: It is not XML, not SpimData, or a required part is missing or damaged.
    """
    source = Path(path)
    try:
        size = source.stat().st_size
        if source.is_dir() or size > MAX_XML_BYTES:
            what = (
                "it is a folder" if source.is_dir() else f"it has {size} bytes, more than {MAX_XML_BYTES} are not taken"
            )
            raise FormatError(f"Reading BigDataViewer XML {source} failed: {what}. Name the dataset's .xml file.")
        return _read(source)
    except etree.XMLSyntaxError as error:
        raise FormatError(
            f"Reading BigDataViewer XML {source} failed: it is not well-formed XML ({str(error.msg)[:200]}). "
            "The file is damaged or of another format; restore it from a copy."
        ) from error
    except _Damage as error:
        raise FormatError(f"Reading BigDataViewer XML {source} failed: {error}") from error
    except FileNotFoundError as error:
        raise MissingDataError(f"Reading BigDataViewer XML {source} failed: there is no such file.") from error
    except OSError as error:
        raise MissingDataError(f"Reading BigDataViewer XML {source} failed: the system said: {error}.") from error


def _iterparse(file: BinaryIO | Head, **options: Any) -> Any:
    return etree.iterparse(
        file, resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True, **options
    )


def _root_tag(path: Path) -> str:
    with path.open("rb") as file:  # by name, lxml would leave it open when the parsing ends early
        for _, element in _iterparse(Head(file), events=("start",)):
            return str(element.tag)
    return ""


def _read(path: Path) -> SpimData:
    root = _root_tag(path)
    if root != "SpimData":
        raise _Damage(
            f"its root is <{root}>, expected <SpimData>. It is XML of another program; choose the dataset's .xml."
        )
    found: dict[str, Any] = {}
    registrations: dict[tuple[int, int], tuple[ViewTransform, ...]] = {}
    known: dict[str, F64] = {}
    with path.open("rb") as file:
        context = _iterparse(file, events=("end",), tag=(*_KEPT, INTERVAL))
        for _, element in context:
            if element.tag == "ViewRegistration":
                view = (_int(element, "timepoint"), _int(element, "setup"))
                registrations[view] = tuple(_transforms(element, known))
                element.clear()  # the tree of a long movie would take many times the memory of its numbers
                while element.getprevious() is not None:
                    del element.getparent()[0]
            elif element.getparent().tag == "SpimData":
                found[element.tag] = element
    if context.root.getroottree().docinfo.internalDTD is not None:
        raise _Damage("it declares a document type, which BigDataViewer never writes. Remove the DOCTYPE.")
    for part in ("SequenceDescription", "ViewRegistrations"):
        if part not in found:
            raise _Damage(f"it has no <{part}>, which is required. The file is incomplete; restore it from a copy.")
    sequence = found["SequenceDescription"]
    return SpimData(
        path=path,
        base_path=_base_path(path, found.get("BasePath")),
        loader=_loader(sequence.find("ImageLoader")),
        setups=_setups(sequence.find("ViewSetups")),
        timepoints=_timepoints(sequence.find("Timepoints")),
        missing=frozenset(
            (_int(m, "timepoint"), _int(m, "setup")) for m in sequence.iterfind("MissingViews/MissingView")
        ),
        registrations=registrations,
        interval=_interval(found.get(INTERVAL)),
        carried=_carried(context.root, sequence),
    )


def _carried(root: Any, sequence: Any) -> dict[str, tuple[bytes, ...]]:
    """Serialise what we do not interpret, by the element that it stands in."""
    places = {
        "SpimData": [element for element in root if element.tag not in (*_KEPT, INTERVAL)],
        "SequenceDescription": [element for element in sequence if element.tag not in _UNDERSTOOD],
        "Attributes": sequence.findall("ViewSetups/Attributes"),
    }
    return {
        place: tuple(etree.tostring(element, encoding="utf-8", with_tail=False) for element in elements)
        for place, elements in places.items()
        if elements
    }


def _interval(element: Any) -> tuple[float, str] | None:
    if element is None:
        return None
    (value,) = _floats(element, "interval", 1)
    if not value > 0:
        raise _Damage(f"line {element.sourceline}: the frame interval is {value}, expected a positive number.")
    return (value, element.get("unit") or "s")


def _base_path(path: Path, element: Any) -> Path:
    text = "." if element is None else (element.text or ".").strip()
    return Path(os.path.normpath(path.absolute().parent / text.replace("\\", "/")))


def _transforms(element: Any, known: dict[str, F64]) -> Iterator[ViewTransform]:
    for item in element.iterfind("ViewTransform"):
        text = item.findtext("affine")
        if text is None:
            raise _Damage(
                f"line {item.sourceline}: a ViewTransform of type '{item.get('type')}' has no <affine>. Only affine ones are read."
            )
        affine = known.get(text)
        if affine is None:
            affine = affine_from_xyz(_floats(item, "affine", 12))
            affine.flags.writeable = False
            known[text] = affine  # most views of a movie share one matrix
        yield ViewTransform(affine, (item.findtext("Name") or "").strip())


def _loader(element: Any) -> ImageLoader:
    if element is None:
        raise _Damage("its SequenceDescription has no <ImageLoader>, so nothing says where the pixels are.")
    file = None
    for tag in ("hdf5", "n5", "zarr", "Url", "path"):
        item = element.find(tag)
        if item is not None:
            file = _file(item)
            break
    partitions = tuple(_partition(item) for item in element.iterfind("partition"))
    dataset = (element.findtext("Dataset") or "/").strip()
    if element.find("s3bucket") is not None:
        file = None  # what <zarr> names is then not on this disk
    groups = dict(_group(item) for item in element.iterfind("zgroups/zgroup"))
    return ImageLoader(element.get("format", ""), file, dataset, partitions, groups)


def _group(element: Any) -> tuple[tuple[int, int], ZarrGroup]:
    """Read where a view is; version 1 says ``timepoint`` and ``<path>``, later ones ``tp`` and ``path``."""
    timepoint = _int(element, "tp" if element.get("tp") is not None else "timepoint")
    indices = (element.get("indicies") or "").strip(" []")
    if not re.fullmatch(r"(\d{1,9}([ ,]+\d{1,9})*)?", indices, re.ASCII):
        raise _Damage(f"line {element.sourceline}: indicies of <zgroup> is '{indices[:40]}', expected whole numbers.")
    path = _text(element, "path").strip()
    if "\0" in path or ".." in path.replace("\\", "/").split("/"):
        raise _Damage(
            f"line {element.sourceline}: path of <zgroup> is '{path[:60]}', expected a group below the folder."
        )
    return (timepoint, _int(element, "setup")), ZarrGroup(path, tuple(map(int, indices.replace(",", " ").split())))


def _file(element: Any) -> FileRef:
    text = (element.text or "").strip()
    is_uri = element.tag == "Url" or text.startswith("file:/")
    if is_uri:
        text = unquote(re.sub(r"^file:(//)?(?=/)", "", text))
    if not text or "\0" in text:
        raise _Damage(f"line {element.sourceline}: <{element.tag}> names no file.")
    return FileRef(text, element.get("type", "relative") != "absolute")


def _partition(element: Any) -> Partition:
    item = element.find("path")
    if item is None:
        raise _Damage(f"line {element.sourceline}: a <partition> has no <path>.")
    maps = []
    for tag in ("timepoints", "setups"):
        here = _ints(element, tag)
        there = here if element.find(f"{tag}Mapped") is None else _ints(element, f"{tag}Mapped")
        if len(here) != len(there):
            raise _Damage(f"line {element.sourceline}: <{tag}> and <{tag}Mapped> of a partition differ in length.")
        maps.append(dict(zip(here, there, strict=True)))
    return Partition(_file(item), *maps)


def _setups(element: Any) -> tuple[ViewSetup, ...]:
    if element is None or element.find("ViewSetup") is None:
        raise _Damage("its SequenceDescription has no <ViewSetup>, expected at least one.")
    names = {
        (group.get("name", ""), _int(item, "id")): (item.findtext("name") or "").strip()
        for group in element.iterfind("Attributes")
        for item in group
        if item.find("id") is not None
    }
    setups = tuple(_setup(item, names) for item in element.iterfind("ViewSetup"))
    if len({setup.id for setup in setups}) != len(setups):
        raise _Damage("two view setups have the same id.")
    return setups


def _setup(element: Any, names: Mapping[tuple[str, int], str]) -> ViewSetup:
    size = None
    if element.find("size") is not None:
        z, y, x = reverse_axes(_floats(element, "size", 3)).tolist()
        size = (int(z), int(y), int(x))
    voxel, voxel_size, unit = element.find("voxelSize"), None, "pixel"
    if voxel is not None:
        z, y, x = reverse_axes(_floats(voxel, "size", 3)).tolist()
        voxel_size = (z, y, x)
        unit = (voxel.findtext("unit") or "pixel").strip()
    attributes = {}
    for item in element.iterfind("attributes/*"):
        number = _int(item.getparent(), item.tag)
        attributes[item.tag] = (number, names.get((item.tag, number), ""))
    return ViewSetup(_int(element, "id"), (element.findtext("name") or "").strip(), size, voxel_size, unit, attributes)


def _timepoints(element: Any) -> tuple[int, ...]:
    if element is None:
        raise _Damage("its SequenceDescription has no <Timepoints>.")
    kind = element.get("type", "")
    if kind == "range":
        ranges = [range(_int(element, "first"), _int(element, "last") + 1)]
    elif kind == "list":
        ranges = [
            range(number, number + 1)
            for number in (_int(item, "id") for item in element if item.find("id") is not None)
        ]
    elif kind == "pattern":
        ranges = list(_pattern(element.findtext("integerpattern") or ""))
    else:
        raise _Damage(f"line {element.sourceline}: Timepoints have the type '{kind}', expected range, list or pattern.")
    total = sum(map(len, ranges))
    if not 0 < total <= MAX_TIMEPOINTS:
        raise _Damage(
            f"line {element.sourceline}: Timepoints declare {total} time points, expected 1 to {MAX_TIMEPOINTS}."
        )
    return tuple(sorted({number for numbers in ranges for number in numbers}))


def _pattern(text: str) -> Iterator[range]:
    """Yield the ranges of a pattern such as ``0-10:2, 15``."""
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*(?::\s*(\d{1,9}))?)?\s*", part)
        if match is None or (match[3] is not None and int(match[3]) == 0):
            raise _Damage(
                f"the time point pattern '{text[:80]}' was not understood at '{part[:40]}'; expected e.g. '0-10:2, 15'."
            )
        first = int(match[1])
        yield range(first, int(match[2] or first) + 1, int(match[3] or 1))


def _text(element: Any, name: str) -> str:
    text = element.get(name)
    text = element.findtext(name) if text is None else text
    if text is None:
        raise _Damage(f"line {element.sourceline}: <{element.tag}> has no {name}.")
    return str(text)


def _int(element: Any, name: str) -> int:
    text = _text(element, name).strip()
    if not re.fullmatch(r"[+-]?\d{1,10}", text, re.ASCII):
        raise _Damage(
            f"line {element.sourceline}: {name} of <{element.tag}> is '{text[:40]}', expected a whole number."
        )
    return int(text)


def _ints(element: Any, name: str) -> list[int]:
    words = _text(element, name).replace(",", " ").split()
    if not all(re.fullmatch(r"[+-]?\d{1,10}", word, re.ASCII) for word in words):
        raise _Damage(f"line {element.sourceline}: {name} of <{element.tag}> holds something else than whole numbers.")
    return [int(word) for word in words]


def _floats(element: Any, name: str, count: int) -> list[float]:
    text = _text(element, name)
    try:
        numbers = [float(word) for word in text.split()]
    except ValueError:
        numbers = []
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise _Damage(
            f"line {element.sourceline}: {name} of <{element.tag}> is '{text[:60]}', expected {count} numbers."
        )
    return numbers
