"""TrackMate's windows: show an annotation on its image, load and save a session, find the sessions that are open.

A session is what TrackMate itself keeps together: the model, the settings with the image, the selection and how things are drawn.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from bdv_io.errors import MissingDataError, WriteError
from bdv_io.safe_write import replacing
from bdv_io.trackmate.document import count_elements
from bdv_io.tracks import Tracks
from howdah.bridge.images import calibration_of, open_imageplus
from howdah.bridge.java_classes import java_class, java_errors
from howdah.bridge.swing import need_display, on_swing, open_windows
from howdah.bridge.trackmate import TRACKMATE, model_of, read_model, tracks_of, writer_of
from howdah.bridge.trackmate_changes import Changes, apply_to
from howdah.errors import BridgeError

__all__ = ["TrackMateSession", "load", "open_sessions", "show"]

log = logging.getLogger(__name__)

CONFIGURE = "ConfigureViews"  # the panel of TrackMate's window at which a finished session opens
MICROMETRE = frozenset({"µm", "μm", "um", "micron", "microns", "micrometer", "micrometers", "micrometre", "\\u00b5m"})
MOST_OUTSIDE = 0.5  # part of the spots
PIXEL = frozenset({"pixel", "pixels", "px", ""})


@dataclass(eq=False)
class TrackMateSession:
    """One TrackMate session, with or without windows.

    Attributes:
        trackmate: The ``fiji.plugin.trackmate.TrackMate``. selection: Its ``SelectionModel``.
        display: Its ``DisplaySettings``. log: The text of its log, for the file.
        views: Views that are shown. windows: All Java windows that came with them, also hidden ones.
        own: Whether this Python opened it.
    """

    trackmate: Any
    selection: Any
    display: Any
    log: str = ""
    views: list[Any] = field(default_factory=list)
    windows: list[Any] = field(default_factory=list)
    own: bool = True

    @property
    def model(self) -> Any:
        """The live ``fiji.plugin.trackmate.Model``."""
        return self.trackmate.getModel()

    @property
    def settings(self) -> Any:
        """The live ``fiji.plugin.trackmate.Settings``."""
        return self.trackmate.getSettings()

    @property
    def image(self) -> Any:
        """The ``ij.ImagePlus``, or None."""
        return self.settings.imp

    def tracks(self) -> Tracks:
        """Return the annotation as it is now, with the corrections that were made in the window."""
        return tracks_of(self.model, settings=self.settings)

    def apply(self, tracks: Tracks) -> Changes:
        """Make the session hold this annotation; all windows follow. See :func:`trackmate_changes.apply_to`."""
        return apply_to(self.model, tracks, settings=self.settings)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save as TrackMate XML, which TrackMate opens with image, settings and colours as they are now.

        What stood there before is kept as ``name~1~``, as with everything that Howdah writes.

        Raises:
            BridgeError: TrackMate cannot write.
            WriteError: The disk is full, the folder is missing, or reading back failed; the old file is intact.
        """
        target = Path(path)
        if not _text(self.settings.imageFileName):
            log.warning(
                "%s: the image of this session was never saved, so TrackMate will open the file without it. Save the image "
                "first, then show the tracks on it.",
                target,
            )
        wanted = (int(self.model.getSpots().getNSpots(False)), int(self.model.getTrackModel().edgeSet().size()))

        def verify(written: Path) -> None:
            found = count_elements(written)
            if found != wanted:
                raise WriteError(
                    f"Writing {target} failed: it read back {found[0]} spots and {found[1]} edges; expected {wanted[0]} and "
                    f"{wanted[1]}. What was there before is unchanged."
                )

        with replacing(target, verify=verify) as temporary, java_errors(f"Saving TrackMate's session to {target}"):
            writer = writer_of(temporary, self.model, self.settings)
            writer.appendLog(self.log or "Saved by Howdah.")
            writer.appendGUIState(CONFIGURE)
            writer.appendDisplaySettings(self.display)
            writer.writeToFile()

    def show(self, *, track_scheme: bool = False, window: bool = True) -> None:
        """Open the image with its overlay, TrackMate's own window, and, where wished, TrackScheme.

        Raises:
            BridgeError: There is no display, or TrackMate refuses.
        """
        need_display("Showing a TrackMate session")

        def run() -> None:
            before = open_windows()
            with java_errors("Showing a TrackMate session"):
                self._show(track_scheme=track_scheme, window=window)
            self.windows += [one for one in open_windows() if one not in before]

        on_swing(run)

    def _show(self, *, track_scheme: bool, window: bool) -> None:
        image = self.image
        if not image.isVisible():
            image.setOpenAsHyperStack(True)
            image.show()
        if not self.views:
            displayer = java_class(TRACKMATE + "visualization.hyperstack.HyperStackDisplayer")
            self.views.append(displayer(self.model, self.selection, image, self.display))
            self.views[0].render()
        if track_scheme:
            scheme = java_class(TRACKMATE + "visualization.trackscheme.TrackScheme")
            self.views.append(scheme(self.model, self.selection, self.display))
            self.views[-1].render()
        if window:
            wizard = java_class(TRACKMATE + "gui.wizard.TrackMateWizardSequence")
            sequence = wizard(self.trackmate, self.selection, self.display)
            sequence.setCurrent(CONFIGURE)
            frame = sequence.run(f"TrackMate on {image.getShortTitle()}")
            java_class(TRACKMATE + "gui.GuiUtils").positionWindow(frame, image.getWindow())
            frame.setVisible(True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self, *, image: bool = True) -> None:
        """Close the windows that :meth:`show` opened, without asking; what was not saved is lost.

        Args:
            image: Close the image too. Of a session that a person opened (:func:`open_sessions`) everything stays.
        """
        if not self.own:
            return
        with java_errors("Closing a TrackMate session"):
            _registry(remove=self.trackmate)
        if not self.views:
            return

        def run() -> None:
            with java_errors("Closing a TrackMate session"):
                for view in self.views[:1]:  # the overlay on the image
                    view.clear()
                own = self.image.getWindow() if self.image is not None else None
                for one in self.windows:  # a hidden one, too, keeps Java's threads and so Python from ending
                    if one != own:
                        one.dispose()
                if image and self.image is not None:
                    self.image.changes = False
                    self.image.close()

        on_swing(run)
        self.views, self.windows = [], []


