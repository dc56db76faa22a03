"""Other programs, each in an environment of its own, run as processes: Howdah imports none of them, nor they Howdah.

``HOWDAH_PEERS`` (or ``--peers``) names a folder with one folder a peer: a virtual environment (``PEER/bin/python``), or a folder
that holds the peer's packages or a checkout, which this Python then finds first. ``benchmarks/peers.md`` says how to make each.
A peer that is not there gives no figure.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["Absent", "PeerFailed", "command_of", "installed", "measured"]

SCRIPTS = Path(__file__).resolve().parent.parent / "peers"
MOST_S = 300.0


class Absent(Exception):
    """The peer is not installed."""


class PeerFailed(Exception):
    """The peer's program stopped with an error, or took too long; the text says how."""


def command_of(name: str, folder: Path | None) -> tuple[list[str], dict[str, str]]:
    """Return the command that starts a peer's script, and its environment.

    Raises:
        Absent: It is not in the folder, or there is no folder.
    """
    place = None if folder is None else folder / name
    if place is None or not place.is_dir():
        raise Absent(name)
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    script = str(SCRIPTS / f"peer_{name.replace('-', '_')}.py")
    for python in (place / "bin" / "python", place / "Scripts" / "python.exe"):
        if python.exists():
            return [str(python), script], kept
    return [sys.executable, script], {**kept, "PYTHONPATH": str(place)}


def installed(folder: Path | None) -> dict[str, str]:
    """Return the peers that are in the folder, with their versions as they say them."""
    found = {}
    for script in sorted(SCRIPTS.glob("peer_*.py")):
        name = script.stem.removeprefix("peer_").replace("_", "-")
        try:
            found[name] = str(measured(name, "version", {}, folder=folder, budget_s=0)["version"])
        except Absent:
            continue
        except PeerFailed as failed:
            found[name] = f"does not run ({failed})"
    return found


def measured(
    name: str, job: str, given: Mapping[str, Any], *, folder: Path | None, budget_s: float, most_s: float = MOST_S
) -> dict[str, Any]:
    """Run a peer's job in a process of its own; returns ``wall_s``, ``cpu_s``, ``peak_mb``.

    Raises:
        Absent: The peer is not installed.
        PeerFailed: It failed.
    """
    command, environment = command_of(name, folder)
    asked = json.dumps({"job": job, "given": dict(given), "seconds": budget_s})
    try:
        done = subprocess.run(
            command, input=asked, capture_output=True, text=True, env=environment, timeout=most_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise PeerFailed(f"more than {most_s:g} s") from None
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise PeerFailed(said[-1][:200] if said else f"exit code {done.returncode}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer
