"""Settings: one frozen, validated object a method, with a sentence and a unit under each field.

Settings come from code, from a TOML file (one section a method) or from the command line; an unknown key is an error
that names the nearest known one. They are written as JSON beside every result and into every weights file.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from howdah.errors import ConfigError

__all__ = ["Settings", "read_toml"]


class Settings(BaseModel):
    """Base of all settings: frozen, unknown keys rejected, errors as sentences. Use :meth:`of` to build one."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False, defer_build=True)

    @classmethod
    def of(cls, values: Mapping[str, Any], *, source: str = "the settings") -> Self:
        """Build from a mapping of field names to values.

        Raises:
            ConfigError: A key is unknown (the nearest known one is named) or a value is out of range.
        """
        for key in values:
            if key not in cls.model_fields:
                raise ConfigError(_unknown(key, list(cls.model_fields), source))
        try:
            return cls(**values)
        except ValidationError as error:
            raise ConfigError(" ".join(_sentence(problem, source) for problem in error.errors())) from None

    def but(self, **changes: Any) -> Self:
        """Return a copy with some fields changed, validated again; fields that nobody gave stay so (``model_fields_set``)."""
        return type(self).of({**self.model_dump(exclude_unset=True), **changes})


def read_toml(path: Path, sections: Mapping[str, type[Settings]]) -> dict[str, dict[str, Any]]:
    """Read settings from a TOML file: one section for each name in ``sections``; keys are checked, values not yet.

    Returns:
        Section -> mapping of the keys that the file sets.

    Raises:
        ConfigError: The file cannot be read, is no TOML, or has a section or key that is unknown.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"Reading the settings failed: there is no file {path}.") from None
    except (OSError, UnicodeDecodeError, RecursionError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            f"Reading the settings in {path} failed: {error}. A settings file is TOML, with sections."
        ) from None
    read: dict[str, dict[str, Any]] = {}
    for section, values in tables.items():
        if section not in sections:
            raise ConfigError(_unknown(section, list(sections), str(path), what="section"))
        if not isinstance(values, dict):
            raise ConfigError(
                f"Reading the settings in {path} failed: '{section}' is no section; write [{section}] above its keys."
            )
        for key in values:
            if key not in sections[section].model_fields:
                raise ConfigError(_unknown(key, list(sections[section].model_fields), f"[{section}] of {path}"))
        read[section] = values
    return read


def _unknown(key: str, known: list[str], source: str, *, what: str = "setting") -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"Did you mean '{near[0]}'?" if near else f"Known are: {', '.join(known)}."
    return f"There is no {what} '{key}' in {source}. {hint}"


def _sentence(problem: Any, source: str) -> str:
    field = ".".join(str(part) for part in problem["loc"]) or "the combination of settings"
    text = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "tuple_type":
        text = "Input should be several numbers, separated by commas"
    found = "" if problem["type"] == "value_error" and not problem["loc"] else f" (found: {problem['input']!r})"
    return f"Setting '{field}' in {source}: {text}{found}."