def show(
    fiji: Any, tracks: Tracks, image: Any = None, *, track_scheme: bool = False, window: bool = True
) -> TrackMateSession:
    """Show an annotation in TrackMate: overlay on the image, TrackMate's window, TrackScheme.

    Args:
        fiji: The started Fiji (:func:`howdah.bridge.start`), or None where a Java with TrackMate runs already.
        tracks: The annotation, in the units of the image.
        image: An ``ij.ImagePlus``, or the path of a file that ImageJ opens; without one TrackMate shows a black image.
        track_scheme: Whether to open TrackScheme too.
        window: Whether to open TrackMate's own window (filters, colours, save).

    Raises:
        BridgeError: There is no display; the image cannot be opened; spots lie outside of it or after its last frame.
        BdvIoError: The annotation is not consistent.
    """
    need_display("Showing tracks in TrackMate")
    session = _session(model_of(tracks), _image(image), None, None)
    _check_image(tracks, session.image)
    session.show(track_scheme=track_scheme, window=window)
    return session


def load(path: str | os.PathLike[str], *, image: Any = None, windows: bool = True) -> TrackMateSession:
    """Load a TrackMate file as TrackMate does: with image, settings, colours, and its windows.

    Args:
        path: The XML file.
        image: An ``ij.ImagePlus`` in the place of the one that the file names; by default that one is opened, and where it
            is not found, a black image of the right size stands for it.
        windows: Whether to open the windows; without them it works without a display.

    Raises:
        MissingDataError: There is no such file.
        BridgeError: TrackMate cannot read it, or there is no display for the windows.
    """
    file = Path(path)
    if not file.is_file():
        raise MissingDataError(f"Loading the TrackMate file {file} failed: there is no such file.")
    if windows:
        need_display(f"Loading {file} into TrackMate")
    with java_errors(f"Loading {file} into TrackMate"):
        reader = java_class(TRACKMATE + "io.TmXmlReader")(java_class("java.io.File")(str(file)))
    model = read_model(reader, str(file))
    with java_errors(f"Loading {file} into TrackMate"):
        found = image if image is not None else reader.readImage()
        if found is None:
            log.warning("%s: its image was not found; a black one stands for it.", file)
            found = _blank(model)
        settings = reader.readSettings(found)
        display = reader.getDisplaySettings()
        session = _session(model, found, settings, display)
        session.log = _text(reader.getLog())
    if windows:
        session.show()
    return session


