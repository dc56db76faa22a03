"""Run in a process of its own by test_mastodon_live.py: a real Mastodon in a real Fiji; prints what it found as JSON.

python mastodon_child.py FIJI MODE FOLDER
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bdv_io.difference import difference
from bdv_io.mastodon import read_mastodon, write_mastodon
from bdv_io.tags import Feature, Tag
from bdv_io.tracks import Tracks
from howdah.bridge import mastodon, mastodon_loops
from howdah.bridge.mastodon_plan import stored_features
from howdah.bridge.start import Fiji, start
from howdah.errors import BridgeError

FRAMES, PER_FRAME = 10, 20


def example() -> Tracks:
    """200 spots in 20 tracks, with labels (one beyond ASCII), tags on spots and links, two features, and qualities."""
    n, rng = FRAMES * PER_FRAME, np.random.default_rng(7)
    shape = rng.normal(size=(n, 3, 3))
    label = [f"cell {row}" if row % 3 else None for row in range(n)]
    label[4] = "Zelle α\U0001f9a3"
    tracks = Tracks.build(
        t=np.repeat(np.arange(FRAMES), PER_FRAME),
        centre=rng.random((n, 3)) * [20, 80, 90],
        covariance=shape @ shape.transpose(0, 2, 1) + 4 * np.eye(3),
        links=np.stack([np.arange(n - PER_FRAME), np.arange(PER_FRAME, n)], axis=1),
        label=label,
        quality=rng.random(n),
    )
    tracks = tracks.with_tag("State", Tag("done", 0xFF00AA00), spots=np.arange(0, n, 2), links=[1, 5])
    tracks = tracks.with_tag("State", Tag("check", 0xFFAA0000), spots=np.arange(1, n, 4))
    tracks = tracks.with_feature(Feature("Howdah", "score", rng.random(n)))
    return tracks.with_feature(Feature("Howdah link", "cost", rng.random(tracks.n_links), target="link"))


def changed(tracks: Tracks) -> Tracks:
    """Everything that can change, at once."""
    kept = np.ones(tracks.n_spots, bool)
    kept[30:40] = False
    now = tracks.select(kept)
    centre, covariance, label = now.centre.copy(), now.covariance.copy(), now.label.copy()
    centre[:10] += 0.25
    covariance[10:20] *= 1.5
    label[:5] = np.array(["new name", None, "x" * 300, "naïve", "cell"], dtype=label.dtype)
    now = replace(now, centre=centre, covariance=covariance, label=label)
    rng = np.random.default_rng(8)
    found = Tracks.build(
        t=np.repeat(np.arange(FRAMES), 3),
        centre=rng.random((3 * FRAMES, 3)) * 50 + 200,
        radius=4.0,
        links=np.stack([np.arange(27), np.arange(3, 30)], axis=1),
        label=["found"] * 30,
    )
    n = now.n_spots
    now = now.concatenate(found).with_links([[0, n + 3]]).select_links(np.arange(now.n_links + 28)[4:])
    now = now.with_tag("Howdah", Tag("added", 0xFF0000FF), spots=np.arange(n, n + 30), links=[2, 3])
    score = now.feature("TrackMate Spot features", "Howdah score")
    values = np.where(np.isnan(score.values), 0.5, score.values)
    return now.with_feature(replace(score, values=values, defined=None))


def own_names(tracks: Tracks) -> tuple[Feature, ...]:
    """The features of an annotation under the names with which Mastodon stores them."""
    return tuple(one for key, one in stored_features(tracks).items() if key[1] != "QUALITY")


def apart(first: Tracks, second: Tracks) -> dict[str, Any]:
    """What differs between two annotations, in whatever order their spots are; features by the names that Mastodon has for them."""
    first, second = (replace(one, features=own_names(one)) for one in (first, second))
    found = difference(first, second, reach=0.0)
    counts: dict[str, Any] = {name: n for name, n in found.counts.items() if n}
    if found.notes:
        counts["notes"] = list(found.notes)
    a, b = found.pairs.T
    for feature in first.features:
        other = second.feature(feature.name, feature.projection, feature.target)
        if feature.target == "spot" and other is not None:
            same = np.array_equal(feature.values[a], other.values[b], equal_nan=True)
            counts |= {} if same else {f"feature {feature.projection}": "differs"}
    return (
        counts
        if np.array_equal(first.quality[a], second.quality[b], equal_nan=True)
        else {**counts, "quality": "differs"}
    )


def first_difference(first: Tracks, second: Tracks) -> str:
    """Return what differs first between two annotations row by row, or an empty text."""
    columns = ("t", "centre", "covariance", "links", "quality")
    for name in columns:
        if not _same(getattr(first, name), getattr(second, name)):
            return {"t": "frames", "centre": "places", "covariance": "ellipsoids", "links": "links"}.get(name, name)
    if first.label.tolist() != second.label.tolist():
        return "labels"
    sets = [[(s.name, s.tags) for s in tracks.tag_sets] for tracks in (first, second)]
    if sets[0] != sets[1]:
        return "tag sets"
    pairs = zip(first.tag_sets, second.tag_sets, strict=True)
    if not all(_same(a.spots, b.spots) and _same(a.links, b.links) for a, b in pairs):
        return "tags"
    theirs = {feature.key: feature for feature in second.features}
    mine = {feature.key: feature for feature in first.features}
    if mine.keys() != theirs.keys() or not all(_same(f.values, theirs[key].values) for key, f in mine.items()):
        return "features"
    return ""


def _same(first: np.ndarray, second: np.ndarray) -> bool:
    return np.array_equal(first, second, equal_nan=first.dtype.kind == "f")


def said(action: Callable[[], object]) -> str:
    """The sentence of the BridgeError that an action raises."""
    try:
        action()
    except BridgeError as error:
        return str(error)
    return ""


def check(fiji: Fiji, folder: Path) -> dict[str, Any]:
    """Open, read, change, undo, save."""
    path = folder / "a.mastodon"
    write_mastodon(path, example(), image=folder / "x=100 y=100 z=30 sx=1 sy=1 sz=1 t=10.dummy")
    found: dict[str, Any] = {}
    live = mastodon.open_project(fiji, path)
    before = live.read()
    found["read as the file"] = first_difference(before, replace(read_mastodon(path), features=before.features))
    found["nothing to do"] = sum(live.apply(before).values())
    after = changed(before)
    found["counts"] = dict(live.apply(after))
    now = live.read()
    found["written"] = apart(after, now)
    left = np.flatnonzero((before.t > 3) & (before.t < 9))  # nobody touched these
    there = np.isin(now.id, before.id[left])
    found["ids stay"] = bool((now.centre[there] == before.centre[left]).all()) and int(there.sum()) == len(left)
    found["branches"] = bool(live.window_side is None or live.window_side.getBranchGraphSync().isUptodate())
    found["again"] = sum(live.apply(after).values())
    live.undo()
    found["undone"] = apart(before, live.read())
    live.redo()
    found["redone"] = apart(after, live.read())
    found["saved before"] = live.saved
    live.save()
    found["saved"] = live.saved
    found["file"] = apart(after, replace(read_mastodon(path)))
    found["files"] = sorted(entry.name for entry in folder.iterdir() if entry.name.startswith("a.mastodon"))
    found |= others(live, folder)
    found["not closed"] = said(live.close) if not live.saved else "saved"
    live.close(discard=True)
    return found


def others(live: mastodon.LiveProject, folder: Path) -> dict[str, Any]:
    """What two people do at once, files from elsewhere, loops without Groovy, and errors."""
    found: dict[str, Any] = {}
    mine = live.read()
    by_hand(live, mine, 3)  # somebody moves a spot in Mastodon after it was read
    theirs = live.read()
    found["other spots"] = {k: v for k, v in live.apply(moved(mine, 7)).items() if v}
    found["both kept"] = apart(moved(theirs, 7), live.read())
    mine = live.read()
    by_hand(live, mine, 3)
    found["same spot"] = said(lambda: live.apply(moved(mine, 3, by=2.0)))
    state = live.read()
    write_mastodon(folder / "elsewhere.mastodon", state.select(np.arange(state.n_spots)[::-1]))
    found["from a file"] = sum(live.apply(read_mastodon(folder / "elsewhere.mastodon")).values())
    live.tag("Mine", Tag("seen", 0xFF123456), spots=state.id[:5], links=state.id[state.links[:2]])
    tagged = live.read()
    found["tagged"] = [int(tagged.tagged("Mine", "seen").sum()), int(tagged.tagged("Mine", "seen", links=True).sum())]
    found["no such spot"] = said(lambda: live.tag("Mine", "seen", spots=[10**6]))
    live._by = mastodon_loops.Loops()
    first = live.read()
    live.apply(changed_plainly(first))
    found["plain loops"] = apart(changed_plainly(first), live.read())
    live.undo()
    found["plain undone"] = apart(first, live.read())
    found["no such file"] = said(lambda: mastodon.open_project(None, folder / "none.mastodon"))
    return found


def by_hand(live: mastodon.LiveProject, tracks: Tracks, row: int) -> None:
    """Move a spot as a user does, with Mastodon's own calls."""
    graph = live.model.getGraph()
    spot = graph.vertices().getRefPool().getObject(int(tracks.id[row]), graph.vertexRef())
    spot.setPosition(float(tracks.centre[row, 2]) + 1.0, 0)
    live.model.setUndoPoint()
    graph.notifyGraphChanged()


