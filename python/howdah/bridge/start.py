"""Start Fiji from Python, or join the Fiji in which a script runs; and end it so that Python quits.

One JVM a process, once: everything is checked before it starts, and a second call of :func:`start` with the same arguments returns the Fiji
that runs already (a notebook's cell can be run again).
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from howdah.bridge import stop
from howdah.bridge.checks import COORDINATES, Mode, demand, examine, folder_of
from howdah.bridge.fiji_folder import read_fiji
from howdah.bridge.java_classes import has_class, java_class, java_errors, jvm_runs, need_jvm
from howdah.bridge.java_home import find_java
from howdah.bridge.memory import heap_bytes
from howdah.errors import BridgeError, ConfigError, MissingExtraError

__all__ = ["Fiji", "join", "start", "start_imagej"]

log = logging.getLogger(__name__)


@dataclass
class Fiji:
    """A Fiji that runs in this process. Use it with ``with``, or :meth:`close` it, or just let Python end.

    Attributes:
        ij: PyImageJ's gateway (``ij.op()``, ``ij.ui()``, ``ij.py`` ...); None for ImageJ 1 alone.
        mode: ``"headless"``, ``"interactive"`` or ``"gui"``.
        folder: The Fiji folder, or None where it came from coordinates or was joined.
        owned: Whether this Python started it (and ends it).
    """

    ij: Any
    mode: Mode
    folder: Path | None = None
    owned: bool = True
    asked: tuple[Any, ...] = field(default=(), repr=False)
    closed: bool = field(default=False, repr=False)

    @property
    def version(self) -> str:
        """Version of ImageJ2 (where it is there) and of ImageJ, for example ``"2.16.0/1.54p"``."""
        first = str(java_class("ij.IJ").getVersion()) if has_class("ij.IJ") else ""
        second = str(self.ij.getVersion()) if self.ij is not None else ""
        return second if first and second.endswith(first) else "/".join(filter(None, (second, first)))

    @property
    def headless(self) -> bool:
        """Whether no windows can be opened."""
        return bool(java_class("java.awt.GraphicsEnvironment").isHeadless())

    @property
    def context(self) -> Any:
        """SciJava's context.

        Raises:
            BridgeError: This is ImageJ 1 alone.
        """
        if self.ij is None:
            raise BridgeError(
                "This is ImageJ alone, without SciJava's context. Start a whole Fiji: howdah.bridge.start(fiji=...)."
            )
        return self.ij.context()

    @property
    def heap(self) -> tuple[int, int]:
        """Java's heap: bytes in use, and the most there may be."""
        runtime = java_class("java.lang.Runtime").getRuntime()
        return int(runtime.totalMemory() - runtime.freeMemory()), int(runtime.maxMemory())

    def jimport(self, name: str) -> Any:
        """Return a Java class by its full name.

        Raises:
            BridgeError: This Fiji was closed, or has no such class; the sentence says what brings it.
        """
        self._open()
        return java_class(name)

    def need_windows(self, what: str) -> None:
        """Raise a sentence if no windows can be opened.

        Raises:
            BridgeError: This Fiji is headless.
        """
        self._open()
        if self.headless:
            raise BridgeError(
                f"{what} needs windows, and this Fiji runs headless. Start it with mode='interactive' where there is a display."
            )

    def show(self) -> None:
        """Show Fiji's main window. When the user closes it, Python goes on (ImageJ by itself would end the process, with exit code 0).

        Raises:
            BridgeError: This Fiji is headless, or Java failed.
        """
        self.need_windows("Fiji's main window")
        with java_errors("Showing Fiji's main window"):
            if self.ij is not None:
                self.ij.ui().showUI()
            window = java_class("ij.IJ").getInstance()
            if window is not None:
                if self.ij is None:
                    window.setVisible(True)
                window.exitWhenQuitting(False)

    def wait(self) -> None:
        """Wait until Fiji's main window is closed (:meth:`show`, mode ``"gui"``); returns at once where there is none."""
        while not self.closed and jvm_runs():
            window = java_class("ij.IJ").getInstance()
            if window is None or not window.isVisible():
                return
            time.sleep(0.2)

    def close(self) -> None:
        """End this Fiji and its JVM. A Fiji that was joined goes on. After this, no JVM can be started in this process."""
        if self.closed:
            return
        self.closed = True
        if not self.owned:
            return
        import scyjava

        scyjava.shutdown_jvm()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> None:
        if self.closed:
            raise BridgeError("This Fiji was closed. A JVM can be started only once in a process: restart Python.")


_running: list[Fiji] = []
_spoilt: list[str] = []


