"""What workers do for linking: blocks of windows in time. What they decide is in :mod:`howdah.linking.windows`.

Stages, and what a window [begin, end) of each needs:

- ``apart``: distances to the nearest neighbour, where ``max_distance`` is automatic; ``reach/all`` makes it from all of them.
- ``pairs``: links between neighbouring frames (pairwise, nearest). With ``frame_gap`` > 1 ``bridges`` joins lost tracks, from the
  last window to the first.
- ``choices``: what a window decides alone of the whole (global). ``seams`` decides the rest, from the first window to the last.
- ``scale/all``: the usual length of a link, and links that were decided far from where they lie.
- ``quality``: how sure the links of the window's spots are, and all that is to be known of them for the result.

Spots are named by their place in the file of spots. Results of a stage that decides links have ``links`` (K, 2), parent and child in
neighbouring frames, ``length`` (K,), and ``over`` (B, 2), ``over_age`` (B,), ``over_trail`` (B, frame_gap, 3), ``over_length`` (B,).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io import Tracks
from howdah.linking import Estimate, LinkingConfig
from howdah.linking.earlier import Earlier, Ghosts
from howdah.linking.gaps import Bridges
from howdah.linking.job import Job
from howdah.linking.limits import Limits, nearest_distances, reach_of
from howdah.linking.programme import NONE, Choices
from howdah.linking.quality import link_lengths, link_quality, usual_length
from howdah.linking.windows import Open, Paired, bridge_window, choose_at_seam, choose_in_window, link_window
from howdah.scale.link_spots import USABLE, Spots, opened, read_spots
from howdah.scale.plan import Call, Result

Array = npt.NDArray[Any]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

__all__ = ["apart", "bridges", "choices", "pairs", "quality", "reach", "scale", "seams", "spots_of"]


def apart(call: Call) -> Result:
    """Distances to the nearest neighbour in each frame of a window."""
    spots, (begin, end) = spots_of(call), _window(call)
    low, high = spots.between(begin, end)
    columns = spots.read(low, high, ("centre", "flags"))
    usable = (columns["flags"] & USABLE) > 0
    found = [np.empty(0)]
    for start, stop in _frames(spots, low, high):
        part = slice(start - low, stop - low)
        found.append(nearest_distances(columns["centre"][part][usable[part]]))
    return Result({"distance": np.concatenate(found)})


def reach(call: Call) -> Result:
    """The automatic ``max_distance``, from the distances of all windows."""
    radius = spots_of(call).table["radius"]
    distances = [call.read(key).arrays["distance"] for key in call.arguments["keys"]]
    found = 1.0 if radius is None else reach_of(radius, np.concatenate([np.empty(0), *distances]))
    return Result({"reach": np.array([found])})


def pairs(call: Call) -> Result:
    """Links between neighbouring frames."""
    spots, (begin, end), config = spots_of(call), _window(call), _config(call)
    gap = config.frame_gap
    job, place = spots.window(begin - gap, end, config, _limits(call, spots), far=True)
    earlier = _earlier(call, job, end)
    found = link_window(job, earlier, _visited(call, begin, end), begin=begin, wanted=_wanted(call))
    nothing = Bridges.none(gap)
    arrays = {
        **_decided(place[found.links], link_lengths(job, found.links, earlier, nothing), gap=gap),
        **_origin(call, spots, job, earlier, place),
    }
    if gap > 1:
        arrays |= {
            "orphans": place[found.orphans],
            "trail": found.trail,
            "childless": place[found.childless],
            "childless_centre": job.tracks.centre[found.childless],
        }
    return Result(arrays)


def bridges(call: Call) -> Result:
    """Lost tracks that are taken up again in a window, and the spots that are still followed at its begin."""
    spots, (begin, end), gap = spots_of(call), _window(call), _config(call).frame_gap
    paired = call.read(call.arguments["pairs"]).arrays
    after = call.arguments["after"]
    none = {"spot": np.empty(0, np.int64), "age": np.empty(0, np.int64), "alive": np.empty((0, gap, 3))}
    later: Mapping[str, Array] = none if after is None else call.read(after).arrays
    place = np.concatenate([paired["orphans"], later["spot"], paired["childless"]])
    parts = np.split(np.arange(len(place)), np.cumsum([len(paired["orphans"]), len(later["spot"])]))
    centre = np.zeros((len(place), 3))
    centre[parts[2]] = paired["childless_centre"]
    mine = Tracks.build(spots.frame_of(place), centre, covariance=np.zeros((len(place), 3, 3)))
    found, ghosts = bridge_window(
        mine,
        [frame for frame in _visited(call, begin, end) if frame >= begin],
        Paired(np.empty((0, 2), np.int64), parts[0], paired["trail"], parts[2]),
        Ghosts(parts[1], later["age"], later["alive"]),
        limits=_limits(call, spots),
        refused=spots.refused(begin - gap, end + gap),
    )
    length = np.linalg.norm(found.ghosts.place - centre[found.parent], axis=1)
    over = _decided(place[found.links], length, gap=gap, age=found.ghosts.age, trail=found.ghosts.trail)
    return Result({**over, "spot": place[ghosts.spot], "age": ghosts.age, "alive": ghosts.trail})


def choices(call: Call) -> Result:
    """What a window decides alone of the best links of the movie, and what it leaves open."""
    spots, (begin, end), config = spots_of(call), _window(call), _config(call)
    gap = config.frame_gap
    job, place = spots.window(begin - gap, end, config, _limits(call, spots), far=True)
    earlier = _earlier(call, job, end)
    taken, still = choose_in_window(
        job,
        earlier,
        _visited(call, begin, end),
        window=(begin, end if call.arguments["more"] else end + gap),
        wanted=_wanted(call),
        refused=spots.refused(begin - gap, end),
        ends=spots.ends,
    )
    renamed = Open(still.choices.numbered(place), still.length, still.trail)
    arrays = {**_taken(taken, taken.choices.numbered(place), spots, gap), **_packed(renamed, spots)}
    return Result({**arrays, **_origin(call, spots, job, earlier, place)}, {"open": len(still.length)})


def seams(call: Call) -> Result:
    """What is decided of all that earlier windows and the next one left open."""
    spots, (_, end), gap = spots_of(call), _window(call), _config(call).frame_gap
    given = _unpacked(call.read(call.arguments["before"]).arrays)
    given = given.joined(_unpacked(call.read(call.arguments["choices"]).arrays))
    some = given.choices
    place, number = np.unique(
        np.concatenate([some.parent, some.first, some.second[some.second != NONE]]), return_inverse=True
    )
    k = len(some.parent)
    second = np.full(k, NONE, dtype=np.int64)
    second[some.second != NONE] = number[2 * k :]
    local = Open(Choices(number[:k], number[k : 2 * k], second, some.saving), given.length, given.trail)
    mine = Tracks.build(spots.frame_of(place), np.zeros((len(place), 3)), covariance=np.zeros((len(place), 3, 3)))
    taken, still = choose_at_seam(local, mine, end=end if call.arguments["more"] else end + gap, gap=gap)
    renamed = Open(still.choices.numbered(place), still.length, still.trail)
    return Result(
        {**_taken(taken, taken.choices.numbered(place), spots, gap), **_packed(renamed, spots)},
        {"open": len(still.length), "given": k},
    )


def scale(call: Call) -> Result:
    """The usual length of the links of the movie; and the links that were decided later than the seam after their window."""
    spots, gap = spots_of(call), _config(call).frame_gap
    lengths, late = [np.empty(0)], []
    start = int(spots.frames[0]) if len(spots.frames) else 0
    for key, not_before in call.arguments["keys"]:
        arrays = call.read(key).arrays
        lengths += [arrays["length"], arrays["over_length"]]
        if not_before is not None:
            late.append(_of_children(arrays, spots, start, not_before))
    whole = np.array([usual_length(np.concatenate(lengths), _limits(call, spots))])
    return Result({"scale": whole, **_joined(late, gap)})


def quality(call: Call) -> Result:
    """How sure the links of the spots of a window are."""
    spots, (begin, end), config = spots_of(call), _window(call), _config(call)
    gap = config.frame_gap
    job, place = spots.window(begin - gap, end + gap - 1, config, _limits(call, spots))
    usual = call.read("scale/all").arrays
    first, after = begin - gap, end + gap - 1
    near = [_of_children(usual, spots, first, after)]
    for key, not_before in call.arguments["near"]:
        since = first if not_before is None else max(first, not_before)
        near.append(_of_children(call.read(key).arrays, spots, since, after))
    decided = _joined(near, gap)
    low = int(place.min()) if len(place) else 0
    row_at = np.full(int(place.max(initial=low)) - low + 1, NONE, dtype=np.int64)
    row_at[place - low] = np.arange(len(place))
    links, over = decided["links"], decided["over"]
    links, kept = _inside(links, low, row_at)
    over, kept_over = _inside(over, low, row_at)
    ghosts = Ghosts(over[:, 1], decided["over_age"][kept_over], decided["over_trail"][kept_over])
    bridged = Bridges(over[:, 0], ghosts)
    earlier = Earlier(job.tracks, None, None)
    if "flow" in call.shared:
        mine = np.flatnonzero((job.tracks.t >= begin) & (job.tracks.t < end))
        order = mine[np.argsort(place[mine])]
        earlier.origin[order] = call.read(call.arguments["decides"]).arrays["origin"]
    every = np.concatenate([links, over])
    child_at = job.tracks.t[every[:, 1]]
    asked = (child_at >= begin) & (child_at < end)
    found = link_quality(job, every, earlier, bridged, scale=float(usual["scale"][0]), of=asked)[asked]
    single, several = asked[: len(links)], asked[len(links) :]
    n = int(np.count_nonzero(single))
    return Result(
        {
            "links": decided["links"][kept][single],
            "quality": found[:n],
            "over": decided["over"][kept_over][several],
            "over_quality": found[n:],
            "over_age": ghosts.age[several],
            "over_trail": ghosts.trail[several],
        }
    )


# ---- what blocks have in common ------------------------------------------------------------------------------------


def spots_of(call: Call) -> Spots:
    """Return the file of spots of the run."""
    said = call.shared["spots"]
    path = call.folder.with_name(said["file"])
    return call.kept("spots", lambda: read_spots(path, said["digest"]))


def _config(call: Call) -> LinkingConfig:
    return LinkingConfig.of(call.shared["linking"])


def _window(call: Call) -> tuple[int, int]:
    begin, end = call.arguments["window"]
    return int(begin), int(end)


def _limits(call: Call, spots: Spots) -> Limits:
    config = _config(call)
    if config.max_distance is not None:
        return spots.limits(config, None)
    return spots.limits(config, float(call.read("reach/all").arrays["reach"][0]))


def _wanted(call: Call) -> frozenset[int]:
    return call.kept("wanted", lambda: frozenset(call.shared["wanted"]))


def _visited(call: Call, begin: int, end: int) -> list[int]:
    """Frames that are visited for a window, late ones first: its own, then those before it through which spots are followed."""
    gap = int(call.shared["linking"]["frame_gap"])
    return [frame for frame in call.shared["visited"] if begin - gap < frame < end]


def _frames(spots: Spots, low: int, high: int) -> Iterable[tuple[int, int]]:
    first, last = np.searchsorted(spots.starts, [low, high])
    return zip(spots.starts[first:last].tolist(), spots.starts[first + 1 : last + 1].tolist(), strict=True)


def _earlier(call: Call, job: Job, end: int) -> Earlier:
    """Estimates for a window; the places of children of later frames are asked for now."""
    estimate = _estimate(call)
    earlier = Earlier(job.tracks, None, estimate)
    visited, nothing = set(call.shared["visited"]), Bridges.none(1).ghosts
    away = np.flatnonzero((job.tracks.t >= end) & job.allowed)
    for frame in np.unique(job.tracks.t[away]).tolist():
        if estimate is not None and frame in visited:
            earlier.step(frame, away[job.tracks.t[away] == frame], nothing)
    return earlier


def _estimate(call: Call) -> Estimate | None:
    from howdah.pipeline.flow import estimate_of

    flow = call.shared.get("flow")
    if flow is None:
        return None
    return call.kept("flow", lambda: estimate_of(opened(flow["movie"]), flow["weights"], {"flow": flow["settings"]}))


def _origin(call: Call, spots: Spots, job: Job, earlier: Earlier, place: I64) -> dict[str, Array]:
    """Where the spots of the window were one frame earlier, in order of place; only where a flow says it."""
    if "flow" not in call.shared:
        return {}
    low, high = spots.between(*_window(call))
    mine = np.flatnonzero((place >= low) & (place < high))
    return {"origin": earlier.origin[mine[np.argsort(place[mine])]]}


def _decided(
    links: I64, length: F64, *, gap: int, age: I64 | None = None, trail: F64 | None = None
) -> dict[str, Array]:
    """Links, or bridges where there is an age, as the arrays of a result."""
    none, no_trail = np.empty((0, 2), dtype=np.int64), np.empty((0, gap, 3))
    if age is None or trail is None:
        single, bridge_age, bridge_trail = (links, length), np.empty(0, dtype=np.int64), no_trail
        several = (none, np.empty(0))
    else:
        single, several, bridge_age, bridge_trail = (none, np.empty(0)), (links, length), age, trail
    return {
        "links": single[0],
        "length": single[1],
        "over": several[0],
        "over_length": several[1],
        "over_age": bridge_age,
        "over_trail": bridge_trail,
    }


def _taken(taken: Open, named: Choices, spots: Spots, gap: int) -> dict[str, Array]:
    """Choices that were taken, by place, as links."""
    links, both = named.links, named.second != NONE
    length = np.concatenate([taken.length[:, 0], taken.length[both, 1]])
    age = spots.frame_of(links[:, 1]) - spots.frame_of(links[:, 0])
    over = age > 1
    trail = np.concatenate([taken.trail, taken.trail[both]])[over]
    single = _decided(links[~over], length[~over], gap=gap)
    several = _decided(links[over], length[over], gap=gap, age=age[over], trail=trail)
    return {name: single[name] if name in ("links", "length") else several[name] for name in single}


def _packed(still: Open, spots: Spots) -> dict[str, Array]:
    """Open choices, by place, as arrays of a result; trails only of those over a gap."""
    names = ("parent", "first", "second", "saving")
    columns = dict(zip(names, still.choices, strict=True)) | {"length": still.length}
    over = spots.frame_of(still.choices.first) - spots.frame_of(still.choices.parent) > 1
    columns |= {"over": np.flatnonzero(over), "trail": still.trail[over]}
    return {f"open_{name}": column for name, column in columns.items()}


def _unpacked(arrays: Mapping[str, Array]) -> Open:
    chosen = Choices(*(arrays[f"open_{name}"] for name in ("parent", "first", "second", "saving")))
    trail = np.full((len(chosen.first), *arrays["open_trail"].shape[1:]), np.nan)
    trail[arrays["open_over"]] = arrays["open_trail"]
    return Open(chosen, arrays["open_length"], trail)


def _of_children(arrays: Mapping[str, Array], spots: Spots, begin: int, end: int) -> dict[str, Array]:
    """The links of a result whose children lie in frames [begin, end)."""
    found: dict[str, Array] = {}
    low, high = spots.between(begin, max(begin, end))
    for names, links in ((("links",), "links"), (("over", "over_age", "over_trail"), "over")):
        child = arrays[links][:, 1]
        mask = (child >= low) & (child < high)
        found |= {name: arrays[name][mask] for name in names}
    return found


def _joined(some: list[dict[str, Array]], gap: int) -> dict[str, Array]:
    empty = {
        key: column
        for key, column in _decided(np.empty((0, 2), np.int64), np.empty(0), gap=gap).items()
        if "length" not in key
    }
    return {name: np.concatenate([empty[name], *(one[name] for one in some)]) for name in empty}


def _inside(links: I64, low: int, row_at: I64) -> tuple[I64, npt.NDArray[np.bool_]]:
    """Links by row, of those whose ends both are in the window, and which these are."""
    at = links - low
    kept: npt.NDArray[np.bool_] = np.all((at >= 0) & (at < len(row_at)), axis=1)
    return row_at[at[kept]].reshape(-1, 2), kept
