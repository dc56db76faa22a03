"""A run in blocks, simulated: how long it takes, and what holds it up, on workers that are not there.

Three things are used by a block: a worker (for all of its time), the storage (while it reads and writes; shared by all that do,
each up to the speed of its own line), and the coordinator (once a block, to hand it out and to note that it is done; one at a time).
Which block comes next is decided as in :mod:`.run`: among those whose needs are done, the first of the plan.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from howdah.errors import ConfigError

__all__ = ["Outcome", "Site", "Work", "simulate"]

IDLE, READING, COMPUTING, WRITING = range(4)


@dataclass(frozen=True)
class Work:
    """A block as the simulation sees it.

    Attributes:
        stage: What it belongs to. needs: Positions, in the list of works, of the blocks that it needs; all before it.
        read_mb: What it reads from the storage, MB (10^6 bytes): of the movie, and of blocks that it needs.
        seconds: What it computes, on one worker.
        write_mb: What it writes.
        passing: What it wrote is removed when all that need it are done.
    """

    stage: str
    needs: tuple[int, ...] = ()
    read_mb: float = 0.0
    seconds: float = 0.0
    write_mb: float = 0.0
    passing: bool = False


@dataclass(frozen=True)
class Site:
    """Where blocks are done.

    Attributes:
        workers: Their number.
        storage_mb_s: What the storage gives and takes, all workers together, MB/s.
        line_mb_s: What one worker reads or writes at most, MB/s.
        handing_s: Time of the coordinator for one block.
        latency_s: From handing out to the beginning.
        speed: How fast a worker computes, relative to the one whose seconds are given (a GPU against a core).
        kills_per_day: How often a worker is killed; its block begins anew.
        restart_s: Until a killed worker is back.
        seed: Of the kills.
    """

    workers: int
    storage_mb_s: float
    line_mb_s: float
    handing_s: float = 0.001
    latency_s: float = 0.01
    speed: float = 1.0
    kills_per_day: float = 0.0
    restart_s: float = 30.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.workers < 1 or min(self.storage_mb_s, self.line_mb_s, self.speed) <= 0:
            raise ConfigError(
                f"A site needs a worker, and storage, line and speed above 0; found {self.workers} workers, "
                f"{self.storage_mb_s} and {self.line_mb_s} MB/s, speed {self.speed}."
            )


@dataclass(frozen=True)
class Outcome:
    """What a simulated run took.

    Attributes:
        seconds: From the first block to the last.
        computing: Share of the workers' time that they computed, 0 to 1. moving: Share that they waited for the storage.
        storage: Share of what the storage could have moved. coordinator: Share of the time that it was busy.
        moved_mb: Read and written by all. disk_mb: Most that blocks had on disk at once.
        stages: Begin and end of each stage, seconds.
        kills: Workers killed. lost_s: Worker seconds lost by that.
    """

    seconds: float
    computing: float
    moving: float
    storage: float
    coordinator: float
    moved_mb: float
    disk_mb: float
    stages: dict[str, tuple[float, float]]
    kills: int
    lost_s: float

    @property
    def bound(self) -> str:
        """What holds the run up: ``workers``, ``storage``, ``coordinator``, or ``order`` where blocks wait for one another."""
        shares = {"workers": self.computing, "storage": self.storage, "coordinator": self.coordinator}
        name = max(shares, key=lambda one: shares[one])
        return name if shares[name] > 0.5 else "order"


def simulate(works: Sequence[Work], site: Site) -> Outcome:
    """Simulate a run.

    Args:
        works: The blocks, each after those that it needs.
        site: Where they are done.

    Raises:
        ConfigError: A block needs one that does not come before it.
    """
    return _Run(works, site).outcome()


class _Run:
    def __init__(self, works: Sequence[Work], site: Site) -> None:
        self.works, self.site = works, site
        self.random = np.random.default_rng(site.seed)
        self.missing = [len(work.needs) for work in works]
        self.users: list[list[int]] = [[] for _ in works]
        for place, work in enumerate(works):
            for need in work.needs:
                if not 0 <= need < place:
                    raise ConfigError(f"Block {place} needs block {need}, which does not come before it.")
                self.users[need].append(place)
        self.left = [len(users) for users in self.users]
        self.ready = [place for place, n in enumerate(self.missing) if not n]
        heapq.heapify(self.ready)
        self.now, self.idle, self.coordinator_free = 0.0, site.workers, 0.0
        self.events: list[tuple[float, int, int]] = []  # when, what ends, block; -1 for a worker that is back
        self.transfers: list[tuple[float, int, int]] = []  # by what the storage gives to each, summed up
        self.given = 0.0
        self.begun = [0.0] * len(works)
        self.computing = self.moving = self.coordinating = self.moved = self.lost = 0.0
        self.disk = self.most_disk = 0.0
        self.stages: dict[str, tuple[float, float]] = {}
        self.kills = 0

    def outcome(self) -> Outcome:
        end = 0.0
        self._hand_out()
        while self.events or self.transfers:
            self._next()
            self._hand_out()
            end = max(end, self.now)
        span = max(end, 1e-12)
        everyone = span * self.site.workers
        return Outcome(
            seconds=end,
            computing=self.computing / everyone,
            moving=self.moving / everyone,
            storage=self.moved / (span * self.site.storage_mb_s),
            coordinator=self.coordinating / span,
            moved_mb=self.moved,
            disk_mb=self.most_disk,
            stages=self.stages,
            kills=self.kills,
            lost_s=self.lost,
        )

    def _rate(self) -> float:
        return min(self.site.line_mb_s, self.site.storage_mb_s / max(len(self.transfers), 1))

    def _next(self) -> None:
        """Go on to what happens next."""
        ends = self.now + (self.transfers[0][0] - self.given) / self._rate() if self.transfers else np.inf
        if self.events and self.events[0][0] <= ends:
            when, what, block = heapq.heappop(self.events)
            self._pass_to(when)
        else:
            _, what, block = self.transfers[0]
            self._pass_to(ends)
            heapq.heappop(self.transfers)
        if block < 0:
            self.idle += 1
        else:
            self._ended(what, block)

    def _pass_to(self, when: float) -> None:
        span = max(when - self.now, 0.0)
        self.given += span * self._rate() if self.transfers else 0.0
        self.moving += span * len(self.transfers)
        self.now = when

    def _hand_out(self) -> None:
        while self.idle and self.ready:
            block = heapq.heappop(self.ready)
            self.idle -= 1
            self.coordinator_free = max(self.now, self.coordinator_free) + self.site.handing_s
            self.coordinating += self.site.handing_s
            heapq.heappush(self.events, (self.coordinator_free + self.site.latency_s, IDLE, block))

    def _ended(self, what: int, block: int) -> None:
        work = self.works[block]
        if what == IDLE:
            self.begun[block] = self.now
            first, last = self.stages.get(work.stage, (self.now, self.now))
            self.stages[work.stage] = (min(first, self.now), last)
            self._move(READING, block, work.read_mb)
        elif what == READING:
            self._compute(block, work.seconds / self.site.speed)
        elif what == COMPUTING:
            self._move(WRITING, block, work.write_mb)
        else:
            self._done(block)

    def _move(self, what: int, block: int, megabytes: float) -> None:
        self.moved += megabytes
        heapq.heappush(self.transfers, (self.given + megabytes, what, block))

    def _compute(self, block: int, seconds: float) -> None:
        if self.site.kills_per_day:
            until = float(self.random.exponential(86_400 / self.site.kills_per_day))
            if until < seconds:
                self.kills += 1
                self.lost += self.now - self.begun[block] + until
                heapq.heappush(self.events, (self.now + until + self.site.restart_s, IDLE, -1))
                heapq.heappush(self.ready, block)
                return
        self.computing += seconds
        heapq.heappush(self.events, (self.now + seconds, COMPUTING, block))

    def _done(self, block: int) -> None:
        work = self.works[block]
        self.stages[work.stage] = (self.stages[work.stage][0], self.now)
        self.idle += 1
        self.disk += work.write_mb
        self.most_disk = max(self.most_disk, self.disk)
        for user in self.users[block]:
            self.missing[user] -= 1
            if not self.missing[user]:
                heapq.heappush(self.ready, user)
        for need in work.needs:
            self.left[need] -= 1
            if not self.left[need] and self.works[need].passing:
                self.disk -= self.works[need].write_mb
