"""``howdah efficientcellseg colour``: the pseudocoloured movie (EfficientCellSeg, section 2.2), as an image that Fiji shows in colours."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bdv_io import ArrayImage
from bdv_io.formats import writer_for, writing_image
from bdv_io.stills import Stills
from howdah.errors import ConfigError
from howdah.methods.efficientcellseg.config import EfficientCellSegConfig
from howdah.pipeline.detection import Job, _needs_torch
from howdah.pipeline.overwriting import files_of, refuse_overwriting
from howdah.pipeline.record import recorded
from howdah.pipeline.sources import Source, check_target, frames_beside
from howdah.progress import Progress, Steps

if TYPE_CHECKING:
    from collections.abc import Iterator

U8 = npt.NDArray[np.uint8]

__all__ = ["CHANNELS", "colour"]

log = logging.getLogger("howdah")

CHANNELS = {
    "context": ("plane above (red)", "plane (green)", "plane below (blue)"),
    "time": ("frame before (red)", "frame (green)", "frame after (blue)"),
}


def colour(
    job: Job, out: str | os.PathLike[str], *, settings: Mapping[str, Mapping[str, Any]]
) -> Steps[dict[str, Any]]:
    """Write the pseudocoloured movie: three channels, red, green and blue, uint8, with the calibration of the movie.

    Green is the plane itself; red is twice as bright as green where the plane above has cells, blue where the plane below has some. In
    movies of single planes the frames before and after take their places. 255 is a pixel of full brightness that a neighbour has, too.

    Args:
        job: The movie. ``frames``: which are coloured; the result has these only.
        out: The image: ``.tif`` (Fiji shows a composite), ``.ome.tif``, ``.ome.zarr`` or ``.xml`` (BigDataViewer).
        settings: ``{"efficientcellseg": {...}}``: ``colour`` (automatic: planes in volumes, else frames), ``colour_...``, ``percentiles``.

    Returns:
        The file, the numbers of frames and planes, and what the colours carry.

    Raises:
        ConfigError: There is nothing above, below, before or after; or the target is an input.
        DataError, BdvIoError: As the sentence says.
    """
    source, frames = job.open()
    writer = writer_for(out, "image")
    target = check_target(out, source, folder=True)
    refuse_overwriting(target, writer, [*source.files, *files_of(source.image)])
    config = _config(settings, source)
    there = [t for t in frames if not source.image.is_missing(t, source.setup)]
    for t in sorted(set(frames) - set(there)):
        log.warning("Frame %d of %s is missing; it is black.", t, source.image.path)
    with _needs_torch():
        import howdah.methods.efficientcellseg.picture  # noqa: F401  what is needed is said before any work
    chosen = source.image.setups[source.setup]
    image = ArrayImage(
        _Coloured(source, frames, config),
        voxel_size=chosen.voxel_size,
        unit=chosen.unit,
        interval=source.image.interval,
        channels=CHANNELS["time" if config.colour == "time" else "context"],
        display_range=(0.0, 255.0),
    )
    used = {"efficientcellseg": dict(settings.get("efficientcellseg", {}))}
    planes = source.image.shape(frames[0], source.setup)[0]
    with recorded(target, "efficientcellseg-colour", inputs=source.inputs, settings=used) as record:
        yield Progress("colour", 0, len(frames))
        for done in writing_image(target, image):
            yield Progress("colour", done, len(frames))
        facts = {"frames": len(frames), "planes": planes, "colours": config.colour}
        record.facts |= facts
    return {"out": str(target), **facts}


def _config(settings: Mapping[str, Mapping[str, Any]], source: Source) -> EfficientCellSegConfig:
    """Return the settings, with the colours decided: what is in a volume beside a plane, in a flat movie beside a frame."""
    config = EfficientCellSegConfig.of(settings.get("efficientcellseg", {}))
    planes, n = source.image.shape(0, source.setup)[0], source.image.n_frames
    long = n > 1 and not isinstance(source.image, Stills)
    chosen = config.colour
    if chosen in ("auto", "grey"):
        chosen = "context" if planes > 1 else "time"
    if (chosen == "context" and planes < 2) or (chosen == "time" and not long):
        raise ConfigError(
            f"Colouring {source.image.path} is not possible: colours show what lies beside a plane, and it has {planes} plane"
            f"{'' if planes == 1 else 's'} and {n if long else 1} frame{'s' if long else ''}. If an axis was misread, say so: --axes TZYX."
        )
    return config.but(colour=chosen, enlarge=1.0)


class _Coloured(Sequence[U8]):
    """Frames (C, Z, Y, X) that are computed when they are asked for; the last one is kept."""

    def __init__(self, source: Source, frames: Sequence[int], config: EfficientCellSegConfig) -> None:
        self._source, self._frames, self._config = source, frames, config
        self._read = source.reader()
        self._last: tuple[int, U8] | None = None

    def __len__(self) -> int:
        return len(self._frames)

    def __iter__(self) -> Iterator[U8]:
        return (self[place] for place in range(len(self)))

    def __getitem__(self, place: Any) -> Any:
        if self._last is None or self._last[0] != place:
            self._last = (place, self._compute(self._frames[place]))
        return self._last[1]

    def _compute(self, t: int) -> U8:
        from howdah.methods.efficientcellseg.picture import picture

        source = self._source
        if source.image.is_missing(t, source.setup):
            return np.zeros((3, *source.image.shape(t, source.setup)), dtype=np.uint8)
        by_time = self._config.colour == "time"
        earlier, later = frames_beside(source, t, self._read) if by_time else (None, None)
        found = picture(self._read(t), self._config, earlier=earlier, later=later, time=t)
        return np.rint(np.moveaxis(found, 1, 0) * 255).astype(np.uint8)
