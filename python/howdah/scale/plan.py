"""The words of scale-out: blocks, what a block is called with, what it returns, and the plan of all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from howdah.progress import Steps

T = TypeVar("T")
Array = npt.NDArray[Any]
Json = Any
"""What JSON can say: numbers, texts, truth values, None, and lists and tables of them."""

__all__ = ["Block", "Call", "Gather", "Plan", "Result", "Results"]


@dataclass(frozen=True)
class Block:
    """One piece of work, whose result is one file.

    Attributes:
        key: Its name, unique in the plan, and the path of its file in the work folder: ``"tiles/t0003/b0012"``. The part before the
            first slash is the *stage*.
        does: The function, ``"howdah.scale.detect:tile"``: takes a :class:`Call`, returns a :class:`Result`.
        arguments: What it works on, as JSON can say it (``{"frame": 3, "region": [[0, 32], [0, 256], [0, 256]]}``). The result
            depends on these, on the plan's ``shared`` and on the results of ``needs``, and on nothing else: not on the number of
            workers, their memory, or the order.
        needs: Keys of the blocks whose results it reads.
        cost: How long it takes, relative to other blocks (voxels, spots); what is dear is begun first among equals.
        memory_mb: Most memory that it takes above that of an idle worker, MiB; 0 if that is little.
        passing: Its file is removed as soon as all blocks that need it are done.
    """

    key: str
    does: str
    arguments: Mapping[str, Json] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    cost: float = 1.0
    memory_mb: float = 0.0
    passing: bool = False

    @property
    def stage(self) -> str:
        """The first part of the key."""
        return self.key.partition("/")[0]


@dataclass(frozen=True)
class Result:
    """What a block found.

    Attributes:
        arrays: Named arrays of numbers. facts: What else is to be known, as JSON can say it.
    """

    arrays: Mapping[str, Array] = field(default_factory=dict)
    facts: Mapping[str, Json] = field(default_factory=dict)


class Results(Protocol):
    """Results of blocks that are done, read from disk when asked for, and checked against their checksum."""

    @property
    def facts(self) -> Mapping[str, Json]:
        """What the record of the result is to say about the run: ``blocks`` (all, done_now, done_before, repeated, workers)."""

    def read(self, key: str) -> Result:
        """Return the result of a block.

        Raises:
            DamagedBlock: Its file is missing or damaged.
        """


class Call(Protocol):
    """What a block's function is called with, in a worker."""

    @property
    def arguments(self) -> Mapping[str, Json]:
        """Those of the block."""

    @property
    def shared(self) -> Mapping[str, Json]:
        """What the plan says to all blocks: source, weights, settings."""

    @property
    def folder(self) -> Path:
        """The work folder; a block writes there only through its result, but for what its plan says (the store of a conversion)."""

    def read(self, key: str) -> Result:
        """Return the result of a block that this one needs."""

    def kept(self, name: str, make: Callable[[], T]) -> T:
        """Return what ``make`` returned when this worker was first asked for this name in this run: an open movie, a network."""


Gather = Callable[[Results], Steps[dict[str, Any]]]


@dataclass(frozen=True)
class Plan:
    """All blocks of a run, and what is made from their results.

    Attributes:
        task: The verb, ``"predict"``.
        target: The result; the work folder lies beside it.
        blocks: In an order in which they could be executed one after the other.
        shared: What every block is told, as JSON can say it. It is part of the run's identity: blocks that were made with other
            settings, weights or inputs are never taken for these.
        inputs: Files that the result depends on; their fingerprints are part of the run's identity, too (their places are not, also
            where ``shared`` says them).
        gather: Makes the result from those of the blocks and writes it; returns the facts that the verb shows.
        settings: For the record, and part of the run's identity (but for a section ``scale``: who does the work does not matter).
    """

    task: str
    target: Path
    blocks: Sequence[Block]
    shared: Mapping[str, Json]
    inputs: Mapping[str, Path]
    gather: Gather
    settings: Mapping[str, Any] = field(default_factory=dict)


def region_of(arguments: Mapping[str, Json], name: str = "region") -> tuple[slice, ...]:
    """Return a region that arguments say as ``[[start, stop], ...]`` as slices."""
    return tuple(slice(int(start), int(stop)) for start, stop in np.asarray(arguments[name]).tolist())
