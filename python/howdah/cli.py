"""The command line: verbs, arguments, one call each. What the verbs do is in :mod:`howdah.pipeline`."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bdv_io.image import WriteOptions
from howdah import (
    __version__,
    cli_batch,
    cli_calibrate,
    cli_doctor,
    cli_efficientcellseg,
    cli_embedtrack,
    cli_evaluate,
    cli_fiji,
    cli_flow,
    cli_lineage,
    cli_loop,
    cli_scale,
    cli_serve,
    cli_tap,
    pipeline,
)
from howdah.cli_hints import with_movie
from howdah.cli_options import Json, settings_in, with_settings
from howdah.cli_show import BAD_INPUT, guarded, run_verb, show_result
from howdah.pipeline.sections import SECTIONS

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
OutOption = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="FILE", help="The result; its ending chooses the format.")
]
ReachOption = Annotated[
    float | None,
    typer.Option("--reach", metavar="LENGTH", help="How far a spot may have moved and still be the same."),
]
FlowOption = Annotated[
    Path | None,
    typer.Option("--flow", metavar="FILE", help="Weights of the flow (`train-flow`, or published): links follow it."),
]

DivisionsOption = Annotated[
    Path | None,
    typer.Option(
        "--divisions", metavar="FILE", help="A classifier (`tap learn --divisions`): it says which spots divide."
    ),
]


def _exit(code: int) -> None:
    if code:
        raise typer.Exit(code)


@app.callback(invoke_without_command=True)
def top(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Find, segment and track cells: a backend for Fiji, Mastodon and TrackMate."""
    if version:
        print(f"howdah {__version__}")
        raise typer.Exit


@app.command()
@with_movie()
def info(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Movies and annotations of any known format.")],
    movie: dict[str, Any],
    json: Json = False,
) -> None:
    """Say what is in each file: format, dimensions, voxel size, spots, links, divisions, tags."""
    failed = 0

    def one(file: Path) -> None:
        show_result({"path": str(file), **pipeline.describe(file, hints=movie["hints"])}, as_json=json)

    for number, file in enumerate(files):
        if number and not json:
            print()
        failed += guarded(lambda file=file: one(file), as_json=json, facts={"path": str(file)}) != 0  # type: ignore[misc]
    _exit(BAD_INPUT if failed else 0)


@app.command()
def methods(json: Json = False) -> None:
    """Say what each method can do, its networks with their parameters, and its settings."""

    def show() -> None:
        for entry in pipeline.catalogue():
            show_result(entry, as_json=json)

    _exit(guarded(show))


@app.command()
@with_settings(SECTIONS, "elephant")
@with_movie("image", "setup", "frames")
def train(
    source: SourceArgument,
    settings: dict[str, dict[str, Any]],
    movie: dict[str, Any],
    weights: Annotated[
        Path | None, typer.Option("--weights", "-w", metavar="FILE", help="Where the weights go.")
    ] = None,
    start: Annotated[Path | None, typer.Option("--start", metavar="FILE", help="Weights to start from.")] = None,
    json: Json = False,
) -> None:
    """Train a detector on the marked nuclei of a project. A stopped training goes on where it was."""
    job = pipeline.Job(source, **movie)
    target = weights or pipeline.default_target(source, "weights.safetensors")
    run_verb(lambda: pipeline.train(job, target, settings=settings, start=start), as_json=json)


cli_flow.add_to(app)
cli_fiji.add_to(app)


@app.command()
@with_settings(SECTIONS, "elephant")
@with_movie("image", "setup", "frames")
def predict(
    source: SourceArgument,
    settings: dict[str, dict[str, Any]],
    movie: dict[str, Any],
    weights: Annotated[
        Path, typer.Option("--weights", "-w", metavar="FILE", help="Weights that `train` wrote, or published ones.")
    ],
    out: OutOption = None,
    box: Annotated[
        str | None,
        typer.Option(
            "--box", metavar="Z,Y,X[,EDGE]", help="Only in a box: its middle, then one edge or three; world units."
        ),
    ] = None,
    update_status: Annotated[
        bool,
        typer.Option("--update-status", help="Also tag your spots by whether they were predicted: tp or fn, fp or tn."),
    ] = False,
    json: Json = False,
) -> None:
    """Find the nuclei of every frame. What a person marked or validated is not changed."""
    job = pipeline.Job(source, **movie)
    target = out or pipeline.default_target(source, "spots.mastodon")
    where = pipeline.Where(box=box, update_status=update_status)
    run_verb(lambda: pipeline.predict(job, target, weights=weights, settings=settings, where=where), as_json=json)


@app.command()
@with_settings(SECTIONS, "linking", from_file=("flow", "tap"))
@with_movie("image", "setup", "frames")
def link(
    source: SourceArgument,
    settings: dict[str, dict[str, Any]],
    movie: dict[str, Any],
    out: OutOption = None,
    flow: FlowOption = None,
    divisions: DivisionsOption = None,
    json: Json = False,
) -> None:
    """Link the spots of a project into tracks. Links that a person made or approved stay."""
    job = pipeline.Job(source, **movie)
    target = out or pipeline.default_target(source, "linked.mastodon")
    run_verb(lambda: pipeline.link(job, target, settings=settings, flow=flow, divisions=divisions), as_json=json)


