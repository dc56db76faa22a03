"""Finding what a user names: a spot by its id, its label or its place, a tag by its set and name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from bdv_io.tags import UNTAGGED
from bdv_io.tracks import Tracks
from howdah.errors import DataError

__all__ = ["chosen_tag", "find_spot", "find_spots"]

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
PLACE = re.compile(rf"\s*(\d+)\s*,\s*({NUMBER})\s*,\s*({NUMBER})\s*,\s*({NUMBER})\s*")
SHOWN = 5
FAR = 10.0  # radii; a place further than that from every spot is a mistake


def find_spot(tracks: Tracks, name: int | str) -> int:
    """Return the row of a spot.

    Args:
        tracks: The annotation.
        name: Its id (``12``, ``"12"``, ``"id:12"``), its label (``"P4a"``, ``"label:12"``), or the frame and a place in world
            units near its centre (``"3,10.5,220,180"``: t, z, y, x).

    Raises:
        DataError: There is none, or several; the sentence names the nearest.
    """
    text = str(name).strip()
    if isinstance(name, str) and (place := PLACE.fullmatch(text)):
        return _at(tracks, int(place[1]), np.array([float(place[i]) for i in (2, 3, 4)]))
    kind, _, rest = text.partition(":")
    if kind == "label" and rest:
        return _labelled(tracks, rest)
    digits = rest if kind == "id" else text
    if not re.fullmatch(r"-?\d{1,18}", digits):
        return _labelled(tracks, text)
    rows = np.flatnonzero(tracks.id == int(digits))
    if len(rows):
        return int(rows[0])
    if kind != "id" and text in set(tracks.label.tolist()):
        return _labelled(tracks, text)
    near = tracks.id[np.argsort(np.abs(tracks.id - int(digits)), kind="stable")[:SHOWN]].tolist()
    others = f"the nearest are {', '.join(map(str, near))}" if near else "the annotation has no spots"
    raise DataError(f"There is no spot with the id {digits}; {others}.")


def find_spots(tracks: Tracks, names: Iterable[int | str]) -> npt.NDArray[np.intp]:
    """Return the rows of several spots, each once; see :func:`find_spot`."""
    return np.array(list(dict.fromkeys(find_spot(tracks, name) for name in names)), dtype=np.intp)


def chosen_tag(tracks: Tracks, tag_set: str, tag: str) -> tuple[str, str]:
    """Return a tag set and tag that exist.

    Raises:
        DataError: One does not; the sentence lists what there is.
    """
    tags = tracks.tag_set(tag_set)
    if tags is None:
        names = ", ".join(f"'{known.name}'" for known in tracks.tag_sets) or "none"
        raise DataError(f"There is no tag set '{tag_set}'. Tag sets are: {names}.")
    if tags.position(tag) == UNTAGGED:
        listed = [known.name for known in tags.tags]
        more = f" and {len(listed) - 20} more" if len(listed) > 20 else ""
        raise DataError(
            f"The tag set '{tag_set}' has no tag '{tag}'. Its tags are: {', '.join(listed[:20]) or 'none'}{more}."
        )
    return tag_set, tag


def _labelled(tracks: Tracks, label: str) -> int:
    labels = tracks.label.tolist()
    rows = [row for row, known in enumerate(labels) if known == label]
    if len(rows) == 1:
        return rows[0]
    if rows:
        ids = ", ".join(f"{tracks.id[row]} (frame {tracks.t[row]})" for row in rows[:SHOWN])
        more = " ..." if len(rows) > SHOWN else ""
        raise DataError(f"{len(rows)} spots have the label '{label}': {ids}{more}. Choose one by its id.")
    alike = difflib.get_close_matches(label, {known for known in labels if known is not None}, n=SHOWN, cutoff=0.5)
    hint = (
        f"Labels like it: {', '.join(alike)}."
        if alike
        else "Name a spot by its id, its label, or t,z,y,x (world units)."
    )
    raise DataError(f"There is no spot with the label '{label}'. {hint}")


def _at(tracks: Tracks, frame: int, place: npt.NDArray[np.float64]) -> int:
    here = np.flatnonzero((tracks.t == frame) & np.isfinite(tracks.centre).all(axis=1))
    if not len(here):
        known = np.unique(tracks.t)
        close = known[np.argsort(np.abs(known - frame), kind="stable")[:SHOWN]].tolist()
        raise DataError(
            f"Frame {frame} has no spots; the nearest frames with spots are {', '.join(map(str, close)) or 'none'}."
        )
    away = np.linalg.norm(tracks.centre[here] - place, axis=1)
    order = np.argsort(away, kind="stable")
    nearest = int(here[order[0]])
    radius = float(np.linalg.det(tracks.covariance[nearest])) ** (1 / 6)
    if away[order[0]] > FAR * radius:
        listed = "; ".join(
            f"{tracks.id[here[i]]} at {', '.join(f'{v:.6g}' for v in tracks.centre[here[i]])}"
            for i in order[:3].tolist()
        )
        raise DataError(
            f"There is no spot near (z, y, x) = ({', '.join(f'{v:.6g}' for v in place)}) {tracks.space_unit} in frame {frame}. "
            f"The nearest: {listed}."
        )
    return nearest
