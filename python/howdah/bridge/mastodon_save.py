"""Saving a project that is open in Mastodon, so that the file is always a whole one.

Mastodon's own saving moves what it has written over the good project even when writing failed half-way, and drops entries that it does not
know. Here its writers write into memory; a new file beside the target gets that and what is carried over (:mod:`mastodon_kept`), is read
back, and only then put in place; the version before stays.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bdv_io.errors import BdvIoError, WriteError
from bdv_io.mastodon.container import MODEL, PROJECT, is_project, read_entries, write_entries
from bdv_io.mastodon.model_file import read_model
from bdv_io.mastodon.project import EMPTY_GUI, GUI
from bdv_io.safe_write import replacing
from bdv_io.tracks import Tracks
from howdah.bridge.java_classes import java_class, java_errors
from howdah.bridge.mastodon_java import in_windows_thread, locked
from howdah.bridge.mastodon_kept import carry_over
from howdah.bridge.mastodon_streams import MemoryProject, entries_of
from howdah.bridge.mastodon_undo import UndoStack
from howdah.errors import BridgeError

__all__ = ["save_project"]

log = logging.getLogger("howdah")
BACKUP = "dataset.xml.backup"


def save_project(
    context: Any, project: Any, model: Any, window_side: Any, target: Path, *, also: Tracks | None = None
) -> Path:
    """Save a project; see :meth:`howdah.bridge.mastodon.LiveProject.save`. ``also``: see :func:`mastodon_kept.carry_over`."""
    former = project.getProjectRoot()
    old = _entries(Path(str(former)) if former is not None else target)
    if target.is_dir() and not is_project(target) and any(target.iterdir()):
        raise WriteError(
            f"Saving {target} failed: it is a folder that holds other things than a Mastodon project. Choose another name."
        )
    gui = _gui_state(window_side, old)
    steps = UndoStack(model)
    with java_errors(f"Saving {target}"):
        header = _header(project, model, target)
        with locked(model.getGraph().getLock().readLock()):
            entries = {PROJECT: header, **entries_of(model, context)}
            size = (int(model.getGraph().vertices().size()), int(model.getGraph().edges().size()))
            saved_before = steps.saved_here()  # what a person changes from now on is not in the file
    done = False
    try:
        more, lost = carry_over(old, entries, known=_knows(context), also=also, path=target)
        extra = {GUI: gui, BACKUP: _image_xml(project, old)}
        _put_in_place(target, {**entries, **{name: data for name, data in extra.items() if data}, **more}, size)
        done = True
    finally:
        if not done:
            steps.not_saved(saved_before)
    if saved_before is None:
        model.setSavePoint()
    project.setProjectRoot(java_class("java.io.File")(str(target)))
    for sentence in lost:
        log.warning("%s is saved. %s The version before is kept beside it.", target, sentence)
    _save_brightness(window_side)
    return target


def _put_in_place(target: Path, entries: Mapping[str, bytes], size: tuple[int, int]) -> None:
    def verify(written: Path) -> None:
        there = {name: bytes(data) for name, data in read_entries(written).items()}
        found = read_model(there[MODEL], f"{MODEL} of {written}")
        if (len(found.t), len(found.links)) != size or any(there.get(name) != data for name, data in entries.items()):
            raise BridgeError(
                f"Saving {target} failed: what was written does not read back as the model is ({len(found.t)} spots and "
                f"{len(found.links)} links; expected {size[0]} and {size[1]}). The file that was there is intact."
            )

    with replacing(target, verify=verify, folder=True) as temporary:
        write_entries(temporary, entries, instead_of=target)


def _header(project: Any, model: Any, target: Path) -> bytes:
    """project.xml for a place, as Mastodon writes it: the path of the movie is relative to there if it was relative before."""
    copy = java_class("org.mastodon.mamut.io.project.MamutProject")(
        java_class("java.io.File")(str(target)), project.getDatasetXmlFile()
    )
    copy.setDatasetXmlPathRelative(project.isDatasetXmlPathRelative())
    copy.setSpaceUnits(model.getSpaceUnits())
    copy.setTimeUnits(model.getTimeUnits())
    memory = MemoryProject()
    java_class("org.mastodon.mamut.io.project.MamutProjectIO").save(copy, memory.proxy())
    return memory.entries()[PROJECT]


def _knows(context: Any) -> Callable[[str], bool]:
    specs = context.getService(java_class("org.mastodon.feature.FeatureSpecsService").class_)
    return lambda key: specs.getSpec(key) is not None


def _save_brightness(window_side: Any) -> None:
    """Save what BigDataViewer keeps beside the movie (brightness, bookmarks, groups), as Mastodon's own saving does."""
    if window_side is None:
        return
    shared = window_side.getSharedBdvData()
    file = shared.getProposedSettingsFile()
    if file is None:
        return
    settings = Path(str(file.getAbsolutePath()))
    try:
        with java_errors(f"Saving {settings}"):
            content = in_windows_thread(lambda: _brightness(window_side, shared))
        with replacing(settings, keep_previous=False) as temporary:
            temporary.write_bytes(content)
    except (BridgeError, BdvIoError) as error:
        log.warning("The project is saved, but not the brightness of its movie: %s", error)


def _brightness(window_side: Any, shared: Any) -> bytes:
    kind = java_class("org.mastodon.mamut.views.bdv.MamutViewBdv").class_
    views = list(window_side.getWindowManager().getViewList(kind))
    root = java_class("org.jdom2.Element")("Settings")
    for part in (
        *(view.getViewerPanelMamut().stateToXml() for view in views[:1]),
        shared.toXmlSetupAssignments(),
        shared.getManualTransformation().toXml(),
        shared.getBookmarks().toXml(),
    ):
        root.addContent(part)
    return _as_text(root)


def _entries(project: Path) -> dict[str, bytes]:
    if not project.exists() or not is_project(project):
        return {}
    return {name: bytes(data) for name, data in read_entries(project).items()}


def _gui_state(window_side: Any, old: dict[str, bytes]) -> bytes:
    """Which windows are open and where, as Mastodon writes it; without windows, what the file says already."""
    if window_side is None:
        return old.get(GUI, EMPTY_GUI)
    return in_windows_thread(lambda: _state_of(window_side))


def _state_of(window_side: Any) -> bytes:
    """The branches brought in step, and the windows as XML."""
    windows = java_class("org.jdom2.Element")("Windows")
    manager = window_side.getWindowManager()
    factories = manager.getViewFactories()
    to_xml = java_class("org.mastodon.mamut.io.MamutViewStateXMLSerialization").toXml
    with java_errors("Saving the state of the windows"):
        window_side.getBranchGraphSync().sync()
        for kind in factories.getKeys():
            factory = factories.getFactory(kind)
            for view in manager.getViewList(kind):
                windows.addContent(to_xml(factory.getGuiState(view)))
        root = java_class("org.jdom2.Element")("MamutGui")
        root.setAttribute("version", "0.3")
        root.addContent(windows)
        return _as_text(root)


def _as_text(root: Any) -> bytes:
    printer = java_class("org.jdom2.output.XMLOutputter")(java_class("org.jdom2.output.Format").getPrettyFormat())
    return str(printer.outputString(java_class("org.jdom2.Document")(root))).encode()


def _image_xml(project: Any, old: dict[str, bytes]) -> bytes:
    """The copy of the movie's XML, from which Mastodon builds a blank movie where the real one is missing."""
    file = project.getDatasetXmlFile()
    path = Path(str(file)) if file is not None else None
    if path is not None and path.suffix == ".xml" and path.is_file():
        return path.read_bytes()
    return old.get(BACKUP, b"")
