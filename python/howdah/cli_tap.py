"""The verbs of TAP: learn the arrow of time from raw movies, list and map what happens, and teach it events from few tags."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from howdah.cli_hints import grouped, with_movie
from howdah.cli_options import Json, with_settings
from howdah.cli_show import run_verb
from howdah.pipeline import Job, default_target
from howdah.pipeline.sections import SECTIONS
from howdah.pipeline.tap import train_tap
from howdah.pipeline.tap_classify import classify_tap
from howdah.pipeline.tap_dense import EventLesson, learn_events_tap, segment_events_tap
from howdah.pipeline.tap_events import Listing, events_tap
from howdah.pipeline.tap_learn import Lesson, learn_tap
from howdah.pipeline.tap_maps import embed_tap, map_tap
from howdah.pipeline.tap_spots import features_tap

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
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="FILE", help="The result; its ending chooses the format (default: .mastodon)."),
]
Image = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="FILE", help="The image: .tif, .ome.tif, .ome.zarr, .xml (BigDataViewer)."),
]
Network = Annotated[
    Path | None,
    typer.Option("--weights", "-w", metavar="FILE", help="A network that learned from such movies (`tap train`)."),
]
Trained = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="FILE", help="Where what was learned goes (.safetensors).")
]
Also = Annotated[
    list[Path],
    typer.Option(
        "--also", metavar="FILE", help="A further result: .mastodon, .xml, .geff, .csv; may be given several times."
    ),
]
LESSON: dict[str, tuple[Any, Any]] = {
    "tags": (
        Annotated[str | None, typer.Option("--tags", metavar="SET", help="The tag set whose tags are the classes.")],
        None,
    ),
    "divisions": (
        Annotated[bool, typer.Option("--divisions", help="Learn which spots divide, from the links of the tracks.")],
        False,
    ),
    "untagged": (
        Annotated[
            str | None,
            typer.Option(
                "--untagged", metavar="NAME", help="Spots without a tag are of this class (default: unknown)."
            ),
        ],
        None,
    ),
    "compare": (
        Annotated[
            list[str],
            typer.Option(
                "--compare", metavar="MODE", help="Judge another mode, too: scratch, finetune, pixels, frozen."
            ),
        ],
        [],
    ),
}
EVENT_LESSON: dict[str, tuple[Any, Any]] = {
    "truth": (
        Annotated[
            Path | None,
            typer.Option(
                "--truth", metavar="FILE", help="Where events are marked: label images, a ROI set, a project."
            ),
        ],
        None,
    ),
    "tags": (
        Annotated[
            str | None, typer.Option("--tags", metavar="SET", help="Of a project: the tag set that tells events.")
        ],
        None,
    ),
    "event": (
        Annotated[str | None, typer.Option("--event", metavar="TAG", help="The tag of the set that is the event.")],
        None,
    ),
    "divisions": (
        Annotated[bool, typer.Option("--divisions", help="Of a project: spots that divide are the events.")],
        False,
    ),
    "compare": LESSON["compare"],
}
EVENTS: dict[str, tuple[Any, Any]] = {
    "also": (
        Also,
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
    out: Out = None,
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
    out: Image = None,
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
    out: Image = None,
    json: Json = False,
) -> None:
    """Write the features of every pixel, one channel a feature."""
    target = out or default_target(movie_file, "features.ome.zarr")
    run_verb(lambda: embed_tap(Job(movie_file, **movie), target, weights=weights, settings=settings), as_json=json)


@tap.command()
@with_settings(SECTIONS, "tap")
@with_movie("image", "setup", "frames")
def features(
    project: Project,
    settings: dict[str, dict[str, Any]],
    movie: dict[str, Any],
    weights: Annotated[
        Path | None,
        typer.Option("--weights", "-w", metavar="FILE", help="Weights (default: the network in the classifier)."),
    ] = None,
    classifier: Annotated[
        Path | None,
        typer.Option(
            "--classifier", "-c", metavar="FILE", help="Of divisions: each spot gets the probability that it divides."
        ),
    ] = None,
    out: Out = None,
    also: Also = [],  # noqa: B006  typer copies it
    json: Json = False,
) -> None:
    """Describe each spot by numbers, which Mastodon and TrackMate show: arrow of time, features, divisions."""
    target = out or default_target(project, "tap.mastodon")
    given: dict[str, Any] = {"weights": weights, "classifier": classifier, "also": also}
    run_verb(lambda: features_tap(Job(project, **movie), target, settings=settings, **given), as_json=json)


@tap.command()
@with_settings(SECTIONS, "tap_head", from_file=("tap",))
@with_movie("image", "setup", "frames")
@grouped("lesson", LESSON)
def learn(
    projects: Annotated[list[Path], typer.Argument(metavar="PROJECT...", help="Projects with tagged or linked spots.")],
    settings: dict[str, dict[str, Any]],
    movie: dict[str, Any],
    lesson: dict[str, Any],
    weights: Network = None,
    out: Trained = None,
    json: Json = False,
) -> None:
    """Learn classes of spots from few tags, or divisions from links, and say by cross-validation how good they are."""
    target = out or default_target(projects[0], "classifier.safetensors")
    jobs = [Job(path, **movie) for path in projects]

    def steps() -> Any:
        taught = Lesson(**{**lesson, "compare": tuple(lesson["compare"])})
        return learn_tap(jobs, target, lesson=taught, settings=settings, weights=weights)

    run_verb(steps, as_json=json)


@tap.command()
@with_settings(SECTIONS, "tap")
@with_movie("image", "setup", "frames")
def classify(
    project: Project,
    settings: dict[str, dict[str, Any]],
    movie: dict[str, Any],
    classifier: Annotated[
        Path, typer.Option("--classifier", "-c", metavar="FILE", help="The classifier that `tap learn` wrote.")
    ],
    out: Out = None,
    also: Also = [],  # noqa: B006  typer copies it
    least: Annotated[
        float | None,
        typer.Option(
            "--min", metavar="P", help="Least probability for a tag (default: the best of the cross-validation)."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Tell the class of each spot: probabilities as features, and tags in a set of their own. A person's tags stay."""
    target = out or default_target(project, "classified.mastodon")
    job = Job(project, **movie)
    run_verb(lambda: classify_tap(job, classifier, target, settings=settings, least=least, also=also), as_json=json)


