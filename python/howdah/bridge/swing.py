"""Windows of Java: whether there can be any, and work that belongs on their thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from howdah.bridge.java_classes import java_class, need_jvm
from howdah.errors import BridgeError

__all__ = ["has_display", "need_display", "on_swing", "open_windows"]

T = TypeVar("T")


def has_display() -> bool:
    """Whether Java can open windows."""
    return not java_class("java.awt.GraphicsEnvironment").isHeadless()


def need_display(what: str) -> None:
    """Raise a sentence where Java cannot open windows; ``what`` needs them: ``"Showing tracks"``.

    Raises:
        BridgeError: Java runs headless.
    """
    if not has_display():
        raise BridgeError(
            f"{what} needs windows, and this Java runs headless. Start Fiji with mode='interactive' where there is a display "
            "(on a server: under xvfb-run)."
        )


def open_windows() -> list[Any]:
    """Return Java's windows that hold a place on the display, also hidden ones: any of them keeps Java alive."""
    return [one for one in java_class("java.awt.Window").getWindows() if one.isDisplayable()]


def on_swing(action: Callable[[], T]) -> T:
    """Run ``action`` on the thread of Java's windows; return what it returns, or raise what it raises.

    Windows listen to a model: a change from another thread may be painted half-way. Where there is no display there is no such
    thread, and the action runs here.
    """
    need_jvm()
    import jpype

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
