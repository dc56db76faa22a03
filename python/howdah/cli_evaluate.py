"""The verb ``howdah evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from howdah.cli_hints import with_movie
from howdah.cli_options import Json
from howdah.cli_show import run_verb
from howdah.pipeline.evaluation import Judging
from howdah.pipeline.evaluation import evaluate as compare

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(evaluate)


@with_movie()
def evaluate(
    result: Annotated[
        Path, typer.Argument(metavar="RESULT", help="What is judged: an annotation, a label image, a folder 01_RES.")
    ],
    truth: Annotated[Path, typer.Argument(metavar="TRUTH", help="The truth: the same, or a folder 01_GT.")],
    movie: dict[str, Any],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write the measures: .csv or .json.")
    ] = None,
    reach: Annotated[
        float | None,
        typer.Option("--reach", metavar="LENGTH", help="How far a spot may be off (default: the median true radius)."),
    ] = None,
    frame_tolerance: Annotated[
        int, typer.Option("--frame-tolerance", metavar="N", help="Frames that a division may be early or late.", min=0)
    ] = 0,
    sparse: Annotated[
        bool, typer.Option("--sparse", help="The truth holds some cells only; where it is silent nothing is wrong.")
    ] = False,
    json: Json = False,
) -> None:
    """Compare a result with the truth: spots, links, divisions, and masks where both have some."""
    how = Judging(reach, frame_tolerance, sparse, movie["hints"])
    run_verb(lambda: compare(result, truth, how, out=out), as_json=json)
