"""Movies for the tests of linking in windows, and what must be equal."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bdv_io.tags import Tag
from bdv_io.tracks import Tracks
from howdah import pipeline
from howdah.linking import LINK_QUALITY, LinkingConfig
from howdah.linking.earlier import Earlier
from howdah.linking.gaps import Refused
from howdah.linking.job import Job
from howdah.linking.movie import Ends, Possible
from howdah.methods.elephant.status import DETECTION
from howdah.pipeline.sources import Source
from howdah.pipeline.tracking import linked_anew, loosened
from howdah.progress import finish
from howdah.scale.config import ScaleConfig
from howdah.scale.link import Linking, gathered
from howdah.scale.run import run_plan

SERIAL = ScaleConfig(workers=0)


class NoMovie:
    """Stands where an image would be; linking without a flow never asks it."""

    path = Path("none.xml")


def embryo(
    seed: int, *, cells: int = 12, frames: int = 14, lost: float = 0.1, known: float = 0.15, box: float = 25.0
) -> Tracks:
    """Cells that step and divide; some spots are lost, some links known, some over a gap, some spots rejected; rows shuffled."""
    rng = np.random.default_rng(seed)
    place, row = rng.uniform(0, box, (cells, 3)), np.arange(cells)
    t, centre, links, total = [np.zeros(cells, int)], [place], [], cells
    for frame in range(1, frames):
        split = rng.random(len(place)) < 0.08
        apart = rng.normal(size=place.shape)
        place = np.concatenate([place + split[:, None] * apart, (place - apart)[split]])
        place = place + rng.normal(scale=0.9, size=place.shape)
        new = total + np.arange(len(place))
        links.append(np.stack([np.concatenate([row, row[split]]), new], axis=1))
        row, total = new, total + len(new)
        t.append(np.full(len(new), frame))
        centre.append(place)
    pairs = np.concatenate(links)
    over = pairs[rng.integers(0, len(pairs), 4)]
    parent = dict(zip(pairs[:, 1].tolist(), pairs[:, 0].tolist(), strict=True))
    skipping = np.array([[parent[a], b] for a, b in over.tolist() if a in parent], dtype=int).reshape(-1, 2)
    pairs = np.concatenate([pairs[rng.random(len(pairs)) < known], skipping])
    pairs = pairs[np.unique(pairs[:, 1], return_index=True)[1]]
    tracks = Tracks.build(np.concatenate(t), np.concatenate(centre), radius=rng.uniform(1.5, 2.5, total), links=pairs)
    tracks = tracks.select(rng.permutation(total)[: round(total * (1 - lost))])
    rejected = np.flatnonzero(rng.random(tracks.n_spots) < 0.05)
    return tracks.with_tag(DETECTION, Tag("FP", 0), spots=rejected)


def plain(tracks: Tracks, config: LinkingConfig, frames: list[int] | None = None) -> Tracks:
    """The annotation linked by the plain verb."""
    return finish(linked_anew(tracks, config, _every(tracks) if frames is None else frames))


def in_windows(
    tracks: Tracks, config: LinkingConfig, window: int, folder: Path, frames: list[int] | None = None
) -> Tracks:
    """The annotation linked in windows, one block after the other in this process."""
    folder.mkdir(parents=True, exist_ok=True)
    source = Source(NoMovie(), tracks, (folder / "a.mastodon",))  # type: ignore[arg-type]
    found: list[Tracks] = []
    wanted = _every(tracks) if frames is None else frames
    target, job = folder / "out.mastodon", pipeline.Job("a.mastodon")
    task = Linking("link", target, source, tracks, wanted, config, None, {}, job, {})

    def keep(kept, order, last):
        def gather(results):
            found.append((yield from gathered(results, last, kept, order, config)))
            return {}

        return gather

    object.__setattr__(task, "_gather", keep)
    scale = SERIAL.but(window=window)
    finish(run_plan(task.plan(scale), scale))
    return found[0]


def assert_same(one: Tracks, other: Tracks) -> None:
    """Both annotations are equal, bit for bit."""
    for name in ("t", "centre", "covariance", "id", "links"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    mine, theirs = (x.feature(LINK_QUALITY, target="link") for x in (one, other))
    np.testing.assert_array_equal(mine.values, theirs.values)
    np.testing.assert_array_equal(mine.defined, theirs.defined)
    assert [tags.name for tags in one.tag_sets] == [tags.name for tags in other.tag_sets]
    for a, b in zip(one.tag_sets, other.tag_sets, strict=True):
        np.testing.assert_array_equal(a.spots, b.spots)
        np.testing.assert_array_equal(a.links, b.links)


def savings(linked: Tracks, config: LinkingConfig, tracks: Tracks) -> float:
    """What the links of a result save of all costs, solver global without inserted spots; -inf if it has a link that is no choice."""
    kept, allowed = loosened(tracks, _every(tracks))
    job = Job.of(kept, config, allowed)
    possible, earlier = Possible(job, Refused.of(kept, allowed)), Earlier(kept, None, None)
    wanted = _every(tracks)
    for frame in job.frames_to_visit(wanted):
        possible.look(earlier, frame, wanted, job.rows(frame))
    known = {
        (parent, frozenset({first, second} - {-1})): saving
        for parent, first, second, saving in zip(
            *map(np.ndarray.tolist, possible.choices(Ends.of(kept, job.allowed))), strict=True
        )
    }
    children: dict[int, set[int]] = {}
    new = np.arange(kept.n_links, linked.n_links)
    chains = {int(b): int(a) for a, b in linked.links[new] if b >= kept.n_spots}
    for parent, child in linked.links[new].tolist():
        while parent >= kept.n_spots:
            parent = chains[parent]
        if child < kept.n_spots:
            children.setdefault(parent, set()).add(child)
    return sum(known.get((parent, frozenset(some)), -np.inf) for parent, some in children.items())


def counts(tracks: Tracks) -> tuple[int, int, int, int]:
    """Spots, links, tracks, divisions."""
    return tracks.n_spots, tracks.n_links, tracks.tracks()[0], len(tracks.divisions())


def _every(tracks: Tracks) -> list[int]:
    return list(range(tracks.n_frames))
