"""A plane of a movie with the cells on it, as PNG: what a training learns from, or what a job found.

Ellipsoids are cut by the plane (their cut is an ellipse, see :func:`ellipses`); spots that have outlines show those. The colour is
that of the track.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt

from bdv_io import BdvIoError, ImageSeries, Tracks
from bdv_io.formats import identify, read_tracks
from bdv_io.image import ArrayImage, Hints
from howdah.errors import HowdahError
from howdah.pipeline import open_source
from howdah.service.clean import load_image
from howdah.service.roots import Roots
from howdah.service.security import Refused
from howdah.service.store import Job

__all__ = ["Scene", "Scenes", "ellipses", "picture"]

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
LARGEST, SMALLEST = 1024, 480  # pixels of a picture's longer side
MOST_OUTLINED = 20_000
CORNERS = 160
KEPT = 4
MOST_PIXELS = 1 << 28
PATIENCE_S = 10.0
GOLDEN = 0.618033988749895


@dataclass(frozen=True)
class Scene:
    """A movie and what lies on it.

    Attributes:
        image: The movie. setup: Which channel. tracks: The cells, None where there are none.
        about: What is shown, for people.
    """

    image: ImageSeries
    setup: int
    tracks: Tracks | None
    about: str

    @property
    def n_planes(self) -> int:
        """Planes along z."""
        return self.image.setups[self.setup].shape[0]


class Scenes:
    """Opens what a job looks at, and keeps the last few open."""

    def __init__(self, roots: Roots) -> None:
        self.roots = roots
        self._kept: OrderedDict[tuple[Any, ...], Scene] = OrderedDict()
        self._lock = threading.Lock()

    def about(self, job: Job) -> dict[str, Any]:
        """Return what a page says of it: ``about``, ``n_frames``, ``n_planes``.

        Raises:
            Refused: See :meth:`picture`.
        """
        with self._held():
            scene = self._of(job)
            return {"about": scene.about, "n_frames": scene.image.n_frames, "n_planes": scene.n_planes}

    def picture(self, job: Job, *, frame: int, plane: int) -> bytes:
        """Return a plane of what a job looks at, its result or its source, as PNG.

        Raises:
            Refused: 404: it has no movie, the movie cannot be opened, or has no such plane; 503: others are looking.
        """
        with self._held():
            try:
                return picture(self._of(job), frame=frame, plane=plane)
            except (BdvIoError, HowdahError, OSError, MemoryError) as error:
                if isinstance(error, Refused):
                    raise
                raise Refused(f"The image of this job cannot be shown: {error}", 404) from error

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        """One at a time: what is open may be closed for the next one, and a picture takes memory."""
        if not self._lock.acquire(timeout=PATIENCE_S):
            raise Refused("Others look at images of this service. Try again in a moment.", 503, {"Retry-After": "5"})
        try:
            yield
        finally:
            self._lock.release()

    def _of(self, job: Job) -> Scene:
        source, found = _path(job.parameters.get("source") or job.parameters.get("image")), _out(job)
        parts = (source, job.parameters.get("image"), job.parameters.get("setup"), found, job.state)
        times = tuple(path.stat().st_mtime_ns for path in (source, found) if path is not None and path.exists())
        key = (job.id, *map(str, parts), times)
        scene = self._kept.pop(key, None) or self._open(job, source, found)
        self._kept[key] = scene
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)[1].image.close()
        return scene

    def close(self) -> None:
        """Let go of all files."""
        with self._lock:
            for scene in self._kept.values():
                scene.image.close()
            self._kept.clear()

    def _open(self, job: Job, source: Path | None, found: Path | None) -> Scene:
        try:
            array = _array_of(job)
            if array is not None:
                return Scene(array, 0, None, "The image that the task returned")
            if source is None:
                raise Refused("This job has no image to show.", 404)
            self._check(source)
            image = _path(job.parameters.get("image"))
            if image is not None:
                self._check(image)
            setup = job.parameters.get("setup")
            hints = Hints(axes=job.parameters.get("axes"))
            opened = open_source(source, image=image, setup=setup if isinstance(setup, int) else 0, hints=hints)
            if found is not None and self.roots.holds(found):
                return Scene(opened.image, opened.setup, read_tracks(found), f"{found.name} on {source.name}")
            return Scene(opened.image, opened.setup, opened.tracks, source.name)
        except (BdvIoError, HowdahError, OSError) as error:
            if isinstance(error, Refused):
                raise
            raise Refused(f"The image of this job cannot be shown: {error}", 404) from error

    def _check(self, path: Path) -> None:
        if not self.roots.holds(path):
            raise Refused("The image of this job lies outside the folders that are served.", 404)
        self.roots.check_source(path)


def _path(value: Any) -> Path | None:
    return Path(value) if isinstance(value, str) and value else None


def _out(job: Job) -> Path | None:
    """Return the annotation that a job wrote."""
    path = _path((job.result or {}).get("out"))
    if path is None or not path.exists():
        return None
    try:
        return path if identify(path).kind == "annotation" else None
    except BdvIoError:
        return None


def _array_of(job: Job) -> ImageSeries | None:
    """Return the first image of a job's result as a movie."""
    for value in (job.result or {}).values():
        if isinstance(value, dict) and isinstance(value.get("array"), str):
            found = load_image(value, job.folder)
            data = found.data
            for place, letter in enumerate("TCZYX"):
                if letter not in found.axes:
                    data = np.expand_dims(data, place)
            order = [found.axes.index(letter) for letter in "TCZYX"] if len(found.axes) == 5 else range(5)
            return ArrayImage(data.transpose(order), unit=found.unit)
    return None


