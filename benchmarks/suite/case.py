"""What is measured: a case is a name, three sizes, and a function that prepares one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["GROUPS", "MODULES", "Case", "Work", "all_cases", "case"]

GROUPS = {
    "format": "Formats",
    "method": "The four methods",
    "linking": "Linking",
    "lineages": "Annotations, lineages, ellipsoids",
    "metrics": "Metrics",
    "service": "The service",
    "scale": "Scale-out",
}
MODULES = (
    "images",
    "annotations",
    "outlined",
    "elephant",
    "embedtrack",
    "efficientcellseg",
    "tap",
    "tables",
    "judged",
    "running",
    "scaling",
)

Call = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Work:
    """One size of a case, ready to be measured.

    Attributes:
        amount: How much of the case's unit one run works through.
        run: Howdah's work.
        limit: What no program could do without, or be faster than: the case's limit says it in words.
        limit_times: How often the limit's call has to be done for the same amount of work.
        peer: The same by a library that Howdah has anyway, called plainly; it takes turns with ``run`` in the same process.
        outside: The same by a program that Howdah does not import: what the peer's script is given (JSON; files by name).
        wrong: Says after the measurement what is wrong with the result; empty if it is right. A fast wrong answer is no figure.
    """

    amount: float
    run: Call
    limit: Call
    limit_times: float = 1.0
    peer: Call | None = None
    outside: Mapping[str, Any] | None = None
    wrong: Callable[[], str] | None = None


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row of the table.

    Attributes:
        name: For people; unique.
        group: A key of ``GROUPS``.
        unit: What is counted: spots, voxels, pixels, cells, frames.
        sizes: Three, growing; what they mean is the case's affair.
        limit: The physical limit, in words.
        peer: Who else does this; empty where nobody is known to.
        script: ``FOLDER:JOB`` where the peer runs in an environment of its own, see ``benchmarks/peers.md``.
        prepare: Makes the work of one size, with files in a folder; imports what it needs.
    """

    name: str
    group: str
    unit: str
    sizes: tuple[int, int, int]
    limit: str
    prepare: Callable[[int, Path], Work]
    peer: str = ""
    script: str = ""


REGISTRY: dict[str, Case] = {}


def case(
    name: str, *, group: str, unit: str, sizes: tuple[int, int, int], limit: str, peer: str = "", script: str = ""
) -> Callable[[Callable[[int, Path], Work]], Callable[[int, Path], Work]]:
    """Make a case of the function that prepares it."""

    def register(prepare: Callable[[int, Path], Work]) -> Callable[[int, Path], Work]:
        if name in REGISTRY or group not in GROUPS or list(sizes) != sorted(set(sizes)):
            raise ValueError(f"The case {name!r} cannot be added: its name is taken, or its group or sizes are wrong.")
        REGISTRY[name] = Case(
            name=name, group=group, unit=unit, sizes=sizes, limit=limit, peer=peer, script=script, prepare=prepare
        )
        return prepare

    return register


def all_cases(modules: tuple[str, ...] = MODULES) -> dict[str, Case]:
    """Import the modules of cases (by full name, or one of ``cases/``), and return their cases by name."""
    for module in modules:
        import_module(module if "." in module else f"benchmarks.suite.cases.{module}")
    own = {module if "." in module else f"benchmarks.suite.cases.{module}" for module in modules}
    return {name: found for name, found in REGISTRY.items() if found.prepare.__module__ in own}
