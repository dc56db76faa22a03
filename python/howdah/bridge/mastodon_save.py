"""Saving a project that is open in Mastodon, so that the file is always a whole one.

Mastodon's own saving moves what it has written over the good project even when writing failed half-way. Here its writers
write to a new file beside the target; that is read back with our reader, compared with the model in memory, and only then
put in place; the version before stays.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io.mastodon import read_mastodon
from bdv_io.mastodon.container import is_project, read_entries
from bdv_io.mastodon.project import EMPTY_GUI, GUI, tracks_of_entries
from bdv_io.safe_write import replacing
from bdv_io.tracks import Tracks
from howdah.bridge.java_classes import java_class, java_errors
from howdah.bridge.mastodon_java import in_windows_thread, locked
from howdah.bridge.mastodon_streams import entries_of
from howdah.errors import BridgeError

__all__ = ["first_difference", "save_project"]

log = logging.getLogger("howdah")
BACKUP = "dataset.xml.backup"


def save_project(context: Any, project: Any, model: Any, window_side: Any, target: Path) -> Path:
    """Save a project; see :meth:`howdah.bridge.mastodon.LiveProject.save`."""
    former = project.getProjectRoot()
    old = _entries(Path(str(former)) if former is not None else target)
    as_folder = target.is_dir() and is_project(target)
    wanted: list[dict[str, bytes]] = []

    def verify(written: Path) -> None:
        there = read_mastodon(written)
        header = read_entries(written)["project.xml"]
        meant = tracks_of_entries({"project.xml": header, **wanted[0]}, written)
        what = first_difference(meant, there)
        if what:
            raise BridgeError(
                f"Saving {target} failed: what was written does not read back as the model is ({what} differ). The file that was "
                "there is intact."
            )

    with replacing(target, verify=verify, folder=True) as temporary:
        if as_folder:
            temporary.mkdir(exist_ok=True)
        copy = java_class("org.mastodon.mamut.io.project.MamutProject")(
            java_class("java.io.File")(str(temporary)), project.getDatasetXmlFile()
        )
        copy.setDatasetXmlPathRelative(project.isDatasetXmlPathRelative())
        copy.setSpaceUnits(model.getSpaceUnits())
        copy.setTimeUnits(model.getTimeUnits())
        if window_side is not None:
            in_windows_thread(window_side.getBranchGraphSync().sync)
        gui = _gui_state(window_side, old)
        with java_errors(f"Saving {target}"), locked(model.getGraph().getLock().readLock()):
            wanted.append(entries_of(model, context))
            _write(context, copy, model, {GUI: gui, BACKUP: _image_xml(project, old)})
    project.setProjectRoot(java_class("java.io.File")(str(target)))
    model.setSavePoint()
    _say_what_is_lost(old, wanted[0], target)
    return target


def _write(context: Any, project: Any, model: Any, extra: dict[str, bytes]) -> None:
    writer = project.openForWriting()
    try:
        java_class("org.mastodon.mamut.io.project.MamutProjectIO").save(project, writer)
        ids = model.saveRaw(writer)
        java_class("org.mastodon.mamut.feature.MamutRawFeatureModelIO").serialize(context, model, ids, writer)
        for name, open_stream in ((GUI, writer.getGuiOutputStream), (BACKUP, writer.getBackupDatasetXmlOutputStream)):
            if extra[name]:
                stream = open_stream()
                stream.write(extra[name])
                stream.close()
    finally:
        writer.close()


def _entries(project: Path) -> dict[str, bytes]:
    if not project.exists() or not is_project(project):
        return {}
    return {name: bytes(data) for name, data in read_entries(project).items()}


def _gui_state(window_side: Any, old: dict[str, bytes]) -> bytes:
    """Which windows are open and where, as Mastodon writes it; without windows, what the file says already."""
    if window_side is None:
        return old.get(GUI, EMPTY_GUI)
    windows = java_class("org.jdom2.Element")("Windows")
    manager = window_side.getWindowManager()
    factories = manager.getViewFactories()
    to_xml = java_class("org.mastodon.mamut.io.MamutViewStateXMLSerialization").toXml
    with java_errors("Saving the state of the windows"):
        for kind in factories.getKeys():
            factory = factories.getFactory(kind)
            for view in manager.getViewList(kind):
                windows.addContent(to_xml(factory.getGuiState(view)))
        root = java_class("org.jdom2.Element")("MamutGui")
        root.setAttribute("version", "0.3")
        root.addContent(windows)
        printer = java_class("org.jdom2.output.XMLOutputter")(java_class("org.jdom2.output.Format").getPrettyFormat())
        return str(printer.outputString(java_class("org.jdom2.Document")(root))).encode()


def _image_xml(project: Any, old: dict[str, bytes]) -> bytes:
    """The copy of the movie's XML, from which Mastodon builds a blank movie where the real one is missing."""
    file = project.getDatasetXmlFile()
    path = Path(str(file)) if file is not None else None
    if path is not None and path.suffix == ".xml" and path.is_file():
        return path.read_bytes()
    return old.get(BACKUP, b"")


def _say_what_is_lost(old: dict[str, bytes], new: dict[str, bytes], target: Path) -> None:
    lost = sorted(name[9:-4] for name in old if name.startswith("features/") and name not in new)
    if lost:
        log.warning(
            "Features that are no longer in Mastodon are not in %s either: %s. The version before is kept beside it.",
            target,
            ", ".join(lost),
        )


def first_difference(first: Tracks, second: Tracks) -> str:
    """Return what differs first between two annotations row by row, or an empty text."""
    columns = ("t", "centre", "covariance", "links", "quality")
    for name in columns:
        if not _same(getattr(first, name), getattr(second, name)):
            return {"t": "frames", "centre": "places", "covariance": "ellipsoids", "links": "links"}.get(name, name)
    if first.label.tolist() != second.label.tolist():
        return "labels"
    sets = [[(s.name, s.tags) for s in tracks.tag_sets] for tracks in (first, second)]
    if sets[0] != sets[1]:
        return "tag sets"
    pairs = zip(first.tag_sets, second.tag_sets, strict=True)
    if not all(_same(a.spots, b.spots) and _same(a.links, b.links) for a, b in pairs):
        return "tags"
    theirs = {feature.key: feature for feature in second.features}
    mine = {feature.key: feature for feature in first.features}
    if mine.keys() != theirs.keys() or not all(_same(f.values, theirs[key].values) for key, f in mine.items()):
        return "features"
    return ""


def _same(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> bool:
    return np.array_equal(first, second, equal_nan=first.dtype.kind == "f")
