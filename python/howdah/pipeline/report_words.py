"""What the page says: names and one plain sentence for every measure and every kind of error."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["CHALLENGE", "KINDS", "SEGMENTATION", "Kind", "KIND_WORDS"]
