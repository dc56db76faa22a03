"""A clean end: Python quits every time, with its own exit code, whatever ran in Java.

Why it would not: the JVM ends only when its last non-daemon thread has ended, and ImageJ (after any threaded filter), TrackMate and others
leave pools of idle ones. So pools are shut down first; where threads still run after that, the JVM is left alone and the process ends
around it. That needs JPype's own reference thread to be stopped: while Python shuts down it would end the process with code 134 at times.
"""

from __future__ import annotations

import logging
import time
from typing import Any

__all__ = ["let_go", "prepare", "prepare_last"]

log = logging.getLogger(__name__)

PATIENCE_S = 3.0  # for threads that were told to end
OPENED = ("java.base/java.lang", "java.base/java.util.concurrent")  # to find the pool that a thread belongs to
OPTIONS = tuple(f"--add-opens={package}=ALL-UNNAMED" for package in OPENED)


def prepare() -> None:
    """Have images closed and pools shut down when the JVM is told to stop. Call before ImageJ starts: its own end comes after."""
    import scyjava

    scyjava.when_jvm_stops(let_go)


def prepare_last() -> None:
    """Have the JVM left alone where threads of it still run. Call after ImageJ has started: this comes after its own end."""
    import scyjava

    scyjava.when_jvm_stops(_last)


def let_go() -> None:
    """Close all images without asking, and shut down ImageJ's pool of threads."""
    import jpype

    try:
        manager = jpype.JClass("ij.WindowManager")
        for number in list(manager.getIDList() or ()):
            image = manager.getImage(number)
            if image is not None:
                image.changes = False  # nobody is there to answer "Save changes?"
                image.close()
    except (TypeError, jpype.JException) as error:  # no ImageJ, or a closed context
        log.debug("closing images: %s", error)
    try:
        jpype.JClass("ij.util.ThreadUtil").threadPoolExecutor.shutdownNow()
    except (TypeError, AttributeError, jpype.JException) as error:
        log.debug("ImageJ's pool: %s", error)


def _last() -> None:
    import jpype

    _dispose_windows()
    for thread in _lasting():
        pool = _pool_of(thread)
        if pool is not None:
            pool.shutdownNow()
        else:
            thread.interrupt()
    until = time.monotonic() + PATIENCE_S
    while (left := _lasting()) and time.monotonic() < until:
        time.sleep(0.05)
    if left:
        names = ", ".join(str(thread.getName()) for thread in left[:5])
        log.warning("%d threads of Java do not end (%s); Python ends without waiting for them.", len(left), names)
        jpype.config.destroy_jvm = False
        jpype.JClass("org.jpype.ref.JPypeReferenceQueue").getInstance().stop()


def _lasting() -> list[Any]:
    """Java's threads that would keep the JVM alive, without the one that asks and those of AWT (which end with the last window)."""
    import jpype

    thread_class = jpype.JClass("java.lang.Thread")
    here = thread_class.currentThread()
    return [
        thread
        for thread in thread_class.getAllStackTraces().keySet()
        if thread.isAlive()
        and not thread.isDaemon()
        and thread != here
        and not str(thread.getName()).startswith(("AWT-", "DestroyJavaVM"))
    ]


def _dispose_windows() -> None:
    import jpype
    import scyjava

    if scyjava.is_awt_initialized():
        for window in jpype.JClass("java.awt.Window").getWindows():
            window.dispose()


def _pool_of(thread: Any) -> Any | None:
    """The ThreadPoolExecutor whose idle worker a thread is, by Java's reflection; None if it is none, or Java does not let us look."""
    import jpype

    try:
        thread_class = jpype.JClass("java.lang.Thread").class_
        names = [str(field.getName()) for field in thread_class.getDeclaredFields()]
        task: Any = thread
        for step in ("target",) if "target" in names else ("holder", "task"):  # Java 19 moved it
            task = _field(task, step, thread_class if task is thread else task.getClass())
        if task is None or str(task.getClass().getName()) != "java.util.concurrent.ThreadPoolExecutor$Worker":
            return None
        return _field(task, "this$0", task.getClass())
    except (TypeError, AttributeError, jpype.JException) as error:
        log.debug("pool of %s: %s", thread.getName(), error)
        return None


def _field(owner: Any, name: str, kind: Any) -> Any:
    field = kind.getDeclaredField(name)
    field.setAccessible(True)
    return field.get(owner)
