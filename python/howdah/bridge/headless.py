"""One of Howdah's scripts in a headless Fiji, as a program of its own: quoted, with a time-out, and with an exit code that is true.

A headless Fiji ends with 0 whatever happened, and a mistyped parameter keeps it silently from running the script at all. So the
parameters are checked and quoted here, and the record that the script writes says how it ended; no record, no success. Nothing of
Java runs in this process.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from platform import machine
from threading import Thread
from typing import IO, Any

from howdah.bridge.installation import Fiji, find_fiji
from howdah.bridge.java_home import find_java
from howdah.errors import BridgeError, Cancelled, ConfigError

__all__ = ["Ended", "Order", "command_of", "launcher_of", "order_of", "run_script"]

MENU = Path("scripts/Plugins/Howdah")
PARAMETER = re.compile(r"^#\s?@\s*(?P<kind>[\w.]+)\s*(?:\((?P<facts>.*)\))?\s*(?P<name>\w+)\s*$")
LAUNCHERS = (  # the newest first; of several the first that is there
    *("fiji-linux-x64", "fiji-linux-arm64", "fiji-windows-x64.exe", "fiji-windows-arm64.exe"),
    *("Fiji.app/Contents/MacOS/fiji-macos-arm64", "Fiji.app/Contents/MacOS/fiji-macos-x64"),
    *("Contents/MacOS/fiji-macos-arm64", "Contents/MacOS/fiji-macos-x64", "Contents/MacOS/fiji-macos"),
    *("fiji", "fiji.exe", "fiji.bat", "fiji-linux64", "ImageJ-linux64", "ImageJ-win64.exe"),
    *("Contents/MacOS/ImageJ-macosx", "ImageJ-macosx", "ImageJ-linux32", "ImageJ-win32.exe"),
)
SYSTEMS = {"linux": ("linux",), "darwin": ("macos",), "win32": ("windows", "win64", "win32", ".exe", ".bat")}
NAMED = ("linux", "macos", "windows", "win64", "win32", ".exe", ".bat")
MACHINES = {
    "x86_64": ("x64", "linux64"),
    "amd64": ("x64", "win64"),
    "aarch64": ("arm64",),
    "arm64": ("arm64", "macos-x64", "macosx"),
}
# What Fiji's launchers give to Java; without the first, Java 17 cannot patch ImageJ.
OPTIONS = (
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
    *("-Dscijava.app.unlock-modules=true", "-Dscijava.context.strict=false", "-Dscijava.app.name=Fiji"),
    *("-Dpython.cachedir.skip=true", "-Dpython.console.encoding=UTF-8", "-Djava.awt.headless=true"),
)
PLACES = ("plugins.dir", "imagej.dir", "ij.dir", "fiji.dir", "scijava.app.directory")
KEPT_LINES = 12
GRACE_S = 15.0
LIKE_A_FAULT = ("error", "exception", "invalid", "ignoring", "could not", "cannot", "no such")


@dataclass(frozen=True)
class Order:
    """What is to be run: the script, its parameters as texts, and the record that it will write."""

    script: Path
    parameters: Mapping[str, str]
    record: Path


@dataclass
class Ended:
    """How a run ended.

    Attributes:
        code: 0 done, 1 a fault, 2 bad input, 3 a part is missing, 130 stopped: as the record says.
        sentence: What happened. record: The whole record, and ``path`` where it lies.
    """

    code: int
    sentence: str
    record: dict[str, Any] = field(default_factory=dict)


def order_of(fiji: Fiji, script: str, given: Sequence[str]) -> Order:
    """Check what is to be run before Java starts.

    Args:
        fiji: The Fiji folder.
        script: As the menu or the file is called, with or without its submenu: "Batch over a folder", "Time_arrow/Find_events.py"; or
            the path of a script of one's own that has a parameter ``result``.
        given: ``NAME=VALUE``, values as they are, without quotes; relative paths are taken from the current folder.

    Raises:
        BridgeError: There is no such script. ConfigError: A parameter is unknown, or has no name.
    """
    path = _script(fiji, script)
    declared = _declared(path)
    if "result" not in declared:
        raise BridgeError(
            f"{path} has no parameter 'result', in which Howdah's scripts write down how they ended, so nobody would know. "
            "fiji-scripts/README.md says how a script of your own gets one."
        )
    told: dict[str, str] = {}
    for text in given:
        name, sign, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not sign or not name:
            raise ConfigError(f"'{text}' was not understood. Write a parameter and its value: image=/data/movie.tif")
        if name not in declared:
            near = difflib.get_close_matches(name, declared, n=1)
            hint = f"Did you mean '{near[0]}'?" if near else f"There are: {', '.join(sorted(declared))}."
            raise ConfigError(f"The script {path.name} has no parameter '{name}'. {hint}")
        if declared[name] == "Boolean" and value.lower() not in ("true", "false"):
            raise ConfigError(f"Parameter '{name}' must be true or false; it is '{value}'.")
        told[name] = str(Path(value).expanduser().absolute()) if declared[name] == "File" and value else value
    record = Path(told.pop("result", "") or _default_record(path))
    if not record.parent.is_dir():
        raise ConfigError(f"Parameter 'result': there is no folder {record.parent}.")
    return Order(path, told, record)


def launcher_of(fiji: Fiji) -> Path | None:
    """Return Fiji's launcher for this computer, or None: then Java starts Fiji without one."""
    system = SYSTEMS.get(sys.platform, ("linux",))
    wanted = MACHINES.get(machine().lower(), ())
    for name in LAUNCHERS:
        low = name.lower()
        foreign = any(word in low for word in NAMED) and not any(word in low for word in system)
        other = any(word in low for word in ("x64", "arm64")) and not any(word in low for word in wanted)
        if sys.platform == "win32" and not low.endswith((".exe", ".bat")):
            continue
        found = fiji.folder / name
        if not foreign and not other and found.is_file() and os.access(found, os.X_OK):
            return found
    return None


