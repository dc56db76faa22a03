"""The table of tracks: parsing, writing, and the chains that an annotation falls into. No images."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bdv_io.errors import FormatError
from bdv_io.tracks import Tracks
from bdv_io.untrusted import refuse_special

I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

__all__ = ["PARENT", "TRACK", "Chains", "chains_of", "kept_links", "read_table", "table_text"]

TRACK = "CTC track"  # the feature that keeps the number of a track
MOST_BYTES = 128 << 20  # of a table; a line has about 20
PARENT = "parent"  # the carried column of links that came from the table's last column


def read_table(path: Path) -> I64:
    """Read a table of tracks as (K, 4) int64: label, first frame, last frame, parent.

    Raises:
        FormatError: A line is not four whole numbers, or the rows contradict each other; the message names the line.
    """
    refuse_special(path, MOST_BYTES)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"Reading the table of tracks {path} failed: {error}.") from error
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            rows.append([int(cell) for cell in line.split()])
        except ValueError:
            rows.append([])
        if len(rows[-1]) != 4 or not all(0 <= cell < 2**62 for cell in rows[-1]):
            raise FormatError(
                f"Reading the table of tracks {path} failed: line {number} is '{line.strip()[:80]}'; expected four whole numbers "
                "that are not negative: label, first frame, last frame, parent (0 for none)."
            )
    table = np.array(rows, dtype=np.int64).reshape(-1, 4)
    _check(table, path)
    return table


def _check(table: I64, path: Path) -> None:
    label, begin, end, parent = table.T
    wrong: list[tuple[str, Bool]] = []
    known = np.unique(label)
    first_of = np.zeros(len(label), dtype=bool)
    first_of[np.unique(label, return_index=True)[1]] = True
    wrong.append(("has the label 0, which is the background", label == 0))
    wrong.append(("has a label that an earlier row has too", ~first_of))
    wrong.append(("ends before it begins", end < begin))
    wrong.append(("has a parent that the table does not have", (parent > 0) & ~np.isin(parent, known)))
    order = np.argsort(label, kind="stable")
    at = order[np.searchsorted(label, parent, sorter=order).clip(max=max(len(label) - 1, 0))] if len(label) else order
    has_parent = (parent > 0) & (label[at] == parent) if len(label) else np.zeros(0, dtype=bool)
    wrong.append(("begins before its parent, or together with it", has_parent & (begin[at] >= begin)))
    for what, rows in wrong:
        if rows.any():
            row = int(np.flatnonzero(rows)[0])
            shown = " ".join(str(cell) for cell in table[row].tolist())
            raise FormatError(
                f"Reading the table of tracks {path} failed: the track '{shown}' {what} "
                f"({int(rows.sum())} of {len(table)} rows). Correct the table."
            )


def table_text(table: I64) -> str:
    """Return a table as text."""
    return "".join(f"{label} {begin} {end} {parent}\n" for label, begin, end, parent in table.tolist())


class Chains(NamedTuple):
    """Tracks in the sense of the challenge: unbranched chains without gaps.

    Attributes:
        label: (N,) number of the chain that each spot belongs to, from 1.
        table: (K, 4) label, first frame, last frame, parent; ascending by label.
        n_renumbered: Number of chains that could not keep the number they had.
    """

    label: I64
    table: I64
    n_renumbered: int


def kept_links(tracks: Tracks) -> Bool:
    """(M,) mask of links that the table can say: of several parents of a spot, the first is kept."""
    kept = np.zeros(tracks.n_links, dtype=bool)
    kept[np.unique(tracks.links[:, 1], return_index=True)[1]] = True
    return kept


def chains_of(tracks: Tracks) -> Chains:
    """Cut the tracks into chains, at divisions, at gaps, and at parents that the table named when it was read.

    A chain whose spots all have one number in the feature "CTC track" keeps it; of several with the same number the one
    with the first spot. The others are numbered from 1 with the numbers that are free.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = tracks.n_spots
    kept = kept_links(tracks)
    links = tracks.links[kept]
    source, target = links.T
    n_children = np.bincount(source, minlength=n)
    follows = (tracks.t[target] - tracks.t[source] == 1) & (n_children[source] == 1)
    named = tracks.carried.links.get(PARENT)
    if named is not None and tracks.carried.format == "ctc":
        follows &= named[kept] != 1  # -1 stands for links that were made since
    inner = links[follows]
    ones = np.ones(len(inner), dtype=np.int8)
    graph = coo_array((ones, (inner[:, 0], inner[:, 1])), shape=(n, n)).tocsr()
    count, chain = connected_components(graph, directed=False)
    begin = np.full(count, np.iinfo(np.int64).max)
    end = np.full(count, -1, dtype=np.int64)
    np.minimum.at(begin, chain, tracks.t)
    np.maximum.at(end, chain, tracks.t)
    number, n_renumbered = _numbers(tracks, chain.astype(np.int64), begin)
    parent = np.zeros(count, dtype=np.int64)
    parent[chain[target[~follows]]] = number[chain[source[~follows]]]
    table = np.stack([number, begin, end, parent], axis=1)
    return Chains(number[chain], table[np.argsort(number)], n_renumbered)


def _numbers(tracks: Tracks, chain: I64, begin: I64) -> tuple[I64, int]:
    """Number (K,) of each chain, and how many lost the one they had."""
    count = len(begin)
    wanted = np.zeros(count, dtype=np.int64)
    feature = tracks.feature(TRACK)
    if feature is not None and count:
        had = np.where(np.isfinite(feature.values), feature.values, 0).astype(np.int64)
        if feature.defined is not None:
            had = np.where(feature.defined, had, 0)
        low, high = np.full(count, np.iinfo(np.int64).max), np.zeros(count, dtype=np.int64)
        np.minimum.at(low, chain, had)
        np.maximum.at(high, chain, had)
        wanted = np.where((low == high) & (low > 0) & (low < 2**32), low, 0)
    by_begin = np.lexsort((begin, wanted))
    first = np.ones(count, dtype=bool)
    first[1:] = wanted[by_begin][1:] != wanted[by_begin][:-1]
    keeps = np.zeros(count, dtype=bool)
    keeps[by_begin] = first
    keeps &= wanted > 0
    if wanted[keeps].size and count <= 65535 < int(wanted[keeps].max()):
        keeps[:] = (
            False  # numbers that need 32 bits although there are fewer tracks: from 1, as the official tools want
        )
    number = np.where(keeps, wanted, 0)
    free = np.setdiff1d(np.arange(1, count + keeps.sum() + 1), number[keeps])
    fresh = np.flatnonzero(~keeps)
    order = fresh[np.argsort(begin[fresh], kind="stable")]
    number[order] = free[: len(order)]
    return number, int((~keeps & (wanted > 0)).sum())
