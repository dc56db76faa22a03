"""What is in a Fiji folder: its jars with their versions, and whether the parts that the bridge needs are there. No JVM needed."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from howdah.errors import BridgeError

__all__ = ["NEEDED", "NOTABLE", "FijiFolder", "Jar", "read_fiji"]

CLASSIFIER = re.compile(r"-(natives?|linux|windows|win|macos|osx|android|x86|arm|aarch|jdk|all|shaded)[\w.\-]*$")
JAR = re.compile(r"(?P<name>.+?)(?:-(?P<version>\d[\w.+\-]*|SNAPSHOT))?\.jar")

# artifact -> what it is for; without these the bridge cannot start
NEEDED = {
    "imagej": "ImageJ2, which the bridge talks to",
    "imagej-common": "the images of ImageJ2",
    "imagej-legacy": "ImagePlus, macros and the ROI manager inside ImageJ2",
    "ij": "ImageJ itself",
    "scijava-common": "the ground of ImageJ2",
}
# what users ask about; a forum wants their versions
NOTABLE = (
    *(
        "fiji",
        "imglib2",
        "imglib2-imglyb",
        "imglib2-ij",
        "scripting-jython",
        "scripting-python",
        "jython-slim",
        "jython-standalone",
    ),
    *(
        "appose",
        "bigdataviewer-core",
        "bigdataviewer-vistools",
        "mastodon",
        "mastodon-app",
        "mastodon-graph",
        "TrackMate",
        "n5",
        "scifio",
    ),
)


@dataclass(frozen=True)
class Jar:
    """A jar: its artifact's name, version ("" if its file name has none) and path."""

    name: str
    version: str
    path: Path

    def java(self) -> int:
        """Return the version of Java that its classes need (8, 11, 21 ...), judged by the first of them; 0 if it has none."""
        try:
            with zipfile.ZipFile(self.path) as archive:
                for entry in archive.namelist():
                    if (
                        entry.endswith(".class")
                        and not entry.startswith("META-INF")
                        and not entry.endswith("module-info.class")
                    ):
                        with archive.open(entry) as stream:
                            head = stream.read(8)
                        return int.from_bytes(head[6:8], "big") - 44 if len(head) == 8 else 0
        except (OSError, zipfile.BadZipFile):
            return 0
        return 0


@dataclass(frozen=True)
class FijiFolder:
    """A Fiji folder as it lies on the disk.

    Attributes:
        path: The folder that holds ``jars`` and ``plugins``.
        jars: Artifact name -> jar; where several versions lie there, the last by name.
        doubles: Artifacts that lie there in several versions: name -> versions.
    """

    path: Path
    jars: Mapping[str, Jar]
    doubles: Mapping[str, tuple[str, ...]]

    @property
    def missing(self) -> dict[str, str]:
        """What the bridge needs and the folder has not: artifact -> what it is for."""
        return {name: what for name, what in NEEDED.items() if name not in self.jars}

    def version(self, artifact: str) -> str | None:
        """Version of an artifact, or None if it is not there."""
        jar = self.jars.get(artifact)
        return None if jar is None else jar.version or "unknown version"

    def class_path(self) -> list[Path]:
        """Every jar in ``jars`` and ``plugins``, at any depth."""
        return _all_jars(self.path)


def read_fiji(path: str | Path) -> FijiFolder:
    """Look into a Fiji folder.

    Raises:
        BridgeError: There is no such folder, or it has no jars; a Fiji folder in it or around it is named.
    """
    folder = Path(path).expanduser().absolute()
    if not folder.is_dir():
        raise BridgeError(
            f"There is no folder {folder}. Give the folder of your Fiji: the one that holds 'jars' and 'plugins'."
        )
    if not (folder / "jars").is_dir():
        near = [c for c in (*sorted(folder.glob("Fiji*")), *list(folder.parents)[:3]) if (c / "jars").is_dir()]
        hint = f"Did you mean {near[0]}?" if near else "Give the folder that holds 'jars' and 'plugins'."
        raise BridgeError(f"{folder} has no folder 'jars', so it is no Fiji. {hint}")
    found: dict[str, list[Jar]] = {}
    for file in _all_jars(folder):
        match = JAR.fullmatch(file.name)
        if match:
            name = match["name"].rstrip("_")
            found.setdefault(name, []).append(Jar(name, match["version"] or "", file))
    if not found:
        raise BridgeError(f"{folder / 'jars'} holds no jar, so {folder} is no whole Fiji. Unpack Fiji again.")
    doubles = {
        name: versions
        for name, jars in found.items()
        if len(versions := tuple(sorted({CLASSIFIER.sub("", jar.version) for jar in jars}))) > 1
    }
    return FijiFolder(folder, {name: jars[-1] for name, jars in found.items()}, doubles)


def _all_jars(folder: Path) -> list[Path]:
    return [jar for part in ("jars", "plugins") for jar in sorted((folder / part).rglob("*.jar")) if jar.is_file()]
