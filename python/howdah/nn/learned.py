"""What the header of weights says of settings, beside what a person says; for all methods that learn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from howdah.config import Settings
from howdah.errors import WeightsError
from howdah.nn.checkpoint import Weights

__all__ = ["changed", "given", "plain", "table"]

Config = TypeVar("Config", bound=Settings)


def given(config: Settings, name: str) -> bool:
    """Whether a person gave a setting, be it the default; what is automatic (None, "auto") is left open in any case."""
    return name in config.model_fields_set and getattr(config, name) not in (None, "auto")


def changed(config: Config, changes: Mapping[str, Any], source: str) -> Config:
    """Return settings with some other values, checked; what nobody gave stays open.

    Raises:
        ConfigError: A value is not valid; the sentence names ``source``.
    """
    if not changes:
        return config
    return type(config).of({**config.model_dump(exclude_unset=True), **changes}, source=source)


def table(weights: Weights, name: str) -> Mapping[str, Any]:
    """Return a table of the header, an empty one where it has none.

    Raises:
        WeightsError: It is something else.
    """
    found = weights.header.get(name) or {}
    if not isinstance(found, Mapping):
        raise WeightsError(
            f"The header of the weights is damaged: '{name}' shall be a table, but is {found!r:.80}. Train again, or use another file."
        )
    return found


def plain(value: Any) -> Any:
    """Return a list instead of a tuple: what is read from a header has no tuples."""
    return list(value) if isinstance(value, tuple) else value