def start(
    fiji: str | Path | None = None,
    *,
    mode: Mode = "headless",
    memory: str | int | None = None,
    offline: bool | None = None,
) -> Fiji:
    """Start Fiji in this process; or join it, where the script runs in Fiji's Python mode and no other Fiji is named.

    A local folder needs no network at all if it has imglib2-imglyb (every Fiji since 2023). Coordinates are fetched from SciJava's
    repository, which must answer within 3 s.

    Args:
        fiji: A Fiji folder; or Maven coordinates (``"sc.fiji:fiji:2.17.0"``, several joined by ``+``) or a version of ImageJ2; or None for
            the folder that HOWDAH_FIJI names, else the newest Fiji online.
        mode: ``"headless"``; ``"interactive"``: windows can be opened, none is; ``"gui"``: with Fiji's main window (:meth:`Fiji.wait`).
        memory: Java's heap: ``"8g"``, ``"75%"``, bytes; None for Java's own choice, a quarter of the memory.
        offline: True to never ask the network; None for what ``fiji`` needs.

    Returns:
        The running Fiji; the same one again if it was started with the same arguments before.

    Raises:
        BridgeError: A check failed (nothing was started then), or Fiji did not start.
        MissingExtraError: PyImageJ is not installed.
    """
    asked = ("fiji", str(fiji), mode, str(memory))
    again = _again(asked)
    if again is not None:
        return again
    if fiji is None and jvm_runs() and has_class("net.imagej.ImageJ"):
        return join()
    demand(examine(fiji, mode, memory=memory, offline=offline))
    folder = folder_of(fiji)
    what = str(folder) if folder else str(fiji or COORDINATES)
    java = find_java(folder)
    os.environ["JAVA_HOME"] = str(java.home)  # so that the Java that was checked is the one that starts
    with _said() as said, _start_errors(f"Starting Fiji ({what})", said):
        import imagej
        import scyjava

        _configure(scyjava, memory)
        if folder is not None:
            known = read_fiji(folder)
            if known.version("imglib2-imglyb") is not None:
                scyjava.config.endpoints.clear()  # importing imagej asks for imglyb, which lies in the folder
            for name in ("imagej.dir", "ij.dir", "fiji.dir", "scijava.app.directory"):
                scyjava.config.add_option(f"-D{name}={known.path}")
        stop.prepare()
        gateway = imagej.init(
            str(folder.expanduser()) if folder else what, mode="headless" if mode == "headless" else "interactive"
        )
        if not gateway:
            raise RuntimeError("ImageJ2 was not found among the jars")
        stop.prepare_last()
    return _keep(Fiji(gateway, mode, folder, asked=asked))


def start_imagej(
    classpath: str | Sequence[str | Path],
    *,
    mode: Mode = "headless",
    memory: str | int | None = None,
    patch: bool = False,
) -> Fiji:
    """Start ImageJ 1 alone, from jars: no PyImageJ, no ImageJ2, no network. Images, ROIs and filters work; Dataset and live models do not.

    Args:
        classpath: The jars (``ij-*.jar`` among them), as a list or joined as Java does it.
        mode: As for :func:`start`.
        memory: As for :func:`start`.
        patch: Headless only: let ij1-patcher make ``IJ.run`` and macros with ``run(...)`` work (takes up to ten seconds).

    Raises:
        BridgeError: A check failed (nothing was started then), or ImageJ is not among the jars.
        MissingExtraError: JPype is not installed.
    """
    jars = [str(jar) for jar in (classpath.split(os.pathsep) if isinstance(classpath, str) else classpath)]
    asked = ("imagej", tuple(jars), mode, str(memory), patch)
    again = _again(asked)
    if again is not None:
        return again
    gone = [jar for jar in jars if not jar.endswith("*") and not Path(jar).exists()]
    if gone or not any(re.search(r"(^|[/\\])ij-[^/\\]*\.jar$", jar) for jar in jars):
        raise BridgeError(
            f"Starting ImageJ alone failed: {f'there is no {gone[0]}' if gone else f'no ij-*.jar is among the {len(jars)} jars'}. "
            "Give the jars of ImageJ."
        )
    demand(
        [one for one in examine(".", mode, memory=memory) if one.what not in ("Fiji", "parts of Fiji", "repository")]
    )
    os.environ["JAVA_HOME"] = str(find_java().home)
    with _said() as said, _start_errors("Starting ImageJ alone", said):
        import scyjava

        scyjava.config.endpoints.clear()
        _configure(scyjava, memory)
        scyjava.config.add_classpath(*jars)
        if mode == "headless":
            scyjava.config.add_option("-Djava.awt.headless=true")
        stop.prepare()
        scyjava.start_jvm()
        if patch and mode == "headless":
            java_class("net.imagej.patcher.LegacyInjector").preinit()
        if mode != "headless":
            imagej_class = java_class("ij.ImageJ")
            imagej_class(imagej_class.NO_SHOW)
        stop.prepare_last()
    return _keep(Fiji(None, mode, asked=asked))


