"""What a task is told: typed, validated parameters, and which of them are files or arrays."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, PrivateAttr
from pydantic_core import CoreSchema, core_schema

from bdv_io.image import Hints, Vector
from howdah.config import Settings
from howdah.errors import ConfigError, ServiceError

__all__ = [
    "FileRole",
    "Image",
    "InArray",
    "InFile",
    "InTable",
    "OutFile",
    "Parameters",
    "Table",
    "Within",
    "files_of",
    "placed",
]

P = TypeVar("P", bound="Parameters")
Table = dict[str, npt.NDArray[Any]]
"""Columns of equal length by name."""


@dataclass(frozen=True, eq=False)
class Image:
    """An array that is an image: of a client, or for it.

    Attributes:
        data: The voxels; axes as ``axes`` says. May be a memory map or a view of shared memory: read it, do not keep it.
        axes: A letter (T, C, Z, Y, X) for each axis of ``data``, slowest first: ``"TZCYX"``, ``"YX"``.
        voxel_size: Edge lengths (z, y, x) of a voxel in ``unit``; None where nobody said it.
        unit: Unit of length.
        interval: Seconds between frames; None where nobody said it.
    """

    data: npt.NDArray[Any]
    axes: str
    voxel_size: Vector | None = None
    unit: str = "pixel"
    interval: float | None = None

    def __post_init__(self) -> None:
        """Refuse axes that do not fit the array."""
        Hints(axes=self.axes, voxel_size=self.voxel_size, unit=self.unit)
        object.__setattr__(self, "axes", self.axes.upper())
        if np.ndim(self.data) != len(self.axes):
            raise ConfigError(
                f"The image has the axes {self.axes} and the shape {np.shape(self.data)}; expected one letter an axis."
            )


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


@dataclass(frozen=True)
class ValueRole:
    """Marks an array or a table in a task's parameters: an object in memory, or the path of a file that holds it.

    A transport that runs the task in its own process passes the object; one that submits a job writes a file and passes its
    path. In the JSON schema such a field is a string with ``"format": "array"`` or ``"table"`` and ``"role": "read"``.
    """

    role: Literal["array", "table"]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Take an object or a path."""
        return core_schema.no_info_plain_validator_function(_array if self.role == "array" else _table)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Say the role in the JSON schema."""
        return {"type": "string", "format": self.role, "role": "read"}


def _array(value: Any) -> Image | Path:
    if isinstance(value, Image | Path):
        return value
    if isinstance(value, str) and value:
        return Path(value)
    raise ValueError("expected an image: an array with its axes, or the file that holds it")


def _table(value: Any) -> Table | Path:
    if isinstance(value, str) and value:
        return Path(value)
    if isinstance(value, Path):
        return value
    if isinstance(value, Mapping) and value:
        table = {str(name): np.asarray(column) for name, column in value.items()}
        if {column.ndim for column in table.values()} == {1} and len({len(c) for c in table.values()}) == 1:
            return table
    raise ValueError("expected a table: columns of equal length by name, or the .npz file that holds them")


InFile = Annotated[Path, FileRole("read")]
OutFile = Annotated[Path, FileRole("write")]
InArray = Annotated[Image | Path, ValueRole("array")]
InTable = Annotated[Table | Path, ValueRole("table")]


@dataclass(frozen=True)
class Within:
    """Folders that a task may use when somebody asks for it whom the file system does not know: a client of the service.

    Attributes:
        readable: Folders with files to read.
        writable: Folders to write in.
        base: Relative paths are taken from here.
        uploads: That readable folder into which clients put files.
    """

    readable: tuple[Path, ...]
    writable: tuple[Path, ...]
    base: Path
    uploads: Path | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it for another process."""
        folders = {"readable": [*map(str, self.readable)], "writable": [*map(str, self.writable)]}
        return {**folders, "base": str(self.base), "uploads": None if self.uploads is None else str(self.uploads)}

    @classmethod
    def of_json(cls, said: Mapping[str, Any]) -> Within:
        """Return what :meth:`as_json` gave."""
        readable, writable = (tuple(Path(name) for name in said[role]) for role in ("readable", "writable"))
        uploads = said.get("uploads")
        return cls(readable, writable, Path(said["base"]), None if uploads is None else Path(uploads))

    def place(self, name: str, role: Literal["read", "write"], path: Path) -> Path:
        """Return a parameter's path, absolute and without links, if it lies in one of the folders.

        Raises:
            ServiceError: It does not.
        """
        real, allowed = Path(os.path.realpath(self.base / path)), self.readable if role == "read" else self.writable
        if not any(real.is_relative_to(root) for root in allowed):
            raise ServiceError(
                f"'{name}' is {path}, which lies outside of the folders that this service may {role} "
                f"({', '.join(map(str, allowed))}). Put the file there, or start the service with a further --root."
            )
        return real


class Parameters(Settings):
    """Base of the parameters of every task; unknown keys are refused, errors are sentences (:meth:`Settings.of`)."""

    model_config = ConfigDict(arbitrary_types_allowed=True, defer_build=True)  # a worker needs one of fifty

    _within: Within | None = PrivateAttr(default=None)

    settings: dict[str, dict[str, Any]] = Field(
        default={}, description='Settings by section, as in a settings file: {"elephant": {"n_epochs": 40}}.'
    )


def files_of(parameters: Parameters) -> Iterator[tuple[str, Literal["read", "write"], Path]]:
    """Yield the name, the role and the path of each file that the parameters name; in lists, too."""
    for name, field in type(parameters).model_fields.items():
        role = _role(field.annotation, field.metadata)
        if role is None:
            continue
        value = getattr(parameters, name)
        for item in value if isinstance(value, list | tuple) else [value]:
            if isinstance(item, Path):
                yield name, role, item


def placed(parameters: P, within: Within | None) -> P:
    """Return parameters whose files all lie in the folders that a client may use, with absolute paths.

    Raises:
        ServiceError: One lies elsewhere.
    """
    if within is None:
        return parameters
    where: dict[str, Any] = {}
    for name, role, path in files_of(parameters):
        real, value = within.place(name, role, path), getattr(parameters, name)
        if isinstance(value, list | tuple):
            where.setdefault(name, []).append(real)
        else:
            where[name] = real
    found = parameters.model_copy(update=where)
    found._within = within
    return found


def _role(annotation: Any, metadata: Any) -> Literal["read", "write"] | None:
    """Find the role of a field in its type, however deep: ``list[InFile]``, ``OutFile | None``."""
    for mark in metadata:
        if isinstance(mark, FileRole):
            return mark.role
        if isinstance(mark, ValueRole):
            return "read"
    for inner in getattr(annotation, "__args__", ()):
        found = _role(inner, getattr(inner, "__metadata__", ()))
        if found is not None:
            return found
    return None


def in_memory(kind: type[Parameters]) -> set[str]:
    """Return the names of the parameters that take an image or a table itself; every other one that reads takes a file."""
    return {
        name for name, field in kind.model_fields.items() if any(isinstance(mark, ValueRole) for mark in field.metadata)
    }


def input_of(kind: type[Parameters]) -> str | None:
    """Return the name of the parameter that is a task's input: the first file that it must be given; None where there is none."""
    for name, field in kind.model_fields.items():
        in_memory = any(isinstance(mark, ValueRole) for mark in field.metadata)
        if field.is_required() and not in_memory and _role(field.annotation, field.metadata) == "read":
            return name
    return None
