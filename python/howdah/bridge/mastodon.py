"""A Mastodon project that is open in Fiji: read its model, write results into it, save it, close it.

    with howdah.bridge.start(fiji, mode="interactive") as running:
        project = open_project(running, "embryo.mastodon")
        tracks = project.read()
        project.apply(better(tracks))  # one step; Ctrl+Z in Mastodon takes it back
        project.save()

Everything goes in bulk: Mastodon's own writer gives the model (:mod:`mastodon_streams`), a plan says what differs
(:mod:`mastodon_plan`), loops inside Java carry it out (:mod:`mastodon_edit`, :mod:`mastodon_loops`).
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

import numpy as np

from bdv_io.difference import Difference, match_spots, refuse_other_units
from bdv_io.mastodon import is_mastodon
from bdv_io.tags import Feature, Tag
from bdv_io.tracks import Rows, Tracks
from howdah.bridge.mastodon_edit import edit, write_changed_features
from howdah.bridge.mastodon_java import java, locked, sentences
from howdah.bridge.mastodon_loops import loops
from howdah.bridge.mastodon_plan import Plan, changed_meanwhile, pairs_by_id, plan_of
from howdah.bridge.mastodon_save import save_project
from howdah.bridge.mastodon_streams import tracks_of_model
from howdah.errors import BridgeError

__all__ = ["LiveProject", "open_project", "opened_projects", "project_of"]

log = logging.getLogger("howdah")
LIVE = "mastodon_live"  # attribute of an annotation: from which open project its ids are


class LiveProject:
    """A project that is open in Mastodon, or its model alone where there is no display.

    Attributes:
        model: Mastodon's ``Model``.
        window_side: Mastodon's ``ProjectModel``, which has the windows; None where the model alone was loaded.
    """

    def __init__(self, context: Any, project: Any, model: Any, window_side: Any = None) -> None:
        self.model, self.window_side = model, window_side
        self._context, self._project = context, project
        self._by = loops(model)
        self._token = uuid.uuid4().hex
        self._last: Tracks | None = None

    @property
    def path(self) -> Path | None:
        """Where the project lies; None for one that was never saved."""
        root = self._project.getProjectRoot()
        return None if root is None else Path(str(root.getAbsolutePath()))

    @property
    def image(self) -> Path | None:
        """Path of the movie, or None."""
        file = self._project.getDatasetXmlFile()
        return None if file is None else Path(str(file.getAbsolutePath()))

    @property
    def saved(self) -> bool:
        """Whether all changes are in the file."""
        return bool(self.model.isSavePoint())

    # ---- reading -----------------------------------------------------------------------------------------------

    def read(self, *, features: bool = True) -> Tracks:
        """Read the whole model at once, consistent even while somebody works in Mastodon.

        Args:
            features: Whether to read features and qualities, too.

        Returns:
            The annotation; ``id`` is Mastodon's own number of each spot. Give back to :meth:`apply` what was made of it.

        Raises:
            BridgeError: Java refuses; the sentence says why.
        """
        with locked(self.model.getGraph().getLock().readLock()):
            self._last = self._read(features=features)
        return self._last

    def _read(self, *, features: bool = True) -> Tracks:
        if features:
            self._sync()
        root = self.path or Path("the open Mastodon project")
        tracks = tracks_of_model(self.model, self._context, self._by, image=self.image, root=root, features=features)
        return replace(tracks, attributes=MappingProxyType({**tracks.attributes, LIVE: self._token}))

    # ---- writing -----------------------------------------------------------------------------------------------

    def apply(
        self, after: Tracks, *, before: Tracks | None = None, found: Difference | None = None
    ) -> Mapping[str, int]:
        """Make the model what ``after`` says, in one step that Mastodon can undo. What is the same is not touched.

        Where ``after`` was made of what :meth:`read` gave, spots are known by their id, and what a user did in Mastodon
        since then stays, if it concerns other spots. Where it comes from elsewhere (a file), spots at the same place
        are the same, as in :func:`bdv_io.difference.difference`.

        Features are written, too, but Mastodon's undo does not know features.

        Args:
            after: What the model is to hold.
            before: What ``after`` was made of; by default what was read last.
            found: Which spots are the same in ``before`` and ``after``, if that is known already.

        Returns:
            How many spots, links, tags and features were added, removed or changed.

        Raises:
            ValidationError: ``after`` contradicts itself, or measures in another unit.
            BridgeError: Spots that would change were changed in Mastodon since they were read; nothing was done. Or
                Java refuses: what was done until then is undone.
        """
        after.validate(odd_is_fine=True)
        with locked(self.model.getGraph().getLock().writeLock()):
            current = self._read()
            refuse_other_units(current, after, "Writing into Mastodon")
            base, plan = self._plan(current, after, before, found)
            strange = changed_meanwhile(plan, base, current) if base is not current else np.empty(0)
            if len(strange):
                raise BridgeError(
                    f"Writing into Mastodon was not done: {len(strange)} of the spots that would change were changed or removed "
                    f"in Mastodon since they were read (the first has number {strange[0]}). Read the project again, and repeat."
                )
            if plan:
                self._carry_out(plan, after, current)
        self._sync()
        return plan.counts

    def _plan(
        self, current: Tracks, after: Tracks, before: Tracks | None, found: Difference | None
    ) -> tuple[Tracks, Plan]:
        is_ours = after.attributes.get(LIVE) == self._token
        base = before if before is not None else self._last if is_ours else None
        if base is None or base.attributes.get(LIVE) != self._token:
            base = current
        if found is not None:
            if before is None:
                raise BridgeError("A difference alone does not say from what: give 'before', too.")
            return base, plan_of(base, after, found.pairs)
        return base, plan_of(base, after, pairs_by_id(base, after) if is_ours else match_spots(base, after))

    def _carry_out(self, plan: Plan, after: Tracks, current: Tracks) -> None:
        with self._one_step():
            ids = edit(self.model, plan, after, self._by)
        with sentences("Writing features into Mastodon"):
            write_changed_features(self.model, self._context, plan, after, ids=ids, current=current, by=self._by)

    @contextmanager
    def _one_step(self) -> Iterator[None]:
        """Make one undoable step of the block; undo what it did if it fails. The write lock is held."""
        graph = self.model.getGraph()
        self.model.setUndoPoint()
        try:
            with sentences("Writing into Mastodon"):
                yield
        except BridgeError:
            self.model.setUndoPoint()
            self.model.undo()
            raise
        self.model.setUndoPoint()
        graph.notifyGraphChanged()

    def tag(
        self, tag_set: str, tag: Tag | str, *, spots: Rows | None = None, links: Rows | None = None
    ) -> Mapping[str, int]:
        """Tag spots and links, rows of what :meth:`read` gave last; set and tag are made where they are not there."""
        last = self._last if self._last is not None else self.read()
        wanted = Tag(tag) if isinstance(tag, str) else tag
        return self.apply(last.with_tag(tag_set, wanted, spots=spots, links=links), before=last)

    def add_feature(self, feature: Feature) -> Mapping[str, int]:
        """Show a number per spot or link in Mastodon, rows of what :meth:`read` gave last."""
        last = self._last if self._last is not None else self.read()
        return self.apply(last.with_feature(feature), before=last)

    def undo(self) -> None:
        """Take back the last step, as Ctrl+Z in Mastodon."""
        self._step(self.model.undo, "Undoing")

    def redo(self) -> None:
        """Do again what was taken back."""
        self._step(self.model.redo, "Redoing")

    def _step(self, action: Callable[[], object], name: str) -> None:
        with sentences(f"{name} in Mastodon"):
            action()
        self._sync()

    def _sync(self) -> None:
        """Bring the branch graph in step with the graph."""
        with sentences("Updating Mastodon's branches"):
            if self.window_side is not None:
                self.window_side.getBranchGraphSync().sync()
            else:
                self.model.getBranchGraph().graphRebuilt()

    # ---- file and windows --------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Save the project: to a new file first, which is read back and compared with the model, then put in place.

        The version that was there stays beside it as ``name~1~``.

        Args:
            path: Where; by default where it lies.

        Returns:
            Where it was saved.

        Raises:
            BridgeError: It was never saved, and no path is given; Java refuses; or what was written does not read back as the
                model is. The file that was there is intact.
            WriteError, BusyError: See :func:`bdv_io.safe_write.replacing`.
        """
        target = Path(path).absolute() if path is not None else self.path
        if target is None:
            raise BridgeError(
                "Saving failed: the project was never saved; say where, with a name that ends in .mastodon."
            )
        return save_project(self._context, self._project, self.model, self.window_side, target)

    def reopen_windows(self) -> None:
        """Open the windows that were open when the project was saved last."""
        with sentences("Opening the windows of the project"):
            java("org.mastodon.mamut.io.ProjectLoader").loadGUI(self._project, self._windows())

    def show(self, *, image: bool = True, tracks: bool = True) -> None:
        """Open a BigDataViewer and a TrackScheme window."""
        windows = self._windows()
        with sentences("Opening windows"):
            if image:
                windows.createBigDataViewer()
            if tracks:
                windows.createTrackScheme()

    def _windows(self) -> Any:
        if self.window_side is None:
            raise BridgeError(
                "There are no windows: the project was opened without a display, so only its model is there."
            )
        return self.window_side.getWindowManager()

    def close(self, *, discard: bool = False) -> None:
        """Close the project and its windows.

        Raises:
            BridgeError: Changes are not saved, and ``discard`` is not set.
        """
        if not self.saved and not discard:
            raise BridgeError("Closing was not done: changes are not saved. Save first, or close with discard=True.")
        if self.window_side is not None:
            with sentences("Closing the project"):
                self.window_side.close()

    def __enter__(self) -> Self:
        """Return the project."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it; changes that are not saved are gone, with a line in the log."""
        if not self.saved:
            log.warning("The Mastodon project is closed without saving its last changes.")
        self.close(discard=True)


