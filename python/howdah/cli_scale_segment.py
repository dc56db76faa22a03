"""The verb ``howdah scale segment``: outlined cells by EfficientCellSeg or EmbedTrack, by many workers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from howdah.cli_hints import grouped, with_movie
from howdah.cli_options import Border, Json, rules_of, with_settings
from howdah.cli_scale import Scale, with_scale
from howdah.cli_show import run_verb
from howdah.pipeline import Job
from howdah.pipeline.sections import SECTIONS

__all__ = ["add_to"]

RESULTS: dict[str, tuple[Any, Any]] = {
    "out": (
        Annotated[
            Path,
            typer.Option("--out", "-o", metavar="FILE", help="The result; its ending chooses the format."),
        ],
        ...,
    ),
    "also": (
        Annotated[
            list[Path],
            typer.Option("--also", metavar="FILE", help="A further result; may be given several times."),
        ],
        [],
    ),
    "link": (
        Annotated[
            bool,
            typer.Option(
                "--link",
                help="Link the cells of efficientcellseg, by the settings of linking (embedtrack always links).",
            ),
        ],
        False,
    ),
    "border": (Border, None),
}


def add_to(scale: typer.Typer) -> None:
    """Add ``segment`` to ``howdah scale``."""
    scale.command()(segment)


@with_settings(SECTIONS, "linking", "scale", from_file=("efficientcellseg", "embedtrack"))
@with_scale()
@with_movie("image", "setup", "frames")
@grouped("results", RESULTS)
def segment(
    source: Annotated[
        Path,
        typer.Argument(metavar="SOURCE", help="A movie, a folder of images, or a project, whose cells and links stay."),
    ],
    settings: dict[str, dict[str, Any]],
    scale: Scale,
    movie: dict[str, Any],
    results: dict[str, Any],
    method: Annotated[
        Literal["efficientcellseg", "embedtrack"],
        typer.Option(
            "--method", metavar="METHOD", help="efficientcellseg or embedtrack; its settings come with --config."
        ),
    ],
    weights: Annotated[Path, typer.Option("--weights", "-w", metavar="FILE", help="Trained weights.")],
    json: Json = False,
) -> None:
    """Find the cells of every frame with their outlines, in blocks. A stopped run goes on where it was."""
    from howdah.scale.segment import Segmentation, scale_segment

    out, rules = results.pop("out"), rules_of(results.pop("border"))
    how = Segmentation(method, weights, settings, challenge=rules, **results)
    given: dict[str, Any] = {"config": scale.config, "restart": scale.restart, "keep": scale.keep}
    run_verb(lambda: scale_segment(Job(source, **movie), out, how, **given), as_json=json)
