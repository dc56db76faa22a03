"""The verbs of TAP: learn the arrow of time from raw movies, list and map what happens, and teach it events from few tags."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from howdah.cli_hints import grouped, with_movie
from howdah.cli_options import Json, with_settings
from howdah.cli_sections import SECTIONS
from howdah.cli_show import run_verb
from howdah.pipeline import Job, default_target
from howdah.pipeline.tap import train_tap
from howdah.pipeline.tap_events import Listing, events_tap
from howdah.pipeline.tap_maps import embed_tap, map_tap

__all__ = ["add_to"]

tap = typer.Typer(
    name="tap",
    help="TAP: learns from raw movies where time has an arrow, and finds divisions, deaths, changes of state.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Movie = Annotated[
    Path, typer.Argument(metavar="MOVIE", help="A movie, a project that names its movie, or a folder of images.")
]
Project = Annotated[Path, typer.Argument(metavar="PROJECT", help="A project or TrackMate file with spots.")]
Weights = Annotated[
    Path, typer.Option("--weights", "-w", metavar="FILE", help="Weights that `tap train` wrote, or published ones.")
]
EVENTS: dict[str, tuple[Any, Any]] = {
    "also": (
        Annotated[
            list[Path],
            typer.Option(
                "--also",
                metavar="FILE",
                help="A further result: .mastodon, .xml, .geff, .csv; may be given several times.",
            ),
        ],
        [],
    ),
    "map_to": (
        Annotated[
            Path | None,
            typer.Option(
                "--map", metavar="FILE", help="Write the map, too: .tif, .ome.tif, .ome.zarr, .xml (BigDataViewer)."
            ),
        ],
        None,
    ),
    "top": (
        Annotated[int, typer.Option("--top", metavar="N", help="So many events, the best; 0 = all.", min=0)],
        100,
    ),
    "apart": (
        Annotated[
            bool, typer.Option("--apart", help="Give each event a spot of its own, also where there is a spot already.")
        ],
        False,
    ),
}


def add_to(app: typer.Typer) -> None:
    """Add ``tap`` to the command line."""
    app.add_typer(tap)


@tap.command()
@with_settings(SECTIONS, "tap")
@with_movie("image", "setup", "frames")
def train(
    movies: Annotated[
        list[Path],
        typer.Argument(
            metavar="MOVIE...", help="Raw movies of one kind: movies, projects that name theirs, folders of images."
        ),
    ],
    settings: dict[str, dict[str, Any]],
    movie: dict[str, Any],
    weights: Annotated[
        Path | None,
        typer.Option("--weights", "-w", metavar="FILE", help="Where the weights go (default: beside the first movie)."),
    ] = None,
    start: Annotated[
        Path | None, typer.Option("--start", metavar="FILE", help="Weights to start from: ours, or published ones.")
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option("--pictures", metavar="FOLDER", help="Where curves and maps are drawn while it learns."),
    ] = None,
    json: Json = False,
) -> None:
    """Learn the arrow of time from raw movies; no annotation is needed. Stop it at any time: the best network so far is
    kept, and the same command goes on."""
    target = weights or default_target(movies[0], "tap.safetensors")
    jobs = [Job(path, **movie) for path in movies]
    run_verb(lambda: train_tap(jobs, target, settings=settings, start=start, pictures=pictures), as_json=json)


@tap.command()
@with_settings(SECTIONS, "tap")
@with_movie("image", "setup", "frames")
@grouped("results", EVENTS)
def events(
    movie_file: Movie,
    settings: dict[str, dict[str, Any]],
    movie: dict[str, Any],
    results: dict[str, Any],
    weights: Weights,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="The result; its ending chooses the format (default: .mastodon)."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """List where something happens, the surest first: spots with rank, quality and a tag. What a person made stays."""
    target = out or default_target(movie_file, "events.mastodon")
    job, listing = Job(movie_file, **movie), Listing(top=results.pop("top"), apart=results.pop("apart"))
    run_verb(
        lambda: events_tap(job, target, weights=weights, settings=settings, listing=listing, **results), as_json=json
    )


@tap.command("map")
@with_settings(SECTIONS, "tap")
@with_movie("image", "setup", "frames")
def map_(
    movie_file: Movie,
    settings: dict[str, dict[str, Any]],
    movie: dict[str, Any],
    weights: Weights,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="The image: .tif, .ome.tif, .ome.zarr, .xml (BigDataViewer)."),
    ] = None,
    overlay: Annotated[
        bool, typer.Option("--overlay", help="The movie comes along as first channel, so that Fiji shows both.")
    ] = False,
    json: Json = False,
) -> None:
    """Write where the network sees the arrow of time, as an image with the calibration of the movie."""
    target = out or default_target(movie_file, "arrow.tif")
    job = Job(movie_file, **movie)
    run_verb(lambda: map_tap(job, target, weights=weights, settings=settings, overlay=overlay), as_json=json)


@tap.command()
@with_settings(SECTIONS, "tap")
@with_movie("image", "setup", "frames")
def embed(
    movie_file: Movie,
    settings: dict[str, dict[str, Any]],
    movie: dict[str, Any],
    weights: Weights,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="The image: .ome.zarr, .tif, .ome.tif, .xml (BigDataViewer)."),
    ] = None,
    json: Json = False,
) -> None:
    """Write the features of every pixel, one channel a feature."""
    target = out or default_target(movie_file, "features.ome.zarr")
    run_verb(lambda: embed_tap(Job(movie_file, **movie), target, weights=weights, settings=settings), as_json=json)
