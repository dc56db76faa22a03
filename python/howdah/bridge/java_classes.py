"""Java's classes by name, and Java's exceptions as sentences. Nothing here starts a JVM."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from howdah.errors import BridgeError, MissingExtraError

__all__ = ["has_class", "java_class", "java_errors", "jvm_runs", "need_jvm"]

# beginning of a class name -> what brings it; the first that fits
BROUGHT_BY = (
    ("ij.", "ImageJ (ij-*.jar), which every Fiji has"),
    ("net.imagej.legacy.", "imagej-legacy, which every Fiji has"),
    ("net.imagej.", "ImageJ2, which every Fiji has"),
    ("net.imglib2.python.", "imglib2-imglyb, which a Fiji has since 2023 (Help > Update...)"),
    ("net.imglib2.", "ImgLib2, which every Fiji has"),
    ("bdv.util.", "bigdataviewer-vistools, which every Fiji has"),
    ("bdv.", "BigDataViewer, which every Fiji has"),
    ("mpicbg.spim.data.", "spim_data, which every Fiji has"),
    ("org.mastodon.", "Mastodon (Help > Update... > Manage update sites: Mastodon)"),
    ("fiji.plugin.trackmate.", "TrackMate, which every Fiji has"),
    ("org.scijava.", "SciJava, which every Fiji has"),
)


def jvm_runs() -> bool:
    """Whether a Java virtual machine runs in this process. Asking does not start one."""
    jpype = sys.modules.get("jpype")
    return jpype is not None and bool(jpype.isJVMStarted())


def need_jvm() -> None:
    """Raise a sentence if no JVM runs: JPype would start one by itself, unprepared, and it could not be started again.

    Raises:
        BridgeError: No JVM runs.
    """
    if not jvm_runs():
        raise BridgeError(
            "No Java runs in this process. Start Fiji with howdah.bridge.start(fiji=...); inside Fiji's Python mode, "
            "use howdah.bridge.join()."
        )


def java_class(name: str) -> Any:
    """Return a Java class by its full name (``"ij.ImagePlus"``; an inner class by ``$``).

    Raises:
        BridgeError: No JVM runs, or the running Java does not have the class; the sentence says what brings it.
    """
    need_jvm()
    try:
        import jpype
    except ImportError as error:  # pragma: no cover - a JVM in this process came with JPype
        raise MissingExtraError("Driving Java needs JPype. Install it with: pip install 'howdah[fiji]'") from error
    try:
        return jpype.JClass(name)
    except (TypeError, jpype.JException) as error:
        brings = next((what for start, what in BROUGHT_BY if name.startswith(start)), "a jar that is not there")
        raise BridgeError(
            f"The running Java has no class {name} (or cannot load it: {error}). {brings} brings it."
        ) from error


def has_class(name: str) -> bool:
    """Whether a JVM runs and has this class."""
    try:
        java_class(name)
    except BridgeError:
        return False
    return True


@contextlib.contextmanager
def java_errors(doing: str) -> Iterator[None]:
    """Turn a Java exception of the block into a BridgeError: ``with java_errors("Opening a.mastodon"): ...``.

    The sentence holds what was done and Java's own words, down to the cause; Java's stack is in the error's notes.

    Raises:
        BridgeError: Java threw something.
    """
    import jpype

    try:
        yield
    except jpype.JException as error:
        trouble = BridgeError(f"{doing} failed in Java: {_words(error)}.{_advice(error)}")
        trouble.add_note(str(error.stacktrace()))
        raise trouble from error


def _words(error: Any) -> str:
    """Class and message of a Java exception and of its causes, each said once."""
    said: list[str] = []
    seen: Any = error
    for _ in range(8):
        if seen is None:
            break
        text = str(seen.getMessage() or "").strip().rstrip(".")
        line = f"{seen.getClass().getSimpleName()}{': ' + text.splitlines()[0] if text else ''}"
        if not any(text and text in former for former in said):
            said.append(line)
        seen = seen.getCause()
    return "; because of ".join(said)


def _advice(error: Any) -> str:
    seen: Any = error
    for _ in range(8):  # the cause may lie deep: what was thrown in another thread arrives wrapped
        if seen is None:
            return ""
        advice = _advice_on(str(seen.getClass().getName()), str(seen.getMessage() or ""))
        if advice:
            return advice
        seen = seen.getCause()
    return ""


def _advice_on(kind: str, words: str) -> str:
    if kind == "java.lang.OutOfMemoryError":
        return (
            " Java's heap is full: start with more, for example howdah.bridge.start(memory='8g'), or in Fiji Edit > Options > "
            "Memory & Threads."
        )
    if kind == "java.awt.HeadlessException":
        return " This needs windows: start Fiji with mode='interactive' on a computer with a display."
    if "No space left" in words:
        return " The disk is full: make room, or choose another place."
    if kind == "java.lang.UnsupportedClassVersionError":
        return " A part of Fiji needs a newer Java than the one that runs: set JAVA_HOME to a newer one."
    return ""
