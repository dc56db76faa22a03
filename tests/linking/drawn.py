"""Tiny movies that can be drawn: one line a frame, x to the right, one character 1 um."""

from __future__ import annotations

import numpy as np

from bdv_io.tracks import Tracks


def movie(*frames: str, links=(), radius=1.0) -> Tracks:
    """Spots where the strings have letters; links are named by letters, which are unique in a movie."""
    t, x, names = [], [], []
    for frame, line in enumerate(frames):
        for place, letter in enumerate(line):
            if letter != ".":
                t.append(frame)
                x.append(place)
                names.append(letter)
    rows = {name: row for row, name in enumerate(names)}
    centre = np.zeros((len(t), 3))
    centre[:, 2] = x
    pairs = [[rows[a], rows[b]] for a, b in links]
    return Tracks.build(t, centre, radius=radius, label=names, links=np.array(pairs).reshape(-1, 2))


def pairs(tracks: Tracks) -> set[str]:
    return {f"{tracks.label[a]}{tracks.label[b]}" for a, b in tracks.links}
