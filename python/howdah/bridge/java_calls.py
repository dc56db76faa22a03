"""Calls into the running Java: classes by name, faults as sentences, and work that belongs on Swing's own thread."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from howdah.errors import BridgeError, MissingExtraError

__all__ = ["calling", "has_display", "java_class", "need_display", "on_swing", "text_of"]

T = TypeVar("T")

LONGEST = 500  # characters of a Java message
ADVICE = {
    "java.awt.HeadlessException": "This needs a display: start Fiji with mode='interactive' (on a server under xvfb-run).",
    "java.lang.OutOfMemoryError": "Java's memory is full: start Fiji with more (memory='16g'), or close images.",
    "java.lang.NoClassDefFoundError": "A part of the program is missing or of another version: run Fiji's updater.",
    "java.lang.NoSuchMethodError": "The parts of the program are of different versions: run Fiji's updater.",
}


def _jpype() -> Any:
    try:
        jpype = importlib.import_module("jpype")
    except ImportError as error:
        raise MissingExtraError(
            "Calling Java needs the optional part 'fiji'. Install it with: pip install 'howdah[fiji]'"
        ) from error
    if not jpype.isJVMStarted():
        raise BridgeError("No Java is running in this Python. Start it first with howdah.bridge.start(...).")
    return jpype


def java_class(name: str) -> Any:
    """Return a Java class by its full name.

    Raises:
        MissingExtraError: JPype is not installed.
        BridgeError: No Java is running, or it does not have the class; the sentence names what has to be installed.
    """
    jpype = _jpype()
    try:
        return jpype.JClass(name)
    except TypeError:
        part = next((said for start, said in PARTS.items() if name.startswith(start)), "")
        raise BridgeError(f"The Java class {name} is not there. {part or 'Start a complete Fiji.'}") from None
    except jpype.JException as error:
        raise BridgeError(f"Loading the Java class {name} failed: {_said(error)}") from error


PARTS = {
    "fiji.plugin.trackmate.": "TrackMate is not part of what was started: give a Fiji that has it (every Fiji does by default).",
    "ij.": "ImageJ is not part of what was started: give the folder of a Fiji.",
}


@contextmanager
def calling(what: str) -> Iterator[None]:
    """Turn a Java exception into a :class:`BridgeError` that begins with ``what`` was tried: ``"Saving x.xml"``."""
    jpype = _jpype()
    try:
        yield
    except jpype.JException as error:
        raise BridgeError(f"{what} failed: {_said(error)}") from error


def _said(error: Any) -> str:
    """What a Java exception says: its kind, its message, and what to do where that is known."""
    kind = str(error.getClass().getName())
    cause, message = error, error.getMessage()
    while message is None and cause.getCause() is not None:
        cause = cause.getCause()
        message = cause.getMessage()
    where = cause.getStackTrace()
    place = f" at {where[0]}" if len(where) and message is None else ""
    words = " ".join(str(message).split())[:LONGEST] if message is not None else f"no message{place}"
    advice = ADVICE.get(kind, "")
    return f"Java says {kind} ({words}). {advice}".rstrip()


def text_of(value: Any) -> str | None:
    """A Java text as Python's, None for Java's null."""
    return None if value is None else str(value)


def has_display() -> bool:
    """Whether Java can open windows."""
    return not java_class("java.awt.GraphicsEnvironment").isHeadless()


def need_display(what: str) -> None:
    """Raise a BridgeError where Java cannot open windows; ``what`` was tried."""
    if not has_display():
        raise BridgeError(f"{what} failed: Java runs without a display. {ADVICE['java.awt.HeadlessException']}")


def on_swing(action: Callable[[], T]) -> T:
    """Run ``action`` on Swing's thread and return what it returns, or raise what it raises.

    Windows listen to a model: a change from another thread may be painted half-way. Without a display there is no such
    thread, and the action runs here.
    """
    jpype = _jpype()
    utilities = java_class("javax.swing.SwingUtilities")
    if not has_display() or utilities.isEventDispatchThread():
        return action()
    kept: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            kept.append(action())
        except BaseException as error:  # noqa: BLE001  it is raised again below, in the thread that asked
            raised.append(error)

    utilities.invokeAndWait(jpype.JProxy("java.lang.Runnable", dict={"run": run}))
    if raised:
        raise raised[0]
    return kept[0]
