"""What the incremental loop keeps beside a project: its state, the two versions that it compares, a table and a plot."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import numpy as np

from bdv_io import BdvIoError, FormatError, Tracks
from bdv_io.formats import read_tracks
from bdv_io.safe_write import replacing
from howdah import __version__
from howdah.errors import ConfigError
from howdah.pipeline.record import fingerprint

__all__ = ["Cycle", "Files", "State", "digest"]

log = logging.getLogger("howdah")


@dataclass(frozen=True)
class Files:
    """The files of a loop; ``embryo.mastodon`` has ``embryo-loop.safetensors``, ``embryo-loop.csv`` and so on beside it.

    Attributes:
        project: The project that a person saves.
        out: Where the merged project goes; the same file by default.
        weights: Weights, after each cycle.
    """

    project: Path
    out: Path
    weights: Path

    @classmethod
    def of(
        cls,
        project: str | os.PathLike[str],
        *,
        out: str | os.PathLike[str] | None = None,
        weights: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Name the files of a project."""
        path = Path(project)
        beside = path.with_name(f"{path.stem}-loop.safetensors") if weights is None else Path(weights)
        return cls(path, path if out is None else Path(out), beside)

    @property
    def in_place(self) -> bool:
        """Whether the result takes the place of the project."""
        return self.out.resolve() == self.project.resolve()

    @property
    def state(self) -> Path:
        """The state, JSON."""
        return self.project.with_name(f"{self.project.stem}.loop.json")

    def written(self, number: int) -> Path:
        """The project as a cycle wrote it; beside the result, for it names the movie relative to itself."""
        return self.out.with_name(f"{self.project.stem}.loop-{number}.written")

    def read(self, number: int) -> Path:
        """The project as a cycle found it."""
        return self.project.with_name(f"{self.project.stem}.loop-{number}.read")

    def forget(self, number: int) -> None:
        """Delete the two versions of a former cycle."""
        self.written(number).unlink(missing_ok=True)
        self.read(number).unlink(missing_ok=True)

    @property
    def fresh(self) -> Path:
        """The project while it is written; nobody reads it."""
        return self.out.with_name(f".{self.project.stem}.loop-new.mastodon")

    @property
    def table(self) -> Path:
        """The table of cycles, CSV."""
        return self.project.with_name(f"{self.project.stem}-loop.csv")

    @property
    def plot(self) -> Path:
        """The plot of cycles, PNG."""
        return self.project.with_name(f"{self.project.stem}-loop.png")


@dataclass(frozen=True)
class Cycle:
    """One cycle, and what a person later said about its predictions (None: nothing yet).

    Attributes:
        cycle: Its number, from 1.
        ended: When, ISO 8601.
        frames: Frames that were predicted.
        nuclei: Nuclei that a person had marked or accepted, in all.
        found: Share of those in the predicted frames that the prediction found (most of them were trained on).
        predictions: New spots of the machine.
        steps: Training steps. loss: Their last loss.
        train_s, predict_s, total_s: Times, seconds.
        validated, moved, rejected, deleted, untouched, missed, precision, recall: See :class:`Judgement`.
    """

    cycle: int
    ended: str
    frames: tuple[int, ...]
    nuclei: int
    found: float | None
    predictions: int
    steps: int
    loss: float
    train_s: float
    predict_s: float
    total_s: float
    validated: int | None = None
    moved: int | None = None
    rejected: int | None = None
    deleted: int | None = None
    untouched: int | None = None
    missed: int | None = None
    precision: float | None = None
    recall: float | None = None

    def check(self) -> None:
        """Raise a TypeError if something that shall be a number is none; a file may hold anything."""
        facts = asdict(self)
        if not all(isinstance(frame, int) for frame in facts.pop("frames")) or not isinstance(facts.pop("ended"), str):
            raise TypeError("the frames, or the time, of a cycle")
        for name, value in facts.items():
            if not isinstance(value, int | float) and not (value is None and name in OPTIONAL):
                raise TypeError(f"'{name}' of a cycle is {value!r}")


OPTIONAL = {entry.name for entry in fields(Cycle) if "None" in str(entry.type)}