def command_of(fiji: Fiji, order: Order, *, memory: str | None = None, plain_java: bool = False) -> list[str]:
    """Return the command: Fiji's launcher, or Java with the options that the launcher would give.

    Args:
        fiji: The Fiji folder.
        order: What is to be run.
        memory: Java's heap, as in ``"8g"``.
        plain_java: Do not use a launcher.

    Raises:
        BridgeError: There is neither a launcher nor a Java.
    """
    told = {**order.parameters, "result": str(order.record)}
    words = ["--headless", "--run", str(order.script), ",".join(f"{name}={_quoted(told[name])}" for name in told)]
    launcher = None if plain_java else launcher_of(fiji)
    if launcher is not None:
        return [str(launcher), *([f"--mem={memory}"] if memory else []), *words]
    java = find_java(fiji.folder)
    native = fiji.folder / "lib" / "linux64"
    by_class = ["org.scijava.launcher.ClassLauncher"] if any((fiji.folder / "jars").glob("app-launcher*.jar")) else []
    return [
        str(java.home / "bin" / ("java.exe" if sys.platform == "win32" else "java")),
        *(OPTIONS if java.major > 8 else OPTIONS[1:]),
        *([f"-Xmx{memory}"] if memory else []),
        *(f"-D{name}={fiji.folder}" for name in PLACES),
        *((f"-Djava.library.path={native}", f"-Djna.library.path={native}") if native.is_dir() else ()),
        "-cp",
        os.pathsep.join(str(fiji.folder / part / "*") for part in ("jars", "plugins")),
        *by_class,
        "net.imagej.Main",
        *words,
    ]


def run_script(
    fiji: str | os.PathLike[str],
    script: str,
    given: Sequence[str] = (),
    *,
    timeout: float | None = None,
    memory: str | None = None,
    plain_java: bool = False,
    to_errors: bool = False,
) -> Ended:
    """Run a script in a headless Fiji to its end; what Fiji prints is passed on.

    Args:
        fiji: The folder of Fiji.
        script: See :func:`order_of`.
        given: See :func:`order_of`.
        timeout: Seconds after which Fiji is stopped; None: never.
        memory: See :func:`command_of`.
        plain_java: See :func:`command_of`.
        to_errors: Pass Fiji's standard output on as standard error.

    Raises:
        BridgeError: There is no such Fiji or script, or it cannot be started. ConfigError: A parameter is wrong.
        Cancelled: It did not end in time.
    """
    found = find_fiji(fiji)
    order = order_of(found, script, given)
    command = command_of(found, order, memory=memory, plain_java=plain_java)
    order.record.unlink(missing_ok=True)
    code, lines = _run(command, order, timeout, to_errors=to_errors)
    record = _read(order.record)
    if record is None:
        return Ended(1, _silent(order, code, lines))
    return Ended(int(record["code"]), str(record["sentence"]), {**record, "path": str(order.record)})


