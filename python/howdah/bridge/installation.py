"""Howdah's scripts in a Fiji folder: put them there, look whether they are whole, take them away again.

What was written is remembered with its SHA-256 in ``jars/Lib/howdah_fiji/installed.json``. A file that a person changed is never lost:
an installation keeps it as ``NAME.mine``, a removal leaves it where it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from howdah import __version__
from howdah.errors import BridgeError

__all__ = ["Fiji", "check", "find_fiji", "install", "remove", "scripts_folder", "update_site"]

CLIENT = PurePosixPath("jars/Lib/howdah_fiji")
RECORD = CLIENT / "installed.json"
PROPERTIES = CLIENT / "backend.properties"
SHIPPED = ("scripts", "jars/Lib")
MINE = ".mine"


@dataclass(frozen=True)
class Fiji:
    """A Fiji folder: the one that has ``jars``.

    Attributes:
        folder: That folder.
        imagej: Name of its ImageJ jar. jython: Name of its Jython jar; None: it cannot run ``.py`` scripts.
        appose: Name of its Appose jar, or None.
    """

    folder: Path
    imagej: str
    jython: str | None
    appose: str | None


@dataclass
class Installed:
    """What an earlier installation wrote: relative path -> SHA-256."""

    version: str = ""
    files: dict[str, str] = field(default_factory=dict)


def scripts_folder() -> Path:
    """Return the folder of the scripts that come with this Howdah: in the package, or in its source tree.

    Raises:
        BridgeError: They are in neither.
    """
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "fiji-scripts", package.parent.parent / "fiji-scripts"):
        if (folder / CLIENT).is_dir():
            return folder
    raise BridgeError(f"Howdah's scripts for Fiji are not beside {package}. Install howdah again.")


def find_fiji(path: str | os.PathLike[str]) -> Fiji:
    """Return the Fiji in or around a folder: ``Fiji.app``, ``Fiji``, their parent, or the launcher in it.

    Raises:
        BridgeError: There is no Fiji; the sentence says what was looked for.
    """
    start = Path(path).expanduser().absolute()
    if not start.exists():
        raise BridgeError(
            f"There is no folder {start}. Give the folder of Fiji, the one that contains 'jars' and 'plugins'."
        )
    for folder in (start, start / "Fiji.app", start / "Fiji", start.parent, start.parent.parent):
        jars = folder / "jars"
        found = sorted(jars.glob("ij-1*.jar")) if jars.is_dir() else []
        if found:
            jython, appose = sorted(jars.glob("jython*.jar")), sorted(jars.glob("appose-*.jar"))
            return Fiji(
                folder, found[-1].name, jython[-1].name if jython else None, appose[-1].name if appose else None
            )
    raise BridgeError(
        f"{start} is no Fiji: there is no jars/ij-1.*.jar in it. Give the folder of Fiji, the one that contains 'jars' and 'plugins'."
    )


def install(path: str | os.PathLike[str], *, python: str | None = None) -> dict[str, Any]:
    """Put Howdah's scripts into a Fiji, and tell them which Python has Howdah. Again: brings them up to date.

    Args:
        path: The Fiji folder.
        python: The Python that runs the backend; None: this one.

    Returns:
        ``fiji``, ``written`` (count), ``kept`` (files that a person had changed, under their new names), ``removed`` (scripts of an older
        Howdah that are no more), ``python``.

    Raises:
        BridgeError: It is no Fiji, has no Jython, or cannot be written.
    """
    fiji = find_fiji(path)
    if fiji.jython is None:
        raise BridgeError(
            f"{fiji.folder} has no jars/jython*.jar, so it cannot run Howdah's scripts. Update Fiji (Help > Update...)."
        )
    interpreter = python or sys.executable
    before, source = _recorded(fiji.folder), scripts_folder()
    wanted = {name: (source / name).read_bytes() for name in _shipped(source)}
    wanted[str(PROPERTIES)] = _properties({"python": interpreter, "version": __version__})
    kept: list[str] = []
    try:
        for name, content in wanted.items():
            target = fiji.folder / name
            if _is_mine(target, before.files.get(name), content):
                kept.append(str(_keep(target)))
            _write(target, content)
        gone = sorted(set(before.files) - set(wanted))
        removed = [name for name in gone if _remove(fiji.folder / name, before.files[name])]
        hashes = {name: _sha(content) for name, content in wanted.items()}
        _write(fiji.folder / RECORD, json.dumps({"version": __version__, "files": hashes}, indent=1).encode())
    except OSError as error:
        raise BridgeError(
            f"Howdah's scripts cannot be written into {fiji.folder}: {error}. May you write there?"
        ) from error
    return {
        "fiji": str(fiji.folder),
        "written": len(wanted),
        "kept": kept,
        "removed": removed,
        "python": interpreter,
        "menu": "Plugins > Howdah (after a restart of Fiji)",
    }


def remove(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Take away what :func:`install` wrote, but for files that a person changed since.

    Returns:
        ``fiji``, ``removed`` (count), ``kept`` (files that were changed; they stay).

    Raises:
        BridgeError: It is no Fiji, or Howdah's scripts are not in it.
    """
    fiji = find_fiji(path)
    before = _recorded(fiji.folder)
    if not before.files:
        raise BridgeError(f"Howdah's scripts were not installed into {fiji.folder}: there is no {RECORD} in it.")
    kept, removed = [], 0
    for name, sha in before.files.items():
        target = fiji.folder / name
        if target.exists() and not _remove(target, sha):
            kept.append(str(target))
        else:
            removed += 1
    (fiji.folder / RECORD).unlink(missing_ok=True)
    _tidy(fiji.folder, before)
    return {"fiji": str(fiji.folder), "removed": removed, "kept": kept}


