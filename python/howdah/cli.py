"""The command line: verbs, arguments, one call each. What the verbs do is in :mod:`howdah.pipeline`."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from howdah import __version__, pipeline
from howdah.cli_options import with_settings
from howdah.cli_show import BAD_INPUT, guarded, run, show_result, warn
from howdah.config import Settings
from howdah.linking import LinkingConfig
from howdah.methods.elephant.config import ElephantConfig

__all__ = ["app", "main"]

app = typer.Typer(
    name="howdah",
    help="Find, segment and track cells: a backend for Fiji, Mastodon and TrackMate.",
    epilog="Exit codes: 0 done, 1 a fault in Howdah, 2 bad input or setting, 3 an optional part is missing, 130 stopped.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

SourceArgument = Annotated[
    Path, typer.Argument(metavar="SOURCE", help="A project (.mastodon ...) that names its movie, or a movie.")
]
ImageOption = Annotated[
    Path | None, typer.Option("--image", metavar="FILE", help="The movie, if the project's has moved.")
]
SetupOption = Annotated[int, typer.Option("--setup", metavar="N", help="View setup (channel) to work on, from 0.")]
FramesOption = Annotated[
    str | None, typer.Option("--frames", metavar="0-4,9", help="Frames to work on (default: all).")
]
OutOption = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="FILE", help="The result; its ending chooses the format.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one JSON line, and no progress bars.")]
SECTIONS: dict[str, type[Settings]] = {"elephant": ElephantConfig, "linking": LinkingConfig}


def _exit(code: int) -> None:
    if code:
        raise typer.Exit(code)


def _run(steps: Callable[[], Any], *, as_json: bool) -> None:
    """Run a pipeline function with progress, show its result, and leave with the right exit code."""
    _exit(guarded(lambda: show_result(run(steps(), quiet=as_json), as_json=as_json), as_json=as_json))


@app.callback(invoke_without_command=True)
def top(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Find, segment and track cells: a backend for Fiji, Mastodon and TrackMate."""
    if version:
        print(f"howdah {__version__}")
        raise typer.Exit


@app.command()
def info(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Movies and annotations of any known format.")],
    json: JsonOption = False,
) -> None:
    """Say what is in each file: format, dimensions, voxel size, spots, links, divisions, tags."""
    failed = 0

    def one(file: Path) -> None:
        show_result({"path": str(file), **pipeline.describe(file)}, as_json=json)

    for number, file in enumerate(files):
        if number and not json:
            print()
        failed += guarded(lambda file=file: one(file), as_json=json, facts={"path": str(file)}) != 0  # type: ignore[misc]
    _exit(BAD_INPUT if failed else 0)


@app.command()
def methods(json: JsonOption = False) -> None:
    """Say what each method can do, its networks with their parameters, and its settings."""

    def show() -> None:
        for entry in pipeline.catalogue():
            show_result(entry, as_json=json)

    _exit(guarded(show))


@app.command()
@with_settings(SECTIONS, "elephant")
def train(
    source: SourceArgument,
    settings: dict[str, dict[str, Any]],
    weights: Annotated[
        Path | None, typer.Option("--weights", "-w", metavar="FILE", help="Where the weights go.")
    ] = None,
    start: Annotated[Path | None, typer.Option("--start", metavar="FILE", help="Weights to start from.")] = None,
    image: ImageOption = None,
    setup: SetupOption = 0,
    frames: FramesOption = None,
    json: JsonOption = False,
) -> None:
    """Train a detector on the marked nuclei of a project. A stopped training goes on where it was."""
    job = pipeline.Job(source, image=image, setup=setup, frames=frames)
    target = weights or pipeline.default_target(source, "weights.safetensors")
    _run(lambda: pipeline.train(job, target, settings=settings, start=start), as_json=json)


@app.command()
@with_settings(SECTIONS, "elephant")
def predict(
    source: SourceArgument,
    settings: dict[str, dict[str, Any]],
    weights: Annotated[
        Path, typer.Option("--weights", "-w", metavar="FILE", help="Weights that `train` wrote, or published ones.")
    ],
    out: OutOption = None,
    image: ImageOption = None,
    setup: SetupOption = 0,
    frames: FramesOption = None,
    json: JsonOption = False,
) -> None:
    """Find the nuclei of every frame. What a person marked or validated is not changed."""
    job = pipeline.Job(source, image=image, setup=setup, frames=frames)
    target = out or pipeline.default_target(source, "spots.mastodon")
    _run(lambda: pipeline.predict(job, target, weights=weights, settings=settings), as_json=json)


@app.command()
@with_settings(SECTIONS, "linking")
def link(
    source: SourceArgument,
    settings: dict[str, dict[str, Any]],
    out: OutOption = None,
    image: ImageOption = None,
    frames: FramesOption = None,
    json: JsonOption = False,
) -> None:
    """Link the spots of a project into tracks. Links that a person made or approved stay."""
    job = pipeline.Job(source, image=image, frames=frames)
    target = out or pipeline.default_target(source, "linked.mastodon")
    _run(lambda: pipeline.link(job, target, settings=settings), as_json=json)


@app.command()
@with_settings(SECTIONS, "elephant", "linking")
def track(
    source: SourceArgument,
    settings: dict[str, dict[str, Any]],
    out: OutOption = None,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", "-w", metavar="FILE", help="Trained weights (default: train on the marks first)."),
    ] = None,
    image: ImageOption = None,
    setup: SetupOption = 0,
    frames: FramesOption = None,
    json: JsonOption = False,
) -> None:
    """The main job: from a few marked nuclei to the nuclei of every frame, linked into tracks."""
    job = pipeline.Job(source, image=image, setup=setup, frames=frames)
    target = out or pipeline.default_target(source, "tracked.mastodon")
    _run(lambda: pipeline.track(job, target, weights=weights, settings=settings), as_json=json)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="An annotation or a movie.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The target; its ending chooses the format.")],
    image: ImageOption = None,
    json: JsonOption = False,
) -> None:
    """Write an annotation or a movie in another format."""
    _run(lambda: pipeline.convert(source, out, image=image), as_json=json)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Folder for the results.")] = Path(
        "howdah-demo"
    ),
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", help="Seed of the synthetic embryo and of the training.")
    ] = 0,
    json: JsonOption = False,
) -> None:
    """Run the main job on a synthetic embryo: mark ten nuclei, train, find, link, and compare with the truth."""
    _run(lambda: pipeline.demo(out, seed=seed), as_json=json)


@app.command()
def doctor(json: JsonOption = False) -> None:
    """Say what is installed, which device and which Java there are, what is missing and how to get it."""
    report = pipeline.examine()
    show_result(report, as_json=json)
    if not report["ready"]:
        warn(str(report["advice"]))


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that knows no µ still shows the rest
    try:
        app()
    except BrokenPipeError:  # the reader of our output has gone (| head)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
