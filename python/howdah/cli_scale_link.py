"""``howdah scale link`` and ``howdah scale track``."""

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

SourceArgument = Annotated[
    Path,
    typer.Argument(metavar="SOURCE", help="A project that names its movie; to track with weights, a movie will do."),
]
OutOption = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="FILE", help="The result; its ending chooses the format.")
]
FlowOption = Annotated[
    Path | None, typer.Option("--flow", metavar="FILE", help="Weights of the flow network (see `train-flow`).")
]
DivisionsOption = Annotated[
    Path | None,
    typer.Option("--divisions", metavar="FILE", help="A classifier of TAP that tells which nuclei divide."),
]


def add_to(scale: typer.Typer) -> None:
    """Add the commands to ``howdah scale``."""
    scale.command("link")(link)
    scale.command("track")(track)


@with_settings(SECTIONS, "linking", "scale", from_file=("flow", "tap"))
@with_scale()
@with_movie("image", "setup", "frames")
def link(
    source: SourceArgument,
    settings: dict[str, dict[str, Any]],
    movie: dict[str, Any],
    scale: Scale,
    out: OutOption = None,
    flow: FlowOption = None,
    divisions: DivisionsOption = None,
    json: Json = False,
) -> None:
    """Link the spots of a project, in windows along time and by many workers. The result is that of `link`."""
    from howdah.scale.link import scale_link

    job = pipeline.Job(source, **movie)
    target = out or pipeline.default_target(source, "linked.mastodon")
    how: dict[str, Any] = {"config": scale.config, "restart": scale.restart, "keep": scale.keep}
    run_verb(lambda: scale_link(job, target, settings=settings, flow=flow, divisions=divisions, **how), as_json=json)


@with_settings(SECTIONS, "elephant", "linking", "scale", from_file=("flow", "tap"))
@with_scale()
@with_movie("image", "setup", "frames")
@grouped("by", {"flow": (FlowOption, None), "divisions": (DivisionsOption, None)})
def track(
    source: SourceArgument,
    settings: dict[str, dict[str, Any]],
    movie: dict[str, Any],
    scale: Scale,
    by: dict[str, Any],
    out: OutOption = None,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", "-w", metavar="FILE", help="Trained weights (default: train on the marks first)."),
    ] = None,
    json: Json = False,
) -> None:
    """The main job in blocks and by many workers: the nuclei of every frame, linked. The result is that of `track`."""
    from howdah.scale.link_track import scale_track

    job = pipeline.Job(source, **movie)
    target = out or pipeline.default_target(source, "tracked.mastodon")
    how: dict[str, Any] = {"config": scale.config, "restart": scale.restart, "keep": scale.keep}
    linked_by = (by["flow"], by["divisions"])
    run_verb(
        lambda: scale_track(job, target, settings=settings, weights=weights, linked_by=linked_by, **how), as_json=json
    )