def _script(fiji: Fiji, name: str) -> Path:
    menu = fiji.folder / MENU
    own = Path(name).expanduser()
    if own.is_file() and own.suffix:
        return own.absolute()
    there = sorted(menu.rglob("*.py"))
    if not there:
        raise BridgeError(
            f"Howdah's scripts are not in {fiji.folder}. Put them there first: howdah fiji install {fiji.folder}"
        )
    known = {path.relative_to(menu).with_suffix("").as_posix().replace("_", " ").lower(): path for path in there}
    known |= {key.rpartition("/")[2]: path for key, path in known.items()}
    wanted = name.removesuffix(".py").replace("_", " ").replace(">", "/").strip().lower()
    wanted = "/".join(part.strip() for part in wanted.split("/"))
    if wanted in known:
        return known[wanted]
    near = difflib.get_close_matches(wanted, known, n=1)
    listed = ", ".join(f"'{path.stem.replace('_', ' ')}'" for path in there)
    hint = f"Did you mean '{known[near[0]].stem.replace('_', ' ')}'?" if near else f"There are: {listed}."
    raise BridgeError(f"There is no script '{name}' in {menu}. {hint}")


def _declared(script: Path) -> dict[str, str]:
    """Parameters that a script declares: name -> kind (String, File, Boolean ...)."""
    found: dict[str, str] = {}
    for line in script.read_text(encoding="utf-8", errors="replace").splitlines():
        match = PARAMETER.match(line)
        if match and "visibility=MESSAGE" not in (match["facts"] or ""):
            found[match["name"]] = match["kind"].rpartition(".")[2]
    return found


def _default_record(script: Path) -> Path:
    home = Path(os.environ.get("HOWDAH_HOME") or Path.home() / ".howdah") / "fiji-logs"
    home.mkdir(parents=True, exist_ok=True)
    plain = "".join(letter for letter in script.stem.lower().replace("_", "-") if letter.isalnum() or letter == "-")
    first = home / f"{time.strftime('%Y%m%d-%H%M%S')}-{plain}"
    path, number = first.with_suffix(".json"), 1
    while path.exists():
        number += 1
        path = first.with_name(f"{first.name}-{number}.json")
    return path


def _quoted(text: str) -> str:
    """A text as SciJava reads it on a command line; it knows the escapes of Java, but reads \\\\u wrongly."""
    return json.dumps(text, ensure_ascii=False)


def _run(command: Sequence[str], order: Order, timeout: float | None, *, to_errors: bool) -> tuple[int, list[str]]:
    """Run Fiji, pass on what it prints, and return its exit code and the last lines."""
    own_group: dict[str, Any] = {"start_new_session": True} if os.name == "posix" else {}
    try:
        fiji = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **own_group
        )
    except OSError as error:
        raise BridgeError(f"Fiji cannot be started with {command[0]}: {error.strerror or error}.") from error
    lines: deque[str] = deque(maxlen=400)
    streams = ((fiji.stdout, sys.stderr if to_errors else sys.stdout), (fiji.stderr, sys.stderr))
    readers = [
        Thread(target=_pass_on, args=(stream, to, lines), daemon=True) for stream, to in streams if stream is not None
    ]
    for reader in readers:
        reader.start()
    try:
        code = fiji.wait(timeout)
    except subprocess.TimeoutExpired:
        raise Cancelled(
            f"{order.script.name} did not end within {timeout:g} s and was stopped; its log is {order.record.with_suffix('.log')}."
        ) from None
    finally:
        if fiji.poll() is None:
            _end(fiji)
        for reader in readers:
            reader.join(GRACE_S)
    return code, list(lines)


def _pass_on(stream: IO[bytes], target: IO[str], lines: deque[str]) -> None:
    with stream:
        for raw in stream:
            line = raw.decode("utf-8", "replace")
            lines.append(line.rstrip())
            target.write(line)
            target.flush()


def _end(fiji: subprocess.Popen[bytes]) -> None:
    """Ask Fiji to end, so that it stops what it began; kill it and all that it started if it does not."""
    for number in (signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)):
        if os.name == "posix":
            os.killpg(fiji.pid, number)
        else:
            subprocess.run(["taskkill", "/PID", str(fiji.pid), "/T", "/F"], capture_output=True, check=False)
        try:
            fiji.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            continue
        return


def _read(path: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("code"), int) else None


def _silent(order: Order, code: int, lines: Sequence[str]) -> str:
    """Say that Fiji ended without a record, and what it said that may be the reason."""
    told = [line for line in lines if any(word in line.lower() for word in LIKE_A_FAULT)] or list(lines)
    words = "\n".join(line[:300] for line in told[:KEPT_LINES]) or "(it said nothing)"
    ended = "as if all were well (exit code 0)" if code == 0 else f"with exit code {code}"
    return f"Fiji ended {ended}, but {order.script.name} left no record {order.record}, so it did not run to its end. Fiji said:\n{words}"
