"""What is checked before a JVM starts: a start that fails cannot be repeated in the same process.

Nothing here starts a JVM or imports PyImageJ.
"""

from __future__ import annotations

import os
import re
import socket
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

from howdah.bridge.fiji_folder import NEEDED, FijiFolder, read_fiji
from howdah.bridge.java_classes import jvm_runs
from howdah.bridge.java_home import LEAST_JAVA, Java, find_java
from howdah.bridge.memory import heap_bytes, physical_memory
from howdah.errors import BridgeError, MissingExtraError

__all__ = ["COORDINATES", "Finding", "Mode", "demand", "examine", "folder_of", "reaches", "without_password"]

Mode = Literal["headless", "interactive", "gui"]
COORDINATES = "sc.fiji:fiji"  # what is fetched where no folder is named
PACKAGES = {"imagej": "pyimagej", "scyjava": "scyjava", "jpype": "jpype1", "imglyb": "imglyb"}
REACH_S = 3.0
IMGLYB = "imglib2-imglyb"


@dataclass(frozen=True)
class Finding:
    """One thing that was checked.

    Attributes:
        what: What was checked, one or two words: ``"Java"``.
        found: What was found.
        ok: Whether a start may go on.
        advice: What to do; may say something although ``ok``.
    """

    what: str
    found: str
    ok: bool = True
    advice: str = ""

    @property
    def sentence(self) -> str:
        """What was found, and what to do."""
        return f"{self.found} {self.advice}".strip()


def examine(
    fiji: str | Path | None = None,
    mode: Mode = "headless",
    *,
    memory: str | int | None = None,
    offline: bool | None = None,
) -> list[Finding]:
    """Check all that a start needs, in the order in which it needs it; nothing is started.

    Args:
        fiji: A Fiji folder; Maven coordinates (``"sc.fiji:fiji"``) or a version of ImageJ2; None for HOWDAH_FIJI, else the newest online.
        mode: As for :func:`howdah.bridge.start`.
        memory: Java's heap: ``"8g"``, ``"75%"``, bytes, or None for Java's own choice (a quarter of the memory).
        offline: Whether the network may not be used; None for what ``fiji`` needs.

    Raises:
        BridgeError: ``mode`` or ``memory`` cannot be understood.
    """
    if mode not in get_args(Mode):
        raise BridgeError(f"Fiji was asked to start in mode {mode!r}; known are headless, interactive and gui.")
    findings = [_packages(), _running()]
    folder, about_folder = _folder(fiji)
    findings += about_folder
    java, about_java = _java(folder)
    findings.append(about_java)
    if folder is not None:
        findings.append(_inside(folder, java))
    if about_folder and about_folder[0].ok and (folder is None or folder.version(IMGLYB) is None):
        findings.append(_repository(folder, offline))
    findings.append(_heap(memory))
    if mode != "headless":
        findings.append(_display(java))
    return findings


def demand(findings: Sequence[Finding]) -> None:
    """Raise the first finding that forbids a start, as one sentence.

    Raises:
        MissingExtraError: Python packages are missing.
        BridgeError: Anything else is.
    """
    for finding in findings:
        if not finding.ok:
            raise (MissingExtraError if finding.what == "Python packages" else BridgeError)(finding.sentence)


def folder_of(fiji: str | Path | None) -> Path | None:
    """The folder that ``fiji`` means (None: HOWDAH_FIJI), or None where it means coordinates."""
    named = fiji if fiji is not None else os.environ.get("HOWDAH_FIJI") or None
    if named is None:
        return None
    text = str(named)
    path = Path(text).expanduser()
    coordinates = (
        re.fullmatch(r"\d+\.\d+(\.\d+)?\S*|[\w.\-]+(:[\w.\-]+)+(\+\s*[\w.\-]+(:[\w.\-]+)+)*", text) is not None
    )
    return None if isinstance(named, str) and coordinates and not path.exists() else path


