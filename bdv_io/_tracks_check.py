"""What can be wrong with an annotation, each kind said in one sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from bdv_io.tags import Feature, TagSet
    from bdv_io.tracks import Tracks

Bool = npt.NDArray[np.bool_]

__all__ = ["contradictions", "oddities", "positive_definite", "problems"]

SHOWN = 3
ROUNDING = 1e-9  # a covariance that was computed may be that much askew, relative to its trace


def problems(tracks: Tracks) -> list[str]:
    """Return one sentence for each kind of problem in ``tracks``; an empty list if there is none."""
    return contradictions(tracks) + oddities(tracks)


def oddities(tracks: Tracks) -> list[str]:
    """Return what no annotation should have, but files of other programs do: they can be kept and written back."""
    found = []
    with np.errstate(over="ignore", invalid="ignore"):
        finite = np.isfinite(tracks.centre.sum(axis=1))
    if not finite.all():
        found.append(f"{_rows(~finite, 'spot')} centres that are not finite numbers.")
    good = positive_definite(tracks.covariance)
    if not good.all():
        found.append(
            f"{_rows(~good, 'spot')} covariances that are not symmetric and positive definite, so no ellipsoids."
        )
    if _outside(tracks).any():
        return found
    t, links = tracks.t, tracks.links
    backward = np.greater_equal(t[links[:, 0]], t[links[:, 1]])
    if backward.any():
        found.append(
            f"{_rows(backward, 'link')} a source that is not earlier than the target; links run forward in time."
        )
    keys = links[:, 0] * tracks.n_spots + links[:, 1]
    if not (keys[1:] > keys[:-1]).all():
        ordered = np.sort(keys)
        twice = ordered[1:][ordered[1:] == ordered[:-1]]
        if len(twice):
            source, target = divmod(int(twice[0]), tracks.n_spots)
            found.append(f"{len(twice)} links occur more than once, the first joins spots {source} and {target}.")
    return found


def contradictions(tracks: Tracks) -> list[str]:
    """Return what no annotation can have: nothing could be done with it."""
    found = _spot_problems(tracks)
    outside = _outside(tracks)
    if outside.any():
        found.append(f"{_rows(outside, 'link')} ends that are no spots (there are {tracks.n_spots}).")
    for tags in tracks.tag_sets:
        found += _tag_problems(tags, tracks)
    for feature in tracks.features:
        found += _feature_problems(feature, tracks)
    found += tracks.outlines.problems(tracks.n_spots)
    found += _name_problems(tracks)
    if tracks.interval is not None and not 0 < tracks.interval < np.inf:
        found.append(
            f"The frame interval is {tracks.interval}; it must be a positive number, or None if it is not known."
        )
    return found


def positive_definite(covariance: npt.NDArray[np.float64]) -> Bool:
    """Return the (N,) mask of 3x3 matrices that are symmetric (but for rounding) with positive eigenvalues (Sylvester)."""
    with np.errstate(over="ignore", invalid="ignore"):  # infinite entries are not positive definite either
        a, b, c = covariance[:, 0, 0], covariance[:, 0, 1], covariance[:, 0, 2]
        d, e, f = covariance[:, 1, 1], covariance[:, 1, 2], covariance[:, 2, 2]
        minor = a * d - b * b
        determinant = f * minor - e * (a * e - b * c) + c * (b * e - c * d)
        skew = np.abs(b - covariance[:, 1, 0]) + np.abs(c - covariance[:, 2, 0]) + np.abs(e - covariance[:, 2, 1])
        trace = a + d + f
        symmetric = skew <= ROUNDING * trace
        good: Bool = (a > 0) & (minor > 0) & (determinant > 0) & symmetric & (trace < np.inf)
    return good


def _spot_problems(tracks: Tracks) -> list[str]:
    found = []
    if tracks.n_spots and tracks.t.min() < 0:
        found.append(f"{_rows(tracks.t < 0, 'spot')} negative frames; frames count from 0.")
    ids = tracks.id
    if len(ids) > 1 and not (ids[1:] > ids[:-1]).all():
        ordered = np.sort(ids)
        twice = ordered[1:][ordered[1:] == ordered[:-1]]
        if len(twice):
            found.append(f"{len(twice)} ids occur more than once, the first is {twice[0]}; ids must be unique.")
    return found


def _outside(tracks: Tracks) -> Bool:
    links = tracks.links
    if not len(links) or (
        links.min() >= 0 and links.max() < tracks.n_spots
    ):  # an order of magnitude faster than row by row
        return np.zeros(len(links), dtype=bool)
    outside: Bool = np.any((links < 0) | (links >= tracks.n_spots), axis=1)
    return outside


def _tag_problems(tags: TagSet, tracks: Tracks) -> list[str]:
    found = []
    for what, column, n in (("spots", tags.spots, tracks.n_spots), ("links", tags.links, tracks.n_links)):
        if column.shape != (n,):
            found.append(f"Tag set '{tags.name}' has {len(column)} rows for {n} {what}.")
        elif n and (column.min() < -1 or column.max() >= len(tags.tags)):
            found.append(
                f"Tag set '{tags.name}' has {what} with tag number {column.max()}, but only {len(tags.tags)} tags."
            )
    return found


def _feature_problems(feature: Feature, tracks: Tracks) -> list[str]:
    n = tracks.n_links if feature.target == "link" else tracks.n_spots
    name = f"{feature.name} {feature.projection}".strip()
    found = []
    if feature.values.shape != (n,):
        found.append(
            f"Feature '{name}' has shape {feature.values.shape}; expected ({n},), one number a {feature.target}."
        )
    if feature.values.dtype.kind not in "fiu":
        found.append(f"Feature '{name}' has values of type {feature.values.dtype}; a feature holds numbers.")
    if feature.defined is not None and feature.defined.shape != (n,):
        found.append(f"Feature '{name}' says for {len(feature.defined)} rows whether they are defined; expected {n}.")
    return found


def _name_problems(tracks: Tracks) -> list[str]:
    found = []
    sets = [tags.name for tags in tracks.tag_sets]
    found += [f"There are two tag sets named '{name}'." for name in _repeated(sets)]
    keys = [feature.key for feature in tracks.features]
    found += [f"There are two {key[0]} features named '{key[1]} {key[2]}'." for key in _repeated(keys)]
    return found


def _repeated(names: list[Any]) -> list[Any]:
    return sorted({name for name in names if names.count(name) > 1})


def _rows(bad: Bool, what: str) -> str:
    rows = np.flatnonzero(bad)
    first = ", ".join(str(row) for row in rows[:SHOWN])
    more = ", ..." if len(rows) > SHOWN else ""
    noun = what if len(rows) == 1 else f"{what}s"
    return f"{len(rows)} {noun} (row {first}{more}) {'has' if len(rows) == 1 else 'have'}"
