"""What passes between numpy and Java for Mastodon: flat arrays, bytes, and a lock held during a block."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from bdv_io.errors import BdvIoError
from howdah.bridge.java_classes import java_class, java_errors
from howdah.errors import HowdahError

__all__ = ["bytes_of", "in_windows_thread", "java_array", "locked"]

T = TypeVar("T")


@contextlib.contextmanager
def locked(lock: Any) -> Iterator[None]:
    """Hold a Java lock during the block."""
    lock.lock()
    try:
        yield
    finally:
        lock.unlock()


def java_array(values: npt.ArrayLike, kind: str) -> Any:
    """Return a Java array of ``"int"`` or ``"double"``, flattened."""
    import jpype

    types: dict[str, tuple[Any, Any]] = {"int": (jpype.JInt, np.int32), "double": (jpype.JDouble, np.float64)}
    element, dtype = types[kind]
    return jpype.JArray.of(np.ascontiguousarray(values, dtype=dtype).reshape(-1), element)


def bytes_of(array: Any) -> bytes:
    """Return the content of a Java ``byte[]``."""
    return memoryview(array).tobytes() if len(array) else b""


def in_windows_thread(work: Callable[[], T]) -> T:
    """Do some work in the thread of Java's windows, wait for it, and return what it returns.

    Whoever changes a model that windows show must do it there: listeners touch the windows while the model is locked, and the
    windows wait for the model while they paint. From another thread both wait for ever.

    Raises:
        HowdahError, BdvIoError: What the work raised.
    """
    import jpype

    if bool(java_class("java.awt.EventQueue").isDispatchThread()):
        return work()
    results, errors = list[T](), list[HowdahError | BdvIoError]()

    def run() -> None:
        try:
            results.append(work())
        except (HowdahError, BdvIoError) as error:
            errors.append(error)

    with java_errors("Working in the thread of Java's windows"):
        java_class("java.awt.EventQueue").invokeAndWait(jpype.JProxy("java.lang.Runnable", dict={"run": run}))
    if errors:
        raise errors[0]
    return results[0]