@dataclass(frozen=True, eq=False)
class State:
    """What the next cycle must know.

    Attributes:
        cycles: The cycles so far.
        number: Names the two versions of the last cycle; it only grows, so that a version is never overwritten while the
            state speaks of it.
        read: Digest of the project that the last cycle read. written: Of the one that it wrote.
        kept: Number of spots in the written project that were there before; those after them are new predictions.
        refused: Predictions that a person deleted.
    """

    cycles: tuple[Cycle, ...] = ()
    number: int = 0
    read: str = ""
    written: str = ""
    kept: int = 0
    refused: Tracks = field(default_factory=Tracks.empty)

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read a state; that of a loop that has not begun if there is none.

        Raises:
            FormatError: The file is damaged.
        """
        if not file.is_file():
            return cls()
        try:
            facts = json.loads(file.read_text(encoding="utf-8"))
            known = {entry.name for entry in fields(Cycle)}
            rows: list[dict[str, Any]] = [{k: v for k, v in row.items() if k in known} for row in facts["cycles"]]
            cycles = tuple(Cycle(**{**row, "frames": tuple(row["frames"])}) for row in rows)
            for cycle in cycles:
                cycle.check()
            table = np.array(facts["refused"], dtype=np.float64).reshape(-1, 13)
            refused = Tracks.build(table[:, 0], table[:, 1:4], covariance=table[:, 4:].reshape(-1, 3, 3))
            numbers = int(facts["number"]), str(facts["read"]), str(facts["written"]), int(facts["kept"])
            return cls(cycles, *numbers, refused)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FormatError(
                f"Reading {file} failed: it is damaged, or no state of a loop ({error}). Move it away: the loop then begins anew, "
                "and goes on with the weights."
            ) from None

    def save(self, file: Path) -> None:
        """Write the state, atomically."""
        refused = self.refused
        rows = np.column_stack([refused.t, refused.centre, refused.covariance.reshape(-1, 9)])
        facts = {
            "howdah": __version__,
            "number": self.number,
            "read": self.read,
            "written": self.written,
            "kept": self.kept,
            "refused": rows.tolist(),
            "cycles": [asdict(cycle) for cycle in self.cycles],
        }
        write_bytes(file, (json.dumps(facts, indent=1) + "\n").encode())


def digest(file: Path) -> str:
    """Return a hash of a project's content; of a large one of both ends, for the end of a zip file names the sums of all."""
    found: Mapping[str, Any] = fingerprint(file)
    return " ".join(f"{found[key]}" for key in found if key.startswith(("bytes", "sha256")))


def write_bytes(file: Path, content: bytes) -> None:
    """Write a file of the loop, atomically, without a former version."""
    with replacing(file, keep_previous=False) as temporary:
        temporary.write_bytes(content)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file, atomically, without a former version."""
    with replacing(target, keep_previous=False) as temporary:
        shutil.copyfile(source, temporary)


def read_version(file: Path) -> Tracks | None:
    """Read one of the two versions that are compared; None, with a warning, where that is not possible."""
    if not file.is_file():
        return None
    try:
        return read_tracks(file)
    except BdvIoError as error:
        log.warning("What was said about the last predictions is not counted. %s", error)
        return None


def write_table(file: Path, cycles: Sequence[Cycle]) -> None:
    """Write the table of cycles: a line a cycle, empty where a person has said nothing yet."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [entry.name for entry in fields(Cycle)]
    writer.writerow(names)
    for cycle in cycles:
        row = asdict(cycle)
        row["frames"] = " ".join(map(str, cycle.frames))
        writer.writerow(["" if row[name] is None else row[name] for name in names])
    write_bytes(file, text.getvalue().encode())


def refuse_other_projects(path: Path, key: str) -> None:
    """Raise a ConfigError if a file is no project that a loop can work on."""
    if key != "mastodon":
        raise ConfigError(
            f"The loop works on Mastodon projects, for only there tags tell a person's spots from predictions; {path} is "
            f"'{key}'. Convert it first: howdah convert {path.name} {path.stem}.mastodon"
        )
    if path.is_dir():
        raise ConfigError(
            f"The loop works on project files; {path} is a project folder. Save it in Mastodon as a .mastodon file."
        )
