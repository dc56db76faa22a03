"""The verb that trains ELEPHANT's flow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from howdah.cli_hints import with_movie
from howdah.cli_options import with_settings
from howdah.cli_show import guarded, run, show_result
from howdah.pipeline import Job, default_target
from howdah.pipeline.flow import train_flow
from howdah.pipeline.sections import SECTIONS

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add ``train-flow`` to the command line."""

    @app.command("train-flow")
    @with_settings(SECTIONS, "flow")
    @with_movie("image", "setup", "frames")
    def train_flow_command(
        source: Annotated[
            Path, typer.Argument(metavar="SOURCE", help="A project (.mastodon ...) with links, that names its movie.")
        ],
        settings: dict[str, dict[str, Any]],
        movie: dict[str, Any],
        weights: Annotated[
            Path | None, typer.Option("--weights", "-w", metavar="FILE", help="Where the weights go.")
        ] = None,
        start: Annotated[Path | None, typer.Option("--start", metavar="FILE", help="Weights to start from.")] = None,
        json: Annotated[
            bool, typer.Option("--json", help="Print the result as one JSON line, and no progress bars.")
        ] = False,
    ) -> None:
        """Train the flow (where was each nucleus one frame earlier) on the links that a person made or approved."""
        target = weights or default_target(source, "flow.safetensors")

        def work() -> None:
            show_result(
                run(train_flow(Job(source, **movie), target, settings=settings, start=start), quiet=json), as_json=json
            )

        code = guarded(work, as_json=json)
        if code:
            raise typer.Exit(code)
