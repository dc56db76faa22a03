"""What TAP sees, as images that Fiji opens: maps of where time has an arrow, and the features of every pixel.

Frames are computed while they are written, each once; nothing but a few frames is held.
"""

from __future__ import annotations

import logging
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bdv_io import ImageSeries, MissingDataError
from bdv_io.formats import writer_for, writing_image
from bdv_io.image import Region, Setup, Shape
from howdah.errors import DataError
from howdah.pipeline.detection import Job
from howdah.pipeline.overwriting import files_of, refuse_overwriting
from howdah.pipeline.record import fingerprint, recorded
from howdah.pipeline.sources import Source, check_target
from howdah.pipeline.tap_network import PathLike, Sections, Seen, look
from howdah.progress import Progress, Steps

if TYPE_CHECKING:
    from howdah.methods.tap.attribution import Attribution

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

__all__ = ["Computed", "FeatureImage", "MapImage", "check_image_target", "embed_tap", "map_tap", "writing"]

log = logging.getLogger("howdah")

NAMED = 20  # frames that a sentence names


def map_tap(
    job: Job, out: PathLike, *, weights: PathLike, settings: Sections, overlay: bool = False
) -> Steps[dict[str, Any]]:
    """Write where the network sees the arrow of time, as an image with the frames, pixels and calibration of the movie.

    A frame's map is that of the frame and the later ones of its sample; frames that have no later one (the last ones), and frames that were
    not asked for, are zeros.

    Args:
        job: The movie. ``frames``: which maps are wanted.
        out: The image, float32: ``.tif``, ``.ome.tif``, ``.ome.zarr`` or ``.xml`` (BigDataViewer).
        weights: Of a network, from training, or published ones.
        settings: ``{"tap": {...}}``; ``attribution`` says which map.
        overlay: The channels of the movie come first, so that Fiji shows the map in the colour of another channel.

    Returns:
        The file, how many frames have a map, and in how many of them the network is right about the order of time.

    Raises:
        DataError: No frame has a later one. ConfigError, WeightsError, BdvIoError: As the sentence says.
    """
    seen = look(job, weights, settings=settings)
    target = check_image_target(out, seen.opened.source)
    image = MapImage(seen, overlay=overlay)
    with recorded(target, "tap-map", inputs=seen.inputs, settings={"tap": dict(settings.get("tap", {}))}) as record:
        yield Progress("map", 0, image.n_frames, message=seen.embedder.place.sentence)
        yield from writing(target, image, "map")
        facts = image.facts()
        record.facts |= {**facts, **seen.facts, "weights": fingerprint(seen.file), "scores": image.scores}
    return {"out": str(target), "weights": str(seen.file), **facts}


def embed_tap(job: Job, out: PathLike, *, weights: PathLike, settings: Sections) -> Steps[dict[str, Any]]:
    """Write the features of every pixel as an image with one channel a feature.

    Args:
        job: The movie. ``frames``: which are described; the others are zeros.
        out: The image, float32: ``.ome.zarr``, ``.tif``, ``.ome.tif`` or ``.xml`` (BigDataViewer).
        weights: Of a network, from training, or published ones.
        settings: ``{"tap": {...}}``.

    Returns:
        The file, and the numbers of frames and features.

    Raises:
        ConfigError, WeightsError, DataError, BdvIoError: As the sentence says.
    """
    seen = look(job, weights, settings=settings)
    target = check_image_target(out, seen.opened.source)
    with ExitStack() as stack:
        record = stack.enter_context(
            recorded(target, "tap-embed", inputs=seen.inputs, settings={"tap": dict(settings.get("tap", {}))})
        )
        image = FeatureImage(seen, lambda: Path(stack.enter_context(_folder_beside(target))))
        yield Progress("embed", 0, image.n_frames, message=seen.embedder.place.sentence)
        yield from writing(target, image, "embed")
        facts = {"frames": len(seen.opened.frames), "features": len(image.setups)}
        record.facts |= {**facts, **seen.facts, "weights": fingerprint(seen.file)}
    return {"out": str(target), "weights": str(seen.file), **facts}


def check_image_target(out: PathLike, source: Source, *, more: Sequence[Path] = ()) -> Path:
    """Return where an image goes, or say before any work why it cannot be written there.

    Raises:
        ConfigError: It is an input, or a folder that holds something else.
        UnsupportedError, WriteError: No format has this ending, or the folder is not there.
    """
    writer = writer_for(out, "image")
    target = check_target(out, source, folder=True)
    refuse_overwriting(target, writer, [*source.files, *files_of(source.image), *more])
    return target


def _folder_beside(target: Path) -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent)


def writing(target: Path, image: ImageSeries, stage: str) -> Steps[None]:
    """Write an image that is computed while it is written, with progress."""
    for sentence in writer_for(target, "image").losses(image):
        log.info("%s: %s", target, sentence)
    for done in writing_image(target, image):
        yield Progress(stage, done, image.n_frames)


class Computed(ABC):
    """An image that is computed when it is read; it has the frames and the calibration of a movie.

    What writers of images look at again (the first, the middle and the last frame) is kept.
    """

    path: Path | None = None
    format = "computed"

    def __init__(self, seen: Seen, names: Sequence[str], *, shape: Shape, shrink: int) -> None:
        self.seen, self._shape, self._shrink = seen, shape, shrink
        self._image, self._setup = seen.opened.source.image, seen.opened.setups[0]
        first = self._image.setups[self._setup]
        z, y, x = first.voxel_size
        size = (z, y * shrink, x * shrink)
        kind = np.dtype(np.float32)
        self.setups = tuple(
            Setup(i, name, shape, size, first.unit, kind, attributes={"channel": (i, name)})
            for i, name in enumerate(names)
        )
        self.n_frames = self._image.n_frames
        self.timepoints = tuple(range(self.n_frames))
        self.interval = self._image.interval
        self.again = {0, self.n_frames // 2, self.n_frames - 1}
        self._wanted: set[int] = set()
        self._kept: dict[int, F32] = {}

    def is_missing(self, frame: int, setup: int = 0) -> bool:
        """Whether the movie lacks this frame."""
        return frame in self.seen.opened.movie.missing

    def shape(self, frame: int, setup: int = 0, level: int = 0) -> Shape:
        """Voxels (Z, Y, X) of a frame."""
        return self._shape

    def affine(self, frame: int, setup: int = 0, level: int = 0) -> F64:
        """4x4 matrix from voxel indices (z, y, x, 1) to the world, that of the movie's frame."""
        factor = np.array([1.0, self._shrink, self._shrink])
        to_pixels = np.diag([*factor, 1.0])
        to_pixels[:3, 3] = (factor - 1) / 2
        if self.is_missing(frame):
            frame = min(set(range(self.n_frames)) - self.seen.opened.movie.missing, key=lambda t: abs(t - frame))
        found: F64 = self._image.affine(frame, self._setup) @ to_pixels
        return found

    def read(self, frame: int, setup: int = 0, level: int = 0, *, region: Region | None = None) -> F32:
        """Return a channel of a frame, (Z, Y, X) float32; zeros where nothing is to be computed."""
        self._checked(frame, setup, level)
        found = self._channel(frame, setup) if frame in self._wanted else np.zeros(self._shape, dtype=np.float32)
        return found if region is None else found[region]

    def _channel(self, frame: int, setup: int) -> F32:
        return self._frame(frame)

    def _frame(self, frame: int) -> F32:
        """Return what was computed of a frame, or compute it; of the others only those that are looked at again stay."""
        if frame not in self._kept:
            for other in [t for t in self._kept if t not in self.again]:
                del self._kept[other]
            self._kept[frame] = self._compute(frame)
        return self._kept[frame]

    @abstractmethod
    def _compute(self, frame: int) -> F32:
        """Return what is kept of a frame: (Z, Y, X), or (C, Z, Y, X) where ``_channel`` chooses from it."""

    def close(self) -> None:
        """Let go of the movie's files."""
        self._image.close()

    def _checked(self, frame: int, setup: int, level: int) -> None:
        if not 0 <= frame < self.n_frames or not 0 <= setup < len(self.setups) or level:
            raise MissingDataError(f"Frame {frame}, channel {setup}, level {level} was asked for; there is none.")


class MapImage(Computed):
    """Maps of where the network sees the arrow of time, computed when they are read; implements :class:`bdv_io.image.ImageSeries`.

    Args:
        seen: Movie and network.
        overlay: The channels of the movie come first.
        told: Is called with each map when it is computed.

    Attributes:
        scores: Frame -> what the network says of it: positive = it knows the order.
    """

    def __init__(
        self, seen: Seen, *, overlay: bool = False, told: Callable[[Attribution], object] | None = None
    ) -> None:
        movie = seen.opened.movie
        names = [seen.opened.source.image.setups[s].name or f"channel {s + 1}" for s in seen.opened.setups]
        what = "evidence" if seen.config.attribution == "evidence" else "time arrow"
        super().__init__(seen, [*(names if overlay else []), what], shape=movie.shape, shrink=1)
        self.times = seen.times()
        if not self.times:
            raise DataError(
                f"Mapping {movie.name} is not possible: none of the {len(seen.opened.frames)} frames has a frame "
                f"{' or '.join(map(str, seen.config.delta))} later. Choose more frames, or a smaller --delta."
            )
        late = sorted(set(seen.opened.frames) - set(self.times))
        if late:
            named = ", ".join(map(str, late[:NAMED])) + (" ..." if len(late) > NAMED else "")
            log.info("Frames without a later one to compare with have no map: %s. They are zeros.", named)
        self.scores: dict[int, float] = {}
        self._overlay, self._told = len(names) if overlay else 0, told or (lambda one: None)
        self._wanted = set(self.times)
        self._stream: Iterator[Attribution] | None = None

    def read(self, frame: int, setup: int = 0, level: int = 0, *, region: Region | None = None) -> F32:
        """Return a map, or a channel of the movie, (Z, Y, X) float32."""
        if setup < self._overlay:
            self._checked(frame, setup, level)
            pixels = self._image.read(frame, self.seen.opened.setups[setup], region=region)
            return pixels.astype(np.float32)
        return super().read(frame, setup, level, region=region)

    def facts(self) -> dict[str, Any]:
        """What was found: frames with a map, and of how many of them the network knows the order."""
        right = sum(score > 0 for score in self.scores.values())
        return {"frames": len(self.scores), "order_known": f"{right} of {len(self.scores)} frames"}

    def maps(self) -> Iterator[Attribution]:
        """Compute the maps that were not computed yet, without writing them."""
        rest = [t for t in self.times if t not in self.scores]
        for one in self._attributions(rest):
            self._tell(one)
            yield one

    def _compute(self, frame: int) -> F32:
        """Compute a map: the next of those in order, so that each frame is described once; what is looked at ahead of that, alone."""
        from howdah.methods.tap.attribution import enlarged

        if self._stream is None and frame not in self.again:
            self._stream = iter(self._attributions([t for t in self.times if t >= frame and t not in self.scores]))
        one = None if self._stream is None else next(self._stream, None)
        if one is None or one.time != frame:
            one = next(iter(self._attributions([frame])))
        self._tell(one)
        return enlarged(one.map, self._shape, self.seen.config.shrink)

    def _tell(self, one: Attribution) -> None:
        if one.time not in self.scores:
            self.scores[one.time] = round(one.score, 6)
            self._told(one)

    def _attributions(self, times: Sequence[int]) -> Iterator[Attribution]:
        from howdah.methods.tap.attribution import attributions

        return attributions(self.seen.embedder, self.seen.frames, times)


class FeatureImage(Computed):
    """Features of every pixel, one channel each, computed when they are read; implements :class:`bdv_io.image.ImageSeries`.

    Its pixels are those that the network sees: fewer than the movie's where it was trained on shrunk images.

    Args:
        seen: Movie and network.
        folder: Makes a folder for features that do not fit into the memory.
    """

    def __init__(self, seen: Seen, folder: Callable[[], Path]) -> None:
        count = int(seen.embedder.form["features"])
        names = [f"feature {i + 1}" for i in range(count)]
        super().__init__(seen, names, shape=seen.frames.shape, shrink=seen.config.shrink)
        self._wanted, self._folder = set(seen.opened.frames), folder

    def _channel(self, frame: int, setup: int) -> F32:
        return np.ascontiguousarray(self._frame(frame)[setup])

    def _compute(self, frame: int) -> F32:
        """Describe a frame: in memory, or in a file where the frames that are held would not fit."""
        from howdah.nn.device import free_memory_mb

        shape = (len(self.setups), *self._shape)
        room = (self.seen.config.memory_mb or free_memory_mb()) * 2**20
        if prod(shape) * 4 * (len(self.again) + 1) <= room:
            return self.seen.embedder.features(self.seen.frames.frame(frame))
        place = self._folder() / f"{frame}.features"
        found = np.memmap(place, dtype=np.float32, mode="w+", shape=shape)
        read = self.seen.frames.region
        for region, part in self.seen.embedder.regions(lambda at: read(frame, at), self._shape):
            found[(slice(None), *region)] = part
        return found