def join(context: Any = None) -> Fiji:
    """Join the Fiji in which this script runs (Fiji's Python mode, script language "Python").

    Args:
        context: SciJava's context, from a script's line ``#@ Context context``; None to ask the running ImageJ for it.

    Returns:
        The running Fiji; closing it does nothing.

    Raises:
        BridgeError: No JVM runs, or it has no ImageJ2 running in it.
    """
    if _running and not _running[-1].closed:
        return _running[-1]
    need_jvm()
    if context is None:
        with java_errors("Asking the running ImageJ for its context"):
            context = java_class("ij.IJ").runPlugIn("org.scijava.Context", "")
    if context is None:
        raise BridgeError(
            "A Java runs in this process, but no ImageJ2 in it. In Fiji's Python mode, put the line '#@ Context context' on top of the "
            "script and call howdah.bridge.join(context)."
        )
    try:
        import imagej  # noqa: F401 - gives the gateway its Python side (ij.py)
    except ImportError as error:
        raise MissingExtraError("Joining Fiji needs PyImageJ. Install it with: pip install 'howdah[fiji]'") from error
    with java_errors("Joining the running Fiji"):
        gateway = java_class("net.imagej.ImageJ")(context)
    headless = bool(java_class("java.awt.GraphicsEnvironment").isHeadless())
    folder = java_class("java.lang.System").getProperty("imagej.dir")
    return Fiji(gateway, "headless" if headless else "interactive", Path(str(folder)) if folder else None, owned=False)


def _again(asked: tuple[Any, ...]) -> Fiji | None:
    """The Fiji that runs already, if it was asked for in the same way; a sentence if it was not, or if a start failed before."""
    if _spoilt:
        raise BridgeError(
            f"An earlier start in this process failed when Java was already running ({_spoilt[0]}). Restart Python."
        )
    if not _running:
        return None
    fiji = _running[-1]
    if fiji.closed or not jvm_runs():
        raise BridgeError(
            "The Fiji of this process was closed, and a JVM can be started only once. Restart Python (in a notebook: the kernel)."
        )
    if fiji.asked != asked:
        raise BridgeError(
            f"A Fiji runs already in this process, started with {fiji.asked[1:]}; {asked[1:]} was asked for. There can be only one: use "
            "the one that runs, or restart Python."
        )
    return fiji


def _keep(fiji: Fiji) -> Fiji:
    _running.append(fiji)
    if fiji.mode == "gui":
        fiji.show()
    return fiji


def _configure(scyjava: Any, memory: str | int | None) -> None:
    """Settings that were tried: the system's Java (the default would fetch one), and room to look into Java's pools at the end."""
    scyjava.config.set_java_constraints(fetch="auto")
    heap = heap_bytes(memory)
    for option in (*stop.OPTIONS, *([f"-Xmx{heap >> 20}m"] if heap is not None else [])):
        scyjava.config.add_option(option)


@contextlib.contextmanager
def _said() -> Iterator[list[str]]:
    """Collect what PyImageJ, scyjava and jgo log as errors: the reason of a failed start is only there."""
    said: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    keep = Keep(logging.ERROR)
    loggers = [logging.getLogger(name) for name in ("imagej", "scyjava", "jgo")]
    for one in loggers:
        one.addHandler(keep)
    try:
        yield said
    finally:
        for one in loggers:
            one.removeHandler(keep)


@contextlib.contextmanager
def _start_errors(doing: str, said: list[str]) -> Iterator[None]:
    """Turn whatever a failed start raises into one sentence, and note whether it can be tried again."""
    try:
        yield
    except (BridgeError, ConfigError):
        raise
    except ImportError as error:
        raise MissingExtraError(f"{doing} failed: {error}. Install with: pip install 'howdah[fiji]'") from error
    except _kinds_of_trouble() as error:
        reason = _reason(error, said)
        text = f"{doing} failed: {reason[:600].rstrip('.')}."
        if jvm_runs():
            _spoilt.append(text)
            text += " Java is running now and cannot be started again: restart Python first."
        raise BridgeError(f"{text} `howdah doctor` lists what is there.") from error


def _reason(error: BaseException, said: list[str]) -> str:
    """Why a start failed: the exception's words and what was logged, and what to do where that is known."""
    words = (str(error).strip() or type(error).__name__).splitlines()[0]
    asked = getattr(getattr(error, "request", None), "url", None)
    if asked:
        return f"{asked} could not be fetched. Give a local Fiji (fiji=...), or mend the network (proxy, firewall)"
    if "RELEASE version" in words:
        return f"{words}: it was not fetched before, and no repository answers. Give a local Fiji (fiji=...), or a version that was fetched"
    if words.startswith("Failed to create a JVM") and said:
        words = ""  # the reason is what was logged
    return "; ".join(dict.fromkeys(text.strip().rstrip(".") for text in (words, *said) if text.strip()))


def _kinds_of_trouble() -> tuple[type[BaseException], ...]:
    """What Java, jgo, requests and PyImageJ were seen to raise at a failed start."""
    import jpype

    return (
        RuntimeError,
        TypeError,
        ValueError,
        OSError,
        LookupError,
        AttributeError,
        NameError,
        SyntaxError,
        jpype.JException,
    )
