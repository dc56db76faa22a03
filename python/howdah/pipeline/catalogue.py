"""What each method can do, its networks with their exact sizes, and its settings."""

from __future__ import annotations

from typing import Any

from howdah.config import Settings
from howdah.methods import METHODS, method

__all__ = ["catalogue", "settings_table"]


def catalogue() -> list[dict[str, Any]]:
    """Return one entry a method: what it is, what it can do, its networks (parameters counted on the network itself;
    None where torch is not installed), its settings with defaults and units."""
    return [method(name).describe() | {"settings": settings_table(method(name).CONFIG)} for name in METHODS]


def settings_table(kind: type[Settings]) -> list[dict[str, Any]]:
    """Return name, default and description of each setting."""
    return [
        {"name": name, "default": field.default, "description": field.description or ""}
        for name, field in kind.model_fields.items()
    ]
