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
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from bdv_io.difference import Difference, match_spots, refuse_other_units
from bdv_io.mastodon import is_mastodon
from bdv_io.tags import Tag
from bdv_io.tracks import Tracks
from howdah.bridge.java_classes import java_class, java_errors
from howdah.bridge.mastodon_edit import edit, write_changed_features
from howdah.bridge.mastodon_java import in_windows_thread, locked
from howdah.bridge.mastodon_loops import loops
from howdah.bridge.mastodon_plan import Plan, Reading, changed_meanwhile, pairs_by_id, plan_of, rows_of, stored_features
from howdah.bridge.mastodon_save import save_project
from howdah.bridge.mastodon_streams import tracks_of_model
from howdah.bridge.mastodon_undo import UndoStack
from howdah.errors import BridgeError

__all__ = ["LiveProject", "open_project", "opened_projects", "project_of"]

I64 = npt.NDArray[np.int64]
T = TypeVar("T")

log = logging.getLogger("howdah")
LIVE = "mastodon_live"  # attribute of an annotation: the reading of an open project that it was made of
KEPT = 3  # readings


@dataclass(frozen=True, eq=False)
class _Step:
    """A step that concerns features: what was before and after it, and whether it changed more than features."""

    before: Tracks
    after: Tracks
    edits: bool
    position: int | None  # in Mastodon's list of steps, after it


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
        self._name = uuid.uuid4().hex
        self._readings: dict[str, Reading] = {}  # by their mark; what is read can be given back
        self._undo_stack = UndoStack(model)
        self._steps: list[_Step] = []  # the last ones that concern features
        self._done = 0  # how many of them are not undone
        self._painters: list[Any] = []
        self._beyond: Tracks | None = (
            None  # written into the model, with outlines or an interval: kept in the file only
        )

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

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features that Mastodon has for this project, those that it computes on the fly among them."""
        return tuple(sorted(str(spec.getKey()) for spec in self.model.getFeatureModel().getFeatureSpecs()))

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
        mark = f"{self._name}/{uuid.uuid4().hex}"
        if features:
            self._sync()
        with locked(self.model.getGraph().getLock().readLock()):
            tracks = self._read(features=features, branches=features)
        tracks = replace(tracks, attributes=MappingProxyType({**tracks.attributes, LIVE: mark}))
        for old in list(self._readings)[: 1 - KEPT]:
            del self._readings[old]
        self._readings[mark] = Reading(tracks, tracks.id)
        return tracks

    def _read(self, *, features: bool = True, branches: bool = False) -> Tracks:
        root, image = self.path or Path("the open Mastodon project"), self.image
        which = {"features": features, "branches": branches}
        return tracks_of_model(self.model, self._context, self._by, image=image, root=root, **which)

    # ---- writing -----------------------------------------------------------------------------------------------

    def apply(
        self, after: Tracks, *, before: Tracks | None = None, found: Difference | None = None
    ) -> Mapping[str, int]:
        """Make the model what ``after`` says, in one step that Mastodon can undo. What is the same is not touched.

        Where ``after`` was made of what :meth:`read` gave, spots are known by their id, and what a user did in Mastodon
        since then stays, if it concerns other spots. Where it comes from elsewhere (a file), spots at the same place
        are the same, as in :func:`bdv_io.difference.difference`.

        Features are written, too, but Mastodon's undo does not know features: :meth:`undo` restores them, Ctrl+Z does not.

        Args:
            after: What the model is to hold.
            before: What :meth:`read` gave, if ``after`` does not come from it but is meant as a change of it.
            found: Which spots are the same in ``before`` and ``after``, if that is known already.

        Returns:
            How many spots, links, tags and features were added, removed or changed.

        Raises:
            ValidationError: ``after`` contradicts itself, or measures in another unit.
            BridgeError: Spots that would change were changed in Mastodon since they were read; nothing was done. Or
                Java refuses: what was done until then is undone.
        """
        after.validate(odd_is_fine=True)
        reading, pairs = self._origin(after, before, found)
        plan, ids = self._where_it_may(lambda: self._apply(after, reading, pairs))
        if after.attributes.get(LIVE, "") in self._readings:
            self._readings[after.attributes[LIVE]] = Reading(after, ids)
        if len(after.outlines) or after.interval is not None:
            self._beyond = after
        self._sync()
        return plan.counts

    def _apply(self, after: Tracks, reading: Reading | None, pairs: I64) -> tuple[Plan, I64]:
        with locked(self.model.getGraph().getLock().writeLock()):
            current = self._read()
            refuse_other_units(current, after, "Writing into Mastodon")
            if reading is None:
                reading, pairs = Reading(current, current.id), match_spots(current, after)
            plan = plan_of(reading, after, pairs)
            strange = changed_meanwhile(plan, reading, current)
            if len(strange):
                raise BridgeError(
                    f"Writing into Mastodon was not done: {len(strange)} of the spots that would change were changed or removed "
                    f"in Mastodon since they were read (the first has number {strange[0]}). Read the project again, and repeat."
                )
            return plan, self._carry_out(plan, after, reading, current) if plan else plan.ids

    def _where_it_may(self, work: Callable[[], T]) -> T:
        """Do what changes the model: in the thread of the windows, where there are any."""
        return work() if self.window_side is None else in_windows_thread(work)

    def _origin(self, after: Tracks, before: Tracks | None, found: Difference | None) -> tuple[Reading | None, I64]:
        """The reading that an annotation was made of, and the pairs of spots that are the same; or None."""
        mark = (after if before is None else before).attributes.get(LIVE, "")
        reading = self._readings.get(mark)
        if reading is None:
            if mark.startswith(self._name) or before is not None or found is not None:
                raise BridgeError(
                    f"Writing into Mastodon was not done: the annotation is not made of one of the last {KEPT} readings of "
                    "this project. Read it again, and repeat."
                )
            return None, np.empty((0, 2), np.int64)
        if found is not None:
            return reading, found.pairs
        if after.attributes.get(LIVE) == mark:
            return reading, pairs_by_id(reading.tracks, after)
        return reading, match_spots(reading.tracks, after)

    def _carry_out(self, plan: Plan, after: Tracks, reading: Reading, current: Tracks) -> I64:
        ids = plan.ids
        if plan.edits:
            with self._one_step(current):
                ids = edit(self.model, plan, after, self._by)
        if plan.features or plan.features_removed or stored_features(current):
            step = _Step(current, after, plan.edits, self._undo_stack.position)
            self._steps = [*self._steps[: self._done], step][-KEPT:]
            self._done = len(self._steps)
        self._write_features(plan, after, ids=ids, reading=reading, current=current)
        return ids

    def _write_features(self, plan: Plan, after: Tracks, **what: Any) -> None:
        with java_errors("Writing features into Mastodon"):
            write_changed_features(self.model, self._context, plan, after, **what, by=self._by)
        if plan.features or plan.features_removed:
            self._undo_stack.spoil()  # Mastodon does not count features as a change, and would close without a question

    @contextmanager
    def _one_step(self, before: Tracks) -> Iterator[None]:
        """Make one undoable step of the block; if it fails, all is as ``before`` again. The write lock is held."""
        self.model.setUndoPoint()
        start, done = self._undo_stack.position, False
        try:
            with java_errors("Writing into Mastodon"):
                yield
            done = True
        finally:
            if not done:
                self._undo_stack.take_back(start)
                self._restore(before)
        self.model.setUndoPoint()
        self.model.getGraph().notifyGraphChanged()

    def tag(
        self, tag_set: str, tag: Tag | str, *, spots: npt.ArrayLike | None = None, links: npt.ArrayLike | None = None
    ) -> Mapping[str, int]:
        """Tag spots and links in one step; set and tag are made where they are not there.

        Args:
            tag_set: Name of the set.
            tag: The tag, or its name.
            spots: Ids of spots, as :meth:`read` gave them (``tracks.id[rows]``).
            links: (K, 2) ids of the source and the target of links.

        Raises:
            BridgeError: There are no such spots or links.
        """
        last = self._readings[list(self._readings)[-1]].tracks if self._readings else self.read()
        wanted = Tag(tag) if isinstance(tag, str) else tag
        rows = None if spots is None else _known(rows_of(np.asarray(spots, np.int64).ravel(), last.id), "spots")
        ends = None
        if links is not None:
            pairs = _known(rows_of(np.asarray(links, np.int64).ravel(), last.id), "spots").reshape(-1, 2)
            keys = [ends[:, 0] * last.n_spots + ends[:, 1] for ends in (pairs, last.links)]
            order = np.unique(keys[1], return_index=True)
            ends = _known(rows_of(keys[0], order[0]), "links")
            ends = order[1][ends]
        return self.apply(last.with_tag(tag_set, wanted, spots=rows, links=ends))

    def undo(self) -> None:
        """Take back the last step, as Ctrl+Z in Mastodon; and the features that :meth:`apply` has written in it."""
        step = self._steps[self._done - 1] if self._done else None
        alone = self._without(step)
        self._step(lambda: alone or self.model.undo(), "Undoing")
        if step is not None and step.edits | alone and self._where_it_may(lambda: self._restore(step.before)):
            self._done -= 1

    def redo(self) -> None:
        """Do again what was taken back."""
        step = self._steps[self._done] if self._done < len(self._steps) else None
        alone = self._without(step)
        self._step(lambda: alone or self.model.redo(), "Redoing")
        if step is not None and step.edits | alone and self._where_it_may(lambda: self._restore(step.after)):
            self._done += 1

    def _without(self, step: _Step | None) -> bool:
        """Whether a step changed features only, so that Mastodon's own list of steps has nothing of it, and is the last one."""
        return step is not None and not step.edits and step.position == self._undo_stack.position

    def _step(self, action: Callable[[], object], name: str) -> None:
        with java_errors(f"{name} in Mastodon"):
            self._where_it_may(action)
        self._sync()
        self._readings.clear()

    def _restore(self, meant: Tracks) -> bool:
        """Give the features back if the model is but for them the one that was meant; return whether it is."""
        with locked(self.model.getGraph().getLock().writeLock()):
            current = self._read()
            now = Reading(current, current.id)
            plan = plan_of(now, meant, match_spots(current, meant))
            if not plan.edits:
                self._write_features(plan, meant, ids=plan.ids, reading=now, current=current)
            return not plan.edits

    def _sync(self) -> None:
        """Bring the branch graph in step with the graph."""
        with java_errors("Updating Mastodon's branches"):
            if self.window_side is not None:
                in_windows_thread(self.window_side.getBranchGraphSync().sync)
            else:
                self.model.getBranchGraph().graphRebuilt()

    # ---- file and windows --------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Save the project: to a new file first, which is read back and compared with the model, then put in place.

        The version that was there stays beside it as ``name~1~``. What the file holds and Mastodon does not know stays in it
        (outlines and the frame interval also of what :meth:`apply` wrote; features and entries of other programs); what cannot
        stay is said in the log.

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
        return save_project(self._context, self._project, self.model, self.window_side, target, also=self._beyond)

    def reopen_windows(self) -> None:
        """Open the windows that were open when the project was saved last."""
        with java_errors("Opening the windows of the project"):
            java_class("org.mastodon.mamut.io.ProjectLoader").loadGUI(self._project, self._windows())

    def show(self, *, image: bool = True, tracks: bool = True, coloured_by: str | None = None) -> None:
        """Open a BigDataViewer and a TrackScheme window, coloured by a tag set where one is named."""
        windows = self._windows()
        state = java_class("java.util.HashMap")()
        if coloured_by is not None:
            state.put("TagSet", coloured_by)
        with java_errors("Opening windows"):
            if image:
                windows.createBigDataViewer(state)
            if tracks:
                windows.createTrackScheme(state)

    def views(self) -> list[Any]:
        """Return the Java classes of the views that are open, one for each window."""
        windows = self._windows()
        kinds = list(windows.getViewFactories().getKeys())
        return [view.getClass() for kind in kinds for view in windows.getViewList(kind)]

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
            with java_errors("Closing the project"):
                self.window_side.close()
                for thread in self._painters:  # of previews in Mastodon's preferences; they would keep Java alive
                    thread.interrupt()

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
    loader = java_class("org.mastodon.mamut.io.ProjectLoader")
    with java_errors(f"Opening {project}"):
        if bool(java_class("java.awt.GraphicsEnvironment").isHeadless()):
            described = java_class("org.mastodon.mamut.io.project.MamutProjectIO").load(str(project))
            _default_units(described)
            live = LiveProject(context, described, loader.loadModel(described, context))
            live._sync()
            return live
        if not without_image:
            _need_movie(project)
        others = _painters()
        opened = loader.open(str(project), context, False, without_image)
        live = project_of(opened)
        live._painters = [thread for thread in _painters() if thread not in others]
        if windows:
            java_class("org.mastodon.mamut.MainWindow")(opened).setVisible(True)
            live.reopen_windows()
    return live


