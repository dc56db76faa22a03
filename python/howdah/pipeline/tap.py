"""TAP from files to files: learning the arrow of time from raw movies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bdv_io import WriteError
from howdah.errors import ConfigError
from howdah.methods.tap.config import TapConfig
from howdah.pipeline.detection import Job, _needs_torch
from howdah.pipeline.record import fingerprint, recorded
from howdah.pipeline.sources import check_target
from howdah.pipeline.tap_movies import Opened, cut, open_movies
from howdah.pipeline.tap_network import PathLike, Sections, refuse_input
from howdah.pipeline.tap_time import in_words, timed
from howdah.pipeline.weights_of import read_weights_of
from howdah.progress import Steps

__all__ = ["train_tap"]


def train_tap(
    jobs: Sequence[Job],
    weights: PathLike,
    *,
    settings: Sections,
    start: PathLike | None = None,
    pictures: PathLike | None = None,
    resume: bool = True,
) -> Steps[dict[str, Any]]:
    """Learn the arrow of time from raw movies, without any annotation.

    Closing the work (Ctrl-C), or the setting ``minutes``, ends it at any time: the best network so far is written, and the same call goes
    on where it was.

    Args:
        jobs: Movies of one kind of image; ``frames``: what is learned from.
        weights: Where the weights go (safetensors); the former file is kept as ``name~1~``. While the training runs its state is
            beside it.
        settings: ``{"tap": {...}}``, fields of :class:`TapConfig`.
        start: Weights to start from: ours, or published ones.
        pictures: Folder for ``curves.png`` and pictures of where the network sees the arrow of time, drawn anew while it learns.
        resume: Go on with a training of the same movies and settings that was stopped.

    Returns:
        The weights file, the movies, and the figures of the best network.

    Raises:
        DataError: A movie is too short, or movies do not fit together.
        WeightsError, ConfigError, BdvIoError: As the sentence says.
    """
    config = TapConfig.of(settings.get("tap", {}))
    with _needs_torch():
        from howdah.methods.tap.train import train
        from howdah.pipeline.tap_drawing import Drawing

    if not jobs:
        raise ConfigError("There is nothing to learn from: no movie was named.")
    first = None if start is None else read_weights_of("tap", Path(start))
    opened = open_movies(jobs, config)
    target = Path(weights)
    for one in opened:
        target = check_target(weights, one.source, ending=".safetensors")
    refuse_input(target, start)
    movies = [cut(one) for one in opened]
    folder = None if pictures is None else _folder(Path(pictures))
    with recorded(
        target, "tap-train", inputs=_inputs(opened, start), settings={"tap": config.model_dump(mode="json")}
    ) as record:
        drawing = None if folder is None else Drawing(folder, movies, settings)
        steps = train(movies, config, start=first, save_to=target, resume=resume, after_epoch=drawing)
        trained = yield from timed(steps, lambda seconds, left: _how_long(seconds * left, config))
        if drawing is not None:
            drawing.draw(trained)
        kept = ("method", "resolved", "network", "metrics", "curve", "device", "precision")
        record.facts |= {"movies": [m.name for m in movies], "weights": fingerprint(target)}
        record.facts |= {name: trained.header.get(name) for name in kept}
    metrics = dict(trained.header.get("metrics", {}))
    return {
        "weights": str(target),
        **({} if folder is None else {"pictures": str(folder)}),
        "movies": len(movies),
        "frames": sum(m.n_frames - len(m.missing) for m in movies),
        "metrics": metrics,
    }


def _how_long(seconds: float, config: TapConfig) -> str:
    """Say how long a training takes."""
    limit = "" if config.minutes is None else f", but it ends after {config.minutes:g} minutes (--minutes)"
    return (
        f"At this speed all {config.n_epochs} passes take {in_words(seconds)}{limit}. Stop it whenever you like (Ctrl-C): "
        "the best network so far is kept, and the same command goes on."
    )


def _folder(path: Path) -> Path:
    """Make the folder of the pictures, or say why that is not possible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(
            f"Making the folder {path} for pictures failed: {error.strerror}. Choose another name."
        ) from error
    return path


def _inputs(opened: Sequence[Opened], start: PathLike | None) -> dict[str, Path]:
    """The files, for the record."""
    found: dict[str, Path] = {}
    for number, one in enumerate(opened):
        after = f" {number + 1}" if len(opened) > 1 else ""
        found |= {f"{name}{after}": path for name, path in one.source.inputs.items()}
    return found | ({} if start is None else {"start": Path(start)})