def open_sessions() -> list[TrackMateSession]:
    """Return the TrackMate sessions whose image is open, also those that a person opened from the menu.

    Raises:
        BridgeError: No Java is running, or it has no TrackMate.
    """
    with java_errors("Looking for open TrackMate sessions"):
        found = []
        for trackmate in _registry():
            image = trackmate.getSettings().imp
            if image is None or image.getWindow() is None or trackmate.getModel() is None:
                continue
            session = _session(trackmate.getModel(), image, trackmate.getSettings(), _display_of(image), trackmate)
            session.own = False
            found.append(session)
        return found


# ---- parts of a session ----------------------------------------------------------------------------------------------


def _session(model: Any, image: Any, settings: Any, display: Any, trackmate: Any = None) -> TrackMateSession:
    with java_errors("Making a TrackMate session"):
        found = _blank(model) if image is None else image
        if settings is None:
            settings = java_class(TRACKMATE + "Settings")(found)
            settings.addAllAnalyzers()
            _by_hand(settings)
        _declare(model, settings)
        _say_where(settings, found)
        if trackmate is None:
            trackmate = java_class(TRACKMATE + "TrackMate")(model, settings)
            _registry(add=trackmate)
        if display is None:
            defaults = java_class(TRACKMATE + "gui.displaysettings.DisplaySettingsIO").readUserDefault()
            display = defaults.copy("CurrentDisplaySettings")
            _spread(model, display)
        return TrackMateSession(trackmate, java_class(TRACKMATE + "SelectionModel")(model), display)


def _declare(model: Any, settings: Any) -> None:
    """Declare to the model what the analyzers of the settings compute, as TrackMate does when it loads a file."""
    features = model.getFeatureModel()
    for analyzers, declare in (
        (settings.getSpotAnalyzerFactories(), features.declareSpotFeatures),
        (settings.getEdgeAnalyzers(), features.declareEdgeFeatures),
        (settings.getTrackAnalyzers(), features.declareTrackFeatures),
    ):
        for one in analyzers:
            declare(
                one.getFeatures(),
                one.getFeatureNames(),
                one.getFeatureShortNames(),
                one.getFeatureDimensions(),
                one.getIsIntFeature(),
            )


def _by_hand(settings: Any) -> None:
    """Say that spots and tracks were made elsewhere: of a file that says nothing TrackMate complains whenever it is opened."""
    for name, factory, values in (
        ("detection.ManualDetectorFactory", "detectorFactory", "detectorSettings"),
        ("tracking.manual.ManualTrackerFactory", "trackerFactory", "trackerSettings"),
    ):
        made = java_class(TRACKMATE + name)()
        setattr(settings, factory, made)
        setattr(settings, values, made.getDefaultSettings())


def _spread(model: Any, display: Any) -> None:
    """Let the colours of tracks run over all tracks; TrackMate's own default is the first ten."""
    count = int(model.getTrackModel().nTracks(True))
    if str(display.getTrackColorByFeature()) == "TRACK_INDEX" and count > 1:
        display.setTrackMinMax(0.0, float(count - 1))


