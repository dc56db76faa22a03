"""Java as Mastodon's part of the bridge needs it: classes by name, arrays, and Java's errors as sentences."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from howdah.errors import BridgeError, MissingExtraError

__all__ = ["bytes_of", "java", "java_array", "locked", "sentences"]

HINTS = {
    "OutOfMemoryError": "Java's memory is full; give Fiji more in Edit > Options > Memory & Threads.",
    "HeadlessException": "There is no display; start with one, or with a virtual one (xvfb-run).",
    "UTFDataFormatException": "A text in the project is damaged.",
    "NoClassDefFoundError": "This Fiji lacks a part of Mastodon; update it through its update site.",
}


def java(name: str) -> Any:
    """Return a Java class by its full name (``$`` before a nested one); Java must run.

    Raises:
        MissingExtraError: JPype is not installed.
        BridgeError: Java does not run, or has no such class.
    """
    try:
        import jpype
    except ImportError:
        raise MissingExtraError(
            "Talking to Mastodon needs JPype, which is not installed; install howdah with its extra 'fiji'."
        ) from None
    if not jpype.isJVMStarted():
        raise BridgeError(f"Looking up {name} failed: Java does not run; start Fiji first with howdah.bridge.start.")
    try:
        return jpype.JClass(name)
    except TypeError:
        where = "the update site Mastodon" if name.startswith("org.mastodon.") else "a newer Fiji"
        raise BridgeError(f"This Fiji has no class {name}; it comes with {where}.") from None


@contextlib.contextmanager
def sentences(action: str) -> Iterator[None]:
    """Turn a Java exception inside the block into a BridgeError that says what was tried.

    Args:
        action: What is being done, as a sentence begins: ``"Opening x.mastodon"``.
    """
    exceptions = java("java.lang.Throwable")
    try:
        yield
    except exceptions as error:
        kind = str(error.getClass().getSimpleName())
        text = " ".join(str(error.getMessage() or "").split())[:300]
        hint = HINTS.get(kind, "")
        said = f"Java says {kind}{': ' + text if text else ''}"
        raise BridgeError(f"{action} failed: {said.rstrip('.')}. {hint}".rstrip()) from error


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