def moved(tracks: Tracks, row: int, by: float = 1.0) -> Tracks:
    """Move one spot."""
    return replace(tracks, centre=tracks.centre + by * (np.arange(tracks.n_spots) == row)[:, None])


def changed_plainly(tracks: Tracks) -> Tracks:
    """A change of every kind on few spots."""
    now = moved(tracks.select(np.arange(tracks.n_spots) != 9), 0)
    covariance = now.covariance.copy()
    covariance[1] *= 2
    label = now.label.copy()
    label[2:4] = np.array(["plain", None], dtype=label.dtype)
    fresh = Tracks.build(t=[1, 2], centre=[[1, 2, 3], [4, 5, 6]], radius=2.0, links=[[0, 1]])
    now = replace(now, covariance=covariance, label=label).concatenate(fresh)
    return now.select_links(np.arange(now.n_links) > 0).with_tag("Plain", Tag("p"), spots=[0, 1], links=[0])


def main() -> None:
    """Run the checks in the Fiji that is named."""
    with start(sys.argv[1], mode="interactive" if sys.argv[2] == "interactive" else "headless") as fiji:
        found = check(fiji, Path(sys.argv[3]))
        if sys.argv[2] == "interactive":
            found |= windows(fiji, Path(sys.argv[3]))
    sys.stdout.write("FOUND " + json.dumps(found) + "\n")


def windows(fiji: Fiji, folder: Path) -> dict[str, Any]:
    """Windows: which are open, and that they come back."""
    live = mastodon.open_project(fiji, folder / "a.mastodon")
    live.show(coloured_by="State")
    live.save()
    opened = [project.path for project in mastodon.opened_projects()]
    live.close()
    again = mastodon.open_project(fiji, folder / "a.mastodon")
    kinds = sorted(str(view.getSimpleName()) for view in again.views())
    again.close()
    return {"opened": [path.name for path in opened if path], "views": kinds}


if __name__ == "__main__":
    main()
