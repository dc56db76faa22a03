"""What passes between numpy and Java for Mastodon: flat arrays, bytes, and a lock held during a block."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["bytes_of", "java_array", "locked"]


@contextlib.contextmanager
def locked(lock: Any) -> Iterator[None]:
    """Hold a Java lock during the block."""
    lock.lock()
    try:
        yield
    finally:
        lock.unlock()


def java_array(values: npt.ArrayLike, kind: str) -> Any:
    """Return a Java array of ``"int"`` or ``"double"`` (flattened), or of ``"String"`` (None becomes null)."""
    import jpype

    if kind == "String":
        return jpype.JArray(jpype.JString)(values)
    types: dict[str, tuple[Any, Any]] = {"int": (jpype.JInt, np.int32), "double": (jpype.JDouble, np.float64)}
    element, dtype = types[kind]
    return jpype.JArray.of(np.ascontiguousarray(values, dtype=dtype).reshape(-1), element)


def bytes_of(array: Any) -> bytes:
    """Return the content of a Java ``byte[]``."""
    return memoryview(array).tobytes() if len(array) else b""
