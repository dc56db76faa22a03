"""``howdah scale predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from howdah import pipeline
from howdah.cli_hints import grouped, with_movie
from howdah.cli_options import Json, with_settings
from howdah.cli_scale import Scale, with_scale
from howdah.cli_show import run_verb
from howdah.pipeline.sections import SECTIONS

__all__ = ["add_to"]

WHERE = {
    "box": (
        Annotated[
            str | None,
            typer.Option(
                "--box", metavar="Z,Y,X[,EDGE]", help="Only in a box: its middle, then one edge or three; world units."
            ),
        ],
        None,
    ),
    "update_status": (
        Annotated[
            bool,
            typer.Option(
                "--update-status", help="Also tag your spots by whether they were predicted: tp or fn, fp or tn."
            ),
        ],
        False,
    ),
}


def add_to(scale: typer.Typer) -> None:
    """Add the command to ``howdah scale``."""
    scale.command("predict")(predict)


@with_settings(SECTIONS, "elephant", "scale")
@with_scale()
@with_movie("image", "setup", "frames")
@grouped("where", WHERE)
def predict(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="A project that names its movie, or a movie.")],
    settings: dict[str, dict[str, Any]],
    movie: dict[str, Any],
    scale: Scale,
    weights: Annotated[
        Path, typer.Option("--weights", "-w", metavar="FILE", help="Weights that `train` wrote, or published ones.")
    ],
    where: dict[str, Any],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="The result; its ending chooses the format.")
    ] = None,
    json: Json = False,
) -> None:
    """Find the nuclei of every frame, in blocks and by many workers. The result is that of `predict`."""
    from howdah.scale.detect import scale_predict

    job = pipeline.Job(source, **movie)
    target = out or pipeline.default_target(source, "spots.mastodon")
    run_verb(
        lambda: scale_predict(
            job,
            target,
            weights=weights,
            settings=settings,
            where=pipeline.Where(**where),
            config=scale.config,
            restart=scale.restart,
            keep=scale.keep,
        ),
        as_json=json,
    )
