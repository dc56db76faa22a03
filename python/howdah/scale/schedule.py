"""Which block is next: dependencies, order, and which passing files can go. No files and no workers here.

Order: each block that nobody needs pulls what it needs directly before it (depth first), so that a frame is finished before the next
is begun. Blocks are handed out in this order, and, where the plan has passing files, never further than ``ahead`` places beyond the first
one that is not done. So there are never more passing files than one worker alone would leave (``passing_serial``) plus ``ahead``.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Sequence

from howdah.errors import ScaleError
from howdah.scale.plan import Block

__all__ = ["Schedule"]

WAITING, READY, RUNNING, DONE = range(4)


class Schedule:
    """The state of all blocks of a plan, by their place in the plan.

    Args:
        blocks: In an order in which they could be done one after the other.
        done: Keys of blocks that are done and whose files are there.

    Attributes:
        left: How many blocks are to be done. cost_left, cost: Their cost, and that of all.
        passing_serial: Most passing files at a time that one worker would leave.
        stale: Passing blocks whose files are there though nobody needs them any more.

    Raises:
        ScaleError: Two blocks have one key, or a block needs one that does not come before it.
    """

    def __init__(self, blocks: Sequence[Block], done: Collection[str] = ()) -> None:
        self.blocks = blocks
        self.place = {block.key: number for number, block in enumerate(blocks)}
        if len(self.place) < len(blocks):
            raise ScaleError("The plan has two blocks of one name; this is a fault in the plan.")
        self.needs = [self._needs(number, block) for number, block in enumerate(blocks)]
        self.users: list[list[int]] = [[] for _ in blocks]
        for number, needed in enumerate(self.needs):
            for other in needed:
                self.users[other].append(number)
        self.passing = [block.passing and bool(self.users[n]) for n, block in enumerate(blocks)]
        self._order()
        self._begin(done)

    def _needs(self, number: int, block: Block) -> tuple[int, ...]:
        needed = tuple(self.place.get(key, number) for key in block.needs)
        if any(other >= number for other in needed):
            missing = next(key for key in block.needs if self.place.get(key, number) >= number)
            raise ScaleError(
                f"Block '{block.key}' needs block '{missing}', which does not come before it; this is a fault in the plan."
            )
        return needed

    def _order(self) -> None:
        """Number the blocks depth first; among what a block needs, the dearest first."""
        ends = [number for number, users in enumerate(self.users) if not users]
        if not any(self.passing):
            ends.sort(key=lambda number: -self.blocks[number].cost)
        self.rank = [-1] * len(self.blocks)
        self.ranked: list[int] = []
        for end in ends:
            open_blocks = [end]
            while open_blocks:
                number = open_blocks[-1]
                before = [n for n in self.needs[number] if self.rank[n] < 0]
                if before:
                    before.sort(key=lambda n: (self.blocks[n].cost, -n))
                    open_blocks += before
                    continue
                open_blocks.pop()
                if self.rank[number] < 0:
                    self.rank[number] = len(self.ranked)
                    self.ranked.append(number)
        alive = most = 0
        users = [len(found) for found in self.users]
        for number in self.ranked:
            alive += self.passing[number]
            most = max(most, alive)
            for other in self.needs[number]:
                users[other] -= 1
                alive -= self.passing[other] and not users[other]
        self.passing_serial = most

    def _begin(self, done: Collection[str]) -> None:
        count = len(self.blocks)
        self.state = bytearray([DONE]) * count
        self.here = [block.key in done for block in self.blocks]
        self.stale: list[int] = []
        for number in range(count - 1, -1, -1):  # users first
            wanted = any(self.state[user] != DONE for user in self.users[number])
            if self.here[number]:
                if self.passing[number] and not wanted:
                    self.stale.append(number)
            elif wanted or not self.passing[number]:
                self.state[number] = WAITING
        self.users_left = [sum(self.state[user] != DONE for user in users) for users in self.users]
        self.missing = [sum(not self.here[other] for other in needed) for needed in self.needs]
        self.cost = sum(block.cost for block in self.blocks)
        to_do = [number for number in range(count) if self.state[number] != DONE]
        self.left, self.cost_left = len(to_do), sum(self.blocks[number].cost for number in to_do)
        self.heap: list[int] = []
        self.low = 0
        for number in to_do:
            self._offer(number)

    def _offer(self, number: int) -> None:
        if self.state[number] == WAITING and not self.missing[number]:
            self.state[number] = READY
            heapq.heappush(self.heap, self.rank[number])

    def next(self, ahead: int | None = None) -> int | None:
        """Return the block to hand out now, or None if none can be; it counts as running from now on.

        Args:
            ahead: How many places beyond the first block that is not done may be begun; None: any.
        """
        while self.low < len(self.ranked) and self.state[self.ranked[self.low]] == DONE:
            self.low += 1
        while self.heap:
            number = self.ranked[self.heap[0]]
            if self.state[number] != READY:  # what it needs was found damaged meanwhile, or it is here twice
                heapq.heappop(self.heap)
                continue
            if ahead is not None and self.heap[0] > self.low + ahead:
                return None
            heapq.heappop(self.heap)
            self.state[number] = RUNNING
            return number
        return None

    def finished(self, number: int) -> list[int]:
        """Note that a block is done; return the passing blocks whose files can go now."""
        if self.state[number] == DONE:
            return []
        self.state[number] = DONE
        self.here[number] = True
        self.left -= 1
        self.cost_left -= self.blocks[number].cost
        for user in self.users[number]:
            self.missing[user] -= 1
            self._offer(user)
        gone = []
        if self.passing[number] and not self.users_left[number]:  # its users ended well while it was done again
            self._lose(number)
            gone.append(number)
        for other in self.needs[number]:
            self.users_left[other] -= 1
            if self.passing[other] and not self.users_left[other] and self.here[other]:
                self._lose(other)
                gone.append(other)
        return gone

    def again(self, number: int) -> None:
        """Note that a running block was not done: it is to be handed out once more."""
        if self.state[number] == RUNNING:
            self.state[number] = WAITING
            self._offer(number)

    def damaged(self, number: int) -> list[int]:
        """Note that a block's file cannot be used; return all that is to be done again for it (removed passing blocks, too)."""
        redo, found = [number], []
        while redo:
            block = redo.pop()
            if self.state[block] != DONE:
                continue
            if self.here[block]:
                self._lose(block)
            self.state[block] = WAITING
            self.low = min(self.low, self.rank[block])
            self.left += 1
            self.cost_left += self.blocks[block].cost
            found.append(block)
            for other in self.needs[block]:
                self.users_left[other] += 1
                if not self.here[other]:
                    redo.append(other)
        for block in found:
            self._offer(block)
        return found

    def _lose(self, number: int) -> None:
        self.here[number] = False
        for user in self.users[number]:
            self.missing[user] += 1
            if self.state[user] == READY:
                self.state[user] = WAITING