def reaches(address: str, *, timeout_s: float = REACH_S) -> str | None:
    """Whether a web address answers in time: None if it does, else why not. Name look-up counts, too."""
    trouble: list[str] = [f"no answer within {timeout_s:g} s"]

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=timeout_s):
                trouble.clear()
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in (401, 403, 404, 405):  # it is there; it likes the question not
                trouble.clear()
            else:
                trouble[:] = [f"it answers {error.code} {error.reason}"]
        except (OSError, ValueError) as error:
            trouble[:] = [str(getattr(error, "reason", error))]

    asking = threading.Thread(target=ask, daemon=True)  # looking up a name knows no time-out
    asking.start()
    asking.join(timeout_s)
    return " ".join(trouble) or None


def _packages() -> Finding:
    missing = [name for module, name in PACKAGES.items() if find_spec(module) is None]
    if missing:
        return Finding(
            "Python packages",
            f"Driving Fiji needs {', '.join(missing)}.",
            False,
            "Install with: pip install 'howdah[fiji]'",
        )
    return Finding("Python packages", f"{', '.join(PACKAGES.values())} are installed.")


def _running() -> Finding:
    if jvm_runs():
        return Finding(
            "JVM",
            "A Java already runs in this process, and there can be only one.",
            False,
            "Inside Fiji use howdah.bridge.join(); otherwise restart Python (in a notebook: restart the kernel).",
        )
    return Finding("JVM", "No Java runs in this process yet.")


def _folder(fiji: str | Path | None) -> tuple[FijiFolder | None, list[Finding]]:
    path = folder_of(fiji)
    if path is None:
        return None, [Finding("Fiji", f"Coordinates {fiji or COORDINATES} (no local folder).")]
    try:
        folder = read_fiji(path)
    except BridgeError as error:
        return None, [Finding("Fiji", str(error), False)]
    return folder, [Finding("Fiji", f"{folder.path} with {len(folder.class_path())} jars.")]


def _java(folder: FijiFolder | None) -> tuple[Java | None, Finding]:
    try:
        java = find_java(folder.path if folder else None)
    except BridgeError as error:
        return None, Finding("Java", str(error), False)
    found = f"Java {java.version} in {java.home} (found by {java.found_by})."
    if java.major < LEAST_JAVA:
        return java, Finding("Java", found, False, f"Install Java {LEAST_JAVA} or newer, or set JAVA_HOME to one.")
    return java, Finding("Java", found)


def _inside(folder: FijiFolder, java: Java | None) -> Finding:
    missing = folder.missing
    if missing:
        parts = ", ".join(f"{name} ({what})" for name, what in missing.items())
        return Finding(
            "parts of Fiji",
            f"{folder.path} lacks {parts}.",
            False,
            "Update this Fiji (Help > Update...), or unpack a new one.",
        )
    needs = {name: folder.jars[name].java() for name in (*NEEDED, "TrackMate", "mastodon") if name in folder.jars}
    newest = max(needs, key=lambda name: needs[name])
    if java is not None and needs[newest] > java.major:
        return Finding(
            "parts of Fiji",
            f"{newest} in {folder.path} needs Java {needs[newest]}, but Java {java.version} in {java.home} was found.",
            False,
            f"Set JAVA_HOME to a Java {needs[newest]} or newer.",
        )
    doubles = "; ".join(f"{name} {' and '.join(versions)}" for name, versions in folder.doubles.items())
    found = f"ImageJ {folder.version('ij')}, ImageJ2 {folder.version('imagej')}, imglyb {folder.version(IMGLYB) or 'not there'}."
    return Finding(
        "parts of Fiji", found, True, f"In several versions: {doubles}. Remove the old ones." if doubles else ""
    )


