"""Tasks on files, and on images and tables in memory."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, Literal

import numpy as np
from pydantic import Field

from bdv_io import Tracks
from bdv_io.image import WriteOptions
from howdah import __version__, pipeline
from howdah.errors import ConfigError
from howdah.linking import LinkingConfig
from howdah.pipeline.evaluation import Judging, evaluate, listed
from howdah.pipeline.tracking import linked_anew
from howdah.progress import Progress, Steps
from howdah.service.clean import load_image, load_table
from howdah.service.parameters import Image, InArray, InFile, InTable, OutFile, Parameters
from howdah.service.self_check import answered, seen
from howdah.service.table_fields import Described, at_once
from howdah.service.tasks import Task

__all__ = ["FILES"]

DEFAULT_RADIUS = 1.0
DOCTOR_S = 60.0


class Info(Described):
    """What `info` is told."""

    source: InFile = Field(description="A movie or an annotation of any known format.")


class Convert(Described):
    """What `convert` is told."""

    source: InFile = Field(description="An annotation or a movie: a file or a folder.")
    out: OutFile = Field(description="The target; its ending chooses the format.")
    image: InFile | None = Field(default=None, description="For annotations: the movie, so that the target names it.")
    source_format: str | None = Field(default=None, description="Format of the source, if it cannot tell: labels.")
    target_format: str | None = Field(default=None, description="Format of the target, if its ending does not tell.")
    repair: bool = Field(default=False, description="Mend what contradicts itself, and list it.")
    compression: int = Field(default=4, ge=0, le=9, description="How hard an image is compressed.")

    @property
    def how(self) -> pipeline.Conversion:
        """As the pipeline takes it."""
        return pipeline.Conversion(
            image=self.image,
            source_format=self.source_format,
            target_format=self.target_format,
            hints=self.hints,
            options=WriteOptions(compression=self.compression),
            repair=self.repair,
        )


class Pair(Parameters):
    """Two annotations of one movie."""

    first: InFile = Field(description="The earlier annotation; in `merge` it wins where they contradict each other.")
    second: InFile = Field(description="The other one, of any format.")
    reach: float | None = Field(
        default=None, gt=0, description="How far a spot may have moved and still be the same; world units."
    )


class Diff(Pair):
    """What `diff` is told."""

    out: OutFile | None = Field(default=None, description="Write the second for review, with a tag set 'Difference'.")


class Merge(Pair):
    """What `merge` is told."""

    out: OutFile = Field(description="The result.")
    base: InFile | None = Field(default=None, description="The version that both began from.")


class Restore(Parameters):
    """What `restore` is told."""

    source: OutFile = Field(description="The file whose former version shall come back.")
    version: int = Field(default=1, ge=1, description="Which one; 1 is the last before.")


class Demo(Parameters):
    """What `demo` is told."""

    out: OutFile = Field(description="Folder for the results.")
    seed: int = Field(default=0, ge=0, description="Seed of the synthetic embryo and of the training.")


class Evaluate(Described):
    """What `evaluate` is told."""

    result: InFile = Field(description="The result that is judged: an annotation, a label image, a folder 01_RES.")
    truth: InFile = Field(description="The truth: an annotation, a label image, a folder 01_GT.")
    reach: float | None = Field(
        default=None, gt=0, description="How far a spot may be from its true place; none: the median true radius."
    )
    frame_tolerance: int = Field(default=0, ge=0, description="Frames that a division may be early or late.")
    sparse: bool = Field(default=False, description="The truth holds some cells only: what it lacks is unknown.")
    measures: str | None = Field(
        default=None, description="Of the challenge's measures these only: SEG,TRA,BC; none: all."
    )
    quality: str | None = Field(
        default=None, description="Features of spots or links to test as qualities, too; between commas."
    )
    match: Literal["auto", "masks", "centres"] = Field(
        default="auto", description="Match cells by masks where one side has some (auto), or always so."
    )
    check: bool = Field(default=False, description="Ask traccuracy, too, whether it gets the same numbers.")
    out: OutFile | None = Field(default=None, description="Write the measures as .json or .csv.")
    report: OutFile | None = Field(default=None, description="Write a page with the worst mistakes, .html.")
    tagged: OutFile | None = Field(default=None, description="Write the result with its mistakes as tags and features.")

    @property
    def how(self) -> Judging:
        """As the pipeline takes it."""
        return Judging(
            self.reach,
            self.frame_tolerance,
            self.sparse,
            self.hints,
            measures=listed(self.measures),
            quality=listed(self.quality),
            match=self.match,
            check=self.check,
        )


class Check(Parameters):
    """What `check` is told."""

    image: InArray = Field(description="An image, with its axes.")
    what: Literal["inverse", "threshold"] = Field(
        default="inverse", description="The image that comes back: max + min - value, or 255 where above the mean."
    )


class LinkTable(Parameters):
    """What `link.table` is told."""

    table: InTable = Field(description="Columns t, z, y, x (world units), and radius if it is known; a row a spot.")


class Doctor(Parameters):
    """What `doctor` is told."""

    fiji: InFile | None = Field(default=None, description="Look into this Fiji, too: its folder.")


def _doctor(p: Doctor) -> dict[str, Any]:
    """Ask the command: it stands above the service, for it looks at this and at Fiji, and starts nothing that stays."""
    fiji = [] if p.fiji is None else ["--fiji", str(p.fiji)]
    command = [sys.executable, "-m", "howdah", "doctor", "--json", *fiji]
    try:
        said = subprocess.run(
            command, capture_output=True, text=True, timeout=DOCTOR_S, check=False, stdin=subprocess.DEVNULL
        )
        found: dict[str, Any] = json.loads(said.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        found = {**pipeline.examine(), "findings": []}
    return found


def _check(p: Check) -> dict[str, Any]:
    image = load_image(p.image)
    data = np.asarray(image.data)
    if not data.size or data.dtype.kind not in "uif":
        raise ConfigError(f"The image has the shape {data.shape} and the type {data.dtype}; expected numbers.")
    low, high, total = found = seen(data)
    return {
        "shape": data.shape,
        "dtype": str(data.dtype),
        "axes": image.axes,
        "voxel_size": image.voxel_size,
        "unit": image.unit,
        "interval": image.interval,
        "sum": total,
        "min": low,
        "max": high,
        "howdah": __version__,
        "image": Image(answered(data, p.what, found), image.axes, image.voxel_size, image.unit, image.interval),
    }


def _link_table(p: LinkTable) -> Steps[dict[str, Any]]:
    table = load_table(p.table)
    missing = [name for name in "tzyx" if name not in table]
    if missing:
        raise ConfigError(
            f"The table has the columns {', '.join(table)}; {', '.join(missing)} is missing. Linking needs t, z, y, x."
        )
    centre = np.stack([np.asarray(table[name], dtype=np.float64) for name in "zyx"], axis=1)
    t = np.asarray(table["t"])
    if not np.isfinite(centre).all() or not np.isfinite(t).all() or (t < 0).any() or (t != np.rint(t)).any():
        raise ConfigError("The table has a place that is no number, or a frame that is no whole number from 0.")
    spots = Tracks.build(t.astype(np.int32), centre, radius=table.get("radius", DEFAULT_RADIUS))
    config = LinkingConfig.of({**NO_GUESSES, **p.settings["linking"]})
    linked = yield from linked_anew(spots, config, list(range(spots.n_frames)))
    old = linked.links[(linked.links < spots.n_spots).all(axis=1)]
    yield Progress("link", 1, 1)
    return {
        "spots": spots.n_spots,
        "links": len(old),
        "table": {"source": old[:, 0].astype(np.int64), "target": old[:, 1].astype(np.int64)},
    }


NO_GUESSES = {"interpolate": False}  # a client knows only the rows that it sent

FILES = [
    Task(
        "info",
        "Say what is in a file: format, dimensions, voxel size, spots, links, divisions, tags.",
        Info,
        lambda p: at_once(lambda: pipeline.describe(p.source, hints=p.hints)),
        learns=False,
    ),
    Task(
        "convert",
        "Write an annotation or a movie in another format. What the target cannot hold is said.",
        Convert,
        lambda p: pipeline.convert(p.source, p.out, p.how),
        learns=False,
    ),
    Task(
        "diff",
        "Say which spots and links were added, removed, moved, relabelled or retagged.",
        Diff,
        lambda p: at_once(lambda: pipeline.compare(p.first, p.second, out=p.out, reach=p.reach)),
        learns=False,
    ),
    Task(
        "merge",
        "Merge two annotations of one movie; contradictions are tagged, nothing is dropped silently.",
        Merge,
        lambda p: at_once(lambda: pipeline.join(p.first, p.second, p.out, base=p.base, reach=p.reach)),
        learns=False,
    ),
    Task(
        "restore",
        "Bring back what stood there before (FILE~1~); what is there now takes its place.",
        Restore,
        lambda p: at_once(lambda: pipeline.restore(p.source, number=p.version)),
        learns=False,
    ),
    Task(
        "demo",
        "Run the main job on a synthetic embryo, and compare with the truth.",
        Demo,
        lambda p: pipeline.demo(p.out, seed=p.seed),
    ),
    Task(
        "evaluate",
        "Compare a result with the truth: spots, links, divisions, masks, and the measures of the Cell Tracking Challenge.",
        Evaluate,
        lambda p: evaluate(p.result, p.truth, p.how, out=p.out, report=p.report, tagged=p.tagged),
        learns=False,
    ),
    Task(
        "check",
        "Self-check: take an image, send back its inverse or threshold, its shape, type, axes and sum.",
        Check,
        lambda p: at_once(lambda: _check(p)),
        learns=False,
    ),
    Task(
        "link.table",
        "Link spots that are given as a table; the answer are pairs of rows.",
        LinkTable,
        _link_table,
        learns=False,
        sections=("linking",),
    ),
    Task(
        "doctor",
        "Say what is installed, which device there is, what is missing and how to get it.",
        Doctor,
        lambda p: at_once(lambda: _doctor(p)),
        learns=False,
    ),
    Task(
        "methods",
        "Say what each method can do, its networks with their parameters, and its settings.",
        Parameters,
        lambda p: at_once(lambda: {"methods": list(pipeline.catalogue())}),
        learns=False,
    ),
    Task(
        "formats",
        "Say which formats are read and written, their keys and endings.",
        Parameters,
        lambda p: at_once(lambda: {"formats": pipeline.known_formats()}),
        learns=False,
    ),
]