@app.command()
@with_settings(SECTIONS, "elephant", "linking", from_file=("flow", "tap"))
@with_movie("image", "setup", "frames")
def track(
    source: SourceArgument,
    settings: dict[str, dict[str, Any]],
    movie: dict[str, Any],
    out: OutOption = None,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", "-w", metavar="FILE", help="Trained weights (default: train on the marks first)."),
    ] = None,
    flow: FlowOption = None,
    divisions: DivisionsOption = None,
    json: Json = False,
) -> None:
    """The main job: from a few marked nuclei to the nuclei of every frame, linked into tracks."""
    job = pipeline.Job(source, **movie)
    target = out or pipeline.default_target(source, "tracked.mastodon")
    given = {"weights": weights, "flow": flow, "divisions": divisions}
    run_verb(lambda: pipeline.track(job, target, settings=settings, **given), as_json=json)


@app.command()
@with_movie("image")
def convert(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="An annotation or a movie: a file or a folder.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The target; its ending chooses the format.")],
    movie: dict[str, Any],
    source_format: Annotated[
        str | None, typer.Option("--from", metavar="FORMAT", help="Format of the source, if it cannot tell: labels")
    ] = None,
    target_format: Annotated[
        str | None, typer.Option("--to", metavar="FORMAT", help="Format of the target, if its ending does not tell.")
    ] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what contradicts itself, and list it.")] = False,
    compression: Annotated[
        int, typer.Option("--compression", metavar="0-9", help="How hard an image is compressed.", min=0, max=9)
    ] = 4,
    json: Json = False,
) -> None:
    """Write an annotation or a movie in another format. What the target cannot hold is said. Formats: `howdah formats`."""
    options = WriteOptions(compression=compression)
    how = pipeline.Conversion(
        source_format=source_format, target_format=target_format, options=options, repair=repair, **movie
    )
    run_verb(lambda: pipeline.convert(source, out, how), as_json=json)


@app.command()
def formats(json: Json = False) -> None:
    """Say which formats are read and written, their keys and endings."""
    known = pipeline.known_formats()
    for entry in known if json else [{"formats": known}]:
        show_result(entry, as_json=json)


@app.command()
def diff(
    first: Annotated[Path, typer.Argument(metavar="BEFORE", help="The earlier annotation.")],
    second: Annotated[Path, typer.Argument(metavar="AFTER", help="The later one, of any format.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Write AFTER for review, with a tag set 'Difference'."),
    ] = None,
    reach: ReachOption = None,
    json: Json = False,
) -> None:
    """Say which spots and links were added, removed, moved, relabelled or retagged. Exit code 0 also if they differ."""
    _exit(
        guarded(lambda: show_result(pipeline.compare(first, second, out=out, reach=reach), as_json=json), as_json=json)
    )


@app.command()
def merge(
    first: Annotated[Path, typer.Argument(metavar="FIRST", help="Wins where the two contradict each other.")],
    second: Annotated[Path, typer.Argument(metavar="SECOND", help="The other annotation of the same movie.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The result.")],
    base: Annotated[
        Path | None, typer.Option("--base", metavar="FILE", help="The version that both began from.")
    ] = None,
    reach: ReachOption = None,
    json: Json = False,
) -> None:
    """Merge two annotations of one movie; contradictions are tagged 'Merge conflict', nothing is dropped silently."""
    _exit(
        guarded(
            lambda: show_result(pipeline.join(first, second, out, base=base, reach=reach), as_json=json), as_json=json
        )
    )


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file whose former version shall come back.")],
    number: Annotated[int, typer.Option("--version", metavar="N", help="Which one; 1 is the last before.", min=1)] = 1,
    json: Json = False,
) -> None:
    """Undo: bring back what stood there before (FILE~1~); what is there now takes its place, so this can be undone, too."""
    _exit(guarded(lambda: show_result(pipeline.restore(file, number=number), as_json=json), as_json=json))


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Folder for the results.")] = Path(
        "howdah-demo"
    ),
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", help="Seed of the synthetic embryo and of the training.")
    ] = 0,
    json: Json = False,
) -> None:
    """Run the main job on a synthetic embryo: mark ten nuclei, train, find, link, and compare with the truth."""
    run_verb(lambda: pipeline.demo(out, seed=seed), as_json=json)


@app.command()
def reproduce(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="elephant, embedtrack or efficientcellseg")],
    data: Annotated[
        Path, typer.Option("--data", metavar="FOLDER", help="Holds the data sets, each a folder (Fluo-N3DH-CE, PH).")
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FOLDER", help="Weights, results and scores; work that is there is kept."),
    ] = Path("howdah-reproduce"),
    dataset: Annotated[
        str | None, typer.Option("--dataset", metavar="NAME", help="Only this one; DATA may then be its folder.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE.toml", help="Changes to the published settings.")
    ] = None,
    json: Json = False,
) -> None:
    """Run what a method's paper ran on public data, with its settings, and put our figures beside the paper's."""

    def steps() -> Any:
        changes = settings_in(config, SECTIONS)
        return pipeline.reproduce(method, data, out, dataset=dataset, settings=changes)

    run_verb(steps, as_json=json)


cli_doctor.add_to(app)
cli_lineage.add_to(app)
cli_loop.add_to(app)
cli_scale.add_to(app)
cli_calibrate.add_to(app)
cli_embedtrack.add_to(app)
cli_efficientcellseg.add_to(app)
cli_tap.add_to(app)
cli_batch.add_to(app)
cli_evaluate.add_to(app)
cli_serve.add_to(app)


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
