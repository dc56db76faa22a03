"""The verbs of EfficientCellSeg: learn outlined cells, find the cells of movies, volumes and images, give spots their masks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from howdah.cli_hints import grouped, with_movie
from howdah.cli_options import Border, Json, rules_of, with_settings
from howdah.cli_show import run_verb
from howdah.pipeline import Job, default_target
from howdah.pipeline.colouring import colour
from howdah.pipeline.efficientcellseg import segment_efficientcellseg, train_efficientcellseg
from howdah.pipeline.efficientcellseg_masks import masks_for_spots
from howdah.pipeline.efficientcellseg_weights import encoder_weights
from howdah.pipeline.sections import SECTIONS
from howdah.pipeline.stills import default_result

__all__ = ["add_to"]

efficientcellseg = typer.Typer(
    name="efficientcellseg",
    help="EfficientCellSeg: masks of cells from few outlined images, in 2D and 3D.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Truth = Annotated[
    Path | None,
    typer.Option(
        "--truth",
        metavar="FILE",
        help="Where the outlines are, if SOURCE is a movie or a folder of images: label images, a folder of masks with the names "
        "of the images, a ROI set, a challenge folder (01_GT, 01_ST), a project.",
    ),
]
RESULTS: dict[str, tuple[Any, Any]] = {
    "also": (
        Annotated[
            list[Path],
            typer.Option(
                "--also",
                metavar="FILE",
                help="A further result: .zip, .xml, .mastodon, 01_RES; may be given several times.",
            ),
        ],
        [],
    ),
    "link": (
        Annotated[bool, typer.Option("--link", help="Link the cells into tracks, by the settings of linking.")],
        False,
    ),
    "border": (
        Border,
        None,
    ),
}
MASKS: dict[str, tuple[Any, Any]] = {
    "also": RESULTS["also"],
    "ellipsoids": (
        Annotated[
            bool,
            typer.Option(
                "--ellipsoids", help="Move and shape a machine's ellipsoids by their masks, where there is a cell."
            ),
        ],
        False,
    ),
    "everyone": (
        Annotated[bool, typer.Option("--everyone", help="With --ellipsoids: those of your own spots, too.")],
        False,
    ),
    "border": RESULTS["border"],
}


def add_to(app: typer.Typer) -> None:
    """Add ``efficientcellseg`` to the command line."""
    app.add_typer(efficientcellseg)


@efficientcellseg.command()
@with_settings(SECTIONS, "efficientcellseg")
@with_movie("image", "setup", "frames")
def train(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="A movie or a folder of images with --truth, a TrackMate file or project with outlined cells, or a challenge "
            "sequence (01, with 01_GT or 01_ST beside it).",
        ),
    ],
    settings: dict[str, dict[str, Any]],
    movie: dict[str, Any],
    weights: Annotated[
        Path | None, typer.Option("--weights", "-w", metavar="FILE", help="Where the weights go.")
    ] = None,
    start: Annotated[
        Path | None, typer.Option("--start", metavar="FILE", help="Weights to start from: ours, or published ones.")
    ] = None,
    truth: Truth = None,
    json: Json = False,
) -> None:
    """Train on outlined cells. A stopped training goes on where it was."""
    target = weights or default_target(source, "efficientcellseg.safetensors")
    job = Job(source, **movie)
    run_verb(lambda: train_efficientcellseg(job, target, settings=settings, start=start, truth=truth), as_json=json)


@efficientcellseg.command()
@with_settings(SECTIONS, "efficientcellseg", "linking")
@with_movie("image", "setup", "frames")
@grouped("results", RESULTS)
def segment(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="A movie, a volume, an image, a folder of images, or a project, whose cells and links stay.",
        ),
    ],
    settings: dict[str, dict[str, Any]],
    movie: dict[str, Any],
    results: dict[str, Any],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="The result; its ending chooses the format (default: label image). Of a folder of images it may be a folder.",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", "-w", metavar="FILE", help="Trained weights (default: train on the outlines first)."),
    ] = None,
    truth: Truth = None,
    json: Json = False,
) -> None:
    """Find the cells of every frame with their outlines. What a person outlined or linked stays as it is."""
    target = out or default_result(source)
    job, border = Job(source, **movie), results.pop("border")
    rules = rules_of(border)
    run_verb(
        lambda: segment_efficientcellseg(
            job, target, settings=settings, weights=weights, truth=truth, challenge=rules, **results
        ),
        as_json=json,
    )


@efficientcellseg.command()
@with_settings(SECTIONS, "efficientcellseg")
@with_movie("image", "setup", "frames")
@grouped("results", MASKS)
def masks(
    source: Annotated[
        Path,
        typer.Argument(metavar="PROJECT", help="A project or TrackMate file with spots: ELEPHANT's, or a person's."),
    ],
    settings: dict[str, dict[str, Any]],
    movie: dict[str, Any],
    results: dict[str, Any],
    weights: Annotated[Path, typer.Option("--weights", "-w", metavar="FILE", help="Trained weights.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="The result; its ending chooses the format (default: TrackMate XML)."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Give spots that are there masks as outlines. They keep their numbers, names, links and tags."""
    target = out or default_target(source, "masks.xml")
    job, border = Job(source, **movie), results.pop("border")
    rules = rules_of(border)
    run_verb(lambda: masks_for_spots(job, weights, target, settings=settings, challenge=rules, **results), as_json=json)


@efficientcellseg.command("colour")
@with_settings(SECTIONS, "efficientcellseg")
@with_movie("image", "setup", "frames")
def colour_(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="A movie, or a project that names its movie.")],
    settings: dict[str, dict[str, Any]],
    movie: dict[str, Any],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="The picture: .tif, .ome.tif, .ome.zarr, .xml (BigDataViewer)."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Write the pseudocoloured movie: red where the plane above (or the frame before) has cells, blue where the one below has."""
    target = out or default_target(source, "colour.tif")
    run_verb(lambda: colour(Job(source, **movie), target, settings=settings), as_json=json)


@efficientcellseg.command()
def weights(
    encoder: Annotated[
        str, typer.Option("--encoder", metavar="NAME", help="Which EfficientNet: b0 to b7, lite0 to lite4.")
    ] = "b5",
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder", metavar="FOLDER", help="Where to put them, to carry to another computer (default: the cache)."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Download the encoder's ImageNet weights ahead of a training, if they are not on this computer."""
    run_verb(lambda: encoder_weights(encoder, folder), as_json=json)