def _repository(folder: FijiFolder | None, offline: bool | None) -> Finding:
    what = (
        f"imglib2-imglyb is not in {folder.path / 'jars'}" if folder else "Fiji's Java parts are not named as a folder"
    )
    cure = (
        "Update this Fiji (Help > Update...), or run once with network."
        if folder
        else "Give a local Fiji with fiji=..., or run once with network."
    )
    if offline:
        if folder is None:
            return Finding("repository", "Not asked (offline): only what was fetched before can be found.")
        return Finding("repository", f"{what}, and the network may not be used.", False, cure)
    addresses = _repository_addresses()
    if addresses is None:
        return Finding("repository", "Not asked: scyjava is not installed.")
    if not addresses:
        return Finding("repository", "scyjava is told of none, so only Maven Central is asked.")
    said = {without_password(address): reaches(address) for address in addresses}
    if all(said.values()):
        trouble = "; ".join(f"{address} cannot be reached ({why}" for address, why in said.items())
        return Finding("repository", f"{what}, and the repository {trouble}; asked for {REACH_S:g} s).", False, cure)
    return Finding("repository", f"{', '.join(address for address, why in said.items() if not why)} answers.")


def without_password(address: str) -> str:
    """Return a web address without the name and password that it may hold."""
    return re.sub(r"//[^/@\s]*@", "//", address)


def _repository_addresses() -> list[str] | None:
    """The repositories that scyjava is told, so that a lab's mirror counts too; None without scyjava. Importing it starts no JVM."""
    try:
        import scyjava.config
    except ImportError:
        return None
    return [str(address) for address in scyjava.config.get_repositories().values()]


def _heap(memory: str | int | None) -> Finding:
    there = physical_memory()
    asked = heap_bytes(memory)
    giga = 2.0**30
    if asked is None:
        text = f"Java's own choice: a quarter of {there / giga:.1f} GB." if there else "Java's own choice."
        return Finding("heap", text)
    if there and asked > there:
        return Finding(
            "heap",
            f"Java's heap of {asked / giga:.1f} GB was asked for, but this computer has {there / giga:.1f} GB.",
            False,
            f"Ask for at most {there * 0.8 / giga:.0f} GB: memory='{max(1, int(there * 0.8 / giga))}g'.",
        )
    return Finding("heap", f"{asked / giga:.1f} GB" + (f" of {there / giga:.1f} GB." if there else "."))


def _display(java: Java | None) -> Finding:
    if java is not None and java.major >= LEAST_JAVA and not java.windows:
        return Finding(
            "display",
            f"The Java in {java.home} is a headless one: it cannot open windows.",
            False,
            "Install the whole package (openjdk-17-jre, not ...-headless), or use mode='headless'.",
        )
    if sys.platform == "darwin":
        if threading.current_thread() is threading.main_thread() and "IPython" not in sys.modules:
            return Finding(
                "display",
                "On macOS windows need the main thread for themselves, and this is a plain Python script.",
                False,
                "Run it in Jupyter or IPython, in Fiji's Python mode, or with mode='headless'.",
            )
        return Finding("display", "macOS.")
    if sys.platform == "win32":
        return Finding("display", "Windows.")
    named = os.environ.get("DISPLAY")
    cure = "Run it where there is a display (or under xvfb-run), or use mode='headless'."
    if not named:
        return Finding("display", "There is no display (DISPLAY is not set).", False, cure)
    trouble = _asks_display(named)
    if trouble:
        return Finding("display", f"The display {named} does not answer ({trouble}).", False, cure)
    return Finding("display", f"{named} answers.")


def _asks_display(named: str) -> str | None:
    """Whether an X server listens at a display's name: None if it does (or the name is of an unknown kind), else why not."""
    match = re.fullmatch(r"(?P<host>[^/:]*):(?P<number>\d+)(\.\d+)?", named)
    if match is None:
        return None
    number = int(match["number"])
    if match["host"] in ("", "unix"):
        places: list[str] = [f"\0/tmp/.X11-unix/X{number}", f"/tmp/.X11-unix/X{number}"]
        trouble = "nobody listens"
        for place in places:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
                line.settimeout(REACH_S)
                try:
                    line.connect(place)
                except OSError as error:
                    trouble = str(error)
                else:
                    return None
        return trouble
    try:
        socket.create_connection((match["host"], 6000 + number), timeout=REACH_S).close()
    except OSError as error:
        return str(error)
    return None