def _need_movie(project: Path) -> None:
    """Mastodon's own words for a movie that is not there do not say what to do."""
    described = java_class("org.mastodon.mamut.io.project.MamutProjectIO").load(str(project))
    file = described.getDatasetXmlFile()
    movie = None if file is None else Path(str(file.getAbsolutePath()))
    if movie is not None and movie.suffix != ".dummy" and not movie.exists():
        raise BridgeError(
            f"Opening {project} failed: its movie {movie} is not there. Put it there, or open the project with without_image=True: "
            "then Mastodon shows black instead."
        )


def project_of(window_side: Any) -> LiveProject:
    """Return the live project of a ``ProjectModel``, as a Mastodon plug-in or script has it."""
    return LiveProject(window_side.getContext(), window_side.getProject(), window_side.getModel(), window_side)


def opened_projects() -> list[LiveProject]:
    """Return the projects whose main window is open in this Fiji, the newest last."""
    main = java_class("org.mastodon.mamut.MainWindow")
    field = main.class_.getDeclaredField("appModel")  # Mastodon keeps no list of what is open
    field.setAccessible(True)
    windows = [window for window in java_class("java.awt.Window").getWindows() if isinstance(window, main)]
    return [project_of(field.get(window)) for window in windows if window.isDisplayable()]


def context_of(fiji: Any) -> Any:
    """Return the SciJava context of a running Fiji, a PyImageJ gateway, or itself."""
    context = getattr(fiji, "context", fiji)
    return context() if callable(context) else context


def _painters() -> list[Any]:
    """Java's threads that paint BigDataViewer-like windows."""
    painter = java_class("bdv.viewer.render.PainterThread")
    return [
        thread for thread in java_class("java.lang.Thread").getAllStackTraces().keySet() if isinstance(thread, painter)
    ]


def _known(rows: I64, what: str) -> I64:
    if (rows < 0).any():
        raise BridgeError(
            f"Tagging was not done: {int((rows < 0).sum())} of {len(rows)} {what} are not in what was read last. Read again."
        )
    return rows


def _default_units(project: Any) -> None:
    if project.getSpaceUnits() is None:
        project.setSpaceUnits("pixel")
    if project.getTimeUnits() is None:
        project.setTimeUnits("frame")
