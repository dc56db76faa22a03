"""What has to happen in Mastodon so that its model becomes a given annotation: pure numpy, no Java.

A plan touches only what differs. Spots that are not named in it keep their place in Mastodon's memory, and with it their
number, their features and their place in selections.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io.difference import link_keys, same_shape
from bdv_io.mastodon.feature_files import CONTAINERS, QUALITY, SPOT_CONTAINER, contained_name, container_of
from bdv_io.tags import UNTAGGED, Feature, TagSet
from bdv_io.tracks import Tracks

I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

__all__ = [
    "NEW",
    "Plan",
    "Reading",
    "changed_meanwhile",
    "known_values",
    "pairs_by_id",
    "plan_of",
    "rows_of",
    "stored_features",
]

NEW = -1  # the id of a spot that Mastodon does not have yet
COMPUTED = frozenset({"Link displacement", "Link velocity", "Spot N links", "Spot radius"})  # by Mastodon, on the fly
ROUNDING = 1e-9  # relative: numbers that went through text


@dataclass(frozen=True, eq=False)
class Reading:
    """What Mastodon held at some time, and under which numbers.

    Attributes:
        tracks: The annotation; spots that were added since carry ids that Mastodon does not know.
        numbers: (N,) int64, the id of each spot in Mastodon.
    """

    tracks: Tracks
    numbers: I64


@dataclass(frozen=True, eq=False)
class Plan:
    """The steps from one annotation to another. Ids are those that Mastodon's spots have; rows are those of the later one.

    Attributes:
        ids: (N,) int64, for each spot of the later annotation its id, or -1 where it has to be added.
        removed: (R,) ids of spots to remove (their links go with them).
        added: (A,) rows of spots to add.
        moved, reshaped, relabelled: Rows of spots that stay, and get another place, ellipsoid or label.
        links_removed: (K, 2) ids of source and target of links to remove between spots that stay.
        links_added: Rows of links to add.
        new_tag_sets: Whether tag sets, or their tags, differ.
        retagged, links_retagged: Name of tag set -> rows whose tag has to be set or taken away.
        features: Keys of the features (Mastodon's name for the file) that have to be written.
        features_removed: Keys of features that go.
        touched: Ids of the spots that the plan builds on: it may only run while they are as they were.
    """

    ids: I64
    removed: I64
    added: I64
    moved: I64
    reshaped: I64
    relabelled: I64
    links_removed: I64
    links_added: I64
    new_tag_sets: bool
    retagged: Mapping[str, I64]
    links_retagged: Mapping[str, I64]
    features: tuple[str, ...]
    features_removed: tuple[str, ...]
    touched: I64

    @property
    def counts(self) -> dict[str, int]:
        """How many spots and links each kind of step concerns."""
        return {
            "spots_added": len(self.added),
            "spots_removed": len(self.removed),
            "spots_moved": len(self.moved),
            "spots_reshaped": len(self.reshaped),
            "spots_relabelled": len(self.relabelled),
            "spots_retagged": sum(map(len, self.retagged.values())),
            "links_added": len(self.links_added),
            "links_removed": len(self.links_removed),
            "links_retagged": sum(map(len, self.links_retagged.values())),
            "features_written": len(self.features) + len(self.features_removed),
        }

    @property
    def edits(self) -> bool:
        """Whether spots, links, labels or tags change (what Mastodon can undo)."""
        return self.new_tag_sets or any(n for name, n in self.counts.items() if name != "features_written")

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return self.edits or bool(self.features or self.features_removed)


def pairs_by_id(before: Tracks, after: Tracks) -> I64:
    """Return (K, 2) rows of spots with the same id in both annotations."""
    _, left, right = np.intersect1d(before.id, after.id, assume_unique=True, return_indices=True)
    return np.stack([left, right], axis=1).astype(np.int64)


def plan_of(reading: Reading, after: Tracks, pairs: I64) -> Plan:
    """Plan the way from one annotation to another.

    Args:
        reading: What Mastodon holds.
        after: What it is to hold.
        pairs: (K, 2) rows of the spots that are the same. Where their frames differ, the spot is removed and added, because
            Mastodon cannot move a spot in time.
    """
    before, numbers = reading.tracks, reading.numbers
    pairs = pairs[before.t[pairs[:, 0]] == after.t[pairs[:, 1]]]
    a, b = pairs[:, 0], pairs[:, 1]
    ids = np.full(after.n_spots, NEW, np.int64)
    ids[b] = numbers[a]
    near = np.isclose(before.centre[a], after.centre[b], rtol=ROUNDING, atol=0, equal_nan=True).all(axis=1)
    reshaped = ~same_shape(before.covariance[a], after.covariance[b])
    relabelled = _label_differs(before.label[a], after.label[b])
    mine, theirs = link_keys(before, after, pairs)
    gone, fresh = np.flatnonzero(~np.isin(mine, theirs)), np.flatnonzero(~np.isin(theirs, mine))
    _, link_a, link_b = np.intersect1d(mine, theirs, return_indices=True)
    stays = np.zeros(before.n_spots, bool)
    stays[a] = True
    removed = np.flatnonzero(~stays)
    between = gone[stays[before.links[gone]].all(axis=1)]
    added = np.flatnonzero(ids == NEW)
    retagged = _retagged(before, after, (a, b), links=False)
    links_retagged = _retagged(before, after, (link_a, link_b), links=True)
    written, dropped = _features(before, after, pairs, (link_a, link_b))
    if (
        not near.all() or reshaped.any() or len(gone) or len(fresh)
    ):  # Mastodon forgets the values of what it sees change
        written = tuple(sorted({*written, *(f.name for f in stored_features(after).values() if f.name in CONTAINERS)}))
    changed = [b[~near], b[reshaped], b[relabelled], *retagged.values(), after.links[fresh].ravel()]
    changed += [after.links[rows].ravel() for rows in links_retagged.values()]
    known = ids[np.unique(np.concatenate(changed))]
    touched = np.concatenate([known[known != NEW], numbers[removed], numbers[before.links[between]].ravel()])
    return Plan(
        ids=ids,
        removed=numbers[removed],
        added=added,
        moved=b[~near],
        reshaped=b[reshaped],
        relabelled=b[relabelled],
        links_removed=numbers[before.links[between]].reshape(-1, 2),
        links_added=fresh,
        new_tag_sets=[(s.name, s.tags) for s in before.tag_sets] != [(s.name, s.tags) for s in after.tag_sets],
        retagged=retagged,
        links_retagged=links_retagged,
        features=written,
        features_removed=dropped,
        touched=np.unique(touched),
    )


def _label_differs(before: npt.NDArray[Any], after: npt.NDArray[Any]) -> Bool:
    return np.array([x != y for x, y in zip(before.tolist(), after.tolist(), strict=True)], dtype=bool)


# ---- tags ------------------------------------------------------------------------------------------------------------


def _retagged(before: Tracks, after: Tracks, rows: tuple[I64, I64], *, links: bool) -> dict[str, I64]:
    """Rows of the later annotation whose tag differs, new ones among them, for each of its tag sets that has any."""
    n = after.n_links if links else after.n_spots
    found = {}
    for new in after.tag_sets:
        former = np.full(n, UNTAGGED, np.int64)
        old = before.tag_set(new.name)
        if old is not None:
            column = (old.links if links else old.spots)[rows[0]]
            former[rows[1]] = _translated(old, new)[column]
        differs = np.flatnonzero(former != (new.links if links else new.spots))
        if len(differs):
            found[new.name] = differs
    return found


def _translated(old: TagSet, new: TagSet) -> I64:
    """For each tag of the old set its position in the new one, and -1 at the end; a tag that is gone is untagged there."""
    if [tag.name for tag in old.tags] == [tag.name for tag in new.tags]:
        return np.append(np.arange(len(old.tags)), UNTAGGED)
    return np.array([*(new.position(tag.name) for tag in old.tags), UNTAGGED], dtype=np.int64)


# ---- features --------------------------------------------------------------------------------------------------------


def _features(
    before: Tracks, after: Tracks, pairs: I64, links: tuple[I64, I64]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Keys of the features to write and of those to take away; what Mastodon computes itself is left to it."""
    rows = {"spot": (pairs[:, 0], pairs[:, 1]), "link": links}
    old, new = stored_features(before), stored_features(after)
    changed = {f.name for key, f in new.items() if key not in old or _values_differ(old[key], f, rows[f.target])}
    gone = {f.name for key, f in old.items() if key not in new}
    kept = {f.name for f in new.values()}
    written = changed | (gone & kept)
    return tuple(sorted(written)), tuple(sorted(gone - written))


def stored_features(tracks: Tracks) -> dict[tuple[str, str, str], Feature]:
    """Return the features of spots and links, and the qualities, under the names that Mastodon stores them with.

    What Mastodon computes on the fly or for branches is left to it.
    """
    known = np.isfinite(tracks.quality)
    quality = Feature(SPOT_CONTAINER, QUALITY, tracks.quality, dimension="QUALITY", defined=known)
    found = {}
    for feature in (*tracks.features, *([quality] if known.any() else [])):
        if feature.target == "branch" or feature.name in COMPUTED:
            continue
        if container_of(feature) in CONTAINERS:
            feature = replace(feature, name=container_of(feature), projection=contained_name(feature))
        found[feature.key] = feature
    return found


def _values_differ(old: Feature, new: Feature, rows: tuple[I64, I64]) -> bool:
    """Whether values changed, or spots that were added have one."""
    known_old, known_new = known_values(old), known_values(new)
    a, b = rows
    same = known_old[a] == known_new[b]
    same &= (old.values[a] == new.values[b]) | ~known_new[b]
    fresh = np.ones(len(new.values), bool)
    fresh[b] = False
    return not bool(same.all()) or bool(known_new[fresh].any())


def known_values(feature: Feature) -> Bool:
    """Return the mask of rows that have a value."""
    known = np.ones(len(feature.values), bool) if feature.defined is None else feature.defined.copy()
    if feature.values.dtype.kind == "f":
        known &= ~np.isnan(feature.values)
    return known


# ---- what the user did in the meantime -------------------------------------------------------------------------------


def rows_of(ids: npt.NDArray[np.integer], among: npt.NDArray[np.integer]) -> I64:
    """Return for each id its row in ``among`` (unique ids), or -1."""
    order = np.argsort(among, kind="stable")
    if not len(order):
        return np.full(len(ids), -1, np.int64)
    place = np.minimum(np.searchsorted(among, ids, sorter=order), len(order) - 1)
    rows = order[place]
    return np.where(among[rows] == ids, rows, -1).astype(np.int64)


def changed_meanwhile(plan: Plan, reading: Reading, current: Tracks) -> I64:
    """Return ids of spots that the plan builds on and that are not now as they were; a plan with any must not run."""
    before = reading.tracks
    then, now = rows_of(plan.touched, reading.numbers), rows_of(plan.touched, current.id)
    there = now >= 0
    a, b = then[there], now[there]
    same = before.t[a] == current.t[b]
    same &= np.isclose(before.centre[a], current.centre[b], rtol=ROUNDING, atol=0, equal_nan=True).all(axis=1)
    same &= same_shape(before.covariance[a], current.covariance[b])
    same &= ~_label_differs(before.label[a], current.label[b])
    for tags in current.tag_sets:
        old = before.tag_set(tags.name)
        former = np.full(len(a), UNTAGGED) if old is None else _translated(old, tags)[old.spots[a]]
        same &= former == tags.spots[b]
    degree = before.n_children()[a] + before.n_parents()[a] == current.n_children()[b] + current.n_parents()[b]
    same &= degree | ~np.isin(plan.touched[there], plan.removed)
    fine = np.zeros(len(plan.touched), bool)
    fine[np.flatnonzero(there)[same]] = True
    return plan.touched[~fine]