def picture(scene: Scene, *, frame: int, plane: int) -> bytes:
    """Return a plane of a frame with its cells, as PNG (H, W, 3).

    Raises:
        Refused: 404: there is no such frame or plane.
    """
    image, setup = scene.image, scene.setup
    if not (0 <= frame < image.n_frames and 0 <= plane < scene.n_planes):
        raise Refused(f"There is no plane {plane} of frame {frame}.", 404)
    levels = image.setups[setup].levels
    level = next((i for i in range(len(levels)) if max(image.shape(frame, setup, i)[1:]) <= LARGEST), len(levels) - 1)
    shape = image.shape(frame, setup, level)
    k = min(int(plane / levels[level][0]), shape[0] - 1)
    if shape[1] * shape[2] > MOST_PIXELS:
        raise Refused(f"A plane of {shape[1]:,} x {shape[2]:,} pixels is too large to be shown here.", 404)
    if image.is_missing(frame, setup):
        data = np.zeros(shape[1:], np.uint8)
    else:
        data = image.read(frame, setup, level, region=(slice(k, k + 1), slice(None), slice(None)))[0]
    step = -(-max(data.shape) // LARGEST)
    data = data[::step, ::step]
    zoom = max(1, SMALLEST // max(data.shape))
    canvas = np.repeat(np.repeat(_grey(data), zoom, axis=0), zoom, axis=1)
    drawn = np.stack([canvas] * 3, axis=-1)
    if scene.tracks is not None and scene.tracks.n_spots:
        to_voxel: F64 = np.linalg.inv(image.affine(frame, setup, level)).astype(np.float64)
        _draw(drawn, scene.tracks, frame, (to_voxel, k, float(zoom / step)))
    return bytes(imagecodecs.png_encode(np.ascontiguousarray(drawn), level=4))


def _grey(data: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    values = np.nan_to_num(data.astype(np.float32))
    low, high = np.percentile(values, (0.5, 99.7))
    scaled = np.clip((values - low) / max(float(high - low), 1e-12), 0, 1)
    return np.asarray(scaled * 235, dtype=np.uint8)


def _draw(canvas: npt.NDArray[np.uint8], tracks: Tracks, frame: int, where: tuple[F64, int, float]) -> None:
    """Draw the cells of a frame where the plane cuts them; ``where``: world to voxel (4x4), plane, pixels a voxel."""
    to_voxel, plane, zoom = where
    rows = np.flatnonzero(tracks.t == frame)[:MOST_OUTLINED]
    if not len(rows):
        return
    track = tracks.tracks()[1]
    outlined = np.isin(rows, tracks.outlines.spot) if len(tracks.outlines) else np.zeros(len(rows), bool)
    plain = rows[~outlined]
    turn, shift = to_voxel[:3, :3], to_voxel[:3, 3]
    points, kept = ellipses(
        tracks.centre[plain] @ turn.T + shift, turn @ tracks.covariance[plain] @ turn.T, plane, corners=CORNERS
    )
    _paint(canvas, points, _colours(track[plain[kept]]), zoom)
    rings = tracks.outlines
    wanted = np.flatnonzero(np.isin(rings.spot, rows[outlined])) if outlined.any() else np.empty(0, np.int64)
    for ring in wanted.tolist():
        corners = rings.ring(ring)
        world = np.column_stack([np.full(len(corners), rings.z[ring]), corners])
        voxel = world @ turn.T + shift
        if abs(float(voxel[0, 0]) - plane) <= 0.5:
            _paint(canvas, _along(voxel[:, 1:], zoom)[None], _colours(track[[rings.spot[ring]]]), zoom)


def ellipses(centre: F64, covariance: F64, plane: float, *, corners: int) -> tuple[F64, I64]:
    """Cut ellipsoids by a plane of constant z.

    An ellipsoid with the matrix S (squared half-axes as eigenvalues) is cut at the distance d of its centre in the ellipse with the
    centre c + S_yx,z d / S_zz and the matrix (1 - d²/S_zz) (S_yx,yx - S_yx,z S_z,yx / S_zz): the Schur complement.

    Args:
        centre: (N, 3) centres (z, y, x).
        covariance: (N, 3, 3).
        plane: z of the plane.
        corners: Points an ellipse.

    Returns:
        (K, corners, 2) points (y, x) of those that the plane cuts, and their rows (K,).
    """
    d, depth = plane - centre[:, 0], np.maximum(covariance[:, 0, 0], 1e-12)
    kept = np.flatnonzero(d * d < np.maximum(depth, 0.25))  # one thinner than a plane shows in its own
    d, depth, centre, covariance = d[kept], depth[kept], centre[kept], covariance[kept]
    slope = covariance[:, 1:, 0] / depth[:, None]
    flat = covariance[:, 1:, 1:] - slope[:, :, None] * covariance[:, None, 0, 1:]
    size = np.sqrt(np.clip(1 - d * d / np.maximum(depth, 0.25), 0, 1))
    values, vectors = np.linalg.eigh(flat)
    axes = vectors * np.sqrt(np.maximum(values, 0))[:, None, :] * size[:, None, None]
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    middle = centre[:, 1:] + slope * d[:, None]
    return middle[:, None, :] + np.swapaxes(axes @ circle, 1, 2), kept


def _along(ring: F64, zoom: float) -> F64:
    """Return points along a ring, at least one a pixel."""
    following = np.roll(ring, -1, axis=0)
    count = max(2, int(np.ceil(np.abs(following - ring).max() * zoom)) + 1)
    share = np.linspace(0, 1, count, endpoint=False)[None, :, None]
    return np.asarray((ring[:, None] * (1 - share) + following[:, None] * share).reshape(-1, 2))


def _paint(canvas: npt.NDArray[np.uint8], points: F64, colours: npt.NDArray[np.uint8], zoom: float) -> None:
    """Set the pixels at points (K, P, 2) of voxel coordinates (y, x), two wide, in K colours."""
    corner = np.floor((points + 0.5) * zoom).astype(np.int64)
    for dy, dx in ((0, 0), (0, 1), (1, 0)):
        y, x = corner[..., 0] + dy, corner[..., 1] + dx
        inside = (y >= 0) & (x >= 0) & (y < canvas.shape[0]) & (x < canvas.shape[1])
        colour = np.broadcast_to(colours[:, None, :], (*inside.shape, 3))
        canvas[y[inside], x[inside]] = colour[inside]


def _colours(track: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return bright colours (K, 3), far apart for neighbouring numbers."""
    hue = (np.asarray(track, dtype=np.float64) * GOLDEN) % 1.0
    phase = (hue[:, None] * 6 + np.array([0.0, 4.0, 2.0])) % 6
    return np.asarray((1 - 0.75 * np.clip(np.minimum(phase - 2, 4 - phase) + 1, 0, 1)) * 255, dtype=np.uint8)
