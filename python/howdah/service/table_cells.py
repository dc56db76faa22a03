"""Tasks of EmbedTrack and EfficientCellSeg: outlined cells."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from howdah.pipeline.colouring import colour
from howdah.pipeline.efficientcellseg import segment_efficientcellseg, train_efficientcellseg
from howdah.pipeline.efficientcellseg_masks import masks_for_spots
from howdah.pipeline.efficientcellseg_weights import encoder_weights
from howdah.pipeline.embedtrack import track_embedtrack, train_embedtrack
from howdah.pipeline.stills import default_result
from howdah.service.parameters import InFile, OutFile, Parameters
from howdah.service.table_fields import Movie, Outlined
from howdah.service.tasks import Task

__all__ = ["CELLS"]

WEIGHTS = "Trained weights; none: train on the outlines first."
TRUTH = (
    "Where the outlines are, if the source is a movie or a folder of images: label images, a ROI set, 01_GT, a project."
)


class Train(Movie):
    """What the trainings are told."""

    weights: OutFile | None = Field(default=None, description="Where the weights go.")
    start: InFile | None = Field(default=None, description="Weights to start from: ours, or published ones.")
    truth: InFile | None = Field(default=None, description=TRUTH)


class Track(Outlined):
    """What `embedtrack.track` is told."""

    weights: InFile | None = Field(default=None, description=WEIGHTS)


class Segment(Outlined):
    """What `efficientcellseg.segment` is told."""

    weights: InFile | None = Field(default=None, description=WEIGHTS)
    truth: InFile | None = Field(default=None, description=TRUTH)
    link: bool = Field(default=False, description="Link the cells into tracks, by the settings of linking.")


class Masks(Outlined):
    """What `efficientcellseg.masks` is told."""

    weights: InFile = Field(description="Trained weights.")
    ellipsoids: bool = Field(default=False, description="Move and shape a machine's ellipsoids by their masks.")
    everyone: bool = Field(default=False, description="With ellipsoids: those of your own spots, too.")


class Colour(Movie):
    """What `efficientcellseg.colour` is told."""

    out: OutFile | None = Field(default=None, description="The picture, three channels: .tif, .ome.tif, .ome.zarr.")


class Encoder(Parameters):
    """What `efficientcellseg.weights` is told."""

    encoder: str = Field(default="b5", description="Which EfficientNet: b0 to b7, lite0 to lite4.")
    folder: OutFile | None = Field(default=None, description="Where to put them; none: the cache.")


def _default(source: Path, folder: Path | None) -> Path:
    beside = default_result(source)
    return beside if folder is None else folder / beside.name


CELLS = [
    Task(
        "embedtrack.train",
        "Train EmbedTrack on outlined cells and their links. A stopped training goes on where it was.",
        Train,
        lambda p: train_embedtrack(p.job, p.weights, settings=p.settings, start=p.start, truth=p.truth),
        sections=("embedtrack",),
        results={"weights": "embedtrack.safetensors"},
    ),
    Task(
        "embedtrack.track",
        "Segment and track a movie: outlines, links, divisions. What a person outlined or linked stays as it is.",
        Track,
        lambda p: track_embedtrack(
            p.job, p.out, settings=p.settings, weights=p.weights, also=p.also, challenge=p.rules
        ),
        sections=("embedtrack", "linking"),
        results={"out": "tracked.xml"},
    ),
    Task(
        "efficientcellseg.train",
        "Train EfficientCellSeg on outlined cells. A stopped training goes on where it was.",
        Train,
        lambda p: train_efficientcellseg(p.job, p.weights, settings=p.settings, start=p.start, truth=p.truth),
        sections=("efficientcellseg",),
        results={"weights": "efficientcellseg.safetensors"},
    ),
    Task(
        "efficientcellseg.segment",
        "Find the cells of every frame with their outlines. What a person outlined or linked stays as it is.",
        Segment,
        lambda p: segment_efficientcellseg(
            p.job,
            p.out,
            settings=p.settings,
            weights=p.weights,
            truth=p.truth,
            also=p.also,
            link=p.link,
            challenge=p.rules,
        ),
        sections=("efficientcellseg", "linking"),
        results={"out": _default},
    ),
    Task(
        "efficientcellseg.masks",
        "Give spots that are there masks as outlines. They keep their numbers, names, links and tags.",
        Masks,
        lambda p: masks_for_spots(
            p.job,
            p.weights,
            p.out,
            settings=p.settings,
            also=p.also,
            ellipsoids=p.ellipsoids,
            everyone=p.everyone,
            challenge=p.rules,
        ),
        sections=("efficientcellseg",),
        results={"out": "masks.xml"},
    ),
    Task(
        "efficientcellseg.colour",
        "Write the pseudocoloured movie: red where the plane above has cells, blue where the plane below has some.",
        Colour,
        lambda p: colour(p.job, p.out, settings=p.settings),
        learns=False,
        sections=("efficientcellseg",),
        results={"out": "colour.tif"},
    ),
    Task(
        "efficientcellseg.weights",
        "Download the encoder's ImageNet weights ahead of a training, if they are not on this computer.",
        Encoder,
        lambda p: encoder_weights(p.encoder, p.folder),
        learns=False,
    ),
]
