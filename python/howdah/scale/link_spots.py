"""The spots of a movie in one file beside the target, from which each window reads only its own.

The coordinator reads the annotation once and writes what linking needs, in order of frame and place: columns one after another, then
a table (JSON) of where they are, the frames, a digest a frame, and what is only known of the whole movie; at the very end the
table's length. A window reads its rows of each column, 40 to 130 bytes a spot, and checks them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bdv_io.formats import open_image
from bdv_io.image import Hints
from bdv_io.safe_write import replacing
from bdv_io.tracks import Tracks
from howdah.errors import ScaleError
from howdah.linking.config import LinkingConfig
from howdah.linking.divisions import SizeModel, log_volumes, size_model
from howdah.linking.evidence import division_evidence
from howdah.linking.gaps import Refused, box_of, rejected
from howdah.linking.job import Job
from howdah.linking.limits import Limits, limits_with, rows_by_frame, usual_radius
from howdah.linking.movie import Ends
from howdah.linking.programme import NONE
from howdah.pipeline.sources import Source

Array = npt.NDArray[Any]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

__all__ = ["Spots", "aside", "movie_of_workers", "opened", "read_spots", "spots_file", "write_spots"]

MAGIC = b"HOWDAHS1"
ALLOWED, USABLE, HAS_PARENT = 1, 2, 4
SHAPES = {"centre": (3,), "covariance": (3, 3)}


@dataclass(frozen=True)
class Spots:
    """The file, opened: places of spots are counted in order of frame and place.

    Attributes:
        path: The file. digest: Of its table, and so of everything.
        frames: (F,) frames that have spots. starts: (F + 1,) place of the first spot of each, and the number of spots.
        table: The rest.
    """

    path: Path
    digest: str
    frames: I64
    starts: I64
    table: Mapping[str, Any]

    @property
    def n(self) -> int:
        """Number of spots."""
        return int(self.starts[-1])

    @property
    def sizes(self) -> SizeModel:
        """How sizes behave on the movie."""
        return SizeModel(*self.table["sizes"])

    @property
    def ends(self) -> Ends:
        """Where tracks begin and end without cost."""
        first, last, box = self.table["ends"]
        return Ends(first, last, np.array(box))

    def limits(self, config: LinkingConfig, reach: float | None) -> Limits:
        """Return the settings with every length known; ``reach`` where ``max_distance`` is automatic."""
        return limits_with(config, config.max_distance if reach is None else reach, self.sizes)  # type: ignore[arg-type]

    def frame_of(self, place: I64) -> I64:
        """Return the frames of places."""
        found: I64 = self.frames[np.searchsorted(self.starts, place, side="right") - 1]
        return found

    def between(self, begin: int, end: int) -> tuple[int, int]:
        """Return the first place of frames [begin, end), and the one after the last."""
        low, high = np.searchsorted(self.frames, [begin, end])
        return int(self.starts[low]), int(self.starts[high])

    def read(self, low: int, high: int, names: Sequence[str]) -> dict[str, Array]:
        """Return columns of places [low, high); those that the file does not have are left out."""
        found: dict[str, Array] = {}
        with self.path.open("rb") as file:
            for name in names:
                if name in self.table["columns"]:
                    kind, offset = self.table["columns"][name]
                    found[name] = _column(file, name, kind, offset, low, high)
        return found

    def window(
        self, begin: int, end: int, config: LinkingConfig, limits: Limits, *, far: bool = False
    ) -> tuple[Job, I64]:
        """Return the spots of frames [begin, end) as a job, and the (N,) place of each of its rows.

        Rows are in the order of the annotation, as far as they are there: what is computed does not depend on what else is there.

        Args:
            begin: First frame.
            end: The frame after the last.
            config: Settings.
            limits: The same with every length known.
            far: Also read the spots of later frames that are children of these over a gap; they come last, and are no part of a frame.
        """
        low, high = self.between(begin, end)
        columns = self.read(low, high, tuple(self.table["columns"]))
        self._check(columns, low, high)
        order = np.argsort(columns["row"], kind="stable")
        place = low + order
        columns = {name: column[order] for name, column in columns.items()}
        child = columns.get("child_of", np.full(len(order), NONE, dtype=np.int64))
        asked = child[place < self.between(begin, end - 1)[1]]  # the last frame has no children in the window
        away = (
            np.unique(asked[(asked >= high) | ((asked < low) & (asked != NONE))])
            if far
            else np.empty(0, dtype=np.int64)
        )
        for one in away.tolist():
            more = self.read(one, one + 1, tuple(self.table["columns"]))
            columns = {name: np.concatenate([column, more[name]]) for name, column in columns.items()}
        place = np.concatenate([place, away])
        child = columns.get("child_of", np.full(len(place), NONE, dtype=np.int64))
        return self._job(columns, place, child, (low, high), config, limits), place

    def refused(self, begin: int, end: int) -> Refused:
        """Return the spots that a person rejected in frames [begin, end)."""
        t = np.array(self.table["refused_t"], dtype=np.int32)
        low, high = (int(at) for at in np.searchsorted(t, [begin, end]))
        with self.path.open("rb") as file:
            centre = _column(file, "centre", "<f8", self.table["refused"][0], low, high)
            radius = _column(file, "radius", "<f8", self.table["refused"][1], low, high)
        return Refused(t[low:high], centre, radius, np.array(self.table["box"]))

    def _job(
        self,
        columns: dict[str, Array],
        place: I64,
        child: I64,
        bounds: tuple[int, int],
        config: LinkingConfig,
        limits: Limits,
    ) -> Job:
        low, high = bounds
        n = len(place)
        row_at = np.full(high - low + 1, NONE, dtype=np.int64)
        row_at[place[: high - low] - low] = np.arange(high - low)
        away = place[high - low :]
        child_of = np.full(n, NONE, dtype=np.int64)
        near = (child >= low) & (child < high)
        child_of[near] = row_at[child[near] - low]
        beyond = np.flatnonzero(np.isin(child, away))
        child_of[beyond] = high - low + np.searchsorted(away, child[beyond])
        shape = columns.get("covariance")
        tracks = Tracks.build(
            self.frame_of(place),
            columns["centre"],
            covariance=np.zeros((n, 3, 3)) if shape is None else shape,
        )
        first, last = np.searchsorted(self.starts, [low, high])
        rows_of = {
            int(self.frames[at]): row_at[self.starts[at] - low : self.starts[at + 1] - low] for at in range(first, last)
        }
        return Job(
            tracks=tracks,
            config=config,
            limits=limits,
            allowed=(columns["flags"] & ALLOWED) > 0,
            rows_of=rows_of,
            n_children=columns.get("n_children", np.zeros(n)).astype(np.int64),
            has_parent=(columns["flags"] & HAS_PARENT) > 0,
            child_of=child_of,
            size=columns["size"],
            evidence=columns.get("evidence", np.zeros(n)),
        )

    def _check(self, columns: Mapping[str, Array], low: int, high: int) -> None:
        """Raise an error if what was read of whole frames is not what was written."""
        first, last = np.searchsorted(self.starts, [low, high])
        for at in range(first, last):
            part = slice(int(self.starts[at]) - low, int(self.starts[at + 1]) - low)
            if _digest(column[part] for column in columns.values()) != self.table["digests"][at]:
                raise ScaleError(
                    f"The spots of frame {self.frames[at]} in {self.path} are not those that were written there. Start the same command "
                    "again: the file is written anew, and the work goes on."
                )


def spots_file(target: Path) -> Path:
    """Return where the file of spots of a target lies: ``name.spots`` beside it."""
    return target.with_name(f"{target.name}.spots")


def aside(target: Path, what: str) -> Path:
    """Return the name beside a target that the blocks of a part of the work go by; nothing is written under it."""
    return target.with_name(f"{target.stem}-{what}{target.suffix}")


def movie_of_workers(source: Source, hints: Hints) -> dict[str, Any]:
    """Return how workers open the movie of a source, as JSON can say it; see :func:`opened`."""
    path = source.image.path or source.files[-1]
    return {"path": str(Path(path).resolve()), "setup": source.setup, "hints": asdict(hints) if hints.given else None}


def opened(movie: Mapping[str, Any]) -> Source:
    """Open a movie in a worker, without an annotation."""
    hints, path = movie["hints"], Path(movie["path"])
    image = open_image(path, hints=None if hints is None else Hints(**hints))
    return Source(image, Tracks.empty(), (path,), movie["setup"])


def write_spots(path: Path, tracks: Tracks, config: LinkingConfig, allowed: Bool, *, shapes: bool) -> tuple[str, I64]:
    """Write the file; return its digest, and the (N,) row of the annotation of each place.

    Args:
        path: The file.
        tracks: The annotation before linking.
        config: Settings.
        allowed: (N,) the spots that may get links.
        shapes: Keep covariances, too, which a flow asks for.

    Raises:
        WriteError: The disk does not take it.
    """
    rows_of = rows_by_frame(tracks)
    order = np.concatenate([np.empty(0, dtype=np.int64), *rows_of.values()])
    starts = np.cumsum([0, *(len(rows) for rows in rows_of.values())])
    columns, usable, radius = _columns(tracks, config, allowed, order, shapes=shapes)
    ends = Ends.of(tracks, allowed)
    t, centre, size = rejected(tracks, allowed)
    by_time = np.argsort(t, kind="stable")
    table: dict[str, Any] = {
        "frames": list(rows_of),
        "starts": starts.tolist(),
        "radius": radius if usable else None,
        "sizes": size_model(columns["size"], tracks.centre, rows_of),
        "box": box_of(tracks.centre).tolist(),
        "ends": [ends.first, ends.last, ends.box.tolist()],
        "refused_t": t[by_time].tolist(),
        "columns": {},
    }
    with replacing(path, keep_previous=False) as temporary, temporary.open("wb") as file:
        file.write(MAGIC)
        offset = len(MAGIC)
        for name, column in columns.items():
            table["columns"][name] = [column.dtype.str, offset]
            offset += column.nbytes
        table["digests"] = []
        for rows, start in zip(rows_of.values(), starts, strict=False):
            parts = [np.ascontiguousarray(column[rows]) for column in columns.values()]
            table["digests"].append(_digest(parts))
            for part, (_, at) in zip(parts, table["columns"].values(), strict=True):
                width = part.nbytes // max(len(rows), 1)
                file.seek(at + int(start) * width)
                file.write(part.data)
        file.seek(offset)
        file.write(centre[by_time].tobytes() + size[by_time].tobytes())
        table["refused"] = [offset, offset + centre.nbytes]
        text = json.dumps(table).encode()
        file.write(text + len(text).to_bytes(8, "little"))
    return hashlib.sha256(text).hexdigest(), order


def read_spots(path: Path, digest: str) -> Spots:
    """Open the file of a run.

    Raises:
        ScaleError: It is not there, or another.
    """
    try:
        with path.open("rb") as file:
            file.seek(-8, 2)
            end = file.tell()
            length = int.from_bytes(file.read(8), "little")
            file.seek(max(end - length, 0))
            text = file.read(min(length, end))
    except OSError as error:
        raise ScaleError(
            f"The spots of this run cannot be read: {path}, {error.strerror}. Start the same command again."
        ) from error
    if hashlib.sha256(text).hexdigest() != digest:
        raise ScaleError(
            f"{path} is not the file of spots of this run. Start the same command again: it is written anew."
        )
    table = json.loads(text)
    return Spots(
        path, digest, np.array(table["frames"], dtype=np.int64), np.array(table["starts"], dtype=np.int64), table
    )


def _columns(
    tracks: Tracks, config: LinkingConfig, allowed: Bool, order: I64, *, shapes: bool
) -> tuple[dict[str, Array], bool, float]:
    """The columns by row of the annotation; whether any spot has a place and a shape, and the median radius of those."""
    n = tracks.n_spots
    usable, radius = usual_radius(tracks)
    fit = allowed & np.isfinite(tracks.centre).all(axis=1)
    flags = fit * np.uint8(ALLOWED) + usable * np.uint8(USABLE) + (tracks.n_parents() > 0) * np.uint8(HAS_PARENT)
    columns: dict[str, Array] = {
        "row": np.arange(n, dtype=np.int64),
        "centre": tracks.centre,
        "size": log_volumes(tracks),
        "flags": flags.astype(np.uint8),
    }
    if tracks.n_links:
        place = np.empty(n, dtype=np.int64)
        place[order] = np.arange(n)
        child_of = np.full(n, NONE, dtype=np.int64)
        child_of[tracks.links[:, 0]] = place[tracks.links[:, 1]]
        columns |= {"child_of": child_of, "n_children": tracks.n_children().astype(np.int32)}
    if config.division_feature and config.division_weight:
        columns["evidence"] = division_evidence(tracks, config.division_feature)
    if shapes:
        columns["covariance"] = tracks.covariance
    return columns, bool(usable.any()), radius


def _column(file: Any, name: str, kind: str, offset: int, low: int, high: int) -> Array:
    shape = SHAPES.get(name, ())
    dtype = np.dtype(kind)
    each = int(np.prod(shape, dtype=int))
    file.seek(offset + low * each * dtype.itemsize)
    data = file.read((high - low) * each * dtype.itemsize)
    if len(data) != (high - low) * each * dtype.itemsize:
        raise ScaleError(
            "The file of spots of this run is cut short. Start the same command again: it is written anew."
        )
    return np.frombuffer(data, dtype=dtype).reshape(high - low, *shape)


def _digest(parts: Any) -> str:
    found = hashlib.blake2b(digest_size=8)
    for part in parts:
        found.update(np.ascontiguousarray(part).data)
    return found.hexdigest()
