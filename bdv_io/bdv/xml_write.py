"""Writing the XML of a BigDataViewer dataset."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lxml import etree

from bdv_io._axes import affine_to_xyz, reverse_axes
from bdv_io.bdv.xml import INTERVAL, FileRef, ImageLoader, Partition, SpimData, ViewSetup, read_bdv_xml
from bdv_io.errors import UnsupportedError
from bdv_io.safe_write import replacing

__all__ = ["bdv_xml_bytes", "write_bdv_xml"]


def write_bdv_xml(path: str | os.PathLike[str], spim: SpimData) -> None:
    """Write the XML of a dataset; what stood there before is kept as ``name~1~``.

    The base path is written as the folder of the XML, so relative files of ``spim.loader`` are relative to that folder.

    Raises:
        UnsupportedError: The loader is not ``bdv.hdf5`` with a file.
        WriteError: The disk is full, or the folder is missing or may not be written to.
    """
    content = bdv_xml_bytes(spim)
    with replacing(path, verify=read_bdv_xml) as temporary:
        Path(temporary).write_bytes(content)


def bdv_xml_bytes(spim: SpimData) -> bytes:
    """Return the XML of a dataset as UTF-8."""
    root = etree.Element("SpimData", version="0.2")
    _add(root, "BasePath", ".", type="relative")
    sequence = _add(root, "SequenceDescription")
    _add_loader(sequence, spim.loader)
    setups = _add(sequence, "ViewSetups")
    for setup in spim.setups:
        _add_setup(setups, setup)
    _add_attributes(setups, spim)
    _add_timepoints(sequence, spim.timepoints)
    if spim.missing:
        missing = _add(sequence, "MissingViews")
        for timepoint, view in sorted(spim.missing):
            _add(missing, "MissingView", timepoint=str(timepoint), setup=str(view))
    _add_carried(sequence, spim, "SequenceDescription")
    registrations = _add(root, "ViewRegistrations")
    for (timepoint, view), transforms in sorted(spim.registrations.items(), key=lambda item: item[0]):
        registration = _add(registrations, "ViewRegistration", timepoint=str(timepoint), setup=str(view))
        for transform in transforms:
            item = _add(registration, "ViewTransform", type="affine")
            if transform.name:
                _add(item, "Name", transform.name)
            _add(item, "affine", " ".join(map(repr, affine_to_xyz(transform.affine))))
    if spim.interval is not None:
        _add(root, INTERVAL, interval=repr(float(spim.interval[0])), unit=spim.interval[1])
    _add_carried(root, spim, "SpimData")
    content: bytes = etree.tostring(root, encoding="UTF-8", xml_declaration=True, pretty_print=True)
    return content


def _add(parent: Any, tag: str, text: str | None = None, **attributes: str) -> Any:
    element = etree.SubElement(parent, tag, **attributes)
    element.text = text
    return element


def _add_loader(parent: Any, loader: ImageLoader) -> None:
    if loader.format != "bdv.hdf5" or loader.file is None:
        raise UnsupportedError(
            f"Writing a BigDataViewer XML failed: its image loader is '{loader.format}'; only 'bdv.hdf5' with a file can be written."
        )
    element = _add(parent, "ImageLoader", format=loader.format)
    _add_file(element, "hdf5", loader.file)
    for partition in loader.partitions:
        _add_partition(element, partition)


def _add_partition(parent: Any, partition: Partition) -> None:
    element = _add(parent, "partition")
    _add_file(element, "path", partition.file)
    for tag, numbers in (("timepoints", partition.timepoints), ("setups", partition.setups)):
        _add(element, tag, " ".join(map(str, numbers)))
        if any(here != there for here, there in numbers.items()):
            _add(element, f"{tag}Mapped", " ".join(map(str, numbers.values())))


def _add_file(parent: Any, tag: str, file: FileRef) -> None:
    _add(parent, tag, file.written, type="relative" if file.relative else "absolute")


def _add_setup(parent: Any, setup: ViewSetup) -> None:
    element = _add(parent, "ViewSetup")
    _add(element, "id", str(setup.id))
    if setup.name:
        _add(element, "name", setup.name)
    if setup.size is not None:
        _add(element, "size", " ".join(str(int(n)) for n in reverse_axes(setup.size)))
    if setup.voxel_size is not None:
        voxel = _add(element, "voxelSize")
        _add(voxel, "unit", setup.unit)
        _add(voxel, "size", " ".join(map(repr, reverse_axes(setup.voxel_size).tolist())))
    if setup.attributes:
        attributes = _add(element, "attributes")
        for name, (number, _) in setup.attributes.items():
            _add(attributes, name, str(number))


def _add_carried(parent: Any, spim: SpimData, place: str) -> None:
    for text in spim.carried.get(place, ()):
        parent.append(_parsed(text))


def _parsed(text: bytes) -> Any:
    return etree.fromstring(text, etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False))


def _add_attributes(parent: Any, spim: SpimData) -> None:
    """Describe channels, angles and so on: as the source did (with rotation axes, places of tiles ...), and the names that are new."""
    entities: dict[str, dict[int, str]] = {}
    for setup in spim.setups:
        for name, (number, text) in setup.attributes.items():
            entities.setdefault(name, {})[number] = text
    groups = {}
    for described in spim.carried.get("Attributes", ()):
        group = _parsed(described)
        groups[group.get("name", "")] = group
        parent.append(group)
    for name, items in entities.items():
        group = groups.get(name)
        if group is None:
            group = _add(parent, "Attributes", name=name)
        known = {item.findtext("id") for item in group}
        for number, text in sorted(items.items()):
            if str(number) not in known:
                item = _add(group, name[:1].upper() + name[1:])
                _add(item, "id", str(number))
                _add(item, "name", text or str(number))


def _add_timepoints(parent: Any, timepoints: tuple[int, ...]) -> None:
    first, last = timepoints[0], timepoints[-1]
    if timepoints == tuple(range(first, last + 1)):
        element = _add(parent, "Timepoints", type="range")
        _add(element, "first", str(first))
        _add(element, "last", str(last))
    else:
        element = _add(parent, "Timepoints", type="pattern")
        _add(element, "integerpattern", ", ".join(map(str, timepoints)))
