"""A run of a plan in this process, with everything on disk: what the tests of the verbs need of the engine, and no more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from howdah.progress import finish
from howdah.scale.plan import Plan, Result


@dataclass
class Here:
    """A call, and the results that there are."""

    folder: Path
    shared: Mapping[str, Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    done: dict[str, Result] = field(default_factory=dict)
    things: dict[str, Any] = field(default_factory=dict)

    def read(self, key: str) -> Result:
        return self.done[key]

    def kept(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self.things:
            self.things[name] = make()
        return self.things[name]


def run_blocks(plan: Plan, order: Iterable[int] | None = None, here: Here | None = None) -> dict[str, Any]:
    """Do the blocks, in an order if one is given, and gather."""
    here = here or Here(plan.target.with_name(f"{plan.target.name}.blocks"), plan.shared)
    here.folder.mkdir(exist_ok=True)
    for number in order if order is not None else range(len(plan.blocks)):
        block = plan.blocks[number]
        module, name = block.does.split(":")
        here.arguments = block.arguments
        here.done[block.key] = getattr(import_module(module), name)(here)
    return finish(plan.gather(here))
