"""What a task is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from howdah.pipeline.sections import SECTIONS
from howdah.progress import Steps
from howdah.service.parameters import Parameters

__all__ = ["Task"]

Default = str | Callable[[Path, Path | None], Path]


@dataclass(frozen=True)
class Task:
    """One thing that a client may ask for.

    Attributes:
        name: The verb as on the command line, its parts joined by a dot: ``"track"``, ``"tap.events"``.
        summary: One sentence for people.
        parameters: What it is told.
        start: Begins the work; returns its steps (:class:`howdah.progress.Progress`), whose result is a mapping.
        learns: Whether it uses a network, so that one runs at a time on a device.
        sections: Sections of settings that it uses; a client may give others, too, as a settings file may hold them.
        results: Parameter that names a result -> how that file's name ends where the client gave none
            (``{"out": "tracked.mastodon"}``), or what names it from the source and the folder (None: beside the source).
    """

    name: str
    summary: str
    parameters: type[Parameters]
    start: Callable[[Any], Steps[dict[str, Any]]]
    learns: bool = True
    sections: tuple[str, ...] = ()
    results: Mapping[str, Default] = field(default_factory=dict)

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of the parameters, with the settings of the sections that it uses."""
        schema = self.parameters.model_json_schema()
        parts = {
            name: SECTIONS[name].model_json_schema(ref_template=f"#/$defs/{name}.{{model}}") for name in self.sections
        }
        for name, part in parts.items():
            for inner, value in part.pop("$defs", {}).items():
                schema.setdefault("$defs", {})[f"{name}.{inner}"] = value
        schema["properties"]["settings"]["properties"] = parts
        return {**schema, "title": self.name, "description": self.summary}