def _say_where(settings: Any, image: Any) -> None:
    """Give settings the folder of the image, which they lack where the file lay beside the image: a copy would not find it."""
    info = image.getOriginalFileInfo()
    if not _text(settings.imageFolder) and info is not None and _text(info.directory):
        settings.imageFolder = info.directory
        settings.imageFileName = info.fileName


def _registry(*, add: Any = None, remove: Any = None) -> list[Any]:
    """SciJava's list of objects, in which TrackMate enters its sessions, so that scripts find them."""
    context = java_class(TRACKMATE + "util.TMUtils").getContext()
    service = context.service(java_class("org.scijava.object.ObjectService").class_)
    if add is not None:
        service.addObject(add)
    if remove is not None:
        service.removeObject(remove)
    return list(service.getObjects(java_class(TRACKMATE + "TrackMate").class_))


def _display_of(image: Any) -> Any:
    """The display settings by which an image shows its spots, or None: its overlay has them."""
    overlay = image.getOverlay()
    kind = java_class(TRACKMATE + "visualization.hyperstack.SpotOverlay")
    for roi in overlay if overlay is not None else ():
        if isinstance(roi, kind):
            held = kind.class_.getDeclaredField("displaySettings")
            held.setAccessible(True)
            return held.get(roi)
    return None


def _blank(model: Any) -> Any:
    return java_class(TRACKMATE + "visualization.ViewUtils").makeEmpytImagePlus(model)


def _image(image: Any) -> Any:
    if image is None or not isinstance(image, (str, os.PathLike)):
        return image
    return open_imageplus(Path(image))


def _check_image(tracks: Tracks, image: Any) -> None:
    """Refuse an image on which TrackMate would draw the tracks at the wrong place or time."""
    if not tracks.n_spots:
        return
    title = str(image.getTitle())
    (_, pixel_y, pixel_x), unit, _ = calibration_of(image)
    if _plain(unit) != _plain(tracks.space_unit):
        log.warning("The tracks are in '%s', the image '%s' is calibrated in '%s'.", tracks.space_unit, title, unit)
    end = np.array([int(image.getHeight()) * pixel_y, int(image.getWidth()) * pixel_x])
    outside = ((tracks.centre[:, 1:] < -0.5 * end) | (tracks.centre[:, 1:] > 1.5 * end)).any(axis=1)
    if outside.mean() > MOST_OUTSIDE:
        low, high = tracks.centre[:, 1:].min(axis=0), tracks.centre[:, 1:].max(axis=0)
        raise BridgeError(
            f"Showing tracks on '{title}' failed: {int(outside.sum())} of {tracks.n_spots} spots would lie far outside of it. They reach "
            f"from y, x = {low[0]:g}, {low[1]:g} to {high[0]:g}, {high[1]:g} {tracks.space_unit}; the image is {end[0]:g} x {end[1]:g} "
            f"{unit}. Set its unit and pixel size in Image > Properties."
        )
    frames, slices = int(image.getNFrames()), int(image.getNSlices())
    if tracks.n_frames > frames:
        swapped = frames == 1 and slices >= tracks.n_frames
        advice = (
            f"Its {slices} slices look like frames: image.setDimensions({image.getNChannels()}, 1, {slices})."
            if swapped
            else "Check that it is the right image and that all of it was opened."
        )
        raise BridgeError(
            f"Showing tracks on '{title}' failed: they have {tracks.n_frames} frames, the image {frames}. {advice}"
        )


def _plain(unit: str) -> str:
    plain = unit.strip().lower()
    return "µm" if plain in MICROMETRE else "pixel" if plain in PIXEL else plain


def _text(value: Any) -> str:
    """A Java text as Python's; Java's null is empty."""
    return "" if value is None else str(value)