def open_project(
    fiji: Any, path: str | os.PathLike[str], *, windows: bool = True, without_image: bool = False
) -> LiveProject:
    """Open a project in Mastodon.

    Args:
        fiji: The running Fiji of :func:`howdah.bridge.start`, a PyImageJ gateway, or a SciJava context.
        path: A ``.mastodon`` file or folder.
        windows: Show Mastodon's main window and the windows that were open when it was saved. Without a display only the
            model is loaded: reading, writing and saving work.
        without_image: Open it even if its movie is not there; Mastodon shows black instead.

    Raises:
        BridgeError: There is no such project, Mastodon is not in this Fiji, or it refuses the project or its movie.
    """
    project = Path(path).absolute()
    if not project.exists():
        raise BridgeError(f"Opening {project} failed: there is no such file.")
    if not is_mastodon(project):
        raise BridgeError(f"Opening {project} failed: it is no Mastodon project.")
    context = context_of(fiji)
    loader = java("org.mastodon.mamut.io.ProjectLoader")
    with sentences(f"Opening {project}"):
        if bool(java("java.awt.GraphicsEnvironment").isHeadless()):
            described = java("org.mastodon.mamut.io.project.MamutProjectIO").load(str(project))
            _default_units(described)
            live = LiveProject(context, described, loader.loadModel(described, context))
            live._sync()
            return live
        opened = loader.open(str(project), context, False, without_image)
        live = project_of(opened)
        if windows:
            java("org.mastodon.mamut.MainWindow")(opened).setVisible(True)
            live.reopen_windows()
    return live


def project_of(window_side: Any) -> LiveProject:
    """Return the live project of a ``ProjectModel``, as a Mastodon plug-in or script has it."""
    return LiveProject(window_side.getContext(), window_side.getProject(), window_side.getModel(), window_side)


def opened_projects() -> list[LiveProject]:
    """Return the projects whose main window is open in this Fiji, the newest last."""
    main = java("org.mastodon.mamut.MainWindow")
    field = main.class_.getDeclaredField("appModel")  # Mastodon keeps no list of what is open
    field.setAccessible(True)
    windows = [window for window in java("java.awt.Window").getWindows() if isinstance(window, main)]
    return [project_of(field.get(window)) for window in windows if window.isDisplayable()]


def context_of(fiji: Any) -> Any:
    """Return the SciJava context of a running Fiji, a PyImageJ gateway, or itself."""
    gateway = getattr(fiji, "ij", fiji)
    for name in ("context", "getContext"):
        if hasattr(gateway, name):
            return getattr(gateway, name)()
    return gateway


def _default_units(project: Any) -> None:
    if project.getSpaceUnits() is None:
        project.setSpaceUnits("pixel")
    if project.getTimeUnits() is None:
        project.setTimeUnits("frame")
