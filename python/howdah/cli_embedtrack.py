"""The verbs of EmbedTrack: learn outlined cells, and segment and track a movie."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from howdah.cli_hints import with_movie
from howdah.cli_options import Border, Json, rules_of, with_settings
from howdah.cli_show import run_verb
from howdah.pipeline import Job, default_target
from howdah.pipeline.embedtrack import track_embedtrack, train_embedtrack
from howdah.pipeline.sections import SECTIONS

__all__ = ["add_to"]

embedtrack = typer.Typer(
    name="embedtrack",
    help="EmbedTrack: outlines, tracks and divisions of cells at once, in 2D and 3D, for TrackMate.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Truth = Annotated[
    Path | None,
    typer.Option(
        "--truth",
        metavar="FILE",
        help="Where the outlines are, if SOURCE is a movie: label images, a challenge folder (01_GT, 01_ST), a TrackMate file.",
    ),
]


def add_to(app: typer.Typer) -> None:
    """Add ``embedtrack`` to the command line."""
    app.add_typer(embedtrack)


@embedtrack.command()
@with_settings(SECTIONS, "embedtrack")
@with_movie("image", "setup", "frames")
def train(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="A TrackMate file or project with outlined cells, a challenge sequence (01, with 01_GT or 01_ST beside it), a "
            "folder of sequences, or a movie with --truth.",
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
    """Train on outlined cells and their links. A stopped training goes on where it was."""
    target = weights or default_target(source, "embedtrack.safetensors")
    job = Job(source, **movie)
    run_verb(lambda: train_embedtrack(job, target, settings=settings, start=start, truth=truth), as_json=json)


@embedtrack.command()
@with_settings(SECTIONS, "embedtrack", "linking")
@with_movie("image", "setup", "frames")
def track(
    source: Annotated[
        Path,
        typer.Argument(metavar="SOURCE", help="A movie, or a TrackMate file or project, whose cells and links stay."),
    ],
    settings: dict[str, dict[str, Any]],
    movie: dict[str, Any],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="The result; its ending chooses the format (default: TrackMate XML)."
        ),
    ] = None,
    also: Annotated[
        list[Path],
        typer.Option(
            "--also", metavar="FILE", help="A further result: .mastodon, .tif, 01_RES, ...; may be given several times."
        ),
    ] = [],  # noqa: B006  typer copies it
    weights: Annotated[
        Path | None,
        typer.Option("--weights", "-w", metavar="FILE", help="Trained weights (default: train on the outlines first)."),
    ] = None,
    border: Border = None,
    json: Json = False,
) -> None:
    """Segment and track a movie: outlines, links, divisions. What a person outlined or linked stays as it is."""
    target = out or default_target(source, "tracked.xml")
    job = Job(source, **movie)
    rules = rules_of(border)
    run_verb(
        lambda: track_embedtrack(job, target, settings=settings, weights=weights, also=also, challenge=rules),
        as_json=json,
    )
