"""Mastodon's model as columns, in bulk: Mastodon writes its own files into memory, and our reader reads them.

No spot crosses from Java to Python alone. A million spots take seconds.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bdv_io.mastodon.project import tracks_of_entries
from bdv_io.mastodon.project_file import ProjectFile
from bdv_io.tracks import Tracks
from howdah.bridge.java_classes import java_class, java_errors
from howdah.bridge.mastodon_java import bytes_of
from howdah.bridge.mastodon_loops import Loops, spot_ids

__all__ = ["MemoryProject", "entries_of", "tracks_of_model"]

log = logging.getLogger("howdah")
WRITER = "org.mastodon.mamut.io.project.MamutProject$ProjectWriter"


class MemoryProject:
    """A project writer for Mastodon whose files are arrays in memory. Its methods have Mastodon's names."""

    def __init__(self) -> None:
        self.streams: dict[str, Any] = {}

    def _stream(self, name: str) -> Any:
        self.streams[name] = stream = java_class("java.io.ByteArrayOutputStream")()
        return stream

    def getProjectXmlOutputStream(self) -> Any:  # noqa: N802  Mastodon's name
        """Return the stream for project.xml."""
        return self._stream("project.xml")

    def getRawModelOutputStream(self) -> Any:  # noqa: N802
        """Return the stream for model.raw."""
        return self._stream("model.raw")

    def getRawTagsOutputStream(self) -> Any:  # noqa: N802
        """Return the stream for tags.raw."""
        return self._stream("tags.raw")

    def getFeatureOutputStream(self, key: Any) -> Any:  # noqa: N802
        """Return the stream for one feature."""
        return self._stream(f"features/{key}.raw")

    def getGuiOutputStream(self) -> Any:  # noqa: N802
        """Return the stream for gui.xml."""
        return self._stream("gui.xml")

    def getBackupDatasetXmlOutputStream(self) -> Any:  # noqa: N802
        """Return the stream for the copy of the dataset's XML."""
        return self._stream("dataset.xml.backup")

    def close(self) -> None:
        """Do nothing: memory needs no closing."""

    def proxy(self) -> Any:
        """Return the Java object that Mastodon writes to."""
        import jpype

        return jpype.JProxy(java_class(WRITER), inst=self)

    def entries(self) -> dict[str, bytes]:
        """Return name -> content of what was written."""
        return {name: bytes_of(stream.toByteArray()) for name, stream in self.streams.items()}


def entries_of(model: Any, context: Any, *, features: bool = True, branches: bool = True) -> dict[str, bytes]:
    """Return the entries that Mastodon would save for a model: model.raw, tags.raw and one a feature.

    The caller holds the model's read lock, or its write lock; with the latter, branches must be left out: Mastodon's
    windows take the lock of the branches first.

    Args:
        model: Mastodon's ``Model``.
        context: The SciJava context, for the features' writers.
        features: Whether to write features.
        branches: Whether to write features of branches, too; the branch graph must be in step.
    """
    memory = MemoryProject()
    writer = memory.proxy()
    with java_errors("Reading the model from Mastodon"):
        ids = model.saveRaw(writer)
        if features and branches:
            java_class("org.mastodon.mamut.feature.MamutRawFeatureModelIO").serialize(context, model, ids, writer)
        elif features:
            _features(model, context, ids, memory)
        return memory.entries()


def _features(model: Any, context: Any, ids: Any, memory: MemoryProject) -> None:
    known = model.getFeatureModel()
    writers = context.getService(java_class("org.mastodon.feature.io.FeatureSerializationService").class_)
    targets = {"org.mastodon.mamut.model.Spot": ids.vertices(), "org.mastodon.mamut.model.Link": ids.edges()}
    for spec in list(known.getFeatureSpecs()):
        feature, target = known.getFeature(spec), str(spec.getTargetClass().getName())
        serializer = writers.getFeatureSerializerFor(feature.getSpec())
        if serializer is None or target not in targets:
            continue
        stream = java_class("java.io.ObjectOutputStream")(memory.getFeatureOutputStream(str(spec.getKey())))
        serializer.serialize(feature, targets[target], stream)
        stream.close()


def tracks_of_model(
    model: Any, context: Any, by: Loops, *, image: Path | None, root: Path, features: bool = True, branches: bool = True
) -> Tracks:
    """Return the annotation that a model holds. ``id`` is Mastodon's own number of each spot (its label shows it).

    Args:
        model: Mastodon's ``Model``. The caller holds its read lock.
        context: The SciJava context, for the features' writers.
        by: The loops of this Java.
        image: Path of the movie.
        root: Where the project lies, for error sentences.
        features: Whether to read features and qualities, too.
        branches: Whether to read features of branches, too; see :func:`entries_of`.
    """
    entries = entries_of(model, context, features=features, branches=branches)
    with java_errors("Reading the model from Mastodon"):
        ids = spot_ids(model, by)
    header = ProjectFile(
        image="" if image is None else str(image),
        relative=False,
        space_unit=_text(model.getSpaceUnits()),
        time_unit=_text(model.getTimeUnits()),
    )
    tracks = tracks_of_entries({"project.xml": header.to_bytes(), **entries}, root)
    only_columns = replace(tracks.carried, entries={})
    return replace(tracks, id=ids.astype(np.int64), carried=only_columns)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
