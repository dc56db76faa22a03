"""The ``Settings`` element: where TrackMate finds the image, and the filters that its reader insists on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from lxml import etree

from bdv_io.image import ImageSeries
from bdv_io.tracks import Tracks

__all__ = ["gui_state_of", "settings_of"]


def settings_of(carried: bytes | None, source: ImageSeries | Tracks, target: Path, *, mamut: bool = False) -> bytes:
    """Return the settings for a file at ``target``: the carried ones, with the image in the place of theirs.

    Args:
        carried: Settings of the file that was read, if any.
        source: The movie; or the annotation, which may name one.
        target: The file that is written.
        mamut: Whether it is for MaMuT.

    Without any settings Mastodon refuses the file, and TrackMate complains. A settings element must have its three filter
    elements, else TrackMate cannot read it; MaMuT wants the list of analyzers too, and has no region of interest.
    """
    beside = "." if mamut else ""
    root = etree.Element("Settings")
    if carried:
        root = etree.fromstring(carried, etree.XMLParser(resolve_entities=False, no_network=True))
    old = root.find("ImageData")
    if isinstance(source, Tracks):
        named = source.attributes.get("image", "")
        if old is None:
            root.insert(0, _named_image(named, target, beside_as=beside))
        elif not named or not Path(named).exists() or _leads_to(old, target, Path(named)):
            return carried or b""
        else:
            old.set("folder", _folder(Path(named), target, beside_as=beside))
    else:
        if old is not None:
            root.remove(old)
        root.insert(0, _image_data(source, target, beside_as=beside))
        if root.find("BasicSettings") is None and not mamut:
            root.insert(1, _whole_image(source))
    if root.find("InitialSpotFilter") is None:
        etree.SubElement(root, "InitialSpotFilter", feature="QUALITY", value="0.0", isabove="true")
    for tag in ("SpotFilterCollection", "TrackFilterCollection"):
        if root.find(tag) is None:
            etree.SubElement(root, tag)
    if mamut and root.find("AnalyzerCollection") is None:
        analyzers = etree.SubElement(root, "AnalyzerCollection")
        for tag in ("SpotAnalyzers", "EdgeAnalyzers", "TrackAnalyzers"):
            etree.SubElement(analyzers, tag)
    text: bytes = etree.tostring(root, encoding="utf-8", pretty_print=True)
    return text.rstrip()


def gui_state_of(carried: bytes | None, image: ImageSeries | None) -> bytes | None:
    """Return MaMuT's display state: the carried one if it is MaMuT's, else the full range of brightness of every setup."""
    if carried and b"<SetupAssignments" in carried:
        return carried
    if image is None:
        return None
    root = etree.Element("GUIState")
    assignments = etree.SubElement(root, "SetupAssignments")
    setups, groups = etree.SubElement(assignments, "ConverterSetups"), etree.SubElement(assignments, "MinMaxGroups")
    for place, setup in enumerate(image.setups):
        top = 255.0 if setup.dtype.itemsize == 1 else 65535.0
        shown: dict[str, float | int] = {"id": setup.id, "min": 0.0, "max": top, "color": -1, "groupId": place}
        limits: dict[str, float | int] = {"id": place}
        for name in ("fullRange", "range", "current"):
            limits |= {f"{name}Min": 0.0, f"{name}Max": top}
        for parent, tag, values in ((setups, "ConverterSetup", shown), (groups, "MinMaxGroup", limits)):
            element = etree.SubElement(parent, tag)
            for key, value in values.items():
                etree.SubElement(element, key).text = str(value)
    etree.SubElement(root, "Bookmarks")
    text: bytes = etree.tostring(root, encoding="utf-8", pretty_print=True)
    return text


def _folder(image: Path, target: Path, *, beside_as: str) -> str:
    """Where an image lies, for a file at ``target``: absolute, if it is not beside it."""
    parent = image.resolve().parent
    return beside_as if parent == target.resolve().parent else f"{parent.as_posix()}/"


def _named_image(named: str, target: Path, *, beside_as: str) -> etree._Element:
    """What can be said of an image of which only the path is known, or nothing."""
    folder = _folder(Path(named), target, beside_as=beside_as) if named else beside_as
    sizes = dict.fromkeys(("width", "height", "nslices", "nframes"), "0")
    return etree.Element("ImageData", filename=Path(named).name, folder=folder, **sizes)


def _leads_to(data: etree._Element, target: Path, image: Path) -> bool:
    """Whether TrackMate, reading the file at ``target``, would find this image: in the folder, else beside the file."""
    name, folder = data.get("filename", ""), data.get("folder", "")
    places = [target.parent / name, *([target.parent / folder / name] if folder else [])]
    return image.resolve() in [place.resolve() for place in places]


def _image_data(image: ImageSeries, target: Path, *, beside_as: str) -> etree._Element:
    setup = image.setups[0]
    depth, height, width = setup.shape
    sizes = np.abs(setup.voxel_size).tolist()
    path = image.path
    folder = beside_as if path is None else _folder(path, target, beside_as=beside_as)
    interval = image.interval[0] if image.interval else 1.0
    return etree.Element(
        "ImageData",
        filename=path.name if path else "",
        folder=folder,
        width=str(width),
        height=str(height),
        nslices=str(depth),
        nframes=str(image.n_frames),
        pixelwidth=repr(float(sizes[2])),
        pixelheight=repr(float(sizes[1])),
        voxeldepth=repr(float(sizes[0])),
        timeinterval=repr(float(interval)),
    )


def _whole_image(image: ImageSeries) -> etree._Element:
    depth, height, width = image.setups[0].shape
    ends = {"x": width, "y": height, "z": depth, "t": image.n_frames}
    limits = {
        f"{axis}{side}": str(0 if side == "start" else n - 1) for axis, n in ends.items() for side in ("start", "end")
    }
    return etree.Element("BasicSettings", **limits)
