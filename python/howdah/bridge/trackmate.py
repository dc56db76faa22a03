"""TrackMate's live model: an annotation in, an annotation out.

Both ways go through TrackMate's own XML reader and writer and a file that lives for a moment. That takes 10⁵ spots there and
back in about five seconds, needs no Java call a spot, gives TrackMate everything that a file gives it (outlines, declared
features, names, visible tracks), and does not depend on how its classes look in the next version.

Read on in :mod:`trackmate_changes` (changing a model that is open) and :mod:`trackmate_session` (windows, loading, saving).
"""

from __future__ import annotations

import logging
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bdv_io.trackmate import read_trackmate, write_trackmate
from bdv_io.tracks import Tracks
from howdah.bridge.java_classes import java_class, java_errors
from howdah.errors import BridgeError

__all__ = ["TRACKMATE", "model_of", "read_model", "tracks_of", "version_of_trackmate", "writer_of"]

log = logging.getLogger(__name__)

TRACKMATE = "fiji.plugin.trackmate."


def model_of(tracks: Tracks) -> Any:
    """Return a new ``fiji.plugin.trackmate.Model`` of an annotation.

    Spots keep their ids, names, radii and outlines (of each the largest ring); features are declared and filled, also the
    ones that keep ellipsoids and tags; tracks are visible as the annotation says. Units are the annotation's.

    Raises:
        BdvIoError: The annotation is not consistent.
        BridgeError: No Java is running, it has no TrackMate, or TrackMate refuses.
    """
    java_class(TRACKMATE + "Model")  # before any work is done
    with tempfile.TemporaryDirectory(prefix="howdah-") as folder:
        file = Path(folder) / "model.xml"
        write_trackmate(file, tracks)
        reader = java_class(TRACKMATE + "io.TmXmlReader")(java_class("java.io.File")(str(file)))
        return read_model(reader, "the annotation")


def read_model(reader: Any, name: str) -> Any:
    """Return the model of a ``TmXmlReader``; ``name`` says of what, for messages."""
    with java_errors(f"Giving {name} to TrackMate"):
        model = reader.getModel() if reader.isReadingOk() else None
        said = " ".join(str(reader.getErrorMessage()).split())
    if model is None:
        raise BridgeError(f"Giving {name} to TrackMate failed; it says: {said or 'nothing'}.")
    if said:
        log.warning("TrackMate says of %s: %s", name, said)
    return model


def tracks_of(model: Any, *, settings: Any = None) -> Tracks:
    """Return the annotation of a ``fiji.plugin.trackmate.Model``, spots in order of frame, then id.

    Args:
        model: The model; while it is read, nobody else can change it.
        settings: Its ``Settings``, where known: they say the image and the frame interval, and are carried, so that
            a TrackMate file written from the annotation has them. Without them the interval follows from the spots' times.

    Raises:
        BdvIoError: The model holds what an annotation cannot be (two spots of one id).
        BridgeError: TrackMate refuses.
    """
    with tempfile.TemporaryDirectory(prefix="howdah-") as folder:
        file = Path(folder) / "model.xml"
        with java_errors("Reading TrackMate's model"):
            writer = writer_of(file, model, settings)
            writer.writeToFile()
        tracks = read_trackmate(file)
        named = tracks.attributes.get("image", "")
        if named and Path(named).parent == file.parent:  # an image without a folder was looked for beside the file
            tracks = replace(tracks, attributes={k: v for k, v in tracks.attributes.items() if k != "image"})
    tracks = tracks.select(np.lexsort((tracks.id, tracks.t)))  # TrackMate's own order is another one at each call
    tracks = tracks.select_links(np.lexsort(tracks.links.T[::-1]))
    return tracks if settings is not None else _with_interval(tracks)


def writer_of(file: Path, model: Any, settings: Any) -> Any:
    """Return a ``TmXmlWriter`` for a file that holds model and settings already, but has not written yet."""
    import jpype

    silent = java_class(TRACKMATE + "Logger").VOID_LOGGER
    writer = java_class(TRACKMATE + "io.TmXmlWriter")(java_class("java.io.File")(str(file)), silent)
    with jpype.synchronized(model):
        writer.appendModel(model)
    if settings is not None:
        writer.appendSettings(settings)
    return writer


def _with_interval(tracks: Tracks) -> Tracks:
    """The annotation with the interval that the times of its spots tell, where they all tell the same."""
    time = tracks.feature("POSITION_T")
    later = tracks.t > 0
    if time is None or tracks.interval is not None or not later.any():
        return tracks
    steps = np.asarray(time.values, dtype=np.float64)[later] / tracks.t[later]
    step = float(np.median(steps))
    told = np.isfinite(step) and step > 0 and np.allclose(steps, step, rtol=1e-6, atol=0)
    plain = step == 1.0 and tracks.time_unit in ("frame", "frames")
    return replace(tracks, interval=step) if told and not plain else tracks


def version_of_trackmate() -> str:
    """Return TrackMate's version, such as ``8.1.6``; empty where it does not say."""
    name = java_class(TRACKMATE + "TrackMate").PLUGIN_NAME_VERSION
    return str(name or "")
