"""``project.xml``: which image a project belongs to, and its units.

A relative path starts from the project file *taken as if it were a folder*: an image beside the project is
``../image.xml``. Backslashes are slashes.
"""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from lxml import etree

from bdv_io.errors import FormatError
from bdv_io.untrusted import MOST_TEXT

__all__ = ["ProjectFile", "read_project_file"]

PARSER = {"resolve_entities": False, "no_network": True, "load_dtd": False, "huge_tree": False}


@dataclass(frozen=True)
class ProjectFile:
    """The content of ``project.xml``.

    Attributes:
        image: Path of the image as it is stored; empty if none is named.
        relative: Whether that path is relative to the project.
        space_unit, time_unit: Units; empty if they are stored empty, None if they are not stored.
        version: Version that the file states.
        source: The XML as it was read; what is not interpreted is written back as it was.
    """

    image: str = ""
    relative: bool = True
    space_unit: str | None = "pixel"
    time_unit: str | None = "frame"
    version: str = "0.3"
    source: bytes = b""

    def image_path(self, project: Path) -> Path | None:
        """Return where the image should be, or None if none is named."""
        if not self.image:
            return None
        text = self.image.replace("\\", "/")
        if self.relative:
            return Path(posixpath.normpath(posixpath.join(project.absolute().as_posix(), text)))
        return Path(posixpath.normpath(text))

    def with_image(self, project: Path, image: Path) -> ProjectFile:
        """Return the same, naming ``image`` relative to ``project`` (absolute if they share no root)."""
        try:
            relative = os.path.relpath(image.absolute(), project.absolute())
        except ValueError:  # another drive
            return replace(self, image=str(image.absolute()), relative=False)
        return replace(self, image=PurePosixPath(Path(relative)).as_posix(), relative=True)

    def to_bytes(self) -> bytes:
        """Return the XML: the one that was read, with image and units as they are now."""
        root = etree.fromstring(self.source, etree.XMLParser(**PARSER)) if self.source else None
        if root is None:
            root = etree.Element("MamutProject", version=self.version)
        if self.source and read_project_file(self.source, "project.xml") == self:
            return self.source
        _set(root, "SpimDataFile", self.image)
        root.find("SpimDataFile").set("type", "relative" if self.relative else "absolute")
        _set(root, "SpaceUnits", self.space_unit)
        _set(root, "TimeUnits", self.time_unit)
        etree.indent(root, "  ")
        tree = etree.ElementTree(root)
        return bytes(etree.tostring(tree, xml_declaration=True, encoding="UTF-8")) + b"\n"


def read_project_file(data: bytes | memoryview, name: str) -> ProjectFile:
    """Read ``project.xml``; ``name`` is for errors.

    Raises:
        FormatError: It is no XML, or its root is not MamutProject.
    """
    if len(data) > MOST_TEXT:
        raise FormatError(
            f"Reading {name} was refused: it has {len(data):,} bytes, which no such entry has; the project is damaged."
        )
    data = bytes(data)
    try:
        root = etree.fromstring(data, etree.XMLParser(**PARSER))
    except etree.XMLSyntaxError as error:
        raise FormatError(
            f"Reading {name} failed: it is no XML ({str(error)[:200]}); the project is damaged."
        ) from None
    if root is None or root.tag != "MamutProject":
        raise FormatError(f"Reading {name} failed: its root is not MamutProject, so this is no Mastodon project.")
    image = root.find("SpimDataFile")
    return ProjectFile(
        image=(image.text or "").strip() if image is not None else "",
        relative=image is not None and image.get("type", "absolute") == "relative",
        space_unit=_text(root, "SpaceUnits"),
        time_unit=_text(root, "TimeUnits"),
        version=root.get("version", ""),
        source=data,
    )


def _text(root: etree._Element, name: str) -> str | None:
    found = root.find(name)
    return None if found is None else (found.text or "").strip()


def _set(root: etree._Element, name: str, text: str | None) -> None:
    found = root.find(name)
    if text is None:
        return
    if found is None:
        found = etree.SubElement(root, name)
    found.text = "".join(c for c in text if c.isprintable())  # XML knows no control characters
