"""Reading and writing whole projects."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from bdv_io.errors import FormatError, WriteError
from bdv_io.image import ImageSeries
from bdv_io.mastodon.container import MODEL, PROJECT, Data, is_project, read_entries, write_entries
from bdv_io.mastodon.feature_files import QUALITY, SPOT_CONTAINER, read_feature, write_features
from bdv_io.mastodon.model_file import BOUNDING, IN_PLACE, OUT_PLACE, TRACE, read_model, trace_of, write_model
from bdv_io.mastodon.project_file import ProjectFile, read_project_file
from bdv_io.mastodon.sidecar import SIDECAR, lost_in_mastodon, sidecar_of, with_sidecar
from bdv_io.mastodon.tag_file import read_tags, write_tags
from bdv_io.safe_write import replacing
from bdv_io.tags import Feature
from bdv_io.tracks import Carried, Tracks

__all__ = ["is_mastodon", "lost_in_mastodon", "read_mastodon", "tracks_of_entries", "write_mastodon"]

FORMAT = "mastodon"
TAGS, GUI = "tags.raw", "gui.xml"
ROW = "row"  # the index that each spot had in the file
EMPTY_GUI = b'<?xml version="1.0" encoding="UTF-8"?>\n<MamutGui version="0.3">\n  <Windows />\n</MamutGui>\n'
FEATURES, RAW = "features/", ".raw"
log = logging.getLogger("bdv_io")


def is_mastodon(path: str | os.PathLike[str]) -> bool:
    """Whether a zip file or a folder is a Mastodon project (by its entries, not by its name)."""
    return is_project(Path(path))


def read_mastodon(path: str | os.PathLike[str]) -> Tracks:
    """Read a project.

    Args:
        path: A ``.mastodon`` file, or a project folder.

    Returns:
        The annotation. ``id`` is the index in the file; labels are those that are stored (Mastodon shows its internal
        number for the others). ``attributes``: ``image`` (resolved path), ``image_stored`` (as in the file),
        ``image_missing`` (``"yes"`` if it is not there), ``version``.

    Raises:
        MissingDataError: There is no such file.
        FormatError: It is no project, or damaged; the sentence says where.
    """
    project = Path(path)
    return tracks_of_entries(read_entries(project), project)


def tracks_of_entries(entries: Mapping[str, Data], project: Path) -> Tracks:
    """Return the annotation that the entries of a project hold, wherever they come from; ``project`` is where it lies.

    Raises:
        FormatError: An entry is damaged; the sentence says which.
    """
    header = read_project_file(entries[PROJECT], f"{PROJECT} of {project}")
    model = read_model(entries[MODEL], f"{MODEL} of {project}")
    n, m = len(model.t), len(model.links)
    tag_sets = read_tags(entries[TAGS], f"{TAGS} of {project}", n_spots=n, n_links=m) if TAGS in entries else ()
    features = _read_features(entries, project, (n, m))
    quality = next((f for f in features if (f.name, f.projection) == (SPOT_CONTAINER, QUALITY)), None)
    carried = {name: bytes(data) for name, data in entries.items() if name not in (MODEL, SIDECAR)}
    tracks = Tracks(
        t=model.t,
        centre=model.centre,
        covariance=model.covariance,
        label=model.label,
        quality=np.full(n, np.nan) if quality is None else quality.values.astype(np.float64),
        id=np.arange(n, dtype=np.int64),
        links=model.links,
        tag_sets=tag_sets,
        features=tuple(feature for feature in features if feature is not quality),
        space_unit="pixel" if header.space_unit is None else header.space_unit,
        time_unit="frame" if header.time_unit is None else header.time_unit,
        carried=Carried(
            FORMAT,
            carried,
            {BOUNDING: model.bounding, TRACE: trace_of(model.covariance), ROW: np.arange(n)},
            {OUT_PLACE: model.out_place, IN_PLACE: model.in_place},
            n,
            m,
        ),
        attributes=_attributes(header, project),
    )
    return with_sidecar(
        tracks,
        {name: bytes(entries[name]) for name in (MODEL, SIDECAR) if name in entries},
        model=MODEL,
        name=str(project),
    )


def _read_features(entries: Mapping[str, Data], project: Path, shape: tuple[int, int]) -> list[Feature]:
    found: list[Feature] = []
    for name, data in entries.items():
        key = _feature_key(name)
        if key is not None:
            known = read_feature(data, key, n_spots=shape[0], n_links=shape[1], name=f"{name} of {project}")
            found += known or []
    return found


def _feature_key(name: str) -> str | None:
    return name[len(FEATURES) : -len(RAW)] if name.startswith(FEATURES) and name.endswith(RAW) else None


def _attributes(header: ProjectFile, project: Path) -> dict[str, str]:
    attributes = {"version": header.version, "image_stored": header.image}
    image = header.image_path(project)
    if image is None:
        return attributes
    attributes["image"] = str(image)
    try:
        there = image.exists()
    except (OSError, ValueError):  # no name that a file may have
        there = False
    if image.suffix != ".dummy" and not there:
        attributes["image_missing"] = "yes"
        log.warning(
            "The image of %s is not there: %s (stored as '%s'). The annotation is read without it.",
            project,
            image,
            header.image,
        )
    return attributes


def write_mastodon(
    path: str | os.PathLike[str],
    tracks: Tracks,
    *,
    image: ImageSeries | str | os.PathLike[str] | None = None,
    keep_previous: bool = True,
) -> None:
    """Write a project; a folder where ``path`` is one, else a zip file.

    Spots get the index of their row. Uninterpreted features that are keyed by index are dropped, with a line in the log, if
    spots or links that the file had are gone or stand elsewhere.

    Args:
        path: The project.
        tracks: The annotation.
        image: The movie, or its path; by default the one that the annotation was read with. It is named relative to
            the project.
        keep_previous: Keep what was there as ``name~1~``.

    Raises:
        FormatError: A label is too long for the format.
        WriteError, BusyError: See :func:`bdv_io.safe_write.replacing`.
    """
    target = Path(path)
    entries = _entries(target, tracks, image)

    def verify(written: Path) -> None:
        again = read_model(read_entries(written)[MODEL], f"{MODEL} of {written}")
        same = (
            np.array_equal(again.t, tracks.t)
            and np.array_equal(again.centre, tracks.centre)
            and np.array_equal(again.links, tracks.links)
        )
        if not same:
            raise FormatError(
                f"Writing {target} failed: it does not read back as it was meant. The old file is intact."
            )

    if target.is_dir() and not is_project(target) and any(target.iterdir()):
        raise WriteError(
            f"Writing {target} failed: it is a folder that holds other things than a Mastodon project. Choose another name."
        )
    with replacing(target, verify=verify, keep_previous=keep_previous, folder=True) as temporary:
        write_entries(temporary, entries, instead_of=target)


def _entries(target: Path, tracks: Tracks, image: ImageSeries | str | os.PathLike[str] | None) -> dict[str, bytes]:
    own = tracks.carried if tracks.carried.format == FORMAT else Carried()
    fresh = {MODEL: write_model(tracks), TAGS: write_tags(tracks)}
    features = {f"{FEATURES}{key}{RAW}": data for key, data in write_features(tracks).items()}
    entries = {PROJECT: _header(target, tracks, own, image).to_bytes(), **fresh}
    same_rows = _same_rows(tracks, own)
    for name, data in own.entries.items():
        key = _feature_key(name)
        if name == PROJECT or (name == TAGS and not _same_tags(data, tracks)):
            continue
        if key is None:
            entries[name] = data
        elif name in features:
            entries[name] = _kept(data, features.pop(name), key, tracks, same_rows=same_rows)
        elif same_rows and not _decodes(data, key, own):
            entries[name] = data
        elif not _decodes(data, key, own):
            log.info(
                "The feature '%s' is dropped from %s: it is not interpreted, and spots or links have changed.",
                key,
                target,
            )
    entries |= features
    entries.setdefault(GUI, EMPTY_GUI)
    sidecar = sidecar_of(tracks, fresh[MODEL])
    if sidecar is not None:
        entries[SIDECAR] = sidecar
    return entries


def _header(
    target: Path, tracks: Tracks, own: Carried, image: ImageSeries | str | os.PathLike[str] | None
) -> ProjectFile:
    source = own.entries.get(PROJECT)
    header = read_project_file(source, PROJECT) if source else ProjectFile()
    if header.space_unit is not None or tracks.space_unit != "pixel":
        header = replace(header, space_unit=tracks.space_unit)
    if header.time_unit is not None or tracks.time_unit != "frame":
        header = replace(header, time_unit=tracks.time_unit)
    movie = image.path if isinstance(image, ImageSeries) else image
    if movie is None:
        movie = tracks.attributes.get("image")
    if movie is None or header.image_path(target) == Path(movie).absolute():
        return header
    return header.with_image(target, Path(movie))


def _same_rows(tracks: Tracks, own: Carried) -> bool:
    """Whether the spots and links that the file had are all there, at their old index."""
    if tracks.n_spots < own.n_spots or tracks.n_links < own.n_links:
        return False
    places = own.links.get(OUT_PLACE)
    links_stay = places is None or bool((places[: own.n_links] >= 0).all())
    rows = own.spots.get(ROW)
    return links_stay and rows is not None and np.array_equal(rows[: own.n_spots], np.arange(own.n_spots))


def _same_tags(data: bytes, tracks: Tracks) -> bool:
    """Whether stored tags say what the annotation says: then they are written back byte for byte."""
    stored = read_tags(data, TAGS, n_spots=tracks.n_spots, n_links=tracks.n_links)
    return len(stored) == len(tracks.tag_sets) and all(
        old.name == new.name
        and old.tags == new.tags
        and np.array_equal(old.spots, new.spots)
        and np.array_equal(old.links, new.links)
        for old, new in zip(stored, tracks.tag_sets, strict=True)
    )


def _decodes(data: bytes, key: str, own: Carried) -> bool:
    return read_feature(data, key, n_spots=own.n_spots, n_links=own.n_links, name=key) is not None


def _kept(old: bytes, new: bytes, key: str, tracks: Tracks, *, same_rows: bool) -> bytes:
    """The stored bytes if they say the same as the new ones (their entries may stand in another order)."""
    if not same_rows or len(old) != len(new):
        return new
    shape = {"n_spots": tracks.n_spots, "n_links": tracks.n_links, "name": key}
    before, after = read_feature(old, key, **shape), read_feature(new, key, **shape)  # type: ignore[arg-type]
    if before is None or after is None or len(before) != len(after):
        return new
    for a, b in zip(before, after, strict=True):
        known, kept = (np.ones(len(f.values), dtype=bool) if f.defined is None else f.defined for f in (a, b))
        same = a.key == b.key and a.units == b.units and np.array_equal(known, kept)
        if not same or not np.array_equal(a.values, b.values, equal_nan=a.values.dtype.kind == "f"):
            return new
    return old
