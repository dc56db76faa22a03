"""What a task is told: typed, validated parameters, and which of them are files that it reads or writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from howdah.config import Settings

__all__ = ["FileRole", "InFile", "OutFile", "Parameters"]


@dataclass(frozen=True)
class FileRole:
    """Marks a path in a task's parameters: ``read`` must exist and lie in a declared folder, ``write`` must lie in one.

    In the JSON schema such a field has ``"format": "path"`` and ``"role": "read"`` or ``"write"``.
    """

    role: Literal["read", "write"]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Leave the checking of the type to pydantic."""
        return handler(source)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Say the role in the JSON schema."""
        return {**handler(schema), "format": "path", "role": self.role}


InFile = Annotated[Path, FileRole("read")]
OutFile = Annotated[Path, FileRole("write")]


class Parameters(Settings):
    """Base of the parameters of every task; unknown keys are refused, errors are sentences (:meth:`Settings.of`)."""

    settings: dict[str, dict[str, Any]] = Field(
        default={}, description='Settings by section, as in a settings file: {"elephant": {"n_epochs": 40}}.'
    )