@tap.command("learn-events")
@with_settings(SECTIONS, "tap_head", from_file=("tap",))
@with_movie("image", "setup", "frames")
@grouped("lesson", EVENT_LESSON)
def learn_events(
    movie_file: Movie,
    settings: dict[str, dict[str, Any]],
    movie: dict[str, Any],
    lesson: dict[str, Any],
    weights: Network = None,
    out: Trained = None,
    json: Json = False,
) -> None:
    """Learn to mark events pixel by pixel, from label images or tagged spots, and say how good that is."""
    target = out or default_target(movie_file, "events.safetensors")

    def steps() -> Any:
        taught = EventLesson(**{**lesson, "compare": tuple(lesson["compare"])})
        return learn_events_tap(Job(movie_file, **movie), target, lesson=taught, settings=settings, weights=weights)

    run_verb(steps, as_json=json)


@tap.command("segment-events")
@with_settings(SECTIONS, "tap_head", from_file=("tap",))
@with_movie("image", "setup", "frames")
@grouped("results", {"also": EVENTS["also"], "map_to": EVENTS["map_to"]})
def segment_events(
    movie_file: Movie,
    settings: dict[str, dict[str, Any]],
    movie: dict[str, Any],
    results: dict[str, Any],
    classifier: Annotated[
        Path, typer.Option("--classifier", "-c", metavar="FILE", help="The weights that `tap learn-events` wrote.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="The result; its ending chooses the format (default: label image)."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Mark the events of a movie with their outlines."""
    target = out or default_target(movie_file, "events.tif")
    job = Job(movie_file, **movie)
    run_verb(lambda: segment_events_tap(job, classifier, target, settings=settings, **results), as_json=json)