def check(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Say whether Howdah's scripts are in a Fiji, whole and as new as this Howdah.

    Returns:
        ``fiji``, ``imagej``, ``jython``, ``appose``, ``installed`` (version or None), ``python``, ``problems`` (sentences, empty if all is
        well).

    Raises:
        BridgeError: It is no Fiji.
    """
    fiji = find_fiji(path)
    before = _recorded(fiji.folder)
    problems = []
    if fiji.jython is None:
        problems.append("There is no jars/jython*.jar: .py scripts do not run. Update Fiji (Help > Update...).")
    if not before.files:
        problems.append(f"Howdah's scripts are not installed. Run: howdah fiji install {fiji.folder}")
    elif before.version != __version__:
        problems.append(f"The scripts are of Howdah {before.version}, this is {__version__}. Install again.")
    for name, sha in before.files.items():
        target = fiji.folder / name
        if not target.is_file():
            problems.append(f"{name} is missing. Install again.")
        elif _sha(target.read_bytes()) != sha:
            problems.append(f"{name} was changed since (an installation keeps it as {PurePosixPath(name).name}{MINE}).")
    python = _python_of(fiji.folder / PROPERTIES)
    if before.files and (python is None or not Path(python).is_file()):
        problems.append(
            f"The Python of the backend, {python}, is not there. Install again from the one that has Howdah."
        )
    return {
        "fiji": str(fiji.folder),
        "imagej": fiji.imagej,
        "jython": fiji.jython,
        "appose": fiji.appose,
        "installed": before.version or None,
        "python": python,
        "problems": problems,
    }


def update_site(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Write the plain tree that Fiji's updater uploads to an update site: ``scripts/`` and ``jars/Lib/``.

    Returns:
        ``folder``, ``written``.

    Raises:
        BridgeError: The folder has something in it, or cannot be written.
    """
    target, source = Path(folder).absolute(), scripts_folder()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise BridgeError(f"{target} has something in it. Name a new or an empty folder for the update site.")
    names = list(_shipped(source))
    try:
        for name in names:
            _write(target / name, (source / name).read_bytes())
    except OSError as error:
        raise BridgeError(f"The update site cannot be written to {target}: {error}.") from error
    return {"folder": str(target), "written": len(names)}


def _shipped(source: Path) -> Iterator[str]:
    """Relative paths of what goes into a Fiji, with forward slashes."""
    for part in SHIPPED:
        for path in sorted((source / part).rglob("*.py")):
            if "__pycache__" not in path.parts:
                yield path.relative_to(source).as_posix()


def _recorded(folder: Path) -> Installed:
    try:
        known = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        files = {str(name): str(sha) for name, sha in known["files"].items() if _inside(name)}
        return Installed(str(known["version"]), files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Installed()


def _inside(name: str) -> bool:
    """Whether a recorded path stays in the Fiji folder; the record is a file that anybody may edit."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and ":" not in name and "\\" not in name


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _is_mine(target: Path, recorded: str | None, content: bytes) -> bool:
    """Whether a person changed a file: it is neither what was installed before, nor what is installed now."""
    if not target.is_file() or target.name == PROPERTIES.name:
        return False
    return _sha(target.read_bytes()) not in (recorded, _sha(content))


def _keep(target: Path) -> Path:
    """Move a file aside, under a name that no script has."""
    number, kept = 1, target.with_name(target.name + MINE)
    while kept.exists():
        number += 1
        kept = target.with_name(f"{target.name}{MINE}{number}")
    return target.rename(kept)


def _write(target: Path, content: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    part.write_bytes(content)
    part.replace(target)


def _remove(target: Path, sha: str) -> bool:
    """Remove a file that is as it was written, and what Jython compiled from it; say whether it is gone."""
    if target.is_file() and _sha(target.read_bytes()) != sha and target.name != PROPERTIES.name:
        return False
    target.unlink(missing_ok=True)
    target.with_name(f"{target.stem}$py.class").unlink(missing_ok=True)
    return True


def _tidy(folder: Path, before: Installed) -> None:
    """Remove the folders that are empty now, but never Fiji's own."""
    parents = {parent for name in before.files for parent in PurePosixPath(name).parents}
    for parent in sorted(parents, key=lambda path: -len(path.parts)):
        place = folder / parent
        if len(parent.parts) < 2 or not place.is_dir():
            continue
        shutil.rmtree(place / "__pycache__", ignore_errors=True)
        if not any(place.iterdir()) and parent not in (PurePosixPath("scripts/Plugins"), PurePosixPath("jars/Lib")):
            place.rmdir()


def _properties(values: dict[str, str]) -> bytes:
    """Java properties: backslashes, signs that separate, and all that is not ASCII are escaped."""
    lines = ["# Written by `howdah fiji install`; which Python runs Howdah's backend."]
    for name, value in values.items():
        text = "".join(f"\\{letter}" if letter in "\\:=#! " else letter for letter in value)
        units = text.encode("utf-16-be", "surrogatepass")
        pairs = [int.from_bytes(units[i : i + 2], "big") for i in range(0, len(units), 2)]
        lines.append(f"{name}=" + "".join(chr(unit) if unit < 128 else f"\\u{unit:04x}" for unit in pairs))
    return ("\n".join(lines) + "\n").encode("ascii")


def _python_of(path: Path) -> str | None:
    if not path.is_file():
        return None
    for line in path.read_text(encoding="ascii", errors="replace").splitlines():
        name, sign, value = line.partition("=")
        if sign and name == "python":
            plain, rest = "", value
            while rest:
                if rest.startswith("\\u"):
                    plain, rest = plain + chr(int(rest[2:6], 16)), rest[6:]
                elif rest.startswith("\\"):
                    plain, rest = plain + rest[1:2], rest[2:]
                else:
                    plain, rest = plain + rest[0], rest[1:]
            return plain.encode("utf-16", "surrogatepass").decode("utf-16")
    return None
