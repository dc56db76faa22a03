"""What a person asks first when something does not work: what is here, what is missing, and the way out.

The answer is a list of findings in groups, and a text of them that can be pasted into a forum: it holds no token and no name of the user.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from howdah import __version__
from howdah.bridge import checks, installation
from howdah.bridge.fiji_folder import NOTABLE, FijiFolder, read_fiji
from howdah.bridge.memory import physical_memory
from howdah.errors import BridgeError, ServiceError
from howdah.pipeline import health
from howdah.service.client import client_of
from howdah.service.state import home, read_note

__all__ = ["FIJI", "HINT", "OK", "WRONG", "Row", "as_text", "examine"]

OK, HINT, WRONG = "ok", "hint", "wrong"
MARKS = {OK: "[ok]", HINT: "[--]", WRONG: "[!!]"}
HERE, LEARN, FIJI, SERVICE, MACHINE = "Howdah", "Methods", "Fiji", "Service", "This computer"
GIGA = 2.0**30
LITTLE_SHM, LITTLE_DISK = 0.5 * GIGA, 5 * GIGA
ANSWER_S = 3.0
SHM = Path("/dev/shm")
NOBODY = frozenset(
    {"root", "home", "user", "users", "admin", "administrator", "runner", "fiji", "howdah", "python"}
)  # tell nothing
# parts of a Fiji that some of Howdah's ways need: jar -> what for, and how to get it
WANTED = {
    "mastodon": ("live Mastodon projects", "Help > Update... > Manage update sites: tick Mastodon"),
    "TrackMate": ("live TrackMate models", "Help > Update..."),
    "appose": ("the way by shared memory (the service works without)", "Help > Update..."),
    "imglib2-imglyb": ("starting without network, and shared images", "Help > Update..."),
    "bigdataviewer-vistools": ("showing movies in BigDataViewer", "Help > Update..."),
}


@dataclass(frozen=True)
class Row:
    """One finding: its group, what was looked at, what was found, ``ok``, ``hint`` (optional) or ``wrong``, and what to do."""

    group: str
    what: str
    found: str
    state: str = OK
    advice: str = ""


def examine(fiji: str | Path | None = None) -> dict[str, Any]:
    """Look at everything that Howdah's ways need; at most some seconds. Nothing is started, no JVM runs afterwards.

    Args:
        fiji: A Fiji folder to look into; None for the one that HOWDAH_FIJI names.

    Returns:
        What :func:`howdah.pipeline.examine` says, and ``platform`` and ``findings``: a list of rows as mappings.
    """
    known = health.examine()
    rows = [*_howdah(known), *_methods(known), *_fiji(fiji), *_service(), *_machine()]
    report = {**known, "platform": platform.platform(), "findings": [asdict(row) for row in rows]}
    return {key: _anonymous(value, _names()) for key, value in report.items()}


def as_text(report: dict[str, Any]) -> str:
    """Return a report as plain text: groups, a line a finding, the way out below it, and a last line that sums up."""
    lines = [f"Howdah {report['howdah']} on {report['platform']}, Python {report['python'].split()[0]}"]
    group = ""
    for row in report["findings"]:
        if row["group"] != group:
            group = row["group"]
            lines += ["", group]
        lines.append(f"  {MARKS[row['state']]} {row['what']}: {row['found']}")
        if row["advice"]:
            lines.append(f"         -> {row['advice']}")
    wrong = [row["what"].split(" (")[0] for row in report["findings"] if row["state"] == WRONG]
    hints = [row["what"].split(" (")[0] for row in report["findings"] if row["state"] == HINT]
    lines += ["", f"To mend: {', '.join(wrong)}." if wrong else "Nothing is wrong."]
    if hints:
        lines.append(f"Optional, or worth a look: {', '.join(hints)}.")
    return "\n".join(lines)


def _howdah(known: dict[str, Any]) -> Iterator[Row]:
    yield Row(HERE, "Python", str(known["python"]))
    missing = [name for name, version in known["base"].items() if version == "missing"]
    if missing:
        yield Row(
            HERE, "base packages", f"{', '.join(missing)} missing.", WRONG, "pip install --force-reinstall howdah"
        )
    else:
        yield Row(HERE, "base packages", ", ".join(f"{name} {version}" for name, version in known["base"].items()))


def _methods(known: dict[str, Any]) -> Iterator[Row]:
    for extra in health.PARTS:
        parts: dict[str, str] = known[extra]
        missing = [name for name, version in parts.items() if version == "missing"]
        state = OK if not missing else WRONG if extra == "learn" else HINT
        there = ", ".join(f"{name} {version}" for name, version in parts.items() if version != "missing")
        found = f"{there or 'nothing'}{'; missing: ' + ', '.join(missing) if missing else ''}"
        yield Row(
            LEARN,
            f"{extra} ({health.WHAT_FOR[extra]})",
            found,
            state,
            f"pip install 'howdah[{extra}]'" if missing else "",
        )
    device = str(known["device"])
    unused = shutil.which("nvidia-smi") and "cuda" not in device.lower()
    cure = "This computer has an NVIDIA GPU, but this torch does not use it: install torch for CUDA (pytorch.org)."
    yield Row(LEARN, "device", device, HINT if unused else OK, cure if unused else "")


def _fiji(fiji: str | Path | None) -> Iterator[Row]:
    named = checks.folder_of(fiji)
    for finding in checks.examine(fiji, "interactive"):
        optional = finding.what in ("Python packages", "repository", "display") or named is None
        state = OK if finding.ok and not finding.advice else HINT if finding.ok or optional else WRONG
        yield Row(FIJI, finding.what, finding.found, state, finding.advice)
    if named is None:
        yield Row(FIJI, "folder", "no Fiji is named.", HINT, "howdah doctor --fiji FOLDER (or set HOWDAH_FIJI)")
        return
    try:
        yield from _inside(read_fiji(named))
    except BridgeError:  # said by the checks already
        return


def _inside(folder: FijiFolder) -> Iterator[Row]:
    there = [f"{name} {folder.version(name)}" for name in NOTABLE if name in folder.jars]
    yield Row(FIJI, "jars", ", ".join(there) or "none of those that Howdah knows")
    for name, (what, cure) in WANTED.items():
        if name not in folder.jars:
            yield Row(FIJI, name, f"not in this Fiji; needed for {what}.", HINT, cure)
    if not any(name.startswith("jython") for name in folder.jars):
        yield Row(FIJI, "Jython", "not in this Fiji: scripts (.py) do not run.", WRONG, "Help > Update...")
    try:
        scripts = installation.check(folder.path)
    except BridgeError as error:
        yield Row(FIJI, "Howdah's scripts", str(error), WRONG)
        return
    if scripts["problems"]:
        state = HINT if scripts["installed"] is None else WRONG
        cure = f"howdah fiji install {shlex.quote(str(folder.path))}"
        yield Row(FIJI, "Howdah's scripts", " ".join(scripts["problems"]), state, cure)
    else:
        yield Row(FIJI, "Howdah's scripts", f"version {scripts['installed']}, with {scripts['python']}")


def _service() -> Iterator[Row]:
    running = read_note()
    if running is None:
        cure = "howdah serve --root FOLDER (scripts in Fiji start one by themselves)"
        yield Row(SERVICE, "service", "none runs on this computer.", HINT, cure)
        return
    try:
        client = client_of(running, timeout=ANSWER_S)
        try:
            answer = client.health()
        finally:
            client.close()
    except (
        ServiceError,
        OSError,
        ValueError,
        TypeError,
        AttributeError,
    ) as error:  # the last three: a note that is odd
        found = f"noted at {running.url} (process {running.pid}), but: {error}"
        yield Row(SERVICE, "service", found, WRONG, f"Look into {running.log}; start it again: howdah serve")
        return
    version = str(answer.get("version", running.version))
    found = f"{running.url} answers, of Howdah {version} (process {running.pid}, log {running.log})"
    other = version != __version__
    yield Row(
        SERVICE,
        "service",
        found,
        HINT if other else OK,
        f"This is {__version__}: restart the service." if other else "",
    )


def _machine() -> Iterator[Row]:
    memory = physical_memory()
    cores = f"{os.cpu_count() or '?'} cores"
    yield Row(MACHINE, "processors and memory", f"{cores}, {memory / GIGA:.1f} GB" if memory else cores)
    if SHM.is_dir():
        cure = "Shared images and data loaders need more: start the container with --shm-size=2g, or use the service."
        yield _room("/dev/shm", SHM, LITTLE_SHM, cure)
    for what, place in (
        ("here", Path.cwd()),
        ("temporary files", Path(tempfile.gettempdir())),
        ("Howdah's own folder", home()),
    ):
        there = next((folder for folder in (place, *place.parents) if folder.is_dir()), None)
        if there is not None:
            yield _room(f"disk, {what}", there, LITTLE_DISK, "Make room, or work elsewhere.")


def _room(what: str, place: Path, little: float, cure: str) -> Row:
    free = shutil.disk_usage(place).free
    found = f"{place}: {free / GIGA:.1f} GB free"
    return Row(MACHINE, what, found, HINT if free < little else OK, cure if free < little else "")


def _names() -> re.Pattern[str]:
    """What tells the name of the user: their folder (its group ``home``), and their name as a part of another path (``name``)."""
    theirs = Path.home()
    said = {theirs.name, *(os.environ.get(name, "") for name in ("USER", "LOGNAME", "USERNAME"))}
    names = "|".join(re.escape(name) for name in sorted(said) if len(name) > 1 and name not in NOBODY)
    home = re.escape(str(theirs)) if len(theirs.parts) > 1 else r"(?!)"
    end = r"(?![\w.\-])"
    return re.compile(rf"(?P<home>{home}){end}" + (rf"|(?<=[/\\])(?P<name>{names}){end}" if names else ""))


def _anonymous(value: Any, names: re.Pattern[str]) -> Any:
    """Without the name of the user and without passwords in addresses, whatever a report holds."""
    if isinstance(value, str):
        return names.sub(lambda found: "~" if found["home"] else "USER", checks.without_password(value))
    if isinstance(value, dict):
        return {key: _anonymous(one, names) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_anonymous(one, names) for one in value]
    return value
